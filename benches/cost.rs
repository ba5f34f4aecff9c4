//! What a call costs that never waits, through the built library against without it.
//!
//! Criterion and its like measure functions in their own process. Here the subject is a process with and without
//! `LD_PRELOAD`, so a C program measures itself, and this starts it, alternately.

#[path = "../tests/common/mod.rs"]
mod common;

use common::{Program, client, fixtures};

/// How often each program runs, with and without in turn.
const ROUNDS: usize = 15;

fn main() {
    // From a cargo test of all targets: it is enough that it compiles.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let other_library = fixtures().join("clients/other_ioctl.so");
    let cost = |what: &str, calls: &str| client("cost").arg(what).arg(calls);
    println!("| one call | without, ns | with, ns | difference, ns | ratio |");
    println!("|---|---:|---:|---:|---:|");
    row(
        "an unrelated `ioctl`, answered by the kernel",
        &cost("ioctl", "20000"),
    );
    row(
        "an unrelated `ioctl`, answered by another preload library",
        &cost("ioctl", "200000").env("LD_PRELOAD", other_library),
    );
    row(
        "`ibv_reg_mr` and `ibv_dereg_mr`, software libibverbs",
        &cost("mr", "2000")
            .env("EMBEDDED_HOLD_US", "0")
            .env("EMBEDDED_RACE", "count"),
    );
}

/// Measures `program` without and with the library, and prints the medians.
fn row(name: &str, program: &Program) {
    let preloaded = program.preloaded();
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(nanoseconds(program));
        with.push(nanoseconds(&preloaded));
    }
    let (without, with) = (median(without), median(with));
    println!(
        "| {name} | {without:.1} | {with:.1} | {:.1} | {:.3} |",
        with - without,
        with / without
    );
}

/// The first line of what the client prints.
fn nanoseconds(program: &Program) -> f64 {
    let outcome = program.run().succeeded("cost");
    let number = outcome
        .stdout
        .lines()
        .next()
        .and_then(|line| line.parse().ok());
    number.unwrap_or_else(|| panic!("no number: {outcome:#?}"))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
