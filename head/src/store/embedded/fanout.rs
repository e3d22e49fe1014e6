//! Commits handed to watchers. A bounded memory of recent commits lets a watch resume from a version; a watcher that
//! is too far behind learns that it has a gap instead of silently missing something.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::{Stream, stream};
use tokio::sync::broadcast;

use crate::store::{Change, Version, Watch, WatchEvent};

/// Commits remembered for watches that resume.
const MAX_RECENT: usize = 1024;
/// Bytes of them.
const MAX_RECENT_BYTES: usize = 16 << 20;

/// One commit as watchers see it.
#[derive(Debug)]
struct Commit {
    version: Version,
    changes: Vec<Change>,
}

impl Commit {
    fn bytes(&self) -> usize {
        let bytes = |change: &Change| change.key.len() + change.value.as_ref().map_or(0, Vec::len);
        self.changes.iter().map(bytes).sum()
    }
}

/// What listeners are sent.
#[derive(Debug, Clone)]
enum News {
    Commit(Arc<Commit>),
    /// Commits that nobody knows.
    Gap,
}

/// Recent commits and who listens for the next ones.
pub(super) struct Fanout {
    recent: VecDeque<Arc<Commit>>,
    recent_bytes: usize,
    /// Everything after this version is in `recent`.
    floor: Version,
    /// The last commit.
    last: Version,
    /// `None` once the store is closed.
    sender: Option<broadcast::Sender<News>>,
}

impl Fanout {
    /// Knows nothing that happened up to `version`.
    pub(super) fn new(version: Version) -> Self {
        Self {
            recent: VecDeque::new(),
            recent_bytes: 0,
            floor: version,
            last: version,
            sender: Some(broadcast::channel(MAX_RECENT).0),
        }
    }

    /// Hands a commit to everybody; commits come in order of their versions.
    pub(super) fn publish(&mut self, version: Version, changes: Vec<Change>) {
        self.last = version;
        if changes.is_empty() {
            return;
        }
        let commit = Arc::new(Commit { version, changes });
        self.recent_bytes += commit.bytes();
        self.recent.push_back(Arc::clone(&commit));
        while (self.recent.len() > MAX_RECENT || self.recent_bytes > MAX_RECENT_BYTES)
            && let Some(dropped) = self.recent.pop_front()
        {
            self.recent_bytes -= dropped.bytes();
            self.floor = dropped.version;
        }
        self.send(News::Commit(commit));
    }

    /// The store's last commit is this one: if it is another than the last one published, everybody has a gap.
    pub(super) fn resume_at(&mut self, version: Version) {
        if version != self.last {
            self.recent.clear();
            self.recent_bytes = 0;
            (self.floor, self.last) = (version, version);
            self.send(News::Gap);
        }
    }

    /// Ends all watches.
    pub(super) fn close(&mut self) {
        self.sender = None;
    }

    fn send(&self, news: News) {
        if let Some(sender) = &self.sender {
            // An error only says that nobody listens.
            let _ = sender.send(news);
        }
    }

    /// Changes under `prefix` after `after`.
    pub(super) fn watch(&self, prefix: &str, after: Version) -> Watch {
        let Some(sender) = &self.sender else { return Watch::new(stream::empty()) };
        if after < self.floor {
            return Watch::new(stream::iter([WatchEvent::Gap]));
        }
        let backlog: VecDeque<_> = self.recent.iter().filter(|c| c.version > after).cloned().collect();
        Watch::new(follow(prefix.to_owned(), backlog, sender.subscribe()))
    }
}

/// The backlog, then what comes; a gap ends it.
fn follow(
    prefix: String,
    backlog: VecDeque<Arc<Commit>>,
    receiver: broadcast::Receiver<News>,
) -> impl Stream<Item = WatchEvent> + Send {
    stream::unfold(Some((prefix, backlog, receiver)), async |state| {
        let (prefix, mut backlog, mut receiver) = state?;
        loop {
            let commit = match backlog.pop_front() {
                Some(commit) => commit,
                None => match receiver.recv().await {
                    Ok(News::Commit(commit)) => commit,
                    Ok(News::Gap) | Err(broadcast::error::RecvError::Lagged(_)) => {
                        return Some((WatchEvent::Gap, None));
                    }
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

    #[tokio::test]
    async fn commits_that_nobody_knows_are_a_gap_and_a_closed_store_an_end() {
        let mut fanout = Fanout::new(3);
        fanout.publish(4, change("a"));
        let mut early = fanout.watch("", 4);
        fanout.resume_at(4);
        fanout.resume_at(5);
        assert_eq!(early.next().await, Some(WatchEvent::Gap));
        assert_eq!(fanout.watch("", 4).next().await, Some(WatchEvent::Gap));
        let mut late = fanout.watch("", 5);
        fanout.close();
        assert_eq!(late.next().await, None);
        assert_eq!(fanout.watch("", 5).next().await, None);
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded_in_bytes() {
        let mut fanout = Fanout::new(0);
        let big = || vec![Change { key: "a".into(), value: Some(vec![1; MAX_RECENT_BYTES / 4]) }];
        (1..=5).for_each(|version| fanout.publish(version, big()));
        assert_eq!(fanout.watch("", 1).next().await, Some(WatchEvent::Gap));
        assert!(matches!(fanout.watch("", 2).next().await, Some(WatchEvent::Changed { version: 3, .. })));
    }
}
