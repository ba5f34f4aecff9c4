//! What a test needs of the machine beyond a compiler. `make test` sets `MRLOCK_TEST_ALL`, and then a missing need fails
//! the test. Without it, a missing need leaves the test out, and one line on standard error says so.

use super::make;
use std::{
    collections::BTreeSet,
    env,
    io::{self, Write as _},
    path::Path,
    process::Command,
    sync::{Mutex, OnceLock},
};

/// `Err` says what is missing.
pub type Need = Result<(), String>;

/// Returns from the test unless the machine has what the test needs.
#[macro_export]
macro_rules! needs {
    ($test:expr, $($need:expr),+) => {
        $(if !$crate::common::machine::has($test, $need) {
            return;
        })+
    };
}

/// Whether `test` can run. A line is printed once in each test program, however many tests it is true of.
#[track_caller]
pub fn has(test: &str, need: Need) -> bool {
    static PRINTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let Err(missing) = need else { return true };
    assert!(
        env::var_os("MRLOCK_TEST_ALL").is_none(),
        "cannot run {test}: {missing}"
    );
    let line = format!("left out: {test}, because {missing}\n");
    let mut printed = PRINTED.lock().expect("no panic while it is held");
    if printed.insert(line.clone()) {
        // Not eprint!: the test harness hides what a passing test prints with it.
        let _ = io::stderr().write_all(line.as_bytes());
    }
    false
}

pub fn program(name: &str, package: &str) -> Need {
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|directory| directory.join(name).exists()) {
        Ok(())
    } else {
        Err(format!(
            "there is no {name}: install it (on Debian, in the package {package})"
        ))
    }
}

pub fn file(path: &str, package: &str) -> Need {
    if Path::new(path).exists() {
        Ok(())
    } else {
        Err(format!(
            "there is no {path}: install it (on Debian, in the package {package})"
        ))
    }
}

/// Rust's core library for another target.
pub fn rust_target(triple: &str) -> Need {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", triple])
        .output()
        .map_err(|error| format!("rustc: {error}"))?;
    let directory = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if Path::new(&directory).exists() {
        Ok(())
    } else {
        Err(format!(
            "there is no {directory}: run `rustup target add {triple}`"
        ))
    }
}

pub fn is_root() -> bool {
    // SAFETY: geteuid() has no preconditions.
    unsafe { libc::geteuid() == 0 }
}

/// For a test that acts as two users.
pub fn root() -> Need {
    if is_root() {
        Ok(())
    } else {
        Err("only root can: run the tests as root".into())
    }
}

/// What `make dist` needs is fetched once, into the target directory.
pub fn make_dist() -> Need {
    static TOOLS: OnceLock<Need> = OnceLock::new();
    TOOLS
        .get_or_init(|| match make(["dist-tools"]).output() {
            Ok(output) if output.status.success() => program("dh", "debhelper")
                .and(program(
                    "aarch64-linux-gnu-objcopy",
                    "binutils-aarch64-linux-gnu",
                ))
                .and(rust_target("aarch64-unknown-linux-gnu")),
            _ => Err(
                "`make dist-tools` cannot fetch what `make dist` needs: run it to see why".into(),
            ),
        })
        .clone()
}

/// Debian's releases in a directory each, and the right to change a copy of them.
pub fn debian_roots() -> Need {
    if !is_root() {
        return Err("only root can install packages in a directory".into());
    }
    // make has fetched it last.
    let root = super::target_dir().join("debian-trixie");
    if root.exists() {
        Ok(())
    } else {
        Err(format!(
            "there is no {}: run `make debian-roots`",
            root.display()
        ))
    }
}

/// What `tests/vm/boot` needs, and does not fetch here.
pub fn virtual_machine() -> Need {
    static PREPARED: OnceLock<Need> = OnceLock::new();
    PREPARED
        .get_or_init(|| prepared("tests/vm/prepare"))
        .clone()
}

/// What `tests/vm/boot` with the name of another system needs, and does not fetch here.
pub fn other_systems() -> Need {
    static PREPARED: OnceLock<Need> = OnceLock::new();
    PREPARED
        .get_or_init(|| prepared("tests/vm/prepare-releases"))
        .clone()
}

/// What `tests/vm/boot-programs` needs, and does not fetch here.
pub fn real_programs() -> Need {
    static PREPARED: OnceLock<Need> = OnceLock::new();
    PREPARED
        .get_or_init(|| prepared("tests/vm/prepare-programs"))
        .clone()
}

/// What `tests/vm/boot-peermem` needs, and does not fetch here.
pub fn nvidia_sources() -> Need {
    static PREPARED: OnceLock<Need> = OnceLock::new();
    PREPARED
        .get_or_init(|| prepared("tests/vm/prepare-peermem"))
        .clone()
}

/// The script prints one line with what is missing.
fn prepared(script: &str) -> Need {
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(script))
        .arg("--check")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .map_err(|error| format!("{script} --check: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().into())
}

/// Where make puts what it fetches.
pub fn fetched(goal: &str) -> Result<String, String> {
    let output = make([goal]).output();
    let output = output.map_err(|error| format!("make: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().into())
    } else {
        Err(format!("`make {goal}` cannot fetch it: run it to see why"))
    }
}
