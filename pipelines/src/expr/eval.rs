//! Evaluation of compiled expressions. A missing entry is an error unless `default` or `is defined` asks about it.

use std::fmt::Write as _;
use std::sync::Arc;

use millstream_values::Value;

use super::budget::Budget;
use super::filters::Operands;
use super::node::{BinaryOp, Call, LoopField, Node, Path, Replaces, SliceNode, Step};
use super::{Env, EvalError, Root, arithmetic, filters, slicing};

/// Everything an evaluation reads and uses up.
pub(crate) struct Context<'a> {
    pub(crate) env: Env<'a>,
    /// A template's variables by place; `None` before they are set.
    pub(crate) locals: Vec<Option<Value>>,
    /// A template's loops, outermost first.
    pub(crate) loops: Vec<LoopState>,
    pub(crate) budget: Budget,
}

/// A loop on its way.
pub(crate) struct LoopState {
    pub(crate) items: Arc<[Value]>,
    pub(crate) index: usize,
}

impl<'a> Context<'a> {
    pub(crate) fn new(env: &Env<'a>) -> Self {
        Self { env: *env, locals: Vec::new(), loops: Vec::new(), budget: Budget::default() }
    }
}

/// The value of an expression of a pipeline file.
pub(crate) fn evaluate(node: &Node, env: &Env<'_>) -> Result<Value, EvalError> {
    match node {
        Node::Const(value) => Ok(value.clone()),
        Node::Path(path) if path.steps.is_empty() => root(path, env).cloned().ok_or_else(|| missing(node)),
        _ => value(node, &mut Context::new(env)),
    }
}

/// Whether a value counts as true: not false, none, zero or empty.
pub(crate) fn is_true(value: &Value) -> bool {
    match value {
        Value::None => false,
        Value::Bool(value) => *value,
        Value::Int(value) => *value != 0,
        Value::Float(value) => *value != 0.0,
        Value::Text(text) => !text.is_empty(),
        Value::Bytes(bytes) => !bytes.is_empty(),
        Value::Tensor(tensor) => !tensor.is_empty(),
        Value::List(values) => !values.is_empty(),
        Value::Map(map) => !map.is_empty(),
    }
}

/// The node's value; one that is missing is an error.
pub(crate) fn value(node: &Node, context: &mut Context<'_>) -> Result<Value, EvalError> {
    lookup(node, context)?.ok_or_else(|| missing(node))
}

fn test(call: &Call, context: &mut Context<'_>) -> Result<bool, EvalError> {
    let operands = operands(call, context)?;
    filters::test(&call.name, &operands, &mut context.budget)
}

/// The node's value; `None` when it is an entry that is not there.
pub(crate) fn lookup(node: &Node, context: &mut Context<'_>) -> Result<Option<Value>, EvalError> {
    context.budget.spend(1)?;
    let found = match node {
        Node::Const(value) => value.clone(),
        Node::Path(path) => return path_value(path, context),
        Node::List(nodes) => Value::List(values(nodes, context)?.into()),
        Node::Map(entries) => {
            let map = entries.iter().map(|(name, node)| Ok((Arc::clone(name), value(node, context)?)));
            Value::Map(Arc::new(map.collect::<Result<_, EvalError>>()?))
        }
        Node::Step(of) => {
            let base = value(&of.0, context)?;
            return step(&base, &of.1, context);
        }
        Node::Item(of) => {
            let base = value(&of.0, context)?;
            let key = value(&of.1, context)?;
            return item(&base, &key, &mut context.budget);
        }
        Node::Slice(slice) => slice_value(slice, context)?,
        Node::Not(node) => Value::Bool(!is_true(&value(node, context)?)),
        Node::Negate(node) => arithmetic::negate(&value(node, context)?)?,
        Node::Binary(op, of) => {
            let left = value(&of.0, context)?;
            let right = value(&of.1, context)?;
            arithmetic::binary(*op, &left, &right, &mut context.budget)?
        }
        Node::Compare(first, others) => compare_chain(first, others, context)?,
        Node::And(of) => {
            let left = value(&of.0, context)?;
            if is_true(&left) { value(&of.1, context)? } else { left }
        }
        Node::Or(of) => {
            let left = value(&of.0, context)?;
            if is_true(&left) { left } else { value(&of.1, context)? }
        }
        Node::If(of) => match (is_true(&value(&of.test, context)?), &of.otherwise) {
            (true, _) => value(&of.then, context)?,
            (false, Some(otherwise)) => value(otherwise, context)?,
            (false, None) => Value::None,
        },
        Node::Default(of) => match lookup(&of.value, context)? {
            Some(found) if of.replaces == Replaces::Missing || is_true(&found) => found,
            _ => value(&of.fallback, context)?,
        },
        Node::Defined(node) => Value::Bool(lookup(node, context)?.is_some()),
        Node::Filter(call) => {
            let operands = operands(call, context)?;
            return filters::filter(&call.name, operands, &mut context.budget);
        }
        Node::Test(call) => Value::Bool(test(call, context)?),
        Node::Range(bounds) => range(bounds, context)?,
        Node::Loop(depth, field) => return Ok(loop_field(*depth, *field, context)),
        Node::Cycle(depth, nodes) => {
            let index = context.loops.get(*depth).map_or(0, |of| of.index);
            value(&nodes[index % nodes.len()], context)?
        }
    };
    Ok(Some(found))
}

pub(crate) fn values(nodes: &[Node], context: &mut Context<'_>) -> Result<Vec<Value>, EvalError> {
    nodes.iter().map(|node| value(node, context)).collect()
}

fn operands<'c>(call: &'c Call, context: &mut Context<'_>) -> Result<Operands<'c>, EvalError> {
    let subject = value(&call.args[0], context)?;
    let args = values(&call.args[1..], context)?;
    let kwargs = call.kwargs.iter().map(|(name, node)| Ok((&**name, value(node, context)?)));
    Ok(Operands { subject, args, kwargs: kwargs.collect::<Result<_, EvalError>>()? })
}

fn missing(node: &Node) -> EvalError {
    match node {
        Node::Path(path) => EvalError::invalid(format!("`{}` has no value", path.text)),
        Node::Step(of) => match &of.1 {
            Step::Field(name) => EvalError::invalid(format!("there is no `{name}`")),
            Step::Index(index) => EvalError::invalid(format!("there is no element {index}")),
            Step::Slice(..) => EvalError::invalid("there is nothing to slice"),
        },
        Node::Filter(call) => EvalError::invalid(format!("`{}` finds nothing", call.name)),
        _ => EvalError::invalid("an element that is asked for is not there"),
    }
}

fn root<'v>(path: &Path, env: &Env<'v>) -> Option<&'v Value> {
    match path.root {
        Root::Request => Some(env.request),
        Root::Stage(index) => env.stages.get(index),
        Root::Item => env.item,
        Root::Local(_) => None,
    }
}

/// Walks a path by reference as far as it goes through maps and lists: only what is found is cloned.
fn path_value(path: &Path, context: &mut Context<'_>) -> Result<Option<Value>, EvalError> {
    let start = match path.root {
        Root::Local(index) => context.locals.get(index).and_then(Option::as_ref),
        _ => root(path, &context.env),
    };
    let Some(mut current) = start else { return Ok(None) };
    for (index, of) in path.steps.iter().enumerate() {
        current = match (of, current) {
            (Step::Field(name), Value::Map(map)) => match map.get(&**name) {
                Some(found) => found,
                None if index + 1 == path.steps.len() => return Ok(None),
                None => return Err(no_such(path, index)),
            },
            (Step::Index(at), Value::List(list)) => match slicing::position(*at, list.len()) {
                Some(at) => &list[at],
                None => return Ok(None),
            },
            _ => {
                let current = current.clone();
                return walk(current, path, index, context);
            }
        };
    }
    Ok(Some(current.clone()))
}

/// The rest of a path, from step `index` on, on values that are made on the way.
fn walk(
    start: Value,
    path: &Path,
    index: usize,
    context: &mut Context<'_>,
) -> Result<Option<Value>, EvalError> {
    let mut current = start;
    for (index, of) in path.steps.iter().enumerate().skip(index) {
        match step(&current, of, context)? {
            Some(found) => current = found,
            None if index + 1 == path.steps.len() => return Ok(None),
            None => return Err(no_such(path, index)),
        }
    }
    Ok(Some(current))
}

fn no_such(path: &Path, index: usize) -> EvalError {
    let mut message = format!("`{}` has no value: ", path.text);
    // Writing to a text does not fail.
    let _ = match &path.steps[index] {
        Step::Field(name) => write!(message, "there is no `{name}`"),
        Step::Index(index) => write!(message, "there is no element {index}"),
        Step::Slice(..) => write!(message, "there is nothing to slice"),
    };
    EvalError::invalid(message)
}

fn step(base: &Value, of: &Step, context: &mut Context<'_>) -> Result<Option<Value>, EvalError> {
    match of {
        Step::Field(name) => Ok(base.get(name).cloned()),
        Step::Index(index) => element(base, *index, &mut context.budget),
        Step::Slice(start, stop) => slicing::slice(base, *start, *stop, 1, &mut context.budget).map(Some),
    }
}

fn item(base: &Value, key: &Value, budget: &mut Budget) -> Result<Option<Value>, EvalError> {
    match (base, key) {
        (Value::Map(map), Value::Text(name)) => Ok(map.get(&**name).cloned()),
        (Value::List(_) | Value::Tensor(_) | Value::Text(_), Value::Int(index)) => {
            element(base, *index, budget)
        }
        (Value::None, _) => Ok(None),
        _ => {
            Err(EvalError::invalid(format!("a {} is not indexed by a {}", base.type_name(), key.type_name())))
        }
    }
}

/// The element of a list, the row of a tensor, the character of a text; from the end when `index` is negative.
fn element(base: &Value, index: i64, budget: &mut Budget) -> Result<Option<Value>, EvalError> {
    let found = || match base {
        Value::List(list) => list.get(slicing::position(index, list.len())?).cloned(),
        Value::Tensor(tensor) => slicing::index_tensor(tensor, slicing::position(index, tensor.len()?)?),
        Value::Text(text) => {
            let at = slicing::position(index, text.chars().count())?;
            text.chars().nth(at).map(|c| Value::text(c.to_string()))
        }
        _ => None,
    };
    if matches!(base, Value::Text(_)) {
        budget.look_through(base, 1)?;
    }
    Ok(found())
}

fn slice_value(slice: &SliceNode, context: &mut Context<'_>) -> Result<Value, EvalError> {
    let base = value(&slice.value, context)?;
    let mut bound = |node: &Option<Node>| match node {
        None => Ok(None),
        Some(node) => match value(node, context)? {
            Value::None => Ok(None),
            Value::Int(bound) => Ok(Some(bound)),
            other => Err(EvalError::invalid(format!("a slice is bounded by int, not {}", other.type_name()))),
        },
    };
    let (start, stop, step) = (bound(&slice.start)?, bound(&slice.stop)?, bound(&slice.step)?);
    slicing::slice(&base, start, stop, step.unwrap_or(1), &mut context.budget)
}

fn compare_chain(
    first: &Node,
    others: &[(BinaryOp, Node)],
    context: &mut Context<'_>,
) -> Result<Value, EvalError> {
    let mut left = value(first, context)?;
    for (op, node) in others {
        let right = value(node, context)?;
        if !is_true(&arithmetic::binary(*op, &left, &right, &mut context.budget)?) {
            return Ok(Value::Bool(false));
        }
        left = right;
    }
    Ok(Value::Bool(true))
}

fn range(bounds: &[Node], context: &mut Context<'_>) -> Result<Value, EvalError> {
    let mut numbers = [0, 0, 1];
    for (node, number) in bounds.iter().zip(&mut numbers) {
        *number = match value(node, context)? {
            Value::Int(bound) => bound,
            other => return Err(EvalError::invalid(format!("`range` takes int, not {}", other.type_name()))),
        };
    }
    let [start, stop, step] = if bounds.len() == 1 { [0, numbers[0], 1] } else { numbers };
    if step == 0 {
        return Err(EvalError::invalid("`range` with a step of 0"));
    }
    let span = i128::from(stop) - i128::from(start);
    let step_wide = i128::from(step);
    let len = ((span + step_wide - step_wide.signum()) / step_wide).max(0);
    context.budget.spend(usize::try_from(len).unwrap_or(usize::MAX))?;
    let mut next = start;
    let mut list = Vec::new();
    for _ in 0..len {
        list.push(Value::Int(next));
        next = next.saturating_add(step);
    }
    Ok(Value::List(list.into()))
}

fn loop_field(depth: usize, field: LoopField, context: &Context<'_>) -> Option<Value> {
    let state = context.loops.get(depth)?;
    let (index, len) = (state.index, state.items.len());
    let number = |number: usize| Some(Value::Int(i64::try_from(number).unwrap_or(i64::MAX)));
    match field {
        LoopField::Index => number(index + 1),
        LoopField::Index0 => number(index),
        LoopField::RevIndex => number(len - index),
        LoopField::RevIndex0 => number(len - index - 1),
        LoopField::First => Some(Value::Bool(index == 0)),
        LoopField::Last => Some(Value::Bool(index + 1 == len)),
        LoopField::Length => number(len),
        LoopField::Depth => number(depth + 1),
        LoopField::Depth0 => number(depth),
        LoopField::Previous => index.checked_sub(1).map(|index| state.items[index].clone()),
        LoopField::Next => state.items.get(index + 1).cloned(),
    }
}
