//! The operators of expressions on values: numbers stay exact, lists are joined without copying their elements.

use std::cmp::Ordering;

use millstream_values::Value;

use super::EvalError;
use super::budget::Budget;
use super::node::BinaryOp;
use super::text;

/// `left op right`.
pub(crate) fn binary(
    op: BinaryOp,
    left: &Value,
    right: &Value,
    budget: &mut Budget,
) -> Result<Value, EvalError> {
    match op {
        BinaryOp::Add => add(left, right, budget),
        BinaryOp::Multiply => multiply(left, right, budget),
        BinaryOp::Subtract
        | BinaryOp::Divide
        | BinaryOp::FloorDivide
        | BinaryOp::Remainder
        | BinaryOp::Power => numeric(op, left, right),
        BinaryOp::Concat => {
            let mut out = String::new();
            text::write(left, &mut out, budget)?;
            text::write(right, &mut out, budget)?;
            Ok(Value::from(out))
        }
        BinaryOp::Equal | BinaryOp::NotEqual => {
            budget.compare(left, right)?;
            Ok(Value::Bool(equal(left, right) == (op == BinaryOp::Equal)))
        }
        BinaryOp::Less | BinaryOp::LessOrEqual | BinaryOp::Greater | BinaryOp::GreaterOrEqual => {
            budget.compare(left, right)?;
            let order = order(op, left, right)?;
            Ok(Value::Bool(order.is_some_and(|order| match op {
                BinaryOp::Less => order.is_lt(),
                BinaryOp::LessOrEqual => order.is_le(),
                BinaryOp::Greater => order.is_gt(),
                _ => order.is_ge(),
            })))
        }
        BinaryOp::In => contains(right, left, budget).map(Value::Bool),
        BinaryOp::NotIn => contains(right, left, budget).map(|found| Value::Bool(!found)),
    }
}

pub(crate) fn negate(value: &Value) -> Result<Value, EvalError> {
    match value {
        Value::Int(number) => number.checked_neg().map(Value::Int).ok_or_else(overflow),
        Value::Float(number) => Ok(Value::Float(-number)),
        other => Err(EvalError::invalid(format!("a {} has no negative", other.type_name()))),
    }
}

fn overflow() -> EvalError {
    EvalError::invalid("a whole number does not fit 64 bits")
}

fn unsupported(op: BinaryOp, left: &Value, right: &Value) -> EvalError {
    EvalError::invalid(format!("`{}` between {} and {}", op.as_str(), left.type_name(), right.type_name()))
}

fn add(left: &Value, right: &Value, budget: &mut Budget) -> Result<Value, EvalError> {
    match (left, right) {
        (Value::Text(a), Value::Text(b)) => {
            budget.spend_bytes(a.len() + b.len())?;
            Ok(Value::from([&**a, &**b].concat()))
        }
        (Value::List(a), Value::List(b)) => {
            budget.spend(a.len() + b.len())?;
            Ok(Value::List(a.iter().chain(b.iter()).cloned().collect()))
        }
        _ => numeric(BinaryOp::Add, left, right),
    }
}

fn multiply(left: &Value, right: &Value, budget: &mut Budget) -> Result<Value, EvalError> {
    let (repeated, times) = match (left, right) {
        (Value::Text(_) | Value::List(_), Value::Int(times)) => (left, *times),
        (Value::Int(times), Value::Text(_) | Value::List(_)) => (right, *times),
        _ => return numeric(BinaryOp::Multiply, left, right),
    };
    let times = usize::try_from(times.max(0)).unwrap_or(usize::MAX);
    match repeated {
        Value::Text(text) => {
            budget.spend_bytes(text.len().saturating_mul(times))?;
            Ok(Value::from(text.repeat(if text.is_empty() { 0 } else { times })))
        }
        Value::List(list) => {
            budget.spend(list.len().saturating_mul(times))?;
            let times = if list.is_empty() { 0 } else { times };
            Ok(Value::list((0..times).flat_map(|_| list.iter().cloned())))
        }
        _ => Err(unsupported(BinaryOp::Multiply, left, right)),
    }
}

fn numeric(op: BinaryOp, left: &Value, right: &Value) -> Result<Value, EvalError> {
    if let (Value::Int(a), Value::Int(b)) = (left, right) {
        return integer(op, *a, *b);
    }
    match (left.as_f64(), right.as_f64()) {
        (Some(a), Some(b)) => float(op, a, b).map(Value::Float),
        _ => Err(unsupported(op, left, right)),
    }
}

fn integer(op: BinaryOp, a: i64, b: i64) -> Result<Value, EvalError> {
    let exact = match op {
        BinaryOp::Add => a.checked_add(b),
        BinaryOp::Subtract => a.checked_sub(b),
        BinaryOp::Multiply => a.checked_mul(b),
        BinaryOp::FloorDivide | BinaryOp::Remainder if b == 0 => return Err(division_by_zero()),
        BinaryOp::FloorDivide => a
            .checked_div(b)
            .map(|quotient| if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient }),
        BinaryOp::Remainder => {
            let rest = a.wrapping_rem(b);
            Some(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
        }
        BinaryOp::Power if b >= 0 => {
            u32::try_from(b).ok().and_then(|b| a.checked_pow(b)).or_else(|| trivial_power(a, b))
        }
        _ => {
            return float(
                op,
                Value::Int(a).as_f64().unwrap_or_default(),
                Value::Int(b).as_f64().unwrap_or_default(),
            )
            .map(Value::Float);
        }
    };
    exact.map(Value::Int).ok_or_else(overflow)
}

/// Powers of 0, 1 and -1, which fit whatever the exponent.
fn trivial_power(a: i64, b: i64) -> Option<i64> {
    match a {
        0 | 1 => Some(a),
        -1 => Some(if b % 2 == 0 { 1 } else { -1 }),
        _ => None,
    }
}

fn float(op: BinaryOp, a: f64, b: f64) -> Result<f64, EvalError> {
    Ok(match op {
        BinaryOp::Add => a + b,
        BinaryOp::Subtract => a - b,
        BinaryOp::Multiply => a * b,
        BinaryOp::Divide | BinaryOp::FloorDivide | BinaryOp::Remainder if b == 0.0 => {
            return Err(division_by_zero());
        }
        BinaryOp::Divide => a / b,
        BinaryOp::FloorDivide => (a / b).floor(),
        BinaryOp::Remainder => a - b * (a / b).floor(),
        BinaryOp::Power if a == 0.0 && b < 0.0 => return Err(division_by_zero()),
        _ => a.powf(b),
    })
}

fn division_by_zero() -> EvalError {
    EvalError::invalid("a division by 0")
}

/// Whether two values are the same; numbers by what they are worth, where `true` is 1.
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Bool(flag), Value::Int(_) | Value::Float(_)) => equal(&Value::Int(i64::from(*flag)), right),
        (Value::Int(_) | Value::Float(_), Value::Bool(_)) => equal(right, left),
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
            compare_numbers(left, right) == Some(Ordering::Equal)
        }
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| equal(a, b))
        }
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        _ => left == right,
    }
}

fn order(op: BinaryOp, left: &Value, right: &Value) -> Result<Option<Ordering>, EvalError> {
    match (left, right) {
        (Value::Text(a), Value::Text(b)) => Ok(Some(a.cmp(b))),
        (Value::Bool(a), Value::Bool(b)) => Ok(Some(a.cmp(b))),
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
            Ok(compare_numbers(left, right))
        }
        _ => Err(unsupported(op, left, right)),
    }
}

/// The order of two numbers; `None` with NaN. Whole numbers compare exactly, others as `f64`.
fn compare_numbers(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}

fn contains(container: &Value, value: &Value, budget: &mut Budget) -> Result<bool, EvalError> {
    match (container, value) {
        (Value::Text(text), Value::Text(part)) => {
            budget.look_through(container, 1)?;
            Ok(text.contains(&**part))
        }
        (Value::List(list), _) => {
            budget.spend(list.len())?;
            for item in list.iter() {
                budget.compare(item, value)?;
                if equal(item, value) {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        (Value::Map(map), Value::Text(name)) => Ok(map.contains_key(&**name)),
        _ => Err(unsupported(BinaryOp::In, value, container)),
    }
}
