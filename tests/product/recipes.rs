//! packaging/recipes: each is used as it is there, and a client that dies alone finishes with it.

use crate::common::{
    Outcome, Program, build, client, dist, fixtures, machine,
    root::{CLIENT, Root},
    scratch, unpacked,
    venv::{environment, library, python},
};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

fn recipe(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("packaging/recipes")
        .join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(recipe(name)).expect("a recipe")
}

fn has_root() -> machine::Need {
    machine::make_dist().and(machine::debian_roots())
}

/// The words of a list in JSON, of words that need no escape.
fn words(list: &str) -> Vec<&str> {
    list.split('"').skip(1).step_by(2).collect()
}

/// No docker here: its steps are done by hand, in a Debian 12.
#[test]
fn the_dockerfile() {
    needs!("the recipe for Docker", has_root());
    let root = Root::with_client();
    let mut entry_point = Vec::new();
    let recipe = text("Dockerfile");
    for line in recipe
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        match line
            .split_once(' ')
            .expect("an instruction and its arguments")
        {
            ("FROM" | "CMD", _) => {}
            ("COPY", "mrlock_*_amd64.deb /tmp/") => root.copy_package("mrlock"),
            ("RUN", command) => drop(root.run(command).succeeded(command)),
            ("ENTRYPOINT", list) => entry_point = words(list),
            _ => panic!("not an instruction that this test knows: {line}"),
        }
    }
    assert!(!entry_point.is_empty());
    let command = CLIENT.replace("exec", &format!("exec {}", entry_point.join(" ")));
    root.run(&command).succeeded("with the entry point");
}

/// The command of a container after this patch, which Kubernetes' schema allows.
fn patched_command(patch: &str) -> String {
    let mut python = Command::new("python3");
    python.arg("tests/recipes/kubernetes_patch.py");
    python.arg(recipe(patch));
    python.env(
        "PYTHONPATH",
        machine::fetched("validator").expect("checked before"),
    );
    let output = python.output().expect("python3");
    assert!(output.status.success(), "{output:?}");
    let command = String::from_utf8(output.stdout).expect("text");
    command.trim_end().into()
}

/// Unpacks the tarball into this directory.
fn unpack_into(directory: &Path) {
    fs::create_dir_all(directory.parent().expect("not /")).expect("a scratch directory");
    build(Command::new("cp").arg("-R").arg(unpacked()).arg(directory));
}

/// The patch keeps the LD_PRELOAD that the image sets.
#[test]
fn the_patch_for_kubernetes() {
    needs!(
        "the recipe for Kubernetes",
        has_root(),
        machine::fetched("validator").map(drop)
    );
    let command = patched_command("kubernetes.yaml");
    let root = Root::with_client();
    unpack_into(&root.path().join("opt/mrlock"));
    root.copy(
        &fixtures().join("clients/other_ioctl.so"),
        "client/images_own.so",
    );
    let command = CLIENT.replace(
        "exec",
        &format!("export LD_PRELOAD=/client/images_own.so; exec {command}"),
    );
    let outcome = root.run(&command).succeeded("with the patch");
    assert!(
        outcome.stdout.contains("other ioctl: "),
        "the image's own library is absent: {outcome:#?}"
    );
}

/// podman, with images and containers of its own, in a mount namespace in which CDI finds `cdi.yaml` alone. /opt is `opt` there.
fn podman(opt: &Path, commands: &str) -> Outcome {
    // podman's defaults are more than some machines allow.
    let limits = "--ulimit nofile=1024:1024 --ulimit nproc=4096:4096";
    let run = format!("podman run --network none --runtime runc {limits}");
    let options = "--root /run/storage --runroot /run/podman --storage-driver vfs --cgroup-manager cgroupfs \
                   --events-backend none";
    let commands = commands.replace("podman run", &run);
    let commands = commands.replace("podman ", &format!("podman {options} "));
    let script = format!(
        "set -e; mount -t tmpfs none /run; mount -t tmpfs none /dev/shm
         mkdir /run/cdi; cp {} /run/cdi; mount --bind {} /opt
         {commands}",
        recipe("cdi.yaml").display(),
        opt.display()
    );
    let unshare = Program::new("unshare").args(["--mount", "sh", "-c", &script]);
    unshare.run()
}

fn has_podman() -> machine::Need {
    has_root()
        .and(machine::program("podman", "podman"))
        .and(machine::program("runc", "runc"))
}

/// podman runs the client in the root of a Debian 12.
fn container(root: &Root, options: &str, command: &str) -> String {
    let root = root.path().display();
    format!(
        "podman run {options} --env LD_LIBRARY_PATH=/client --rootfs {root} {command} /client/stress -g"
    )
}

#[test]
fn the_specification_for_cdi() {
    needs!("the recipe for CDI", has_podman());
    let root = Root::with_client();
    let opt = scratch("opt");
    unpack_into(&opt.join("mrlock"));
    let run = |options: &str| podman(&opt, &container(&root, options, ""));
    let bare = run("");
    assert!(bare.segfaulted(), "it should die alone: {bare:#?}");
    for device in ["gpu", "all"] {
        let outcome = run(&format!("--device mrlock/library={device}")).succeeded(device);
        assert_eq!(outcome.stderr, "", "{device}");
    }
}

/// A volume is a directory here: the image of the init container copies mrlock there, and the patched command finds it.
#[test]
fn the_init_container() {
    needs!(
        "the recipe for Kubernetes with an init container",
        has_podman(),
        machine::program("busybox", "busybox-static"),
        machine::fetched("validator").map(drop)
    );
    let command = patched_command("kubernetes-init.yaml");
    let root = Root::with_client();
    let (nothing, volume) = (scratch("nothing"), scratch("volume"));
    for directory in [&nothing, &volume] {
        fs::create_dir(directory).expect("a scratch directory");
    }
    let volume = volume.display();
    let commands = format!(
        "mkdir -p /run/busybox/bin /run/context
         cp $(command -v busybox) /run/busybox/bin
         ln -s busybox /run/busybox/bin/sh; ln -s busybox /run/busybox/bin/cp
         tar -C /run/busybox -c . | podman import --quiet - busybox
         cp {}/*.tar.gz /run/context
         podman build --quiet --pull-never --tag your-registry/mrlock --file {} /run/context
         podman run --volume {volume}:/opt/mrlock your-registry/mrlock
         {}",
        dist().display(),
        recipe("init.Dockerfile").display(),
        container(
            &root,
            &format!("--volume {volume}:/opt/mrlock:ro"),
            &command
        )
    );
    podman(&nothing, &commands).succeeded("with the volume");
}

/// Slurm takes each line `export NAME=VALUE` of a task prolog into the task's environment, up to the end of the line.
#[test]
fn the_task_prolog_for_slurm() {
    needs!("the recipe for Slurm", has_root());
    let root = Root::with_client_and_package();
    let prolog = "slurm-task-prolog.sh";
    root.copy(&recipe(prolog), prolog);
    let task = |prolog: &str| {
        let printed = root.run(prolog).succeeded("the prolog").stdout;
        let settings = printed.lines().map(|line| {
            let setting = line.strip_prefix("export ").expect("an assignment");
            format!("\"{setting}\"") // any other quote is a part of the value
        });
        let settings: Vec<_> = settings.collect();
        root.run(&CLIENT.replace("exec", &format!("exec env {}", settings.join(" "))))
    };
    let bare = task("true");
    assert!(bare.segfaulted(), "{bare:#?}");
    let outcome = task(&format!("exec /{prolog}")).succeeded("with the prolog");
    assert_eq!(outcome.stderr, "");
    let by_export = "LD_PRELOAD=$(mrlock path) MRLOCK_MEMORY=device";
    let command = CLIENT.replace("exec", &format!("exec env {by_export}"));
    root.run(&command).succeeded("srun --export");

    root.run("dpkg --purge mrlock").succeeded("dpkg --purge");
    let outcome = root.run(&format!("exec /{prolog}"));
    assert!(
        !outcome.status.success() && outcome.stdout.is_empty(),
        "{outcome:#?}"
    );
}

#[test]
fn ld_so_preload() {
    needs!("the recipe for ld.so.preload", has_root());
    let root = Root::with_client_and_package();
    root.copy(&recipe("ld.so.preload"), "etc/ld.so.preload");
    let outcome = root.run(CLIENT).succeeded("with /etc/ld.so.preload");
    assert_eq!(outcome.stderr, "");
}

/// The drop-in, as systemd reads it. No systemd runs here: the client gets what the drop-in sets from env(1).
#[test]
fn the_drop_in_for_systemd() {
    needs!(
        "the recipe for systemd",
        has_root(),
        machine::program("systemd-analyze", "systemd")
    );
    let units = scratch("units");
    fs::create_dir_all(units.join("server.service.d")).expect("a scratch directory");
    fs::copy(
        recipe("systemd.conf"),
        units.join("server.service.d/mrlock.conf"),
    )
    .expect("a copy");
    let service = "[Service]\nExecStart=/bin/true\n";
    fs::write(units.join("server.service"), service).expect("a scratch file");
    let mut analyze = Command::new("systemd-analyze");
    analyze.args([
        "verify",
        "--recursive-errors=no",
        "--man=no",
        "server.service",
    ]);
    let output = analyze
        .env("SYSTEMD_UNIT_PATH", format!("{}:", units.display()))
        .output();
    let output = output.expect("systemd-analyze");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );

    let root = Root::with_client_and_package();
    let settings = systemd_environment();
    let command = |before: &str| CLIENT.replace("exec", &format!("{before} exec env {settings}"));
    let outcome = root.run(&command("")).succeeded("with the drop-in");
    assert_eq!(outcome.stderr, "");

    // NoExecPaths= is such a mount.
    let library = "/usr/lib/x86_64-linux-gnu/libmrlock.so.0";
    let mount =
        format!("mount --bind {library} {library}; mount -o remount,bind,noexec {library};");
    let outcome = root.run(&command(&mount));
    assert!(outcome.segfaulted(), "{outcome:#?}");
    assert!(
        outcome.stderr.contains("cannot be preloaded"),
        "{outcome:#?}"
    );

    // RootDirectory= is a root without the package.
    root.run("dpkg --purge mrlock").succeeded("dpkg --purge");
    let outcome = root.run(&command(""));
    assert!(outcome.segfaulted(), "{outcome:#?}");
    assert!(
        outcome.stderr.contains("cannot be preloaded"),
        "{outcome:#?}"
    );
}

/// What the drop-in sets, as arguments of env(1).
fn systemd_environment() -> String {
    let recipe = text("systemd.conf");
    let settings = recipe
        .lines()
        .filter_map(|line| line.strip_prefix("Environment="));
    let settings: Vec<_> = settings.collect();
    assert!(!settings.is_empty());
    settings.join(" ")
}

/// SystemCallFilter=~@ipc, of which process_vm_readv is one.
#[test]
fn a_system_call_filter() {
    needs!(
        "the system call filter of the recipe for systemd",
        machine::make_dist()
    );
    let run = |error_number: &str| {
        let python = python().arg("tests/recipes/without_process_vm_readv.py");
        let python = python.arg(error_number).arg(client("stress").name());
        let python = python
            .arg("-g")
            .libibverbs("lib")
            .env("MRLOCK_MEMORY", "device");
        python.env("WITH_PRELOAD", library()).run()
    };
    let killed = run("kill");
    assert!(killed.ended_by(libc::SIGSYS), "{killed:#?}");
    run("EPERM").succeeded("all memory is serialized");
}

#[test]
fn mpirun() {
    needs!(
        "the recipe for mpirun",
        machine::make_dist(),
        machine::program("mpirun", "openmpi-bin")
    );
    let mpirun = |program: Program| {
        let program = program.args(["--allow-run-as-root", "--oversubscribe", "-np", "2"]);
        program
            .arg(client("stress").name())
            .arg("-g")
            .libibverbs("lib")
            .run()
    };
    let bare = mpirun(Program::new("mpirun"));
    assert!(bare.segfaulted(), "it should die alone: {bare:#?}");
    let library = unpacked().join("lib/libmrlock.so.0");
    let script = Program::new(recipe("mpirun.sh")).env("LIBRARY", library);
    mpirun(script).succeeded("with the recipe");
}

/// Workers of all three ways to start them.
#[test]
fn multiprocessing() {
    needs!("the recipe for multiprocessing", machine::make_dist());
    let workers = |program: Program, starts: &str, method: &str| {
        let program = program
            .arg("tests/recipes/workers.py")
            .args([starts, method]);
        let program = program.env("RECIPES", recipe(""));
        let outcome = program.run().succeeded(method);
        outcome.stdout == "the worker has the library\n"
    };
    for method in ["spawn", "forkserver", "fork"] {
        assert!(!workers(python(), "alone", method), "{method}, without");
        let run = Program::new(environment().join("bin/mrlock")).args(["run", "--"]);
        let run = run.arg(python().name());
        assert!(workers(run, "alone", method), "{method}, under mrlock run");
    }
    for method in ["spawn", "forkserver"] {
        assert!(
            workers(python(), "recipe", method),
            "{method}, with the recipe"
        );
    }
}

/// A cluster of one node, in a process namespace of its own, with which it ends. A task says what is in its worker.
#[test]
fn ray() {
    needs!(
        "the recipe for Ray",
        has_root(),
        machine::fetched("ray").map(drop)
    );
    let ray = machine::fetched("ray").expect("checked above");
    let path = env::var("PATH").expect("a PATH");
    let bin = unpacked().join("bin");
    let worker = |start: &str| {
        let log = scratch("ray.log");
        let log = log.display();
        let cluster = format!(
            "mount -t tmpfs none /mnt
             {start} --head --port=0 --node-ip-address=127.0.0.1 --num-cpus=1 --include-dashboard=false \
                 --temp-dir=/mnt >{log} 2>&1 || {{ cat {log} >&2; exit 1; }}
             exec python3 tests/recipes/ray_task.py"
        );
        let unshare = Program::new("unshare").args(["--mount", "--pid", "--fork", "--kill-child"]);
        let unshare = unshare.args(["--mount-proc", "sh", "-c", &cluster]);
        let unshare = unshare
            .env("PYTHONPATH", &ray)
            .env("RAY_USAGE_STATS_ENABLED", "0");
        let unshare = unshare.env("PATH", format!("{}:{ray}/bin:{path}", bin.display()));
        unshare.run().succeeded(start).stdout
    };
    assert_eq!(worker("ray start"), "the worker has no library\n");
    let recipe = recipe("ray.sh").display().to_string();
    assert_eq!(worker(&recipe), "the worker has the library\n");
}
