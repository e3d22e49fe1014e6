//! What must hold of all that people ask for, whatever they and the head do one after the other.

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_pipelines::{FullName, Name};
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::change::{self, After, Candidate, deploy_by};
use super::{Compiled, Desired, Mode, Outcome, Pipeline, StoredRollout, Verdict, rollout};
use crate::testing::{compiled, name, spec};

const PIPELINES: [&str; 3] = ["a", "b", "c"];
const DEPLOYMENTS: [&str; 2] = ["first", "second"];

/// Something that people do, or the head by itself.
#[derive(Debug, Clone)]
enum Act {
    Deploy {
        pipeline: usize,
        text: Text,
        mode: Mode,
    },
    Promote(usize),
    Abort(usize),
    /// Deploys the text before again.
    Undo(usize),
    Delete(usize),
    /// The head says that the wanted revision has taken over, or that it is no longer watched.
    Complete(usize),
    /// The head goes back to one of the revisions that may serve: the number picks one.
    RollBack(usize, usize),
    /// The store hears late that the head has gone back from what was deployed over meanwhile.
    LateRollBack(usize, usize),
}

/// What matters of a text here.
#[derive(Debug, Clone)]
struct Text {
    route: Option<&'static str>,
    deployments: Vec<&'static str>,
    uses: Vec<&'static str>,
}

fn any_act() -> impl Strategy<Value = Act> {
    let pipeline = || 0..PIPELINES.len();
    let route = prop::sample::select(vec![None, Some("/x"), Some("/x/docs"), Some("/y"), Some("/z")]);
    let uses: Vec<&str> = vec!["a/first", "a/second", "b/first", "b/second", "c/first"];
    let text = (route, subsequence(DEPLOYMENTS.to_vec(), 1..=2), subsequence(uses, 0..=2))
        .prop_map(|(route, deployments, uses)| Text { route, deployments, uses });
    let modes = vec![Mode::Rolling, Mode::Canary { permille: 100 }, Mode::Shadow { permille: 100 }];
    let deploy = (pipeline(), text, prop::sample::select(modes))
        .prop_map(|(pipeline, text, mode)| Act::Deploy { pipeline, text, mode });
    prop_oneof![
        6 => deploy,
        1 => pipeline().prop_map(Act::Promote),
        1 => pipeline().prop_map(Act::Abort),
        1 => pipeline().prop_map(Act::Undo),
        1 => pipeline().prop_map(Act::Delete),
        2 => pipeline().prop_map(Act::Complete),
        2 => (pipeline(), 0..9usize).prop_map(|(pipeline, to)| Act::RollBack(pipeline, to)),
        1 => (pipeline(), 0..9usize).prop_map(|(pipeline, to)| Act::LateRollBack(pipeline, to)),
    ]
}

fn candidate(pipeline: &str, source: String, text: &Text) -> Candidate {
    let mut compiled = compiled(pipeline, text.deployments.iter().map(|name| spec(name)));
    compiled.route = text.route.map(str::to_owned);
    let uses = text.uses.iter().map(|used| used.parse::<FullName>().unwrap());
    compiled.uses = uses.filter(|used| used.pipeline != compiled.name).collect();
    Candidate { file_name: "p.toml".into(), source, source_dir: "/".into(), compiled }
}

fn verdict(outcome: Outcome) -> Verdict {
    Verdict { outcome, reason: "why".into(), at_ms: 1 }
}

/// Revisions that the head may go back to: what the rollout began from, and those that it began to put in its place.
fn fallbacks(pipeline: &Pipeline) -> Vec<u64> {
    let Some(stored) = pipeline.rollout.or(pipeline.watched) else { return Vec::new() };
    let before = pipeline.revisions.keys().copied().filter(|number| *number < pipeline.wanted);
    before
        .filter(|number| *number == stored.baseline || *number >= stored.first)
        .filter(|number| !pipeline.verdicts.contains_key(number))
        .collect()
}

/// Does it if it is allowed.
fn act(desired: &mut Desired, act: &Act, nth: usize) {
    let deployed = |before: &Desired, candidate, mode| match deploy_by(before, candidate, mode, 1) {
        Ok(After::Changed { desired, .. } | After::OtherPart { desired, .. }) => Some(*desired),
        Ok(After::Unchanged { .. }) | Err(_) => None,
    };
    match act {
        Act::Deploy { pipeline, text, mode } => {
            let candidate = candidate(PIPELINES[*pipeline], nth.to_string(), text);
            if let Some(after) = deployed(desired, candidate, *mode) {
                *desired = after;
            }
        }
        Act::Promote(pipeline) => drop(rollout::promote(desired, &name(PIPELINES[*pipeline]))),
        Act::Abort(pipeline) => {
            let pipeline = name(PIPELINES[*pipeline]);
            if let Ok((revision, to)) = rollout::abortable(desired, &pipeline) {
                rollout::go_back(desired, &pipeline, revision, to, verdict(Outcome::Aborted));
                assert_eq!(desired.pipelines[&pipeline].wanted, to, "what may be aborted is");
            }
        }
        Act::Undo(pipeline) => {
            let pipeline = name(PIPELINES[*pipeline]);
            if let Ok(target) = rollout::undo_target(desired, &pipeline, None) {
                let revision = Arc::clone(&desired.pipelines[&pipeline].revisions[&target]);
                let compiled = revision.compiled.clone().unwrap();
                let (file_name, source_dir) = ("p.toml".into(), "/".into());
                let candidate = Candidate { file_name, source: nth.to_string(), source_dir, compiled };
                if let Some(after) = deployed(desired, candidate, Mode::Rolling) {
                    *desired = after;
                }
            }
        }
        Act::Delete(pipeline) => {
            let pipeline = name(PIPELINES[*pipeline]);
            if change::delete(desired, &pipeline).is_ok() {
                desired.remove(&pipeline, 1);
            }
        }
        Act::Complete(pipeline) => {
            let pipeline = name(PIPELINES[*pipeline]);
            if let Some(wanted) = desired.pipelines.get(&pipeline).map(|pipeline| pipeline.wanted) {
                rollout::complete(desired, &pipeline, wanted);
            }
        }
        Act::RollBack(pipeline, number) => {
            let pipeline = name(PIPELINES[*pipeline]);
            let Some(there) = desired.pipelines.get(&pipeline) else { return };
            let (wanted, fallbacks) = (there.wanted, fallbacks(there));
            if let Some(&to) = fallbacks.get(number % fallbacks.len().max(1)) {
                rollout::go_back(desired, &pipeline, wanted, to, verdict(Outcome::RolledBack));
                assert_eq!(desired.pipelines[&pipeline].wanted, to, "an automatic rollback is never refused");
            }
        }
        Act::LateRollBack(pipeline, number) => roll_back_late(desired, &name(PIPELINES[*pipeline]), *number),
    }
}

fn roll_back_late(desired: &mut Desired, pipeline: &Name, number: usize) {
    let Some(there) = desired.pipelines.get(pipeline) else { return };
    let Some(StoredRollout { baseline, .. }) = there.rollout else { return };
    let older: Vec<u64> = there.revisions.range(..baseline).map(|(number, _)| *number).collect();
    let wanted = there.wanted;
    if let Some(&to) = older.get(number % older.len().max(1)) {
        rollout::go_back(desired, pipeline, baseline, to, verdict(Outcome::RolledBack));
        let there = &desired.pipelines[pipeline];
        assert_eq!(there.wanted, wanted, "what was deployed since is wanted");
        let went_back = there.rollout.unwrap().baseline == to;
        assert!(!went_back || there.verdicts.contains_key(&baseline));
    }
}

/// What is wrong between pipelines, each with all of its revisions that serve or may serve again.
fn faults(desired: &Desired) -> Vec<String> {
    let serving = |pipeline: &Pipeline| -> Vec<(u64, Compiled)> {
        let numbers: BTreeSet<u64> = fallbacks(pipeline).into_iter().chain([pipeline.wanted]).collect();
        let compiled = |number: u64| Some((number, pipeline.revisions.get(&number)?.compiled.clone().ok()?));
        numbers.into_iter().filter_map(compiled).collect()
    };
    let all: Vec<(&Name, Vec<(u64, Compiled)>)> =
        desired.pipelines.iter().map(|(name, pipeline)| (name, serving(pipeline))).collect();
    let mut faults = Vec::new();
    for (name, revisions) in &all {
        for (number, mine) in revisions {
            for (other, theirs) in all.iter().filter(|(other, _)| other != name) {
                for (its, there) in theirs {
                    let (Some(mine), Some(there)) = (&mine.route, &there.route) else { continue };
                    let pages = |route: &str| [route.to_owned(), format!("{route}/docs")];
                    if pages(mine).contains(there) || pages(there).contains(mine) {
                        faults.push(format!("{name}@{number} and {other}@{its}: {mine} and {there}"));
                    }
                }
            }
            for used in &mine.uses {
                let target = all.iter().find(|(other, _)| **other == used.pipeline);
                let has_it = |(_, there): &(u64, Compiled)| there.deployments.contains_key(&used.deployment);
                if !target.is_some_and(|(_, revisions)| revisions.iter().all(has_it)) {
                    faults.push(format!("{name}@{number} uses {used}, which is not in all that may serve"));
                }
            }
        }
    }
    faults
}

/// The reasons for which a deploy of that text is refused, after these.
fn refusals(desired: &Desired, pipeline: &str, text: &Text) -> String {
    let refused = deploy_by(desired, candidate(pipeline, "refused".into(), text), Mode::Rolling, 1);
    refused.unwrap_err().to_string()
}

#[test]
fn what_may_serve_again_is_named_with_the_reason() {
    let text = |deployments: &[&'static str], uses: &[&'static str]| Text {
        route: None,
        deployments: deployments.to_vec(),
        uses: uses.to_vec(),
    };
    let mut desired = Desired::default();
    let deploy = |desired: &mut Desired, pipeline, nth, text| {
        act(desired, &Act::Deploy { pipeline, text, mode: Mode::Rolling }, nth);
    };
    deploy(&mut desired, 0, 1, text(&["first"], &[]));
    deploy(&mut desired, 0, 2, text(&["first", "second"], &[]));
    let until = "may serve again until the rollout of revision 2 is over: see `cluster rollout status";
    assert_eq!(
        refusals(&desired, "b", &text(&["first"], &["a/second"])),
        format!("p.toml: `a/second` is not in revision 1 of pipeline `a`, which {until} a`; wait for that")
    );
    deploy(&mut desired, 1, 3, text(&["first"], &["a/first"]));
    deploy(&mut desired, 1, 4, text(&["first"], &[]));
    assert_eq!(
        refusals(&desired, "a", &text(&["second"], &[])),
        format!(
            "revision 1 of pipeline `b` uses `a/first` and {until} b`; wait for that, or delete `b` first"
        )
    );
    assert!(change::delete(&desired, &name("a")).is_err());
    // Once it has taken over, and then once it is no longer watched.
    for refused in [true, true, false] {
        assert_eq!(change::delete(&desired, &name("a")).is_err(), refused);
        rollout::complete(&mut desired, &name("b"), 2);
    }
}

#[test]
fn an_abort_is_refused_when_what_there_was_is_no_longer_kept() {
    let mut desired = Desired::default();
    let text = Text { route: None, deployments: vec!["first"], uses: vec![] };
    for nth in 0..102 {
        let text = text.clone();
        act(&mut desired, &Act::Deploy { pipeline: 0, text, mode: Mode::Rolling }, nth);
    }
    let refused = rollout::abortable(&desired, &name("a")).unwrap_err().to_string();
    assert!(
        refused.starts_with("revision 1 of `a`, which the rollout began from, is no longer kept"),
        "{refused}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_pipelines_that_serve_or_may_serve_again_fit_together(
        acts in prop::collection::vec(any_act(), 1..30),
    ) {
        let mut desired = Desired::default();
        for (nth, next) in acts.iter().enumerate() {
            act(&mut desired, next, nth);
            let faults = faults(&desired);
            prop_assert!(faults.is_empty(), "after {next:?}: {faults:?}");
        }
    }
}
