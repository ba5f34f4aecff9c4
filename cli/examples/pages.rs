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

use clap::{Arg, Command, CommandFactory};
use clap_complete::Shell;
use std::{env, fs, path::PathBuf};

fn main() -> std::io::Result<()> {
    let directory: PathBuf = env::args_os().nth(1).expect("usage: pages DIR").into();
    let mut command = arguments::Arguments::command();
    // This text is not in the command itself: its --help has to fit on a screen.
    let described = command
        .clone()
        .mut_subcommand("run", |run| run.after_long_help(include_str!("run.txt")))
        .mut_subcommand("env", |env| env.after_long_help(include_str!("env.txt")))
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
        let file = clap_complete::generate_to(shell, &mut command, "mrlock", &directory)?;
        let text = fs::read_to_string(&file)?;
        fs::write(file, with_programs(shell, text, &command))?;
    }
    Ok(())
}

/// The completions with those of the command behind `mrlock run`, which clap_complete has for zsh alone.
fn with_programs(shell: Shell, completions: String, command: &Command) -> String {
    let run = command.find_subcommand("run").expect("it is there");
    let options = run.get_arguments().filter(|option| !option.is_positional());
    match shell {
        Shell::Bash => {
            let with_value = options.filter(|option| words(option) > 0);
            let options: Vec<_> = with_value
                .filter_map(|option| Some(format!("--{}", option.get_long()?)))
                .collect();
            completions + &include_str!("run.bash").replace("@OPTIONS@", &options.join("|"))
        }
        Shell::Fish => {
            let options: Vec<_> = options.map(for_argparse).collect();
            // Behind the command's name, the options are the command's own.
            let ours = "__fish_mrlock_using_subcommand run\"";
            assert!(
                completions.contains(ours),
                "clap_complete names it otherwise"
            );
            let until_command =
                ours.replace('"', "; and not __fish_mrlock_command_of_run >/dev/null\"");
            completions.replace(ours, &until_command)
                + &include_str!("run.fish").replace("@OPTIONS@", &options.join("' '"))
        }
        _ => completions,
    }
}

/// How many words behind it are its value, at least.
fn words(option: &Arg) -> usize {
    option.get_num_args().map_or(0, |range| range.min_values())
}

/// As argparse of fish has it.
fn for_argparse(option: &Arg) -> String {
    let long = option.get_long().expect("every option has a long name");
    let short = option.get_short().map(|short| format!("{short}/"));
    let value = match option.get_num_args() {
        Some(range) if range.min_values() > 0 => "=",
        Some(range) if range.max_values() > 0 => "=?",
        _ => "",
    };
    format!("{}{long}{value}", short.unwrap_or_default())
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
