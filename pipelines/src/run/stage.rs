//! How a stage begins: its condition, its elements and its inputs are evaluated; operators are done at once.

use std::sync::Arc;

use millstream_values::{Map, Value};

use super::size;
use crate::expr::{Env, EvalError, loop_items};
use crate::ops::Operator;
use crate::plan::{Input, InputValue, StageInputs, StagePlan, Work};

/// Most elements of one `for_each`.
const MAX_ELEMENTS: usize = 65_536;

/// What a stage comes to when it starts.
pub(super) enum Begun {
    /// It has a value already: skipped, an operator, or no elements.
    Value(Value),
    /// A call with these inputs.
    Call(Value),
    /// A call for each of these elements, in order; never empty.
    CallEach(Arc<[Value]>),
}

/// Evaluates what a stage needs to start.
///
/// # Errors
/// [`EvalError`] when the data does not allow it.
pub(super) fn begin(stage: &StagePlan, env: &Env<'_>) -> Result<Begun, EvalError> {
    if let Some(when) = &stage.when
        && !when.is_true(env)?
    {
        return Ok(Begun::Value(Value::None));
    }
    let Some(for_each) = &stage.for_each else {
        return Ok(match stage.work {
            Work::Call { .. } => Begun::Call(inputs(stage, env)?),
            Work::Operator(operator) => Begun::Value(apply(operator, stage, env)?),
        });
    };
    let elements = loop_items(for_each.eval(env)?)
        .map_err(|error| EvalError { message: format!("`for_each`: {}", error.message), ..error })?;
    if elements.len() > MAX_ELEMENTS {
        return Err(EvalError::too_large(format!(
            "`for_each` over {} elements; at most {MAX_ELEMENTS}",
            elements.len()
        )));
    }
    match stage.work {
        Work::Operator(operator) => {
            let each = elements.iter().map(|element| Env { item: Some(element), ..*env });
            let values = each.map(|env| apply(operator, stage, &env)).collect::<Result<_, _>>()?;
            Ok(Begun::Value(Value::List(values)))
        }
        Work::Call { .. } if elements.is_empty() => Ok(Begun::Value(Value::List(elements))),
        Work::Call { .. } => Ok(Begun::CallEach(elements)),
    }
}

/// A call's inputs as a map.
///
/// # Errors
/// [`EvalError`] when the data does not allow it.
pub(super) fn inputs(stage: &StagePlan, env: &Env<'_>) -> Result<Value, EvalError> {
    let inputs = match &stage.inputs {
        StageInputs::Named(inputs) => inputs,
        StageInputs::Request => return Ok(env.request.clone()),
    };
    let mut map = Map::with_capacity(inputs.len());
    for input in inputs {
        if let Some(value) = evaluate(input, env)? {
            map.insert(Arc::clone(&input.name), value);
        }
    }
    Ok(Value::from(map))
}

fn apply(operator: Operator, stage: &StagePlan, env: &Env<'_>) -> Result<Value, EvalError> {
    let inputs = stage.inputs.named();
    let mut given = Vec::with_capacity(inputs.len());
    for input in inputs {
        match evaluate(input, env)? {
            Some(value) => given.push((Arc::clone(&input.name), value)),
            // A map of its inputs has all of them.
            None if operator == Operator::Merge => given.push((Arc::clone(&input.name), Value::None)),
            None => {}
        }
    }
    operator.apply(&given)
}

/// An input's value; `None` for one that is none and need not be given.
fn evaluate(input: &Input, env: &Env<'_>) -> Result<Option<Value>, EvalError> {
    let value = match &input.value {
        InputValue::Expression(expression) => expression.eval(env),
        InputValue::Template(template) => template.render(env).map(Value::from),
    };
    let value = value
        .and_then(size::check)
        .map_err(|error| EvalError { message: format!("`{}`: {}", input.name, error.message), ..error })?;
    match value {
        Value::None if input.required => Err(EvalError::invalid(format!(
            "`{}` is none: the stage that it comes from was skipped",
            input.name
        ))),
        Value::None => Ok(None),
        value => Ok(Some(value)),
    }
}
