//! The kernel's log: the lines that tell of GPU memory freed beside its registration.

use serde::Serialize;
use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, ErrorKind, Read},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
};

/// No more than this is read of a device that never ends.
const ENOUGH: u64 = 64 << 20;
/// The kernel refuses to return a record to a smaller buffer than the record. Its longest one has 8 KiB.
const RECORD: usize = 16 << 10;

/// What the log says.
#[derive(Serialize)]
pub struct KernelLog {
    /// The file.
    pub file: String,
    /// Why it was not read.
    pub not_read: Option<String>,
    /// The number of lines in it.
    pub lines: u64,
    /// The signs of the race that were found.
    pub signs: Vec<Found>,
}

/// A sign that was found.
#[derive(Serialize)]
pub struct Found {
    /// The words of the log.
    pub words: &'static str,
    /// What they mean.
    pub means: &'static str,
    /// The number of lines with them.
    pub lines: u64,
}

/// A sign of the race.
struct Sign {
    words: &'static str,
    means: &'static str,
    kind: Kind,
}

/// How a sign is recognized.
enum Kind {
    /// A line is this message.
    Message(fn(&str) -> bool),
    /// A line of an oops names this function.
    Fault(&'static str),
}

use Kind::{Fault, Message};

#[rustfmt::skip] // one sign, one paragraph
const SIGNS: &[Sign] = &[
    Sign { words: "nv_get_p2p_free_callback ... invalid dma_mapping", kind: Message(is_unmapped),
        means: "GPU memory was freed while it was being registered; this came before each crash that was seen, and never with frees kept apart" },
    Sign { words: "detected invalid context", kind: Message(is_skipped),
        means: "the driver skipped a free whose registration was gone: since 535.129.03 and 550, its mitigation of the same fault" },
    Sign { words: "oops in nv_p2p_remove_dma_mapping", kind: Fault("nv_p2p_remove_dma_mapping"),
        means: "a deregistration unmapped what a free had freed already, as seen with 535.216.03 and 550.163.01" },
    Sign { words: "oops in nvidia_p2p_dma_map_pages", kind: Fault("nvidia_p2p_dma_map_pages"),
        means: "a registration mapped pages that a free had freed already, as seen with 525.147.05" },
    Sign { words: "oops in nvidia_p2p_put_pages", kind: Fault("nvidia_p2p_put_pages"),
        means: "a registration gave back pages that a free had freed already, as seen with 515.65" },
];

/// The report that a line of the log belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Report {
    /// None, or one whose first lines are lost.
    None,
    /// A fault in the kernel.
    Oops,
    /// Something else that shows where the kernel is: a warning, a task that hangs.
    Other,
}

impl KernelLog {
    /// Reads the log of the host below `root`. Reading does not take lines away from other readers, and never waits for new ones.
    pub fn of_host(root: &Path) -> Self {
        let file = root.join("dev/kmsg");
        let log = Self::read(&file);
        let not_read = match &log {
            Ok(log) if log.lines > 0 => None,
            Ok(_) => Some("it is empty".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        Self {
            not_read,
            ..log.unwrap_or(Self::empty(&file))
        }
    }

    /// Reads the output of `dmesg`, or the device itself.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut log = Self::empty(path);
        let mut report = Report::None;
        for line in BufReader::with_capacity(RECORD, open(path)?).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            log.lines += 1;
            report = report.after(&line);
            for sign in SIGNS.iter().filter(|sign| sign.is_in(&line, report)) {
                log.count(sign);
            }
        }
        Ok(log)
    }

    fn empty(path: &Path) -> Self {
        Self {
            file: path.display().to_string(),
            not_read: None,
            lines: 0,
            signs: Vec::new(),
        }
    }

    fn count(&mut self, sign: &Sign) {
        if let Some(found) = self.signs.iter_mut().find(|it| it.words == sign.words) {
            found.lines += 1;
        } else {
            self.signs.push(Found {
                words: sign.words,
                means: sign.means,
                lines: 1,
            });
        }
    }
}

impl Sign {
    fn is_in(&self, line: &str, report: Report) -> bool {
        match self.kind {
            Message(is_message) => is_message(line),
            Fault(function) => match report {
                Report::Oops => names(line, function),
                // "RIP: 0010:function+0x10/0x20", "IP: function+...", on arm64 "pc : function+...".
                Report::None => {
                    (line.contains("IP: ") || line.contains("pc : ")) && names(line, function)
                }
                Report::Other => false,
            },
        }
    }
}

impl Report {
    /// The report that this line belongs to, if the line before it belonged to `self`.
    fn after(self, line: &str) -> Self {
        let has = |words: &[&str]| words.iter().any(|word| line.contains(word));
        if has(&[
            "WARNING: ",
            "soft lockup",
            "hard LOCKUP",
            "blocked for more than",
            "self-detected stall",
            "detected stalls",
            "scheduling while atomic",
        ]) {
            Self::Other
        } else if has(&[
            "BUG: unable to handle",
            "BUG: kernel NULL pointer",
            "BUG: KASAN",
            "kernel BUG at",
            "Oops: ",
            "general protection fault",
            "stack segment",
            "double fault",
            "invalid opcode",
            "Unable to handle kernel",
            "Internal error: ",
        ]) {
            Self::Oops
        } else if line.contains("[ end trace") {
            Self::None
        } else {
            self
        }
    }
}

/// The callback found its region not mapped yet. The end of the line may be lost.
fn is_unmapped(line: &str) -> bool {
    line.contains("nv_get_p2p_free_callback") && line.contains("invalid dma_map")
}

/// The callback found its region gone. Other vendors' drivers have contexts, too.
fn is_skipped(line: &str) -> bool {
    line.contains("detected invalid context") && (line.contains("nvidia") || line.contains("nv_"))
}

/// Whether a line has this name, and not as a part of a longer one. The compiler's suffixes, such as ".isra.0", belong to the name.
fn names(line: &str, function: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    line.match_indices(function).any(|(start, _)| {
        !line[..start].ends_with(is_part) && !line[start + function.len()..].starts_with(is_part)
    })
}

/// A device is read until it would wait, and another file until its end.
fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    if !path.metadata()?.file_type().is_char_device() {
        return Ok(Box::new(File::open(path)?));
    }
    let device = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    Ok(Box::new(Device(device).take(ENOUGH)))
}

/// /dev/kmsg: each read returns one record.
struct Device(File);

impl Read for Device {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) => match error.kind() {
                    // The next records were overwritten meanwhile: the kernel goes on with the oldest that is left.
                    ErrorKind::BrokenPipe | ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => return Ok(0),
                    _ => return Err(error),
                },
                read => return read,
            }
        }
    }
}
