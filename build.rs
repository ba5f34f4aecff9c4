//! Tells the linker which ELF versions the library defines, and that it stays loaded.

use std::{env, fs, path::Path};

/// The version nodes of libibverbs that the entry points in `src/hook/verbs.rs` belong to, and our own, named for the release
/// that a function of `src/api.rs` came with: a program that is linked to it is not started with an older library, and its user is told
/// why. The names are attached there by `.symver`; the linker only needs the nodes to exist. Other names are local: rustc says
/// so in a script of its own, and here it is said again of those in the assembly, because zig's linker takes one script only.
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
    // An undefined symbol is an error here, not in every process that is told to preload the library.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,defs");
    // A thread may be asleep inside a hook at any time: the library can never be unloaded.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
