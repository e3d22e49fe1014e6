//! `[request]` to a [`Schema`].

use std::sync::Arc;

use millstream_values::Value;

use super::value;
use crate::fault::FaultSink;
use crate::raw::{Key, Raw, RawTable, RawValue, Reader};
use crate::request::{Bounds, Field, FieldType, STREAM_FIELD, Schema};
use crate::{Name, RequestError};

/// Longest text, bytes or list that a length may speak of.
const MAX_LENGTH: u32 = 64 << 20;

/// Deepest object in objects.
const MAX_OBJECT_DEPTH: usize = 4;

/// Most values of an `enum`.
const MAX_ENUM: usize = 1000;

/// Checks the table; no table is an empty body.
pub(super) fn schema(table: Option<&RawTable>, faults: &mut FaultSink<'_>) -> Schema {
    let mut fields = Vec::new();
    for (key, raw) in table.iter().flat_map(|t| &t.entries) {
        if key.text == STREAM_FIELD {
            let help = "name the field otherwise: every body may have `\"stream\": true` to ask for a stream";
            faults.push(key.span.clone(), "the field name `stream` is reserved", help);
        }
        fields.push(field(key, raw, 0, faults));
    }
    Schema { fields, is_open: false }
}

/// One field, in the short form (`"text"`, `[{ role = "text" }]`) or the long one, so many objects down. A field with faults takes
/// anything.
fn field(key: &Key, raw: &Raw, depth: usize, faults: &mut FaultSink<'_>) -> Field {
    if key.text.parse::<Name>().is_err() {
        faults.push(
            key.span.clone(),
            format!("`{}` is not a name for a field", key.text),
            super::limits::NAME_HELP,
        );
    }
    let mut field = Field::required(key.text.as_str().into(), FieldType::Json);
    match &raw.value {
        RawValue::Table(_) => {
            if let Some(mut table) = Reader::entry("field", key, raw, faults) {
                long_form(&mut table, &mut field, depth, faults);
                table.finish(faults);
            }
        }
        _ => {
            let label = format!("field `{}`", key.text);
            field.ty = given_type(raw, &label, depth, faults).unwrap_or(FieldType::Json);
        }
    }
    field
}

/// A type as it is written: a text, a list with one object in it, or an object.
fn given_type(raw: &Raw, label: &str, depth: usize, faults: &mut FaultSink<'_>) -> Option<FieldType> {
    match &raw.value {
        RawValue::Text(text) => field_type(text, raw, label, faults),
        RawValue::Table(table) => object_type(table, raw, label, depth, faults),
        RawValue::Array(items) => match &items[..] {
            [Raw { value: RawValue::Table(table), .. }] => {
                object_type(table, raw, label, depth, faults).map(|object| FieldType::List(Box::new(object)))
            }
            _ => {
                let message = format!("{label} is an array that is no type");
                faults.push(raw.span.clone(), message, "write one object with the fields of each item: `[{ role = \"text\", content = \"text\" }]`");
                None
            }
        },
        _ => {
            let message = format!("{label} is {}, not a type", raw.kind());
            faults.push(
                raw.span.clone(),
                message,
                "write a type such as `\"text\"`, or a table such as `{ type = \"int\", default = 3 }`",
            );
            None
        }
    }
}

/// An object's fields.
fn object_type(
    table: &RawTable,
    raw: &Raw,
    label: &str,
    depth: usize,
    faults: &mut FaultSink<'_>,
) -> Option<FieldType> {
    if table.entries.is_empty() || depth >= MAX_OBJECT_DEPTH {
        let (what, help) = match table.entries.is_empty() {
            true => ("an object without fields", "name its fields, or use `json`"),
            false => ("an object too deep in others", "use `json` there"),
        };
        faults.push(raw.span.clone(), format!("{label} is {what}"), help);
        return None;
    }
    let fields = table.entries.iter().map(|(key, raw)| field(key, raw, depth + 1, faults));
    Some(FieldType::Object(fields.collect()))
}

fn field_type(text: &str, raw: &Raw, label: &str, faults: &mut FaultSink<'_>) -> Option<FieldType> {
    text.parse()
        .map_err(|help: String| {
            faults.push(raw.span.clone(), format!("{label} has type `{text}`, which is unknown"), help)
        })
        .ok()
}

fn long_form(table: &mut Reader<'_>, field: &mut Field, depth: usize, faults: &mut FaultSink<'_>) {
    let ty = match table.raw("type") {
        None => {
            faults.push(
                table.span(),
                format!("{} is missing", table.label("type")),
                crate::request::TYPE_HELP,
            );
            None
        }
        Some((_, raw)) => given_type(raw, &format!("field `{}`", field.name), depth, faults),
    };
    let num_faults = faults.len();
    field.description = table.text("description", faults).map(|(text, _)| Arc::from(text));
    let bounds = bounds(table, ty.as_ref(), faults);
    let default = table.raw("default");
    let example = table.raw("example");
    let Some(ty) = ty else { return };
    field.ty = ty;
    // Values are judged by bounds that are themselves sound.
    if faults.len() == num_faults {
        field.bounds = bounds;
        field.default = default.and_then(|(_, raw)| given_value("default", field, raw, faults));
        field.example = example.and_then(|(_, raw)| given_value("example", field, raw, faults));
    }
}

/// The bounds, each where its type has it, none contradicting another. A type that is unknown may have any.
fn bounds(table: &mut Reader<'_>, ty: Option<&FieldType>, faults: &mut FaultSink<'_>) -> Bounds {
    let mut bounds = Bounds::default();
    let innermost = ty.map(FieldType::innermost);
    let is_number = matches!(innermost, None | Some(FieldType::Int | FieldType::Float));
    for (key, bound) in [("min", &mut bounds.min), ("max", &mut bounds.max)] {
        *bound = table.raw(key).and_then(|(name, raw)| {
            if !is_number {
                return refuse(table, key, &name.span, "only `int` and `float` have a range", faults);
            }
            number(table, key, raw, innermost, faults)
        });
    }
    let has_length = matches!(ty, None | Some(FieldType::Text | FieldType::Bytes | FieldType::List(_)));
    for (key, bound) in [("min_length", &mut bounds.min_length), ("max_length", &mut bounds.max_length)] {
        let Some((name, _)) = table.raw(key) else { continue };
        if has_length {
            *bound = table.int(key, 0..=MAX_LENGTH, faults).map(|length| length as usize);
        } else {
            refuse::<()>(table, key, &name.span, "only `text`, `bytes` and lists have a length", faults);
        }
    }
    bounds.allowed = allowed(table, innermost, faults);
    ordered(table, &bounds, faults);
    bounds
}

fn refuse<T>(
    table: &Reader<'_>,
    key: &str,
    span: &crate::raw::Span,
    why: &str,
    faults: &mut FaultSink<'_>,
) -> Option<T> {
    faults.push(
        span.clone(),
        format!("{} is given, but {why}", table.label(key)),
        "remove it, or change the type",
    );
    None
}

/// A number of the field's own type.
fn number(
    table: &Reader<'_>,
    key: &str,
    raw: &Raw,
    innermost: Option<&FieldType>,
    faults: &mut FaultSink<'_>,
) -> Option<Value> {
    match (&raw.value, innermost) {
        (RawValue::Int(value), Some(FieldType::Int) | None) => Some(Value::Int(*value)),
        (RawValue::Int(_) | RawValue::Float(_), Some(FieldType::Float) | None) => {
            let value = raw.as_f64().filter(|value| value.is_finite());
            if value.is_none() {
                let message = format!("{} is not a finite number", table.label(key));
                faults.push(raw.span.clone(), message, "write a finite number, or leave it out");
            }
            value.map(Value::Float)
        }
        (_, Some(FieldType::Int)) => {
            table.wrong_kind(key, raw, "a whole number", faults);
            None
        }
        _ => {
            table.wrong_kind(key, raw, "a number", faults);
            None
        }
    }
}

/// `enum = [...]`.
fn allowed(table: &mut Reader<'_>, innermost: Option<&FieldType>, faults: &mut FaultSink<'_>) -> Vec<Value> {
    let Some((name, raw)) = table.raw("enum") else { return Vec::new() };
    if !matches!(innermost, None | Some(FieldType::Text | FieldType::Int | FieldType::Float)) {
        refuse::<()>(table, "enum", &name.span, "only `text`, `int` and `float` can be enumerated", faults);
        return Vec::new();
    }
    let RawValue::Array(items) = &raw.value else {
        table.wrong_kind("enum", raw, "an array of values", faults);
        return Vec::new();
    };
    if items.is_empty() {
        faults.push(
            raw.span.clone(),
            format!("{} allows nothing", table.label("enum")),
            "list the values, or leave it out",
        );
    }
    if items.len() > MAX_ENUM {
        let message = format!("{} has more than {MAX_ENUM} values", table.label("enum"));
        faults.push(raw.span.clone(), message, "check such a value in a model, or use a range");
        return Vec::new();
    }
    let mut found: Vec<Value> = Vec::with_capacity(items.len());
    for item in items {
        let value = match (&item.value, innermost) {
            (RawValue::Text(text), Some(FieldType::Text) | None) => Some(Value::from(text.as_str())),
            (_, Some(FieldType::Text)) => {
                table.wrong_kind("enum", item, "a list of strings", faults);
                None
            }
            _ => number(table, "enum", item, innermost, faults),
        };
        match value {
            Some(value) if found.contains(&value) => {
                faults.push(
                    item.span.clone(),
                    format!("{} has a value twice", table.label("enum")),
                    "remove one of the two",
                );
            }
            Some(value) => found.push(value),
            None => {}
        }
    }
    found
}

/// No bound excludes every value.
fn ordered(table: &mut Reader<'_>, bounds: &Bounds, faults: &mut FaultSink<'_>) {
    if let (Some(min), Some((_, raw))) = (&bounds.min, table.raw("max"))
        && bounds.max.as_ref().is_some_and(|max| max.as_f64() < min.as_f64())
    {
        let message = format!("{} is less than `min`, so that no value is allowed", table.label("max"));
        faults.push(raw.span.clone(), message, "raise `max` or lower `min`");
    }
    if let (Some(min), Some(max), Some((_, raw))) =
        (bounds.min_length, bounds.max_length, table.raw("max_length"))
        && max < min
    {
        let message =
            format!("{} is less than `min_length`, so that no value is allowed", table.label("max_length"));
        faults.push(raw.span.clone(), message, "raise `max_length` or lower `min_length`");
    }
}

/// The value of `default` or `example`, judged as a body would be.
fn given_value(key: &str, field: &Field, raw: &Raw, faults: &mut FaultSink<'_>) -> Option<Value> {
    let label = format!("field `{}`: `{key}`", field.name);
    let value = match value::literal(raw) {
        Ok(value) => value,
        Err(part) => {
            let message = format!("{label} has {}, which cannot be a value", part.kind());
            faults.push(
                part.span.clone(),
                message,
                "write text, a finite number, a boolean, an array or a table",
            );
            return None;
        }
    };
    let body = Value::map([(Arc::clone(&field.name), value)]);
    let schema = Schema { fields: vec![field.clone()], is_open: false };
    let outcome = serde_json::to_vec(&body)
        .map_err(|error| RequestError::Malformed { message: error.to_string() })
        .and_then(|body| schema.parse(&body));
    let help = format!("write {} {key} of type `{}` that keeps the field's bounds", article(key), field.ty);
    match outcome {
        Ok(request) => request.fields.get(&field.name).cloned(),
        Err(RequestError::Malformed { message }) => {
            faults.push(raw.span.clone(), format!("{label}: {message}"), help);
            None
        }
        Err(RequestError::Invalid(found)) => {
            for fault in found.iter().take(3) {
                faults.push(raw.span.clone(), format!("{label}: {}", fault.message), help.clone());
            }
            None
        }
    }
}

fn article(key: &str) -> &'static str {
    if key.starts_with('e') { "an" } else { "a" }
}
