//! A Python environment with the wheel that `make dist` makes.

use super::{Program, build, dist, scratch};
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

pub fn wheel() -> PathBuf {
    let version = env!("CARGO_PKG_VERSION");
    let name = format!("mrlock-{version}-py3-none-manylinux_2_17_x86_64.whl");
    dist().join(name)
}

/// A new environment, without the wheel.
pub fn new_environment() -> PathBuf {
    let environment = scratch("venv");
    let mut python = Command::new("python3");
    build(python.args(["-m", "venv"]).arg(&environment));
    environment
}

pub fn pip(environment: &Path) -> Command {
    let mut pip = Command::new(environment.join("bin/python"));
    pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check"]);
    pip
}

/// Installs the wheel, and asks no index.
pub fn install(environment: &Path) {
    let mut pip = pip(environment);
    build(pip.args(["install", "--no-index"]).arg(wheel()));
}

/// An environment with the wheel.
pub fn environment() -> &'static Path {
    static ENVIRONMENT: OnceLock<PathBuf> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        let environment = new_environment();
        install(&environment);
        environment
    })
}

/// Its library.
pub fn library() -> PathBuf {
    environment().join("lib/libmrlock.so.0")
}

/// Its Python.
pub fn python() -> Program {
    Program::new(environment().join("bin/python"))
}
