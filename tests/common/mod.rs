//! Shared by the tests: the library as it is built for users, the client programs, and how to run them with and without the
//! library.

#![allow(dead_code, reason = "each test file uses its own part")]

pub mod kernel_trace;
#[macro_use]
pub mod machine;
pub mod record;
pub mod recorded;
pub mod root;
pub mod venv;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::{
        Once, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// A program that runs for longer hangs: no program here needs so long, even on a busy machine.
const SECONDS_BEFORE_IT_HANGS: &str = "300";

/// Where cargo and make put what they build.
pub fn target_dir() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target").into();
    PathBuf::from(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(default))
}

/// The target that it is built for.
pub const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Whether the programs run on an arm64 processor that qemu-user simulates (`tests/machine/arm64.rs`).
fn on_arm64() -> bool {
    env::var_os("MRLOCK_TEST_ARM64").is_some()
}

/// What make builds for arm64.
pub const ARM64: &str = "TARGET_TRIPLE=aarch64-unknown-linux-gnu";

/// `libmrlock.so`, built with `cargo build --release` from the sources as they are now; or the one that `MRLOCK_LIBRARY`
/// names, so that the tests can run with another build.
pub fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        if let Some(library) = env::var_os("MRLOCK_LIBRARY") {
            return library.into();
        }
        if on_arm64() {
            return library_for_arm64();
        }
        build(&mut cargo_build());
        target_dir().join(TRIPLE).join("release/libmrlock.so")
    })
}

/// The same for arm64, cross-compiled, or the one that `MRLOCK_ARM64_LIBRARY` names; beside it is the other library.
pub fn library_for_arm64() -> PathBuf {
    if let Some(library) = env::var_os("MRLOCK_ARM64_LIBRARY") {
        return library.into();
    }
    let library = target_dir().join("aarch64-unknown-linux-gnu/release/libmrlock.so");
    let other = library.with_file_name("libmrlock-ioctl.so");
    build(make([ARM64]).args([&library, &other]));
    library
}

/// `libmrlock-ioctl.so`, which is beside `libmrlock.so`.
pub fn ioctl_library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let library = library().with_file_name("libmrlock-ioctl.so");
        if env::var_os("MRLOCK_LIBRARY").is_none() && !on_arm64() {
            build(make([]).arg(&library));
        }
        library
    })
}

/// A release build in the Makefile's target directory, whatever target and directory the user's cargo settings name.
fn cargo_build() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--quiet", "--target", TRIPLE]);
    cargo.arg("--target-dir").arg(target_dir());
    cargo
}

/// The command `mrlock`, built from the sources as they are now.
pub fn mrlock() -> &'static Path {
    static MRLOCK: OnceLock<PathBuf> = OnceLock::new();
    MRLOCK.get_or_init(|| {
        build(cargo_build().args(["--package", "mrlock-cli"]));
        target_dir().join(TRIPLE).join("release/mrlock")
    })
}

/// The fake libibverbs and the client programs, built with `make fixtures`.
pub fn fixtures() -> &'static Path {
    static FIXTURES: OnceLock<PathBuf> = OnceLock::new();
    FIXTURES.get_or_init(|| {
        if on_arm64() {
            build(&mut make(["fixtures", ARM64]));
            return target_dir().join("fixtures-aarch64");
        }
        build(&mut make(["fixtures"]));
        target_dir().join("fixtures")
    })
}

/// The directory that `make dist` fills.
pub fn dist() -> &'static Path {
    static DIST: OnceLock<PathBuf> = OnceLock::new();
    DIST.get_or_init(|| {
        build(&mut make(["dist"]));
        target_dir().join("dist")
    })
}

/// The processors that `make dist` makes packages for, and Debian's names of them.
pub const PROCESSORS: [(&str, &str); 2] = [("x86_64", "amd64"), ("aarch64", "arm64")];

/// The package that `make dist` makes for a processor, unpacked into a directory that was not known when it was made.
pub fn unpacked_for(processor: &str) -> PathBuf {
    static UNPACKED: OnceLock<PathBuf> = OnceLock::new();
    let package = |processor| PACKAGE.replace("x86_64", processor);
    let directory = UNPACKED.get_or_init(|| {
        let directory = scratch("unpacked");
        fs::create_dir(&directory).expect("a scratch directory");
        for (processor, _) in PROCESSORS {
            for part in ["", "-debug"] {
                let file = dist().join(package(processor) + part + ".tar.gz");
                let mut tar = Command::new("tar");
                build(tar.arg("-xf").arg(file).arg("-C").arg(&directory));
            }
        }
        directory
    });
    directory.join(package(processor))
}

/// The one for this machine.
pub fn unpacked() -> PathBuf {
    unpacked_for("x86_64")
}

/// The name of the package that `make dist` makes for this machine, and of the directory in it.
pub const PACKAGE: &str = concat!("mrlock-", env!("CARGO_PKG_VERSION"), "-x86_64-linux-gnu");

/// Runs `make install` with this prefix as root would after `make`: without cargo, so it must have nothing to build.
pub fn install(prefix: &Path) {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| build(&mut make([])));
    let mut install = make(["install", "CARGO=false"]);
    build(install.arg(format!("PREFIX={}", prefix.display())));
}

/// What `make install` made, once for all tests of a program.
pub fn installed() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let prefix = scratch("prefix");
        install(&prefix);
        prefix
    })
}

/// A make that gets neither the flags of the make that runs the tests, nor install paths from the environment.
pub fn make<const N: usize>(arguments: [&str; N]) -> Command {
    let mut make = Command::new("make");
    make.arg("--silent").args(arguments);
    make.current_dir(env!("CARGO_MANIFEST_DIR"));
    for name in [
        "MAKEFLAGS",
        "DESTDIR",
        "PREFIX",
        "BINDIR",
        "LIBDIR",
        "INCLUDEDIR",
        "DATADIR",
        "MANDIR",
    ] {
        make.env_remove(name);
    }
    make
}

/// Compiles a program where the compile command is part of the test. `include/` is searched, and a warning is an error.
pub fn compile(compiler: &str, flags: &[&str], rest: &[&str]) -> Program {
    let output = scratch("compiled");
    build(
        Command::new(compiler)
            .args(["-Wall", "-Wextra", "-pedantic", "-Werror", "-Iinclude"])
            .args(flags)
            .args(rest)
            .arg("-o")
            .arg(&output),
    );
    Program::new(output).libibverbs("lib")
}

/// Runs a command that must succeed before the test proper.
pub fn build(command: &mut Command) {
    let output = command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}",
        lossy(&output.stderr)
    );
}

/// A file name that no other test uses.
pub fn scratch(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let directory = target_dir().join("scratch");
    fs::create_dir_all(&directory).expect("the target directory is writable");
    let path = directory.join(format!(
        "{name}-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    ));
    // An earlier process may have had the same id.
    let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
    path
}

/// The contents of a directory: each file with its mode, each link with its target, and on request each directory.
pub fn listed(directory: &Path, directories: bool) -> BTreeSet<String> {
    let mut find = Command::new("find");
    find.arg(directory)
        .args(["-mindepth", "1", "-type", "f", "-printf", "%P %m\n"])
        .args(["-o", "-type", "l", "-printf", "%P -> %l\n"]);
    if directories {
        find.args(["-o", "-type", "d", "-printf", "%P/ %m\n"]);
    }
    let output = find.output().expect("find");
    let text = String::from_utf8(output.stdout).expect("names are text");
    text.lines().map(String::from).collect()
}

/// A program, and how to run it.
#[derive(Clone)]
pub struct Program {
    command: Vec<OsString>,
    environment: BTreeMap<String, OsString>,
    witness: Option<PathBuf>,
}

/// What a program did.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// What the fake libibverbs counted, if `counting` was called.
    pub witness: Witness,
}

/// The greatest number of threads that the fake libibverbs saw inside at once.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
pub struct Witness {
    /// Registrations only.
    pub registrations: Peak,
    /// Deregistrations only.
    pub deregistrations: Peak,
    /// Both.
    pub together: u32,
}

/// How many calls there were of one kind, and the most at once.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
pub struct Peak {
    pub calls: u32,
    pub peak: u32,
}

/// One of `tests/clients`, on the fake libibverbs, built as Debian builds the real one.
pub fn client(name: &str) -> Program {
    Program::new(fixtures().join("clients").join(name)).libibverbs("lib")
}

impl Program {
    /// Any program, with no variable of mrlock in its environment.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            command: vec![program.as_ref().into()],
            environment: BTreeMap::new(),
            witness: None,
        }
    }

    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.push(argument.as_ref().into());
        self
    }

    pub fn args<const N: usize>(self, arguments: [&str; N]) -> Self {
        arguments
            .iter()
            .fold(self, |program, argument| program.arg(argument))
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.insert(name.into(), value.as_ref().into());
        self
    }

    /// Which build of the fake libibverbs it finds: `lib`, `bsymbolic`, `old` or `engine`.
    pub fn libibverbs(self, build: &str) -> Self {
        self.env("LD_LIBRARY_PATH", fixtures().join(build))
    }

    /// Makes the fake libibverbs count overlapping calls instead of killing the process.
    pub fn counting(mut self) -> Self {
        let witness = scratch("witness");
        self.witness = Some(witness.clone());
        self.env("FAKE_IBV_RACE", "count")
            .env("FAKE_IBV_WITNESS", witness)
    }

    /// The same program with `libmrlock.so` preloaded, first in LD_PRELOAD.
    pub fn preloaded(&self) -> Self {
        self.preloading(library())
    }

    /// The same program with this library, first in LD_PRELOAD.
    pub fn preloading(&self, library: &Path) -> Self {
        let mut list = library.as_os_str().to_owned();
        if let Some(others) = self.environment.get("LD_PRELOAD") {
            list.push(":");
            list.push(others);
        }
        self.clone().env("LD_PRELOAD", list)
    }

    /// Its file.
    pub fn name(&self) -> &OsStr {
        &self.command[0]
    }

    /// The same program, run by `other`, which does not have its environment.
    pub fn by(&self, mut other: Self) -> Self {
        other.command.extend(self.words());
        other
    }

    /// The command line that sets its environment and runs it.
    fn words(&self) -> Vec<OsString> {
        let mut words = if on_arm64() {
            let number = format!("REAL_SYS_FUTEX={}", libc::SYS_futex);
            let qemu = [
                "qemu-aarch64",
                "-L",
                "/usr/aarch64-linux-gnu",
                "-E",
                &number,
            ];
            qemu.map(OsString::from).to_vec()
        } else {
            vec![OsString::from("env")]
        };
        for (name, value) in &self.environment {
            let mut setting = OsString::from(format!("{name}="));
            setting.push(value);
            // For the program, and not for qemu itself.
            words.extend(on_arm64().then(|| OsString::from("-E")));
            words.push(setting);
        }
        words.extend_from_slice(&self.command);
        words
    }

    /// Lets `command` run it, in its environment.
    fn complete(&self, mut command: Command) -> Command {
        command.args(self.words());
        for (name, _) in env::vars_os() {
            if ["LD_", "MRLOCK", "FAKE_IBV"]
                .iter()
                .any(|prefix| name.to_string_lossy().starts_with(prefix))
            {
                command.env_remove(name);
            }
        }
        command
    }

    /// The command that runs it. `timeout` ends one that hangs, with status 124.
    pub fn command(&self) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", SECONDS_BEFORE_IT_HANGS]);
        self.complete(command)
    }

    /// The same without `timeout`: the process is the program itself.
    pub fn command_alone(&self) -> Command {
        self.complete(Command::new("env"))
    }

    /// Runs it to its end.
    pub fn run(&self) -> Outcome {
        let mut command = self.command();
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let witness = self
            .witness
            .as_deref()
            .map(Witness::read)
            .unwrap_or_default();
        Outcome {
            status: output.status,
            stdout: lossy(&output.stdout),
            stderr: lossy(&output.stderr),
            witness,
        }
    }
}

/// Runs `program` without and with the library, fails unless both outcomes are equal to the byte, and returns the outcome.
pub fn same_with_and_without(program: &Program) -> Outcome {
    let without = program.run();
    let with = program.preloaded().run();
    assert_eq!(with, without, "left: with the library; right: without");
    with
}

impl Outcome {
    /// Fails the test unless the program ended with status 0; `what` says which run it was.
    pub fn succeeded(self, what: &str) -> Self {
        assert!(self.status.success(), "{what}: {self:#?}");
        self
    }

    /// Whether a signal ended it. (`timeout` passes the signal on as a status of its own.)
    pub fn ended_by(&self, signal: i32) -> bool {
        self.status.signal() == Some(signal) || self.status.code() == Some(128 + signal)
    }

    pub fn segfaulted(&self) -> bool {
        self.ended_by(libc::SIGSEGV)
    }
}

impl Witness {
    fn read(path: &Path) -> Self {
        // A process that died or never registered has written nothing.
        let Ok(text) = fs::read_to_string(path) else {
            return Self::default();
        };
        let _ = fs::remove_file(path);
        let number = |line: &str, word: usize| {
            let line = text.lines().find(|found| found.starts_with(line));
            line.and_then(|line| line.split(' ').nth(word)?.parse().ok())
                .unwrap_or_else(|| panic!("no number {word} in a line {line:?} of {text:?}"))
        };
        Self {
            registrations: Peak {
                calls: number("registrations", 1),
                peak: number("registrations", 3),
            },
            deregistrations: Peak {
                calls: number("deregistrations", 1),
                peak: number("deregistrations", 3),
            },
            together: number("together", 2),
        }
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
