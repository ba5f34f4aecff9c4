//! Commands that give what follows them to a process that does not inherit LD_PRELOAD, such as a server. They would end with
//! status 0, and nothing would have run with the library. So one line says it, and the command is run all the same.

use super::program;
use rustix::fs::{Access, access};
use std::{
    ffi::{OsStr, OsString},
    fs, mem,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

/// The programs, and where they take the command.
const CLIENTS: &[(&str, &str)] = &[
    (
        "tmux screen byobu zellij gnome-terminal pm2 ray",
        "a server of it that runs already starts the command without the library",
    ),
    (
        "docker docker-compose podman podman-compose podman-remote nerdctl ctr crictl runc crun lxc incus machinectl \
         systemd-nspawn toolbox distrobox distrobox-enter kubectl oc k3s microk8s minikube helm",
        "the command runs in a container, without the library",
    ),
    (
        "systemd-run systemctl service initctl rc-service supervisorctl run0 at batch crontab",
        "a service manager starts the command, without the library",
    ),
    (
        "ssh slogin mosh rsh pdsh dsh clush pssh parallel-ssh ansible ansible-playbook srun sbatch qsub qrsh bsub \
         condor_submit flux",
        "the command runs on other machines, with the library only if LD_PRELOAD is passed on and its file is there too",
    ),
    ("sudo doas pkexec login snap", CLEARED),
];

const CLEARED: &str = "it removes LD_PRELOAD, and the command runs without the library";
const REPLACED: &str = "LD_PRELOAD is set anew, and the command runs without the library";

/// Programs that run a command that is among their arguments, in their own environment.
const WRAPPERS: &str = "aa-exec busybox catatonit chpst choom chroot chrt conda dbus-run-session dumb-init eatmydata env \
     faketime fakeroot flock gdb ionice ltrace nice nohup nsenter numactl pipenv poetry prlimit runuser setarch setpriv setsid \
     setuidgid stdbuf strace su taskset tini time timeout unbuffer unshare uv valgrind watch xargs";

const SHELLS: &str = "sh ash bash dash fish ksh mksh zsh";

/// Words of a shell that a command may follow.
const BEFORE_A_COMMAND: &str = "exec command time if then else elif while until do !";

/// What to say of `command`, with its arguments. `None` if it runs with the library, as far as its words show.
pub fn warning(command: &[OsString]) -> Option<String> {
    // The user knows: `docker run IMAGE mrlock run SERVER`.
    let knows = |word: &OsString| {
        Path::new(word).file_name() == Some(OsStr::new("mrlock"))
            || contains(word, b"mrlock run")
            || contains(word, b"mrlock-run")
    };
    if command.iter().any(knows) {
        return None;
    }
    let (name, why) = find(command)?;
    let how =
        format!("put mrlock run in front of the command itself: {name} ... mrlock run COMMAND");
    Some(format!("warning: {name}: {why}: {how}"))
}

/// The program that takes the command away, and what becomes of the command.
fn find(words: &[OsString]) -> Option<(&'static str, &'static str)> {
    let (command, arguments) = words.split_first()?;
    let file = executable(command)?;
    // Also by a link of another name.
    let names = [fs::canonicalize(&file).ok(), Some(file)];
    let names = names.each_ref().map(|file| file.as_ref()?.file_name());
    let one_of = |list: &'static str| {
        let mut list = list.split_ascii_whitespace();
        list.find(|name| names.contains(&Some(OsStr::new(name))))
    };
    let has = |words: &[OsString], options: &[&str]| {
        words
            .iter()
            .any(|word| options.iter().any(|option| word == option))
    };
    let client = CLIENTS
        .iter()
        .find_map(|&(list, why)| Some((one_of(list)?, why)));
    if let Some((name, why)) = client {
        let stays = match name {
            "systemd-run" => has(arguments, &["--scope"]),
            "ray" => !has(arguments, &["job", "submit", "exec"]),
            _ => false,
        };
        let passes_on = arguments.iter().any(|word| contains(word, b"LD_PRELOAD"));
        return (!stays && !passes_on).then_some((name, why));
    }
    if let Some(name) = one_of(SHELLS) {
        return in_script(name, arguments);
    }
    let name = one_of(WRAPPERS)?;
    // Before its command are its own options, some of them with a value.
    let start = arguments.iter().position(|word| executable(word).is_some());
    let (own, command) = arguments.split_at(start.unwrap_or(arguments.len()));
    let sets = |word: &OsString| word.as_bytes().starts_with(b"LD_PRELOAD=");
    let (clears, why) = match name {
        "env" if own.iter().any(sets) => (true, REPLACED),
        "env" => {
            let options = [
                "-",
                "-i",
                "--ignore-environment",
                "--unset=LD_PRELOAD",
                "-uLD_PRELOAD",
                "LD_PRELOAD",
            ];
            (has(own, &options), CLEARED)
        }
        "setpriv" => (has(own, &["--reset-env"]), CLEARED),
        "su" | "runuser" => (has(own, &["-", "-l", "--login"]), CLEARED),
        _ => (false, CLEARED),
    };
    if clears {
        Some((name, why))
    } else {
        find(command).or_else(|| in_script(name, arguments))
    }
}

/// The same for the commands of the script that a shell, or su, is given by -c.
fn in_script(shell: &'static str, arguments: &[OsString]) -> Option<(&'static str, &'static str)> {
    let is_option =
        |word: &[u8]| word.starts_with(b"-") && !word.starts_with(b"--") && word.ends_with(b"c");
    let option = arguments
        .iter()
        .position(|word| is_option(word.as_bytes()) || word == "--command")?;
    let script = arguments.get(option + 1)?;
    simple_commands(script.as_bytes()).iter().find_map(|words| {
        let sets =
            |word: &OsString| word.as_bytes().starts_with(b"LD_PRELOAD=") && !contains(word, b"$");
        if words.iter().any(sets) {
            return Some((shell, REPLACED));
        }
        let is_before = |word: &OsString| {
            BEFORE_A_COMMAND.split(' ').any(|before| word == before) || contains(word, b"=")
        };
        let start = words.iter().position(|word| !is_before(word))?;
        find(&words[start..])
    })
}

/// The commands of a script, each as its words. Quotes are understood, and nothing is expanded.
fn simple_commands(script: &[u8]) -> Vec<Vec<OsString>> {
    let (mut commands, mut words, mut word) = (vec![], vec![], vec![]);
    let (mut quote, mut is_escaped, mut is_comment) = (None, false, false);
    for &byte in script.iter().chain(b"\n") {
        is_comment = is_comment && byte != b'\n'
            || byte == b'#' && word.is_empty() && quote.is_none() && !is_escaped;
        if is_comment {
            continue;
        }
        if is_escaped {
            word.push(byte);
            is_escaped = false;
        } else if byte == b'\\' && quote != Some(b'\'') {
            is_escaped = true;
        } else if quote == Some(byte) {
            quote = None;
        } else if quote.is_none() && matches!(byte, b'\'' | b'"') {
            quote = Some(byte);
        } else if quote.is_none() && b" \t\n;&|(){}`".contains(&byte) {
            if !word.is_empty() {
                words.push(OsString::from_vec(mem::take(&mut word)));
            }
            if !b" \t".contains(&byte) && !words.is_empty() {
                commands.push(mem::take(&mut words));
            }
        } else {
            word.push(byte);
        }
    }
    commands
}

/// The file that `command` would run.
fn executable(command: &OsStr) -> Option<PathBuf> {
    let file = program::find(command).ok()?;
    (file.is_file() && access(&file, Access::EXEC_OK).is_ok()).then_some(file)
}

fn contains(word: &OsStr, part: &[u8]) -> bool {
    word.as_bytes().windows(part.len()).any(|at| at == part)
}
