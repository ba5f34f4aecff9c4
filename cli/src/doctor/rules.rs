//! The rules that turn the facts about a host into an answer: one table. They come from reading the sources that they name; no
//! crash was reproduced.

use super::host::{Fix, Host, Limit};
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
    /// It makes a fault of the driver rarer, but cannot prevent it.
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

const UMEM: &str = "ib_umem_get in Linux (drivers/infiniband/core/umem.c) and in OFED 5.1 and later: a peer module is asked only \
    about memory that cannot be pinned in the ordinary way";
const PERSISTENT: &str = "open-gpu-kernel-modules 560.28.03, kernel-open/nvidia-peermem/nvidia-peermem.c: persistent_api_support";
const PERSISTENT_ACQUIRE: &str =
    "open-gpu-kernel-modules 580.65.06, kernel-open/nvidia-peermem/nvidia-peermem.c: acquire";
const CVE: &str = "CVE-2026-53133: fixed in Linux 6.6.143, 6.12.94, 6.18.36, 7.0.13";
const NV_PEER_MEM: &str = "NVIDIA GPUDirect RDMA User Manual 1.8: Installing GPUDirect RDMA";
const DMA_BUF: &str =
    "https://docs.nvidia.com/datacenter/cloud-native/gpu-operator/latest/gpu-operator-rdma.html";
const LOCK: &str = "mrlock's README: Settings";

/// The rules.
#[rustfmt::skip] // one rule, one paragraph
pub const RULES: &[Rule] = &[
    Rule { about: Need(NotNeeded), when: |host| host.devices.is_empty(),
        says: "this host has no RDMA device",
        source: "Linux, Documentation/ABI/stable/sysfs-class-infiniband" },
    Rule { about: Need(NotNeeded), when: |host| host.driver.is_none(),
        says: "there is no NVIDIA driver, and registrations of host memory do not race",
        source: UMEM },
    Rule { about: Need(NotNeeded), when: |host| host.peer_module.is_none(),
        says: "nvidia_peermem is not loaded, and dma-buf, the other way to register GPU memory, has no such race",
        source: UMEM },
    Rule { about: Need(Unknown), when: |host| host.driver_version().is_none(),
        says: "the version of the NVIDIA driver cannot be read from /proc/driver/nvidia/version",
        source: "open-gpu-kernel-modules, kernel-open/nvidia/nv-procfs.c" },
    Rule { about: Need(Unknown), when: |host| is_nv_peer_mem(host),
        says: "nv_peer_mem is loaded, and its source was not read: nvidia_peermem replaces it since driver 470",
        source: NV_PEER_MEM },
    Rule { about: Need(Unknown), when: |host| !host.driver_from(&[515]),
        says: "driver {driver} is older than 515, the first with open source: nothing is known of its races",
        source: "open-gpu-kernel-modules: 515.43.04 is the first release" },
    Rule { about: Need(NotNeeded), when: |host| has_no_callback(host),
        says: "driver {driver} registers GPU memory without the callback that can race: look for another cause",
        source: PERSISTENT },
    Rule { about: Need(MakesRarer), when: |host| !host.driver_from(&[525, 105]) || host.driver_branch(530),
        says: "driver {driver} reads freed memory in each deregistration of GPU memory: a lock only makes that rarer",
        source: "open-gpu-kernel-modules 515 to 525.89, and 530: nvidia_p2p_put_pages; fixed in 525.105 and 535.43" },
    Rule { about: Need(MakesRarer), when: |host| has_double_free(host),
        says: "driver {driver} can free memory twice if GPU memory is freed beside its registration: a lock only makes that rarer",
        source: "open-gpu-kernel-modules: a failed registration of the callback; fixed in 525.147.05, 535.129.03, 545.29.02" },
    Rule { about: Need(Helps), when: |_| true,
        says: "with driver {driver}, freeing GPU memory can race with its registration or deregistration in the same process",
        source: "open-gpu-kernel-modules before 560.28.03, kernel-open/nvidia-peermem/nvidia-peermem.c: the callback returns early if the \
            region is not mapped yet, and deregistration drops its lock before it unmaps" },

    Rule { about: Better, when: |host| host.devices.is_empty() || host.driver.is_none(),
        says: "nothing",
        source: UMEM },
    Rule { about: Better, when: |host| host.peer_module.is_none() && host.dma_buf_fix() == Fix::Missing,
        says: "a kernel with the fix for CVE-2026-53133: in {kernel}, blocks of 4 GiB or more get wrong addresses under an IOMMU",
        source: CVE },
    Rule { about: Better, when: |host| host.peer_module.is_none() && host.dma_buf_fix() == Fix::Unknown,
        says: "nothing, if kernel {kernel} has its distribution's fix for CVE-2026-53133",
        source: CVE },
    Rule { about: Better, when: |host| host.peer_module.is_none(),
        says: "nothing",
        source: CVE },
    Rule { about: Better, when: |host| is_nv_peer_mem(host),
        says: "nvidia_peermem, from driver 580.65 or newer, instead of nv_peer_mem",
        source: NV_PEER_MEM },
    Rule { about: Better, when: |host| has_no_callback(host) && host.driver_from(&[580, 65]),
        says: "nothing",
        source: PERSISTENT_ACQUIRE },
    Rule { about: Better, when: |host| has_no_callback(host),
        says: "driver 580.65 or newer: there, a registration does without a callback from its beginning",
        source: PERSISTENT_ACQUIRE },
    Rule { about: Better, when: |host| host.driver_from(&[560, 28]),
        says: "load nvidia_peermem with persistent_api_support=1, its default: then it has no callback that can race",
        source: PERSISTENT },
    Rule { about: Better, when: |host| has_open_driver(host) && host.dma_buf_fix() == Fix::There,
        says: "driver 580.65 or newer, or dma-buf, which this driver and kernel support (WITH_NVIDIA_PEERMEM=0 in Mooncake)",
        source: DMA_BUF },
    Rule { about: Better, when: |host| has_open_driver(host) && host.dma_buf_fix() == Fix::Unknown,
        says: "driver 580.65 or newer, or dma-buf (WITH_NVIDIA_PEERMEM=0 in Mooncake), if kernel {kernel} has the fix for CVE-2026-53133",
        source: DMA_BUF },
    Rule { about: Better, when: |host| has_open_driver(host),
        says: "driver 580.65 or newer, or dma-buf (WITH_NVIDIA_PEERMEM=0 in Mooncake) on a kernel with the fix for CVE-2026-53133: {kernel} has none",
        source: CVE },
    Rule { about: Better, when: |_| true,
        says: "driver 580.65 or newer; its open kernel modules also support dma-buf (WITH_NVIDIA_PEERMEM=0 in Mooncake)",
        source: DMA_BUF },

    Rule { about: Setting, when: |host| verdict(host) == NotNeeded,
        says: "none",
        source: LOCK },
    Rule { about: Setting, when: |host| host.has_ofed && !host.ofed_from(&[5, 1]),
        says: "MRLOCK_CALLS=reg,dereg,free mrlock run COMMAND, because an OFED before 5.1 may ask the peer module about host memory, too: \
            this one is {ofed}",
        source: "MLNX_OFED 4.x, drivers/infiniband/core/umem.c: ib_umem_get asks the peer module first; 5.1 does not; 5.0 was not read" },
    Rule { about: Setting, when: |_| true,
        says: "mrlock run --gpu COMMAND",
        source: LOCK },

    Rule { about: Note, when: |host| host.has_parameter("peerdirect_support") && host.ofed_before(&[5, 4, 3, 0, 3]),
        says: "nvidia_peermem runs with peerdirect_support=1, which can deadlock in OFED {ofed}: upgrade it to 5.4-3.0.3 or newer",
        source: "MLNX_OFED 5.4-3.0.3 and 5.5, release notes: lock inversion in the peer-direct patch" },
    Rule { about: Note, when: |host| host.peer_module.is_some() && host.driver.is_some() && matches!(host.libibverbs, Some(..22)),
        says: "libibverbs is from rdma-core {libibverbs}: before 22, mrlock does not see callers that bind by a handle (NCCL)",
        source: "rdma-core 22, libibverbs/cmd_ioctl.c" },
    Rule { about: Note, when: |host| !host.devices.is_empty() && matches!(host.memlock, Some(Limit::Bytes(_))),
        says: "a process may lock {memlock} bytes of memory, and beyond that registrations of host memory fail: ulimit -l unlimited",
        source: "Linux, drivers/infiniband/core/umem.c: RLIMIT_MEMLOCK" },
    Rule { about: Note, when: |host| host.preloads.iter().any(|name| name.contains("libmrlock")),
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

fn has_no_callback(host: &Host) -> bool {
    host.driver_from(&[560, 28]) && host.has_parameter("persistent_api_support")
}

fn has_double_free(host: &Host) -> bool {
    if host.driver_branch(525) {
        !host.driver_from(&[525, 147, 5])
    } else if host.driver_branch(535) {
        !host.driver_from(&[535, 129, 3])
    } else {
        !host.driver_from(&[545, 29, 2])
    }
}

fn has_open_driver(host: &Host) -> bool {
    host.driver.as_ref().is_some_and(|driver| driver.open)
}
