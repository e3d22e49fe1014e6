//! Whether the wanted revision of a pipeline fits its models. Its file does not say what they take and return; that is known
//! once replicas have loaded them, and then the file is checked again. What does not fit never serves.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_pipelines::types::Signatures;
use millstream_pipelines::{Name, Plan};
use millstream_status::status::ReplicaState;

use super::scope::Scope;
use crate::desired::{Desired, Revision};
use crate::model::{Checked, Serving, State};

impl State {
    /// Why a revision does not fit its models, as far as they are known.
    pub(crate) fn mismatch(&self, pipeline: &Name, revision: u64) -> Option<&str> {
        self.checked.get(pipeline)?.get(&revision)?.mismatch.as_deref()
    }

    /// Checks the wanted revisions that do not serve yet, where more is known of their models than before.
    pub(super) fn check_signatures(&mut self, desired: &Desired, scope: &Scope) {
        let open: BTreeMap<&Name, &Arc<Revision>> = desired
            .pipelines
            .iter()
            .filter(|(name, _)| scope.contains(name))
            .filter_map(|(name, pipeline)| Some((name, pipeline.wanted()?)))
            .filter(|(name, wanted)| {
                let settled = Serving { revision: wanted.stored.number, complete: true };
                wanted.compiled.is_ok() && self.serving.get(name) != Some(&settled)
            })
            .collect();
        self.checked.retain(|name, checked| {
            if !scope.contains(name) {
                return true;
            }
            let wanted = open.get(name).map(|wanted| wanted.stored.number);
            // One that never served may be wanted no more, and must not begin to serve because its mismatch is forgotten.
            let serving = self.serving.get(name).map(|serving| serving.revision);
            checked.retain(|&revision, _| Some(revision) == wanted || Some(revision) == serving);
            wanted.is_some()
        });
        if open.is_empty() {
            return;
        }
        let mut known: BTreeMap<&Name, Signatures> = BTreeMap::new();
        for replica in self.nodes.values().flat_map(|node| node.replicas.values()) {
            let Some(signature) = &replica.signature else { continue };
            let deployment = &replica.deployment;
            let wanted = open.get_key_value(&deployment.pipeline);
            let Some((name, _)) = wanted.filter(|(_, wanted)| {
                replica.state == ReplicaState::Ready
                    && wanted.is_served_by(&deployment.deployment, replica.revision)
            }) else {
                continue;
            };
            known.entry(name).or_default().insert(deployment.deployment.clone(), signature.clone());
        }
        for (name, signatures) in known {
            let wanted = open[name];
            let revision = wanted.stored.number;
            let checked = self.checked.entry(name.clone()).or_default();
            if checked.get(&revision).is_none_or(|checked| checked.signatures != signatures) {
                let compiled =
                    Plan::compile_with(&wanted.stored.file_name, &wanted.stored.source, &signatures);
                let mismatch = compiled.err().map(|faults| faults.to_string());
                checked.insert(revision, Checked { signatures, mismatch });
            }
        }
    }
}
