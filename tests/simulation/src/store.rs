//! The store: what it takes, from whom, and when a head learns of it. It never lies; sometimes it is late, and sometimes it
//! cannot say whether it has taken something.

use std::sync::Arc;

use millstream_core::desired::{self, Desired, Verdict};
use millstream_core::rollout::{Change, ChangeKind};
use rand::Rng;

use crate::clock::{Event, Host, Process};
use crate::pipelines::Draft;
use crate::world::{World, current};

impl World {
    /// Deploys a draft, as the head that people are sent to.
    pub(crate) fn change_desired(
        &mut self,
        change: impl FnOnce(&mut Desired, &mut Draft) -> bool,
        pipeline: usize,
    ) {
        let mut desired = (*self.cx.store.desired).clone();
        desired.generation += 1;
        let leader = self.cx.leader;
        let able = self.heads[leader].paused_until <= self.cx.now();
        let Some(head) = self.heads[leader].running.as_ref().filter(|_| able) else { return };
        if change(&mut desired, &mut self.drafts[pipeline]) {
            self.cx.store.desired = Arc::new(desired);
            let process = head.process;
            let desired = Arc::clone(&self.cx.store.desired);
            self.tell_stored(process, desired);
        }
    }

    /// The store takes how a rollout ended; it takes nothing from a head that no longer leads.
    pub(crate) fn conclude(&mut self, process: Process, change: Change) {
        let leader = self.heads[self.cx.leader].running.as_ref();
        if leader.is_none_or(|head| head.process != process) {
            return;
        }
        let mut desired = (*self.cx.store.desired).clone();
        let Change { pipeline, revision, baseline, kind } = change;
        match kind {
            ChangeKind::RollBack { reason } => {
                let verdict = Verdict { outcome: desired::Outcome::RolledBack, reason, at_ms: 0 };
                desired::rollout::go_back(&mut desired, &pipeline, revision, baseline, verdict);
            }
            _ => desired::rollout::complete(&mut desired, &pipeline, revision),
        }
        // It may have been told twice.
        if desired == *self.cx.store.desired {
            return;
        }
        desired.generation += 1;
        self.cx.store.desired = Arc::new(desired);
        let desired = Arc::clone(&self.cx.store.desired);
        self.tell_stored(process, desired);
    }

    /// Tells a head what the store has taken. Sometimes late, and sometimes it cannot be told: then the head finds out when
    /// it reads again.
    fn tell_stored(&mut self, process: Process, desired: Arc<Desired>) {
        let wait = match self.cx.rng.random_range(0..8) {
            0 => self.cx.between(100, 2_000),
            1 => {
                self.cx.note(|| "the store has taken it, and cannot say so".to_owned());
                self.cx.between(2_000, 6_000)
            }
            _ => self.cx.between(0, 10),
        };
        self.cx.agenda.after(wait, Event::Concluded(process, desired));
    }

    pub(crate) fn concluded(&mut self, process: Process, desired: Arc<Desired>) {
        if let Some(until) = self.paused(process.host) {
            self.cx.agenda.at(until, Event::Concluded(process, desired));
            return;
        }
        let Host::Head(index) = process.host else { return };
        if let Some(head) = current(&mut self.heads[index], process) {
            head.change_desired(&desired, &mut self.cx);
        }
    }
}
