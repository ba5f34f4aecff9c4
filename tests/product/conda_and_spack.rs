//! packaging/conda and packaging/spack, by which others build the package from source.

use crate::common::{build, install, ioctl_library, library, machine, mrlock, scratch, target_dir};
use std::{env, fs, process::Command};

/// rattler-build accepts the recipe, makes the package, and runs the recipe's own tests in it. There is no channel of packages:
/// see tests/recipes/conda.py. The script of the recipe finds everything built.
#[test]
fn the_recipe_for_conda() {
    needs!(
        "the recipe for conda",
        machine::fetched("rattler").map(drop)
    );
    install(&scratch("prefix"));
    let output = scratch("conda");
    fs::create_dir(&output).expect("a scratch directory");
    // In copies, so that make takes them for new, and writes to none that others use.
    let copy = |file: &std::path::Path| {
        let mut cp = Command::new("cp");
        build(cp.arg("-R").args([file, &output]));
        output.join(file.file_name().expect("a name"))
    };
    let flags = format!(
        "CARGO=false LIBRARY={} IOCTL_LIBRARY={} COMMAND={} PAGES={}",
        copy(library()).display(),
        copy(ioctl_library()).display(),
        copy(mrlock()).display(),
        copy(&target_dir().join("pages")).display()
    );
    let mut python = Command::new("python3");
    python.args(["tests/recipes/conda.py", "packaging/conda/recipe.yaml"]);
    python.arg(&output).env("MAKEFLAGS", flags);
    let rattler = machine::fetched("rattler").expect("checked above");
    python.env("PYTHONPATH", rattler);
    python.env("RATTLER_CACHE_DIR", output.join("cache"));
    let said = python.output().expect("python3");
    let lines = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success(), "{said:?}");
    let package = concat!("built mrlock-", env!("CARGO_PKG_VERSION"), "-");
    for expected in ["build requires rust_linux-64", package] {
        assert!(lines.contains(expected), "no {expected:?} in {lines}");
    }
    let _ = fs::remove_dir_all(output);
}

/// What `spack style` asks of a package. (`spack audit` needs Spack itself, which is in no package: see the recipe.)
#[test]
fn the_style_of_the_recipe_for_spack() {
    needs!("the recipe for Spack", machine::fetched("ruff").map(drop));
    let ruff = machine::fetched("ruff").expect("checked above") + "/bin/ruff";
    let recipe = "packaging/spack/spack_repo/mrlock/packages/mrlock/package.py";
    let order = "lint.isort.section-order=['future', 'standard-library', 'third-party', 'spack', 'first-party', 'local-folder']";
    let section = "lint.isort.sections={spack=['spack']}";
    let check = ["check", "--select=E,F,W,I", "--ignore=F403,F405"];
    for arguments in [
        &[&check[..], &["--config", order, "--config", section]].concat()[..],
        &["format", "--check"],
    ] {
        let mut ruff = Command::new(&ruff);
        ruff.args(arguments);
        ruff.args(["--isolated", "--no-cache", "--line-length=99", recipe]);
        let output = ruff.output().expect("ruff");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
    }
}
