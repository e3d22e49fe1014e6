//! Other names of pipelines and deployments, as their files give them (`[serving] aliases`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use millstream_pipelines::Name;

use super::pipeline::Route;

/// Routes by what requests may call them.
pub(super) type ByName = HashMap<Box<str>, Arc<Route>>;

/// What the aliases of all pipelines call. Those of every revision that takes requests count: while one replaces another, clients use
/// those of both.
pub(super) fn aliases_of(pipelines: &BTreeMap<Name, Arc<Route>>, callable: &ByName) -> ByName {
    let mut aliases = HashMap::new();
    for (name, route) in pipelines {
        for (alias, deployment) in route.variants.iter().flat_map(|pipeline| pipeline.plan.aliases()) {
            let named = match deployment {
                Some(deployment) => callable.get(&*format!("{name}/{deployment}")),
                None => callable.get(name.as_str()),
            };
            if let Some(route) = named {
                aliases.entry(alias.as_str().into()).or_insert_with(|| route.clone());
            }
        }
    }
    aliases
}
