//! Types of steps, operators and filters. What is certain to fail at run time is a fault at deploy time; what may
//! work is let through with the type it would have.

use millstream_values::DType;

use super::node::BinaryOp;
use crate::types::{TensorShape, Type};

/// Why an operation cannot work: message and help.
pub(crate) type Refusal = (String, String);

fn refuse(message: impl Into<String>, help: impl Into<String>) -> Refusal {
    (message.into(), help.into())
}

/// The type of `base.name`.
pub(crate) fn field(base: &Type, name: &str) -> Result<Type, Refusal> {
    match base {
        Type::Any => Ok(Type::Any),
        Type::Optional(inner) => field(inner, name),
        Type::OneOf(all) => any_of(all, |ty| field(ty, name)),
        Type::Map(map) => map.get(name).cloned().ok_or_else(|| {
            let dashed = map
                .fields
                .keys()
                .find(|field| field.starts_with(name) && field[name.len()..].starts_with('-'));
            match dashed {
                Some(field) => refuse(
                    format!("`{name}` is not the whole name"),
                    format!("a name with a dash is written `[\"{field}\"]`"),
                ),
                None => refuse(
                    format!("there is no `{name}` in `{base}`"),
                    list_fields(map.fields.keys().map(|k| &**k), name),
                ),
            }
        }),
        Type::List(item) => Err(refuse(
            format!("a list has no `{name}`"),
            format!(
                "take an element of the `{base}` first (`[0]` gives `{item}`), or `|map(attribute=\"{name}\")` of all"
            ),
        )),
        other => Err(refuse(format!("`{other}` has no `{name}`"), "use the value itself")),
    }
}

fn list_fields<'a>(fields: impl Iterator<Item = &'a str>, name: &str) -> String {
    let fields: Vec<&str> = fields.collect();
    match nearest(name, fields.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if fields.is_empty() => "it has no fields".to_owned(),
        None => format!("it has {}", quoted(&fields)),
    }
}

/// Names as messages list them.
pub(crate) fn quoted(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// The known name nearest to a misspelt one, if one is near.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(name.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance in bytes, of texts short enough for it.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// The joined type of those alternatives that work; the first refusal when none does.
fn any_of(all: &[Type], of: impl Fn(&Type) -> Result<Type, Refusal>) -> Result<Type, Refusal> {
    let results: Vec<_> = all.iter().map(of).collect();
    match results.iter().filter_map(|result| result.as_ref().ok().cloned()).reduce(Type::join) {
        Some(ty) => Ok(ty),
        None => results.into_iter().next().unwrap_or(Ok(Type::Any)),
    }
}

/// The type of `base[number]`.
pub(crate) fn element(base: &Type) -> Result<Type, Refusal> {
    match base {
        Type::Any => Ok(Type::Any),
        Type::Optional(inner) => element(inner),
        Type::OneOf(all) => any_of(all, element),
        Type::List(item) => Ok((**item).clone()),
        Type::Text => Ok(Type::Text),
        Type::Tensor(tensor) => row(tensor, base),
        Type::Map(map) => match &map.rest {
            Some(_) => Ok(Type::Any),
            None => Err(refuse(
                format!("`{base}` has names, not numbers"),
                list_fields(map.fields.keys().map(|k| &**k), ""),
            )),
        },
        other => Err(refuse(format!("`{other}` has no elements"), "index a list, a tensor or a text")),
    }
}

/// The type of a row of a tensor: one axis less, or a number.
fn row(tensor: &TensorShape, base: &Type) -> Result<Type, Refusal> {
    match &tensor.shape {
        None => Ok(Type::Any),
        Some(shape) => match shape.split_first() {
            None => Err(refuse(format!("`{base}` has no axes"), "use the value itself")),
            Some((_, [])) => Ok(number(tensor.dtype)),
            Some((_, rest)) => {
                Ok(Type::Tensor(TensorShape { dtype: tensor.dtype, shape: Some(rest.to_vec()) }))
            }
        },
    }
}

fn number(dtype: Option<DType>) -> Type {
    match dtype {
        None => Type::Any,
        Some(DType::Bool) => Type::Bool,
        Some(dtype) if dtype.is_float() => Type::Float,
        Some(_) => Type::Int,
    }
}

/// The type of `base[start:stop]`.
pub(crate) fn slice(base: &Type) -> Result<Type, Refusal> {
    match base {
        Type::Any | Type::List(_) | Type::Text => Ok(base.clone()),
        Type::Optional(inner) => slice(inner),
        Type::OneOf(all) => any_of(all, slice),
        Type::Tensor(tensor) => {
            let shape = tensor.shape.as_ref().map(|shape| {
                shape.iter().enumerate().map(|(axis, size)| size.filter(|_| axis > 0)).collect()
            });
            Ok(Type::Tensor(TensorShape { dtype: tensor.dtype, shape }))
        }
        other => Err(refuse(format!("`{other}` cannot be sliced"), "slice a list, a tensor or a text")),
    }
}

/// The type of the elements that a loop or `for_each` over `base` meets.
pub(crate) fn items(base: &Type) -> Result<Type, Refusal> {
    match base {
        Type::Any => Ok(Type::Any),
        Type::Optional(inner) => items(inner),
        Type::OneOf(all) => any_of(all, items),
        Type::List(item) => Ok((**item).clone()),
        Type::Map(_) => Ok(Type::Text),
        Type::Tensor(tensor) => row(tensor, base),
        other => Err(refuse(format!("`{other}` has no elements to go through"), "give a list")),
    }
}

/// The type of `left op right`.
pub(crate) fn binary(op: BinaryOp, left: &Type, right: &Type) -> Result<Type, Refusal> {
    let (a, b) = (left.required(), right.required());
    if let Type::OneOf(all) = a {
        return any_of(all, |a| binary(op, a, b));
    }
    if let Type::OneOf(all) = b {
        return any_of(all, |b| binary(op, a, b));
    }
    let unknown = matches!(a, Type::Any) || matches!(b, Type::Any);
    match op {
        BinaryOp::Equal | BinaryOp::NotEqual => return Ok(Type::Bool),
        BinaryOp::Concat if !is_tensor(a) && !is_tensor(b) => return Ok(Type::Text),
        BinaryOp::In | BinaryOp::NotIn => {
            let fits =
                unknown || matches!((a, b), (_, Type::List(_)) | (Type::Text, Type::Text | Type::Map(_)));
            return if fits { Ok(Type::Bool) } else { Err(operands(op, a, b)) };
        }
        BinaryOp::Less | BinaryOp::LessOrEqual | BinaryOp::Greater | BinaryOp::GreaterOrEqual => {
            let fits = unknown
                || both_numbers(a, b)
                || matches!((a, b), (Type::Text, Type::Text) | (Type::Bool, Type::Bool));
            return if fits { Ok(Type::Bool) } else { Err(operands(op, a, b)) };
        }
        _ => {}
    }
    match (op, a, b) {
        (BinaryOp::Divide, ..) if both_numbers(a, b) => Ok(Type::Float),
        (BinaryOp::Power, Type::Int, Type::Int) => Ok(Type::OneOf(vec![Type::Int, Type::Float])),
        _ if both_numbers(a, b) => Ok(a.clone().join(b.clone())),
        (BinaryOp::Add, Type::Text, Type::Text) => Ok(Type::Text),
        (BinaryOp::Add, Type::List(x), Type::List(y)) => Ok(Type::list((**x).clone().join((**y).clone()))),
        (BinaryOp::Multiply, Type::Text | Type::List(_), Type::Int) => Ok(a.clone()),
        (BinaryOp::Multiply, Type::Int, Type::Text | Type::List(_)) => Ok(b.clone()),
        // A list plus something unknown can only be a list; nothing else takes part in `+`, `-` and so on.
        (BinaryOp::Add, Type::List(_), Type::Any) | (BinaryOp::Add, Type::Any, Type::List(_)) => {
            Ok(Type::list(Type::Any))
        }
        (BinaryOp::Add | BinaryOp::Multiply, Type::Any, other)
        | (BinaryOp::Add | BinaryOp::Multiply, other, Type::Any)
            if !is_tensor(other)
                && !matches!(other, Type::Map(_) | Type::Bool | Type::None | Type::Bytes) =>
        {
            Ok(Type::Any)
        }
        (_, Type::Any, other) | (_, other, Type::Any)
            if matches!(other, Type::Any | Type::Int | Type::Float) =>
        {
            Ok(Type::Any)
        }
        _ => Err(operands(op, a, b)),
    }
}

fn operands(op: BinaryOp, a: &Type, b: &Type) -> Refusal {
    let help = match (op, a, b) {
        (BinaryOp::Add, Type::List(_), Type::Text) | (BinaryOp::Add, Type::Text, Type::List(_)) => {
            "put the text into a list first: `[request.question] + request.documents`"
        }
        (BinaryOp::Add, Type::Text, _) | (BinaryOp::Add, _, Type::Text) => "join anything as text with `~`",
        _ if is_tensor(a) || is_tensor(b) => {
            "expressions only index and slice tensors; compute with them in a model"
        }
        _ => "both sides must be numbers, texts or lists",
    };
    refuse(format!("`{}` does not work between `{a}` and `{b}`", op.as_str()), help)
}

fn is_tensor(ty: &Type) -> bool {
    matches!(ty, Type::Tensor(_))
}

fn is_number(ty: &Type) -> bool {
    matches!(ty, Type::Int | Type::Float)
}

fn both_numbers(a: &Type, b: &Type) -> bool {
    is_number(a) && is_number(b)
}

/// The type of `-value`.
pub(crate) fn negate(ty: &Type) -> Result<Type, Refusal> {
    match ty.required() {
        Type::Any | Type::OneOf(_) => Ok(Type::Any),
        ty if is_number(ty) => Ok(ty.clone()),
        other => Err(refuse(format!("`{other}` has no negative"), "`-` takes a number")),
    }
}

/// The type of `subject|name`; `attribute` is the literal argument of that name, if there is one.
pub(crate) fn filter(name: &str, subject: &Type, attribute: Option<&str>) -> Result<Type, Refusal> {
    let subject = subject.required();
    if let Type::OneOf(all) = subject {
        let ty = any_of(all, |subject| filter(name, subject, attribute))?;
        // minijinja does more than is let through here when the type is known.
        let refused = all.iter().any(|subject| filter(name, subject, attribute).is_err());
        return Ok(if refused { Type::Any } else { ty });
    }
    // Filters go through the characters of a text, which loops do not.
    let each = || if *subject == Type::Text { Ok(Type::Text) } else { items(subject) };
    filter_takes(name, subject)?;
    Ok(match name {
        "length" | "count" | "int" => Type::Int,
        "float" | "round" => Type::Float,
        "bool" => Type::Bool,
        "first" | "last" | "min" | "max" => each().unwrap_or_default(),
        "abs" => subject.clone(),
        "split" | "lines" => Type::list(Type::Text),
        "list" | "sort" | "unique" | "select" | "reject" | "selectattr" | "rejectattr" => {
            Type::list(each().unwrap_or_default())
        }
        "map" => match (attribute, each()) {
            (Some(name), Ok(item)) if !name.contains('.') => Type::list(field(&item, name)?),
            _ => Type::list(Type::Any),
        },
        "items" | "dictsort" | "groupby" => Type::list(Type::Any),
        "attr" | "sum" | "reverse" => Type::Any,
        _ => Type::Text,
    })
}

/// Refuses subjects that a filter cannot do anything with.
fn filter_takes(name: &str, subject: &Type) -> Result<(), Refusal> {
    if is_tensor(subject) && !matches!(name, "length" | "count" | "first" | "last" | "list") {
        return Err(refuse(
            format!("`{name}` does not work on `{subject}`"),
            "a tensor has `length`, `first`, `last` and `list`; index or slice it, or compute with it in a model",
        ));
    }
    let takes_text = matches!(
        name,
        "upper" | "lower" | "title" | "capitalize" | "trim" | "replace" | "split" | "lines" | "indent"
    );
    if takes_text && matches!(subject, Type::List(_) | Type::Map(_) | Type::None) {
        return Err(refuse(
            format!("`{name}` takes a text, not `{subject}`"),
            format!("apply it to each: `|map(\"{name}\")`"),
        ));
    }
    let takes_list = matches!(
        name,
        "join"
            | "map"
            | "sum"
            | "sort"
            | "unique"
            | "select"
            | "reject"
            | "selectattr"
            | "rejectattr"
            | "first"
            | "last"
    );
    if takes_list && matches!(subject, Type::Int | Type::Float | Type::Bool) {
        return Err(refuse(format!("`{name}` takes a list, not `{subject}`"), "give it a list"));
    }
    Ok(())
}
