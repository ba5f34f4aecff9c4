//! Numbers with units, for reading.

/// A count, in groups of three digits.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    groups
        .map(String::from_utf8_lossy)
        .collect::<Vec<_>>()
        .join(",")
}

/// A time, with three digits.
pub fn time(nanoseconds: u64) -> String {
    let value = nanoseconds as f64;
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..999_500 => digits(value / 1e3) + " us",
        999_500..999_500_000 => digits(value / 1e6) + " ms",
        _ => digits(value / 1e9) + " s",
    }
}

/// The length of some memory.
pub fn bytes(length: u64) -> String {
    match length {
        0..1024 => format!("{length} B"),
        1024..1_048_576 => digits(length as f64 / 1024.0) + " KiB",
        1_048_576..1_073_741_824 => digits(length as f64 / 1_048_576.0) + " MiB",
        _ => digits(length as f64 / 1_073_741_824.0) + " GiB",
    }
}

/// Three digits, without zeros at the end.
fn digits(value: f64) -> String {
    let decimals = match value {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').into()
    } else {
        text
    }
}
