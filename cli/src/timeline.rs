//! `mrlock timeline`: a picture of the calls in records.

mod axis;
mod chrome;
mod overlap;
mod picture;
mod recorded;
mod trace;
mod units;

use crate::{
    arguments,
    failure::Failure,
    record::{Record, Source as _, layout::MAGIC},
};
use std::{
    fs::{self, File},
    io::{self, BufReader, Read as _},
    path::Path,
    process::ExitCode,
};
use trace::Trace;

/// What the name of the output asks for.
enum Format {
    Svg,
    Page,
    Chrome,
}

/// Draws the records into a file.
pub fn draw(arguments: arguments::Timeline) -> Result<ExitCode, Failure> {
    let output = arguments.output.display();
    let kind = arguments.output.extension().and_then(|kind| kind.to_str());
    let format = match kind {
        Some("svg") => Format::Svg,
        Some("html") => Format::Page,
        Some("json") => Format::Chrome,
        _ => {
            return Err(Failure {
                status: 2,
                message: format!(
                    "timeline: --output {output}: the name must end in .svg or .html, or .json for Perfetto"
                ),
            });
        }
    };
    let mut trace = Trace::default();
    for file in &arguments.files {
        let name = file.display();
        add(&mut trace, file).map_err(|why| Failure::new(format!("timeline: {name}: {why}")))?;
    }
    if trace.processes.is_empty() {
        let name = arguments.files[0].display();
        return Err(Failure::new(format!(
            "timeline: {name}: no call in it: `mrlock run --trace FILE COMMAND` makes a trace"
        )));
    }
    if trace.damaged > 0 {
        eprintln!(
            "mrlock: timeline: left out {} lines that are no trace events",
            trace.damaged
        );
    }
    let text = match format {
        Format::Svg => picture::draw(&trace),
        Format::Page => picture::page(&picture::draw(&trace)),
        Format::Chrome => chrome::written(&trace),
    };
    fs::write(&arguments.output, text).map_err(|error| {
        Failure::new(format!(
            "timeline: --output {output}: {error}: name a file that can be written"
        ))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Adds a record, or a Chrome trace; `-` is standard input. The error says why that cannot be done.
fn add(trace: &mut Trace, file: &Path) -> Result<(), String> {
    if file == Path::new("-") {
        let mut bytes = Vec::new();
        let read = io::stdin().read_to_end(&mut bytes);
        read.map_err(|error| error.to_string())?;
        if bytes.first() == Some(&b'[') {
            return add_chrome(trace, &bytes[..]);
        }
        let record = Record::in_bytes(&bytes).map_err(|damage| damage.to_string())?;
        trace.add_record(&record);
        return Ok(());
    }
    let opened = File::open(file).map_err(|error| error.to_string())?;
    let mut start = [0; size_of::<u64>()];
    let is_chrome = opened.copy_at(&mut start, 0).is_ok() && start[0] == b'[';
    if is_chrome && u64::from_ne_bytes(start) != MAGIC {
        return add_chrome(trace, BufReader::new(opened));
    }
    let record = Record::in_file(file).map_err(|damage| damage.to_string())?;
    trace.add_record(&record);
    Ok(())
}

fn add_chrome(trace: &mut Trace, text: impl io::BufRead) -> Result<(), String> {
    let read = Trace::of_chrome(text).map_err(|error| error.to_string())?;
    trace.damaged += read.damaged;
    for (id, process) in read.processes {
        trace.add_process(id, process);
    }
    Ok(())
}
