//! `mrlock`: runs a command with libmrlock.so, says whether it is needed, and shows what it does.

#![deny(
    unsafe_op_in_unsafe_fn,
    missing_docs,
    clippy::undocumented_unsafe_blocks
)]

mod arguments;
mod doctor;
mod failure;
mod run;
mod status;
mod stress;
mod timeline;

use arguments::Command;
use failure::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = match arguments::parse() {
        Command::Run(arguments) => run::run(arguments),
        Command::Status(arguments) => status::show(arguments),
        Command::Doctor(arguments) => doctor::examine(arguments),
        Command::Stress(arguments) => stress::provoke(arguments),
        Command::Timeline(arguments) => timeline::draw(arguments),
    };
    outcome.unwrap_or_else(|Failure { status, message }| {
        eprintln!("mrlock: {message}");
        ExitCode::from(status)
    })
}
