//! What an ingress tells the head: the model of the route watch's reports, around the real counts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_core::model::Counted;
use millstream_core::model::Load;
use millstream_core::rollout;
use millstream_ingress::decisions::Outcomes;
use millstream_pipelines::{FullName, Name};

use super::Ingress;
use crate::client::Outcome;
use crate::clock::Timer;
use crate::cx::Cx;
use crate::message::{End, Message};

/// As in the ingress's route watch.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// Loads as they were told last; arrivals are counted from the start.
pub(super) type Loads = BTreeMap<FullName, Load>;

impl Ingress {
    /// Time to say something again, if there is anything to say.
    pub(super) fn report_load(&mut self, cx: &mut Cx) {
        cx.timer(self.process, REPORT_INTERVAL, Timer::ReportLoad(self.head_session));
        self.tell_load(cx);
    }

    /// Says what there is, what came and went, zeros for what ended, and once how calls and requests ended.
    pub(super) fn tell_load(&mut self, cx: &mut Cx) {
        let Some(conn) = self.head else { return };
        let mut now = Loads::new();
        let mut counted = Counted::new();
        for (name, instance) in &self.by_name {
            let Some(deployment) = self.deployments.get_mut(instance) else { continue };
            let queued = deployment.pool.num_queued() as u64;
            let load = Load { ongoing: deployment.ongoing, queued, arrived: deployment.arrived };
            if load != Load::default() {
                now.insert(name.clone(), load);
            }
            for (revision, outcomes) in std::mem::take(&mut deployment.counts).by_revision {
                let tally = counted.entry((name.pipeline.clone(), revision)).or_default();
                tally.deployments.insert(name.deployment.clone(), judged(outcomes));
            }
        }
        let routes = &self.routes;
        let routed = |(pipeline, revision): &(Name, u64)| {
            let shares = routes.get(pipeline).into_iter().flat_map(|route| &route.shares);
            shares.into_iter().any(|share| share.revision == *revision)
        };
        self.endings.retain(|key, outcomes| {
            let is_told = routed(key);
            if is_told {
                counted.entry(key.clone()).or_default().requests = judged(*outcomes);
            }
            !is_told
        });
        let loads = changes(&self.reported, &now, &counted);
        self.reported = now;
        if !loads.is_empty() || !counted.is_empty() {
            cx.send((conn, End::Dialler), Message::Load(loads, counted));
        }
    }

    /// Counts how a request on a revision ended, as far as that says anything about it.
    pub(super) fn count_ending(&mut self, pipeline: &Name, revision: u64, outcome: &Outcome) {
        let counts = match outcome {
            Outcome::Answered | Outcome::Failed(_) => {
                self.endings.entry((pipeline.clone(), revision)).or_default()
            }
            Outcome::Shed | Outcome::Unknown | Outcome::Unreachable | Outcome::Blamed => return,
        };
        if *outcome == Outcome::Answered {
            counts.answered += 1;
        } else {
            counts.failed += 1;
        }
    }
}

fn judged(Outcomes { answered, failed }: Outcomes) -> rollout::Outcomes {
    rollout::Outcomes { answered, failed }
}

/// The loads that are worth telling.
fn changes(reported: &Loads, now: &Loads, counted: &Counted) -> Loads {
    let has_any = |load: Load| load.ongoing > 0 || load.queued > 0;
    let load_of = |loads: &Loads, name: &FullName| loads.get(name).copied().unwrap_or_default();
    let is_counted = |name: &FullName| {
        let of_pipeline = counted.iter().filter(|((pipeline, _), _)| *pipeline == name.pipeline);
        of_pipeline.into_iter().any(|(_, tally)| tally.deployments.contains_key(&name.deployment))
    };
    let names: BTreeSet<_> = reported.keys().chain(now.keys()).collect();
    let change = |name: &FullName| {
        let (before, load) = (load_of(reported, name), load_of(now, name));
        let arrived = load.arrived.checked_sub(before.arrived).unwrap_or(load.arrived);
        let quiet = !is_counted(name) && !has_any(load) && !has_any(before) && arrived == 0;
        (!quiet).then(|| (name.clone(), Load { arrived, ..load }))
    };
    names.into_iter().filter_map(change).collect()
}
