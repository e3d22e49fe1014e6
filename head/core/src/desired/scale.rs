//! Bounds that a person has set for a deployment beside its file: `cluster scale`. They stand in place of the file's
//! until they are reset, or until a deploy changes the deployment's autoscaling.

use std::sync::Arc;

use millstream_pipelines::{Autoscaling, FullName};
use serde::{Deserialize, Serialize};

use super::refusal::Refusal;
use super::{Desired, Pipeline, Revision};

/// Most replicas that anybody may ask for, as in a file.
const MAX_REPLICAS: u32 = 10_000;

/// Bounds that stand in place of a file's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScaleOverride {
    /// Fewest replicas.
    pub min_replicas: u32,
    /// Most replicas.
    pub max_replicas: u32,
    /// What the file says.
    pub file: Autoscaling,
}

impl ScaleOverride {
    /// The settings that are in force.
    fn applied(&self) -> Autoscaling {
        let Self { min_replicas, max_replicas, ref file } = *self;
        Autoscaling { min_replicas, max_replicas, ..file.clone() }
    }
}

/// What a person asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleRequest {
    /// These bounds; `None` keeps the one in force.
    Bounds(Option<u32>, Option<u32>),
    /// What the file says.
    Reset,
}

/// What people ask for once `request` is granted. The same bounds again change nothing.
///
/// # Errors
/// [`Refusal::NoDeployment`]; [`Refusal::Bounds`] for a minimum above the maximum, or bounds out of range.
pub fn scale(desired: &Desired, name: &FullName, request: ScaleRequest) -> Result<Desired, Refusal> {
    let newest = desired.pipelines.get(&name.pipeline).and_then(Pipeline::wanted);
    let Some(spec) = newest.and_then(|newest| newest.spec(&name.deployment)) else {
        return Err(Refusal::NoDeployment(unknown(desired, name)));
    };
    let in_force = &spec.autoscaling;
    let file = desired.scales.get(name).map_or(in_force, |scale| &scale.file).clone();
    let mut changed = desired.clone();
    changed.drop_scale(name);
    if let ScaleRequest::Bounds(min, max) = request {
        let min_replicas = min.unwrap_or(in_force.min_replicas);
        let max_replicas = max.unwrap_or(in_force.max_replicas);
        check(name, (min, min_replicas), (max, max_replicas))?;
        changed.set_scale(name.clone(), ScaleOverride { min_replicas, max_replicas, file });
    }
    Ok(changed)
}

fn check(name: &FullName, min: (Option<u32>, u32), max: (Option<u32>, u32)) -> Result<(), Refusal> {
    let refuse = |what: String| Err(Refusal::Bounds(format!("deployment `{name}`: {what}")));
    let ((min_given, min), (max_given, max)) = (min, max);
    if max == 0 {
        return refuse(
            "at most 0 replicas would answer no request; ask for 1 or more, with --min 0 it idles to none"
                .into(),
        );
    }
    if max > MAX_REPLICAS {
        return refuse(format!("{max} replicas are more than {MAX_REPLICAS}; ask for fewer"));
    }
    if min > max {
        let fix = match (min_given, max_given) {
            (Some(_), None) => format!("add --max {min} or more, which is {max} now"),
            (None, Some(_)) => format!("add --min {max} or less, which is {min} now"),
            _ => "swap them, or make them equal".to_owned(),
        };
        return refuse(format!("at least {min} and at most {max} replicas exclude each other; {fix}"));
    }
    Ok(())
}

/// What to say of a deployment that is not there: those there are.
fn unknown(desired: &Desired, name: &FullName) -> String {
    let newest = desired.pipelines.iter().filter_map(|(pipeline, asked)| Some((pipeline, asked.wanted()?)));
    let all = newest.flat_map(|(pipeline, newest)| {
        let compiled = newest.compiled.as_ref().ok();
        let names = compiled.into_iter().flat_map(|compiled| compiled.deployments.keys());
        names.map(move |deployment| format!("`{pipeline}/{deployment}`"))
    });
    match all.collect::<Vec<_>>() {
        there if there.is_empty() => {
            format!("there is no deployment `{name}`, and no other either; deploy a pipeline first")
        }
        there => format!("there is no deployment `{name}`; there are {}", there.join(", ")),
    }
}

impl Desired {
    /// Puts bounds in force for every revision that has these settings of the file.
    pub fn set_scale(&mut self, name: FullName, scale: ScaleOverride) {
        self.replace(&name, &scale.file, &scale.applied());
        self.scales.insert(name, scale);
    }

    /// Puts what the file says in force again.
    pub(super) fn drop_scale(&mut self, name: &FullName) {
        if let Some(scale) = self.scales.remove(name) {
            self.replace(name, &scale.applied(), &scale.file);
        }
    }

    /// After a deploy: bounds stay in force for deployments whose settings in the file are as they were.
    pub(super) fn keep_scales(&mut self, pipeline: &millstream_pipelines::Name) {
        let newest = self.pipelines.get(pipeline).and_then(Pipeline::wanted).cloned();
        let of_pipeline = self.scales.iter().filter(|(name, _)| name.pipeline == *pipeline);
        for (name, scale) in
            of_pipeline.map(|(name, scale)| (name.clone(), scale.clone())).collect::<Vec<_>>()
        {
            let spec = newest.as_ref().and_then(|newest| newest.spec(&name.deployment));
            if spec.is_some_and(|spec| spec.autoscaling == scale.file) {
                self.replace(&name, &scale.file, &scale.applied());
            } else {
                self.drop_scale(&name);
            }
        }
    }

    fn replace(&mut self, name: &FullName, old: &Autoscaling, new: &Autoscaling) {
        let Some(pipeline) = self.pipelines.get_mut(&name.pipeline) else { return };
        for revision in pipeline.revisions.values_mut() {
            let Some(spec) = revision.spec(&name.deployment).filter(|spec| spec.autoscaling == *old) else {
                continue;
            };
            let mut spec = Arc::clone(spec);
            Arc::make_mut(&mut spec).autoscaling = new.clone();
            let mut changed = Revision::clone(revision);
            if let Ok(compiled) = &mut changed.compiled {
                compiled.deployments.insert(name.deployment.clone(), spec);
            }
            *revision = Arc::new(changed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::change::{Candidate, Deployed, deploy};
    use crate::testing::{compiled, name, spec};

    fn full() -> FullName {
        "p/model".parse().unwrap()
    }

    fn deployed(desired: &mut Desired, source: &str, max: u32) {
        let mut spec = spec("model");
        spec.autoscaling.max_replicas = max;
        let compiled = compiled("p", [spec]);
        let (file_name, source_dir) = ("p.toml".into(), "/".into());
        let candidate = Candidate { file_name, source: source.into(), source_dir, compiled };
        if let Deployed::New(revision) = deploy(desired, candidate, 1).unwrap() {
            desired.add(&name("p"), revision);
        }
    }

    fn bounds(desired: &Desired) -> (u32, u32) {
        let newest = desired.pipelines[&name("p")].wanted().unwrap();
        let settings = &newest.spec(&name("model")).unwrap().autoscaling;
        (settings.min_replicas, settings.max_replicas)
    }

    #[test]
    fn bounds_stand_in_place_of_the_files_until_they_are_reset() {
        let mut desired = Desired::default();
        deployed(&mut desired, "1", 4);
        let before = desired.clone();
        for (request, expected) in [
            (ScaleRequest::Bounds(Some(3), Some(3)), (3, 3)),
            (ScaleRequest::Bounds(Some(0), None), (0, 3)),
            (ScaleRequest::Bounds(None, Some(9)), (0, 9)),
        ] {
            desired = scale(&desired, &full(), request).unwrap();
            assert_eq!(bounds(&desired), expected);
            assert_eq!(desired.scales[&full()].file.max_replicas, 4);
        }
        assert_eq!(scale(&desired, &full(), ScaleRequest::Reset).unwrap(), before);
    }

    #[test]
    fn a_deploy_keeps_them_unless_it_changes_the_deployments_autoscaling() {
        let mut desired = Desired::default();
        deployed(&mut desired, "1", 4);
        desired = scale(&desired, &full(), ScaleRequest::Bounds(Some(2), Some(2))).unwrap();
        deployed(&mut desired, "2", 4);
        assert_eq!(bounds(&desired), (2, 2));
        deployed(&mut desired, "3", 5);
        assert_eq!((bounds(&desired), desired.scales.len()), ((1, 5), 0));
        desired = scale(&desired, &full(), ScaleRequest::Bounds(Some(2), Some(2))).unwrap();
        desired.remove(&name("p"), 1);
        assert!(desired.scales.is_empty());
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_says_what_to_do() {
        let mut desired = Desired::default();
        let refused = |desired: &Desired, name: &str, request| {
            scale(desired, &name.parse().unwrap(), request).unwrap_err().to_string()
        };
        let some = ScaleRequest::Bounds(Some(1), Some(2));
        assert!(refused(&desired, "p/model", some).contains("deploy a pipeline first"));
        deployed(&mut desired, "1", 4);
        assert_eq!(
            refused(&desired, "p/modle", some),
            "there is no deployment `p/modle`; there are `p/model`"
        );
        for (request, text) in [
            (ScaleRequest::Bounds(Some(3), Some(2)), "at least 3 and at most 2 replicas exclude each other"),
            (ScaleRequest::Bounds(Some(5), None), "add --max 5 or more, which is 4 now"),
            (ScaleRequest::Bounds(Some(0), Some(0)), "would answer no request"),
            (ScaleRequest::Bounds(None, Some(10_001)), "more than 10000"),
        ] {
            let found = refused(&desired, "p/model", request);
            assert!(found.contains(text), "{found}");
        }
    }
}
