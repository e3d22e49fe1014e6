//! What a deploy or a delete does to what people asked for, as plain functions.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_pipelines::{DeploymentSpec, ModelRef, Name};

use super::conflicts::{check_fit, check_unused};
pub use super::refusal::Refusal;
use super::{Compiled, Deleted, Desired, Mode, Pipeline, Revision, StoredRevision, UNDELETE_MS, rollout};

/// Ranges kept in [`StoredRevision::reuses`]; replicas older than that are replaced.
const MAX_RANGES: usize = 16;

/// A text that somebody wants to be served.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The file's name, for messages.
    pub file_name: String,
    /// The text.
    pub source: String,
    /// Folder that relative `file:` models are found in.
    pub source_dir: String,
    /// What the text means.
    pub compiled: Compiled,
}

/// What a deploy comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Deployed {
    /// This very text is the wanted revision already.
    Unchanged {
        /// Its number.
        revision: u64,
    },
    /// A new revision.
    New(Arc<Revision>),
}

/// Decides what deploying `candidate` does.
///
/// # Errors
/// [`Refusal::Invalid`] for a route or an alias that is taken or a deployment of another pipeline that does not exist;
/// [`Refusal::InUse`] when a deployment goes away that another pipeline uses. Of other pipelines every revision counts that
/// may serve again while a rollout is under way.
pub fn deploy(desired: &Desired, candidate: Candidate, now_ms: u64) -> Result<Deployed, Refusal> {
    let name = candidate.compiled.name.clone();
    let current = desired.pipelines.get(&name);
    let wanted = current.and_then(Pipeline::wanted);
    if let Some(wanted) = wanted
        && wanted.stored.source == candidate.source
        && (wanted.stored.source_dir == candidate.source_dir || !has_relative_models(&candidate.compiled))
    {
        return Ok(Deployed::Unchanged { revision: wanted.stored.number });
    }
    check_fit(desired, &candidate.file_name, &candidate.compiled)?;
    let removed = |deployment: &Name| !candidate.compiled.deployments.contains_key(deployment);
    check_unused(desired, &name, removed)?;
    let last = current
        .map(|pipeline| pipeline.newest)
        .or_else(|| desired.deleted.get(&name).map(|it| it.newest))
        .unwrap_or(0);
    let number = last + 1;
    let reuses = reuses(current, &candidate, number);
    let stored = StoredRevision {
        number,
        file_name: candidate.file_name,
        source: candidate.source,
        source_dir: candidate.source_dir,
        created_at_ms: now_ms,
        reuses,
    };
    Ok(Deployed::New(Arc::new(Revision { stored, compiled: Ok(candidate.compiled) })))
}

/// What a deploy comes to, with what people ask for after it.
#[derive(Debug)]
pub enum After {
    /// This very text is the wanted revision already.
    Unchanged {
        /// Its number.
        revision: u64,
    },
    /// This very text is the canary or shadow already, and gets another part of the requests.
    OtherPart {
        /// Its number.
        revision: u64,
        /// What people ask for from now on.
        desired: Box<Desired>,
    },
    /// A new revision is wanted.
    Changed {
        /// The revision.
        revision: Arc<Revision>,
        /// What people ask for from now on.
        desired: Box<Desired>,
        /// Numbers of revisions that are no longer kept.
        dropped: Vec<u64>,
    },
}

/// Deploys on a copy of what people ask for; requests come to the new revision by `mode`, or as its text says. The text of a canary or shadow that runs
/// gives it another part.
///
/// # Errors
/// As [`deploy`]; [`Refusal::NotNow`] for a canary or a shadow beside nothing, and for one that has taken over.
pub fn deploy_by(
    desired: &Desired,
    candidate: Candidate,
    mode: impl Into<Option<Mode>>,
    now_ms: u64,
) -> Result<After, Refusal> {
    let (name, mode) = (candidate.compiled.name.clone(), mode.into());
    let revision = match (deploy(desired, candidate, now_ms)?, mode) {
        (Deployed::Unchanged { revision }, None | Some(Mode::Rolling)) => {
            return Ok(After::Unchanged { revision });
        }
        (Deployed::Unchanged { revision }, Some(mode)) => {
            let mut desired = Box::new(desired.clone());
            return Ok(match rollout::change_mode(&mut desired, &name, mode)? {
                true => After::OtherPart { revision, desired },
                false => After::Unchanged { revision },
            });
        }
        (Deployed::New(revision), _) => revision,
    };
    let mut desired = Box::new(desired.clone());
    let dropped = desired.add(&name, Arc::clone(&revision));
    rollout::set_mode(&mut desired, &name, mode)?;
    Ok(After::Changed { revision, desired, dropped })
}

/// Decides whether a pipeline may be deleted.
///
/// # Errors
/// [`Refusal::NotFound`]; [`Refusal::InUse`] while another pipeline uses one of its deployments.
pub fn delete(desired: &Desired, name: &Name) -> Result<(), Refusal> {
    if !desired.pipelines.contains_key(name) {
        return Err(Refusal::NotFound(name.clone()));
    }
    check_unused(desired, name, |_| true)
}

impl Desired {
    /// Adds a revision that is wanted from now on and takes over step by step; returns the numbers of revisions that are
    /// no longer kept.
    pub fn add(&mut self, name: &Name, revision: Arc<Revision>) -> Vec<u64> {
        self.deleted.remove(name);
        let number = revision.stored.number;
        let pipeline = self.pipelines.entry(name.clone()).or_insert_with(|| Pipeline {
            newest: number,
            wanted: number,
            rollout: None,
            watched: None,
            verdicts: BTreeMap::new(),
            revisions: BTreeMap::new(),
        });
        pipeline.supersede(number);
        pipeline.revisions.insert(number, revision);
        let dropped = pipeline.drop_old();
        self.keep_scales(name);
        dropped
    }

    /// Removes a pipeline; its revision numbers stay used.
    pub fn remove(&mut self, name: &Name, now_ms: u64) {
        let is_old = |deleted: &Deleted| now_ms.saturating_sub(deleted.at_ms) > UNDELETE_MS;
        self.deleted.values_mut().filter(|deleted| is_old(deleted)).for_each(|deleted| deleted.last = None);
        if let Some(pipeline) = self.pipelines.remove(name) {
            let last = pipeline.wanted().map(|wanted| wanted.stored.clone());
            self.deleted.insert(name.clone(), Deleted { newest: pipeline.newest, last, at_ms: now_ms });
            self.scales.retain(|scaled, _| scaled.pipeline != *name);
        }
    }
}

/// Whether a model is found relative to the file's folder.
fn is_relative(spec: &DeploymentSpec) -> bool {
    matches!(&spec.model, Some(ModelRef::File { path }) if !path.starts_with('/'))
}

fn has_relative_models(compiled: &Compiled) -> bool {
    compiled.deployments.values().any(|spec| is_relative(spec))
}

/// Which replicas that run may serve the new revision, by deployment.
fn reuses(current: Option<&Pipeline>, candidate: &Candidate, number: u64) -> BTreeMap<Name, Vec<(u64, u64)>> {
    let same = |old: &Revision, name: &Name, spec: &DeploymentSpec| {
        old.spec(name).is_some_and(|old| !old.needs_restart(spec))
            && (old.stored.source_dir == candidate.source_dir || !is_relative(spec))
    };
    let ranges = |name: &Name, spec: &DeploymentSpec| {
        let mut revisions = current.into_iter().flat_map(|pipeline| pipeline.revisions.values().rev());
        let old = revisions.find(|old| same(old, name, spec));
        let mut ranges = old.and_then(|old| old.stored.reuses.get(name)).cloned().unwrap_or_default();
        match ranges.last_mut() {
            Some((_, to)) if *to + 1 == number => *to = number,
            _ => ranges.push((number, number)),
        }
        let too_many = ranges.len().saturating_sub(MAX_RANGES);
        ranges.drain(..too_many);
        ranges
    };
    candidate.compiled.deployments.iter().map(|(name, spec)| (name.clone(), ranges(name, spec))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{compiled, name, spec};

    fn candidate(pipeline: &str, source: &str, edit: impl FnOnce(&mut Compiled)) -> Candidate {
        let mut compiled = compiled(pipeline, [spec("model")]);
        edit(&mut compiled);
        Candidate { file_name: "p.toml".into(), source: source.into(), source_dir: "/src".into(), compiled }
    }

    fn add(desired: &mut Desired, candidate: Candidate) -> u64 {
        let name = candidate.compiled.name.clone();
        match deploy(desired, candidate, 1).unwrap() {
            Deployed::Unchanged { revision } => revision,
            Deployed::New(revision) => {
                let number = revision.stored.number;
                desired.add(&name, revision);
                number
            }
        }
    }

    #[test]
    fn the_text_of_a_canary_gives_it_another_part() {
        let deployed = |desired: &Desired, source, mode| {
            deploy_by(desired, candidate("p", source, |_| ()), mode, 1).map(|after| match after {
                After::Changed { desired, .. } | After::OtherPart { desired, .. } => Some(*desired),
                After::Unchanged { .. } => None,
            })
        };
        let canary = |permille| Mode::Canary { permille };
        let mode_of = |desired: &Desired| desired.pipelines[&name("p")].rollout.unwrap().mode;
        let first = deployed(&Desired::default(), "1", None).unwrap().unwrap();
        let refused = deployed(&first, "1", Some(canary(100))).unwrap_err().to_string();
        assert!(refused.contains("revision 1 of `p` has this text and is no canary or shadow"), "{refused}");
        let second = deployed(&first, "2", Some(canary(300))).unwrap().unwrap();
        assert_eq!(deployed(&second, "2", Some(canary(300))).unwrap(), None, "it has that part");
        assert_eq!(deployed(&second, "2", None).unwrap(), None, "`promote` says that");
        let more = deployed(&second, "2", Some(canary(600))).unwrap().unwrap();
        assert_eq!((mode_of(&more), more.pipelines[&name("p")].wanted), (canary(600), 2));
    }

    #[test]
    fn the_same_text_changes_nothing_and_numbers_grow_also_after_a_delete() {
        let mut desired = Desired::default();
        assert_eq!(add(&mut desired, candidate("a", "1", |_| {})), 1);
        assert_eq!(add(&mut desired, candidate("a", "1", |_| {})), 1);
        assert_eq!(add(&mut desired, candidate("a", "2", |_| {})), 2);
        desired.remove(&name("a"), 1);
        assert_eq!(desired.deleted[&name("a")].last.as_ref().map(|last| last.number), Some(2));
        desired.remove(&name("b"), 2 + UNDELETE_MS);
        assert_eq!(desired.deleted[&name("a")].last, None, "nobody has regretted it");
        assert_eq!(delete(&desired, &name("a")), Err(Refusal::NotFound(name("a"))));
        assert_eq!(add(&mut desired, candidate("a", "1", |_| {})), 3);
    }

    #[test]
    fn the_last_ten_revisions_are_kept() {
        let mut desired = Desired::default();
        for n in 1..=13 {
            assert_eq!(add(&mut desired, candidate("a", &n.to_string(), |_| {})), n);
            super::super::rollout::complete(&mut desired, &name("a"), n);
        }
        let kept: Vec<_> = desired.pipelines[&name("a")].revisions.keys().copied().collect();
        assert_eq!(kept, (4..=13).collect::<Vec<_>>());
    }

    #[test]
    fn settings_that_apply_in_place_keep_replicas_also_across_another_revision() {
        let mut desired = Desired::default();
        let slow = |compiled: &mut Compiled| {
            let mut spec = spec("model");
            spec.demand.cpu_milli = 7000;
            compiled.deployments.insert(name("model"), Arc::new(spec));
        };
        let wide = |compiled: &mut Compiled| {
            let mut spec = spec("model");
            spec.limits.max_ongoing_requests = 99;
            compiled.deployments.insert(name("model"), Arc::new(spec));
        };
        add(&mut desired, candidate("a", "1", |_| {}));
        add(&mut desired, candidate("a", "2", wide));
        add(&mut desired, candidate("a", "3", slow));
        add(&mut desired, candidate("a", "4", |_| {}));
        let revisions = &desired.pipelines[&name("a")].revisions;
        let served = |revision: u64| {
            (1..=5).filter(|&by| revisions[&revision].is_served_by(&name("model"), by)).collect::<Vec<_>>()
        };
        assert_eq!(
            [served(1), served(2), served(3), served(4)],
            [vec![1], vec![1, 2], vec![3], vec![1, 2, 4]]
        );
    }

    #[test]
    fn conflicts_with_other_pipelines_are_refused() {
        let mut desired = Desired::default();
        let route = |route: &'static str| move |compiled: &mut Compiled| compiled.route = Some(route.into());
        add(&mut desired, candidate("a", "1", route("/a")));
        for taken in ["/a", "/a/", "/a/docs"] {
            let refused = deploy(&desired, candidate("b", "1", route(taken)), 1).unwrap_err();
            assert!(refused.to_string().contains("is taken by pipeline `a`"), "{refused}");
        }
        add(&mut desired, candidate("b", "1", route("/ab")));
        let using = |used: &'static str| {
            move |compiled: &mut Compiled| {
                compiled.uses.insert(used.parse().unwrap());
            }
        };
        let missing = deploy(&desired, candidate("c", "1", using("a/none")), 1).unwrap_err();
        assert!(missing.to_string().contains("`a/none` does not exist"), "{missing}");
        add(&mut desired, candidate("c", "1", using("a/model")));
        assert!(matches!(delete(&desired, &name("a")), Err(Refusal::InUse(_))));
        let without = candidate("a", "2", |compiled| {
            compiled.deployments = [(name("other"), Arc::new(spec("other")))].into();
        });
        assert!(matches!(deploy(&desired, without, 1), Err(Refusal::InUse(_))));
        delete(&desired, &name("c")).unwrap();
        desired.remove(&name("c"), 1);
        delete(&desired, &name("a")).unwrap();
    }

    #[test]
    fn names_and_aliases_are_for_one_each() {
        let mut desired = Desired::default();
        let alias = |alias: &'static str, of: Option<&'static str>| {
            move |compiled: &mut Compiled| {
                compiled.aliases.insert(alias.parse().unwrap(), of.map(name));
            }
        };
        add(&mut desired, candidate("a", "1", alias("gpt", Some("model"))));
        let said = |candidate: Candidate| deploy(&desired, candidate, 1).unwrap_err().to_string();
        for (candidate, part) in [
            (candidate("b", "1", alias("gpt", None)), "alias `gpt` is taken by deployment `a/model`"),
            (candidate("b", "1", alias("a", None)), "alias `a` is the name of"),
            (candidate("b", "1", alias("a/model", None)), "alias `a/model` is the name of"),
            (candidate("gpt", "1", |_| {}), "name `gpt` is an alias of deployment `a/model`"),
        ] {
            let said = said(candidate);
            assert!(said.contains(part), "{said}");
        }
        // Its own alias moves with its next revision, and another gets it once that one serves alone.
        add(&mut desired, candidate("a", "2", alias("other", None)));
        let refused = deploy(&desired, candidate("b", "1", alias("gpt", None)), 1);
        assert_eq!(refused.is_err(), desired.pipelines[&name("a")].rollout.is_some());
        add(&mut desired, candidate("b", "1", alias("a/nothing", None)));
    }
}
