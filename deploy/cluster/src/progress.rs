//! Shows what happens until pipelines are ready (what their replicas do, who waits for a place and why, how far a revision has
//! taken over): a spinner each on a terminal, a line per change elsewhere.

mod display;

use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use millstream_proto::status::{
    ClusterStatus, DeploymentStatus, PipelineState, PipelineStatus, ReplicaState, ReplicaStatus, RolloutMode,
    RolloutPhase, RolloutStatus,
};

use crate::client::StatusWatch;
use crate::exit::Failure;
use crate::style;
use crate::words::percent;
pub(crate) use display::{Display, Line};

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// How long ingresses may take to put in force what serves; then they are not waited for.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// Waits until these pipelines (name, revision) serve, or cannot, and every connected ingress knows it, telling what happens
/// meanwhile.
///
/// A pipeline that cannot start, a head that goes away and the end of `timeout` are failures.
pub(crate) async fn until_ready(
    watch: &mut StatusWatch,
    wanted: &[(String, u64)],
    timeout: Duration,
) -> Result<(), Failure> {
    let mut display = Display::new();
    let deadline = millstream_clock::now() + timeout;
    let mut unconfirmed: Option<Unconfirmed> = None;
    loop {
        let until = unconfirmed.as_ref().map_or(deadline, |unconfirmed| unconfirmed.until.min(deadline));
        let status = match (tokio::time::timeout_at(until.into(), watch.next()).await, unconfirmed.take()) {
            (Ok(status), before) => {
                unconfirmed = before;
                status?
            }
            (Err(_), Some(unconfirmed)) => return unconfirmed.outcome,
            (Err(_), None) => {
                return Err(Failure::failed(format!(
                    "not ready after {}; `cluster status` shows what is missing",
                    humantime::format_duration(timeout)
                )));
            }
        };
        let Some(status) = status else {
            return Err(Failure::unreachable("the cluster went away before the pipelines were ready"));
        };
        display.show(lines(&status, wanted));
        let outcome = match verdict(&status, wanted) {
            Verdict::Waiting => {
                unconfirmed = None;
                continue;
            }
            Verdict::Ready => Ok(()),
            Verdict::Failed(reason) => Err(Failure::failed(reason)),
        };
        let table = match unconfirmed.take() {
            Some(before) => Unconfirmed { outcome, ..before },
            None => Unconfirmed::of(&status, outcome),
        };
        if table.is_in_force(&status) {
            return table.outcome;
        }
        unconfirmed = Some(table);
    }
}

/// What has come of a deploy, and the first route table that says so: callers see it once ingresses answer by that table.
struct Unconfirmed {
    outcome: Result<(), Failure>,
    epoch: u64,
    number: u64,
    until: Instant,
}

impl Unconfirmed {
    fn of(status: &ClusterStatus, outcome: Result<(), Failure>) -> Self {
        let until = millstream_clock::now() + CONFIRM_TIMEOUT;
        Self { outcome, epoch: status.epoch, number: status.routes_version, until }
    }

    /// Whether every connected ingress answers by it, or by a newer one. Those of another term count anew.
    fn is_in_force(&self, status: &ClusterStatus) -> bool {
        let number = if status.epoch == self.epoch { self.number } else { status.routes_version };
        status.ingresses.iter().all(|ingress| ingress.routes_version >= number)
    }
}

/// Does the work; a spinner says what is waited for when a person watches.
pub(crate) async fn while_waiting<T>(what: &'static str, work: impl Future<Output = T>) -> T {
    let bar = style::stderr_is_terminal().then(|| {
        let bar = ProgressBar::new_spinner().with_message(what);
        bar.enable_steady_tick(TICK);
        bar
    });
    let result = work.await;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    result
}

/// How far the wanted pipelines are. One that failed is told once all others have come to an end too.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Waiting,
    Ready,
    Failed(String),
}

fn verdict(status: &ClusterStatus, wanted: &[(String, u64)]) -> Verdict {
    let mut failures = Vec::new();
    for (name, revision) in wanted {
        let Some(pipeline) = status.pipelines.iter().find(|pipeline| pipeline.name == *name) else {
            return Verdict::Waiting;
        };
        let serving = pipeline.serving_revision.is_some_and(|serving| serving >= *revision);
        if let Some(verdict) = pipeline.verdicts.iter().find(|verdict| verdict.revision == *revision) {
            let outcome = verdict.outcome.replace('_', " ");
            let reason = &verdict.reason;
            failures.push(format!("revision {revision} of `{name}` was {outcome}: {reason}"));
            continue;
        }
        match pipeline.state {
            // While an older revision serves, a verdict follows: only once that is stored is the new one given up for good.
            PipelineState::Failed if pipeline.serving_revision.is_some_and(|serving| serving < *revision) => {
                return Verdict::Waiting;
            }
            PipelineState::Failed => failures.push(failure_text(pipeline)),
            PipelineState::Ready if serving || stands_beside(pipeline, *revision) => {}
            _ => return Verdict::Waiting,
        }
    }
    if failures.is_empty() { Verdict::Ready } else { Verdict::Failed(failures.join("\n")) }
}

/// Whether it is a canary or a shadow that has its part of the requests.
fn stands_beside(pipeline: &PipelineStatus, revision: u64) -> bool {
    pipeline.rollout.as_ref().is_some_and(|rollout| {
        rollout.revision == revision
            && rollout.mode != RolloutMode::Rolling
            && rollout.phase == RolloutPhase::Trial
    })
}

fn failure_text(pipeline: &PipelineStatus) -> String {
    let name = &pipeline.name;
    if let Some(faults) = &pipeline.mismatch {
        return format!("pipeline `{name}` does not fit its models, so it does not serve:\n{faults}");
    }
    let mut text = format!("pipeline `{name}` cannot start");
    for deployment in &pipeline.deployments {
        if let Some(replica) = deployment.replicas.iter().find(|replica| !replica.error.is_empty()) {
            text.push_str(&format!("\n  {} on {}: {}", deployment.full_name, replica.node, replica.error));
        }
        for reason in &deployment.pending {
            text.push_str(&format!("\n  {}: {reason}", deployment.full_name));
        }
    }
    text
}

/// What there is to say about the wanted pipelines. Replicas of the revisions before are not waited for.
fn lines(status: &ClusterStatus, wanted: &[(String, u64)]) -> Vec<Line> {
    let mut lines = Vec::new();
    for (name, revision) in wanted {
        let Some(pipeline) = status.pipelines.iter().find(|pipeline| pipeline.name == *name) else {
            continue;
        };
        for deployment in &pipeline.deployments {
            lines.push(place_line(pipeline, deployment));
            let replicas = deployment.replicas.iter().filter(|replica| replica.revision >= *revision);
            lines.extend(replicas.map(|replica| replica_line(deployment, replica)));
        }
        let rollout = pipeline.rollout.as_ref().filter(|rollout| rollout.revision == *revision);
        lines.extend(rollout.map(|rollout| rollout_line(name, rollout)));
    }
    lines
}

fn place_line(pipeline: &PipelineStatus, deployment: &DeploymentStatus) -> Line {
    let why = deployment.pending.join("; ");
    let text = match why.is_empty() {
        true => String::new(),
        false => {
            let replaces = pipeline.rollout.is_some();
            let in_place = if replaces { ", or replace it in place with `max_surge = 0`" } else { "" };
            format!("waits for a place ({why}); stop or shrink another deployment, or add a node{in_place}")
        }
    };
    let key = format!("place of {}", deployment.full_name);
    Line { key, what: deployment.full_name.clone(), is_over: why.is_empty(), text }
}

fn replica_line(deployment: &DeploymentStatus, replica: &ReplicaStatus) -> Line {
    Line {
        key: replica.id.to_string(),
        what: format!("{} on {}", deployment.full_name, replica.node),
        text: describe(replica),
        is_over: replica.state != ReplicaState::Starting,
    }
}

fn rollout_line(pipeline: &str, rollout: &RolloutStatus) -> Line {
    let text = match (rollout.phase, rollout.mode) {
        (RolloutPhase::Starting, _) => format!("starts; revision {} serves", rollout.baseline),
        (RolloutPhase::Trial, RolloutMode::Shadow) => "gets copies of requests".to_owned(),
        (RolloutPhase::Trial, _) => {
            format!("on trial with {} of the requests", percent(rollout.traffic_ratio))
        }
        (RolloutPhase::Moving, _) => "takes over".to_owned(),
        (RolloutPhase::Watching, _) => "serves".to_owned(),
    };
    let (revision, is_over) = (rollout.revision, rollout.phase == RolloutPhase::Watching);
    Line {
        key: format!("rollout of {pipeline}"),
        what: format!("{pipeline} revision {revision}"),
        text,
        is_over,
    }
}

fn describe(replica: &ReplicaStatus) -> String {
    match replica.state {
        ReplicaState::Starting if replica.doing.is_empty() => "starting".to_owned(),
        ReplicaState::Starting => replica.doing.clone(),
        ReplicaState::Ready => "ready".to_owned(),
        ReplicaState::Draining => "draining".to_owned(),
        ReplicaState::Stopped => "stopped".to_owned(),
        ReplicaState::Failed => format!("failed: {}", replica.error),
    }
}

#[cfg(test)]
mod tests {
    use millstream_proto::ReplicaId;
    use millstream_proto::status::{
        AutoscalingStatus, BoundsStatus, IngressStatus, ReplicaCounts, TrafficStatus,
    };

    use super::*;

    fn status(state: PipelineState, serving_revision: Option<u64>) -> ClusterStatus {
        ClusterStatus {
            leader: "a".into(),
            epoch: 1,
            routes_version: 4,
            nodes: vec![],
            ingresses: vec![],
            pipelines: vec![PipelineStatus {
                name: "rag".into(),
                route: None,
                revision: 2,
                newest_revision: 2,
                serving_revision,
                state,
                mismatch: None,
                traffic: TrafficStatus::default(),
                deployed_at_ms: 0,
                rollout: None,
                verdicts: vec![],
                deployments: vec![DeploymentStatus {
                    name: "e".into(),
                    full_name: "rag/e".into(),
                    autoscaling: AutoscalingStatus { desired_replicas: 1, target_ongoing_requests: 2.0 },
                    target_replicas: 1,
                    ready_replicas: 0,
                    ongoing: 0,
                    queued: 0,
                    replicas: vec![],
                    replica_counts: ReplicaCounts::default(),
                    pending: vec!["node `a`: 2 GPUs wanted, 0 there".into()],
                    bounds: BoundsStatus::default(),
                    model: None,
                }],
            }],
        }
    }

    #[test]
    fn ready_means_the_wanted_revision_serves() {
        let wanted = [("rag".to_owned(), 2)];
        assert_eq!(verdict(&status(PipelineState::Starting, None), &wanted), Verdict::Waiting);
        assert_eq!(verdict(&status(PipelineState::Ready, Some(1)), &wanted), Verdict::Waiting);
        assert_eq!(verdict(&status(PipelineState::Ready, Some(2)), &wanted), Verdict::Ready);
        assert_eq!(
            verdict(&status(PipelineState::Ready, Some(2)), &[("other".to_owned(), 1)]),
            Verdict::Waiting
        );
    }

    #[test]
    fn what_serves_is_ready_once_every_ingress_answers_by_it() {
        let ingress = |routes_version| IngressStatus {
            name: "a".into(),
            entrance: "127.0.0.1:1".into(),
            routes_version,
        };
        let mut status = status(PipelineState::Ready, Some(2));
        let first = Unconfirmed::of(&status, Ok(()));
        assert!(first.is_in_force(&status), "nobody is waited for where nobody is");
        status.ingresses = vec![ingress(4), ingress(3)];
        assert!(!first.is_in_force(&status));
        status.routes_version = 6;
        status.ingresses = vec![ingress(4), ingress(5)];
        assert!(first.is_in_force(&status), "later tables are not waited for");
        (status.epoch, status.routes_version) = (status.epoch + 1, 2);
        assert!(first.is_in_force(&status));
        status.ingresses = vec![ingress(2), ingress(0)];
        assert!(!first.is_in_force(&status), "the head of a new term hears anew");
    }

    #[test]
    fn people_see_who_waits_for_a_place_and_what_new_replicas_do() {
        let wanted = [("rag".to_owned(), 2)];
        let replica = |id: &str, revision, state| ReplicaStatus {
            id: ReplicaId::new(id),
            node: "a".into(),
            revision,
            state,
            doing: "loading".into(),
            error: String::new(),
            pid: 1,
            restarts: 0,
            last_error: String::new(),
            age_ms: 0,
            ongoing: 0,
        };
        let shown = |status: &ClusterStatus| -> Vec<String> {
            let lines = lines(status, &wanted).into_iter().filter(|line| !line.text.is_empty());
            lines.map(|line| format!("{}: {}", line.what, line.text)).collect()
        };
        let mut status = status(PipelineState::Starting, None);
        let place = "rag/e: waits for a place (node `a`: 2 GPUs wanted, 0 there); stop or shrink another deployment, or add a node";
        assert_eq!(shown(&status), [place]);
        let deployment = &mut status.pipelines[0].deployments[0];
        deployment.pending.clear();
        deployment.replicas =
            vec![replica("old", 1, ReplicaState::Ready), replica("new", 2, ReplicaState::Starting)];
        assert_eq!(shown(&status), ["rag/e on a: loading"], "the old one is not waited for");
    }

    #[test]
    fn a_failure_names_deployment_and_reason() {
        let Verdict::Failed(text) = verdict(&status(PipelineState::Failed, None), &[("rag".to_owned(), 2)])
        else {
            panic!("not failed");
        };
        assert_eq!(text, "pipeline `rag` cannot start\n  rag/e: node `a`: 2 GPUs wanted, 0 there");
    }
}
