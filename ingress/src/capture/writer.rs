//! What the thread of captures does with each: renders it, and puts it into its pipeline's ring or hands it to its sink.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use tokio::runtime::Handle;

use super::backlog::Backlog;
use super::event::{self, Events};
use super::ring::{Appended, Ring};
use super::sink::Sink;
use super::source::{Captured, Source};

/// See the module.
pub(super) struct Writer {
    folder: PathBuf,
    runtime: Handle,
    waiting: Backlog,
    /// By pipeline.
    rings: BTreeMap<String, Ring>,
    /// By URL.
    sinks: BTreeMap<String, Sink>,
    /// Whether the disk took the last one: it is told once when it does not.
    disk: Disk,
}

/// Whether the disk takes captures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disk {
    Takes,
    Refuses,
}

impl Writer {
    /// Keeps rings in folders of this one; sinks run on that runtime, and `waiting` bounds what waits for them.
    pub(super) fn new(folder: PathBuf, runtime: Handle, waiting: Backlog) -> Self {
        Self { folder, runtime, waiting, rings: BTreeMap::new(), sinks: BTreeMap::new(), disk: Disk::Takes }
    }

    /// Writes a capture, or hands it on.
    pub(super) fn write(&mut self, captured: &Captured) {
        let events = event::render(captured);
        match &captured.source.settings.sink {
            Some(url) => self.send(url, events, captured),
            None => self.keep(&events, &captured.source),
        }
    }

    fn send(&mut self, url: &str, events: Events, captured: &Captured) {
        if !self.sinks.contains_key(url) {
            self.sinks.insert(url.to_owned(), Sink::start(url, &self.runtime));
        }
        let place = self.waiting.place((events.request.len() + events.response.len()) as u64);
        match self.sinks.get(url).zip(place) {
            Some((sink, place)) => sink.send(events, captured.source.clone(), place),
            None => captured.source.meter.dropped(),
        }
    }

    fn keep(&mut self, events: &Events, source: &Source) {
        let lines = [&events.request[..], b"\n", &events.response[..], b"\n"].concat();
        let appended = self.append(&lines, source);
        match appended {
            Ok(Appended::Kept) => source.meter.kept(),
            _ => source.meter.dropped(),
        }
        match (&appended, self.disk) {
            (Err(error), Disk::Takes) => {
                tracing::warn!(pipeline = source.pipeline, %error, "captures cannot be written");
                self.disk = Disk::Refuses;
            }
            (Ok(Appended::Kept), Disk::Refuses) => {
                tracing::info!(pipeline = source.pipeline, "captures are written again");
                self.disk = Disk::Takes;
            }
            _ => {}
        }
    }

    fn append(&mut self, lines: &[u8], source: &Source) -> io::Result<Appended> {
        if !self.rings.contains_key(&source.pipeline) {
            let ring = Ring::open(self.folder.join(&source.pipeline))?;
            self.rings.insert(source.pipeline.clone(), ring);
        }
        match self.rings.get_mut(&source.pipeline) {
            Some(ring) => ring.append(lines, source.settings.max_bytes),
            None => Ok(Appended::TooLarge),
        }
    }
}
