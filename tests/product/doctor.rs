//! `mrlock doctor` on directory trees with the files of real hosts.

use crate::common::{Outcome, Program, build, install, library, mrlock, scratch};
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
const GPU: &str =
    "LD_PRELOAD alone is enough (mrlock run COMMAND); mrlock run --gpu COMMAND additionally lets";

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
fn a_driver_with_double_frees_is_told_its_branchs_fix_and_the_default_first() {
    for (version, fixed) in [
        ("525.105.17", "525.147.05"),
        ("525.125.06", "525.147.05"),
        ("535.54.03", "535.129.03"),
        ("535.104", "535.129.03"),
        ("535.104.05", "535.129.03"),
        ("535.113.01", "535.129.03"),
        ("545.23.06", "545.29.02"),
    ] {
        let better = format!(
            "driver {fixed} or newer of its branch and mrlock's default; then driver 580.65 or newer"
        );
        let host = Host::new().driver(version);
        host.is(1, "memory is freed twice", &better, GPU);
        assert!(host.line("mrlock:").starts_with(HELPS));
        let absent = host.kernel("4.19.322").line("better:");
        assert!(absent.starts_with(&better), "{absent}");
    }
    // From the fix on, and in a branch without one, there is no first step.
    for version in ["535.129.03", "535.216.03", "550.163.01", "470.256.02"] {
        let better = Host::new().driver(version).line("better:");
        assert!(better.starts_with("driver 580.65"), "{better}");
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
    assert!(host().line("mrlock:").contains("LD_PRELOAD keeps apart"));
}

/// What was run, and what was only read, is as it is written down here once more.
#[test]
fn each_branch_from_470_to_595_has_a_row() {
    let run = [
        (470, "470.256.02"),
        (515, "515.65"),
        (525, "525.89 and 525.147.05"),
        (535, "535.216.03"),
        (550, "550.163.01"),
        (560, "560.35.03"),
        (580, "580.95.05"),
    ];
    for branch in [
        470, 495, 510, 515, 520, 525, 530, 535, 545, 550, 555, 560, 565, 570, 575, 580, 590, 595,
    ] {
        let host = Host::new().driver(&format!("{branch}.199.99"));
        let row = host.line("driver:");
        let what = run.iter().find(|(number, _)| *number == branch);
        let what = what.map_or("nothing;", |(_, release)| release);
        assert!(row.starts_with(&format!("{branch}: run: {what}")), "{row}");
        // The sources are open from 515 on.
        let nothing_read = row.ends_with("only read: nothing");
        assert_eq!(nothing_read, branch < 515, "{row}");
    }
    for unseen in ["465.19.01", "610.10.01"] {
        let outcome = Host::new().driver(unseen).examined();
        assert!(!outcome.stdout.contains("driver:"), "{outcome:#?}");
    }
}

#[test]
fn branch_470_was_run_and_495_was_not() {
    Host::new()
        .driver("470.57.02")
        .is(1, HELPS, "driver 580.65", GPU);
    for unseen in ["495.29.05", "510.108.03", "465.19.01", "610.10.01"] {
        let host = Host::new().driver(unseen).peermem("1", "0");
        host.is(3, "no release of the branch of driver", "", "");
        assert!(host.line("mrlock:").starts_with(UNKNOWN));
    }
}

#[test]
fn an_unreadable_parameter_leaves_570_unknown() {
    let parameter = "sys/module/nvidia_peermem/parameters/persistent_api_support";
    for version in ["560.28.03", "565.77", "570.86.15", "580.65.06", "595.45.04"] {
        let host = Host::new().open_driver(version);
        fs::remove_file(host.0.join(parameter)).expect("it was there");
        host.is(
            3,
            "persistent_api_support cannot be read",
            "persistent_api_support=1",
            GPU,
        );
        assert!(host.line("mrlock:").starts_with(UNKNOWN));
        for strange in ["", "\n", "2", "-1", "Y", "(null)"] {
            let host = Host::new().open_driver(version).file(parameter, strange);
            host.is(3, "persistent_api_support cannot be read", "", GPU);
        }
        // As a directory it can be read by no one, root included.
        fs::create_dir(host.0.join(parameter)).expect("a scratch directory");
        host.is(3, "persistent_api_support cannot be read", "", GPU);
    }
    // Older ones have no such parameter.
    let older = Host::new().driver("555.58.02");
    fs::remove_file(older.0.join(parameter)).expect("it was there");
    older.is(1, HELPS, "", GPU);
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
    for strange in [
        "of-my-own",
        "535",
        "",
        "535.x",
        "v535.129.03",
        "99999999999.1",
    ] {
        let host = Host::new().driver(strange);
        host.is(
            3,
            "version of the NVIDIA driver cannot be read",
            "driver 580.65",
            GPU,
        );
        assert!(host.line("mrlock:").starts_with(UNKNOWN), "{strange}");
        // The module has it, too.
        let other = host.file("sys/module/nvidia/version", "535.216.03\n");
        other.is(1, HELPS, "driver 580.65", GPU);
    }
    let old_module = Host::new()
        .driver("535.54.03")
        .file("sys/module/nv_peer_mem/refcnt", "0\n");
    fs::remove_dir_all(old_module.0.join("sys/module/nvidia_peermem")).expect("it was there");
    old_module.is(3, UNKNOWN, "instead of nv_peer_mem", GPU);
}

#[test]
fn without_sys_nothing_is_known() {
    for (directory, link) in [("sys", false), ("sys/class/infiniband", true)] {
        let host = Host::new().driver("535.216.03");
        let path = host.0.join(directory);
        fs::remove_dir_all(&path).expect("it was there");
        if link {
            // It can be listed by no one, root included.
            symlink("infiniband", &path).expect("a link");
        }
        host.is(3, "/sys cannot be read here", "nothing", GPU);
        assert!(host.line("mrlock:").starts_with(UNKNOWN));
    }
}

#[test]
fn a_module_that_proc_alone_lists_is_loaded() {
    let host = Host::new().driver("535.216.03").file(
        "proc/modules",
        "nvidia_peermem 16384 0 - Live 0x0000000000000000 (POE)\n\nnvidia\n",
    );
    fs::remove_dir_all(host.0.join("sys/module")).expect("it was there");
    host.is(1, HELPS, "driver 580.65", GPU);
    // The driver's own files may be hidden in a container.
    fs::remove_dir_all(host.0.join("proc/driver")).expect("it was there");
    host.is(3, "version of the NVIDIA driver cannot be read", "", GPU);
}

// Other ways to register a device's memory

#[test]
fn frees_may_race_on_efa_with_any_driver() {
    for (version, persistent) in [
        ("535.216.03", "0"),
        ("570.86.15", "1"),
        ("580.95.05", "1"),
        ("610.1.1", "1"),
    ] {
        for peermem in [true, false] {
            let host = Host::new().open_driver(version).peermem(persistent, "0");
            let host = host.file("sys/module/efa/refcnt", "0\n");
            if !peermem {
                fs::remove_dir_all(host.0.join("sys/module/nvidia_peermem")).expect("it was there");
            }
            host.is(
                1,
                "helps: AWS EFA (efa is loaded): frees may race, with any driver: LD_PRELOAD keeps them apart; dma-buf avoids it",
                "dma-buf",
                GPU,
            );
            let old = host.kernel("4.14.355-280.amzn2.x86_64");
            assert!(old.line("better:").contains("has no dma-buf regions"));
        }
    }
    // By /proc/modules alone.
    let host = Host::new().driver("580.95.05").peermem("1", "0");
    let host = host.file("proc/modules", "efa 163840 0 - Live 0x0000000000000000\n");
    host.is(1, "AWS EFA", "dma-buf", GPU);
    // Without an NVIDIA driver there is no GPU to race on.
    let host = Host::new().file("sys/module/efa/refcnt", "0\n");
    host.is(0, "no NVIDIA driver", "nothing", "none");
    host.file("sys/module/neuron/refcnt", "0\n")
        .is(3, "unknown: neuron:", "", "");
}

#[test]
fn amdgpu_holds_the_buffer_that_it_registers() {
    let host = Host::new()
        .file("sys/module/amdgpu/refcnt", "1\n")
        .file("sys/kernel/mm/memory_peers/amdkfd/version", "1.0\n");
    host.is(
        0,
        "amdgpu takes a reference to the buffer",
        "nothing",
        "none",
    );
    let verdict = host.line("mrlock:");
    assert!(verdict.starts_with(NOT_NEEDED), "{verdict}");
    assert!(verdict.contains("no invalidation callback"), "{verdict}");
    assert!(!verdict.contains("NVIDIA"), "{verdict}");
}

#[test]
fn another_vendors_peer_client_is_named_and_unknown() {
    let amd = || Host::new().file("sys/module/amdgpu/refcnt", "1\n");
    let line = "9pnet_rdma,acme_p2p,mlx5_ib, Live 0x0000000000000000";
    for host in [
        amd().file("sys/kernel/mm/memory_peers/acme_p2p/version", "1\n"),
        amd().file("sys/module/ib_core/holders/acme_p2p/refcnt", "1\n"),
        amd().file("sys/module/ib_uverbs/holders/acme_p2p/refcnt", "1\n"),
        amd().file("proc/modules", &format!("ib_core 1 9 {line}\n")),
        amd().file("proc/modules", &format!("ib_uverbs 1 9 {line} (OE)\n")),
        amd()
            .file("proc/modules", &format!("ib_core 1 9 {line}\n"))
            .file(
                "proc/kallsyms",
                "0 T ib_register_peer_memory_client\t[ib_core]\n",
            )
            .file("sys/module/acme_p2p/taint", "OE\n"),
        // A module with such a name need not be used by others.
        amd().file("sys/module/acme_p2p_peermem/refcnt", "0\n"),
    ] {
        host.is(3, "unknown: acme_p2p", "nothing", GPU);
        assert!(host.line("other peers").starts_with("acme_p2p"));
    }
    // Beside a driver that mrlock helps with, it is a note; beside one that needs nothing, it decides.
    let both = |version: &str, persistent: &str| {
        Host::new()
            .driver(version)
            .peermem(persistent, "0")
            .file("sys/kernel/mm/memory_peers/nv_mem/version", "1\n")
            .file("sys/kernel/mm/memory_peers/acme/version", "1\n")
    };
    let old = both("535.216.03", "0");
    old.is(1, HELPS, "", GPU);
    assert!(old.line("note:").starts_with("acme: unknown"));
    both("580.95.05", "1").is(3, "unknown: acme:", "nothing", GPU);
}

#[test]
fn users_of_the_rdma_core_are_no_peer_clients() {
    let users = "rdma_ucm,mlx5_ib,ib_ipoib,nvme_rdma,smc,nvidia_peermem,";
    let host = || {
        Host::new()
            .file(
                "proc/modules",
                &format!("ib_core 1 9 {users} Live 0x0\nib_uverbs 1 0 - Live 0x0\nib_core\n\n"),
            )
            .file("sys/module/ib_uverbs/holders/efa_nv_peermem/refcnt", "0\n")
            .file("sys/kernel/mm/memory_peers/nv_mem_nc/version", "1\n")
    };
    assert_eq!(host().line("other peers"), "none");
    // One that came with the kernel, and one on a kernel without peer clients.
    let own = host().file("sys/module/ib_core/holders/new_in_linux/refcnt", "1\n");
    assert_eq!(own.line("other peers"), "new_in_linux");
    let own = own.file("sys/module/new_in_linux/taint", "\n");
    assert_eq!(own.line("other peers"), "none");
    let foreign = own.file("sys/module/new_in_linux/taint", "OE\n");
    assert_eq!(foreign.line("other peers"), "new_in_linux");
    let without = foreign.file("proc/kallsyms", "0 T ib_register_client\t[ib_core]\n");
    assert_eq!(without.line("other peers"), "none");
}

// The kernel's log

const FREED: &str = "nvidia-peermem nv_get_p2p_free_callback:147 ERROR nv_get_p2p_free_callback -- invalid dma_mapping";
const SKIPPED: &str = "nvidia-peermem nv_get_p2p_free_callback:127 ERROR detected invalid context, skipping further processing";

/// A host on which nothing but the log tells of the race.
fn with_log(text: &str) -> Host {
    Host::new()
        .open_driver("580.95.05")
        .peermem("1", "0")
        .file("dev/kmsg", text)
}

#[track_caller]
fn shows(text: &str, sign: &str, meaning: &str) {
    let host = with_log(text);
    host.is(1, "helps: the kernel log shows", "", GPU);
    let line = host.line("log:");
    assert!(line.starts_with(sign), "{line}");
    assert!(line.contains(meaning), "{line}");
    assert_eq!(host.examined().stdout.matches("log: ").count(), 1);
}

#[track_caller]
fn shows_nothing(text: &str) {
    let host = with_log(text);
    host.is(0, NOT_NEEDED, "nothing", "none");
    assert!(host.line("log:").contains("no sign of the race"));
}

#[test]
fn the_log_tells_that_memory_was_freed_while_it_was_registered() {
    let sign = "nv_get_p2p_free_callback ... invalid dma_mapping (lines: 2): ";
    let meaning = "freed while it was being registered";
    for text in [
        format!("3,812,1000,-;{FREED}\n SUBSYSTEM=x\n3,813,1001,-;other\n3,814,1001,c;{FREED}\n"),
        format!("[  12.000001] {FREED}\r\n[  12.000002] {FREED}"),
        format!(
            "Nov 28 05:00:01 host kernel: {FREED}\n\0\u{fffd}\n\n;\n,,,\nNov 28 host kernel: {FREED}"
        ),
        // Cut off at both ends.
        format!("{}\n{}", &FREED[20..], &FREED[..FREED.len() - 4]),
    ] {
        shows(&text, sign, meaning);
    }
    // Other messages of the same function are no sign.
    shows_nothing(
        "nvidia-peermem nv_get_p2p_free_callback:137 ERROR nv_get_p2p_free_callback -- invalid page_table\n",
    );
}

#[test]
fn the_log_tells_of_the_drivers_mitigation() {
    let sign = "detected invalid context (lines: 1): ";
    shows(
        &format!("3,1,1,-;{SKIPPED}\n"),
        sign,
        "mitigation of the same fault",
    );
    shows(
        "nvidia-peermem: detected invalid context\n",
        sign,
        "mitigation",
    );
    shows_nothing("i915 0000:00:02.0: detected invalid context, skipping\n");
}

#[test]
fn the_log_tells_in_which_function_the_kernel_faulted() {
    for (function, meaning) in [
        ("nv_p2p_remove_dma_mapping", "a deregistration unmapped"),
        ("nvidia_p2p_dma_map_pages", "a registration mapped"),
        ("nvidia_p2p_put_pages", "a registration gave back"),
    ] {
        let sign = format!("oops in {function} (");
        let shows = |text: &str| shows(text, &sign, meaning);
        shows(&format!("RIP: 0010:{function}+0x2b/0x60 [nvidia]\n"));
        shows(&format!("IP: {function}+0x2b/0x60 [nvidia]\n"));
        shows(&format!("pc : {function}+0x2b/0x60 [nvidia]\n"));
        shows(&format!("RIP: 0010:{function}.isra.0+0x2b"));
        shows(&format!(
            "RIP: 0010:[<ffffffffc0>]  [<ffffffffc0>] {function}+0x2b/0x60 [nvidia]\n"
        ));
        for beginning in [
            "BUG: unable to handle page fault for address: ffff\n#PF: supervisor read access",
            "BUG: kernel NULL pointer dereference, address: 8",
            "general protection fault, probably for non-canonical address 0xdead: 0000 [#1]",
            "kernel BUG at lib/list_debug.c:51!",
            "Unable to handle kernel paging request at virtual address dead",
            "WARNING: CPU: 0 PID: 1 at mm/slub.c:1\n---[ end trace 0 ]---\nBUG: KASAN: use-after-free in x",
        ] {
            shows(&format!(
                "{beginning}\nRIP: 0010:__list_del_entry_valid+0x1/0x2\nCall Trace:\n ? {function}+0x1/0x2 [nvidia]\n"
            ));
        }
        // No oops names it.
        for text in [
            format!("nvidia: exports {function}\n"),
            format!("WARNING: CPU: 0 PID: 1 at x\nRIP: 0010:{function}+0x1/0x2\n"),
            format!(
                "INFO: task python3:12 blocked for more than 120 seconds.\n {function}+0x1/0x2\n"
            ),
            format!("RIP: 0010:my_{function}+0x1/0x2\nRIP: 0010:{function}_persistent+0x1/0x2\n"),
            format!(
                "BUG: unable to handle page fault\n---[ end trace 0 ]---\n {function}+0x1/0x2\n"
            ),
        ] {
            shows_nothing(&text);
        }
    }
}

#[test]
fn the_fault_that_a_lock_cannot_prevent_is_named_beside_the_log() {
    let host = Host::new().driver("530.30.02").file("dev/kmsg", FREED);
    host.is(1, LITTLE, "driver 580.65", GPU);
    // The log may be from another host.
    let other = Host(scratch("host"))
        .file("sys/class/net/lo", "")
        .file("dev/kmsg", FREED);
    other.is(
        1,
        "helps: the kernel log shows",
        "where the log was written",
        GPU,
    );
}

#[test]
fn a_log_that_cannot_be_read_is_said_so_with_what_to_do() {
    for (host, reason) in [
        (Host::new(), "No such file or directory"),
        (Host::new().file("dev/kmsg", ""), "it is empty"),
        (Host::new().file("dev/kmsg/x", ""), "Is a directory"),
    ] {
        host.is(0, NOT_NEEDED, "nothing", "none");
        let line = host.line("log:");
        assert!(line.contains("dev/kmsg not read: "), "{line}");
        assert!(line.contains(reason), "{line}");
        assert!(
            line.contains("as root") && line.ends_with("mrlock doctor --dmesg FILE"),
            "{line}"
        );
    }
}

/// A terminal has nothing to read and never ends: it stands for a log whose lines were all read.
#[test]
fn a_log_is_not_waited_for() {
    let host = Host::new().file("dev/.keep", "");
    symlink("/dev/ptmx", host.0.join("dev/kmsg")).expect("a link");
    assert!(host.line("log:").contains("it is empty"));
    let outcome = host.doctor().arg("--dmesg").arg("/dev/ptmx").run();
    assert!(outcome.stdout.contains("in 0 lines"), "{outcome:#?}");
}

/// The device as the kernel documents it: one record a read, and errors between them.
#[test]
fn records_that_were_overwritten_do_not_end_the_log() {
    let device = scratch("kmsg.so");
    let mut cc = std::process::Command::new("cc");
    cc.args(["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]);
    build(cc.args(["tests/clients/kmsg.c", "-o"]).arg(&device));
    let host = Host::new().file("dev/.keep", "");
    symlink("/dev/ptmx", host.0.join("dev/kmsg")).expect("a link");
    let outcome = host.doctor().env("LD_PRELOAD", &device).run();
    assert!(
        outcome.stdout.contains("invalid dma_mapping (lines: 2)"),
        "{outcome:#?}"
    );
    let refused = host
        .doctor()
        .env("LD_PRELOAD", &device)
        .env("REFUSED", "1")
        .run();
    assert!(
        refused.stdout.contains("not read: Operation not permitted"),
        "{refused:#?}"
    );
    assert_eq!(refused.status.code(), Some(0), "{refused:#?}");
}

#[test]
fn the_machines_own_log_is_read_or_not_and_no_more() {
    let outcome = Program::new(mrlock()).arg("doctor").run();
    assert!(outcome.stdout.contains("\nlog: "), "{outcome:#?}");
    assert_eq!(outcome.stderr, "");
}

#[test]
fn a_file_takes_the_place_of_the_log() {
    let file = scratch("dmesg");
    fs::write(&file, format!("[ 1.0] {FREED}\n[ 1.0] {SKIPPED}\n")).expect("a scratch file");
    // The host's own log is not read then.
    let host = with_log("RIP: 0010:nvidia_p2p_put_pages+0x1/0x2\n");
    let outcome = host.doctor().arg("--dmesg").arg(&file).run();
    assert_eq!(outcome.status.code(), Some(1), "{outcome:#?}");
    assert!(!outcome.stdout.contains("put_pages"), "{outcome:#?}");
    let lines: Vec<_> = outcome
        .stdout
        .lines()
        .filter(|line| line.starts_with("log:"))
        .collect();
    assert_eq!(lines.len(), 2, "{outcome:#?}");
    let json = host.doctor().args(["--json", "--dmesg"]).arg(&file).run();
    let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
    let signs = json["host"]["kernel_log"]["signs"]
        .as_array()
        .expect("signs");
    assert_eq!(signs.len(), 2);
    assert_eq!(signs[0]["lines"], 1);
    // A pipe.
    let piped = Program::new("sh")
        .args([
            "-c",
            r#"cat "$1" | "$0" doctor --root "$2" --dmesg /dev/stdin"#,
        ])
        .arg(mrlock())
        .arg(&file)
        .arg(&host.0)
        .run();
    assert!(
        piped.stdout.contains("invalid dma_mapping (lines: 1)"),
        "{piped:#?}"
    );
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
        "6.12.94+deb13",
        "6.12.94+deb13-amd64",
        "6.12.96-rt3+deb13-cloud-arm64",
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
        "6.12.93+deb13-amd64",
        "5.12.0",
        "6.12",
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
        "6.12+unreleased-amd64",
        "4.18.0-553.el8_10.x86_64",
        "5.3.18-150300.59.1-default",
        "strange",
        "6.12.99999999999",
        "-",
    ] {
        let line = better(unknown);
        assert!(
            line.contains(&format!("if kernel {unknown} has the fix")),
            "{unknown}: {line}"
        );
    }
    // They came with 5.12.
    for old in [
        "4.19.322",
        "4.19.0-27-amd64",
        "4.19.0+rpt",
        "5.4.0-150-generic",
        "5.10.226",
        "5.11.22",
        "5",
    ] {
        let line = better(old);
        assert!(
            line.ends_with(&format!(
                "not dma-buf: kernel {old} has no dma-buf regions, which came with 5.12"
            )),
            "{old}: {line}"
        );
        let host = Host::new().open_driver("535.129.03").kernel(old);
        fs::remove_dir_all(host.0.join("sys/module/nvidia_peermem")).expect("it was there");
        host.is(
            0,
            NOT_NEEDED,
            &format!("{old} has no dma-buf regions"),
            "none",
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
        "LD_PRELOAD alone (mrlock run COMMAND); not --gpu",
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
        assert!(unread.line("setting:").contains("not --gpu"));
    }
}

#[test]
fn the_tools_of_an_ofed_are_not_its_drivers() {
    let inbox = Host::new().driver("535.129.03").ofed("4.9-6.0.6");
    fs::remove_dir_all(inbox.0.join("sys/module/mlx_compat")).expect("it was there");
    assert!(inbox.line("setting:").starts_with(GPU));
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

    for directory in [
        "usr/lib/x86_64-linux-gnu",
        "usr/lib/aarch64-linux-gnu",
        "lib/aarch64-linux-gnu",
        "usr/lib64",
        "usr/local/lib64",
    ] {
        let host = Host::new().file(&format!("{directory}/.keep"), "");
        symlink(
            "libibverbs.so.1.14.44.0",
            host.0.join(directory).join("libibverbs.so.1"),
        )
        .expect("a link");
        assert_eq!(host.line("libibverbs"), "rdma-core 44", "{directory}");
    }

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

    let mut library = fs::read(library()).expect("the library");
    const MACHINE: usize = 18;
    library[MACHINE] = 183; // EM_AARCH64
    let host = Host::new()
        .file("usr/lib/.keep", "")
        .file("etc/ld.so.preload", "/usr/lib/libmrlock.so.0\n");
    fs::write(host.0.join("usr/lib/libmrlock.so.0"), library).expect("a scratch file");
    let note = host.line("note:");
    assert!(
        note.ends_with("the loader leaves it out: /usr/lib/libmrlock.so.0 (aarch64)"),
        "{note}"
    );
}

// The form

#[test]
fn the_answer_is_five_lines_and_no_colours() {
    let outcome = Host::new().driver("535.129.03").examined();
    let lines = outcome.stdout.lines().take(6);
    let labels: Vec<_> = lines
        .map(|line| line.split(':').next().unwrap_or_default())
        .collect();
    assert_eq!(labels, ["mrlock", "better", "setting", "driver", "log", ""]);
    assert!(!outcome.stdout.contains('\x1b'), "{outcome:#?}");
    assert_eq!(outcome.stderr, "");
}

/// As `make install` leaves the two. (What cargo built has no script beside it.)
#[test]
fn it_names_the_script_for_bpftrace() {
    let prefix = scratch("prefix");
    install(&prefix);
    let script = prefix.join("lib/mrlock/mrlock-overlap.bt");
    let host = Host::new();
    let doctor = || {
        Program::new(prefix.join("bin/mrlock"))
            .args(["doctor", "--root"])
            .arg(&host.0)
    };
    let text = doctor().run();
    let line = format!("running:  bpftrace {} counts", script.display());
    assert!(text.stdout.contains(&line), "{text:#?}");
    let json: Value = serde_json::from_str(&doctor().arg("--json").run().stdout).expect("JSON");
    assert_eq!(json["overlap_script"].as_str(), script.to_str());

    fs::remove_file(script).expect("a file of the installation");
    let text = doctor().run();
    assert!(!text.stdout.contains("bpftrace"), "{text:#?}");
}

#[test]
fn four_exit_codes_are_documented_and_kept() {
    let documented = "Exit status: 0 if mrlock is not needed, 1 if it helps, 2 on an error, 3 if the host does not tell.";
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let help = Program::new(mrlock()).args(["doctor", "--help"]).run();
    assert!(words(&help.stdout).contains(documented), "{help:#?}");
    let prefix = scratch("prefix");
    install(&prefix);
    let page = fs::read_to_string(prefix.join("share/man/man1/mrlock-doctor.1")).expect("a page");
    let page = page.replace('\\', "");
    assert!(words(&page).contains(documented), "{page}");
    assert!(page.contains("535: run: 535.216.03"), "{page}");

    let status = |host: &Host| host.examined().status.code();
    assert_eq!(status(&Host::new()), Some(0));
    assert_eq!(status(&Host::new().driver("535.216.03")), Some(1));
    assert_eq!(status(&Host::new().driver("530.30.02")), Some(1));
    assert_eq!(status(&Host::new().driver("495.29.05")), Some(3));
    let errors = [
        vec!["--root".into(), scratch("missing")],
        vec!["--dmesg".into(), scratch("missing")],
        // A directory.
        vec!["--dmesg".into(), "/".into()],
        vec!["--strange".into()],
        vec!["--dmesg".into()],
    ];
    for arguments in errors {
        let doctor = Program::new(mrlock()).arg("doctor");
        let doctor = arguments.iter().fold(doctor, Program::arg);
        let outcome = doctor.run();
        assert_eq!(outcome.status.code(), Some(2), "{outcome:#?}");
        assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:#?}");
        assert_eq!(outcome.stdout, "");
        if let [option, value] = &arguments[..] {
            for part in [option, value] {
                let part = part.to_str().expect("text");
                assert!(outcome.stderr.contains(part), "{outcome:#?}");
            }
        }
    }
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
