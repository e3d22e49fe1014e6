//! Which plans a table asks for: of each pipeline the revisions that requests run on, with their parts of the requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_pipelines::{Name, Plan};
use millstream_proto::v1;

use super::pipeline::Route;
use super::revisions::{RevisionId, Revisions};

/// A revision with its plan and its part of the requests.
pub(super) struct Planned {
    pub(super) plan: Arc<Plan>,
    pub(super) revision: u64,
    pub(super) permille: u16,
    pub(super) shadow_permille: u16,
}

/// Thousandths, at most all of them.
pub(super) fn permille(part: u32) -> u16 {
    u16::try_from(part).unwrap_or(1000).min(1000)
}

/// The revisions that each pipeline of the table runs on; where no source compiles, what there was before.
pub(super) fn plans_of<'a>(
    table: &v1::RouteTable,
    revisions: &Revisions,
    old: impl Fn(&Name) -> Option<&'a Arc<Route>>,
) -> BTreeMap<Name, Vec<Planned>> {
    let mut plans = BTreeMap::new();
    for route in &table.pipelines {
        let Ok(name) = route.name.parse::<Name>() else {
            tracing::warn!(pipeline = route.name, "a pipeline's name is not a name");
            continue;
        };
        let planned = route.variants.iter().filter_map(|variant| {
            let v1::Variant { revision, permille: part, shadow_permille } = *variant;
            let plan = revisions.plan(&RevisionId { pipeline: name.clone(), number: revision })?.clone();
            let (permille, shadow_permille) = (permille(part), permille(shadow_permille));
            Some(Planned { plan, revision, permille, shadow_permille })
        });
        let mut planned: Vec<_> = planned.collect();
        if planned.is_empty() {
            planned.extend(old(&name).into_iter().flat_map(|route| kept(route)));
        }
        plans.insert(name, planned);
    }
    plans
}

/// The same revisions again, for a table whose own cannot be used.
fn kept(route: &Route) -> impl Iterator<Item = Planned> {
    route.variants.iter().zip(&route.shares).map(|(pipeline, share)| Planned {
        plan: pipeline.plan.clone(),
        revision: pipeline.revision,
        permille: share.permille,
        shadow_permille: 0,
    })
}
