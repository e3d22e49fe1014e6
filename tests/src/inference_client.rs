//! Calls of the Open Inference Protocol with one tensor of floats `x`, over gRPC with raw contents and over HTTP with the tensor behind the JSON.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use millstream_proto::inference::ModelInferRequest;
use millstream_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use millstream_proto::inference::model_infer_request::InferInputTensor;
use serde_json::json;
use tonic::transport::{Channel, Endpoint};

use crate::tonic_echo::{MAX_MESSAGE_BYTES, WINDOW_BYTES};

/// A connection over gRPC, with the call that goes over it.
pub struct GrpcCaller {
    client: GrpcInferenceServiceClient<Channel>,
    request: ModelInferRequest,
}

impl GrpcCaller {
    /// Connects; each call sends so many floats to that model.
    pub async fn connect(address: SocketAddr, model: &str, num_floats: usize) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        let client = GrpcInferenceServiceClient::new(endpoint.connect().await?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let input = InferInputTensor {
            name: "x".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![i64::try_from(num_floats)?],
            ..Default::default()
        };
        let request = ModelInferRequest {
            model_name: model.to_owned(),
            inputs: vec![input],
            raw_input_contents: vec![vec![0; num_floats * 4].into()],
            ..Default::default()
        };
        Ok(Self { client, request })
    }

    /// Another caller on the same connection.
    #[must_use]
    pub fn share(&self) -> Self {
        Self { client: self.client.clone(), request: self.request.clone() }
    }

    /// One call.
    pub async fn call(&mut self) -> Result<()> {
        let answer = self.client.model_infer(self.request.clone()).await?.into_inner();
        ensure!(answer.raw_output_contents == self.request.raw_input_contents, "another answer");
        Ok(())
    }
}

/// A keep-alive connection over HTTP, with the call that goes over it.
pub struct BinaryCaller {
    connection: SendRequest<Full<Bytes>>,
    path: String,
    num_tensor_bytes: usize,
    json_length: usize,
    body: Bytes,
}

impl BinaryCaller {
    /// Connects; each call sends so many floats to that model.
    pub async fn connect(address: SocketAddr, model: &str, num_floats: usize) -> Result<Self> {
        let connection = crate::echo_client::connect(address).await?;
        let num_tensor_bytes = num_floats * 4;
        let parameters = json!({"binary_data_size": num_tensor_bytes});
        let input = json!({"name": "x", "datatype": "FP32", "shape": [num_floats], "parameters": parameters});
        let json = json!({"inputs": [input], "parameters": {"binary_data_output": true}}).to_string();
        let body = [json.as_bytes(), &vec![0; num_tensor_bytes]].concat().into();
        let path = format!("/v2/models/{model}/infer");
        Ok(Self { connection, path, num_tensor_bytes, json_length: json.len(), body })
    }

    /// One call. Its answer is counted and not kept.
    pub async fn call(&mut self) -> Result<()> {
        let request = hyper::Request::post(&self.path)
            .header("host", "localhost")
            .header("content-type", "application/octet-stream")
            .header("inference-header-content-length", self.json_length)
            .body(Full::new(self.body.clone()))?;
        self.connection.ready().await?;
        let answer = self.connection.send_request(request).await?;
        let (status, mut body, mut num_bytes) = (answer.status(), answer.into_body(), 0);
        while let Some(frame) = body.frame().await {
            num_bytes += frame?.data_ref().map_or(0, Bytes::len);
        }
        ensure!(status == 200 && num_bytes > self.num_tensor_bytes, "{status} with {num_bytes} bytes");
        Ok(())
    }
}
