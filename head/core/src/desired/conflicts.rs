//! What pipelines must leave to one another: their routes and names, and the deployments that others call.
//!
//! While a rollout of a pipeline is under way the head may go back, at any moment and by itself. What it would go back to
//! must fit all other pipelines then. So a change is refused that does not fit every revision that serves or may serve
//! again, and going back never has to be refused. Example: `a` moves from the route `/x` to `/y`; until its rollout is over
//! nobody else gets `/x`.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;

use millstream_pipelines::{FullName, Name, closest};

use super::refusal::Refusal;
use super::{Compiled, Desired, Pipeline, Revision, StoredRollout};

impl Pipeline {
    /// The revisions that serve or may serve again: the wanted one first, then, while a rollout is under way, what it
    /// began from and those that were to take over since, unless a verdict is against them.
    pub fn may_serve(&self) -> impl Iterator<Item = &Arc<Revision>> {
        let before = self.revisions.range(..self.wanted).rev();
        let before = before.filter(|(number, _)| self.may_return_to(**number)).map(|(_, revision)| revision);
        self.wanted().into_iter().chain(before)
    }

    /// Whether the head may go back from the wanted revision to this one.
    #[must_use]
    pub fn may_return_to(&self, number: u64) -> bool {
        let is_since = |rollout: StoredRollout| {
            let first = rollout.first.max(rollout.baseline);
            number == rollout.baseline
                || (first..self.wanted).contains(&number) && !self.verdicts.contains_key(&number)
        };
        self.revisions.contains_key(&number) && self.rollout.or(self.watched).is_some_and(is_since)
    }

    /// What to say of a revision that is not the wanted one.
    fn until(&self, name: &Name) -> String {
        let wanted = self.wanted;
        format!(
            "may serve again until the rollout of revision {wanted} is over: see `cluster rollout status {name}`"
        )
    }
}

/// A revision of another pipeline that serves or may serve again.
struct Other<'a> {
    name: &'a Name,
    pipeline: &'a Pipeline,
    number: u64,
    compiled: &'a Compiled,
}

impl Other<'_> {
    fn is_wanted(&self) -> bool {
        self.number == self.pipeline.wanted
    }
}

fn others<'a>(desired: &'a Desired, name: &'a Name) -> impl Iterator<Item = Other<'a>> {
    desired.pipelines.iter().filter(move |(other, _)| *other != name).flat_map(|(name, pipeline)| {
        pipeline.may_serve().filter_map(move |revision| {
            let (number, compiled) = (revision.stored.number, revision.compiled.as_ref().ok()?);
            Some(Other { name, pipeline, number, compiled })
        })
    })
}

/// What is wrong with names of a text, given what another pipeline has: nobody gets a name that another answers to.
fn shared_names(compiled: &Compiled, other: &Other<'_>) -> Vec<String> {
    let Other { name, number, compiled: theirs, .. } = *other;
    let whose = |deployment: &Option<Name>| match deployment {
        Some(deployment) => format!("deployment `{name}/{deployment}`"),
        None => format!("pipeline `{name}`"),
    };
    let until = match other.is_wanted() {
        true => "choose another".to_owned(),
        false => {
            format!(
                "that is in revision {number}, which {}; wait for that, or choose another",
                other.pipeline.until(name)
            )
        }
    };
    let taken = |alias: &dyn Display, who: String| format!("the alias `{alias}` is taken by {who}; {until}");
    let is_name = |compiled: &Compiled, text: &str| match text.split_once('/') {
        None => text == compiled.name.as_str(),
        Some((pipeline, deployment)) => {
            pipeline == compiled.name.as_str()
                && compiled.deployments.keys().any(|name| name.as_str() == deployment)
        }
    };
    let mut faults = Vec::new();
    for alias in compiled.aliases.keys() {
        if let Some(who) = theirs.aliases.get(alias) {
            faults.push(taken(alias, whose(who)));
        } else if is_name(theirs, alias.as_str()) {
            faults.push(format!("the alias `{alias}` is the name of a pipeline or deployment; {until}"));
        }
    }
    for (alias, who) in theirs.aliases.iter().filter(|(alias, _)| is_name(compiled, alias.as_str())) {
        faults.push(format!("the name `{alias}` is an alias of {}; {until}", whose(who)));
    }
    faults
}

/// Checks a text against the other pipelines: its route and names are free, what it uses exists.
pub(super) fn check_fit(desired: &Desired, file_name: &str, compiled: &Compiled) -> Result<(), Refusal> {
    let mut faults = Vec::new();
    let mut named = BTreeSet::new();
    for other in others(desired, &compiled.name) {
        if let (Some(mine), Some(theirs)) = (&compiled.route, &other.compiled.route)
            && routes_collide(mine, theirs)
            && named.insert(other.name)
        {
            let Other { name, number, .. } = other;
            faults.push(if other.is_wanted() {
                format!(
                    "{file_name}: route `{mine}` is taken by pipeline `{name}` (`{theirs}`); choose another `route`"
                )
            } else {
                format!(
                    "{file_name}: route `{mine}` is that of revision {number} of pipeline `{name}` (`{theirs}`), which {}; \
                     wait for that, or choose another `route`",
                    other.pipeline.until(name)
                )
            });
        }
    }
    let mut shared = BTreeSet::new();
    for other in others(desired, &compiled.name) {
        shared
            .extend(shared_names(compiled, &other).into_iter().map(|fault| format!("{file_name}: {fault}")));
    }
    faults.extend(shared);
    faults.extend(
        compiled.uses.iter().filter_map(|used| Some(format!("{file_name}: {}", lacks(desired, used)?))),
    );
    if faults.is_empty() { Ok(()) } else { Err(Refusal::Invalid(faults.join("\n"))) }
}

/// What is wrong with a deployment that a text uses: it is not in every revision of its pipeline that may serve.
fn lacks(desired: &Desired, used: &FullName) -> Option<String> {
    let FullName { pipeline: name, deployment } = used;
    let pipeline = desired.pipelines.get(name);
    let without = |revision: &&Arc<Revision>| revision.spec(deployment).is_none();
    let Some((pipeline, wanted)) = pipeline.and_then(|pipeline| Some((pipeline, pipeline.wanted()?))) else {
        return Some(missing(desired, used));
    };
    if without(&wanted) {
        return Some(missing(desired, used));
    }
    let revision = pipeline.may_serve().find(without)?.stored.number;
    let until = pipeline.until(name);
    Some(format!("`{used}` is not in revision {revision} of pipeline `{name}`, which {until}; wait for that"))
}

fn missing(desired: &Desired, used: &FullName) -> String {
    let FullName { pipeline, deployment } = used;
    let of = |(name, it): (&Name, &Pipeline)| {
        let compiled = it.wanted().and_then(|wanted| wanted.compiled.as_ref().ok());
        let deployments = compiled.into_iter().flat_map(|compiled| compiled.deployments.keys());
        deployments.map(|deployment| format!("{name}/{deployment}")).collect::<Vec<_>>()
    };
    let there: Vec<String> = desired.pipelines.iter().flat_map(of).collect();
    if let Some(meant) = closest(&used.to_string(), there.iter().map(String::as_str)) {
        return format!("`{used}` does not exist; did you mean `{meant}`?");
    }
    format!("`{used}` does not exist; deploy pipeline `{pipeline}` with a deployment `{deployment}` first")
}

/// Refuses when another pipeline uses a deployment of `name` that `goes`.
pub(super) fn check_unused(
    desired: &Desired,
    name: &Name,
    goes: impl Fn(&Name) -> bool,
) -> Result<(), Refusal> {
    let mut users = Vec::new();
    let mut named = BTreeSet::new();
    for other in others(desired, name) {
        for used in other.compiled.uses.iter().filter(|used| used.pipeline == *name && goes(&used.deployment))
        {
            let Other { name: user, number, .. } = other;
            if !named.insert((user, used)) {
                continue;
            }
            users.push(if other.is_wanted() {
                format!("pipeline `{user}` uses `{used}`; change or delete `{user}` first")
            } else {
                let until = other.pipeline.until(user);
                format!("revision {number} of pipeline `{user}` uses `{used}` and {until}; wait for that, or delete `{user}` first")
            });
        }
    }
    if users.is_empty() { Ok(()) } else { Err(Refusal::InUse(users.join("\n"))) }
}

/// Whether two routes, or the pages below them, are the same.
fn routes_collide(a: &str, b: &str) -> bool {
    let below = |route: &str, other: &str| {
        ["/docs", "/openapi.json"]
            .iter()
            .any(|page| route.strip_suffix(page).is_some_and(|base| base == other))
    };
    let (a, b) = (a.trim_end_matches('/'), b.trim_end_matches('/'));
    a == b || below(a, b) || below(b, a)
}
