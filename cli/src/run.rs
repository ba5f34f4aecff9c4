//! `mrlock run`: this process becomes the command, with libmrlock.so preloaded; or one line says why that cannot be.

mod files;
mod handed_over;
mod library;
mod program;
pub mod shell;

use crate::{
    arguments,
    failure::{self, Failure},
};
use std::{
    env,
    ffi::{CString, OsStr, OsString},
    io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{self, Path, PathBuf},
    process::ExitCode,
    ptr,
};

/// Exit status: mrlock refuses to run the command.
pub const REFUSED: u8 = 125;
/// Exit status: the command cannot be run.
const CANNOT_RUN: u8 = 126;
/// Exit status: there is no such command.
const NOT_FOUND: u8 = 127;

fn refused(message: impl Into<String>) -> Failure {
    Failure {
        status: REFUSED,
        message: message.into(),
    }
}

/// `name` cannot be run, as env(1) would say it.
fn cannot_run(name: &OsStr, error: &io::Error) -> Failure {
    let status = match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        _ => CANNOT_RUN,
    };
    let message = format!("{}: {error}", name.display());
    Failure { status, message }
}

/// Returns only if the command is not run.
pub fn run(arguments: arguments::Run) -> Result<ExitCode, Failure> {
    let Some(command) = arguments.command.first() else {
        return Err(refused("no COMMAND; see mrlock run --help"));
    };
    let library = library::usable(&arguments.hooks)?;
    let program = program::find(command)?;
    let about_program = program::check(&program, &library)?;
    let variables = variables(&arguments)?;
    if let Some(warning) = handed_over::warning(&arguments.command).or(about_program) {
        failure::say(warning);
    }
    for (variable, value) in variables {
        set(variable, &value);
    }
    set("LD_PRELOAD", &preload_list(&library));
    let error = replace_process(&program, &arguments.command);
    Err(cannot_run(program.as_os_str(), &error))
}

/// The variables that the options set.
fn variables(arguments: &arguments::Run) -> Result<Vec<(&'static str, OsString)>, Failure> {
    let gpu = |value: &str| arguments.gpu.then(|| value.to_owned());
    let list = |words: &Option<Vec<String>>| words.as_ref().map(|words| words.join(","));
    let words = [
        ("MRLOCK", arguments.observe.then(|| "observe".into())),
        ("MRLOCK_CALLS", list(&arguments.calls)),
        ("MRLOCK_MEMORY", arguments.memory.clone().or(gpu("device"))),
        ("MRLOCK_HOOKS", arguments.hooks.list()),
        ("MRLOCK_LOG", arguments.log.clone()),
        (
            "MRLOCK_WARN_AFTER",
            arguments.warn_after.map(|seconds| seconds.to_string()),
        ),
    ];
    let mut variables: Vec<_> = words
        .into_iter()
        .filter_map(|(variable, value)| Some((variable, value?.into())))
        .collect();
    let is_word =
        |name: &&PathBuf| [Path::new("off"), Path::new("stderr")].contains(&name.as_path());
    if let Some(word) = arguments.report.as_ref().filter(is_word) {
        variables.push(("MRLOCK_REPORT", word.into()));
    }
    let report = arguments.report.as_ref().filter(|name| !is_word(name));
    for (option, variable, name) in [
        ("--report", "MRLOCK_REPORT", report),
        ("--trace", "MRLOCK_TRACE", arguments.trace.as_ref()),
    ] {
        let inherited = || env::var_os(variable).map(PathBuf::from);
        if let Some(name) = name {
            let absolute =
                absolute(name).map_err(|error| refused(format!("{}: {error}", name.display())))?;
            check_file(option, &absolute)?;
            variables.push((variable, absolute.into()));
        } else if let Some(name) = inherited().filter(|name| name.is_absolute())
            && !variables.iter().any(|(set, _)| *set == variable)
        {
            check_file(variable, &name)?;
        }
    }
    Ok(variables)
}

/// The name from the root directory on, because the command may change its directory. In that of a directory, a per cent sign is no
/// placeholder.
fn absolute(name: &Path) -> io::Result<PathBuf> {
    let absolute = path::absolute(name)?;
    if name.is_absolute() {
        return Ok(absolute);
    }
    let here = env::current_dir()?;
    let Ok(given) = absolute.strip_prefix(&here) else {
        return Ok(absolute);
    };
    let parts: Vec<_> = here
        .as_os_str()
        .as_bytes()
        .split(|&byte| byte == b'%')
        .collect();
    Ok(PathBuf::from(OsString::from_vec(parts.join(&b"%%"[..]))).join(given))
}

/// Refuses a file that the library could not write to: it would say so only at the end.
fn check_file(given_by: &str, name: &Path) -> Result<(), Failure> {
    let is_record = matches!(given_by, "--trace" | "MRLOCK_TRACE");
    if given_by == "--trace" && files::holds_a_record(name) {
        let shown = name.display();
        return Err(refused(format!(
            "--trace={shown}: it holds the record of an earlier run: remove it, or name another file"
        )));
    }
    files::can_be_made(name, is_record).map_err(|error| {
        let shown = name.display();
        refused(format!("{given_by}={shown}: {error}: name another file"))
    })
}

/// The value of LD_PRELOAD with the library in it.
fn preload_list(library: &Path) -> OsString {
    with_library(env::var_os("LD_PRELOAD").unwrap_or_default(), library)
}

/// `others` with the library: first, or after a sanitizer's runtime, which must be the first.
fn with_library(others: OsString, library: &Path) -> OsString {
    const SANITIZERS: [&[u8]; 3] = [b"libasan.so", b"libtsan.so", b"libclang_rt."];
    let is_separator = |byte: &u8| matches!(byte, b':' | b' ');
    let (library, mut others) = (library.as_os_str().as_bytes(), others.into_vec());
    // Beside libmrlock.so, which has the names of libibverbs, the library without them would be of no use.
    let has_names = |entry: &[u8]| file_name(entry).starts_with(b"libmrlock.so");
    if file_name(library).starts_with(b"libmrlock-ioctl.so")
        && others.split(is_separator).any(has_names)
    {
        let rest = others.split(is_separator).filter(|entry| !has_names(entry));
        others = rest.collect::<Vec<_>>().join(&b':');
    }
    if others.is_empty() {
        return OsString::from_vec(library.to_vec());
    }
    let (mut end, mut behind) = (0, None);
    for entry in others.split(is_separator) {
        end += entry.len();
        if SANITIZERS
            .iter()
            .any(|start| file_name(entry).starts_with(start))
        {
            behind = Some(end);
        }
        end += 1;
    }
    let rest = behind.map_or(0, |end| (end + 1).min(others.len()));
    if others[rest..].split(is_separator).next() == Some(library) {
        return OsString::from_vec(others); // it is there already
    }
    let list = match behind {
        None => [library, b":", &others].concat(),
        Some(end) => [&others[..end], b":", library, &others[end..]].concat(),
    };
    OsString::from_vec(list)
}

/// What comes after the last slash.
fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

fn set(variable: &str, value: &OsStr) {
    // SAFETY: this process has one thread.
    unsafe { env::set_var(variable, value) };
}

/// Runs `program` in place of this process. It does not use std's `Command::exec`, which sorts the environment and resets signals.
fn replace_process(program: &Path, arguments: &[OsString]) -> io::Error {
    // No string of a command line or of PATH has a NUL in it.
    let text = |text: &OsStr| CString::new(text.as_bytes()).unwrap_or_default();
    let (program, arguments): (_, Vec<_>) = (
        text(program.as_os_str()),
        arguments.iter().map(|argument| text(argument)).collect(),
    );
    let pointers: Vec<_> = arguments
        .iter()
        .map(|argument| argument.as_ptr())
        .chain([ptr::null()])
        .collect();
    // SAFETY: NUL-terminated strings, and a list of them that ends with a null pointer.
    unsafe { libc::execvp(program.as_ptr(), pointers.as_ptr()) };
    io::Error::last_os_error()
}
