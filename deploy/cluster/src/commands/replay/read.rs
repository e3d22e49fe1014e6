//! Captures as they are read: CloudEvents, a JSON object a line, as an ingress keeps them and as its sinks get them. Everything
//! that cannot be read is named at once, with file and line.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use millstream_pipelines::REDACTED;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::input;

/// Most bytes of all files that are read.
const MAX_BYTES: u64 = 1 << 30;
/// Most bad lines that are told.
const MAX_TOLD: usize = 20;

/// The last word of the types of events.
const REQUEST: &str = "org.kubeflow.serving.inference.request";
const RESPONSE: &str = "org.kubeflow.serving.inference.response";

/// A request that was captured, with its answer.
#[derive(Debug)]
pub(super) struct Captured {
    /// The request's id.
    pub(super) id: String,
    /// When it came, in microseconds since the Unix epoch.
    pub(super) at_us: i64,
    /// Its fields, as JSON.
    pub(super) fields: Box<RawValue>,
    /// The status of its answer.
    pub(super) status: u16,
    /// How long it took.
    pub(super) latency_us: Option<u64>,
    /// The answer as JSON; none of a request that failed.
    pub(super) answer: Option<Box<RawValue>>,
}

impl Captured {
    /// Whether something of the request was left out.
    pub(super) fn is_redacted(&self) -> bool {
        self.fields.get().contains(&format!("\"{REDACTED}\""))
    }
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Captures {
    /// In the order in which they came.
    pub(super) requests: Vec<Captured>,
    /// Requests without an answer and answers without a request.
    pub(super) unpaired: usize,
    /// Requests that were redacted whole.
    pub(super) unsendable: usize,
    /// Files that end within a line.
    pub(super) cut_off: Vec<String>,
}

/// An event as it is written.
#[derive(Deserialize)]
struct Event {
    specversion: String,
    r#type: String,
    source: String,
    id: String,
    time: Option<String>,
    status: Option<u16>,
    latencyus: Option<u64>,
    data: Option<Box<RawValue>>,
}

/// The events that were read, until each has found its other half.
#[derive(Default)]
struct Events {
    requests: Vec<Event>,
    /// By source and id; those of equal ids in their order.
    responses: HashMap<(String, String), Vec<Event>>,
    cut_off: Vec<String>,
    faults: Vec<String>,
}

/// Reads a file, or all `.jsonl` files of a folder.
///
/// # Errors
/// Why it cannot be read, or what is wrong with which lines.
pub(super) fn read(path: &Path) -> Result<Captures, String> {
    let mut events = Events::default();
    let mut left = MAX_BYTES;
    for file in files(path)? {
        let name = file.display().to_string();
        let text = input::read_file("captures", &file, left).map_err(|error| format!("{error:#}"))?;
        left -= text.len() as u64;
        events.read(&name, &text);
    }
    events.told()?;
    Ok(events.paired())
}

/// The files that a path means, the oldest first.
fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let shown = path.display();
    let entries =
        fs::read_dir(path).map_err(|error| format!("cannot read captures in `{shown}`: {error}"))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let has_folders = files.iter().any(|file| file.is_dir());
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    match (&files[..], has_folders) {
        ([], true) => {
            Err(format!("there are folders in `{shown}` and no captures; name the folder of one pipeline"))
        }
        ([], false) => Err(format!("there are no captures (`*.jsonl`) in `{shown}`")),
        _ => Ok(files),
    }
}

impl Events {
    fn read(&mut self, name: &str, text: &[u8]) {
        let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        for (index, line) in lines.iter().enumerate() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let is_cut_off = index + 1 == lines.len();
            match event(line) {
                Ok(event) if event.r#type == REQUEST => self.requests.push(event),
                Ok(event) => {
                    let key = (event.source.clone(), event.id.clone());
                    self.responses.entry(key).or_default().push(event);
                }
                // A process that was killed while it wrote, or is writing.
                Err(_) if is_cut_off => self.cut_off.push(format!("`{name}`, line {}", index + 1)),
                Err(fault) => self.faults.push(format!("`{name}`, line {}: {fault}", index + 1)),
            }
        }
    }

    fn told(&self) -> Result<(), String> {
        let faults = &self.faults[..];
        match faults.len() {
            0 => Ok(()),
            1 => Err(faults[0].clone()),
            count => {
                let mut lines = faults[..count.min(MAX_TOLD)].join("\n  ");
                if count > MAX_TOLD {
                    lines += &format!("\n  and {} more", count - MAX_TOLD);
                }
                Err(format!("{count} lines are not captures\n  {lines}"))
            }
        }
    }

    fn paired(mut self) -> Captures {
        let mut found = Captures { cut_off: self.cut_off, ..Captures::default() };
        for responses in self.responses.values_mut() {
            responses.reverse();
        }
        for request in self.requests {
            let key = (request.source, request.id);
            let (Some(response), Some(fields)) =
                (self.responses.get_mut(&key).and_then(Vec::pop), request.data)
            else {
                found.unpaired += 1;
                continue;
            };
            if !fields.get().starts_with('{') {
                found.unsendable += 1;
                continue;
            }
            found.requests.push(Captured {
                id: key.1,
                at_us: micros(request.time.as_deref()),
                fields,
                status: response.status.unwrap_or(200),
                latency_us: response.latencyus,
                answer: response.data,
            });
        }
        found.unpaired += self.responses.values().map(Vec::len).sum::<usize>();
        found.requests.sort_by_key(|request| request.at_us);
        found
    }
}

/// The event of a line.
fn event(line: &[u8]) -> Result<Event, String> {
    let event: Event = serde_json::from_slice(line).map_err(|error| {
        let (what, column) = (error.to_string(), error.column());
        // Of the line, which is the first one of its own text.
        let what = what.split(" at line ").next().unwrap_or_default();
        format!("not an event: {what}, column {column}")
    })?;
    if event.specversion != "1.0" {
        return Err(format!("`specversion` is `{}`, not `1.0`", short(&event.specversion)));
    }
    if event.r#type != REQUEST && event.r#type != RESPONSE {
        return Err(format!("`type` is `{}`, not `{REQUEST}` or `….response`", short(&event.r#type)));
    }
    if event.r#type == REQUEST && event.data.is_none() {
        return Err("a request has no `data`".to_owned());
    }
    match &event.time {
        Some(time) if time.parse::<Timestamp>().is_err() => Err(format!("`time` is `{}`", short(time))),
        _ => Ok(event),
    }
}

fn micros(time: Option<&str>) -> i64 {
    time.and_then(|time| time.parse::<Timestamp>().ok()).map_or(0, Timestamp::as_microsecond)
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(kind: &str, id: &str, more: &serde_json::Value) -> String {
        let mut event = json!({"specversion": "1.0", "type": format!("org.kubeflow.serving.inference.{kind}"),
            "source": "/p/revisions/1", "id": id, "time": "2025-11-24T16:00:00.000001Z"});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        format!("{event}\n")
    }

    fn pair(id: &str, text: &str) -> String {
        line("request", id, &json!({"data": {"text": text}}))
            + &line("response", id, &json!({"data": {"text": text}, "status": 200, "latencyus": 1500}))
    }

    fn read_text(text: &str) -> Result<Captures, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.jsonl");
        fs::write(&file, text).unwrap();
        read(&file).map_err(|error| error.replace(&file.display().to_string(), "c.jsonl"))
    }

    #[test]
    fn requests_find_their_answers_whatever_their_order_and_though_ids_repeat() {
        let mut lines: Vec<String> =
            (pair("a", "1") + &pair("b", "2") + &pair("a", "3")).lines().map(str::to_owned).collect();
        lines.swap(1, 2);
        let captures = read_text(&(lines.join("\n") + "\n\n")).unwrap();
        assert_eq!((captures.requests.len(), captures.unpaired), (3, 0));
        for request in &captures.requests {
            assert_eq!(request.fields.get(), request.answer.as_ref().unwrap().get());
            assert_eq!((request.status, request.latency_us), (200, Some(1500)));
            assert_eq!(request.at_us, 1_764_000_000_000_001);
        }
    }

    #[test]
    fn halves_and_what_is_redacted_whole_are_left_out_and_counted() {
        let whole = line("request", "c", &json!({"data": REDACTED}))
            + &line("response", "c", &json!({"status": 503}));
        let text = pair("a", "[redacted]")
            + &line("request", "b", &json!({"data": {}}))
            + &line("response", "x", &json!({}))
            + &whole;
        let captures = read_text(&text).unwrap();
        assert_eq!((captures.requests.len(), captures.unpaired, captures.unsendable), (1, 2, 1));
        assert!(captures.requests[0].is_redacted());
    }

    #[test]
    fn all_bad_lines_are_named_and_a_line_that_was_cut_off_is_none() {
        let good = pair("a", "1");
        let bad = format!(
            "{good}{{\"a\": \n{}{}{}{}",
            line("request", "b", &json!({})),
            line("other", "c", &json!({"data": {}})),
            line("request", "d", &json!({"data": {}, "time": "yesterday"})),
            line("request", "e", &json!({"data": {}, "specversion": "2.0"})),
        );
        let told = read_text(&bad).unwrap_err();
        for part in [
            "5 lines are not captures",
            "`c.jsonl`, line 3: not an event",
            "line 4: a request has no `data`",
            "line 5: `type` is `org.kubeflow.serving.inference.other`",
            "line 6: `time` is `yesterday`",
            "line 7: `specversion` is `2.0`",
        ] {
            assert!(told.contains(part), "{part} is not in {told}");
        }
        let captures = read_text(&format!("{good}{{\"specver")).unwrap();
        assert_eq!((captures.requests.len(), &captures.cut_off[0][..]), (1, &captures.cut_off[0][..]));
        assert!(captures.cut_off[0].ends_with("line 3"));
        let many = read_text(&"x\n".repeat(100)).unwrap_err();
        assert!(many.contains("100 lines") && many.ends_with("and 80 more"), "{many}");
    }

    #[test]
    fn a_folder_is_its_files_and_what_is_missing_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let none = read(folder.path()).unwrap_err();
        assert!(none.starts_with("there are no captures (`*.jsonl`) in"), "{none}");
        let pipeline = folder.path().join("p");
        fs::create_dir(&pipeline).unwrap();
        assert!(read(folder.path()).unwrap_err().contains("name the folder of one pipeline"));
        fs::write(pipeline.join("00000001.jsonl"), pair("a", "1")).unwrap();
        fs::write(pipeline.join("00000002.jsonl"), pair("b", "2")).unwrap();
        fs::write(pipeline.join("notes.txt"), "mine").unwrap();
        assert_eq!(read(&pipeline).unwrap().requests.len(), 2);
        assert!(read(&folder.path().join("nowhere")).unwrap_err().contains("cannot read captures"));
    }
}
