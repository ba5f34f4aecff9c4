//! `mrlock timeline`: a picture of a trace.

mod axis;
mod overlap;
mod picture;
mod trace;
mod units;

use crate::{arguments, failure::Failure};
use std::{
    fs::{self, File},
    io::BufReader,
    process::ExitCode,
};
use trace::Trace;

/// Draws the trace into a file.
pub fn draw(arguments: arguments::Timeline) -> Result<ExitCode, Failure> {
    let (input, output) = (arguments.file.display(), arguments.output.display());
    let kind = arguments.output.extension();
    let as_page = kind.is_some_and(|kind| kind == "html");
    if !as_page && kind.is_none_or(|kind| kind != "svg") {
        return Err(Failure {
            status: 2,
            message: format!("timeline: --output {output}: the name must end in .svg or .html"),
        });
    }
    let trace = File::open(&arguments.file)
        .and_then(|file| Trace::read(BufReader::new(file)))
        .map_err(|error| Failure::new(format!("timeline: {input}: {error}")))?;
    if trace.processes.is_empty() {
        return Err(Failure::new(format!(
            "timeline: {input}: no call in it: `mrlock run --trace FILE COMMAND` makes a trace"
        )));
    }
    if trace.damaged > 0 {
        eprintln!(
            "mrlock: timeline: {input}: left out {} lines that are no trace events",
            trace.damaged
        );
    }
    let picture = picture::draw(&trace);
    let text = if as_page {
        picture::page(&picture)
    } else {
        picture
    };
    fs::write(&arguments.output, text).map_err(|error| {
        Failure::new(format!(
            "timeline: --output {output}: {error}: name a file that can be written"
        ))
    })?;
    Ok(ExitCode::SUCCESS)
}
