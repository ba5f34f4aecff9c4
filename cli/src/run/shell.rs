//! `mrlock path` and `mrlock env`: what `mrlock run` would set, printed for a shell.

use super::{library, preload_list, variables};
use crate::{arguments, failure::Failure};
use std::{
    ffi::OsStr,
    io::{self, Write as _},
    os::unix::ffi::OsStrExt,
    process::ExitCode,
};

/// `mrlock path`.
pub fn path(hooks: &arguments::Hooks) -> Result<ExitCode, Failure> {
    let library = library::usable(hooks)?;
    print(&[library.as_os_str().as_bytes(), b"\n"].concat())
}

/// `mrlock env`.
pub fn environment(arguments: &arguments::Env) -> Result<ExitCode, Failure> {
    let library = library::usable(&arguments.hooks)?;
    let options = arguments::Run {
        gpu: arguments.gpu,
        hooks: arguments.hooks.clone(),
        ..Default::default()
    };
    let mut variables = variables(&options)?;
    variables.push(("LD_PRELOAD", preload_list(&library)));
    let lines: Vec<_> = variables
        .iter()
        .flat_map(|(variable, value)| {
            let name = format!("export {variable}=").into_bytes();
            [name, quoted(value), b"\n".to_vec()].concat()
        })
        .collect();
    print(&lines)
}

/// One word of sh, bash, zsh or fish. The latter, unlike the others, understands a backslash between single quotes.
fn quoted(value: &OsStr) -> Vec<u8> {
    let mut word = vec![b'\''];
    for &byte in value.as_bytes() {
        match byte {
            b'\'' | b'\\' => word.extend([b'\'', b'\\', byte, b'\'']),
            _ => word.push(byte),
        }
    }
    word.push(b'\'');
    word
}

fn print(text: &[u8]) -> Result<ExitCode, Failure> {
    let mut output = io::stdout().lock();
    output
        .write_all(text)
        .and_then(|()| output.flush())
        .map_err(|error| Failure::new(format!("standard output: {error}")))?;
    Ok(ExitCode::SUCCESS)
}
