//! `mrlock stress`: threads register memory at the same time, each on a context of its own, and check the results.

mod memory;
mod verbs;

use crate::{
    arguments,
    failure::{self, Failure},
};
use memory::{Cuda, Source};
use std::{
    io::{self, IsTerminal as _, Write as _},
    process::{self, ExitCode},
    sync::{
        Barrier,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use verbs::{Domain, Entry, Hca, Verbs};

/// Exit status: nothing could be registered, because something is missing.
const NOT_STARTED: u8 = 2;

/// Registers until all threads are done. The exit status is 0 if every call returned what it should.
pub fn provoke(arguments: arguments::Stress) -> Result<ExitCode, Failure> {
    let stress = Stress::prepare(arguments).map_err(|message| Failure {
        status: NOT_STARTED,
        message: format!("stress: {message}"),
    })?;
    let failures = stress.run();
    if let Some(first) = failures.first() {
        return Err(Failure::new(format!(
            "stress: {} of {} threads failed, the first: {first}",
            failures.len(),
            stress.threads
        )));
    }
    let line = format!(
        "stress: {} threads on {}: {} memory regions of {} bytes: registered, checked, deregistered",
        stress.threads,
        stress.names(),
        stress.done.load(Ordering::SeqCst),
        stress.size
    );
    writeln!(io::stdout(), "{line}")
        .map_err(|error| Failure::new(format!("stress: standard output: {error}")))?;
    Ok(ExitCode::SUCCESS)
}

struct Stress {
    verbs: Verbs,
    devices: Vec<Hca>,
    entries: Vec<Entry>,
    source: Source,
    threads: usize,
    size: usize,
    length: Length,
    frees: bool,
    /// Regions that were made and deregistered.
    done: AtomicU64,
}

/// When a thread stops.
enum Length {
    Calls(u64),
    Seconds(f64),
}

impl Stress {
    fn prepare(arguments: arguments::Stress) -> Result<Self, String> {
        let verbs = Verbs::load()?;
        let present = verbs.devices()?;
        let devices = match arguments.devices {
            None => present,
            Some(names) => names
                .into_iter()
                .map(|name| {
                    let found = present.iter().find(|hca| hca.name == name);
                    found.cloned().ok_or_else(|| {
                        let names: Vec<_> = present.iter().map(|hca| hca.name.as_str()).collect();
                        format!(
                            "--devices {name}: no such device; there are {}",
                            names.join(",")
                        )
                    })
                })
                .collect::<Result<_, _>>()?,
        };
        // What one thread could not open is missing, and no result.
        for hca in &devices {
            let opened = verbs.open(hca).and_then(Domain::close);
            opened.map_err(|problem| format!("{}: {problem}", hca.name))?;
        }
        Ok(Self {
            entries: verbs.entries(),
            verbs,
            devices,
            source: if arguments.gpu {
                Source::Gpu(Cuda::load()?)
            } else {
                Source::Host
            },
            threads: arguments.threads,
            size: arguments.size,
            length: arguments
                .seconds
                .map_or(Length::Calls(arguments.calls), Length::Seconds),
            frees: arguments.free,
            done: AtomicU64::new(0),
        })
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.devices.iter().map(|hca| hca.name.as_str()).collect();
        names.join(",")
    }

    /// The failures, in no particular order.
    fn run(&self) -> Vec<String> {
        let start = Barrier::new(self.threads);
        let running = AtomicUsize::new(self.threads);
        let main = thread::current();
        thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads)
                .map(|index| {
                    let (start, running, main) = (&start, &running, &main);
                    let work = move || {
                        let result = self.work(index, start);
                        running.fetch_sub(1, Ordering::SeqCst);
                        main.unpark();
                        result.map_err(|problem| format!("thread {index}, {problem}"))
                    };
                    let spawned = thread::Builder::new().spawn_scoped(scope, work);
                    spawned.unwrap_or_else(|error| {
                        // The threads started before wait for all threads, so they cannot be stopped.
                        failure::say(format_args!(
                            "stress: --threads {}: thread {index}: {error}: start fewer",
                            self.threads
                        ));
                        process::exit(NOT_STARTED.into())
                    })
                })
                .collect();
            self.show_progress(&running);
            let results = threads.into_iter().filter_map(|thread| thread.join().ok());
            results.filter_map(Result::err).collect()
        })
    }

    fn show_progress(&self, running: &AtomicUsize) {
        if !io::stderr().is_terminal() {
            return;
        }
        let began = Instant::now();
        while running.load(Ordering::SeqCst) > 0 {
            thread::park_timeout(Duration::from_millis(200));
            let seconds = began.elapsed().as_secs();
            let done = self.done.load(Ordering::SeqCst);
            // A failure to write to the terminal does not matter.
            let _ = write!(io::stderr(), "\r{done} memory regions in {seconds} s ");
        }
        let _ = write!(io::stderr(), "\r\x1b[K");
    }

    /// The work of one thread.
    fn work(&self, index: usize, start: &Barrier) -> Result<(), String> {
        let hca = &self.devices[index % self.devices.len()];
        let on_device = |problem: String| format!("{}: {problem}", hca.name);
        let prepared = self.verbs.open(hca).map_err(on_device).and_then(|domain| {
            self.source.begin_thread(index)?;
            Ok((domain, self.source.allocate(self.size, index)?))
        });
        // A thread that has failed waits too: the barrier needs all threads.
        start.wait();
        let (domain, mut memory) = prepared?;
        let began = Instant::now();
        for call in 0.. {
            match self.length {
                Length::Calls(calls) if call >= calls => break,
                Length::Seconds(seconds) if began.elapsed().as_secs_f64() >= seconds => break,
                _ => {}
            }
            let at = |problem: String| format!("region {call}, {}: {problem}", hca.name);
            let entry = self.entries[call as usize % self.entries.len()];
            let region = domain
                .register(entry, memory.address, self.size)
                .map_err(at)?;
            if self.frees {
                // Frees the memory while it is registered: then the driver calls back nvidia-peermem.
                self.source.free(memory).map_err(at)?;
                domain.deregister(region).map_err(at)?;
                memory = self.source.allocate(self.size, index).map_err(at)?;
            } else {
                domain.deregister(region).map_err(at)?;
            }
            self.done.fetch_add(1, Ordering::SeqCst);
        }
        self.source.free(memory)?;
        domain.close().map_err(on_device)
    }
}
