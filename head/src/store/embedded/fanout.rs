//! Commits handed to watchers. A bounded memory of recent commits lets a watch resume from a version; a watcher that
//! is too far behind learns that it has a gap instead of silently missing something.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::{Stream, stream};
use tokio::sync::broadcast;

use crate::store::{Change, Version, Watch, WatchEvent};

/// Commits remembered for watches that resume.
const MAX_RECENT: usize = 1024;

/// One commit as watchers see it.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) version: Version,
    pub(super) changes: Vec<Change>,
}

/// Recent commits and who listens for the next ones.
pub(super) struct Fanout {
    recent: VecDeque<Arc<Commit>>,
    /// Everything after this version is in `recent`.
    floor: Version,
    sender: broadcast::Sender<Arc<Commit>>,
}

impl Fanout {
    /// Knows nothing that happened up to `version`.
    pub(super) fn new(version: Version) -> Self {
        Self { recent: VecDeque::new(), floor: version, sender: broadcast::channel(MAX_RECENT).0 }
    }

    /// Hands a commit to everybody; commits come in order of their versions.
    pub(super) fn publish(&mut self, version: Version, changes: Vec<Change>) {
        let commit = Arc::new(Commit { version, changes });
        self.recent.push_back(Arc::clone(&commit));
        if self.recent.len() > MAX_RECENT
            && let Some(dropped) = self.recent.pop_front()
        {
            self.floor = dropped.version;
        }
        // An error only says that nobody listens.
        let _ = self.sender.send(commit);
    }

    /// Changes under `prefix` after `after`.
    pub(super) fn watch(&self, prefix: &str, after: Version) -> Watch {
        if after < self.floor {
            return Watch::new(stream::iter([WatchEvent::Gap]));
        }
        let backlog: VecDeque<_> = self.recent.iter().filter(|c| c.version > after).cloned().collect();
        Watch::new(follow(prefix.to_owned(), backlog, self.sender.subscribe()))
    }
}

/// The backlog, then what comes; a gap ends it.
fn follow(
    prefix: String,
    backlog: VecDeque<Arc<Commit>>,
    receiver: broadcast::Receiver<Arc<Commit>>,
) -> impl Stream<Item = WatchEvent> + Send {
    stream::unfold(Some((prefix, backlog, receiver)), async |state| {
        let (prefix, mut backlog, mut receiver) = state?;
        loop {
            let commit = match backlog.pop_front() {
                Some(commit) => commit,
                None => match receiver.recv().await {
                    Ok(commit) => commit,
                    Err(broadcast::error::RecvError::Lagged(_)) => return Some((WatchEvent::Gap, None)),
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
            };
            let changes: Vec<_> =
                commit.changes.iter().filter(|change| change.key.starts_with(&prefix)).cloned().collect();
            if !changes.is_empty() {
                let event = WatchEvent::Changed { version: commit.version, changes };
                return Some((event, Some((prefix, backlog, receiver))));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &str) -> Vec<Change> {
        vec![Change { key: key.into(), value: Some(vec![1]) }]
    }

    #[tokio::test]
    async fn a_watch_from_a_version_that_is_forgotten_says_gap_and_ends() {
        let mut fanout = Fanout::new(7);
        let mut watch = fanout.watch("", 6);
        assert_eq!(watch.next().await, Some(WatchEvent::Gap));
        assert_eq!(watch.next().await, None);
        for version in 8..=8 + MAX_RECENT as u64 {
            fanout.publish(version, change("a"));
        }
        assert_eq!(fanout.watch("", 7).next().await, Some(WatchEvent::Gap));
        let mut resumed = fanout.watch("", 8);
        let Some(WatchEvent::Changed { version, .. }) = resumed.next().await else {
            panic!("expected a change")
        };
        assert_eq!(version, 9);
    }

    #[tokio::test]
    async fn a_watcher_that_falls_too_far_behind_says_gap() {
        let mut fanout = Fanout::new(0);
        let mut slow = fanout.watch("", 0);
        for version in 1..=MAX_RECENT as u64 + 1 {
            fanout.publish(version, change("a"));
        }
        assert_eq!(slow.next().await, Some(WatchEvent::Gap));
        assert_eq!(slow.next().await, None);
    }
}
