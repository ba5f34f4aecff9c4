//! Makes `src/lock` take its atomics from loom.

fn main() {
    println!("cargo::rustc-cfg=loom");
}
