//! Tells the linker which ELF versions the library defines, and that it must never be unloaded.

use std::{env, fs, path::Path};

/// The version nodes of libibverbs for the entry points in `src/hook/verbs.rs`, and our own node for each release that adds
/// functions to `src/api.rs`: with an older library, the loader refuses to start a program that is linked to such a function, and
/// says why. `.symver` attaches the versions to the symbols; the linker only needs the nodes to exist. All other names are local.
/// rustc writes a script for that; the names in the assembly are repeated here, because zig's linker takes only one script.
const VERSION_SCRIPT: &str = "IBVERBS_1.1 { local: mrlock_entry_*; };\nIBVERBS_1.7 { } IBVERBS_1.1;\n\
     IBVERBS_1.8 { } IBVERBS_1.7;\nIBVERBS_1.15 { } IBVERBS_1.8;\nMRLOCK_0.1 { };\n";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let out_dir = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for build scripts");
    let script = Path::new(&out_dir).join("libmrlock.map");
    fs::write(&script, VERSION_SCRIPT).expect("OUT_DIR is writable");
    println!(
        "cargo::rustc-cdylib-link-arg=-Wl,--version-script={}",
        script.display()
    );
    // The soname is also the name of the base version, which would otherwise be the path of this build.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libmrlock.so.0");
    // A debugger finds the stripped debug symbols by the build id.
    println!("cargo::rustc-cdylib-link-arg=-Wl,--build-id=sha1");
    // An undefined symbol is an error at build time, not in every process that preloads the library.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,defs");
    // A thread may be asleep inside a hook at any time: the library can never be unloaded.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
