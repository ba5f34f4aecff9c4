//! `mrlock doctor`: reads the host's files, and says whether the host needs mrlock.

mod branches;
mod host;
mod kernel_log;
mod peers;
mod rules;
mod version;

use crate::{arguments, failure::Failure, installed};
use anstyle::{AnsiColor, Style};
use host::{Host, Limit};
use kernel_log::KernelLog;
use rules::{About, Rule, Verdict};
use serde_json::{Value, json};
use std::{io::Write as _, path::PathBuf, process::ExitCode};

/// Prints the answer. The exit status is 0 if mrlock is not needed, 1 if it helps, 2 on an error, 3 if the files do not tell.
pub fn examine(arguments: arguments::Doctor) -> Result<ExitCode, Failure> {
    let root = &arguments.root;
    let kernel_log = match &arguments.dmesg {
        None => KernelLog::of_host(root),
        Some(file) => KernelLog::read(file).map_err(|error| Failure {
            status: 2,
            message: format!(
                "doctor: --dmesg {}: {error}: name a file with the output of dmesg",
                file.display()
            ),
        })?,
    };
    let host = Host::read(root, kernel_log).map_err(|error| Failure {
        status: 2,
        message: format!(
            "doctor: --root {}: {error}: name a directory with the host's proc and sys in it",
            root.display()
        ),
    })?;
    let verdict = rules::verdict(&host);
    let printed = if arguments.json {
        print(&format!("{:#}\n", as_json(&host, verdict)))
    } else {
        print(&as_text(&host, verdict))
    };
    printed.map_err(|error| Failure {
        status: 2,
        message: format!("doctor: standard output: {error}"),
    })?;
    Ok(ExitCode::from(match verdict {
        Verdict::NotNeeded => 0,
        Verdict::Helps | Verdict::MakesRarer => 1,
        Verdict::Unknown => 3,
    }))
}

/// anstream removes the colours where standard output is not a terminal.
fn print(text: &str) -> std::io::Result<()> {
    anstream::stdout().write_all(text.as_bytes())
}

/// The first rule that answers a question.
fn answer(host: &Host, asked: fn(About) -> bool) -> Option<&'static Rule> {
    rules::rows(host, asked).next()
}

const NEED: fn(About) -> bool = |about| matches!(about, About::Need(_));
const BETTER: fn(About) -> bool = |about| about == About::Better;
const SETTING: fn(About) -> bool = |about| about == About::Setting;
const NOTE: fn(About) -> bool = |about| about == About::Note;

fn as_json(host: &Host, verdict: Verdict) -> Value {
    let rule = |rule: &Rule| json!({"says": says(rule, host), "source": rule.source});
    json!({
        "verdict": verdict,
        "because": answer(host, NEED).map(rule),
        "better": answer(host, BETTER).map(rule),
        "setting": answer(host, SETTING).map(rule),
        "branch": host.branch().map(|branch| json!({
            "number": branch.number,
            "run": branch.run,
            "read": branch.read,
        })),
        "notes": rules::rows(host, NOTE).map(rule).collect::<Vec<_>>(),
        "overlap_script": overlap_script(),
        "host": host,
    })
}

/// Three lines, what is known of the driver, what the kernel's log says, what counts the threads of a running server, the notes,
/// and the facts.
fn as_text(host: &Host, verdict: Verdict) -> String {
    let (colour, word) = match verdict {
        Verdict::NotNeeded => (AnsiColor::Green, "not needed"),
        Verdict::Helps => (AnsiColor::Yellow, "helps"),
        Verdict::MakesRarer => (AnsiColor::Red, "helps a little"),
        Verdict::Unknown => (AnsiColor::Magenta, "unknown"),
    };
    let strong = Style::new().bold().fg_color(Some(colour.into()));
    let faint = Style::new().dimmed();
    let mut text = String::new();
    let verdict = format!("{strong}{word}{strong:#}: ");
    for (label, asked, prefix) in [
        ("mrlock:", NEED, verdict.as_str()),
        ("better:", BETTER, ""),
        ("setting:", SETTING, ""),
    ] {
        let rule = answer(host, asked).map(|rule| says(rule, host));
        text += &format!("{label:<10}{prefix}{}\n", rule.unwrap_or_default());
    }
    if let Some(branch) = host.branch() {
        text += &format!(
            "{:<10}{}: run: {}; only read: {}\n",
            "driver:", branch.number, branch.run, branch.read
        );
    }
    for line in log_lines(&host.kernel_log) {
        text += &format!("{:<10}{line}\n", "log:");
    }
    if let Some(script) = overlap_script() {
        text += &format!(
            "{:<10}bpftrace {} counts, as root and without a restart, how many threads of each process are inside at once\n",
            "running:",
            script.display()
        );
    }
    for rule in rules::rows(host, NOTE) {
        text += &format!("{:<10}{}\n", "note:", says(rule, host));
    }
    text += "\n";
    for (name, value) in facts(host) {
        text += &format!("{faint}{name:<16}{value}{faint:#}\n");
    }
    text
}

/// The script for bpftrace, unless this program is where cargo built it.
fn overlap_script() -> Option<PathBuf> {
    installed::near(&installed::program().ok()?, &["mrlock-overlap.bt"])
}

/// What the kernel's log says: a line for each sign.
fn log_lines(log: &KernelLog) -> Vec<String> {
    let (file, lines) = (&log.file, log.lines);
    if let Some(reason) = &log.not_read {
        return vec![format!(
            "{file} not read: {reason}: ask as root on the host, or run dmesg > FILE there and mrlock doctor --dmesg FILE"
        )];
    }
    if log.signs.is_empty() {
        return vec![format!(
            "{file}: no sign of the race in {lines} lines (older ones may be lost)"
        )];
    }
    let line = |sign: &kernel_log::Found| {
        format!("{} (lines: {}): {}", sign.words, sign.lines, sign.means)
    };
    log.signs.iter().map(line).collect()
}

/// The text of a rule for this host.
fn says(rule: &Rule, host: &Host) -> String {
    let mut text = rule.says.to_owned();
    for (name, value) in names(host) {
        text = text.replace(&format!("{{{name}}}"), &value);
    }
    text
}

/// The values of the names in braces.
fn names(host: &Host) -> [(&'static str, String); 9] {
    let unknown = || "of an unknown version".to_owned();
    [
        (
            "driver",
            host.driver_version()
                .map_or_else(unknown, |version| version.to_string()),
        ),
        ("kernel", host.kernel.clone().unwrap_or_else(unknown)),
        (
            "ofed",
            host.ofed
                .as_ref()
                .map_or_else(unknown, |version| version.to_string()),
        ),
        (
            "libibverbs",
            host.libibverbs
                .map_or_else(unknown, |release| release.to_string()),
        ),
        (
            "memlock",
            match host.memlock {
                Some(Limit::Bytes(bytes)) => bytes.to_string(),
                Some(Limit::Unlimited) => "unlimited".into(),
                None => "?".into(),
            },
        ),
        ("preloads", host.preloads.join(" ")),
        ("foreign", host.for_another_processor.join(" ")),
        ("peers", host.other_peers.join(" ")),
        ("first", first_step(host)),
    ]
}

/// What can be had without another branch of the driver.
fn first_step(host: &Host) -> String {
    let fixed = host.branch().and_then(|branch| branch.fixed);
    let fixed = fixed.filter(|_| rules::has_double_free(host));
    let or_newer = fixed
        .map(|fixed| format!("driver {fixed} or newer of its branch and mrlock's default; then "));
    or_newer.unwrap_or_default()
}

/// The facts about the host, to be pasted into a bug report.
fn facts(host: &Host) -> Vec<(&'static str, String)> {
    let [
        driver,
        kernel,
        ofed,
        libibverbs,
        memlock,
        preloads,
        _,
        peers,
        _,
    ] = names(host).map(|(_, value)| value);
    let or_none = |value: String, is_some| if is_some { value } else { "none".into() };
    let open = host.driver.as_ref().is_some_and(|driver| driver.open);
    let driver = if open {
        driver + " (open kernel modules)"
    } else {
        driver
    };
    let module = host.peer_module.as_ref().map(|module| {
        let parameters = module
            .parameters
            .iter()
            .map(|(name, value)| format!(" {name}={value}"));
        module.name.to_owned() + &parameters.collect::<String>()
    });
    vec![
        ("kernel", kernel),
        ("NVIDIA driver", or_none(driver, host.driver.is_some())),
        ("peer module", module.unwrap_or_else(|| "none".into())),
        ("other peers", or_none(peers, !host.other_peers.is_empty())),
        (
            "RDMA drivers",
            if host.has_ofed {
                format!("OFED {ofed}")
            } else {
                "the kernel's own".into()
            },
        ),
        (
            "RDMA devices",
            or_none(host.devices.join(" "), !host.devices.is_empty()),
        ),
        (
            "libibverbs",
            or_none(format!("rdma-core {libibverbs}"), host.libibverbs.is_some()),
        ),
        ("locked memory", memlock),
        (
            "other preloads",
            or_none(preloads, !host.preloads.is_empty()),
        ),
    ]
}
