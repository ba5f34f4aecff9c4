//! The library is preloaded into programs and runtimes that do not use verbs. Their output, exit status and standard error are the
//! same to the byte with no setting. With `MRLOCK_REPORT`, no report is written, because there is nothing to report; with
//! MRLOCK_LOG=debug, only the lines of the log are added.

use crate::common::{Program, machine, scratch};
use std::fs;

/// Runs a shell script in an empty directory, without and with the library. At least `processes` processes must load the library.
/// `needed` names the programs or files that the script needs, each with its Debian package.
fn unchanged(name: &str, needed: &[(&str, &str)], processes: usize, script: &str) {
    for (file, package) in needed {
        let need = if file.starts_with('/') {
            machine::file(file, package)
        } else {
            machine::program(file, package)
        };
        needs!(&format!("a stranger, {name}"), need);
    }
    let directory = scratch(&format!("stranger-{name}"));
    let path = directory.display();
    // The directory has the same name every time: some programs print it.
    let script = format!("rm -rf {path} && mkdir {path} && cd {path} || exit\n{script}");
    let bare = Program::new("bash")
        .arg("-c")
        .arg(script)
        .env("LC_ALL", "C");
    let preloaded = bare.preloaded();

    let without = bare.run();
    assert_ne!(without.stdout, "", "it said nothing: {without:#?}");
    assert_eq!(
        preloaded.run(),
        without,
        "left: with the library; right: without"
    );

    let report = scratch("report");
    let asked = preloaded.env("MRLOCK_REPORT", &report);
    let mut with = asked.env("MRLOCK_LOG", "debug").run();
    assert!(!report.exists(), "there is a report");
    let lines = take_our_lines(&mut with.stderr);
    assert_eq!(
        with, without,
        "left: with its log and a report asked for, less the log's lines; right: without"
    );
    let loaded = lines
        .iter()
        .filter(|line| line.contains("]: info: loaded"))
        .count();
    assert!(
        loaded >= processes,
        "{loaded} processes loaded it: {lines:#?}"
    );
    let _ = fs::remove_dir_all(directory);
}

/// Takes the lines of the log out of `stderr`. They may begin in the middle of a line that another process has not ended yet.
fn take_our_lines(stderr: &mut String) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(start) = stderr.find("mrlock[") {
        let end = stderr[start..]
            .find('\n')
            .map_or(stderr.len(), |end| start + end + 1);
        lines.push(stderr.drain(start..end).collect());
    }
    lines
}

macro_rules! strangers {
    ($($test:ident: $($file:literal of $package:literal),+; $processes:literal $script:literal)*) => {
        $(#[test]
        fn $test() {
            unchanged(stringify!($test), &[$(($file, $package)),+], $processes, $script);
        })*
    };
}

// Shells and pipelines.
strangers! {
    bash: "bash" of "bash"; 9 r#"
        trap 'echo at exit' EXIT; coproc cat; echo through >&"${COPROC[1]}"; read -r line <&"${COPROC[0]}"; echo "$line"
        exec {COPROC[1]}>&-; wait; for i in 1 2 3; do (sleep 0; exit $i) & wait $!; echo $?; done
        diff <(seq 3) <(seq 2 4); kill -SEGV $BASHPID"#

    tar_and_compressors: "xz" of "xz-utils", "zstd" of "zstd"; 10 r#"
        seq 200000 >numbers; tar -cf - --mtime=@0 --owner=0 --group=0 numbers | tee >(md5sum >sum) | gzip -n | gunzip | tar -xO | md5sum
        for with in gzip bzip2 'xz -T2' 'zstd -qT2'; do $with -c <numbers | $with -dc | md5sum; done
        gzip -d <numbers; xz -d nowhere"#

    xargs_and_find: "find" of "findutils"; 12 r#"
        seq 40 | xargs -P 4 -n 10 echo | sort; seq 3 | xargs -I{} sh -c 'exit {}'; echo $?
        find /usr/include/linux -name 'if_*.h' -exec grep -l ioctl {} + | sort; timeout 0.1 sleep 9; echo $?"#

    awk_bc_and_jq: "gawk" of "gawk", "bc" of "bc", "jq" of "jq"; 4 r#"
        gawk 'BEGIN { "echo sub" | getline x; print x; print strftime("%F", 0, 1); print 1 > "/dev/stderr"; exit 4 }'; echo $?
        echo '2^200' | bc; echo '{"a": [1, 2.5]}' | jq -c '.a | add, ("x" | error)'"#
}

// Runtimes.
strangers! {
    python: "/usr/bin/python3" of "python3"; 4 r#"
        /usr/bin/python3 -c '
import atexit, ctypes, concurrent.futures, fcntl, hashlib, mmap, os, signal, sqlite3, subprocess, sys, termios, zlib
atexit.register(print, "at exit")
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    print(list(pool.map(lambda n: hashlib.sha256(bytes(n)).hexdigest()[:8], range(100000, 100032))))
if (child := os.fork()) == 0:
    os._exit(3)
print(os.waitpid(child, 0)[1], ctypes.CDLL(None).abs(-3), sqlite3.connect(":memory:").execute("select 2+2").fetchall())
print(subprocess.run(["sh", "-c", "echo out; echo err >&2; exit 5"]))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
signal.setitimer(signal.ITIMER_REAL, 0.01); print(signal.sigwait([signal.SIGALRM]))
try:
    fcntl.ioctl(0, termios.TCGETS, bytes(60))
except OSError as error:
    print(error)
raise SystemExit("an error")'"#

    node: "node" of "nodejs"; 3 r#"
        node -e '
const { Worker, isMainThread } = require("worker_threads"), { execSync, spawn } = require("child_process"), fs = require("fs");
for (let i = 1; i < 3; i++) new Worker("process.exitCode = " + i, { eval: true }).on("exit", code => code == i || console.log("no"));
console.log(execSync("echo sub").toString(), require("zlib").gunzipSync(require("zlib").gzipSync("zip")).toString());
console.log(require("crypto").createHash("md5").update("x").digest("hex"));
spawn("sh", ["-c", "exit 7"]).on("exit", code => { console.log("child", code); console.error("an error"); process.exitCode = 6; });
fs.readFile("/nowhere", error => process.on("exit", () => console.log(error.code)));'"#

    java: "keytool" of "openjdk-17-jre-headless"; 3 r#"
        java --version; java --list-modules | md5sum
        keytool -genkeypair -alias me -keyalg EC -dname CN=me -keystore store -storepass 'pass word' 2>/dev/null
        keytool -list -keystore store -storepass 'pass word' | grep -c PrivateKeyEntry; keytool -list -keystore nowhere; java Nothing"#

    // A program in Go that is linked to libc, and that runs C code before Go's own start.
    go: "runc" of "runc"; 3 r#"
        runc --version; runc features | md5sum; runc spec && md5sum <config.json; runc --root "$PWD" state nobody 2>log; echo $?; grep -o 'msg=.*' log"#

    perl: "perl" of "perl"; 4 r#"
        perl -MPOSIX -Mthreads -e '
my @threads = map { my $n = $_; threads->create(sub { $n * $n }) } 1 .. 4; print join(" ", map { $_->join } @threads), "\n";
pipe(my $r, my $w); if (!fork) { print $w "child\n"; exit 4 } wait; close $w; print <$r>, $? >> 8, "\n"; print `echo sub`;
$SIG{USR1} = sub { print "signal\n" }; kill USR1 => $$; my $x = ""; print ioctl(STDIN, 0x5401, $x) ? "a terminal\n" : "$!\n";
END { print "at exit\n" } die "dies\n"'"#

    ruby: "ruby" of "ruby"; 3 r#"
        ruby -e 'puts (1..4).map { |n| Thread.new { n * n } }.map(&:value).inspect, `echo sub`; at_exit { puts "at exit" }
pid = fork { exit! 3 }; Process.wait pid; puts $?.exitstatus; abort "aborts"'"#

    php: "php" of "php-cli"; 3 r#"
        php -r 'echo md5("x"), " ", shell_exec("echo sub"), json_encode([1, 2]), "\n"; fwrite(STDERR, "an error\n"); exit(3);'"#

    tcl: "tclsh" of "tcl"; 3 r#"
        echo 'puts [exec -ignorestderr echo sub]; after 1 {set x 1}; vwait x; puts $x; puts stderr {an error}; exit 3' >a.tcl
        tclsh a.tcl"#

    lua_and_prolog: "lua5.4" of "lua5.4", "luajit" of "luajit", "swipl" of "swi-prolog-nox"; 6 r#"
        echo 'io.write(io.popen("echo sub"):read("a"), 2^53, "\n"); io.stderr:write("an error\n"); os.exit(3)' >a.lua
        lua5.4 a.lua; echo $?; luajit a.lua; echo $?
        swipl -g 'concurrent_maplist([X,Y]>>(Y is X*X),[1,2,3],L),writeln(L),halt(4)'"#

    rust: "rustc" of "rustc"; 2 r#"
        printf 'fn main() { let t = std::thread::spawn(|| 6 * 7); println!("{}", t.join().unwrap()); std::process::exit(5) }' >a.rs
        rustc -O a.rs && ./a"#
}

// Programs that look into processes, or replace their allocator or clock.
strangers! {
    gdb: "gdb" of "gdb", "gcc" of "gcc"; 5 r#"
        printf '#include <stdio.h>\nint f(int n) { return n * 2; }\nint main(void) { printf("%%d\\n", f(4)); return 3; }\n' >a.c
        gcc -g -O0 a.c -o a
        gdb -nx -batch -ex 'break f' -ex run -ex bt -ex 'print n' -ex finish -ex 'call f(21)' -ex continue -ex 'print $_exitcode' ./a \
            | sed 's/process [0-9]*/process N/; s/0x[0-9a-f]*/A/'"#

    strace: "strace" of "strace"; 4 r#"
        strace -qq -f -e trace=write,exit_group -e signal=none -o calls sh -c 'echo one; /bin/echo two; exit 3'; echo $?
        sed 's/^[0-9]* *//' calls | grep -v 'mrlock\['"#

    valgrind: "valgrind" of "valgrind", "gcc" of "gcc"; 5 r#"
        printf '#include <stdlib.h>\n#include <stdio.h>\nint main(int n, char **a) { char *p = malloc(4); puts("runs"); (void)a; return n > 1 ? p[4] & 1 : (free(p), 5); }\n' >a.c
        gcc -g -O0 a.c -o a; valgrind -q --leak-check=full --show-leak-kinds=all ./a; echo $?
        valgrind -q --error-exitcode=9 --log-file=log ./a x; echo $?; grep -o 'Invalid read.*' log
        valgrind -q --tool=helgrind ./a; echo $?"#

    jemalloc: "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2" of "libjemalloc2"; 5 r#"
        for list in "libjemalloc.so.2${LD_PRELOAD:+:$LD_PRELOAD}" "${LD_PRELOAD:+$LD_PRELOAD:}libjemalloc.so.2"; do
            LD_PRELOAD=$list /usr/bin/python3 -c 'import threading; print(len([t.start() for t in [threading.Thread(target=bytes, args=(99999,)) for _ in range(8)]]))'
            LD_PRELOAD=$list MALLOC_CONF=no_such:true ls /usr/include/linux | LD_PRELOAD=$list md5sum
        done"#

    tcmalloc: "/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4" of "libtcmalloc-minimal4"; 5 r#"
        for list in "libtcmalloc_minimal.so.4${LD_PRELOAD:+:$LD_PRELOAD}" "${LD_PRELOAD:+$LD_PRELOAD:}libtcmalloc_minimal.so.4"; do
            LD_PRELOAD=$list /usr/bin/python3 -c 'import threading; print(len([t.start() for t in [threading.Thread(target=bytes, args=(99999,)) for _ in range(8)]]))'
            LD_PRELOAD=$list ls /usr/include/linux | LD_PRELOAD=$list md5sum
        done"#

    faketime: "faketime" of "faketime"; 4 r#"
        faketime -f '@2020-01-01 00:00:00' date -u +%F; faketime -f '@1970-01-01 00:00:20 x0' date +%s; faketime -f -10y true; echo $?"#

    address_sanitizer: "gcc" of "gcc"; 6 r#"
        printf '#include <stdlib.h>\n#include <stdio.h>\nint main(int n, char **a) { char *p = malloc(4); puts("runs"); fflush(stdout); (void)a; return n > 1 ? p[n + 2] : (free(p), 5); }\n' >a.c
        gcc -g -fsanitize=address -static-libasan a.c -o static; gcc -g -fsanitize=address a.c -o dynamic
        # The runtime of a program that is linked to it insists on being the first library.
        asan=$(gcc -print-file-name=libasan.so)
        for program in ./static ./dynamic; do
            [ $program = ./static ] && list=$LD_PRELOAD || list="$(realpath "$asan")${LD_PRELOAD:+:$LD_PRELOAD}"
            env LD_PRELOAD="$list" $program; echo $?; env LD_PRELOAD="$list" $program x 2>log; echo $?; grep -o 'ERROR: AddressSanitizer: [a-z-]*' log
        done"#

    undefined_behaviour_sanitizer: "gcc" of "gcc"; 4 r#"
        printf '#include <limits.h>\n#include <stdio.h>\nint main(int n, char **a) { int x = INT_MAX; (void)a; x += n; printf("%%d\\n", x); return 4; }\n' >a.c
        gcc -fsanitize=undefined a.c -o a; ./a; echo $?; gcc -fsanitize=undefined -fno-sanitize-recover a.c -o b; ./b"#
}

// Sandboxes.
strangers! {
    bubblewrap: "bwrap" of "bubblewrap"; 3 r#"
        bwrap --unshare-ipc --unshare-uts --unshare-net --ro-bind / / --dev /dev --tmpfs /run --new-session --die-with-parent --cap-drop ALL \
            bash -c 'ls /run; (echo sub | cat); touch /usr/file; exit 4'"#

    hardened: "setpriv" of "util-linux", "unshare" of "util-linux"; 6 r#"
        mapped=; [ "$(id -u)" = 0 ] || mapped='--user --map-root-user'
        unshare $mapped --mount --ipc --uts prlimit --nofile=32 --core=0 --memlock=0 --fsize=4096 --stack=262144 \
            setpriv --no-new-privs --inh-caps=-all --bounding-set=-all sh -c '
                umask 077; exec 0<&-; echo text >file; stat -c %a file; head -c 9999 /dev/zero >file; echo $?; ulimit -n; grep NoNewPrivs /proc/self/status; exit 4'"#

    no_standard_streams: "bash" of "bash"; 5 r#"
        (sleep 0; cat nowhere) 2>&-; echo $?; (exec <&- >&- 2>&-; seq 3; exit 3); echo $?; sh -c 'exec 2>file; ls nowhere'; grep -v 'mrlock\[' file"#

    // The library is loaded by another libc.
    chroot_with_musl: "musl-gcc" of "musl-tools", "/usr/sbin/chroot" of "coreutils"; 5 r#"
        mkdir -p root/lib; cp -L /lib/ld-musl-x86_64.so.1 root/lib; [ -z "$LD_PRELOAD" ] || install -D "$LD_PRELOAD" "root$LD_PRELOAD"
        printf '#include <pthread.h>\n#include <stdio.h>\n#include <sys/ioctl.h>\n#include <unistd.h>\n#include <sys/wait.h>
            static void *run(void *x) { return x; }
            int main(void) { pthread_t t; int n = 0, p[2]; pthread_create(&t, 0, run, 0); pthread_join(t, 0); pipe(p); write(p[1], "xyz", 3);
            if (!fork()) _exit(6); wait(&n); printf("%%d ", n >> 8); ioctl(p[0], FIONREAD, &n); printf("%%d\\n", n); return 3; }' >a.c
        env -u LD_PRELOAD musl-gcc a.c -o root/a
        root/a; echo $?; mapped=; [ "$(id -u)" = 0 ] || mapped='unshare --user --map-root-user'; $mapped /usr/sbin/chroot root /a"#
}

// Tools.
strangers! {
    git: "git" of "git"; 8 r#"
        export HOME=$PWD GIT_AUTHOR_DATE=@0+0000 GIT_COMMITTER_DATE=@0+0000; git init -q -b main one; cd one
        for i in 1 2 3; do seq $((i * 1000)) >file; git add file; git -c user.name=n -c user.email=e commit -qm "message $i"; done
        git log -p | md5sum; git repack -qad; git clone -q --no-local . ../two; git -C ../two log --oneline; git grep -c 9; git merge nothing"#

    curl: "curl" of "curl", "/usr/bin/python3" of "python3"; 3 r#"
        echo here >f; curl -sS "file://$PWD/f"; curl -sS --max-time 9 http://127.0.0.1:1/ 2>log; echo $?; grep -o 'Failed to connect' log; curl -sS gopher:; curl --version"#

    sqlite: "sqlite3" of "sqlite3"; 2 r#"
        sqlite3 db 'create table t(x); with recursive n(i) as (select 1 union all select i+1 from n where i<9999) insert into t select i from n;
            select sum(x) from t; pragma journal_mode=wal; select no_such from t;'; echo $?; echo .dump | sqlite3 db | md5sum"#

    openssl: "openssl" of "openssl"; 4 r#"
        seq 9999 | openssl enc -aes-256-ctr -K 00 -iv 00 -nosalt 2>/dev/null | openssl dgst -sha256; openssl version
        openssl genpkey -algorithm ed25519 -out key && echo text >text && openssl pkeyutl -sign -rawin -inkey key -in text -out signed
        openssl pkeyutl -verify -rawin -inkey key -in text -sigfile signed; openssl x509 -in nowhere 2>log; echo $?; grep 'Could not' log"#

    cmake_and_make: "cmake" of "cmake", "gcc" of "gcc", "make" of "make"; 20 r#"
        printf 'cmake_minimum_required(VERSION 3.13)\nproject(p C)\nfind_package(Threads)\nadd_executable(a a.c)\n' >CMakeLists.txt
        echo 'int main(void) { return 6; }' >a.c; cmake -S . -B build | sed 's/([0-9.]*s)//'; make -j2 -C build; build/a"#

    dpkg: "dpkg" of "dpkg"; 6 r#"
        mkdir -p p/DEBIAN; printf 'Package: p\nVersion: 1\nArchitecture: all\nMaintainer: m <m@m>\nDescription: d\n' >p/DEBIAN/control
        dpkg-deb --root-owner-group -b p p.deb; dpkg-deb -I p.deb control; dpkg --compare-versions 1 lt 2; echo $?; dpkg-query -W nothing"#

    terminals: "tmux" of "tmux", "script" of "bsdutils"; 6 r#"
        # Standard error is the terminal.
        tmux -L "strange$PPID" -f /dev/null new-session -d -x 60 -y 5 'stty size >size; tmux -L "strange$PPID" wait-for -S done'
        script -qec 'stty rows 21 cols 77; stty size; tput -T xterm cols; exit 6' /dev/null | grep -v 'mrlock\['; echo ${PIPESTATUS[0]}"#
}
