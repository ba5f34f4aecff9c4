//! What a run in the virtual machine left behind.

use super::{ioctl_library, kernel_trace::KernelWitness, library, library_for_arm64, target_dir};
use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

/// Where a command of tests/vm leaves the records: `boot` in results, `boot-programs` in results-programs, `boot sid` in results-sid,
/// and so on. It boots the machine at the first call for a command; if that fails, every test fails. One machine runs at a time: two would
/// slow each other down.
pub fn results(command: &'static str) -> PathBuf {
    static RESULTS: Mutex<BTreeMap<&str, Result<PathBuf, String>>> = Mutex::new(BTreeMap::new());
    let boot = || {
        let (script, system) = command.split_once(' ').unwrap_or((command, ""));
        let boot = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/vm")
            .join(script);
        // In the same directory: some scenarios take that one.
        ioctl_library();
        let output = Command::new(boot)
            .arg(if system == "arm64" {
                library_for_arm64()
            } else {
                library().into()
            })
            .args((!system.is_empty()).then_some(system))
            .output()
            .map_err(|error| format!("tests/vm/{command}: {error}"))?;
        if output.status.success() {
            let suffix = command.strip_prefix("boot").expect("a script that boots");
            Ok(target_dir().join(format!("vm/results{}", suffix.replace(' ', "-"))))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    };
    let results = {
        let mut results = RESULTS.lock().expect("no panic while it is held");
        results.entry(command).or_insert_with(boot).clone()
    };
    results.unwrap_or_else(|reason| panic!("the machine did not run: {reason}"))
}

/// What one run of a scenario left behind.
pub struct Run {
    pub name: String,
    directory: PathBuf,
}

impl Run {
    /// The run, after checking that it took place.
    pub fn of(results: &Path, scenario: &str, which: &str) -> Self {
        let run = Self {
            name: format!("{scenario}, {which} the library"),
            directory: results.join(scenario).join(which),
        };
        // The loader only warns, and runs the program without the library.
        let stderr = run.read("stderr");
        run.expects(
            !stderr.contains("cannot be preloaded"),
            "a library that can be loaded",
            stderr.trim(),
        );
        run
    }

    /// Fails the test unless `good`, and says where the records of the run are.
    #[track_caller]
    pub fn expects(&self, good: bool, expected: &str, seen: impl fmt::Debug) {
        assert!(
            good,
            "{}: expected {expected}; seen: {seen:?}; see {}",
            self.name,
            self.directory.display()
        );
    }

    pub fn read(&self, file: &str) -> String {
        let path = self.directory.join(file);
        let bytes = fs::read(&path)
            .unwrap_or_else(|error| panic!("{}: {}: {error}", self.name, path.display()));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn tries(&self) -> usize {
        self.read("status").lines().count()
    }

    /// The judgement of the run's trace. Fails the test if there is none.
    pub fn judged<T>(&self, judgement: Result<T, String>) -> T {
        judgement.unwrap_or_else(|reason| {
            let trace = self.directory.join("trace");
            panic!(
                "{}: no witness: {reason}; see {}",
                self.name,
                trace.display()
            )
        })
    }

    pub fn judge(&self, trace: &str) -> KernelWitness {
        self.judged(KernelWitness::of(trace))
    }

    /// The reports of all processes of this run.
    pub fn reports(&self) -> String {
        let entries = fs::read_dir(&self.directory).expect("the directory of a run");
        let names = entries.map(|entry| entry.expect("a readable directory").file_name());
        names
            .filter_map(|name| name.into_string().ok())
            .filter(|name| name.starts_with("report."))
            .map(|name| self.read(&name))
            .collect()
    }

    /// The library's counts of registrations, of deregistrations and failed registrations together, and of frees. (The kernel also
    /// unpins the memory of a failed registration.)
    pub fn reported(&self) -> [usize; 3] {
        let reports = self.reports();
        // "ibv_reg_mr_iova2   16   0 ...": the name, the calls, how many of them failed.
        let sum = |name: fn(&str) -> bool, column: usize| -> usize {
            let lines = reports.lines().map(str::split_whitespace);
            lines
                .filter_map(|mut words| {
                    words
                        .next()
                        .filter(|word| name(word))
                        .and(words.nth(column))
                })
                .map(|number| number.parse::<usize>().unwrap_or(0))
                .sum()
        };
        let registers = |name: &str| {
            name.starts_with("ibv_reg_mr") || matches!(name, "uverbs:REG_MR" | "uverbs:MR_REG")
        };
        let deregisters = |name: &str| {
            matches!(
                name,
                "ibv_dereg_mr" | "uverbs:DEREG_MR" | "uverbs:MR_DESTROY"
            )
        };
        let frees = |name: &str| name == "nvidia:RM_FREE";
        let (calls, failed) = (0, 1);
        [
            sum(registers, calls),
            sum(deregisters, calls) + sum(registers, failed),
            sum(frees, calls),
        ]
    }
}
