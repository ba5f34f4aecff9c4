//! /proc: the processes of this host, and the files of one of them. What stands there is another process's: any bytes.

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
    time::{ClockId, clock_gettime},
};
use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

/// A process's directory in /proc. It stays the same process's, also if its id is given to another one.
pub struct Directory {
    /// The process id.
    pub pid: i32,
    directory: OwnedFd,
}

/// What /proc/PID/stat says.
pub struct Stat {
    /// The process id.
    pub pid: i32,
    /// The name that the kernel has for it.
    pub program: String,
    /// Its parent.
    pub parent: i32,
    /// Whether it is a thread of the kernel.
    pub is_kernel: bool,
    /// Whether it has ended.
    pub has_ended: bool,
    /// When it was started, in hundredths of a second since boot.
    pub started: u64,
}

/// The ids of all processes.
pub fn processes() -> io::Result<impl Iterator<Item = i32>> {
    Ok(numbers(fs::read_dir("/proc")?))
}

/// The process of a thread; a process is its own first thread.
pub fn process_of(thread: i32) -> Option<i32> {
    let directory = Directory::open(thread).ok()?;
    directory.status("Tgid", "status")?.parse().ok()
}

const NS_PER_S: i64 = 1_000_000_000;

/// The unit in which /proc gives the start of a process.
const TICK: i64 = NS_PER_S / 100;

/// The names in a directory that are numbers.
fn numbers(directory: fs::ReadDir) -> impl Iterator<Item = i32> {
    // A process that ends meanwhile is left out.
    directory.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

impl Directory {
    /// Of this process. If its main thread has ended, /proc/PID shows that thread alone, which has no memory: then that of another of
    /// its threads, which shows the process.
    pub fn open(pid: i32) -> io::Result<Self> {
        let process = Self::of_thread(pid, pid)?;
        if process.is_alive() {
            return Ok(process);
        }
        let own = Some(pid.to_string());
        let mut others = process
            .threads()
            .filter(|&thread| thread != pid)
            .filter_map(|thread| Self::of_thread(pid, thread).ok());
        // The id of a thread that has just ended may be another process's.
        let living = others.find(|it| it.is_alive() && it.status("Tgid", "status") == own);
        drop(others);
        Ok(living.unwrap_or(process))
    }

    fn of_thread(pid: i32, thread: i32) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, format!("/proc/{thread}"), flags, Mode::empty())?;
        Ok(Self { pid, directory })
    }

    /// Opens a file of /proc/PID.
    pub fn file(&self, name: impl AsRef<Path>) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&self.directory, name.as_ref(), flags, Mode::empty())?;
        Ok(file.into())
    }

    /// Reads a file of /proc/PID, up to 1 MiB.
    pub fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file(name)?.take(1 << 20).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The lines of a file of /proc/PID.
    pub fn lines(&self, name: &str) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>>> {
        Ok(BufReader::new(self.file(name)?).split(b'\n'))
    }

    /// Where a link of /proc/PID points.
    pub fn link(&self, name: &str) -> Option<OsString> {
        use std::os::unix::ffi::OsStringExt as _;
        let target = rustix::fs::readlinkat(&self.directory, name, Vec::new()).ok()?;
        Some(OsString::from_vec(target.into_bytes()))
    }

    /// The stat of the process, or of one of its threads: "stat", "task/7/stat". (Its id is the process's in any case.)
    pub fn stat(&self, name: &str) -> Option<Stat> {
        stat(self.pid, &self.read(name).ok()?)
    }

    /// The value of a field of a status file.
    pub fn status(&self, field: &str, name: &str) -> Option<String> {
        let text = String::from_utf8_lossy(&self.read(name).ok()?).into_owned();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        Some(value.trim().to_owned())
    }

    /// The ids of its threads.
    pub fn threads(&self) -> impl Iterator<Item = i32> {
        let directory = fs::read_dir(format!("/proc/{}/task", self.pid)).ok();
        directory.into_iter().flat_map(numbers)
    }

    /// Nanoseconds of CLOCK_MONOTONIC, as the process sees it.
    pub fn now(&self) -> u64 {
        let time = clock_gettime(ClockId::Monotonic);
        let here = time.tv_sec * NS_PER_S + time.tv_nsec;
        here.saturating_add(self.ahead("monotonic")).max(0) as u64
    }

    /// When a thread of it was started, in hundredths of a second since boot, as the process sees it. Rounded down: the process
    /// finds the same, or a tick more.
    pub fn own_start(&self, stat: &Stat) -> u64 {
        let ticks = self.ahead("boottime").div_euclid(TICK);
        stat.started.saturating_add_signed(ticks)
    }

    /// By how many nanoseconds this clock of the process is ahead of ours: it may be in another time namespace.
    fn ahead(&self, clock: &str) -> i64 {
        let Ok(ours) = Self::open(std::process::id() as i32) else {
            return 0;
        };
        if self.link("ns/time") == ours.link("ns/time") {
            return 0;
        }
        let [its, own] = [self, &ours].map(|process| process.offset(clock).unwrap_or(0));
        its.saturating_sub(own)
    }

    /// By how many nanoseconds this clock of its time namespace is ahead of the host's.
    fn offset(&self, clock: &str) -> Option<i64> {
        let text = String::from_utf8(self.read("timens_offsets").ok()?).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(clock))?;
        let mut numbers = line.split_whitespace().map(str::parse::<i64>);
        let (seconds, ns) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        seconds.checked_mul(NS_PER_S)?.checked_add(ns)
    }

    /// Whether a name exists in the root directory of the process.
    pub fn sees(&self, path: &Path) -> io::Result<bool> {
        match self.within_root(path, OFlags::PATH) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The regular file of this name there, to be read. Anything else is not opened: the user of the process chooses what it is, and
    /// some devices act when they are opened.
    pub fn file_in_root(&self, path: &Path) -> io::Result<File> {
        let there = File::from(self.within_root(path, OFlags::PATH)?);
        if !there.metadata()?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        File::open(format!("/proc/self/fd/{}", there.as_raw_fd()))
    }

    /// A link there is followed as the process would.
    fn within_root(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        use rustix::fs::{ResolveFlags, openat2};
        // A magic link is followed only as the last part, without IN_ROOT.
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(&self.directory, "root", directory, Mode::empty())?;
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        openat2(root.as_fd(), path, flags, Mode::empty(), within)
    }

    /// Whether the process is still there and runs its program.
    pub fn is_alive(&self) -> bool {
        self.stat("stat").is_some_and(|stat| !stat.has_ended)
    }
}

/// The name is in parentheses, and may contain any character, also a parenthesis and a line feed.
fn stat(pid: i32, bytes: &[u8]) -> Option<Stat> {
    /// `PF_KTHREAD` of the kernel.
    const KERNEL_THREAD: u64 = 0x0020_0000;
    let open = bytes.iter().position(|&byte| byte == b'(')?;
    let close = bytes.iter().rposition(|&byte| byte == b')')?;
    let program = String::from_utf8_lossy(bytes.get(open + 1..close)?).into_owned();
    let rest = str::from_utf8(bytes.get(close + 1..)?).ok()?;
    // Field 3 of proc_pid_stat(5) is the first.
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3);
    Some(Stat {
        pid,
        program,
        parent: field(4)?.parse().ok()?,
        is_kernel: field(9)?.parse::<u64>().ok()? & KERNEL_THREAD != 0,
        has_ended: ["Z", "X", "x"].contains(field(3)?),
        started: field(22)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses() {
        let mut text = b"7 (a) R 1\n(b) S 5 7 7 0 -1 2097152".to_vec();
        text.extend(b" 0".repeat(12));
        text.extend(b" 99 0");
        let seen = stat(7, &text).expect("a stat");
        assert_eq!((&*seen.program, seen.parent), ("a) R 1\n(b", 5));
        assert!(seen.is_kernel && !seen.has_ended);
        assert_eq!(seen.started, 99);
        for cut in 0..text.len() {
            stat(7, &text[..cut]);
        }
    }
}
