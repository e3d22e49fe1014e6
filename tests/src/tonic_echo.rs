//! The floor of calls over gRPC: a bare tonic service of the Open Inference Protocol that answers inputs as outputs, and nothing else.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use millstream_proto::inference::grpc_inference_service_server::{
    GrpcInferenceService, GrpcInferenceServiceServer,
};
use millstream_proto::inference::model_infer_request::InferInputTensor;
use millstream_proto::inference::model_infer_response::InferOutputTensor;
use millstream_proto::inference::{ModelInferRequest, ModelInferResponse};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// Bytes of a message, at most: more than any benchmark sends.
pub const MAX_MESSAGE_BYTES: usize = 32 << 20;
/// What an end takes before the other has to wait for it, as an ingress has it.
pub const WINDOW_BYTES: u32 = 1 << 20;

/// Answers on a free port of loopback until the process is killed. Writes its address to the file once it listens.
pub fn serve(address_file: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        fs::write(address_file, listener.local_addr()?.to_string())?;
        let service = GrpcInferenceServiceServer::new(Echo);
        let service =
            service.max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES);
        let server = Server::builder()
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .add_service(service);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        server.serve_with_incoming(incoming).await.context("serving")
    })
}

struct Echo;

#[tonic::async_trait]
impl GrpcInferenceService for Echo {
    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        let ModelInferRequest { model_name, inputs, raw_input_contents, .. } = request.into_inner();
        let output = |input: InferInputTensor| {
            let InferInputTensor { name, datatype, shape, .. } = input;
            InferOutputTensor { name, datatype, shape, ..Default::default() }
        };
        Ok(Response::new(ModelInferResponse {
            model_name,
            outputs: inputs.into_iter().map(output).collect(),
            raw_output_contents: raw_input_contents,
            ..Default::default()
        }))
    }
}
