//! Programs that have nothing to do with verbs notice nothing: the same output to the byte, the same exit status, nothing on
//! stderr, no libibverbs.

use crate::common::{Program, client, compile, fixtures, machine, same_with_and_without, scratch};
use std::{fs, os::unix::fs::PermissionsExt};

/// Runs a shell script in an empty directory, without and with the library. The script tests `program`, which is in the
/// Debian package `package`.
fn unchanged(program: &str, package: &str, script: &str) {
    needs!(
        &format!("{program} with the library"),
        machine::program(program, package)
    );
    let directory = scratch(&format!("ordinary-{}", program.replace('/', "-")));
    let directory = directory.display();
    // The directory has the same name every time: some programs print it.
    let script =
        format!("rm -rf {directory} && mkdir {directory} && cd {directory} || exit\n{script}");
    let shell = Program::new("bash").arg("-c").arg(script);
    let outcome = same_with_and_without(&shell);
    assert_ne!(outcome.stdout, "", "it said nothing: {outcome:#?}");

    // The shell and the program loaded the library. No process loaded a libibverbs: with one, it would have written a report.
    let asked = shell.preloaded().env("MRLOCK_LOG", "info");
    let asked = asked.env("MRLOCK_REPORT", "stderr").run();
    assert!(
        asked.stderr.matches("info: loaded").count() >= 2,
        "{asked:#?}"
    );
    assert!(!asked.stderr.contains("serialized"), "{asked:#?}");
    let _ = fs::remove_dir_all(directory.to_string());
}

macro_rules! unchanged {
    ($($test:ident: $program:literal of $package:literal $script:literal)*) => {
        $(#[test]
        fn $test() {
            unchanged($program, $package, $script);
        })*
    };
}

unchanged! {
    bash: "bash" of "bash" r#"
        for i in 1 2 3; do (echo $i | cat); done
        sleep 0 & wait; bash -c 'kill -TERM $$'; echo $?
        echo "an error" >&2; exec bash -c 'exit 3'"#

    pipelines: "sort" of "coreutils" r#"
        seq 1000 | sort -rn | head -3; seq 100000 | tac | sort -n --parallel=4 -S 1M | md5sum
        yes | head -1; ls --color=always -l /usr/include/linux | md5sum; sh -c 'stty; false'"#

    find_and_tar: "tar" of "tar" r#"
        find /usr/include/linux -name 'i*.h' | sort
        tar -C /usr/include -czf - linux | tar -tzf - | md5sum; tar -xf nothing"#

    python_threads_and_subprocess: "/usr/bin/python3" of "python3" r#"
        /usr/bin/python3 -c '
import os, fcntl, struct, subprocess, sys, termios, threading
reader, writer = os.pipe()
os.write(writer, b"hello")
threads = [threading.Thread(target=os.getpid) for _ in range(8)]
[t.start() for t in threads], [t.join() for t in threads]
print(subprocess.run(["echo", "sub"], capture_output=True))
print(struct.unpack("i", fcntl.ioctl(reader, termios.FIONREAD, bytes(4))))
print("an error", file=sys.stderr)
sys.exit(5)'"#

    python_multiprocessing: "/usr/bin/python3" of "python3" r#"
        echo '
import multiprocessing
if __name__ == "__main__":
    for how in "fork", "spawn":
        with multiprocessing.get_context(how).Pool(2) as pool:
            print(how, pool.map(abs, range(-9, 0)))' >pool.py
        /usr/bin/python3 pool.py"#

    git: "git" of "git" r#"
        export HOME=$PWD GIT_AUTHOR_DATE=@0+0000 GIT_COMMITTER_DATE=@0+0000
        git --version; git init -q -b main repository; cd repository; echo text >file; git add file
        git -c user.name=n -c user.email=e commit -qm message
        git log --stat; git gc -q; git fsck --strict; git status; git checkout nowhere"#

    gcc: "gcc" of "gcc" r#"
        printf '#include <stdio.h>\nint main(void) { return puts("compiled") < 0; }\n' >a.c
        gcc -E a.c | md5sum; gcc -O2 -c a.c; md5sum <a.o; gcc a.o -o a; ./a
        echo 'int f(void) { return x; }' >b.c; gcc -c b.c"#

    curl: "curl" of "curl" r#"
        curl --version; echo here >f; curl -sS "file://$PWD/f"; curl -sS file:///nowhere"#

    ssh: "ssh" of "openssh-client" r#"
        ssh -V; ssh-keygen -q -t ed25519 -N '' -f key; ssh-keygen -lf key.pub | wc -w
        ssh -F none -o BatchMode=yes -p 1 127.0.0.1 true"#

    perl: "perl" of "perl" r#"
        perl -e 'print `echo sub`; if (!fork) { exit 4 } wait; print $? >> 8, "\n"; warn "warned\n"; exit 9'"#

    // Window size, line discipline and foreground process group are set by ioctl.
    a_terminal: "script" of "bsdutils" r#"
        script -qec 'stty rows 21 cols 77; stty -a; stty size; ls --color / | md5sum; exit 6' /dev/null"#
}

#[test]
fn a_rust_program() {
    let program = fixtures().join("clients/rust_ioctl");
    same_with_and_without(&Program::new(program)).succeeded("rust_ioctl");
}

/// Like Go programs, with or without libc.
#[test]
fn a_program_that_makes_its_system_calls_itself() {
    let outcome = same_with_and_without(&client("raw_syscalls")).succeeded("raw_syscalls");
    assert_eq!(outcome.stdout, "raw_syscalls: 0, 5 bytes; libc: 0\n");
}

/// musl's loader fails where a symbol of a preloaded library is missing, and has fewer of them than glibc's.
#[test]
fn a_musl_program() {
    needs!(
        "a musl program",
        machine::program("musl-gcc", "musl-tools"),
        machine::file("/lib/ld-musl-x86_64.so.1", "musl")
    );
    for source in ["threads_and_children.c", "spawn.c"] {
        let source = format!("tests/clients/{source}");
        let program = compile("musl-gcc", &["-std=gnu11"], &["-pthread", &source]);
        let outcome = same_with_and_without(&program);
        assert_ne!(outcome.stdout, "");
        let reported = same_with_and_without(&program.clone().env("MRLOCK_REPORT", "stderr"));
        assert_eq!(reported, outcome);
        let logged = program.preloaded().env("MRLOCK_LOG", "info").run();
        assert!(logged.stderr.contains("info: loaded"), "{logged:#?}");
        assert_eq!(
            (logged.status, logged.stdout),
            (outcome.status, outcome.stdout)
        );
    }
}

/// Without a loader, there is no preloading.
#[test]
fn a_statically_linked_program() {
    let program = client("raw_syscalls_static").env("MRLOCK_LOG", "info");
    let outcome = same_with_and_without(&program).succeeded("raw_syscalls_static");
    assert_eq!(outcome.stderr, "");
}

#[test]
fn programs_started_by_vfork_and_posix_spawn() {
    let outcome = same_with_and_without(&client("spawn")).succeeded("spawn");
    assert_eq!(outcome.stdout, "vfork\nposix_spawn\nstatus 0 and 0\n");
}

/// The loader ignores the preload, and where the library is preloaded into every process, su must still work.
const SU: &str = "/usr/bin/su";

#[test]
fn a_set_uid_program() {
    needs!("a set-uid program", machine::file(SU, "util-linux"));
    let mode = fs::metadata(SU).expect("su").permissions().mode();
    assert_ne!(mode & 0o4000, 0, "{SU} is not set-uid");
    // For root the loader does not ignore the preload, because root gains nothing: start su as nobody.
    let become_nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let mut program = match machine::is_root() {
        true => Program::new("setpriv").args(become_nobody).arg("env"),
        false => Program::new("env"),
    };
    // Preloaded into su only.
    let setting = format!("LD_PRELOAD={}", crate::common::library().display());
    let without = program.clone().arg(SU).arg("--version").run();
    program = program.arg(setting).arg("MRLOCK_LOG=info");
    let with = program.arg(SU).arg("--version").run();
    assert_eq!(with, without.succeeded("su"));
}
