//! The command line. The man pages and the shell completions are made from this file (examples/pages.rs).

use clap::{Args, Parser, Subcommand};
use std::{ffi::OsString, path::PathBuf};

/// Lets one thread at a time register RDMA memory: run a command so, ask whether that is needed, and see what happens.
#[derive(Parser)]
#[command(name = "mrlock", version, arg_required_else_help = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Run a command with libmrlock.so preloaded
    Run(Run),
    /// Show what the library does in running processes
    Status(Status),
    /// Say whether this host needs mrlock, and which setting
    Doctor(Doctor),
    /// Register memory from many threads at once, to provoke the race
    Stress(Stress),
    /// Draw a trace: which thread waited when, and which was inside
    Timeline(Timeline),
}

/// Arguments of `mrlock run`.
#[derive(Args)]
pub struct Run {
    /// The command, with its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Arguments of `mrlock status`.
#[derive(Args)]
pub struct Status {}

/// Arguments of `mrlock doctor`.
#[derive(Args)]
#[command(
    after_help = "Exit status: 0 if mrlock is not needed, 1 if it helps, 2 if the host does not tell, or on an error."
)]
pub struct Doctor {
    /// Print JSON, with the source of each answer
    #[arg(long)]
    pub json: bool,
    /// Read proc, sys, etc and usr below DIR
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
}

/// Arguments of `mrlock stress`.
#[derive(Args)]
pub struct Stress {}

/// Arguments of `mrlock timeline`.
#[derive(Args)]
pub struct Timeline {
    /// The trace
    pub file: PathBuf,
    /// Where to draw: a name that ends in .svg or .html
    #[arg(short, long, value_name = "OUT", default_value = "timeline.svg")]
    pub output: PathBuf,
}

/// The command line of this process.
pub fn parse() -> Command {
    Arguments::parse().command
}
