//! A stage's table, read key by key; names and types of values are not looked at yet.

use super::target::Target;
use super::{Deployments, cache, expression_texts};
use crate::check::MAX_ENTRIES;
use crate::check::limits::{MAX_TIMEOUT, MIN_TIMEOUT, NAME_HELP};
use crate::fault::FaultSink;
use crate::ops::Operator;
use crate::plan::CallRules;
use crate::raw::{Key, Raw, Reader, Span, closest, did_you_mean, parse_duration};
use crate::{FullName, Hedge, Name};

/// Names that mean something else in expressions, or in a body.
const RESERVED: [&str; 14] = [
    "request", "stream", "loop", "self", "true", "false", "none", "not", "and", "or", "in", "is", "if",
    "else",
];

/// Percentiles of recent calls that a hedge may wait for.
const HEDGE_PERCENTILES: std::ops::RangeInclusive<u8> = 50..=99;
/// Most tries after the first.
const MAX_RETRIES: u32 = 5;
/// Most calls of one `for_each` at a time.
const MAX_PARALLEL: u32 = 1024;

/// A stage as it is written.
pub(super) struct Draft<'a> {
    pub(super) name: &'a str,
    pub(super) named: Named,
    pub(super) key: &'a Key,
    pub(super) target: Target,
    pub(super) inputs: Vec<DraftInput<'a>>,
    pub(super) when: Option<&'a Raw>,
    pub(super) for_each: Option<ForEach<'a>>,
    pub(super) rules: CallRules,
    pub(super) on_error: Fallback<'a>,
}

/// Whether others can mention a stage by its name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Well,
    /// They cannot; a fault was recorded.
    Badly,
}

/// One input.
pub(super) struct DraftInput<'a> {
    pub(super) name: &'a str,
    pub(super) key_span: Span,
    pub(super) raw: &'a Raw,
    /// How messages name it: `inputs.query`, `prompt`.
    pub(super) label: String,
    pub(super) form: Form,
}

/// How the text of an input is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Expression,
    Template,
}

/// `for_each = "VARIABLE in LIST"`.
pub(super) struct ForEach<'a> {
    pub(super) variable: &'a str,
    /// The list's expression.
    pub(super) list: &'a str,
    /// Where it begins in the string.
    pub(super) list_at: usize,
    pub(super) raw: &'a Raw,
}

/// `on_error`.
pub(super) enum Fallback<'a> {
    Fail,
    Skip,
    /// The stage of that name; the place of the name.
    Stage(&'a str, &'a Raw),
}

/// A text that mentions names.
pub(super) enum Text<'a> {
    Expression(&'a str),
    Template(&'a str),
}

impl<'a> Draft<'a> {
    /// Texts that do not see the loop variable.
    pub(super) fn outer_texts(&self) -> Vec<Text<'a>> {
        let when = self.when.and_then(Raw::as_text).map(Text::Expression);
        let list = self.for_each.as_ref().map(|for_each| Text::Expression(for_each.list));
        when.into_iter().chain(list).collect()
    }

    /// Texts that do.
    pub(super) fn inner_texts(&self) -> Vec<Text<'a>> {
        self.inputs
            .iter()
            .flat_map(|input| match input.form {
                Form::Expression => expression_texts(input.raw),
                Form::Template => input.raw.as_text().map(Text::Template).into_iter().collect(),
            })
            .collect()
    }
}

/// Reads a stage.
pub(super) fn draft<'a>(
    key: &'a Key,
    raw: &'a Raw,
    deployments: &Deployments,
    faults: &mut FaultSink<'_>,
) -> Draft<'a> {
    let named = if RESERVED.contains(&key.text.as_str()) {
        let help = "name the stage otherwise: the word has a meaning of its own";
        faults.push(key.span.clone(), format!("the stage name `{}` is reserved", key.text), help);
        Named::Badly
    } else if key.text.parse::<Name>().is_err() {
        faults.push(key.span.clone(), format!("`{}` is not a name for a stage", key.text), NAME_HELP);
        Named::Badly
    } else {
        Named::Well
    };
    let mut draft = Draft {
        name: &key.text,
        named,
        key,
        target: Target::Unknown,
        inputs: Vec::new(),
        when: None,
        for_each: None,
        rules: CallRules::default(),
        on_error: Fallback::Fail,
    };
    let Some(mut table) = Reader::entry("stage", key, raw, faults) else { return draft };
    draft.target = target(&mut table, deployments, faults);
    inputs(&mut table, &mut draft, faults);
    draft.when = table.text("when", faults).map(|(_, raw)| raw);
    draft.for_each = for_each(&mut table, faults);
    draft.rules = CallRules {
        timeout: table.duration("timeout", MIN_TIMEOUT..=MAX_TIMEOUT, faults),
        max_parallel: max_parallel(&mut table, draft.for_each.is_some(), faults),
        retries: retries(&mut table, &draft.target, deployments, faults),
        hedge: hedge(&mut table, faults),
        cache: cache::cache(&mut table, &draft.target, deployments, faults),
    };
    draft.on_error = on_error(&mut table, faults);
    if matches!(draft.target, Target::Operator(_)) {
        for key in ["timeout", "max_parallel", "retries", "hedge", "cache"] {
            if let Some((name, _)) = table.raw(key) {
                let message =
                    format!("{} is given, but an operator runs at once and in place", table.label(key));
                faults.push(name.span.clone(), message, "remove the key");
            }
        }
    }
    table.finish(faults);
    draft
}

/// `max_parallel`, which only `for_each` has a use for.
fn max_parallel(table: &mut Reader<'_>, has_for_each: bool, faults: &mut FaultSink<'_>) -> Option<u32> {
    let max_parallel = table.int("max_parallel", 1..=MAX_PARALLEL, faults)?;
    if !has_for_each && let Some((name, _)) = table.raw("max_parallel") {
        let message = format!("{} is given, but the stage makes one call", table.label("max_parallel"));
        faults.push(name.span.clone(), message, "remove the key; it goes with `for_each`");
    }
    Some(max_parallel)
}

/// `retries`, for deployments that may run a call twice.
fn retries(
    table: &mut Reader<'_>,
    target: &Target,
    deployments: &Deployments,
    faults: &mut FaultSink<'_>,
) -> Option<u32> {
    let retries = table.int("retries", 0..=MAX_RETRIES, faults)?;
    let spec = match target {
        Target::Own(full) => deployments.specs.get(&full.deployment),
        _ => None,
    };
    if retries > 0
        && spec.is_some_and(|spec| !spec.limits.idempotent)
        && let Some((name, _)) = table.raw("retries")
    {
        let label = table.label("retries");
        let message = format!(
            "{label} is given, but the deployment has `idempotent = false`: no call of it may run twice"
        );
        faults.push(name.span.clone(), message, "remove one of the two");
    }
    Some(retries)
}

/// `hedge = "p95"`, or a time.
fn hedge(table: &mut Reader<'_>, faults: &mut FaultSink<'_>) -> Option<Hedge> {
    let (text, raw) = table.text("hedge", faults)?;
    let percentile = text.strip_prefix('p').and_then(|number| number.parse().ok());
    let after = || parse_duration(text).ok().filter(|after| (MIN_TIMEOUT..=MAX_TIMEOUT).contains(after));
    let found = match percentile {
        Some(percent) => HEDGE_PERCENTILES.contains(&percent).then_some(Hedge::Percentile(percent)),
        None => after().map(Hedge::After),
    };
    if found.is_none() {
        let help = "write the percentile of recent calls after which a second one is sent, `\"p50\"` to `\"p99\"`, or a \
                    time such as `\"40ms\"`";
        faults.push(raw.span.clone(), format!("{} is `{text}`", table.label("hedge")), help);
    }
    found
}

fn target(table: &mut Reader<'_>, deployments: &Deployments, faults: &mut FaultSink<'_>) -> Target {
    if table.raw("use").is_none() {
        let help = "add `use = \"DEPLOYMENT\"`, `use = \"PIPELINE/DEPLOYMENT\"` or `use = \"op:OPERATOR\"`";
        faults.push(table.span(), format!("{} is missing", table.label("use")), help);
        return Target::Unknown;
    }
    let Some((text, raw)) = table.text("use", faults) else { return Target::Unknown };
    if let Some(operator) = text.strip_prefix("op:") {
        return Operator::parse(operator).map(Target::Operator).unwrap_or_else(|| {
            let help = did_you_mean(operator, Operator::ALL.iter().map(|operator| operator.as_str()));
            faults.push(raw.span.clone(), format!("there is no operator `{operator}`"), help);
            Target::Unknown
        });
    }
    let full: Option<FullName> = match text.split_once('/') {
        Some(_) => text.parse().ok(),
        None => text
            .parse()
            .ok()
            .map(|deployment| FullName { pipeline: deployments.pipeline.clone(), deployment }),
    };
    let Some(full) = full else {
        let help = "write a deployment of this file, `PIPELINE/DEPLOYMENT`, or `op:OPERATOR`";
        faults.push(raw.span.clone(), format!("`{text}` names nothing that a stage can use"), help);
        return Target::Unknown;
    };
    if full.pipeline != deployments.pipeline {
        return Target::Foreign(full);
    }
    if deployments.names.iter().any(|name| *name == full.deployment.as_str()) {
        return Target::Own(full);
    }
    let names = deployments.names.iter().map(String::as_str);
    let help = match Operator::parse(text) {
        Some(_) => format!("did you mean the operator `op:{text}`?"),
        None if deployments.names.is_empty() => "declare it as `[deployments.NAME]`".to_owned(),
        None => did_you_mean(full.deployment.as_str(), names),
    };
    faults.push(raw.span.clone(), format!("there is no deployment `{}`", full.deployment), help);
    Target::Unknown
}

fn inputs<'a>(table: &mut Reader<'a>, draft: &mut Draft<'a>, faults: &mut FaultSink<'_>) {
    if let Some((_, raw)) = table.raw("inputs") {
        match raw.as_table() {
            None => {
                table.wrong_kind("inputs", raw, "a table such as `{ texts = \"request.texts\" }`", faults)
            }
            Some(inputs) if inputs.entries.len() > MAX_ENTRIES => {
                let message = format!("{} has more than {MAX_ENTRIES} entries", table.label("inputs"));
                faults.push(raw.span.clone(), message, "give several values as one list or map");
            }
            Some(inputs) => draft.inputs.extend(inputs.entries.iter().map(|(key, raw)| DraftInput {
                name: &key.text,
                key_span: key.span.clone(),
                raw,
                label: table.label(&format!("inputs.{}", key.text)),
                form: Form::Expression,
            })),
        }
    }
    for (key, form) in
        [("prompt", Form::Template), ("template", Form::Template), ("messages", Form::Expression)]
    {
        if table.text(key, faults).is_none() {
            continue;
        }
        let Some((name, raw)) = table.raw(key) else { continue };
        if draft.inputs.iter().any(|input| input.name == key) {
            let message = format!("{} is given, and `inputs.{key}` too", table.label(key));
            faults.push(name.span.clone(), message, "remove one of the two");
            continue;
        }
        draft.inputs.push(DraftInput {
            name: key,
            key_span: name.span.clone(),
            raw,
            label: table.label(key),
            form,
        });
    }
}

fn for_each<'a>(table: &mut Reader<'a>, faults: &mut FaultSink<'_>) -> Option<ForEach<'a>> {
    let (text, raw) = table.text("for_each", faults)?;
    let found = text.trim_start().split_once(char::is_whitespace).and_then(|(variable, rest)| {
        let list =
            rest.trim_start().strip_prefix("in").filter(|list| list.starts_with(char::is_whitespace))?;
        let list = list.trim();
        let list_at = list.as_ptr() as usize - text.as_ptr() as usize;
        (!list.is_empty()).then_some(ForEach { variable, list, list_at, raw })
    });
    let Some(found) = found else {
        let message = format!("{} is `{text}`", table.label("for_each"));
        faults.push(raw.span.clone(), message, "write `for_each = \"item in request.items\"`");
        return None;
    };
    let fault = if found.variable.parse::<Name>().is_err() || found.variable.contains('-') {
        Some(("is not a name for a variable", "use lower-case letters, digits and `_`, a letter first"))
    } else if RESERVED.contains(&found.variable) {
        Some(("is a reserved name", "name the variable otherwise"))
    } else {
        None
    };
    if let Some((what, help)) = fault {
        let at = text.len() - text.trim_start().len();
        let span = raw.span_within(faults.text(), at..at + found.variable.len());
        faults.push(span, format!("{}: `{}` {what}", table.label("for_each"), found.variable), help);
    }
    Some(found)
}

fn on_error<'a>(table: &mut Reader<'a>, faults: &mut FaultSink<'_>) -> Fallback<'a> {
    let Some((text, raw)) = table.text("on_error", faults) else { return Fallback::Fail };
    match text {
        "fail" => Fallback::Fail,
        "skip" => Fallback::Skip,
        _ => match text.strip_prefix("use:") {
            Some(stage) => Fallback::Stage(stage.trim(), raw),
            None => {
                let help = match closest(text, ["fail", "skip"]) {
                    Some(word) => format!("did you mean `{word}`?"),
                    None => "use `fail`, `skip` or `use:STAGE`".to_owned(),
                };
                faults.push(raw.span.clone(), format!("{} is `{text}`", table.label("on_error")), help);
                Fallback::Fail
            }
        },
    }
}
