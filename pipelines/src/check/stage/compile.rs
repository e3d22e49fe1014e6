//! Drafts to plans, one stage at a time, each after those that it uses, so that every name has a type.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::draft::{Draft, DraftInput, Fallback, ForEach, Form};
use super::target::Target;
use super::{Deployments, Stages};
use crate::check::value;
use crate::expr::{self, Expression, Scope};
use crate::fault::FaultSink;
use crate::plan::{Input, InputValue, OnError, StageInputs, StagePlan, TextAnswer, Work};
use crate::raw::did_you_mean;
use crate::types::{Inputs, ModelSignature, Type, assignable, fits_model, task_inputs, task_output};
use crate::{DeploymentSpec, FullName};

/// Largest type of a stage's value; of a larger one nothing is known. Maps of maps can double their type with each
/// stage, and no file may take all memory.
const MAX_TYPE_PARTS: usize = 512;

/// What has been compiled so far.
pub(super) struct Compiler<'a> {
    deployments: &'a Deployments,
    drafts: &'a [Draft<'a>],
    scope: Scope,
    types: Vec<Type>,
    plans: Vec<Option<StagePlan>>,
    targets: Vec<FullName>,
}

/// What a stage calls, and what that takes.
struct Callee<'a> {
    work: Option<Work>,
    inputs: Inputs,
    spec: Option<&'a DeploymentSpec>,
    /// What its model says, where that is known.
    model: Option<&'a ModelSignature>,
    /// For messages, such as ``task `embed` ``.
    what: String,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(request: Type, deployments: &'a Deployments, drafts: &'a [Draft<'a>]) -> Self {
        Self {
            deployments,
            drafts,
            scope: Scope::new(request),
            types: vec![Type::Any; drafts.len()],
            plans: drafts.iter().map(|_| None).collect(),
            targets: Vec::new(),
        }
    }

    /// Gives a stage's value a type before it is compiled.
    pub(super) fn assume(&mut self, stage: usize, ty: Type) {
        self.scope.add_stage(self.drafts[stage].name, stage, ty.clone());
        self.types[stage] = ty;
    }

    /// Compiles a stage; those that it uses are compiled or assumed.
    pub(super) fn compile(&mut self, stage: usize, faults: &mut FaultSink<'_>) {
        let draft = &self.drafts[stage];
        let before = faults.len();
        let label = format!("stage `{}`", draft.name);
        let when = draft
            .when
            .and_then(|raw| value::expression(raw, &format!("{label}: `when`"), &self.scope, faults));
        let (for_each, item) = match &draft.for_each {
            Some(for_each) => self.for_each(for_each, &label, faults),
            None => (None, None),
        };
        let callee = self.callee(draft);
        let with_item = draft.for_each.as_ref().zip(item);
        let with_item = with_item.map(|(for_each, item)| self.scope.with_item(for_each.variable, item));
        let (inputs, types) = self.inputs(draft, &callee, with_item.as_ref().unwrap_or(&self.scope), faults);
        let mut ty = match (callee.work, callee.spec) {
            (Some(Work::Operator(operator)), _) => operator.output(&types),
            (Some(Work::Call { .. }), Some(spec)) => {
                callee.model.map_or_else(|| task_output(spec, &types), ModelSignature::output)
            }
            _ => Type::Any,
        };
        if draft.for_each.is_some() {
            ty = Type::list(ty);
        }
        let on_error = self.on_error(draft, &mut ty, &label, faults);
        if draft.when.is_some() || on_error == OnError::Skip {
            ty = ty.optional();
        }
        self.assume(stage, if num_parts(&ty) > MAX_TYPE_PARTS { Type::Any } else { ty });
        let Some(work) = callee.work.filter(|_| faults.len() == before) else { return };
        self.plans[stage] = Some(StagePlan {
            name: draft.name.into(),
            work,
            inputs: StageInputs::Named(inputs),
            when,
            for_each,
            rules: draft.rules.clone(),
            on_error,
        });
    }

    /// All stages. An index of one is its place in the file only while none has faults; then the plan is not used.
    pub(super) fn finish(self) -> Stages {
        Stages { plans: self.plans.into_iter().flatten().collect(), targets: self.targets, scope: self.scope }
    }

    fn callee(&mut self, draft: &Draft<'a>) -> Callee<'a> {
        match &draft.target {
            Target::Operator(operator) => Callee {
                work: Some(Work::Operator(*operator)),
                inputs: operator.inputs(),
                spec: None,
                model: None,
                what: format!("operator `{}`", operator.as_str()),
            },
            Target::Own(full) => {
                let spec = self.deployments.specs.get(&full.deployment);
                let text = spec.map_or(TextAnswer::Whole, TextAnswer::of);
                let model = self.deployments.signatures.get(&full.deployment).map(|model| &**model);
                let known = spec.zip(model).filter(|(spec, _)| ModelSignature::applies_to(spec));
                Callee {
                    work: Some(Work::Call { target: self.target(full), text }),
                    inputs: match known {
                        Some((spec, model)) => model.inputs(spec),
                        None => spec.map_or_else(Inputs::any, task_inputs),
                    },
                    spec,
                    model: known.map(|(_, model)| model),
                    what: match (known, spec) {
                        (Some(_), _) => "the model".to_owned(),
                        (None, Some(spec)) => format!("task `{}`", spec.task.as_str()),
                        (None, None) => String::new(),
                    },
                }
            }
            Target::Foreign(full) => Callee {
                work: Some(Work::Call { target: self.target(full), text: TextAnswer::Streams }),
                inputs: Inputs::any(),
                spec: None,
                model: None,
                what: format!("deployment `{full}`"),
            },
            Target::Unknown => {
                Callee { work: None, inputs: Inputs::any(), spec: None, model: None, what: String::new() }
            }
        }
    }

    /// The index of a deployment among those that are called.
    fn target(&mut self, full: &FullName) -> usize {
        self.targets.iter().position(|known| known == full).unwrap_or_else(|| {
            self.targets.push(full.clone());
            self.targets.len() - 1
        })
    }

    /// The list, and the type of its items.
    fn for_each(
        &self,
        for_each: &ForEach<'_>,
        label: &str,
        faults: &mut FaultSink<'_>,
    ) -> (Option<Expression>, Option<Type>) {
        let label = format!("{label}: `for_each`");
        let name = for_each.variable;
        if self.drafts.iter().any(|draft| draft.name == name) {
            let message = format!("{label}: the variable `{name}` has the name of a stage");
            faults.push(for_each.raw.span.clone(), message, "name the variable otherwise");
        }
        let span = |range: std::ops::Range<usize>, faults: &FaultSink<'_>| {
            let at = for_each.list_at;
            for_each.raw.span_within(faults.text(), at + range.start..at + range.end)
        };
        let list = match Expression::compile(for_each.list, &self.scope) {
            Ok(list) => list,
            Err(fault) => {
                faults.push(span(fault.range, faults), format!("{label}: {}", fault.message), fault.help);
                return (None, Some(Type::Any));
            }
        };
        let item = expr::item_type(list.ty()).unwrap_or_else(|(message, help)| {
            faults.push(span(0..for_each.list.len(), faults), format!("{label}: {message}"), help);
            Type::Any
        });
        (Some(list), Some(item))
    }

    /// Compiles what is given and compares it with what is asked for.
    fn inputs(
        &self,
        draft: &Draft<'_>,
        callee: &Callee<'_>,
        scope: &Scope,
        faults: &mut FaultSink<'_>,
    ) -> (Vec<Input>, BTreeMap<Arc<str>, Type>) {
        let mut inputs = Vec::with_capacity(draft.inputs.len());
        let mut types = BTreeMap::new();
        for given in &draft.inputs {
            let field = callee.inputs.get(given.name);
            if field.is_none() && !callee.inputs.open {
                let names = callee.inputs.fields.iter().map(|field| &*field.name);
                let message = format!("{} is unknown: {} has no such input", given.label, callee.what);
                faults.push(given.key_span.clone(), message, did_you_mean(given.name, names));
            }
            let name: Arc<str> = given.name.into();
            let Some((value, ty)) = compile_input(given, scope, faults) else {
                types.insert(name, field.map_or(Type::Any, |field| field.ty.clone()));
                continue;
            };
            let fits = if callee.model.is_some() { fits_model } else { assignable };
            if let Some(Err(reason)) = field.map(|field| fits(&ty, &field.ty)) {
                let wanted = field.map_or(&Type::Any, |field| &field.ty);
                let message = format!("{}: {reason}", given.label);
                faults.push(given.raw.span.clone(), message, conversion_help(&ty, wanted));
            }
            let required =
                field.is_some_and(|field| field.required) || callee.inputs.exactly_one_of.contains(&name);
            inputs.push(Input { name: Arc::clone(&name), value, required });
            types.insert(name, ty);
        }
        report_missing(draft, callee, faults);
        (inputs, types)
    }

    /// What happens on failure; with a fallback, `ty` becomes what both can give.
    fn on_error(&self, draft: &Draft<'_>, ty: &mut Type, label: &str, faults: &mut FaultSink<'_>) -> OnError {
        let (name, raw) = match draft.on_error {
            Fallback::Fail => return OnError::Fail,
            Fallback::Skip => return OnError::Skip,
            Fallback::Stage(name, raw) => (name, raw),
        };
        let Some(index) = self.drafts.iter().position(|draft| draft.name == name) else {
            let names = self.drafts.iter().map(|draft| draft.name).filter(|other| *other != draft.name);
            let message = format!("{label}: `on_error`: there is no stage `{name}`");
            faults.push(raw.span.clone(), message, did_you_mean(name, names.collect::<Vec<_>>()));
            return OnError::Fail;
        };
        let fallback = &self.types[index];
        if let Err(reason) = assignable(fallback, ty) {
            let message = format!("{label}: `on_error`: stage `{name}` cannot stand in: {reason}");
            faults.push(raw.span.clone(), message, "name a stage whose value has the same type");
        } else if matches!(fallback, Type::Optional(_) | Type::None) {
            *ty = std::mem::take(ty).optional();
        }
        OnError::Use(index)
    }
}

/// How many types a type is made of, itself included.
fn num_parts(ty: &Type) -> usize {
    1 + match ty {
        Type::List(inner) | Type::Optional(inner) => num_parts(inner),
        Type::Map(map) => map.fields.values().chain(map.rest.as_deref()).map(num_parts).sum(),
        Type::OneOf(all) => all.iter().map(num_parts).sum(),
        _ => 0,
    }
}

fn compile_input(
    given: &DraftInput<'_>,
    scope: &Scope,
    faults: &mut FaultSink<'_>,
) -> Option<(InputValue, Type)> {
    match given.form {
        Form::Expression => {
            let expression = value::expression(given.raw, &given.label, scope, faults)?;
            let ty = expression.ty().clone();
            Some((InputValue::Expression(expression), ty))
        }
        Form::Template => {
            let template = value::template(given.raw, &given.label, scope, faults)?;
            Some((InputValue::Template(template), Type::Text))
        }
    }
}

fn report_missing(draft: &Draft<'_>, callee: &Callee<'_>, faults: &mut FaultSink<'_>) {
    let is_given = |name: &str| draft.inputs.iter().any(|given| given.name == name);
    for field in callee.inputs.fields.iter().filter(|field| field.required && !is_given(&field.name)) {
        let name = &field.name;
        let message = format!("stage `{}`: the input `{name}` is missing", draft.name);
        let how = if &**name == "template" {
            "template = \"…\"".to_owned()
        } else {
            format!("inputs.{name} = \"…\"")
        };
        let help = format!("add `{how}`, of type `{}`: {} needs it", field.ty, callee.what);
        faults.push(draft.key.span.clone(), message, help);
    }
    let choice = &callee.inputs.exactly_one_of;
    let given = choice.iter().filter(|name| is_given(name)).count();
    if !choice.is_empty() && given != 1 {
        let names: Vec<String> = choice.iter().map(|name| format!("`{name}`")).collect();
        let what = if given == 0 { "none" } else { "more than one" };
        let message = format!("stage `{}` has {what} of {}", draft.name, names.join(" and "));
        faults.push(draft.key.span.clone(), message, format!("{} takes exactly one of them", callee.what));
    }
}

/// What to do about a value of the wrong type.
fn conversion_help(given: &Type, wanted: &Type) -> String {
    match (given, wanted) {
        (Type::Map(map), wanted) if map.fields.values().any(|ty| assignable(ty, wanted).is_ok()) => {
            let fit = map.fields.iter().filter(|(_, ty)| assignable(ty, wanted).is_ok());
            let names: Vec<String> = fit.map(|(name, _)| format!("`….{name}`")).collect();
            format!("take a field of it: {}", names.join(" or "))
        }
        (given, Type::List(item)) if assignable(given, item).is_ok() => {
            "a list is wanted: put the value in brackets, `[…]`".to_owned()
        }
        (Type::List(item), wanted) if assignable(item, wanted).is_ok() => {
            "a single value is wanted: take one of the list, `…[0]`".to_owned()
        }
        _ => format!("give a value of type `{wanted}`"),
    }
}
