//! The command line. The man pages and the shell completions are made from this file (examples/pages.rs).

use clap::{Args, Parser, Subcommand, ValueHint};
use std::{ffi::OsString, path::PathBuf, time::Duration};

/// Lets one thread at a time register RDMA memory: runs a command with the library, says whether a host needs it, and shows what it does.
#[derive(Parser)]
#[command(
    name = "mrlock",
    version,
    arg_required_else_help = true,
    max_term_width = 80
)]
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
    /// Print the library that `mrlock run` would use
    #[command(after_help = SHELL_STATUS)]
    Path(Hooks),
    /// Print, for a shell, the variables that `mrlock run` would set
    Env(Env),
    /// Show what the library does in running processes
    Status(Status),
    /// Sum up what happened in processes, also in one that was killed
    Report(Report),
    /// Say whether this host needs mrlock, and which setting
    Doctor(Doctor),
    /// Register memory from many threads at once, to provoke the race
    Stress(Stress),
    /// Draw a trace: which thread waited when, and which was inside
    Timeline(Timeline),
}

const SHELL_STATUS: &str = "Exit status: 0; 125: refused, as by mrlock run.";

/// Arguments of `mrlock run`.
#[derive(Args, Default)]
#[command(
    version,
    override_usage = "mrlock run [OPTION]... [--] COMMAND [ARGUMENT]...",
    after_help = "Exit status: COMMAND's; 125: refused; 126: cannot be run; 127: not found."
)]
pub struct Run {
    /// Let calls on host memory through
    #[arg(long)]
    pub gpu: bool,
    /// Serialize nothing; count how many calls meet
    #[arg(long)]
    pub observe: bool,
    /// At exit, say on stderr or in FILE what happened
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "stderr")]
    pub report: Option<PathBuf>,
    /// Keep the calls in FILE, for report and timeline
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// What to serialize
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = ["reg", "dereg", "free"])]
    pub calls: Option<Vec<String>>,
    /// For which memory
    #[arg(long, value_name = "KIND", value_parser = ["any", "device"])]
    pub memory: Option<String>,
    #[command(flatten)]
    pub hooks: Hooks,
    /// Which messages to write to stderr
    #[arg(long, value_name = "LEVEL", value_parser = ["off", "error", "warn", "info", "debug", "trace"])]
    pub log: Option<String>,
    /// After how long inside a call is named; 0 = never
    #[arg(long, value_name = "SECONDS")]
    pub warn_after: Option<u32>,
    /// The command, with its arguments
    #[arg(trailing_var_arg = true, value_name = "COMMAND", value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}

/// The hooks, and with them the library.
#[derive(Args, Clone, Default)]
pub struct Hooks {
    /// Where to catch calls; ioctl: by a library without ibv_* functions
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = ["verbs", "ioctl"])]
    hooks: Option<Vec<String>>,
}

impl Hooks {
    /// The value of MRLOCK_HOOKS.
    pub fn list(&self) -> Option<String> {
        self.hooks.as_ref().map(|words| words.join(","))
    }

    /// Whether `ioctl` alone is wanted.
    pub fn are_ioctl_alone(&self) -> bool {
        let mut words = self.hooks.iter().flatten().peekable();
        words.peek().is_some() && words.all(|word| word == "ioctl")
    }
}

/// Arguments of `mrlock env`.
#[derive(Args)]
#[command(after_help = SHELL_STATUS)]
pub struct Env {
    /// Let calls on host memory through
    #[arg(long)]
    pub gpu: bool,
    #[command(flatten)]
    pub hooks: Hooks,
}

/// Arguments of `mrlock status`.
#[derive(Args)]
#[command(
    override_usage = "mrlock status [OPTION]... PID | --all",
    after_help = "Exit status: 0; 1 if there is no such process.\n\
        With --check, the lowest that applies: 3: the library is not loaded, or serializes nothing; \
        4: a call is inside for longer than --held; 5: a descendant is not covered; 6: a process cannot be looked at; \
        else 0."
)]
pub struct Status {
    /// Of this process, or a thread's process, and its descendants
    #[arg(required_unless_present = "all", conflicts_with = "all", value_parser = clap::value_parser!(i32).range(1..))]
    pub pid: Option<i32>,
    /// Of all processes with the library, and their descendants
    #[arg(long)]
    pub all: bool,
    /// Print JSON, with the counters of each operation
    #[arg(long)]
    pub json: bool,
    /// Print metrics in the OpenMetrics text format
    #[arg(long, conflicts_with = "json")]
    pub openmetrics: bool,
    /// Print again every SECONDS (1), until the processes have ended
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "1", value_parser = time)]
    pub watch: Option<Duration>,
    /// Print one line, and answer with the exit status
    #[arg(long, conflicts_with_all = ["json", "openmetrics", "watch"])]
    pub check: bool,
    /// With --check: how long a call may be inside
    #[arg(long, value_name = "SECONDS", requires = "check", value_parser = time)]
    pub held: Option<Duration>,
}

/// Arguments of `mrlock report`.
#[derive(Args)]
#[command(
    override_usage = "mrlock report FILE|PID...",
    after_help = "A number is a process id; a file with such a name is ./123.\n\
        Exit status: 0; 1 if one of them is no record that can be read."
)]
pub struct Report {
    /// A file of MRLOCK_TRACE, or the id of a running process
    #[arg(value_name = "FILE|PID", required = true)]
    pub records: Vec<PathBuf>,
}

/// Arguments of `mrlock doctor`.
#[derive(Args)]
#[command(
    override_usage = "mrlock doctor [--json] [--root DIR] [--dmesg FILE]",
    after_help = "Exit status: 0 if mrlock is not needed, 1 if it helps, 2 on an error, 3 if the host does not tell."
)]
pub struct Doctor {
    /// Print JSON, with the source of each answer
    #[arg(long)]
    pub json: bool,
    /// Read dev/kmsg, proc, sys, etc and usr below DIR
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Read the output of dmesg in FILE instead of dev/kmsg
    #[arg(long, value_name = "FILE")]
    pub dmesg: Option<PathBuf>,
}

/// Arguments of `mrlock stress`.
#[derive(Args)]
#[command(
    override_usage = "mrlock stress [OPTION]...",
    after_help = "Host memory is safe with every driver. With --gpu --free, the kernel may crash where mrlock is needed and not loaded.\n\
        Exit status: 0 if every call returned what it should, 1 if one did not, 2 if there is nothing to register with."
)]
pub struct Stress {
    /// How many threads, each with a device context of its own
    #[arg(long, value_name = "N", default_value = "8", value_parser = at_least_one)]
    pub threads: usize,
    /// Which devices the threads use in turn, separated by commas [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub devices: Option<Vec<String>>,
    /// The length of a memory region; K, M and G are understood
    #[arg(long, value_name = "BYTES", default_value = "64K", value_parser = bytes)]
    pub size: usize,
    /// How many regions each thread registers
    #[arg(long, value_name = "N", default_value = "400")]
    pub calls: u64,
    /// How long each thread registers, instead
    #[arg(long, value_name = "S", conflicts_with = "calls", value_parser = seconds)]
    pub seconds: Option<f64>,
    /// Register GPU memory (libcuda.so.1)
    #[arg(long)]
    pub gpu: bool,
    /// Free the memory of each region before it is deregistered
    #[arg(long)]
    pub free: bool,
}

/// Arguments of `mrlock timeline`.
#[derive(Args)]
#[command(override_usage = "mrlock timeline [--beside] [-o OUT] FILE...")]
pub struct Timeline {
    /// Files of MRLOCK_TRACE, of one process each; - is standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Put all on one time scale, to compare runs: BEFORE AFTER
    #[arg(long)]
    pub beside: bool,
    /// Where to draw: a name that ends in .svg or .html; .json for Perfetto
    #[arg(short, long, value_name = "OUT", default_value = "timeline.svg")]
    pub output: PathBuf,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 is needed".into()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

fn bytes(text: &str) -> Result<usize, String> {
    let (number, unit) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(number) if text.ends_with('K') => (number, 1 << 10),
        Some(number) if text.ends_with('M') => (number, 1 << 20),
        Some(number) => (number, 1 << 30),
        None => (text, 1),
    };
    at_least_one(number)?
        .checked_mul(unit)
        .ok_or_else(|| "too many bytes for an address".into())
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds > 0.0 => Ok(seconds),
        Ok(_) => Err("more than 0 is needed".into()),
        Err(error) => Err(format!("{error}")),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    Duration::try_from_secs_f64(seconds(text)?).map_err(|error| format!("{error}"))
}
