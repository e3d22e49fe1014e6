//! The way of captures from requests to the thread that writes them: bounded in bytes, never waited for.

use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use millstream_pipelines::Plan;
use millstream_proto::{RequestId, Value};
use tokio::runtime::Handle;

use super::backlog::{Backlog, Place};
use super::source::{Captured, Source};
use super::writer::Writer;
use crate::cache::size;
use crate::protocol::problem::Kind;

/// Takes captures of all pipelines of an ingress. Cloning shares it; the thread ends with the last clone.
#[derive(Clone)]
pub(crate) struct Captures {
    shared: Arc<Shared>,
}

struct Shared {
    /// Where captures are kept, a folder for each pipeline.
    folder: PathBuf,
    /// Values that wait to be written.
    values: Backlog,
    /// Events that wait for sinks.
    events: Backlog,
    /// To the thread, which starts when the first pipeline wants it; none where it cannot.
    writer: OnceLock<Option<Sender<Queued>>>,
}

/// A capture on its way to the thread.
struct Queued {
    captured: Captured,
    _place: Place,
}

/// Captures a part of the requests of one revision.
pub(crate) struct PipelineCapture {
    source: Arc<Source>,
    captures: Captures,
}

impl Captures {
    /// Keeps captures in folders of this one, which is made when there are some.
    pub(crate) fn new(folder: PathBuf) -> Self {
        let shared =
            Shared { folder, values: Backlog::new(), events: Backlog::new(), writer: OnceLock::new() };
        Self { shared: Arc::new(shared) }
    }

    /// What captures the requests of this revision; none where its file does not ask for it.
    pub(crate) fn of(&self, plan: &Plan, revision: u64) -> Option<Arc<PipelineCapture>> {
        let source = Source::of(plan, revision)?;
        self.writer();
        Some(Arc::new(PipelineCapture { source: Arc::new(source), captures: self.clone() }))
    }

    /// Takes a capture of so many bytes, unless too many wait.
    fn take(&self, captured: Captured, bytes: u64) {
        let source = captured.source.clone();
        let place = self.shared.values.place(bytes);
        let queued = place.map(|place| Queued { captured, _place: place });
        let sent = queued.zip(self.writer()).is_some_and(|(queued, writer)| writer.send(queued).is_ok());
        if !sent {
            source.meter.dropped();
        }
    }

    fn writer(&self) -> Option<&Sender<Queued>> {
        self.shared.writer.get_or_init(|| self.start()).as_ref()
    }

    fn start(&self) -> Option<Sender<Queued>> {
        let (sender, queue) = channel();
        let Shared { folder, events, .. } = &*self.shared;
        let mut writer = Writer::new(folder.clone(), Handle::current(), events.clone());
        let run = move || queue.into_iter().for_each(|Queued { captured, _place }| writer.write(&captured));
        let thread = std::thread::Builder::new().name("captures".to_owned()).spawn(run);
        if let Err(error) = &thread {
            tracing::error!(%error, "captures cannot be written: there is no thread for it");
        }
        thread.ok().map(|_| sender)
    }

    /// Waits until what has been taken is written and sent, at most so long.
    pub(crate) async fn flush(&self, at_most: Duration) {
        let all = async {
            self.shared.values.until_empty().await;
            self.shared.events.until_empty().await;
        };
        // What is not sent by then is lost; a sink that is away keeps nobody up.
        let _ = tokio::time::timeout(at_most, all).await;
    }
}

impl PipelineCapture {
    /// Whether a request with this draw (0 to 999) is captured.
    pub(crate) fn takes(&self, draw: u16) -> bool {
        draw < self.source.settings.permille
    }

    /// Captures a request that took so long. It may be dropped; the request does not wait.
    pub(crate) fn capture(
        &self,
        request_id: RequestId,
        fields: Value,
        outcome: Result<Value, &'static Kind>,
        elapsed: Duration,
    ) {
        let of = |value: &Value| size(value, u64::MAX).unwrap_or(u64::MAX);
        let bytes = of(&fields).saturating_add(outcome.as_ref().map_or(0, of));
        let (source, ended_us) = (self.source.clone(), millstream_clock::unix_us());
        self.captures.take(Captured { source, request_id, fields, outcome, elapsed, ended_us }, bytes);
    }
}
