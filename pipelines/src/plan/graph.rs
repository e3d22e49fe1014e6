//! What follows from a plan's stages: who waits for whom, who is needed, whose text streams.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{CachedStage, InputValue, OnError, PlanParts, Response, StagePlan, TextAnswer, Work};

/// The DAG in dense indices; all lists are by stage index.
#[derive(Debug)]
pub(crate) struct Graph {
    /// How many stages a stage waits for before it starts.
    pub(crate) num_dependencies: Vec<u32>,
    /// The stages that wait for a stage.
    pub(crate) dependents: Vec<Vec<usize>>,
    /// The stages whose `on_error` names a stage.
    pub(crate) stands_in_for: Vec<Vec<usize>>,
    /// Whether the response cannot be made without the stage; one that only stands in for another is not.
    pub(crate) essential: Vec<bool>,
    /// The stages that the response mapping uses.
    pub(crate) response: Vec<usize>,
    /// The response field that the stage's text streams to.
    pub(crate) streams: Vec<Option<Arc<str>>>,
    /// Targets that every request calls first: it cannot be answered before they have had a place for it.
    pub(crate) first_targets: Box<[usize]>,
    /// The stages whose answers are kept, in the order of their indices.
    pub(crate) caches: Vec<CachedStage>,
    /// The stage's place among them.
    pub(crate) cache_of: Vec<Option<usize>>,
}

impl Graph {
    pub(crate) fn of(parts: &PlanParts) -> Self {
        let num_stages = parts.stages.len();
        let dependencies: Vec<BTreeSet<usize>> = parts.stages.iter().map(dependencies).collect();
        let mut dependents = vec![Vec::new(); num_stages];
        for (stage, of_stage) in dependencies.iter().enumerate() {
            for &dependency in of_stage {
                dependents[dependency].push(stage);
            }
        }
        let mut stands_in_for = vec![Vec::new(); num_stages];
        for (stage, plan) in parts.stages.iter().enumerate() {
            if let OnError::Use(fallback) = plan.on_error {
                stands_in_for[fallback].push(stage);
            }
        }
        let mut response = BTreeSet::new();
        match &parts.response {
            Response::Fields(fields) => {
                fields.iter().for_each(|(_, expression)| expression.stages(&mut response));
            }
            Response::Stage(stage) => drop(response.insert(*stage)),
        }
        let (caches, cache_of) = caches(parts);
        Self {
            num_dependencies: dependencies
                .iter()
                .map(|of_stage| u32::try_from(of_stage.len()).unwrap_or(u32::MAX))
                .collect(),
            dependents,
            stands_in_for,
            essential: reachable(&response, &dependencies),
            response: response.into_iter().collect(),
            streams: streams(parts),
            first_targets: first_targets(parts, &dependencies),
            caches,
            cache_of,
        }
    }
}

/// The targets of stages that wait for nothing, run whatever the request says, and without which there is no response.
fn first_targets(parts: &PlanParts, dependencies: &[BTreeSet<usize>]) -> Box<[usize]> {
    let always = parts.stages.iter().zip(dependencies).filter(|(stage, waits_for)| {
        waits_for.is_empty()
            && stage.when.is_none()
            && stage.for_each.is_none()
            && stage.rules.cache.is_none()
            && stage.on_error == OnError::Fail
    });
    let targets = always.filter_map(|(stage, _)| match stage.work {
        Work::Call { target, .. } => Some(target),
        Work::Operator(_) => None,
    });
    targets.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The stages that a stage's expressions and templates use.
fn dependencies(stage: &StagePlan) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for expression in stage.when.iter().chain(&stage.for_each) {
        expression.stages(&mut found);
    }
    for input in stage.inputs.named() {
        match &input.value {
            InputValue::Expression(expression) => expression.stages(&mut found),
            InputValue::Template(template) => template.stages(&mut found),
        }
    }
    found
}

/// Which stages the response needs, directly or through others.
fn reachable(response: &BTreeSet<usize>, dependencies: &[BTreeSet<usize>]) -> Vec<bool> {
    let mut essential = vec![false; dependencies.len()];
    let mut todo: Vec<usize> = response.iter().copied().collect();
    while let Some(stage) = todo.pop() {
        if !std::mem::replace(&mut essential[stage], true) {
            todo.extend(&dependencies[stage]);
        }
    }
    essential
}

/// The response field that is a stage's `text`, by stage; the first one where there are several.
fn streams(parts: &PlanParts) -> Vec<Option<Arc<str>>> {
    let mut streams = vec![None; parts.stages.len()];
    let mut stream = |stage: usize, field: &Arc<str>| {
        let plan = &parts.stages[stage];
        let can =
            matches!(plan.work, Work::Call { text: TextAnswer::Streams, .. }) && plan.for_each.is_none();
        if can && streams[stage].is_none() {
            streams[stage] = Some(Arc::clone(field));
        }
    };
    match &parts.response {
        Response::Fields(fields) => {
            for (field, expression) in fields {
                if let Some((stage, "text")) = expression.as_stage_field() {
                    stream(stage, field);
                }
            }
        }
        Response::Stage(stage) => stream(*stage, &"text".into()),
    }
    streams
}

/// The stages whose answers are kept, and each stage's place among them.
fn caches(parts: &PlanParts) -> (Vec<CachedStage>, Vec<Option<usize>>) {
    let mut caches = Vec::new();
    let mut cache_of = vec![None; parts.stages.len()];
    for (place, plan) in cache_of.iter_mut().zip(&parts.stages) {
        let (Some(cache), Work::Call { target, .. }) = (plan.rules.cache, plan.work) else { continue };
        *place = Some(caches.len());
        caches.push(CachedStage { stage: Arc::clone(&plan.name), target, cache });
    }
    (caches, cache_of)
}
