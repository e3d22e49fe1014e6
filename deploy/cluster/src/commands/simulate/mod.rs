//! `cluster simulate`: the head's decision code on a virtual clock or a recorded workload. Needs no cluster.

pub(crate) mod autoscaling;
pub(crate) mod placement;

use std::fs;
use std::path::Path;

use millstream_simulate::CsvFault;
use serde_json::json;

use crate::cli::{Global, Simulate};
use crate::exit::Failure;

/// Runs the command.
pub(crate) fn run(global: &Global, what: &Simulate) -> Result<(), Failure> {
    match what {
        Simulate::Autoscaling(args) => autoscaling::run(global, args),
        Simulate::Placement(args) => placement::run(global, args),
    }
}

/// Reads a CSV file of at most `max_bytes`. What is wrong with its contents goes to `faults`, and there is no value then.
fn read<T>(
    path: &Path,
    max_bytes: u64,
    parse: impl Fn(&str, &str) -> Result<T, Vec<CsvFault>>,
    faults: &mut Vec<CsvFault>,
) -> Result<Option<T>, Failure> {
    let name = path.display().to_string();
    let cannot = |what: String| Failure::failed(format!("cannot read `{name}`: {what}"));
    let metadata = fs::metadata(path).map_err(|error| cannot(error.to_string()))?;
    if !metadata.is_file() {
        return Err(cannot("it is not a file".to_owned()));
    }
    if metadata.len() > max_bytes {
        return Err(cannot(format!("it has {} bytes, more than {max_bytes}", metadata.len())));
    }
    let bytes = fs::read(path).map_err(|error| cannot(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        cannot(format!("it is not UTF-8 text (byte {})", error.utf8_error().valid_up_to()))
    })?;
    match parse(&name, &text) {
        Ok(value) => Ok(Some(value)),
        Err(found) => {
            faults.extend(found);
            Ok(None)
        }
    }
}

/// Says all faults of the files.
fn refused(faults: &[CsvFault], global: &Global) -> Failure {
    if global.json {
        println!("{}", json!({"valid": false, "faults": faults}));
    }
    let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
    Failure::invalid(lines.join("\n"))
}
