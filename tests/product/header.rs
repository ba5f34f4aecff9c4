//! `include/mrlock.h`: generated from `src/api.rs`; compiles as C and C++ with gcc, before and after verbs.h.

use crate::common::{compile, machine, scratch};
use std::{fs, path::Path, process::Command};

/// The header that follows from the present `src/api.rs`, `src/record/counters.rs` and `cbindgen.toml`.
fn generated() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // cbindgen exports functions marked no_mangle. It does not know `export!`.
    let source = fs::read_to_string(root.join("src/api.rs")).expect("src/api.rs");
    let marked = source.replace(
        "\nextern \"C\" fn",
        "\n#[unsafe(no_mangle)]\npub extern \"C\" fn",
    );
    let marked = marked.replace(
        "\nunsafe extern \"C\" fn",
        "\n#[unsafe(no_mangle)]\npub unsafe extern \"C\" fn",
    );
    let copy = scratch("api.rs");
    fs::write(&copy, marked).expect("a scratch file");
    let bindings = cbindgen::Builder::new()
        .with_config(
            cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml"),
        )
        .with_src(root.join("src/record/counters.rs"))
        .with_src(&copy)
        .generate()
        .expect("a header");
    let mut header = Vec::new();
    bindings.write(&mut header);
    let header = String::from_utf8(header).expect("text");
    header
        .replace("@MAJOR@", env!("CARGO_PKG_VERSION_MAJOR"))
        .replace("@MINOR@", env!("CARGO_PKG_VERSION_MINOR"))
        .replace("@PATCH@", env!("CARGO_PKG_VERSION_PATCH"))
}

/// `make header` sets `MRLOCK_HEADER`; then the header is written to that file instead.
#[test]
fn is_up_to_date() {
    if let Some(file) = std::env::var_os("MRLOCK_HEADER") {
        fs::write(file, generated()).expect("the header can be written");
        return;
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/mrlock.h");
    let checked_in = fs::read_to_string(file).unwrap_or_default();
    assert!(
        checked_in == generated(),
        "include/mrlock.h is not what src/api.rs and cbindgen.toml make: run `make header`"
    );
}

/// Alone, and before and after verbs.h, which defines `ibv_reg_mr` as a macro: the system's verbs.h and the fake one.
#[test]
fn compiles_as_c99_and_as_cpp_without_a_warning() {
    let verbs_h = machine::file("/usr/include/infiniband/verbs.h", "libibverbs-dev");
    let has_real_header = machine::has("mrlock.h beside the system's verbs.h", verbs_h);
    let (ours, verbs) = ("#include <mrlock.h>\n", "#include <infiniband/verbs.h>\n");
    for (order, name) in [
        ([ours, ours], "twice"),
        ([ours, verbs], "before"),
        ([verbs, ours], "after"),
    ] {
        for (mode, weak) in [("", ""), ("weak", "#define MRLOCK_WEAK\n")] {
            let source = scratch(&format!("{name}{mode}.c"));
            fs::write(&source, [weak, order[0], order[1], USE].concat()).expect("a scratch file");
            let source = source.to_str().expect("a name");
            for language in ["c -std=c99", "c++ -std=c++11", "c++ -std=c++20"] {
                let (language, standard) = language.split_once(' ').expect("two words");
                let real = has_real_header.then_some("-I.");
                for verbs in real.into_iter().chain(["-Itests/fake_libibverbs"]) {
                    let flags = ["-Wshadow", "-x", language, standard, verbs, "-c"];
                    compile(
                        if language == "c" { "cc" } else { "c++" },
                        &flags,
                        &[source],
                    );
                }
            }
        }
    }
}

/// A guard without a name unlocks at once. The compiler says so, in C++11 too, and -Werror makes it an error; not for one with a
/// name, and not for one that is ignored on purpose.
#[test]
fn a_guard_without_a_name_is_warned_of() {
    for standard in ["c++11", "c++14", "c++17", "c++20"] {
        for (statement, warned) in [
            ("mrlock_guard();", true),
            ("mrlock_guard{};", true),
            ("mrlock_guard guard;", false),
            ("(void)mrlock_guard();", false),
        ] {
            let source = scratch("guard");
            let body = format!("#include <mrlock.h>\nvoid run();\nvoid run() {{ {statement} }}\n");
            fs::write(&source, body).expect("a scratch file");
            let mut compiler = Command::new("c++");
            compiler.args(["-Wall", "-Wextra", "-pedantic", "-Werror", "-Iinclude"]);
            compiler.args(["-x", "c++", "-fsyntax-only", &format!("-std={standard}")]);
            compiler.current_dir(env!("CARGO_MANIFEST_DIR"));
            let output = compiler.arg(&source).output().expect("c++");
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(
                !output.status.success(),
                warned,
                "{standard}: {statement} {said}"
            );
            assert_eq!(said.contains("-Werror=unused"), warned, "{said}");
        }
    }
}

const USE: &str = r#"
#if MRLOCK_VERSION_MAJOR * 10000 + MRLOCK_VERSION_MINOR * 100 + MRLOCK_VERSION_PATCH < 100
#error "an older header"
#endif
int use(struct mrlock_snapshot *stats, const char **versions);
int use(struct mrlock_snapshot *stats, const char **versions)
{
    versions[0] = MRLOCK_VERSION;
    versions[1] = mrlock_version();
#ifdef __cplusplus
    mrlock_guard guard;
    mrlock_snapshot all = mrlock_snapshot();
#else
    struct mrlock_snapshot all = {.calls = 0, .waits = 0};
#endif
    *stats = all;
    if (mrlock_lock() || mrlock_stats(MRLOCK_ALL, stats, sizeof *stats) || mrlock_unlock())
        return -1;
    return mrlock_active() == (MRLOCK_ACTIVE_VERBS | MRLOCK_ACTIVE_IOCTL);
}
"#;
