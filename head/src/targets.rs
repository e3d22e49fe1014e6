//! Where the processes of the cluster have their metrics, for whoever collects them: each that has a session with this head, and for a
//! while those that had one, so that a process that is gone is missed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;

use crate::clock;

/// How long a process stays listed after its last session.
const KEPT: Duration = Duration::from_secs(600);
/// Most processes that are listed.
const MAX: usize = 4096;

/// See the module. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Targets(Arc<Mutex<BTreeMap<Target, Seen>>>);

/// A process's metrics.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    address: SocketAddr,
    node: String,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    sessions: u32,
    last: Instant,
}

/// A process is listed; from when this is dropped it is on the way out.
#[derive(Debug)]
pub(crate) struct Listed {
    targets: Targets,
    target: Target,
}

/// A group of targets as Prometheus reads it (`http_sd_configs`).
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct TargetGroup {
    /// `HOST:PORT` of processes.
    pub(crate) targets: Vec<String>,
    /// What is known of them; gone after relabelling.
    pub(crate) labels: BTreeMap<&'static str, String>,
}

impl Targets {
    /// A process of that node has a session. `None` when it says no address that others could reach.
    pub(crate) fn list(&self, node: &str, admin: &str) -> Option<Listed> {
        let address: SocketAddr = admin.parse().ok()?;
        if address.ip().is_unspecified() || address.port() == 0 {
            return None;
        }
        let target = Target { address, node: node.to_owned() };
        let now = clock::instant();
        let mut seen = self.0.lock();
        seen.retain(|_, seen| seen.is_listed(now));
        if seen.len() >= MAX {
            return None;
        }
        seen.entry(target.clone()).or_insert(Seen { sessions: 0, last: now }).sessions += 1;
        drop(seen);
        Some(Listed { targets: self.clone(), target })
    }

    /// All that are listed, by address.
    pub(crate) fn groups(&self) -> Vec<TargetGroup> {
        self.groups_at(clock::instant())
    }

    fn groups_at(&self, now: Instant) -> Vec<TargetGroup> {
        let seen = self.0.lock();
        let listed = seen.iter().filter(|(_, seen)| seen.is_listed(now));
        let group = |Target { address, node }: &Target| TargetGroup {
            targets: vec![address.to_string()],
            labels: BTreeMap::from([("__meta_millstream_node", node.clone())]),
        };
        listed.map(|(target, _)| group(target)).collect()
    }
}

impl Seen {
    fn is_listed(&self, now: Instant) -> bool {
        self.sessions > 0 || now.saturating_duration_since(self.last) < KEPT
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        if let Some(seen) = self.targets.0.lock().get_mut(&self.target) {
            seen.sessions -= 1;
            seen.last = clock::instant();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_listed_once_and_for_a_while_after_its_last_session() {
        let targets = Targets::default();
        let worker = targets.list("a", "127.0.0.1:9464");
        let ingress = targets.list("a", "127.0.0.1:9464");
        assert!(worker.is_some() && ingress.is_some());
        let expected = TargetGroup {
            targets: vec!["127.0.0.1:9464".to_owned()],
            labels: BTreeMap::from([("__meta_millstream_node", "a".to_owned())]),
        };
        let now = clock::instant();
        assert_eq!(targets.groups_at(now + 2 * KEPT), [expected], "as long as it is there");
        drop((worker, ingress));
        assert_eq!(targets.groups().len(), 1);
        assert_eq!(targets.groups_at(clock::instant() + KEPT), []);
    }

    #[test]
    fn what_nobody_can_reach_is_not_listed() {
        let targets = Targets::default();
        for admin in ["", "0.0.0.0:9464", "[::]:1", "127.0.0.1:0", "host:1"] {
            assert!(targets.list("a", admin).is_none(), "{admin}");
        }
        assert_eq!(targets.groups(), []);
    }
}
