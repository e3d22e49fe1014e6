//! Changes under a prefix as etcd tells them, put together so that a commit is one event.

use std::collections::VecDeque;

use etcd_client::{Client, Event, EventType, WatchOptions, WatchResponse, WatchStream};
use futures_util::stream;
use millstream_head::store::{Change, Version, Watch, WatchEvent};

use crate::commit::version;
use crate::members::MAX_ANSWER_BYTES;

/// A watch that etcd has taken.
pub(crate) struct Begun {
    stream: WatchStream,
    first: WatchResponse,
}

/// Begins to watch; returns once etcd has taken it.
pub(crate) async fn begin(client: Client, key: String, after: Version) -> Result<Begun, etcd_client::Error> {
    let from = i64::try_from(after).unwrap_or(i64::MAX).saturating_add(1);
    let options = WatchOptions::new().with_prefix().with_start_revision(from);
    let mut client = client.watch_client().max_decoding_message_size(MAX_ANSWER_BYTES);
    let mut stream = client.watch(key, Some(options)).await?;
    match stream.message().await? {
        Some(first) => Ok(Begun { stream, first }),
        None => Err(etcd_client::Error::WatchError("etcd ended a watch at once".into())),
    }
}

impl Begun {
    /// What it tells; keys without `prefix`.
    pub(crate) fn events(self, prefix: String) -> Watch {
        let pending: VecDeque<_> = read(&self.first, &prefix).into();
        Watch::new(stream::unfold((self.stream, pending), move |(mut stream, mut pending)| {
            let prefix = prefix.clone();
            async move {
                loop {
                    if let Some(event) = pending.pop_front() {
                        return Some((event, (stream, pending)));
                    }
                    match stream.message().await {
                        Ok(Some(response)) => pending.extend(read(&response, &prefix)),
                        Ok(None) => pending.push_back(WatchEvent::Broken("etcd ended the watch".into())),
                        Err(error) => pending.push_back(WatchEvent::Broken(format!("etcd: {error}"))),
                    }
                }
            }
        }))
    }
}

/// What etcd has said at once. It tells all changes of a revision together.
fn read(response: &WatchResponse, prefix: &str) -> Vec<WatchEvent> {
    let mut events = Vec::<WatchEvent>::new();
    for (at, change) in response.events().iter().filter_map(|event| change(event, prefix)) {
        match events.last_mut() {
            Some(WatchEvent::Changed { version, changes }) if *version == at => changes.push(change),
            _ => events.push(WatchEvent::Changed { version: at, changes: vec![change] }),
        }
    }
    if response.compact_revision() > 0 {
        events.push(WatchEvent::Gap);
    } else if response.canceled() {
        events.push(WatchEvent::Broken(format!("etcd ended the watch: {}", response.cancel_reason())));
    }
    events
}

fn change(event: &Event, prefix: &str) -> Option<(Version, Change)> {
    let entry = event.kv()?;
    // Other keys are not ours.
    let key = entry.key_str().ok()?.strip_prefix(prefix)?.to_owned();
    let value = (event.event_type() == EventType::Put).then(|| entry.value().to_vec());
    Some((version(entry.mod_revision()), Change { key, value }))
}
