//! What the pages of the protocol say, and how: as JSON over HTTP, as a message over gRPC.

use http::Response;
use millstream_proto::inference::model_config::SchedulingChoice;
use millstream_proto::inference::{
    DataType, ModelConfig, ModelConfigResponse, ModelMetadataResponse, ModelReadyResponse,
    ModelStatisticsResponse, RepositoryIndexResponse, ServerLiveResponse, ServerMetadataResponse,
    ServerReadyResponse,
};
use serde_json::{Value as Json, json};

use super::super::{Last, grpc, json as answer};

/// See the module.
pub(crate) enum Page {
    /// The process answers.
    Live,
    /// It may be given requests, or not yet.
    Ready(Readiness),
    /// A model may be given requests, or not.
    ModelReady(Readiness),
    /// The server.
    Server(ServerMetadataResponse),
    /// A model with its inputs and outputs.
    Model(ModelMetadataResponse),
    /// All models.
    Index(RepositoryIndexResponse),
    /// How a model is configured.
    Config(ModelConfig),
    /// What was counted.
    Statistics(ModelStatisticsResponse),
}

/// Whether requests are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// They are.
    Ready,
    /// They are not. Only gRPC says so on a page; over HTTP that is an error.
    NotReady,
}

impl Page {
    /// Over HTTP. That something is so is said by the status alone.
    pub(crate) fn to_json(&self) -> Response<Last> {
        match self {
            Self::Live | Self::Ready(_) | Self::ModelReady(_) => Response::new(Last::default()),
            Self::Server(server) => answer(server),
            Self::Model(model) => answer(model),
            Self::Index(index) => answer(&index.models),
            Self::Config(config) => answer(&config_json(config)),
            Self::Statistics(statistics) => answer(statistics),
        }
    }

    /// Over gRPC.
    pub(crate) fn to_message(&self) -> Response<Last> {
        let is_ready = |readiness: &Readiness| *readiness == Readiness::Ready;
        match self {
            Self::Live => grpc::answer(&ServerLiveResponse { live: true }),
            Self::Ready(readiness) => grpc::answer(&ServerReadyResponse { ready: is_ready(readiness) }),
            Self::ModelReady(readiness) => grpc::answer(&ModelReadyResponse { ready: is_ready(readiness) }),
            Self::Server(server) => grpc::answer(server),
            Self::Model(model) => grpc::answer(model),
            Self::Index(index) => grpc::answer(index),
            Self::Config(config) => grpc::answer(&ModelConfigResponse { config: Some(config.clone()) }),
            Self::Statistics(statistics) => grpc::answer(statistics),
        }
    }
}

/// As protobuf's JSON form has it, with the names of the `.proto` file.
fn config_json(config: &ModelConfig) -> Json {
    let data_type = |number: i32| DataType::try_from(number).unwrap_or_default().as_str_name();
    let inputs = config.input.iter().map(|input| {
        json!({
            "name": input.name, "data_type": data_type(input.data_type), "format": "FORMAT_NONE",
            "dims": input.dims, "optional": input.optional,
        })
    });
    let outputs = config.output.iter().map(|output| {
        json!({ "name": output.name, "data_type": data_type(output.data_type), "dims": output.dims })
    });
    let mut json = json!({
        "name": config.name,
        "platform": config.platform,
        "backend": config.backend,
        "max_batch_size": config.max_batch_size,
        "input": inputs.collect::<Json>(),
        "output": outputs.collect::<Json>(),
        "model_transaction_policy": {
            "decoupled": config.model_transaction_policy.is_some_and(|policy| policy.decoupled),
        },
    });
    if let Some(SchedulingChoice::DynamicBatching(batching)) = &config.scheduling_choice {
        json["dynamic_batching"] = json!({
            "preferred_batch_size": batching.preferred_batch_size,
            "max_queue_delay_microseconds": batching.max_queue_delay_microseconds,
        });
    }
    json
}
