//! Tells the linker which ELF versions the library defines, and that it must never be unloaded.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The version nodes of libibverbs for the entry points in `src/hook/verbs.rs`, and our own node for each release that adds
/// functions to `src/api.rs`: with an older library, the loader refuses to start a program that is linked to such a function, and
/// says why. `.symver` attaches the versions to the symbols; the linker only needs the nodes to exist. All other names are local.
/// rustc writes a script for that; the names in the assembly are repeated here, because zig's linker takes only one script.
const VERSION_SCRIPT: &str = "IBVERBS_1.1 { local: mrlock_entry_*; };\nIBVERBS_1.7 { } IBVERBS_1.1;\n\
     IBVERBS_1.8 { } IBVERBS_1.7;\nIBVERBS_1.15 { } IBVERBS_1.8;\nMRLOCK_0.1 { };\n";

/// That of libmrlock-ioctl.so, which exports nothing of libibverbs.
const VERSION_SCRIPT_WITHOUT_VERBS: &str = "MRLOCK_0.1 { local: mrlock_entry_*; };\n";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let out_dir = PathBuf::from(variable("OUT_DIR"));
    let script = out_dir.join("libmrlock.map");
    let (versions, name) = if env::var_os("CARGO_FEATURE_VERBS").is_some() {
        (VERSION_SCRIPT, "libmrlock")
    } else {
        (VERSION_SCRIPT_WITHOUT_VERBS, "libmrlock-ioctl")
    };
    fs::write(&script, versions).expect("OUT_DIR is writable");
    let mut arguments = vec![
        format!("-Wl,--version-script={}", script.display()),
        // The soname is also the name of the base version, which would otherwise be the path of this build.
        format!("-Wl,-soname,{name}.so.0"),
        // A debugger finds the stripped debug symbols by the build id.
        "-Wl,--build-id=sha1".into(),
        // An undefined symbol is an error at build time, not in every process that preloads the library.
        "-Wl,-z,defs".into(),
        // Nothing here needs the start files of the C compiler, which bring data, a constructor and a destructor.
        "-nostartfiles".into(),
        // A thread may be asleep inside a hook at any time: the library can never be unloaded.
        "-Wl,-z,nodelete".into(),
    ];
    if refuses_two_scripts(&out_dir, &[]) {
        let lld = [format!("-B{}", rust_lld().display()), "-fuse-ld=lld".into()];
        if refuses_two_scripts(&out_dir, &lld) {
            println!(
                "cargo::error=the linker is GNU ld, which refuses the library's version script beside that of rustc: \
                 install lld, or use a toolchain of rustup, which has it"
            );
        }
        arguments.extend(lld);
    }
    for argument in arguments {
        println!("cargo::rustc-cdylib-link-arg={argument}");
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| panic!("{name}, which cargo sets: {error}"))
}

/// Whether the linker that rustc would use, with these arguments, takes no script with named versions beside the one that rustc
/// passes, which has no name. GNU ld does not. A library of one function is linked to find out; any other failure is left to the
/// link of the library itself, to report.
fn refuses_two_scripts(out_dir: &Path, arguments: &[String]) -> bool {
    let [source, script] = ["probe.rs", "probe.map"].map(|name| out_dir.join(name));
    fs::write(
        &source,
        "#![no_std]\n#[panic_handler]\nfn panic(_: &core::panic::PanicInfo) -> ! {\n    loop {}\n}\n\
         #[unsafe(no_mangle)]\nextern \"C\" fn probe() {}\n",
    )
    .expect("OUT_DIR is writable");
    fs::write(&script, "PROBE { };\n").expect("OUT_DIR is writable");
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["--edition=2024", "--crate-type=cdylib", "-Cpanic=abort"]);
    rustc.args(["--target", &variable("TARGET")]);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        rustc
            .arg("-C")
            .arg(format!("linker={}", linker.to_string_lossy()));
    }
    let flags = variable("CARGO_ENCODED_RUSTFLAGS");
    rustc.args(flags.split('\x1f').filter(|flag| !flag.is_empty()));
    rustc.arg(format!(
        "-Clink-arg=-Wl,--version-script={}",
        script.display()
    ));
    rustc.args(
        arguments
            .iter()
            .map(|argument| format!("-Clink-arg={argument}")),
    );
    rustc.arg(source).arg("-o").arg(out_dir.join("probe.so"));
    let output = rustc.env("LC_ALL", "C").output();
    output.is_ok_and(|output| {
        let said = String::from_utf8_lossy(&output.stderr);
        !output.status.success() && said.contains("anonymous version tag")
    })
}

/// Where a toolchain of rustup has lld under the name by which the C compiler looks for it.
fn rust_lld() -> PathBuf {
    let output = Command::new(variable("RUSTC"))
        .args(["--print", "sysroot"])
        .output();
    let sysroot = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    Path::new(&sysroot.unwrap_or_default())
        .join("lib/rustlib")
        .join(variable("HOST"))
        .join("bin/gcc-ld")
}
