//! Changes of the store, as whoever follows it sees them.

use futures_util::stream::{BoxStream, StreamExt};

use super::Version;

/// A key's new value (`None`: it was deleted).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// Its value now.
    pub value: Option<Vec<u8>>,
}

/// What a watch yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// A commit touched these keys under the prefix.
    Changed {
        /// The commit.
        version: Version,
        /// The keys, in the order they were written.
        changes: Vec<Change>,
    },
    /// Changes were missed; list again and watch from there. Nothing follows.
    Gap,
    /// The store is out of reach, for this reason; watch again from the last version. Nothing follows.
    Broken(String),
}

/// Changes under a prefix, in order, none twice. All changes of one commit come in one event.
pub struct Watch {
    /// `None` once nothing follows.
    events: Option<BoxStream<'static, WatchEvent>>,
}

impl Watch {
    /// A watch that yields these events.
    pub fn new(events: impl futures_util::Stream<Item = WatchEvent> + Send + 'static) -> Self {
        Self { events: Some(events.boxed()) }
    }

    /// The next event; `None` when the store was closed, and after an event that nothing follows.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        let event = self.events.as_mut()?.next().await;
        if !matches!(event, Some(WatchEvent::Changed { .. })) {
            self.events = None;
        }
        event
    }
}
