//! The settings as a line that could be given to `env`.

use super::{MemoryKind, Mode, Report, Settings};
use core::fmt;

impl fmt::Display for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Self {
            mode,
            calls,
            memory,
            hooks,
            warn_after,
            report,
            trace,
            events,
            names_devices: _,
            is_timed: _,
        } = self;
        let mode = mode.name();
        write!(formatter, "MRLOCK={mode} MRLOCK_CALLS=")?;
        write_list(
            formatter,
            [
                ("reg", calls.reg),
                ("dereg", calls.dereg),
                ("free", calls.free),
            ],
        )?;
        let memory = match memory {
            MemoryKind::Any => "any",
            MemoryKind::Device => "device",
        };
        write!(formatter, " MRLOCK_MEMORY={memory} MRLOCK_HOOKS=")?;
        write_list(formatter, [("verbs", hooks.verbs), ("ioctl", hooks.ioctl)])?;
        write!(formatter, " MRLOCK_WARN_AFTER={warn_after} MRLOCK_REPORT=")?;
        match report {
            Report::Off => formatter.write_str("off"),
            Report::Stderr => formatter.write_str("stderr"),
            Report::Stdout => formatter.write_str("/dev/stdout"),
            Report::File(name) => write!(formatter, "{name}"),
        }?;
        match trace {
            None => formatter.write_str(" MRLOCK_TRACE=off"),
            Some(name) => write!(formatter, " MRLOCK_TRACE={name}"),
        }?;
        write!(formatter, " MRLOCK_EVENTS={events}")
    }
}

impl Mode {
    /// The value of `MRLOCK`.
    pub fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Observe => "observe",
            Self::Off => "off",
        }
    }
}

fn write_list<const N: usize>(
    formatter: &mut fmt::Formatter,
    words: [(&str, bool); N],
) -> fmt::Result {
    let mut comma = "";
    for (word, _) in words.iter().filter(|(_, selected)| *selected) {
        write!(formatter, "{comma}{word}")?;
        comma = ",";
    }
    Ok(())
}
