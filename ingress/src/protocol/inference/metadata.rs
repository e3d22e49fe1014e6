//! What the pages of the protocol say: the server, and models with their inputs and outputs.

use millstream_pipelines::types::{TensorShape, Type};
use millstream_pipelines::{Batch, Interface, InterfaceField, Plan};
use millstream_proto::inference::model_config::SchedulingChoice;
use millstream_proto::inference::model_metadata_response::TensorMetadata;
use millstream_proto::inference::{
    DataType, ModelConfig, ModelDynamicBatching, ModelInput, ModelMetadataResponse, ModelOutput,
    ModelTransactionPolicy, ServerMetadataResponse,
};
use millstream_values::DType;

use super::datatype::Datatype;
use super::outputs::LONE_OUTPUT;

/// What runs models, as clients are told.
const PLATFORM: &str = "millstream";

/// The server.
pub(crate) fn server() -> ServerMetadataResponse {
    let extensions = ["binary_tensor_data", "model_configuration", "model_repository(index)", "statistics"];
    ServerMetadataResponse {
        name: "millstream".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: extensions.map(str::to_owned).into(),
    }
}

/// A model, with the revisions that take requests.
pub(crate) fn model(name: &str, revisions: impl Iterator<Item = u64>, plan: &Plan) -> ModelMetadataResponse {
    ModelMetadataResponse {
        name: name.to_owned(),
        versions: revisions.map(|revision| revision.to_string()).collect(),
        platform: PLATFORM.to_owned(),
        inputs: tensors(plan.request_interface()),
        outputs: tensors(plan.answer_interface()),
    }
}

/// How a model is configured; `batch` says how a deployment's calls run together. The shapes are all of the tensors: there is no axis
/// beside them that a server adds, so that `max_batch_size` is 0.
pub(crate) fn config(name: &str, plan: &Plan, batch: Option<&Batch>) -> ModelConfig {
    let data_type = |name: &str| DataType::from_str_name(&config_type(name)).unwrap_or_default().into();
    let input = |TensorMetadata { name, datatype, shape }| {
        let optional = plan.may_leave_out(&name);
        ModelInput { name, data_type: data_type(&datatype), dims: shape, optional }
    };
    let output = |TensorMetadata { name, datatype, shape }| ModelOutput {
        name,
        data_type: data_type(&datatype),
        dims: shape,
    };
    let batching = |batch: &Batch| ModelDynamicBatching {
        preferred_batch_size: batch
            .preferred_sizes
            .iter()
            .chain([&batch.max_size])
            .filter_map(|&size| i32::try_from(size).ok())
            .collect(),
        max_queue_delay_microseconds: u64::try_from(batch.max_wait.as_micros()).unwrap_or(u64::MAX),
    };
    ModelConfig {
        name: name.to_owned(),
        platform: PLATFORM.to_owned(),
        backend: PLATFORM.to_owned(),
        max_batch_size: 0,
        input: tensors(plan.request_interface()).into_iter().map(input).collect(),
        output: tensors(plan.answer_interface()).into_iter().map(output).collect(),
        model_transaction_policy: Some(ModelTransactionPolicy { decoupled: false }),
        scheduling_choice: batch.map(|batch| SchedulingChoice::DynamicBatching(batching(batch))),
    }
}

/// A datatype as configurations name it.
fn config_type(datatype: &str) -> String {
    format!("TYPE_{}", if datatype == "BYTES" { "STRING" } else { datatype })
}

/// The fields as tensors, as far as their types are known.
fn tensors(interface: Interface) -> Vec<TensorMetadata> {
    let tensor = |InterfaceField { name, ty }: InterfaceField| {
        let (datatype, shape) = tensor_of(&ty)?;
        let name = if name.is_empty() { LONE_OUTPUT.to_owned() } else { name.to_string() };
        Some(TensorMetadata { name, datatype: datatype.as_str().to_owned(), shape })
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
    fn configurations_have_a_type_for_each_datatype() {
        for name in Datatype::names().split(", ") {
            assert!(DataType::from_str_name(&config_type(name)).is_some(), "{name}");
        }
    }

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
