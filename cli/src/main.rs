//! `mrlock`: runs a command with libmrlock.so, says whether it is needed, and shows what it does.

// std's start would ignore SIGPIPE, and would open /dev/null in place of a closed stdin, stdout or stderr. The command of
// `mrlock run` would inherit both.
#![cfg_attr(not(test), no_main)]
#![deny(
    unsafe_op_in_unsafe_fn,
    missing_docs,
    clippy::undocumented_unsafe_blocks,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod arguments;
mod doctor;
mod elf_file;
mod failure;
mod installed;
mod record;
mod report;
mod run;
mod status;
mod stress;
mod timeline;

use arguments::{Arguments, Command};
use clap::{CommandFactory, Parser, error::ErrorKind};
use failure::Failure;
use std::{
    env,
    ffi::{OsStr, OsString, c_int},
    path::Path,
    process::{self, ExitCode},
};

#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn main() -> c_int {
    let outcome = parse().and_then(|command| match command {
        Command::Run(arguments) => run::run(arguments),
        Command::Path(hooks) => run::shell::path(&hooks),
        Command::Env(arguments) => run::shell::environment(&arguments),
        Command::Status(arguments) => status::show(arguments),
        Command::Report(arguments) => report::show(arguments),
        Command::Doctor(arguments) => doctor::examine(arguments),
        Command::Stress(arguments) => stress::provoke(arguments),
        Command::Timeline(arguments) => timeline::draw(arguments),
    });
    let code = outcome.unwrap_or_else(|Failure { status, message }| {
        failure::say(message);
        ExitCode::from(status)
    });
    // std does not give access to the number in an `ExitCode`.
    let status = (0..=u8::MAX).find(|&status| ExitCode::from(status) == code);
    // A return would lose what std has not written yet.
    process::exit(status.map_or(1, c_int::from))
}

/// The command line of this process. Ends the process if it asks for help.
fn parse() -> Result<Command, Failure> {
    let mut given: Vec<OsString> = env::args_os().collect();
    // `mrlock-run` is another name for `mrlock run`.
    let name = given.first().and_then(|name| Path::new(name).file_name());
    if name == Some(OsStr::new("mrlock-run")) {
        given.splice(..1, ["mrlock".into(), "run".into()]);
    }
    let is_run = given.get(1).is_some_and(|word| word == "run");
    let subcommands = Arguments::command();
    let subcommand = given
        .get(1)
        .and_then(|word| subcommands.find_subcommand(word))
        .map_or(String::new(), |found| format!(" {}", found.get_name()));
    match Arguments::try_parse_from(given) {
        Ok(arguments) => Ok(arguments.command),
        Err(error)
            if !error.use_stderr()
                || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand =>
        {
            error.exit()
        }
        Err(error) => Err(Failure {
            status: if is_run { run::REFUSED } else { 2 },
            message: format!(
                "{}; see mrlock{subcommand} --help",
                in_one_line(&error.to_string())
            ),
        }),
    }
}

/// The message of clap, which has several lines, as one line without the usage.
fn in_one_line(message: &str) -> String {
    let lines = message
        .trim_start_matches("error: ")
        .lines()
        .map(str::trim)
        // This tip would make the user pass a mistyped option to the command.
        .filter(|line| !line.starts_with("tip: to pass"))
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .filter(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join("; ");
    line.replace(":; ", ": ")
}
