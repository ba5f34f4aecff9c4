//! Mooncake on a real kernel, with one lock or another around its registrations: the time, and how many registrations the kernel
//! saw at once.
//!
//! The machine, its devices and the witness are those of `tests/machine/vm.rs`. It is emulated, with more processors than there are
//! here: nothing but ratios within one boot means anything.

#[path = "../tests/common/mod.rs"]
mod common;

use common::{kernel_trace::KernelWitness, library, target_dir};
use std::{fs, path::Path, process::Command};

fn main() {
    // `cargo test` of all targets runs this too: there it only has to compile.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let ways = [
        ("batch", "one call for all"),
        ("threads", "a Python thread and a call for each"),
    ];
    let locks = [
        ("nothing", "nothing"),
        ("mrlock", "mrlock"),
        ("device", "mrlock with `MRLOCK_MEMORY=device`"),
        ("pthread", "pthread"),
        ("global", "pthread, and libibverbs preloaded with it"),
        ("python", "a Python lock around each call"),
    ];
    let boot = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm/boot");
    let status = Command::new(boot)
        .arg(library())
        .args(ways.map(|(way, _)| format!("bench_{way}")))
        .status();
    assert!(status.expect("tests/vm/boot runs").success());

    println!("## Mooncake registers 16 buffers on 4 devices of a real kernel\n");
    println!("| how | lock | time, ratio | at once in the kernel |");
    println!("|---|---|---:|---:|");
    for (way, how) in ways {
        let results = target_dir().join(format!("vm/results/bench_{way}"));
        let bare =
            Measured::read(&results.join("nothing")).expect("Mooncake runs without any lock");
        for (directory, lock) in locks {
            match Measured::read(&results.join(directory)) {
                Ok(Measured { time, at_once }) => {
                    println!("| {how} | {lock} | {:.2} | {at_once} |", time / bare.time);
                }
                Err(died) => println!("| {how} | {lock} | {died} | |"),
            }
        }
    }
    println!();
}

/// The results of all runs with one lock.
struct Measured {
    /// The median, in seconds.
    time: f64,
    at_once: usize,
}

impl Measured {
    /// Or how it ended instead, if it ever ended otherwise than well.
    fn read(run: &Path) -> Result<Self, String> {
        let text = |name| {
            let path = run.join(name);
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        const SIGSEGV: &str = "139"; // the shell's word for it
        if let Some(status) = text("status").lines().find(|&status| status != "0") {
            return Err(match status {
                SIGSEGV => "dies of SIGSEGV".into(),
                _ => format!("ends with status {status}"),
            });
        }
        let times = text("times");
        let times = times.lines().map(|line| line.parse().expect("seconds"));
        let mut times: Vec<f64> = times.collect();
        times.sort_by(f64::total_cmp);
        Ok(Self {
            time: times[times.len() / 2],
            at_once: KernelWitness::of(&text("trace"))
                .expect("a whole trace")
                .overlap,
        })
    }
}
