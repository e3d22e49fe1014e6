//! What the pages of the protocol say: the server, and models with their inputs and outputs.

use bytes::Bytes;
use http::Response;
use millstream_pipelines::types::{TensorShape, Type};
use millstream_pipelines::{Interface, InterfaceField, Plan};
use millstream_values::DType;
use serde::Serialize;

use super::super::{Last, json};
use super::datatype::Datatype;
use super::outputs::LONE_OUTPUT;

/// `GET /v2`.
pub(crate) fn server() -> Response<Last> {
    json(&Server {
        name: "millstream",
        version: env!("CARGO_PKG_VERSION"),
        extensions: ["binary_tensor_data", "model_repository(index)"],
    })
}

/// That what a path asks about is so. The protocol says it by the status alone.
pub(crate) fn yes() -> Response<Last> {
    Response::new(Last { bytes: Bytes::new(), trailers: None })
}

/// A model, with the revisions that take requests.
pub(crate) fn model(name: &str, revisions: impl Iterator<Item = u64>, plan: &Plan) -> Response<Last> {
    json(&Model {
        name,
        versions: revisions.map(|revision| revision.to_string()).collect(),
        platform: "millstream",
        inputs: tensors(plan.request_interface()),
        outputs: tensors(plan.answer_interface()),
    })
}

/// A model in the index.
#[derive(Serialize)]
pub(crate) struct Entry<'a> {
    /// Its name.
    pub name: &'a str,
    /// A revision that takes requests.
    pub version: String,
    /// `READY` or `UNAVAILABLE`.
    pub state: &'static str,
    /// Why it is not ready.
    pub reason: String,
}

/// `POST /v2/repository/index`.
pub(crate) fn index(entries: &[Entry<'_>]) -> Response<Last> {
    json(&entries)
}

#[derive(Serialize)]
struct Server {
    name: &'static str,
    version: &'static str,
    extensions: [&'static str; 2],
}

#[derive(Serialize)]
struct Model<'a> {
    name: &'a str,
    versions: Vec<String>,
    platform: &'static str,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
}

#[derive(Debug, PartialEq, Serialize)]
struct TensorInfo {
    name: String,
    datatype: &'static str,
    /// Sizes; -1 for any.
    shape: Vec<i64>,
}

/// The fields as tensors, as far as their types are known.
fn tensors(interface: Interface) -> Vec<TensorInfo> {
    let tensor = |InterfaceField { name, ty }: InterfaceField| {
        let (datatype, shape) = tensor_of(&ty)?;
        let name = if name.is_empty() { LONE_OUTPUT.to_owned() } else { name.to_string() };
        Some(TensorInfo { name, datatype: datatype.as_str(), shape })
    };
    interface.fields.into_iter().filter_map(tensor).collect()
}

/// The datatype and shape of values of that type; `None` where nothing can be said.
fn tensor_of(ty: &Type) -> Option<(Datatype, Vec<i64>)> {
    let of = |dtype| Some((Datatype::Of(dtype), vec![1]));
    match ty {
        Type::Bool => of(DType::Bool),
        Type::Int => of(DType::I64),
        Type::Float => of(DType::F64),
        // A map is a text with its JSON.
        Type::Text | Type::Bytes | Type::Map(_) => Some((Datatype::Bytes, vec![1])),
        Type::Any | Type::OneOf(_) => Some((Datatype::Bytes, vec![-1])),
        Type::None => None,
        Type::Optional(ty) => tensor_of(ty),
        Type::Tensor(TensorShape { dtype, shape }) => {
            let size = |size: &Option<usize>| size.and_then(|size| i64::try_from(size).ok()).unwrap_or(-1);
            Some((Datatype::Of((*dtype)?), shape.as_ref()?.iter().map(size).collect()))
        }
        Type::List(item) => match &**item {
            Type::Bool | Type::Int | Type::Float | Type::Text | Type::Bytes => {
                tensor_of(item).map(|(datatype, _)| (datatype, vec![-1]))
            }
            Type::Tensor(_) => tensor_of(item).map(|(datatype, mut shape)| {
                shape.insert(0, -1);
                (datatype, shape)
            }),
            // Texts in lists in lists have as many axes.
            Type::List(_) => match tensor_of(item)? {
                (Datatype::Bytes, shape) if shape.iter().all(|size| *size == -1) => {
                    Some((Datatype::Bytes, [vec![-1], shape].concat()))
                }
                _ => Some((Datatype::Bytes, vec![1])),
            },
            _ => Some((Datatype::Bytes, vec![1])),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_tensors() {
        let rows = Type::tensor(DType::F32, [None, Some(384)]);
        for (ty, expected) in [
            (Type::Text, Some(("BYTES", vec![1]))),
            (Type::list(Type::Text), Some(("BYTES", vec![-1]))),
            (Type::list(Type::list(Type::Text)), Some(("BYTES", vec![-1, -1]))),
            (Type::list(Type::list(Type::Float)), Some(("BYTES", vec![1]))),
            (Type::list(Type::list(Type::Any)), Some(("BYTES", vec![1]))),
            (Type::Int, Some(("INT64", vec![1]))),
            (Type::list(Type::Float), Some(("FP64", vec![-1]))),
            (Type::Bool.optional(), Some(("BOOL", vec![1]))),
            (rows.clone(), Some(("FP32", vec![-1, 384]))),
            (Type::list(rows), Some(("FP32", vec![-1, -1, 384]))),
            (Type::list(Type::Any), Some(("BYTES", vec![1]))),
            (Type::Any, Some(("BYTES", vec![-1]))),
            (Type::Tensor(TensorShape::default()), None),
            (Type::None, None),
        ] {
            let found = tensor_of(&ty).map(|(datatype, shape)| (datatype.as_str(), shape));
            assert_eq!(found, expected, "{ty}");
        }
    }
}
