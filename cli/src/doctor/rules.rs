//! The rules that turn the facts about a host into an answer: one table. They come from reading the sources that they name, and
//! from running NVIDIA's own code (branches.rs says of which releases).

use super::{
    branches::NOTHING,
    host::{DmaBuf, Host, Limit, Parameter},
    version::Version,
};
use serde::Serialize;

/// The question that a row answers. For the first three, the answer is the first row that applies to the host. Every note that
/// applies is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// Is mrlock needed?
    Need(Verdict),
    /// What would be better?
    Better,
    /// Which setting should be used?
    Setting,
    /// What else should be known?
    Note,
}

/// Whether mrlock is needed.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is not.
    NotNeeded,
    /// It prevents a race that the driver has.
    Helps,
    /// It prevents that race, but the driver has another fault, which it only makes rarer.
    MakesRarer,
    /// The host's files do not tell.
    Unknown,
}

/// One rule.
#[derive(Serialize)]
pub struct Rule {
    /// The question.
    #[serde(skip)]
    pub about: About,
    /// Whether the rule applies to a host.
    #[serde(skip)]
    pub when: fn(&Host) -> bool,
    /// The answer. A name in braces stands for a fact about the host.
    #[serde(skip)]
    pub says: &'static str,
    /// Its source.
    pub source: &'static str,
}

use About::{Better, Need, Note, Setting};
use Verdict::{Helps, MakesRarer, NotNeeded, Unknown};

const UMEM: &str = "ib_umem_get in Linux (drivers/infiniband/core/umem.c; in 7.2 __ib_umem_get_va) and in OFED 5.1 and later: a peer module is asked only \
    about memory that cannot be pinned in the ordinary way";
const PERSISTENT: &str = "open-gpu-kernel-modules 560.28.03, kernel-open/nvidia-peermem/nvidia-peermem.c: persistent_api_support";
const PERSISTENT_ACQUIRE: &str =
    "open-gpu-kernel-modules 580.65.06, kernel-open/nvidia-peermem/nvidia-peermem.c: acquire";
const CVE: &str = "CVE-2026-53133: fixed in Linux 6.6.143, 6.12.94, 6.18.36, 7.0.13";
const NV_PEER_MEM: &str = "NVIDIA GPUDirect RDMA User Manual 1.8: Installing GPUDirect RDMA";
const DMA_BUF: &str =
    "https://docs.nvidia.com/datacenter/cloud-native/gpu-operator/latest/gpu-operator-rdma.html";
const LOCK: &str = "man 7 mrlock: MRLOCK_CALLS";

const EFA: &str = "amzn-drivers, EFA 3.1.0, kernel/linux/efa/src/efa_p2p.c: the ticket that the callback looks for is listed only after \
    the pages were asked for";
const ROCM: &str = "ROCm/amdgpu, kfd_peerdirect.c: acquire takes a reference to the buffer object, and the client registers without an \
    invalidation callback";
const DMA_BUF_SINCE: &str =
    "Linux 5.12, drivers/infiniband/core/uverbs_std_types_mr.c: UVERBS_METHOD_REG_DMABUF_MR";

/// The rules.
#[rustfmt::skip] // one rule, one paragraph
pub const RULES: &[Rule] = &[
    // The fault that remains is named even if the log shows the race that does not.
    Rule { about: Need(MakesRarer), when: |host| asks_peermem(host) && reads_freed_memory(host),
        says: "with driver {driver}, freeing GPU memory can race with its registration, which LD_PRELOAD keeps apart; each deregistration \
            also reads freed memory, which a lock only makes rarer",
        source: "open-gpu-kernel-modules 515 to 525.89, and 530: nvidia_p2p_put_pages; fixed in 525.105 and 535.43" },
    Rule { about: Need(Helps), when: |host| !host.kernel_log.signs.is_empty(),
        says: "the kernel log shows that GPU memory was freed beside its registration or deregistration: LD_PRELOAD keeps them apart",
        source: "NVIDIA's nvidia-peermem.c and nv-p2p.c, run: these lines came before each crash, and never with frees kept apart" },
    Rule { about: Need(Unknown), when: |host| !host.has_sys,
        says: "/sys cannot be read here, so nothing is known of devices and modules: ask on the host itself, or with --root",
        source: "sysfs(5)" },
    Rule { about: Need(NotNeeded), when: |host| host.devices.is_empty(),
        says: "this host has no RDMA device",
        source: "Linux, Documentation/ABI/stable/sysfs-class-infiniband" },
    Rule { about: Need(Helps), when: |host| is_efa(host),
        says: "AWS EFA (efa is loaded): frees may race, with any driver: LD_PRELOAD keeps them apart; dma-buf avoids it",
        source: EFA },
    Rule { about: Need(Unknown), when: |host| asks_peermem(host) && host.driver_version().is_none(),
        says: "the version of the NVIDIA driver cannot be read from /proc/driver/nvidia/version",
        source: "open-gpu-kernel-modules, kernel-open/nvidia/nv-procfs.c" },
    Rule { about: Need(Unknown), when: |host| asks_peermem(host) && is_nv_peer_mem(host),
        says: "nv_peer_mem is loaded, and its source was not read: nvidia_peermem replaces it since driver 470",
        source: NV_PEER_MEM },
    Rule { about: Need(Unknown), when: |host| asks_peermem(host) && is_unseen(host),
        says: "no release of the branch of driver {driver} was run, and the source of none was read",
        source: "open-gpu-kernel-modules: 515.43.04 is the first release" },
    Rule { about: Need(Unknown), when: |host| asks_peermem(host) && host.driver_from(&[560, 28]) && persistent(host) == Parameter::Unknown,
        says: "persistent_api_support cannot be read from /sys/module/nvidia_peermem/parameters: driver {driver} has the callback that can \
            race if it is 0, and not if it is 1, the default",
        source: PERSISTENT },
    Rule { about: Need(Helps), when: |host| asks_peermem(host) && has_double_free(host),
        says: "with driver {driver}, freeing GPU memory can race with its registration or deregistration in the same process, and then \
            memory is freed twice: LD_PRELOAD keeps them apart",
        source: "open-gpu-kernel-modules: a failed registration of the callback; fixed in 525.147.05, 535.129.03, 545.29.02" },
    Rule { about: Need(Helps), when: |host| asks_peermem(host) && !has_no_callback(host),
        says: "with driver {driver}, freeing GPU memory can race with its registration or deregistration in the same process: LD_PRELOAD \
            keeps them apart",
        source: "open-gpu-kernel-modules before 560.28.03, kernel-open/nvidia-peermem/nvidia-peermem.c: the callback returns early if the \
            region is not mapped yet, and deregistration drops its lock before it unmaps" },
    Rule { about: Need(Unknown), when: |host| !host.other_peers.is_empty(),
        says: "{peers}: may register the memory of another vendor's devices, and its source was not read",
        source: "ib_register_peer_memory_client, in OFED and in the kernels of some distributions" },
    Rule { about: Need(NotNeeded), when: asks_peermem,
        says: "driver {driver} registers GPU memory without the callback that can race: look for another cause",
        source: PERSISTENT },
    Rule { about: Need(NotNeeded), when: |host| host.driver.is_some(),
        says: "nvidia_peermem is not loaded, and dma-buf, the other way to register GPU memory, has no such race",
        source: UMEM },
    Rule { about: Need(NotNeeded), when: |host| host.has_amdgpu,
        says: "amdgpu takes a reference to the buffer when a registration begins and registers no invalidation callback, so a free cannot race",
        source: ROCM },
    Rule { about: Need(NotNeeded), when: |_| true,
        says: "there is no NVIDIA driver, and registrations of host memory do not race",
        source: UMEM },

    Rule { about: Better, when: |host| !host.kernel_log.signs.is_empty() && !asks_peermem(host) && !is_efa(host),
        says: "driver 580.65 or newer, or dma-buf, where the log was written",
        source: PERSISTENT_ACQUIRE },
    Rule { about: Better, when: |host| is_efa(host) && host.dma_buf() == DmaBuf::Absent,
        says: "dma-buf, with NVIDIA's open kernel modules and a newer kernel: {kernel} has no dma-buf regions, which came with 5.12",
        source: DMA_BUF_SINCE },
    Rule { about: Better, when: is_efa,
        says: "dma-buf, with NVIDIA's open kernel modules",
        source: EFA },
    Rule { about: Better, when: |host| !host.has_sys || host.devices.is_empty() || host.driver.is_none(),
        says: "nothing",
        source: UMEM },
    Rule { about: Better, when: |host| host.peer_module.is_none() && host.dma_buf() == DmaBuf::Absent,
        says: "for GPU memory, a newer kernel: {kernel} has no dma-buf regions, which came with 5.12",
        source: DMA_BUF_SINCE },
    Rule { about: Better, when: |host| host.peer_module.is_none() && host.dma_buf() == DmaBuf::Unfixed,
        says: "a kernel with the fix for CVE-2026-53133: in {kernel}, blocks of 4 GiB or more get wrong addresses under an IOMMU",
        source: CVE },
    Rule { about: Better, when: |host| host.peer_module.is_none() && host.dma_buf() == DmaBuf::Unknown,
        says: "nothing, if kernel {kernel} has its distribution's fix for CVE-2026-53133",
        source: CVE },
    Rule { about: Better, when: |host| host.peer_module.is_none(),
        says: "nothing",
        source: CVE },
    Rule { about: Better, when: is_nv_peer_mem,
        says: "nvidia_peermem, from driver 580.65 or newer, instead of nv_peer_mem",
        source: NV_PEER_MEM },
    Rule { about: Better, when: |host| has_no_callback(host) && host.driver_from(&[580, 65]),
        says: "nothing",
        source: PERSISTENT_ACQUIRE },
    Rule { about: Better, when: has_no_callback,
        says: "driver 580.65 or newer: there, a registration does without a callback from its beginning",
        source: PERSISTENT_ACQUIRE },
    Rule { about: Better, when: |host| host.driver_from(&[560, 28]),
        says: "load nvidia_peermem with persistent_api_support=1, its default: then it has no callback that can race",
        source: PERSISTENT },
    Rule { about: Better, when: |host| has_open_driver(host) && host.dma_buf() == DmaBuf::Fixed,
        says: "{first}driver 580.65 or newer, or dma-buf, which this driver and kernel support (WITH_NVIDIA_PEERMEM=0 in Mooncake)",
        source: DMA_BUF },
    Rule { about: Better, when: |host| has_open_driver(host) && host.dma_buf() == DmaBuf::Unknown,
        says: "{first}driver 580.65 or newer, or dma-buf (WITH_NVIDIA_PEERMEM=0 in Mooncake), if kernel {kernel} has the fix for CVE-2026-53133",
        source: DMA_BUF },
    Rule { about: Better, when: |host| has_open_driver(host) && host.dma_buf() == DmaBuf::Unfixed,
        says: "{first}driver 580.65 or newer, or dma-buf (WITH_NVIDIA_PEERMEM=0 in Mooncake) on a kernel with the fix for CVE-2026-53133: {kernel} has none",
        source: CVE },
    Rule { about: Better, when: |host| host.dma_buf() == DmaBuf::Absent,
        says: "{first}driver 580.65 or newer; not dma-buf: kernel {kernel} has no dma-buf regions, which came with 5.12",
        source: DMA_BUF_SINCE },
    Rule { about: Better, when: |_| true,
        says: "{first}driver 580.65 or newer; its open kernel modules also support dma-buf (WITH_NVIDIA_PEERMEM=0 in Mooncake)",
        source: DMA_BUF },

    Rule { about: Setting, when: |host| verdict(host) == NotNeeded,
        says: "none",
        source: LOCK },
    Rule { about: Setting, when: |host| host.has_ofed && !host.ofed_from(&[5, 1]),
        says: "LD_PRELOAD alone (mrlock run COMMAND); not --gpu, because an OFED before 5.1 may ask the peer module about host memory, too: \
            this one is {ofed}",
        source: "MLNX_OFED 4.x, drivers/infiniband/core/umem.c: ib_umem_get asks the peer module first; 5.1 does not; 5.0 was not read" },
    Rule { about: Setting, when: |_| true,
        says: "LD_PRELOAD alone is enough (mrlock run COMMAND); mrlock run --gpu COMMAND additionally lets host memory through",
        source: LOCK },

    Rule { about: Note, when: |host| host.parameter("peerdirect_support") == Parameter::On && host.ofed_before(&[5, 4, 3, 0, 3]),
        says: "nvidia_peermem runs with peerdirect_support=1, which can deadlock in OFED {ofed}: upgrade it to 5.4-3.0.3 or newer",
        source: "MLNX_OFED 5.4-3.0.3 and 5.5, release notes: lock inversion in the peer-direct patch" },
    Rule { about: Note, when: |host| !host.other_peers.is_empty() && verdict(host) != Unknown,
        says: "{peers}: unknown: may register the memory of another vendor's devices, and its source was not read",
        source: "ib_register_peer_memory_client, in OFED and in the kernels of some distributions" },
    Rule { about: Note, when: |host| host.peer_module.is_some() && host.driver.is_some() && matches!(host.libibverbs, Some(..22)),
        says: "libibverbs is from rdma-core {libibverbs}: before 22, mrlock does not see callers that bind by a handle (NCCL)",
        source: "rdma-core 22, libibverbs/cmd_ioctl.c" },
    Rule { about: Note, when: |host| !host.devices.is_empty() && matches!(host.memlock, Some(Limit::Bytes(_))),
        says: "a process may lock {memlock} bytes of memory, and beyond that registrations of host memory fail: ulimit -l unlimited",
        source: "Linux, drivers/infiniband/core/umem.c: RLIMIT_MEMLOCK" },
    Rule { about: Note, when: |host| !host.for_another_processor.is_empty(),
        says: "preloaded, but for another processor, so the loader leaves it out: {foreign}",
        source: "ld.so(8): LD_PRELOAD" },
    Rule { about: Note, when: |host| host.for_another_processor.is_empty() && host.preloads.iter().any(|name| name.contains("libmrlock")),
        says: "mrlock is already preloaded into this process: {preloads}",
        source: "ld.so(8): LD_PRELOAD" },
    Rule { about: Note, when: |host| host.preloads.iter().any(|name| !name.contains("libmrlock")),
        says: "other libraries are preloaded, and stay so under mrlock run: {preloads}",
        source: "ld.so(8): LD_PRELOAD" },
];

/// The first row that answers the question, or all notes.
pub fn rows<'a>(
    host: &'a Host,
    asked: fn(About) -> bool,
) -> impl Iterator<Item = &'static Rule> + 'a {
    RULES
        .iter()
        .filter(move |rule| asked(rule.about) && (rule.when)(host))
}

/// The answer to the first question.
pub fn verdict(host: &Host) -> Verdict {
    rows(host, |about| matches!(about, Need(_)))
        .find_map(|rule| match rule.about {
            Need(verdict) => Some(verdict),
            _ => None,
        })
        .unwrap_or(Unknown)
}

fn is_nv_peer_mem(host: &Host) -> bool {
    host.peer_module
        .as_ref()
        .is_some_and(|module| module.name == "nv_peer_mem")
}

/// Whether a registration of GPU memory asks one of NVIDIA's peer modules.
fn asks_peermem(host: &Host) -> bool {
    !host.devices.is_empty() && host.driver.is_some() && host.peer_module.is_some()
}

/// Whether EFA's own driver asks NVIDIA's for pages.
fn is_efa(host: &Host) -> bool {
    host.has_efa && host.driver.is_some() && !host.devices.is_empty()
}

/// Whether nothing is known of a driver's branch.
fn is_unseen(host: &Host) -> bool {
    host.branch()
        .is_none_or(|branch| branch.run == NOTHING && branch.read == NOTHING)
}

fn persistent(host: &Host) -> Parameter {
    host.parameter("persistent_api_support")
}

fn has_no_callback(host: &Host) -> bool {
    host.driver_from(&[560, 28]) && persistent(host) == Parameter::On
}

fn reads_freed_memory(host: &Host) -> bool {
    let is_525 = || host.branch().is_some_and(|branch| branch.number == 525);
    host.branch()
        .is_some_and(|branch| matches!(branch.number, 515 | 520 | 530))
        || is_525() && !host.driver_from(&[525, 105])
}

/// Whether a registration that a free makes fail frees memory twice, although the driver's branch has a release that does not.
pub fn has_double_free(host: &Host) -> bool {
    let fixed = host.branch().and_then(|branch| branch.fixed?.parse().ok());
    fixed.is_some_and(|fixed: Version| !host.driver_from(&fixed.numbers))
}

fn has_open_driver(host: &Host) -> bool {
    host.driver.as_ref().is_some_and(|driver| driver.open)
}
