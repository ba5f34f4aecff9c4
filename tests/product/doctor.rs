//! `mrlock doctor` on directory trees with the files of real hosts.

use crate::common::{Outcome, Program, mrlock, scratch};
use serde_json::Value;
use std::{fs, os::unix::fs::symlink, path::PathBuf};

/// A host's files.
struct Host(PathBuf);

impl Host {
    /// With an HCA, a kernel that has all fixes, and no limit for locked memory.
    fn new() -> Self {
        let host = Self(scratch("host"));
        host.file("sys/class/infiniband/mlx5_0/node_guid", "")
            .kernel("6.12.94")
            .memlock("unlimited")
    }

    /// /proc/self/limits, with this as the limit for locked memory.
    fn memlock(self, limit: &str) -> Self {
        let mut text = format!(
            "{:<26}{:<21}{:<21}{:<10}\n",
            "Limit", "Soft Limit", "Hard Limit", "Units"
        );
        for (name, unit) in [
            ("cpu time", "seconds"),
            ("file size", "bytes"),
            ("data size", "bytes"),
            ("stack size", "bytes"),
            ("core file size", "bytes"),
            ("resident set", "bytes"),
            ("processes", "processes"),
            ("open files", "files"),
            ("locked memory", "bytes"),
            ("address space", "bytes"),
            ("file locks", "locks"),
            ("pending signals", "signals"),
            ("msgqueue size", "bytes"),
            ("nice priority", ""),
            ("realtime priority", ""),
            ("realtime timeout", "us"),
        ] {
            let value = if name == "locked memory" {
                limit
            } else {
                "1024"
            };
            text += &format!("Max {name:<22}{value:<21}{value:<21}{unit:<10}\n");
        }
        self.file("proc/self/limits", &text)
    }

    fn file(self, path: &str, text: &str) -> Self {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a scratch directory");
        fs::write(path, text).expect("a scratch file");
        self
    }

    fn kernel(self, release: &str) -> Self {
        self.file("proc/sys/kernel/osrelease", &format!("{release}\n"))
    }

    /// NVIDIA's proprietary driver, and nvidia_peermem as that driver has it.
    fn driver(self, version: &str) -> Self {
        self.file(
            "proc/driver/nvidia/version",
            &format!(
                "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Tue Jun  6 20:00:00 UTC 2023\n\
                 GCC version:  gcc version 11.3.0 (Ubuntu 11.3.0-1ubuntu1~22.04.1) \n"
            ),
        )
        .peermem("0", "0")
    }

    fn open_driver(self, version: &str) -> Self {
        self.driver(version).file(
            "proc/driver/nvidia/version",
            &format!(
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build  (root@host)\n"
            ),
        )
    }

    fn peermem(self, persistent: &str, peerdirect: &str) -> Self {
        let parameters = "sys/module/nvidia_peermem/parameters";
        self.file(
            &format!("{parameters}/persistent_api_support"),
            &format!("{persistent}\n"),
        )
        .file(
            &format!("{parameters}/peerdirect_support"),
            &format!("{peerdirect}\n"),
        )
    }

    fn ofed(self, version: &str) -> Self {
        self.file("sys/module/mlx_compat/refcnt", "5\n")
            .file("sys/module/mlx5_core/version", "5.0-0\n")
            .file(
                "usr/bin/ofed_info",
                &format!("#!/bin/bash\nif [ \"$1\" == \"-s\" ]; then\n    echo MLNX_OFED_LINUX-{version}.0:\nfi\n"),
            )
    }

    fn doctor(&self) -> Program {
        Program::new(mrlock())
            .arg("doctor")
            .arg("--root")
            .arg(&self.0)
    }

    fn examined(&self) -> Outcome {
        self.doctor().run()
    }

    /// The text of the line with this label.
    fn line(&self, label: &str) -> String {
        let outcome = self.examined();
        let line = outcome
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix(label));
        let Some(line) = line else {
            panic!("no line {label}: {outcome:#?}")
        };
        line.trim().into()
    }

    #[track_caller]
    fn is(&self, status: i32, verdict: &str, better: &str, setting: &str) {
        let outcome = self.examined();
        assert_eq!(outcome.status.code(), Some(status), "{outcome:#?}");
        for (label, part) in [
            ("mrlock:", verdict),
            ("better:", better),
            ("setting:", setting),
        ] {
            let line = self.line(label);
            assert!(line.contains(part), "{label} should say {part:?}: {line:?}");
        }
    }
}

const HELPS: &str = "helps: ";
const LITTLE: &str = "helps a little: ";
const NOT_NEEDED: &str = "not needed: ";
const UNKNOWN: &str = "unknown: ";
const GPU: &str = "mrlock run --gpu COMMAND";

// Whether mrlock is what is needed

#[test]
fn mrlock_helps_with_a_driver_whose_callback_can_race() {
    for version in [
        "525.147.05",
        "535.129.03",
        "545.29.02",
        "550.54.14",
        "555.42.02",
    ] {
        Host::new()
            .driver(version)
            .is(1, HELPS, "driver 580.65 or newer", GPU);
    }
}

#[test]
fn a_lock_makes_the_double_frees_of_a_driver_only_rarer() {
    for version in [
        "525.105.17",
        "525.125.06",
        "535.54.03",
        "535.113.01",
        "545.23.06",
    ] {
        is_made_rarer(version, "can free memory twice");
    }
}

#[test]
fn a_lock_makes_a_drivers_reads_of_freed_memory_only_rarer() {
    for version in ["515.43.04", "525.60.13", "525.89.02", "530.30.02"] {
        is_made_rarer(version, "reads freed memory");
    }
}

/// What this driver does is made rarer by a lock, and no more.
fn is_made_rarer(version: &str, what: &str) {
    let host = || Host::new().driver(version);
    host().is(1, what, "driver 580.65 or newer", GPU);
    assert!(host().line("mrlock:").starts_with(LITTLE));
}

#[test]
fn a_driver_without_the_callback_needs_nothing() {
    let persistent = |version| Host::new().open_driver(version).peermem("1", "0");
    persistent("560.28.03").is(0, NOT_NEEDED, "driver 580.65 or newer", "none");
    persistent("580.65.06").is(0, NOT_NEEDED, "nothing", "none");
}

#[test]
fn a_driver_that_could_do_without_the_callback_is_told_how() {
    let legacy = Host::new().open_driver("560.28.03");
    legacy.is(1, HELPS, "persistent_api_support=1", GPU);
    // A version before 560.28 does not have the parameter.
    let older = Host::new().driver("550.54.14").peermem("1", "0");
    older.is(1, HELPS, "driver 580.65 or newer", GPU);
}

#[test]
fn without_rdma_nvidia_or_peermem_nothing_is_needed() {
    let bare = Host(scratch("host")).kernel("6.6.143").driver("535.54.03");
    bare.is(0, "no RDMA device", "nothing", "none");
    Host::new().is(0, "no NVIDIA driver", "nothing", "none");
    let host = Host::new().driver("535.54.03");
    fs::remove_dir_all(host.0.join("sys/module/nvidia_peermem")).expect("it was there");
    host.is(0, "nvidia_peermem is not loaded", "nothing", "none");
}

#[test]
fn nothing_is_claimed_about_what_was_not_read() {
    let strange = Host::new().driver("of-my-own");
    strange.is(2, UNKNOWN, "driver 580.65", GPU);
    Host::new()
        .driver("470.57.02")
        .is(2, UNKNOWN, "driver 580.65", GPU);
    let old_module = Host::new()
        .driver("535.54.03")
        .file("sys/module/nv_peer_mem/refcnt", "0\n");
    fs::remove_dir_all(old_module.0.join("sys/module/nvidia_peermem")).expect("it was there");
    old_module.is(2, UNKNOWN, "instead of nv_peer_mem", GPU);
}

// What would be better

#[test]
fn dma_buf_is_for_kernels_with_the_fix() {
    let better = |kernel| {
        let host = Host::new().open_driver("535.129.03").kernel(kernel);
        host.line("better:")
    };
    for fixed in [
        "6.6.143",
        "6.12.94",
        "6.12.95-1-generic",
        "6.18.36",
        "7.0.13",
        "7.1.0",
    ] {
        let line = better(fixed);
        assert!(
            line.contains("dma-buf, which this driver and kernel support"),
            "{fixed}: {line}"
        );
    }
    for unfixed in [
        "5.15.200",
        "6.6.100",
        "6.6.142",
        "6.8.12",
        "6.12.93",
        "6.18.35",
        "7.0.12",
        "7.0.0-rc3",
    ] {
        let line = better(unfixed);
        assert!(
            line.ends_with(&format!("{unfixed} has none")),
            "{unfixed}: {line}"
        );
    }
    // Distributions number their fixes in their own way.
    for unknown in [
        "5.14.0-503.11.1.el9_5.x86_64",
        "6.8.0-45-generic",
        "strange",
    ] {
        let line = better(unknown);
        assert!(
            line.contains(&format!("if kernel {unknown} has the fix")),
            "{unknown}: {line}"
        );
    }
    // The proprietary driver has no dma-buf.
    let line = Host::new().driver("535.129.03").line("better:");
    assert!(line.contains("its open kernel modules"), "{line}");
}

#[test]
fn a_host_that_uses_dma_buf_learns_that_its_kernel_lacks_the_fix() {
    let host = Host::new().open_driver("580.65.06").kernel("6.6.100");
    fs::remove_dir_all(host.0.join("sys/module/nvidia_peermem")).expect("it was there");
    host.is(0, NOT_NEEDED, "in 6.6.100, blocks of 4 GiB or more", "none");
}

// Which setting, and what else

#[test]
fn ofed_4_asks_the_peer_module_about_host_memory() {
    let host = Host::new().driver("535.129.03").ofed("4.9-6.0.6");
    host.is(
        1,
        HELPS,
        "580.65",
        "MRLOCK_CALLS=reg,dereg,free mrlock run COMMAND",
    );
    Host::new()
        .driver("535.129.03")
        .ofed("5.8-1.1.2")
        .is(1, HELPS, "580.65", GPU);
    // An OFED whose source was not read is assumed to do so.
    for unread in [
        Host::new().driver("535.129.03").ofed("5.0-2.1.8"),
        Host::new()
            .driver("535.129.03")
            .file("sys/module/mlx_compat/refcnt", "1\n"),
    ] {
        assert!(unread.line("setting:").starts_with("MRLOCK_CALLS="));
    }
}

#[test]
fn the_tools_of_an_ofed_are_not_its_drivers() {
    let inbox = Host::new().driver("535.129.03").ofed("4.9-6.0.6");
    fs::remove_dir_all(inbox.0.join("sys/module/mlx_compat")).expect("it was there");
    assert_eq!(inbox.line("setting:"), GPU);
    assert_eq!(inbox.line("RDMA drivers"), "the kernel's own");
    // The kernel's own module has the kernel's release as its version.
    let inbox = inbox.file("sys/module/mlx5_core/version", "6.12.94\n");
    assert_eq!(inbox.line("RDMA drivers"), "the kernel's own");
    let doca = inbox.file("sys/module/mlx5_core/version", "24.10-0.7.0\n");
    fs::remove_file(doca.0.join("usr/bin/ofed_info")).expect("it was there");
    assert_eq!(doca.line("RDMA drivers"), "OFED 24.10-0.7.0");
}

#[test]
fn peerdirect_support_can_deadlock_in_an_old_ofed() {
    let host = |ofed| {
        Host::new()
            .driver("535.129.03")
            .peermem("0", "1")
            .ofed(ofed)
    };
    assert!(
        host("5.4-1.0.3")
            .line("note:")
            .contains("can deadlock in OFED 5.4-1.0.3")
    );
    for well in ["5.4-3.0.3", "5.5-1.0.3"] {
        let outcome = host(well).examined();
        assert!(!outcome.stdout.contains("note:"), "{outcome:#?}");
    }
}

#[test]
fn limits_old_libraries_and_other_preloads_are_noted() {
    let limited = Host::new().memlock("8388608");
    assert!(limited.line("note:").contains("8388608 bytes"));
    assert_eq!(Host::new().line("locked memory"), "unlimited");
    // As root, with all capabilities, and without CAP_IPC_LOCK as in a container.
    let free = limited.file("proc/self/status", "CapEff:\t000001ffffffffff\n");
    assert_eq!(free.line("locked memory"), "unlimited");
    let contained = free.file("proc/self/status", "CapEff:\t00000000a80425fb\n");
    assert_eq!(contained.line("locked memory"), "8388608");

    let old = Host::new().driver("535.129.03").file("usr/lib64/.keep", "");
    symlink(
        "libibverbs.so.1.1.17.2",
        old.0.join("usr/lib64/libibverbs.so.1"),
    )
    .expect("a link");
    assert!(old.line("note:").contains("rdma-core 17"));

    let preloads = Host::new()
        .file(
            "etc/ld.so.preload",
            "# comment\n/usr/lib/libfirst.so # comment\n",
        )
        .file(
            "proc/self/environ",
            "HOME=/root\0LD_PRELOAD=libasan.so:libsecond.so\0",
        );
    let note = preloads.line("note:");
    assert!(
        note.ends_with("/usr/lib/libfirst.so libasan.so libsecond.so"),
        "{note}"
    );
}

// The form

#[test]
fn the_answer_is_three_lines_and_no_colours() {
    let outcome = Host::new().driver("535.129.03").examined();
    let labels: Vec<_> = outcome
        .stdout
        .lines()
        .take(4)
        .map(|line| line.split(':').next())
        .collect();
    assert_eq!(
        labels,
        [Some("mrlock"), Some("better"), Some("setting"), Some("")]
    );
    assert!(!outcome.stdout.contains('\x1b'), "{outcome:#?}");
    assert_eq!(outcome.stderr, "");
}

#[test]
fn json_names_the_source_of_each_answer() {
    let host = Host::new()
        .driver("535.129.03")
        .peermem("0", "1")
        .ofed("5.4-1.0.3");
    let outcome = host.doctor().arg("--json").run();
    let json: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(json["verdict"], "helps");
    assert_eq!(json["host"]["driver"]["version"], "535.129.03");
    assert_eq!(json["host"]["ofed"], "5.4-1.0.3.0");
    assert_eq!(
        json["host"]["peer_module"]["parameters"]["peerdirect_support"],
        "1"
    );
    for answer in [
        &json["because"],
        &json["better"],
        &json["setting"],
        &json["notes"][0],
    ] {
        let source = answer["source"].as_str().unwrap_or_default();
        assert!(!source.is_empty(), "{answer}");
        assert!(
            !answer["says"].as_str().unwrap_or("{").contains('{'),
            "{answer}"
        );
    }
}

#[test]
fn a_directory_that_is_no_host_is_an_error() {
    let missing = scratch("missing");
    let outcome = Program::new(mrlock())
        .arg("doctor")
        .arg("--root")
        .arg(&missing)
        .run();
    assert_eq!(outcome.status.code(), Some(2));
    let line = outcome.stderr;
    assert!(
        line.contains(missing.to_str().expect("text")) && line.lines().count() == 1,
        "{line}"
    );
}
