//! What the models of a pipeline take and return, as far as their files can be read here: for those who check a pipeline without a
//! cluster.

use std::path::Path;
use std::sync::Arc;

use millstream_pipelines::types::Signatures;
use millstream_pipelines::{ModelRef, Plan};

use crate::{engines, models};

/// The signatures of the plan's models that are given by `file:` and are there; `source_dir` is the folder of the pipeline's file.
#[must_use]
pub fn signatures_in_reach(plan: &Plan, source_dir: &Path) -> Signatures {
    let known = plan.deployments().iter().filter_map(|(name, spec)| {
        let model = spec.model.as_ref().filter(|model| matches!(model, ModelRef::File { .. }))?;
        let path = models::resolve(model, &[], source_dir).ok()?;
        Some((name.clone(), Arc::new(engines::signature_of(spec, &path)?)))
    });
    known.collect()
}
