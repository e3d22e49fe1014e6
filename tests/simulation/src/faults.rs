//! What the script does to the cluster.

use std::time::Duration;

use millstream_core::desired::change::{self, Deployed};
use millstream_core::desired::scale::{self, ScaleRequest};
use millstream_core::desired::{self, Desired, Mode, NodeRequest, Verdict, cordons};
use millstream_pipelines::FullName;

use crate::clock::{Event, Host, Process, Timer};
use crate::pipelines::{Change, Draft};
use crate::scenario::{Op, Weather};
use crate::world::World;

/// How long a head whose clock has jumped may be wrong about who lives.
const HEAD_COMES_TO: Duration = Duration::from_secs(5);
/// How long after a break on the way all have noticed it and talk again.
const NOTICED: Duration = Duration::from_secs(12);
/// How long a worker that leaves lets calls finish.
const LEAVE_DRAIN: Duration = Duration::from_secs(5);

impl World {
    pub(crate) fn operate(&mut self, index: usize) {
        let op = self.scenario.script[index].1.clone();
        self.cx.note(|| format!("* {op:?}"));
        match op {
            Op::Deploy { pipeline, change, mode } => self.deploy(pipeline, change, mode),
            Op::Delete { pipeline } => self.delete(pipeline),
            Op::Scale { pipeline, pick, bounds } => self.scale(pipeline, pick, bounds),
            Op::SetMode { pipeline, mode } => self.change_desired(
                |desired, draft| desired::rollout::set_mode(desired, &draft.name(), Some(mode)).is_ok(),
                pipeline,
            ),
            Op::Promote { pipeline } => self.change_desired(
                |desired, draft| desired::rollout::promote(desired, &draft.name()).is_ok(),
                pipeline,
            ),
            Op::Abort { pipeline } => self.change_desired(abort, pipeline),
            Op::Node { worker, request } => self.change_node(worker, request),
            Op::TurnBad { pipeline } => self.turn_bad(pipeline),
            Op::CrashReplica { worker, pick } => {
                if self.workers[worker].paused_until <= self.cx.now()
                    && let Some(running) = &mut self.workers[worker].running
                {
                    self.cx.disturbed(Duration::ZERO);
                    running.crash(pick, &mut self.cx);
                }
            }
            Op::KillWorker { worker, power, wipe, down } => self.kill_worker(worker, (power, wipe), down),
            Op::LeaveWorker { worker, down } => self.leave_worker(worker, down),
            Op::Pause { host, lasts } => self.pause(host, lasts),
            Op::KillIngress { ingress, down } => self.kill_ingress(ingress, down),
            Op::CrashHead { down } => self.crash_head(down),
            Op::TakeOver { paused, overlap } => self.take_over(paused, overlap),
            Op::JumpClock { by } => {
                let leader = self.cx.leader;
                if let Some(head) = &mut self.heads[leader].running {
                    head.skew += by;
                    self.cx.disturbed(HEAD_COMES_TO);
                }
            }
            Op::Break { a, b } => {
                let cx = &mut self.cx;
                cx.net.reset(a, b, &mut cx.agenda, &mut cx.rng);
            }
            Op::Stall { a, b, lasts } => {
                let lasts = self.bounded(lasts);
                let cx = &mut self.cx;
                cx.disturbed(lasts + NOTICED);
                cx.net.stall((a, b), lasts, &mut cx.agenda, &mut cx.rng);
            }
            Op::Partition { a, b, lasts } => {
                let lasts = self.bounded(lasts);
                let cx = &mut self.cx;
                cx.disturbed(lasts + NOTICED);
                cx.net.partition((a, b), lasts, &mut cx.agenda, &mut cx.rng);
            }
        }
    }

    /// Faults end with the script.
    fn bounded(&self, lasts: Duration) -> Duration {
        lasts.min(self.scenario.ends_at.saturating_sub(self.cx.now()))
    }

    pub(crate) fn deploy(&mut self, pipeline: usize, change: Change, mode: Mode) {
        // Without a head that takes it, nothing is changed.
        let leader = &self.heads[self.cx.leader];
        if leader.running.is_none() || leader.paused_until > self.cx.now() {
            return;
        }
        let rng = &mut self.cx.rng;
        self.drafts[pipeline].change(change, rng);
        self.store_draft(pipeline, mode);
    }

    pub(crate) fn store_draft(&mut self, pipeline: usize, mode: Mode) {
        let deploy = |desired: &mut Desired, draft: &mut Draft| {
            let candidate = draft.candidate();
            match change::deploy(desired, candidate, 0) {
                Ok(Deployed::New(revision)) => {
                    desired.add(&draft.name(), revision);
                    // Beside nothing it takes over by itself.
                    let _ = desired::rollout::set_mode(desired, &draft.name(), Some(mode));
                    true
                }
                Ok(Deployed::Unchanged { .. }) | Err(_) => false,
            }
        };
        self.change_desired(deploy, pipeline);
    }

    fn delete(&mut self, pipeline: usize) {
        let delete = |desired: &mut Desired, draft: &mut Draft| {
            let known = change::delete(desired, &draft.name()).is_ok();
            desired.remove(&draft.name(), 0);
            known
        };
        // Requests that are on their way lose what they call.
        if self.scenario.weather == Weather::Calm {
            return;
        }
        let name = self.drafts[pipeline].name();
        self.cx.client.served.remove(&name);
        self.change_desired(delete, pipeline);
    }

    fn turn_bad(&mut self, pipeline: usize) {
        let name = self.drafts[pipeline].name();
        let Some(stored) = self.cx.store.desired.pipelines.get(&name) else { return };
        let is_canary = matches!(stored.rollout.map(|rollout| rollout.mode), Some(Mode::Canary { .. }));
        // Its settings may be those of the revision before, whose replicas then serve it.
        let own = |ranges: &Vec<(u64, u64)>| ranges.iter().all(|(first, _)| *first == stored.wanted);
        if is_canary && stored.wanted().is_some_and(|wanted| wanted.stored.reuses.values().any(own)) {
            let now = self.cx.now();
            self.cx.failures.turned_bad.entry((name, stored.wanted)).or_insert(now);
        }
    }

    /// Sets bounds beside the file, or lets the file count again.
    fn scale(&mut self, pipeline: usize, pick: usize, bounds: Option<(u32, u32)>) {
        let change = |desired: &mut Desired, draft: &mut Draft| {
            let count = draft.deployments().count();
            let Some((deployment, most)) = draft.deployments().nth(pick % count) else { return false };
            let name = FullName { pipeline: draft.name(), deployment };
            let request = match bounds {
                Some((few, many)) => ScaleRequest::Bounds(Some(few.min(most)), Some(many.min(most))),
                None => ScaleRequest::Reset,
            };
            let scaled = scale::scale(desired, &name, request);
            scaled.map(|scaled| *desired = scaled).is_ok()
        };
        self.change_desired(change, pipeline);
    }

    /// One node at most is kept free: the others must be able to hold what is asked for.
    fn change_node(&mut self, worker: usize, request: NodeRequest) {
        let name = self.disks[worker].name.clone();
        let change = |desired: &mut Desired, _: &mut Draft| {
            let mut cordons = desired.cordons.clone();
            cordons.retain(|other, _| *other == name || request == NodeRequest::Uncordon);
            let Ok(cordons) = cordons::change(&cordons, &name, request, 0) else { return false };
            let is_changed = cordons != desired.cordons;
            desired.cordons = cordons;
            is_changed
        };
        self.change_desired(change, 0);
    }

    fn kill_worker(&mut self, index: usize, (power, wipe): (bool, bool), down: Option<Duration>) {
        // At most one node stays dead: the others must be able to hold what is asked for.
        let down = down.or_else(|| (!self.dead.is_empty()).then_some(Duration::from_secs(5)));
        let Some(worker) = self.workers[index].running.take() else { return };
        let cx = &mut self.cx;
        // Until it has been silent for a while, its node may be back in a moment.
        cx.disturbed(NOTICED);
        cx.checks.worker_serves_not(worker.process);
        if power {
            cx.net.lost_power(worker.process, &mut cx.agenda, &mut cx.rng);
        } else {
            cx.net.died(worker.process, &mut cx.agenda);
        }
        if wipe {
            let start = self.workers[index].start;
            self.disks[index].node = millstream_proto::NodeId::new(format!("n{index}-{start}"));
            self.disks[index].epoch = 0;
        }
        match down {
            Some(down) => self.reboot(Host::Worker(index), down),
            None => self.dead.push(index),
        }
    }

    fn reboot(&mut self, host: Host, down: Duration) {
        let down = self.bounded(down);
        self.cx.agenda.after(down, Event::Boot(host));
    }

    fn leave_worker(&mut self, index: usize, down: Duration) {
        if self.workers[index].paused_until > self.cx.now() {
            return;
        }
        let Some(worker) = &mut self.workers[index].running else { return };
        self.cx.disturbed(Duration::ZERO);
        worker.leave(LEAVE_DRAIN, &mut self.cx);
        self.reboot(Host::Worker(index), LEAVE_DRAIN + Duration::from_secs(1) + down);
        self.bury_left(index);
    }

    /// A worker that has left is over.
    pub(crate) fn bury_left(&mut self, index: usize) {
        if self.workers[index].running.as_ref().is_some_and(crate::worker::Worker::has_left)
            && let Some(worker) = self.workers[index].running.take()
        {
            self.cx.checks.worker_serves_not(worker.process);
            self.cx.net.died(worker.process, &mut self.cx.agenda);
            // Should it have left later than was thought, it comes back all the same.
            self.reboot(Host::Worker(index), Duration::from_secs(5));
        }
    }

    fn pause(&mut self, host: Host, lasts: Duration) {
        let lasts = self.bounded(lasts);
        let until = self.cx.now() + lasts;
        let leader = self.cx.leader;
        let host = if matches!(host, Host::Head(_)) { Host::Head(leader) } else { host };
        if self.is_paused(host) {
            return;
        }
        let process = match host {
            Host::Head(_) => pause(&mut self.heads[leader], until, |head| head.process),
            Host::Worker(index) => pause(&mut self.workers[index], until, |worker| worker.process),
            Host::Ingress(index) => pause(&mut self.ingresses[index], until, |ingress| ingress.process),
        };
        let Some(process) = process else { return };
        let cx = &mut self.cx;
        cx.disturbed(lasts + HEAD_COMES_TO);
        cx.net.paused(process, lasts, &mut cx.agenda, &mut cx.rng);
        if matches!(host, Host::Worker(_)) {
            cx.checks.worker_serves_not(process);
        }
    }

    fn kill_ingress(&mut self, index: usize, down: Duration) {
        if let Some(mut ingress) = self.ingresses[index].running.take() {
            ingress.die(&mut self.cx);
            self.cx.net.died(ingress.process, &mut self.cx.agenda);
            self.reboot(Host::Ingress(index), down);
        }
    }

    fn crash_head(&mut self, down: Duration) {
        let leader = self.cx.leader;
        if let Some(head) = self.heads[leader].running.take() {
            self.cx.disturbed(Duration::ZERO);
            self.cx.net.died(head.process, &mut self.cx.agenda);
            self.reboot(Host::Head(leader), down);
        }
    }

    /// Another head begins a term. The old one goes on, at once or after a pause, until it learns of it.
    fn take_over(&mut self, paused: bool, overlap: Duration) {
        let (old, new) = (self.cx.leader, 1 - self.cx.leader);
        let overlap = self.bounded(overlap);
        if self.heads[new].running.is_some() {
            return;
        }
        let Some(process) = self.heads[old].running.as_ref().map(|head| head.process) else { return };
        self.cx.disturbed(Duration::ZERO);
        if paused && !self.is_paused(Host::Head(old)) {
            let lasts = overlap / 2;
            self.heads[old].paused_until = self.cx.now() + lasts;
            self.cx.net.paused(process, lasts, &mut self.cx.agenda, &mut self.cx.rng);
        }
        self.cx.believer = Some(old);
        self.cx.leader = new;
        self.boot(Host::Head(new));
        self.cx.timer(process, overlap, Timer::StepDown);
    }

    /// A head that was replaced learns it and ends.
    pub(crate) fn step_down(&mut self, process: Process) {
        let Host::Head(index) = process.host else { return };
        if index != self.cx.leader
            && self.heads[index].running.as_ref().is_some_and(|it| it.process == process)
        {
            self.heads[index].running = None;
            self.cx.net.died(process, &mut self.cx.agenda);
            self.cx.believer = None;
            self.cx.note(|| format!("{process:?} steps down"));
        }
    }
}

/// As the control service does when people abort a rollout.
fn abort(desired: &mut Desired, draft: &mut Draft) -> bool {
    let name = draft.name();
    let Ok((revision, to)) = desired::rollout::abortable(desired, &name) else { return false };
    let verdict = Verdict { outcome: desired::Outcome::Aborted, reason: "by hand".into(), at_ms: 0 };
    desired::rollout::go_back(desired, &name, revision, to, verdict);
    true
}

fn pause<P>(
    slot: &mut crate::world::Slot<P>,
    until: Duration,
    process: impl Fn(&P) -> Process,
) -> Option<Process> {
    let running = slot.running.as_ref().filter(|_| slot.paused_until < until)?;
    let process = process(running);
    slot.paused_until = until;
    Some(process)
}
