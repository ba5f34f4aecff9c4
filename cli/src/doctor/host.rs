//! The facts about a host, from its files. Everything is read below a root directory, so a copied tree can be examined, too.

use super::version::Version;
use procfs::{FromRead as _, process::Limits};
use serde::{Serialize, Serializer};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// The facts that were found. A file that is missing or cannot be read leaves its fact unknown.
#[derive(Serialize)]
pub struct Host {
    /// The kernel's release.
    pub kernel: Option<String>,
    /// NVIDIA's kernel driver.
    pub driver: Option<Driver>,
    /// The loaded kernel module that registers GPU memory: nvidia_peermem, or nv_peer_mem before it.
    pub peer_module: Option<PeerModule>,
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

/// Whether the kernel has the fix for CVE-2026-53133, by its release number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fix {
    /// It has.
    There,
    /// It has not.
    Missing,
    /// The release does not tell.
    Unknown,
}

impl Host {
    /// Reads the files below `root`.
    pub fn read(root: &Path) -> io::Result<Self> {
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
        Ok(Self {
            has_ofed,
            ofed: has_ofed.then(ofed).flatten(),
            driver: tree.driver(),
            peer_module: tree.peer_module(),
            devices: tree.entries("sys/class/infiniband"),
            libibverbs: tree.libibverbs(),
            memlock: tree.memlock(),
            preloads: tree.preloads(),
            kernel,
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

    /// Whether the driver belongs to this branch, that is, has this first number.
    pub fn driver_branch(&self, branch: u32) -> bool {
        self.driver_version()
            .is_some_and(|driver| driver.numbers[0] == branch)
    }

    /// Whether a parameter of the peer module has the value 1.
    pub fn has_parameter(&self, name: &str) -> bool {
        self.peer_module
            .as_ref()
            .and_then(|module| module.parameters.get(name))
            .is_some_and(|value| value == "1")
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

    /// Whether registrations by dma-buf are correct in this kernel.
    pub fn dma_buf_fix(&self) -> Fix {
        let Some(release) = &self.kernel else {
            return Fix::Unknown;
        };
        // "6.8.0-45-generic", "5.14.0-503.el9": a distribution numbers its fixes in its own way.
        let (number, rest) = release.split_once('-').unwrap_or((release, ""));
        let Ok(version) = number.parse::<Version>() else {
            return Fix::Unknown;
        };
        if !rest.is_empty() && !rest.starts_with("rc") && version.numbers.get(2) == Some(&0) {
            return Fix::Unknown;
        }
        let there = version.is_at_least(match version.numbers[..] {
            [6, 6, ..] => &[6, 6, 143],
            [6, 12, ..] => &[6, 12, 94],
            [6, 18, ..] => &[6, 18, 36],
            _ => &[7, 0, 13],
        });
        if there { Fix::There } else { Fix::Missing }
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

    /// "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  ..." or "NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  ...".
    fn driver(&self) -> Option<Driver> {
        if let Some(text) = self.text("proc/driver/nvidia/version") {
            let line = text.lines().next().unwrap_or_default();
            let mut words = line.split_whitespace();
            return Some(Driver {
                open: line.contains("Open Kernel Module"),
                version: words
                    .find_map(|word| word.contains('.').then(|| word.parse().ok()).flatten()),
            });
        }
        self.exists("sys/module/nvidia").then(|| Driver {
            open: false,
            version: self
                .line("sys/module/nvidia/version")
                .and_then(|line| line.parse().ok()),
        })
    }

    fn peer_module(&self) -> Option<PeerModule> {
        ["nvidia_peermem", "nv_peer_mem"]
            .into_iter()
            .find_map(|name| {
                let directory = format!("sys/module/{name}");
                self.exists(&directory).then(|| PeerModule {
                    name,
                    parameters: self
                        .entries(&format!("{directory}/parameters"))
                        .into_iter()
                        .filter_map(|parameter| {
                            let value =
                                self.line(&format!("{directory}/parameters/{parameter}"))?;
                            Some((parameter, value))
                        })
                        .collect(),
                })
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
            "usr/lib64",
            "lib/x86_64-linux-gnu",
            "lib64",
            "usr/lib",
            "usr/local/lib",
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
