//! `mrlock path` and `mrlock env`, evaluated by each shell, and the completions, asked for by the key Tab.

use crate::common::{Outcome, Program, client, fixtures, installed, machine, scratch};
use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

fn mrlock() -> Program {
    Program::new(installed().join("bin/mrlock"))
}

fn library() -> String {
    installed().join("lib/libmrlock.so.0").display().to_string()
}

fn zsh() -> machine::Need {
    machine::program("zsh", "zsh")
}

fn fish() -> machine::Need {
    machine::program("fish", "fish")
}

/// Each shell, without its user's files.
const SHELLS: [&[&str]; 4] = [
    &["sh"],
    &["bash", "--norc"],
    &["zsh", "-f"],
    &["fish", "--no-config"],
];

/// `shell` runs `script`, with the `mrlock` of this directory.
fn evaluates(shell: &[&str], bin: &Path, script: &str) -> Program {
    let path = format!("PATH={}:/usr/bin:/bin", bin.display());
    let program = Program::new("env").args(["-i", &path]);
    let program = shell.iter().fold(program, Program::arg);
    program.args(["-c", script])
}

fn bin() -> PathBuf {
    installed().join("bin")
}

#[test]
fn a_program_that_the_shell_starts_has_the_library() {
    needs!("tests/product/shells.rs", zsh(), fish());
    let stress = client("stress");
    let libibverbs = fixtures().join("lib");
    let stress = format!(
        "export LD_LIBRARY_PATH={}; exec {}",
        libibverbs.display(),
        Path::new(stress.name()).display()
    );
    for shell in SHELLS {
        let bare = evaluates(shell, &bin(), &stress).run();
        assert!(bare.segfaulted(), "it should die alone: {bare:#?}");
        let script = format!("eval \"$(mrlock env)\"; {stress}");
        let outcome = evaluates(shell, &bin(), &script).run().succeeded(shell[0]);
        assert_eq!(outcome.stderr, "", "{shell:?}");
    }
}

fn sorted(outcome: Outcome) -> Vec<String> {
    let mut lines: Vec<_> = outcome.stdout.lines().map(String::from).collect();
    lines.sort();
    lines
}

#[test]
fn the_variables_are_those_of_mrlock_run() {
    let shell = SHELLS[1];
    let other = fixtures().join("clients/other_reg_mr.so");
    let ours = library();
    for (option, inherited) in [
        ("", String::new()),
        ("--gpu", String::new()),
        ("", other.display().to_string()),
        ("--gpu", format!("/no/libasan.so.8 {}", other.display())),
        ("", format!("{ours}:{}", other.display())),
        ("", format!("/no/libasan.so.8:{ours}")),
        ("", "/no/libasan.so.8".into()),
    ] {
        // The shell itself must not have what it exports.
        let set = format!("export LD_PRELOAD='{inherited}';");
        let env = "env | grep -E '^(LD_|MRLOCK)'";
        let run = format!("{set} exec mrlock run {option} sh -c \"{env}\"");
        let expected = evaluates(shell, &bin(), &run).run().succeeded("mrlock run");
        let eval = format!("eval \"$(mrlock env {option})\";");
        let script = format!("{set} {eval} {env}");
        let now = evaluates(shell, &bin(), &script)
            .run()
            .succeeded("mrlock env");
        let expected = sorted(expected);
        assert_eq!(sorted(now), expected, "{option} {inherited}");
        let twice = format!("{set} {eval} {eval} {env}");
        let twice = evaluates(shell, &bin(), &twice).run().succeeded("twice");
        assert_eq!(sorted(twice), expected, "{option} {inherited}");
    }
}

#[test]
fn the_path_is_that_which_mrlock_run_uses() {
    let outcome = mrlock().arg("path").run().succeeded("mrlock path");
    assert_eq!(outcome.stdout, library() + "\n");
    let by_run = mrlock().args(["run", "printenv", "LD_PRELOAD"]).run();
    assert_eq!(by_run.stdout, outcome.stdout);

    let ioctl = installed().join("lib/libmrlock-ioctl.so.0");
    let ioctl = ioctl.display();
    let path = mrlock().args(["path", "--hooks=ioctl"]).run();
    assert_eq!(path.succeeded("path").stdout, format!("{ioctl}\n"));
    let env = mrlock().args(["env", "--hooks=ioctl"]).run();
    let expected = format!("export MRLOCK_HOOKS='ioctl'\nexport LD_PRELOAD='{ioctl}'\n");
    assert_eq!(env.succeeded("env").stdout, expected);
}

/// The command and the library in a directory of this name.
fn in_a_directory(name: &str) -> PathBuf {
    let directory = scratch(name);
    fs::create_dir(&directory).expect("a scratch directory");
    fs::copy(installed().join("bin/mrlock"), directory.join("mrlock")).expect("a copy");
    fs::copy(library(), directory.join("libmrlock.so.0")).expect("a copy");
    directory
}

/// A shell takes the values literally, whatever is in them.
#[test]
fn names_that_mean_something_to_a_shell() {
    needs!("tests/product/shells.rs", zsh(), fish());
    for name in [
        "it's",
        "back\\slash\\",
        "\\'",
        "a;b&c*",
        "new\nline",
        "`date`",
    ] {
        let directory = in_a_directory(name);
        let expected = format!("{}\n", directory.join("libmrlock.so.0").display());
        for shell in SHELLS {
            let script = "eval \"$(mrlock env)\"; exec printenv LD_PRELOAD";
            let outcome = evaluates(shell, &directory, script).run();
            let outcome = outcome.succeeded(name);
            assert_eq!(outcome.stdout, expected, "{shell:?}");
        }
        let _ = fs::remove_dir_all(directory);
    }
}

/// Nothing on standard output: a shell would evaluate it.
#[test]
fn what_mrlock_run_refuses_is_refused() {
    let alone = in_a_directory("alone");
    fs::remove_file(alone.join("libmrlock.so.0")).expect("ours");
    let broken = in_a_directory("broken");
    fs::write(broken.join("libmrlock.so.0"), "no library").expect("ours");
    let alone = || Program::new(alone.join("mrlock"));
    let broken = || Program::new(broken.join("mrlock"));
    let trace = || mrlock().env("MRLOCK_TRACE", "/nonexistent/trace");
    for (program, subcommand, why) in [
        (alone(), "path", "no libmrlock.so.0 in "),
        (alone(), "env", "no libmrlock.so.0 in "),
        (broken(), "path", "cannot be loaded"),
        (broken(), "env", "cannot be loaded"),
        (trace(), "env", "MRLOCK_TRACE=/nonexistent/trace: "),
    ] {
        let by_run = program.clone().args(["run", "true"]).run();
        let outcome = program.arg(subcommand).run();
        assert_eq!(outcome, by_run, "right: mrlock run");
        assert_eq!(outcome.status.code(), Some(125), "{outcome:#?}");
        assert_eq!(outcome.stdout, "");
        assert!(outcome.stderr.contains(why), "{outcome:#?}");
    }
    for subcommand in ["path", "env"] {
        let line = format!("exec mrlock {subcommand} >/dev/full");
        let outcome = evaluates(SHELLS[0], &bin(), &line).run();
        assert_eq!(outcome.status.code(), Some(1), "{outcome:#?}");
        assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:#?}");
    }
}

/// Types `keys` into `shell`, where \t is the key Tab. Returns what the terminal showed.
fn typed(shell: &[&str], keys: &str) -> String {
    let mut python = Command::new("python3");
    python.arg("tests/shells/press_tab.py").args(shell);
    let path = format!("{}:{}:/usr/bin:/bin", programs().display(), bin().display());
    python.env_clear().env("PATH", path).env("TERM", "xterm");
    let python = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut python = python.expect("python3");
    let mut stdin = python.stdin.take().expect("a pipe");
    stdin.write_all(keys.as_bytes()).expect("it reads them");
    drop(stdin);
    let output = python.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{shell:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A directory with one program, of a name that no other has.
fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let directory = scratch("programs");
        fs::create_dir(&directory).expect("a scratch directory");
        let program = directory.join("our_own_program");
        fs::write(&program, "#!/bin/sh\necho \"$1 has $LD_PRELOAD\"\n").expect("a scratch file");
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&program, executable).expect("ours to set");
        directory
    })
}

/// Options, the program, and what completes the program's own arguments, are found by their beginnings.
#[test]
fn completions() {
    needs!(
        "tests/product/shells.rs",
        zsh(),
        fish(),
        machine::file(
            "/usr/share/bash-completion/bash_completion",
            "bash-completion"
        )
    );
    let share = installed().join("share");
    let home = scratch("home");
    fs::create_dir(&home).expect("a scratch directory");
    let write = |name: &str, text: &str| {
        let file = home.join(name);
        fs::write(&file, text).expect("a scratch file");
        file.display().to_string()
    };
    let data = format!("XDG_DATA_DIRS={}:/usr/share", share.display());
    let completions = share.join("bash-completion/completions/mrlock");
    let completions = completions.display();
    let with = write(
        "with",
        "PS1='ready> '; . /usr/share/bash-completion/bash_completion\n",
    );
    let without = write("without", &format!("PS1='ready> '; . {completions}\n"));
    let functions = share.join("zsh/site-functions");
    write(
        ".zshrc",
        &format!(
            "PS1='ready> '; fpath=({} $fpath); autoload -U compinit; compinit -u -D\n",
            functions.display()
        ),
    );
    let home = home.display();
    let (zdotdir, home) = (format!("ZDOTDIR={home}"), format!("HOME={home}"));
    let prompt = "function fish_prompt; echo 'ready> '; end; set fish_greeting";
    let begun = "mrlock run our_own_pr\\tone\n\
                 mrlock run --gpu --calls reg our_own_pr\\ttwo\n\
                 mrlock run --calls=reg --obs\\tour_own_pr\\tthree\n\
                 mrlock run -- our_own_pr\\tfour\n";
    // Its own completions, which are these again.
    let nested = "mrlock run mrlock --ver\\t\n";
    for (shell, nests) in [
        (&["env", &data, "bash", "--rcfile", &with, "-i"][..], true),
        (&["bash", "--rcfile", &without, "-i"], false),
        (&["env", &zdotdir, "zsh", "-i"], true),
        (&["env", &home, &data, "fish", "-C", prompt, "-i"], true),
    ] {
        let shown = typed(shell, &[begun, if nests { nested } else { "" }].concat());
        for word in ["one", "two", "three", "four"] {
            let line = format!("{word} has {}", library());
            assert!(shown.contains(&line), "{shell:?}: {word}: {shown}");
        }
        let version = concat!("mrlock ", env!("CARGO_PKG_VERSION"));
        assert!(shown.contains(version) || !nests, "{shell:?}: {shown}");
    }
}
