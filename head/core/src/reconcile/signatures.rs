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
        self.checked.get(pipeline).filter(|checked| checked.revision == revision)?.mismatch.as_deref()
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
        self.checked.retain(|name, _| !scope.contains(name) || open.contains_key(name));
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
            let is_known = self
                .checked
                .get(name)
                .is_some_and(|checked| checked.revision == revision && checked.signatures == signatures);
            if !is_known {
                let compiled =
                    Plan::compile_with(&wanted.stored.file_name, &wanted.stored.source, &signatures);
                let mismatch = compiled.err().map(|faults| faults.to_string());
                self.checked.insert(name.clone(), Checked { revision, signatures, mismatch });
            }
        }
    }
}
