//! The facts about a host, from its files. Everything is read below a root directory, so a copied tree can be examined, too.

use super::{
    branches::{BRANCHES, Branch},
    kernel_log::KernelLog,
    peers,
    version::Version,
};
use crate::elf_file;
use procfs::{FromRead as _, process::Limits};
use serde::{Serialize, Serializer};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

/// The facts that were found. A file that is missing or cannot be read leaves its fact unknown.
#[derive(Serialize)]
pub struct Host {
    /// The kernel's release.
    pub kernel: Option<String>,
    /// NVIDIA's kernel driver.
    pub driver: Option<Driver>,
    /// The loaded kernel module that registers the memory of NVIDIA's GPUs: nvidia_peermem, or nv_peer_mem before it.
    pub peer_module: Option<PeerModule>,
    /// Whether AWS's driver for EFA is loaded, which asks the GPU's driver for pages on its own.
    pub has_efa: bool,
    /// Whether AMD's driver is loaded, which is a peer client itself.
    pub has_amdgpu: bool,
    /// The modules or clients of other vendors that register the memory of their devices.
    pub other_peers: Vec<String>,
    /// Whether /sys could be read: without it, nothing is known of devices and modules.
    pub has_sys: bool,
    /// The version of an OFED that replaces the kernel's own RDMA drivers.
    pub ofed: Option<Version>,
    /// Whether the kernel's RDMA drivers are replaced by an OFED.
    pub has_ofed: bool,
    /// The names of the RDMA devices.
    pub devices: Vec<String>,
    /// The release of rdma-core that libibverbs is from.
    pub libibverbs: Option<u32>,
    /// The limit for locked memory of this process; none if a capability frees it from that.
    pub memlock: Option<Limit>,
    /// The libraries that are preloaded into each process.
    pub preloads: Vec<String>,
    /// Those of them that are for another processor, which is named.
    pub for_another_processor: Vec<String>,
    /// What the kernel's log says.
    pub kernel_log: KernelLog,
}

/// NVIDIA's kernel driver.
#[derive(Serialize)]
pub struct Driver {
    /// Its version, if it could be read.
    pub version: Option<Version>,
    /// Whether these are the open kernel modules.
    pub open: bool,
}

/// A kernel module that registers GPU memory.
#[derive(Serialize)]
pub struct PeerModule {
    /// Its name.
    pub name: &'static str,
    /// Its parameters.
    pub parameters: BTreeMap<String, String>,
}

/// A limit in bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// No limit.
    Unlimited,
    /// So many bytes.
    Bytes(u64),
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unlimited => serializer.serialize_str("unlimited"),
            Self::Bytes(bytes) => serializer.serialize_u64(*bytes),
        }
    }
}

/// What the kernel's release number says of registrations by dma-buf.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum DmaBuf {
    /// It has them, with the fix for CVE-2026-53133.
    Fixed,
    /// It has them without the fix.
    Unfixed,
    /// It is older than they are.
    Absent,
    /// The release does not tell.
    Unknown,
}

/// Whether a kernel module has a parameter, and its value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Parameter {
    /// It is 0.
    Off,
    /// It is 1.
    On,
    /// It cannot be read, or has another value.
    Unknown,
}

impl Host {
    /// Reads the files below `root`.
    pub fn read(root: &Path, kernel_log: KernelLog) -> io::Result<Self> {
        // Without this check, a mistyped directory would look like a host that does not need mrlock.
        fs::read_dir(root)?;
        let tree = Tree(root);
        let kernel = tree.line("proc/sys/kernel/osrelease");
        let mlx5 = tree
            .line("sys/module/mlx5_core/version")
            .filter(|version| !is_inbox(version, kernel.as_deref()));
        // The tools of an OFED may be installed where the kernel's own drivers run.
        let has_ofed = mlx5.is_some() || tree.exists("sys/module/mlx_compat");
        let ofed = || tree.ofed_info().or_else(|| mlx5.as_ref()?.parse().ok());
        let modules = tree.modules();
        Ok(Self {
            has_ofed,
            ofed: has_ofed.then(ofed).flatten(),
            driver: tree.driver(&modules),
            peer_module: tree.peer_module(&modules),
            has_efa: modules.contains("efa"),
            has_amdgpu: modules.contains("amdgpu"),
            other_peers: tree.other_peers(&modules),
            has_sys: tree.has_sys(),
            devices: tree.entries("sys/class/infiniband"),
            libibverbs: tree.libibverbs(),
            memlock: tree.memlock(),
            for_another_processor: tree.for_another_processor(),
            preloads: tree.preloads(),
            kernel,
            kernel_log,
        })
    }

    /// Whether the driver has this version or a newer one.
    pub fn driver_from(&self, version: &[u32]) -> bool {
        self.driver_version()
            .is_some_and(|driver| driver.is_at_least(version))
    }

    /// The driver's version.
    pub fn driver_version(&self) -> Option<&Version> {
        self.driver.as_ref()?.version.as_ref()
    }

    /// The driver's branch, if something is known of it.
    pub fn branch(&self) -> Option<&'static Branch> {
        let number = self.driver_version()?.numbers[0];
        BRANCHES.iter().find(|branch| branch.number == number)
    }

    /// The value of a parameter of the peer module.
    pub fn parameter(&self, name: &str) -> Parameter {
        let module = self.peer_module.as_ref();
        match module.and_then(|module| module.parameters.get(name)?.parse().ok()) {
            Some(0) => Parameter::Off,
            Some(1) => Parameter::On,
            _ => Parameter::Unknown,
        }
    }

    /// Whether the OFED is older than this.
    pub fn ofed_before(&self, version: &[u32]) -> bool {
        self.ofed
            .as_ref()
            .is_some_and(|ofed| !ofed.is_at_least(version))
    }

    /// Whether the OFED is known to have this version or a newer one.
    pub fn ofed_from(&self, version: &[u32]) -> bool {
        self.ofed
            .as_ref()
            .is_some_and(|ofed| ofed.is_at_least(version))
    }

    /// Whether registrations by dma-buf exist in this kernel, and are correct.
    pub fn dma_buf(&self) -> DmaBuf {
        let release = self.kernel.as_deref().unwrap_or_default();
        let Ok(version) = Version::parse(release, &['.']) else {
            return DmaBuf::Unknown;
        };
        // Red Hat and SUSE port new RDMA drivers to old kernels, and an OFED brings its own.
        let is_ported =
            self.has_ofed || version.rest.contains(".el") || version.rest.contains("-default");
        if !version.is_at_least(&[5, 12]) && !is_ported {
            return DmaBuf::Absent;
        }
        // "6.8.0-45-generic", "5.14.0-503.el9": a distribution numbers its fixes in its own way.
        if !version.rest.is_empty()
            && !version.rest.starts_with("-rc")
            && matches!(version.numbers.get(2), None | Some(0))
        {
            return DmaBuf::Unknown;
        }
        let fixed = version.is_at_least(match version.numbers[..] {
            [6, 6, ..] => &[6, 6, 143],
            [6, 12, ..] => &[6, 12, 94],
            [6, 18, ..] => &[6, 18, 36],
            _ => &[7, 0, 13],
        });
        if fixed {
            DmaBuf::Fixed
        } else if is_ported {
            DmaBuf::Unknown
        } else {
            DmaBuf::Unfixed
        }
    }
}

/// Whether mlx5_core has its version from the kernel's own source: before 5.8 a constant such as "5.0-0", then the kernel's release.
fn is_inbox(version: &str, kernel: Option<&str>) -> bool {
    version.ends_with("-0") || Some(version) == kernel
}

/// The files below a root.
struct Tree<'a>(&'a Path);

impl Tree<'_> {
    fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    fn text(&self, path: &str) -> Option<String> {
        Some(String::from_utf8_lossy(&fs::read(self.path(path)).ok()?).into_owned())
    }

    fn line(&self, path: &str) -> Option<String> {
        let text = self.text(path)?;
        Some(text.trim().to_owned()).filter(|line| !line.is_empty())
    }

    fn entries(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten();
        let mut names: Vec<_> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// Whether there is a /sys whose devices and modules may be listed.
    fn has_sys(&self) -> bool {
        let listed = |path| fs::read_dir(self.path(path)).map_err(|error| error.kind());
        (listed("sys/class").is_ok() || listed("sys/module").is_ok())
            && ["sys/class/infiniband", "sys/module"]
                .into_iter()
                .all(|path| matches!(listed(path), Ok(_) | Err(ErrorKind::NotFound)))
    }

    /// The lines of /proc/modules, as words: "ib_uverbs 163840 2 rdma_ucm,mlx5_ib, Live 0x0000000000000000".
    fn proc_modules(&self) -> Vec<Vec<String>> {
        let text = self.text("proc/modules").unwrap_or_default();
        let words = |line: &str| line.split_whitespace().map(String::from).collect();
        text.lines().map(words).collect()
    }

    /// The names of the loaded modules.
    fn modules(&self) -> BTreeSet<String> {
        let listed = self
            .proc_modules()
            .into_iter()
            .filter_map(|mut words| (!words.is_empty()).then(|| words.swap_remove(0)));
        listed.chain(self.entries("sys/module")).collect()
    }

    /// "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  ..." or "NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  ...".
    fn driver(&self, modules: &BTreeSet<String>) -> Option<Driver> {
        let text = self.text("proc/driver/nvidia/version");
        // The peer modules need it.
        if text.is_none()
            && !["nvidia", "nvidia_peermem", "nv_peer_mem"]
                .iter()
                .any(|&name| modules.contains(name))
        {
            return None;
        }
        let line = text
            .as_deref()
            .and_then(|text| text.lines().next())
            .unwrap_or_default();
        let version = |text: &str| {
            let version: Version = text.parse().ok()?;
            // The branch alone does not tell what its releases fix.
            (version.numbers.len() > 1).then_some(version)
        };
        Some(Driver {
            open: line.contains("Open Kernel Module"),
            version: line
                .split_whitespace()
                .find_map(version)
                .or_else(|| version(&self.line("sys/module/nvidia/version")?)),
        })
    }

    fn peer_module(&self, modules: &BTreeSet<String>) -> Option<PeerModule> {
        let names = ["nvidia_peermem", "nv_peer_mem"];
        let name = names.into_iter().find(|&name| modules.contains(name))?;
        let directory = format!("sys/module/{name}/parameters");
        let value = |parameter: &String| self.line(&format!("{directory}/{parameter}"));
        Some(PeerModule {
            name,
            parameters: self
                .entries(&directory)
                .into_iter()
                .filter_map(|parameter| value(&parameter).map(|value| (parameter, value)))
                .collect(),
        })
    }

    /// The peer clients that are neither NVIDIA's nor AMD's: those that the RDMA core lists, modules with such a name, and modules
    /// that use the RDMA core and are not known for anything else.
    fn other_peers(&self, modules: &BTreeSet<String>) -> Vec<String> {
        let mut found: BTreeSet<_> = self
            .entries("sys/kernel/mm/memory_peers")
            .into_iter()
            .filter(|client| !["nv_mem", "nv_mem_nc", "amdkfd"].contains(&client.as_str()))
            .collect();
        let is_peer = |name: &&String| name.contains("peermem") || name.contains("peer_mem");
        found.extend(modules.iter().filter(is_peer).cloned());
        let mut users = BTreeSet::new();
        for exporter in peers::EXPORTERS {
            users.extend(self.entries(&format!("sys/module/{exporter}/holders")));
        }
        for words in self.proc_modules() {
            if let [name, _, _, list, ..] = &words[..]
                && peers::EXPORTERS.contains(&name.as_str())
            {
                users.extend(
                    list.split(',')
                        .filter(|user| !matches!(*user, "" | "-"))
                        .map(String::from),
                );
            }
        }
        // A module of the kernel's own source is no peer client: that source has no such clients.
        users.retain(|user| {
            !peers::KNOWN.contains(&user.as_str())
                && self
                    .text(&format!("sys/module/{user}/taint"))
                    .is_none_or(|taint| taint.contains('O'))
        });
        if !users.is_empty() && self.has_peer_clients() {
            found.extend(users);
        }
        // EFA's driver asks it for pages, as it asks NVIDIA's.
        if modules.contains("efa") && modules.contains("neuron") {
            found.insert("neuron".into());
        }
        found.retain(|name| !peers::KNOWN.contains(&name.as_str()));
        found.into_iter().collect()
    }

    /// Whether this kernel can have peer clients at all, if its list of symbols tells.
    fn has_peer_clients(&self) -> bool {
        self.text("proc/kallsyms").is_none_or(|symbols| {
            symbols.is_empty() || symbols.contains("ib_register_peer_memory_client")
        })
    }

    /// `ofed_info` is a script with the version in it: "MLNX_OFED_LINUX-5.8-1.1.2.1", "OFED-internal-24.10-0.7.0".
    fn ofed_info(&self) -> Option<Version> {
        let text = self.text("usr/bin/ofed_info")?;
        ["MLNX_OFED_LINUX-", "OFED-internal-"]
            .into_iter()
            .find_map(|prefix| {
                let (_, rest) = text.split_once(prefix)?;
                let end = rest.find(|c: char| !matches!(c, '0'..='9' | '.' | '-'));
                let version = rest[..end.unwrap_or(rest.len())].trim_end_matches(['.', '-']);
                version.parse().ok()
            })
    }

    /// libibverbs.so.1 is a link to libibverbs.so.1.14.44.0: 44 is the release of rdma-core.
    fn libibverbs(&self) -> Option<u32> {
        let directories = [
            "usr/lib/x86_64-linux-gnu",
            "usr/lib/aarch64-linux-gnu",
            "usr/lib64",
            "lib/x86_64-linux-gnu",
            "lib/aarch64-linux-gnu",
            "lib64",
            "usr/lib",
            "usr/local/lib",
            "usr/local/lib64",
        ];
        directories.into_iter().find_map(|directory| {
            let link = fs::read_link(self.path(directory).join("libibverbs.so.1")).ok()?;
            let name = link.file_name()?.to_str()?;
            let mut numbers = name.strip_prefix("libibverbs.so.1.")?.split('.');
            numbers.nth(1)?.parse().ok()
        })
    }

    fn memlock(&self) -> Option<Limit> {
        // The kernel's drivers ask for this capability before they look at the limit.
        const CAP_IPC_LOCK: u32 = 14;
        let status = self.text("proc/self/status").unwrap_or_default();
        let capabilities = status
            .lines()
            .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
        if capabilities.is_some_and(|set| set >> CAP_IPC_LOCK & 1 == 1) {
            return Some(Limit::Unlimited);
        }
        let limits = Limits::from_file(self.path("proc/self/limits")).ok()?;
        Some(match limits.max_locked_memory.soft_limit {
            procfs::process::LimitValue::Unlimited => Limit::Unlimited,
            procfs::process::LimitValue::Value(bytes) => Limit::Bytes(bytes),
        })
    }

    fn for_another_processor(&self) -> Vec<String> {
        let described = |name: String| {
            let path = self.path(name.trim_start_matches('/'));
            // Anything else, such as a pipe without a writer, might not answer.
            let is_file = fs::metadata(&path).is_ok_and(|status| status.is_file());
            let file = is_file.then(|| File::open(path).ok()).flatten()?;
            let processor = elf_file::processor(&file)?;
            (processor != elf_file::OWN_PROCESSOR).then(|| format!("{name} ({processor})"))
        };
        self.preloads().into_iter().filter_map(described).collect()
    }

    fn preloads(&self) -> Vec<String> {
        let file = self.text("etc/ld.so.preload").unwrap_or_default();
        let environment = self.text("proc/self/environ").unwrap_or_default();
        let variable = environment
            .split('\0')
            .find_map(|variable| variable.strip_prefix("LD_PRELOAD="));
        file.lines()
            .map(|line| line.split('#').next().unwrap_or_default())
            .chain(variable)
            .flat_map(|list| list.split([' ', '\t', ':']))
            .filter(|name| !name.is_empty())
            .map(String::from)
            .collect()
    }
}
