//! `[stages.X]` to [`StagePlan`]s: what each uses gives the order, the order gives each its types.

use std::collections::{BTreeMap, BTreeSet};

use super::{MAX_ENTRIES, order};
use crate::expr::{self, Scope};
use crate::fault::FaultSink;
use crate::plan::StagePlan;
use crate::raw::{Raw, RawTable, RawValue, closest};
use crate::types::{Signatures, Type};
use crate::{DeploymentSpec, FullName, Name};

mod cache;
mod compile;
mod draft;
mod target;

use draft::{Draft, Fallback, Named, Text};

/// The file's deployments.
pub(super) struct Deployments {
    /// The pipeline's name.
    pub(super) pipeline: Name,
    /// Those whose task is known.
    pub(super) specs: BTreeMap<Name, DeploymentSpec>,
    /// The keys of all, those with faults included.
    pub(super) names: Vec<String>,
    /// What is known of their models.
    pub(super) signatures: Signatures,
}

/// The checked stages.
pub(super) struct Stages {
    /// In the order of the file; fewer than in the file when some have faults.
    pub(super) plans: Vec<StagePlan>,
    /// The deployments that they call.
    pub(super) targets: Vec<FullName>,
    /// All stages' values.
    pub(super) scope: Scope,
}

/// Checks the stages; `response` are the values of `[response]`, which use stages too.
pub(super) fn check(
    table: Option<&RawTable>,
    request: &Type,
    deployments: &Deployments,
    response: &[&Raw],
    faults: &mut FaultSink<'_>,
) -> Stages {
    let entries = table.map(|table| table.entries.as_slice()).unwrap_or_default();
    let drafts: Vec<Draft<'_>> =
        entries.iter().map(|(key, raw)| draft::draft(key, raw, deployments, faults)).collect();
    let names: Vec<&str> = drafts.iter().map(|draft| draft.name).collect();
    let mentions: Vec<Mentions> = drafts.iter().map(|draft| draft_mentions(draft, &names)).collect();
    let uses: Vec<Vec<usize>> = mentions.iter().map(|m| m.stages.iter().copied().collect()).collect();
    let order = order::order(&uses);
    for cycle in &order.cycles {
        report_cycle(&drafts, cycle, faults);
    }
    report_unused(&drafts, &mentions, &response_mentions(response, &names), faults);

    let mut compiler = compile::Compiler::new(request.clone(), deployments, &drafts);
    // Within a cycle nothing has a type; whatever is done with such a value is allowed.
    for &stage in order.cycles.iter().flatten() {
        compiler.assume(stage, Type::Any);
    }
    for &stage in &order.stages {
        compiler.compile(stage, faults);
    }
    compiler.finish()
}

/// What the texts of a stage, or of the response, mention.
#[derive(Default)]
struct Mentions {
    /// Stages, by index.
    stages: BTreeSet<usize>,
    /// Names of nothing.
    unknown: BTreeSet<String>,
    /// Whether a text could not be read, so that mentions may be missing.
    incomplete: bool,
}

impl Mentions {
    fn add(&mut self, text: &Text<'_>, names: &[&str], loop_variable: Option<&str>) {
        let known: Vec<&str> = names.iter().copied().chain(loop_variable).collect();
        let found = match text {
            Text::Expression(source) => expr::references(source, &known),
            Text::Template(source) => expr::template_references(source, &known),
        };
        let Ok(found) = found else {
            self.incomplete = true;
            return;
        };
        for name in found {
            if loop_variable == Some(&name) || name == "request" {
                continue;
            }
            match names.iter().position(|known| *known == name) {
                Some(stage) => {
                    self.stages.insert(stage);
                }
                None => {
                    self.unknown.insert(name);
                }
            }
        }
    }
}

fn draft_mentions(draft: &Draft<'_>, names: &[&str]) -> Mentions {
    let mut mentions = Mentions::default();
    for text in draft.outer_texts() {
        mentions.add(&text, names, None);
    }
    let loop_variable = draft.for_each.as_ref().map(|for_each| for_each.variable);
    for text in draft.inner_texts() {
        mentions.add(&text, names, loop_variable);
    }
    if let Fallback::Stage(name, _) = &draft.on_error
        && let Some(stage) = names.iter().position(|known| known == name)
    {
        mentions.stages.insert(stage);
    }
    mentions
}

fn response_mentions(response: &[&Raw], names: &[&str]) -> Mentions {
    let mut mentions = Mentions::default();
    for raw in response {
        for text in expression_texts(raw) {
            mentions.add(&text, names, None);
        }
    }
    // Without a response there is a fault already; that nobody uses the last stage is not news.
    mentions.incomplete |= response.is_empty();
    mentions
}

/// The expressions in a value.
fn expression_texts(raw: &Raw) -> Vec<Text<'_>> {
    match &raw.value {
        RawValue::Text(text) => vec![Text::Expression(text)],
        RawValue::Array(items) => items.iter().flat_map(expression_texts).collect(),
        RawValue::Table(table) => table.entries.iter().flat_map(|(_, raw)| expression_texts(raw)).collect(),
        _ => Vec::new(),
    }
}

fn report_cycle(drafts: &[Draft<'_>], cycle: &[usize], faults: &mut FaultSink<'_>) {
    let first = &drafts[cycle[0]];
    let span = first.key.span.clone();
    if cycle.len() == 1 {
        let help = "a stage has no value before it has run; use another stage or the request";
        faults.push(span, format!("stage `{}` uses its own value", first.name), help);
        return;
    }
    let along: Vec<String> =
        cycle.iter().chain(&cycle[..1]).map(|&stage| format!("`{}`", drafts[stage].name)).collect();
    let message = format!("the stages use each other in a cycle: {}", along.join(" uses "));
    faults.push(span, message, "take one of these uses out");
}

/// Reports the stages whose value nobody uses. What looks like a misspelt mention counts as a use: it is a fault of
/// its own.
fn report_unused(
    drafts: &[Draft<'_>],
    mentions: &[Mentions],
    response: &Mentions,
    faults: &mut FaultSink<'_>,
) {
    if response.incomplete || mentions.iter().any(|m| m.incomplete) {
        return;
    }
    let names = || drafts.iter().map(|draft| draft.name);
    let mut used: BTreeSet<usize> = response.stages.clone();
    for (stage, m) in mentions.iter().enumerate() {
        used.extend(m.stages.iter().filter(|&&mentioned| mentioned != stage));
    }
    let meant: BTreeSet<&str> = mentions
        .iter()
        .chain([response])
        .flat_map(|m| &m.unknown)
        .take(MAX_ENTRIES)
        .filter_map(|unknown| closest(unknown, names()))
        .collect();
    for (stage, draft) in drafts.iter().enumerate() {
        let uses_itself = mentions[stage].stages.contains(&stage);
        let excused = draft.named == Named::Badly || meant.contains(draft.name) || uses_itself;
        if !used.contains(&stage) && !excused {
            let help = "use it in another stage or in `[response]`, or remove the stage";
            faults.push(
                draft.key.span.clone(),
                format!("nobody uses the value of stage `{}`", draft.name),
                help,
            );
        }
    }
}
