//! `mrlock timeline`: a picture of the calls in records.

mod axis;
mod chrome;
mod overlap;
mod picture;
mod process;
mod recorded;
#[cfg(test)]
mod tests;
mod units;

use crate::{
    arguments,
    failure::{self, Failure},
    record::Record,
};
use process::Process;
use std::{
    fs,
    io::{self, Read as _},
    path::Path,
    process::ExitCode,
};

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
    let mut processes = Vec::new();
    let mut without_calls = Vec::new();
    for file in &arguments.files {
        let name = file.display();
        let record = read(file).map_err(|why| Failure::new(format!("timeline: {name}: {why}")))?;
        match Process::recorded(&record) {
            Some(process) => processes.push(process),
            None => without_calls.push(format!(
                "timeline: {name}: no call in it: `mrlock run --trace FILE COMMAND` makes a trace"
            )),
        }
    }
    if processes.is_empty() {
        return Err(Failure::new(without_calls.swap_remove(0)));
    }
    for line in without_calls {
        failure::say(line);
    }
    let text = match format {
        Format::Svg => picture::draw(&processes, arguments.beside),
        Format::Page => picture::page(&picture::draw(&processes, arguments.beside)),
        Format::Chrome => chrome::written(&processes, arguments.beside),
    };
    fs::write(&arguments.output, text).map_err(|error| {
        Failure::new(format!(
            "timeline: --output {output}: {error}: name a file that can be written"
        ))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Reads a record; `-` is standard input. The error says why that cannot be done.
fn read(file: &Path) -> Result<Record, String> {
    if file != Path::new("-") {
        return Record::in_file(file).map_err(|damage| damage.to_string());
    }
    let mut bytes = Vec::new();
    let read = io::stdin().read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    Record::in_bytes(&bytes).map_err(|damage| damage.to_string())
}
