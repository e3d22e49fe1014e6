//! What all simulated processes share: the clock, the network, chance, the store, and the checks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_core::Timing;
use millstream_core::desired::Desired;
use millstream_pipelines::Name;
use millstream_proto::NodeId;
use rand::Rng;
use rand::rngs::SmallRng;

use crate::checks::Checks;
use crate::client::Client;
use crate::clock::{Agenda, Event, Host, Process, Timer};
use crate::message::{ConnId, End, Message};
use crate::network::Network;
use crate::{Mutation, Trace};

/// What the store holds.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// The last term.
    pub(crate) epoch: u64,
    /// What people asked for.
    pub(crate) desired: Arc<Desired>,
    /// Nodes that have joined and were not forgotten.
    pub(crate) members: BTreeSet<NodeId>,
}

/// Which calls fail in the engines.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    /// Part of all calls, in thousandths.
    pub(crate) permille: u32,
    /// Revisions whose replicas fail every call, and since when.
    pub(crate) turned_bad: BTreeMap<(Name, u64), Duration>,
}

/// See the module.
pub(crate) struct Cx {
    pub(crate) agenda: Agenda,
    pub(crate) net: Network,
    pub(crate) rng: SmallRng,
    pub(crate) store: Store,
    pub(crate) checks: Checks,
    pub(crate) client: Client,
    pub(crate) timing: Timing,
    pub(crate) mutation: Mutation,
    /// Where the virtual clock's zero lies for code that asks for an [`Instant`].
    pub(crate) base: Instant,
    /// The head that workers and ingresses are sent to, and the one that may still believe to lead.
    pub(crate) leader: usize,
    pub(crate) believer: Option<usize>,
    pub(crate) failures: Failures,
    pub(crate) last_call: u64,
    trace: Trace,
    lines: Vec<String>,
}

impl Cx {
    pub(crate) fn new(rng: SmallRng, net: Network, timing: Timing, mutation: Mutation, trace: Trace) -> Self {
        // Only distances to it are ever looked at, so that it does not matter which it is.
        #[expect(clippy::disallowed_methods, reason = "the origin of the virtual clock")]
        let base = Instant::now();
        Self {
            agenda: Agenda::default(),
            net,
            rng,
            store: Store::default(),
            checks: Checks::default(),
            client: Client::default(),
            timing,
            mutation,
            base,
            leader: 0,
            believer: None,
            failures: Failures::default(),
            last_call: 0,
            trace,
            lines: Vec::new(),
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.agenda.now()
    }

    pub(crate) fn instant(&self) -> Instant {
        self.base + self.agenda.now()
    }

    /// A timer of a process.
    pub(crate) fn timer(&mut self, process: Process, wait: Duration, timer: Timer) {
        self.agenda.after(wait, Event::Timer(process, timer));
    }

    pub(crate) fn send(&mut self, to: (ConnId, End), message: Message) {
        self.net.send(to, message, &mut self.agenda, &mut self.rng);
    }

    pub(crate) fn close(&mut self, conn: ConnId, by: End) {
        self.net.close(conn, by, &mut self.agenda);
    }

    /// Fewer replicas may serve from now on, for at least so long.
    pub(crate) fn disturbed(&mut self, lasts: Duration) {
        self.checks.disturbed(self.agenda.now() + lasts);
    }

    /// The head that somebody who dials comes to.
    pub(crate) fn directory(&mut self) -> Host {
        let stale = self.believer.filter(|_| self.rng.random_range(0..4) == 0);
        Host::Head(stale.unwrap_or(self.leader))
    }

    /// A time between two bounds.
    pub(crate) fn between(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(self.rng.random_range(from_ms..=to_ms))
    }

    /// Notes what happens, when somebody wants to read it.
    pub(crate) fn note(&mut self, text: impl FnOnce() -> String) {
        if self.trace == Trace::On {
            let line = format!("{:>11.6} s  {}", self.agenda.now().as_secs_f64(), text());
            self.lines.push(line);
        }
    }

    /// What was noted.
    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }
}
