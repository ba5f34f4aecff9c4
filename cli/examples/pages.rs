//! `pages DIR`: writes the man pages and the shell completions of `mrlock` into DIR.

#[path = "../src/arguments.rs"]
#[allow(dead_code, reason = "the command line is described here, not parsed")]
mod arguments;
#[path = "../src/doctor/branches.rs"]
#[allow(
    dead_code,
    reason = "the page shows what was seen, not what is fixed where"
)]
mod branches;

use clap::CommandFactory;
use clap_complete::Shell;
use std::{env, path::PathBuf};

fn main() -> std::io::Result<()> {
    let directory: PathBuf = env::args_os().nth(1).expect("usage: pages DIR").into();
    let mut command = arguments::Arguments::command();
    // This text is not in the command itself: its --help has to fit on a screen.
    let described = command
        .clone()
        .mut_subcommand("run", |run| run.after_long_help(include_str!("run.txt")))
        .mut_subcommand("status", |status| {
            status.after_long_help(include_str!("status.txt"))
        })
        .mut_subcommand("report", |report| {
            report.after_long_help(include_str!("report.txt"))
        })
        .mut_subcommand("timeline", |timeline| {
            timeline.after_long_help(include_str!("timeline.txt"))
        })
        .mut_subcommand("doctor", |doctor| doctor.after_long_help(about_drivers()));
    clap_mangen::generate_to(described, &directory)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut command, "mrlock", &directory)?;
    }
    Ok(())
}

/// What is known of each branch of NVIDIA's driver.
fn about_drivers() -> String {
    let mut text = include_str!("doctor.txt").to_owned();
    for branch in branches::BRANCHES {
        text += &format!(
            "\n{}: run: {}; only read: {}\n",
            branch.number, branch.run, branch.read
        );
    }
    text
}
