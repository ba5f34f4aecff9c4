//! The report as text. What stands in a record may be anything: no number is added without a bound, and no text is printed with
//! the characters that a terminal would take for commands.

use super::summary::{self, Row, Totals};
use crate::record::{Device, Kind, Operation, Record, State, mode};
use std::{
    collections::BTreeSet,
    fmt::{self, Write},
    rc::Rc,
    time::{Duration, UNIX_EPOCH},
};

/// A process.
pub struct Process {
    /// Where the record was read: a file, or a process id.
    pub from: String,
    /// The record.
    pub record: Record,
    /// How it ended.
    pub end: End,
    /// A sentence for each call that is under way, or was when the process ended.
    pub under_way: Vec<String>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It still runs.
    Runs,
    /// Normally.
    Normal,
    /// In another way.
    Sudden,
    /// This is not known.
    Unknown,
}

/// A block for each process; if there are several, one for all of them.
pub fn text(processes: &[Process]) -> String {
    let mut text = String::new();
    // A String takes all that is written to it.
    let _ = write_all(&mut text, processes);
    text
}

fn write_all(to: &mut String, processes: &[Process]) -> fmt::Result {
    for (index, process) in processes.iter().enumerate() {
        if index > 0 {
            to.push('\n');
        }
        write_process(to, process)?;
    }
    if processes.len() > 1 {
        // Processes that were observed and others cannot be added: what was at once does not mean the same.
        for is_observed in [false, true] {
            let group = processes.iter().map(|it| &it.record);
            let group: Vec<_> = group.filter(|it| observes(it) == is_observed).collect();
            if !group.is_empty() {
                write_total(to, &group, group.len() < processes.len())?;
            }
        }
    }
    let overwritten = processes.iter().map(|it| it.record.overwritten());
    match overwritten.fold(0, u64::saturating_add) {
        0 => Ok(()),
        calls => writeln!(
            to,
            "\nThe times of {calls} earlier calls, which are counted above, were overwritten by those of later ones: \
             MRLOCK_EVENTS sets how many are kept."
        ),
    }
}

fn write_process(to: &mut String, process: &Process) -> fmt::Result {
    let record = &process.record;
    let version = printable(&record.library);
    let program = record.program.as_bytes().escape_ascii();
    summary::write_heading(to, &version, record.process, program)?;
    let counted = Counted::of(&[record]);
    let is_no_call = counted.is_no_call();
    if is_no_call {
        to.push_str(summary::NO_CALL);
    } else {
        to.push('\n');
    }
    write!(to, "{}: ", process.from)?;
    if !record.host.is_empty() {
        let (host, namespace) = (printable(&record.host), record.namespace);
        write!(to, "on {host}, in pid namespace {namespace}; ")?;
    }
    if record.realtime > 0 {
        write!(to, "began {}, ", date(record.realtime))?;
    }
    if let Some(last) = record.last_written() {
        write!(to, "last wrote {}, ", date(record.date(last)))?;
    }
    to.push_str(match process.end {
        End::Runs => "still runs",
        End::Normal => "ended normally",
        End::Sudden => "was killed or crashed, or ended by _exit or execve",
        End::Unknown => {
            "ran on another host or in another container, or is another user's: whether it still runs is not known here"
        }
    });
    writeln!(to, "\n{}", printable(&record.settings))?;
    if !is_no_call {
        counted.write(to, "")?;
    }
    write_under_way(to, process)
}

fn write_under_way(to: &mut String, process: &Process) -> fmt::Result {
    let count = process.under_way.len();
    let (calls, are, were) = match count {
        1 => ("call", "is", "was"),
        _ => ("calls", "are", "were"),
    };
    match process.end {
        _ if count == 0 => {}
        End::Runs => writeln!(to, "{count} {calls} {are} under way:")?,
        End::Normal | End::Sudden => writeln!(
            to,
            "The process ended while {count} {calls} {were} under way:"
        )?,
        End::Unknown => writeln!(to, "{count} {calls} {were} under way when it last wrote:")?,
    }
    for line in &process.under_way {
        writeln!(to, "  {line}")?;
    }
    match process.record.totals.unlisted {
        0 => {}
        unlisted => writeln!(
            to,
            "{unlisted} threads had no room in the record: their calls are counted, but not shown."
        )?,
    }
    match process.record.unread {
        0 => Ok(()),
        unread => writeln!(
            to,
            "{unread} entries of the record were just being written, or are damaged: they are left out."
        ),
    }
}

fn write_total(to: &mut String, records: &[&Record], is_mixed: bool) -> fmt::Result {
    let hosts: BTreeSet<_> = records.iter().map(|it| printable(&it.host)).collect();
    let hosts: Vec<_> = hosts.into_iter().filter(|it| !it.is_empty()).collect();
    let count = records.len();
    let processes = if count == 1 { "process" } else { "processes" };
    write!(to, "\nIn total: {count} {processes}")?;
    if !hosts.is_empty() {
        write!(to, " on {}", hosts.join(", "))?;
    }
    if is_mixed {
        let not = if observes(records[0]) { "" } else { "not " };
        write!(to, ", {not}observed")?;
    }
    let counted = Counted::of(records);
    if counted.is_no_call() {
        return to.write_str(summary::NO_CALL);
    }
    to.push('\n');
    counted.write(to, if count > 1 { " of one process" } else { "" })
}

fn observes(record: &Record) -> bool {
    mode(&record.settings) == Some("observe")
}

/// What was counted, in one process or in several.
struct Counted {
    operations: Vec<Operation>,
    devices: Vec<Device>,
    totals: Totals,
    /// A call was made.
    has_record: bool,
}

impl Counted {
    fn of(records: &[&Record]) -> Self {
        let mut counted = Self {
            operations: Vec::new(),
            devices: Vec::new(),
            totals: Totals {
                is_observed: false,
                most_at_once: 0,
                let_through: 0,
                frees_met: 0,
                unlisted: 0,
                lost_lines: 0,
                whose: "",
            },
            has_record: false,
        };
        for record in records {
            counted.add(record);
        }
        counted
    }

    fn add(&mut self, record: &Record) {
        self.has_record |= record.state != State::Loaded;
        for of in &record.operations {
            let name = printable(&of.name);
            let known = self.operations.iter().position(|it| it.name == name);
            let index = known.unwrap_or(self.operations.len());
            if known.is_none() {
                self.operations.push(Operation {
                    name,
                    kind: of.kind,
                    is_serialized: false,
                    calls: 0,
                    failures: 0,
                    waits: 0,
                    wait_ns: 0,
                    longest_wait_ns: 0,
                    inside_ns: 0,
                    longest_inside_ns: 0,
                });
            }
            let it = &mut self.operations[index];
            it.is_serialized |= of.is_serialized;
            add(&mut it.calls, of.calls);
            add(&mut it.failures, of.failures);
            add(&mut it.waits, of.waits);
            add(&mut it.wait_ns, of.wait_ns);
            raise_to(&mut it.longest_wait_ns, of.longest_wait_ns);
            add(&mut it.inside_ns, of.inside_ns);
            raise_to(&mut it.longest_inside_ns, of.longest_inside_ns);
        }
        for Device { name, calls } in &record.devices {
            let name: Rc<str> = printable(name).into();
            match self.devices.iter_mut().find(|it| it.name == name) {
                Some(device) => add(&mut device.calls, *calls),
                None => self.devices.push(Device {
                    name,
                    calls: *calls,
                }),
            }
        }
        let (totals, of) = (&mut self.totals, &record.totals);
        totals.is_observed |= observes(record);
        raise_to(&mut totals.most_at_once, record.most_at_once());
        add(&mut totals.let_through, of.let_through);
        add(&mut totals.frees_met, of.frees_met);
        add(&mut totals.unlisted, of.unlisted);
        add(&mut totals.lost_lines, of.lost_lines);
    }

    fn is_no_call(&self) -> bool {
        summary::is_no_call(self.has_record, self.rows())
    }

    fn write(mut self, to: &mut String, whose: &'static str) -> fmt::Result {
        self.totals.whose = whose;
        let devices = self.devices.iter().map(|it| (&it.name, it.calls));
        summary::write(to, self.rows(), &self.totals, devices)
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.operations.iter().map(|it| Row {
            name: &it.name,
            is_free: it.kind == Kind::Free,
            is_serialized: it.is_serialized,
            calls: it.calls,
            failures: it.failures,
            waits: it.waits,
            wait_ns: it.wait_ns,
            longest_wait_ns: it.longest_wait_ns,
            inside_ns: it.inside_ns,
            longest_inside_ns: it.longest_inside_ns,
        })
    }
}

fn add(to: &mut u64, more: u64) {
    *to = to.saturating_add(more);
}

fn raise_to(to: &mut u64, value: u64) {
    *to = value.max(*to);
}

/// Nanoseconds since 1970 as a date: "2026-11-28T09:00:00Z".
pub fn date(nanoseconds: u64) -> String {
    // The largest is in the year 2554.
    let time = UNIX_EPOCH + Duration::from_nanos(nanoseconds);
    humantime::format_rfc3339_seconds(time).to_string()
}

fn printable(text: &str) -> String {
    text.replace(char::is_control, "?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{
        layout as l,
        sample::{put, sample, write},
    };
    use std::mem::offset_of;

    const OPERATION: usize = offset_of!(l::Record, operations);

    /// Of the sample, after `change`.
    fn process(end: End, change: impl Fn(&mut [u8])) -> Process {
        let mut bytes = sample();
        put(&mut bytes, offset_of!(l::Record, header.realtime), 1 << 60);
        write(&mut bytes, offset_of!(l::Record, header.library), "0.3.0");
        write(&mut bytes, offset_of!(l::Record, header.host), "node");
        let is_serialized = OPERATION + offset_of!(l::Operation, is_serialized);
        put(&mut bytes, is_serialized, 1);
        change(&mut bytes);
        Process {
            from: "trace".into(),
            record: Record::in_bytes(&bytes).expect("a record"),
            end,
            under_way: vec!["thread 78".into()],
        }
    }

    fn row(name: &str, calls: u64) -> String {
        let zeros = "       0        0           0         0             0         0";
        format!("{name:<22}{calls:>9}{zeros}\n")
    }

    const HEAD: &str = "                          calls  failed   waited  total wait   longest  total inside   longest\n";

    #[test]
    fn one_process() {
        let text = text(&[process(End::Sudden, |_| {})]);
        let expected = format!(
            "mrlock 0.3.0: process 77 (server)\n\
             trace: on node, in pid namespace 0; began 2006-07-14T23:58:24Z, last wrote 2006-07-14T23:58:24Z, \
             was killed or crashed, or ended by _exit or execve\n\
             MRLOCK=on\n\
             {HEAD}{}\
             9 calls on host memory were let through.\n\
             No two threads were ever inside or waiting at once.\n\
             The process ended while 1 call was under way:\n  thread 78\n\
             \nThe times of 2 earlier calls, which are counted above, were overwritten by those of later ones: \
             MRLOCK_EVENTS sets how many are kept.\n",
            row("ibv_reg_mr", 5)
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn how_it_ended() {
        for (end, how, under_way) in [
            (End::Runs, "still runs", "1 call is under way:"),
            (
                End::Normal,
                "ended normally",
                "The process ended while 1 call was under way:",
            ),
            (
                End::Unknown,
                "not known here",
                "1 call was under way when it last wrote:",
            ),
        ] {
            let text = text(&[process(end, |_| {})]);
            assert!(text.contains(&format!("{how}\n")), "{text}");
            assert!(
                text.contains(&format!("\n{under_way}\n  thread 78\n")),
                "{text}"
            );
        }
    }

    /// A process that made no call has its operations and settings.
    #[test]
    fn no_call() {
        let mut process = process(End::Runs, |bytes| {
            put(bytes, offset_of!(l::Record, header.state), l::LOADED);
        });
        process.under_way.clear();
        let text = text(&[process]);
        assert!(text.starts_with("mrlock 0.3.0: process 77 (server): no call was made.\ntrace: "));
        assert!(!text.contains("calls  failed"), "{text}");
    }

    /// Sums and maxima; what is called differently, or observed, is not added.
    #[test]
    fn a_node() {
        let counters = |name: &'static str, calls, longest| {
            move |bytes: &mut [u8]| {
                write(bytes, OPERATION, &format!("{name}\0"));
                put(bytes, OPERATION + offset_of!(l::Operation, calls), calls);
                let longest_wait = offset_of!(l::Operation, longest_wait);
                put(bytes, OPERATION + longest_wait, longest);
                put(bytes, offset_of!(l::Record, totals.most_at_once), longest);
            }
        };
        let ones = process(End::Normal, counters("ibv_reg_mr", 5, 7));
        let others = process(End::Runs, counters("ibv_reg_mr", u64::MAX - 1, 3));
        let named = process(End::Normal, counters("ibv_one", 2, 0));
        let text_of = text(&[ones, others, named]);
        let (_, total) = text_of.split_once("In total: ").expect("a total");
        assert!(total.starts_with("3 processes on node\n"), "{total}");
        let sum = format!(
            "\n{:<22}{}{:>8}{:>9}{:>12}{:>10}",
            "ibv_reg_mr",
            u64::MAX,
            0,
            0,
            0,
            "7 ns"
        );
        assert!(total.contains(&sum), "{sum:?} in {total}");
        assert!(
            total.contains("\nibv_one                       2"),
            "{total}"
        );
        assert!(total.contains("27 calls on host memory were let through.\n"));
        let at_once = "Up to 7 threads of one process were inside or waiting at once";
        assert!(total.contains(at_once), "{total}");
        // Said once.
        assert_eq!(text_of.matches("The times of 6 earlier calls").count(), 1);

        let observed = process(End::Normal, |bytes| {
            write(bytes, offset_of!(l::Record, settings), "MRLOCK=observe");
        });
        let mixed = text(&[process(End::Normal, |_| {}), observed]);
        for expected in [
            "\nIn total: 1 process on node, not observed\n",
            "\nIn total: 1 process on node, observed\n",
        ] {
            assert!(mixed.contains(expected), "{mixed}");
        }
    }

    /// A thread that waits now was not counted yet.
    #[test]
    fn threads_that_wait_are_at_once() {
        let waits = process(End::Sudden, |bytes| {
            for slot in 0..2 {
                let thread = crate::record::sample::thread(slot);
                put(bytes, thread + offset_of!(l::Thread, thread), 80);
                put(bytes, thread + offset_of!(l::Thread, state), l::WAITING);
            }
        });
        let text = text(&[waits]);
        assert!(
            text.contains("Up to 3 threads were inside or waiting at once"),
            "{text}"
        );
    }

    /// Nothing in a record is a command for a terminal, or a line of its own.
    #[test]
    fn texts_of_another_process() {
        let strange = process(End::Runs, |bytes| {
            for offset in [
                offset_of!(l::Record, settings),
                offset_of!(l::Record, header.library),
                offset_of!(l::Record, header.program),
                offset_of!(l::Record, header.host),
                offset_of!(l::Record, devices),
                OPERATION,
            ] {
                write(bytes, offset, "\x1b[2J\nmrlock: x\0");
            }
        });
        let text = text(&[strange]);
        assert!(
            !text.contains(|it: char| it.is_control() && it != '\n'),
            "{text:?}"
        );
        assert!(!text.contains("\nmrlock: x"), "{text}");
    }
}
