//! The cost of mrlock, compared with other locks: everything in one run, through built libraries.
//!
//! Criterion measures functions in its own process. Here a process with one library or another in `LD_PRELOAD` is measured, so a
//! C program measures itself, and this program starts it with each library in turn.

#[path = "../tests/common/mod.rs"]
mod common;

use common::{Program, client, fixtures, library, target_dir};
use std::{
    ffi::OsString,
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

/// How often each program runs, with each library in turn. What is printed is the median.
const ROUNDS: usize = 15;
/// The same for those that run for `WINDOW`.
const CONTENDED_ROUNDS: usize = 5;
/// How long threads contend in each round, in milliseconds: of 10 ms holds, enough to take a mean of.
const WINDOW: &str = "500";
/// How often a process is started.
const STARTS: usize = 301;

fn main() {
    // `cargo test` of all targets runs this too: there it only has to compile.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let busy = Processors::now();
    uncontended();
    contended();
    process_start();
    busy.report_others();
}

/// What may be preloaded.
struct Library {
    name: &'static str,
    path: Option<PathBuf>,
}

/// mrlock with this name keeps its record in a file.
const TRACED: &str = "mrlock, `MRLOCK_TRACE`";

/// The program with this library and, behind it, `second`.
fn with(program: &Program, library: &Library, second: Option<&Path>) -> Program {
    let list = preload(library.path.as_deref(), second);
    let program = program.clone().env("LD_PRELOAD", list);
    if library.name != TRACED {
        return program;
    }
    let file = target_dir().join("bench.rec");
    // Another file would be made beside an old one.
    let _ = fs::remove_file(&file);
    program.env("MRLOCK_TRACE", file)
}

/// mrlock and the locks beside it; first, no library at all.
fn locks() -> [Library; 6] {
    let example = |file: &str| Some(target_dir().join("peers/release/examples").join(file));
    [
        ("nothing", None),
        ("mrlock", Some(library().into())),
        (TRACED, Some(library().into())),
        ("pthread", Some(fixtures().join("peers/pthread.so"))),
        ("spin::TicketMutex", example("libticket.so")),
        ("parking_lot::FairMutex", example("libfair.so")),
    ]
    .map(|(name, path)| Library { name, path })
}

/// `LD_PRELOAD` for `first` and, behind it, `second`.
fn preload(first: Option<&Path>, second: Option<&Path>) -> OsString {
    let paths: Vec<_> = [first, second]
        .into_iter()
        .flatten()
        .map(Path::as_os_str)
        .collect();
    paths.join(":".as_ref())
}

fn uncontended() {
    let kernel = client("cost").arg("ioctl").arg("20000");
    let other_library = fixtures().join("clients/other_ioctl.so");
    let other = client("cost").arg("ioctl").arg("200000");
    let verbs = client("cost")
        .arg("mr")
        .arg("2000")
        .env("FAKE_IBV_HOLD_US", "0")
        .env("FAKE_IBV_RACE", "count");
    let [nothing, mrlock, ..] = locks();
    let pair = [nothing, mrlock];

    println!("## A call that does not wait\n");
    header(&["one call", "preloaded", "ns", "more, ns", "ratio"]);
    let rows = [
        (
            "an unrelated `ioctl`, answered by the kernel",
            &kernel,
            None,
            &pair[..],
        ),
        (
            "an unrelated `ioctl`, answered by another preload library",
            &other,
            Some(other_library.as_path()),
            &pair[..],
        ),
        (
            "`ibv_reg_mr` and `ibv_dereg_mr`, software libibverbs",
            &verbs,
            None,
            &locks()[..],
        ),
    ];
    for (name, program, behind, libraries) in rows {
        let measured = medians(ROUNDS, libraries, |library| {
            numbers(&with(program, library, behind))
        });
        let bare = measured[0][0];
        for (library, measured) in libraries.iter().zip(&measured) {
            let ns = measured[0];
            println!(
                "| {name} | {} | {ns:.1} | {:.1} | {:.3} |",
                library.name,
                ns - bare,
                ns / bare
            );
        }
    }
    println!();
}

/// What one run of `contend` says.
struct Contention {
    /// Time between calls, as a share of the time inside them.
    lost: f64,
    /// The longest call of any thread, in mean calls.
    unfairness: f64,
    /// Processors kept busy.
    processors: f64,
    /// What a call took altogether, in nominal holds.
    stretch: f64,
}

fn contended() {
    let [_, locks @ ..] = locks();
    let names = locks.each_ref().map(|library| library.name);
    let measure = |hold_us: u32, threads: u32, pause_us: u32, calls: u32| {
        let program = client("contend")
            .arg(threads.to_string())
            .arg(WINDOW)
            .arg(pause_us.to_string())
            .arg(calls.to_string())
            .env("FAKE_IBV_HOLD_US", hold_us.to_string());
        let inside = fixtures().join("clients/call_times.so");
        medians(CONTENDED_ROUNDS, &locks, |library| {
            let found = numbers(&with(&program, library, Some(&inside)));
            let [calls, held, lost, longest, mean, processor, elapsed] = found[..] else {
                panic!("{found:?}");
            };
            vec![
                lost / held,
                longest / mean,
                processor / elapsed,
                elapsed / calls / (f64::from(hold_us) * 1000.0),
            ]
        })
        .into_iter()
        .map(|numbers| Contention {
            lost: numbers[0],
            unfairness: numbers[1],
            processors: numbers[2],
            stretch: numbers[3],
        })
        .collect::<Vec<_>>()
    };
    let mut crowds = Vec::new();
    for hold_us in [16, 200, 10_000] {
        for threads in [2, 8, 64] {
            let name = format!("{threads} threads, {}", duration(hold_us));
            crowds.push((name, measure(hold_us, threads, 0, 1)));
        }
        if hold_us > 16 {
            // With a shorter pause, a thread would be back in the queue before its turn only if timers were exact.
            let name = format!("16 threads, {}, pauses", duration(hold_us));
            crowds.push((name, measure(hold_us, 16, 4 * hold_us, 1)));
        } else {
            // Four calls at a time, with 0.3 ms in between.
            let name = format!("8 threads, {}, bursts", duration(hold_us));
            crowds.push((name, measure(hold_us, 8, 300, 4)));
        }
    }
    let table = |title: &str, cell: &dyn Fn(&Contention) -> String| {
        println!("## {title}\n");
        header(&[&["threads, hold"], &names[..]].concat());
        for (name, measured) in &crowds {
            let cells: Vec<_> = measured.iter().map(cell).collect();
            println!("| {name} | {} |", cells.join(" | "));
        }
        println!();
    };
    table(
        "Time lost between calls, per cent of the time inside them",
        &|found| significant(100.0 * found.lost),
    );
    table(
        "Time for each call, in holds: 1 is the best possible",
        &|found| format!("{:.3}", found.stretch),
    );
    table(
        "Fairness: the longest call of any thread, in mean calls",
        &|found| format!("{:.1}", found.unfairness),
    );
    table(
        "Processors busy. In calls of 10 ms, the thread inside sleeps; in shorter ones, it works",
        &|found| significant(found.processors),
    );
}

fn process_start() {
    let debian = |file: &str| {
        let path = Path::new("usr/lib/x86_64-linux-gnu").join(file);
        [fixtures().join("peers/debian"), "/".into()]
            .into_iter()
            .map(|root| root.join(&path))
            .find(|path| path.exists())
    };
    let libraries = [
        ("nothing", Some(PathBuf::new())),
        ("an empty library", Some(fixtures().join("peers/empty.so"))),
        ("mrlock", Some(library().into())),
        ("libeatmydata", debian("libeatmydata.so")),
        ("libjemalloc2", debian("libjemalloc.so.2")),
    ]
    .map(|(name, path)| Library { name, path });
    println!("## `true`, preloaded\n");
    header(&[
        "preloaded",
        "start to end, us",
        "more, us",
        "file, KiB",
        "resident, KiB",
        "written to, KiB",
    ]);
    let measured = medians(STARTS, &libraries, |library| {
        let Some(path) = &library.path else {
            return vec![f64::NAN; 3];
        };
        let start = Instant::now();
        let status = Command::new("/bin/true")
            .env_clear()
            .env("LD_PRELOAD", path)
            .stdin(Stdio::null())
            .status();
        let took = start.elapsed();
        assert!(status.expect("true runs").success());
        let (resident, own) = memory(path);
        vec![took.as_secs_f64() * 1e6, resident, own]
    });
    let bare = measured[0].clone();
    for (library, measured) in libraries.iter().zip(&measured) {
        let Some(path) = &library.path else {
            println!(
                "| {} | not there: `apt-get download` found nothing | | | | |",
                library.name
            );
            continue;
        };
        let bytes = fs::metadata(path).map_or(0, |file| file.len());
        println!(
            "| {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} |",
            library.name,
            measured[0],
            measured[0] - bare[0],
            bytes as f64 / 1024.0,
            measured[1] - bare[1],
            measured[2] - bare[2],
        );
    }
    println!();
}

/// The resident KiB of a process that only prints them, and how many of them it has written to.
fn memory(preload: &Path) -> (f64, f64) {
    let output = Command::new("/bin/cat")
        .arg("/proc/self/smaps_rollup")
        .env_clear()
        .env("LD_PRELOAD", preload)
        .output()
        .expect("cat runs");
    let text = String::from_utf8(output.stdout).expect("the kernel writes ASCII");
    let field = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.unwrap_or_else(|| panic!("no {name} in {text:?}"))
    };
    // Not Private_Dirty: a file that was just made is dirty, too.
    (field("Rss:"), field("Anonymous:"))
}

/// Runs `measure` for each library in turn, again and again: the median of each number, for each library.
fn medians(
    rounds: usize,
    libraries: &[Library],
    measure: impl Fn(&Library) -> Vec<f64>,
) -> Vec<Vec<f64>> {
    let rounds: Vec<Vec<_>> = (0..rounds)
        .map(|_| libraries.iter().map(&measure).collect())
        .collect();
    let median = |library: usize, number: usize| {
        let mut values: Vec<f64> = rounds.iter().map(|round| round[library][number]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    (0..libraries.len())
        .map(|library| {
            (0..rounds[0][library].len())
                .map(|number| median(library, number))
                .collect()
        })
        .collect()
}

/// The first line of what the client prints.
fn numbers(program: &Program) -> Vec<f64> {
    let outcome = program.run().succeeded("bench");
    let line = outcome.stdout.lines().next().unwrap_or_default();
    line.split(' ')
        .map(|number| {
            number
                .parse()
                .unwrap_or_else(|_| panic!("no number: {outcome:#?}"))
        })
        .collect()
}

fn header(columns: &[&str]) {
    println!("| {} |", columns.join(" | "));
    println!("|---|{}", "---:|".repeat(columns.len() - 1));
}

fn duration(us: u32) -> impl Display {
    if us < 1000 {
        format!("{us} us")
    } else {
        format!("{} ms", us / 1000)
    }
}

/// Two digits after the point, or none if the number is large.
fn significant(number: f64) -> String {
    if number < 100.0 {
        format!("{number:.2}")
    } else {
        format!("{number:.0}")
    }
}

/// How long the machine's processors have been busy, and how long this process and its children have used them. In seconds.
struct Processors {
    all: f64,
    ours: f64,
    when: Instant,
}

impl Processors {
    fn now() -> Self {
        // proc_stat(5), proc_pid_stat(5): in hundredths of a second.
        let numbers = |file: &str, skip: usize| -> Vec<f64> {
            let text = fs::read_to_string(file).expect("/proc is there");
            let line = text.lines().next().unwrap_or_default();
            let fields = line.split_whitespace().skip(skip);
            fields
                .map_while(|field| field.parse::<f64>().ok())
                .map(|ticks| ticks / 100.0)
                .collect()
        };
        let all = numbers("/proc/stat", 1);
        let ours = numbers("/proc/self/stat", 13);
        Self {
            all: all[0] + all[1] + all[2],
            ours: ours[..4].iter().sum(),
            when: Instant::now(),
        }
    }

    fn report_others(self) {
        let now = Self::now();
        let others = (now.all - self.all) - (now.ours - self.ours);
        println!(
            "Meanwhile other programs kept {:.2} processors of this machine busy.",
            others.max(0.0) / (now.when - self.when).as_secs_f64()
        );
    }
}
