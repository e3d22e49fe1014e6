//! Millstream's own API over gRPC (`millstream.v1.Pipelines`): a pipeline by its name or its route, with fields as JSON or as values,
//! answered alike, at once or in parts.

mod values;

use bytes::Bytes;
use http::{HeaderMap, Response};
use millstream_pipelines::Plan;
use millstream_proto::Value;
use millstream_proto::endpoint::{Access, Endpoint};
use millstream_proto::v1::{self, run_response, run_stream_response};
use millstream_values::Map;

use super::wire::{Field, Fields};
use super::{Asked, Exchange, Form, Last, Problem, Target, Told, grpc};
use crate::model::StreamPart;

/// `Run`.
pub(crate) const RUN: grpc::Method = grpc::Method {
    endpoints: &[Endpoint {
        methods: "POST",
        path: "/millstream.v1.Pipelines/Run",
        access: Access::ApiKey,
        help: "Runs a pipeline or a deployment.",
    }],
    read: |message| Ok(Box::new(RunExchange::read(&message, Form::Whole)?)),
};
/// `RunStream`.
pub(crate) const RUN_STREAM: grpc::Method = grpc::Method {
    endpoints: &[Endpoint {
        methods: "POST",
        path: "/millstream.v1.Pipelines/RunStream",
        access: Access::ApiKey,
        help: "The same, with parts of the text as they are made.",
    }],
    read: |message| Ok(Box::new(RunExchange::read(&message, Form::Parts)?)),
};

struct RunExchange {
    pipeline: String,
    input: Input,
    form: Form,
    revision: u64,
}

/// What a request gives.
enum Input {
    Json(Bytes),
    Fields(Map),
}

impl RunExchange {
    fn read(message: &Bytes, form: Form) -> Result<Self, Problem> {
        let (mut pipeline, mut input) = ("", Input::Json(Bytes::from_static(b"{}")));
        for field in Fields::of(message) {
            let Field { number, value } = field?;
            match number {
                1 => pipeline = value.text()?,
                2 => input = Input::Json(message.slice_ref(value.bytes()?)),
                3 => input = Input::Fields(values::fields(message, value.bytes()?)?),
                _ => {}
            }
        }
        if pipeline.is_empty() {
            return Err(Problem::malformed("`pipeline` is missing; give a pipeline's name or its route"));
        }
        Ok(Self { pipeline: pipeline.to_owned(), input, form, revision: 0 })
    }

    fn response(&self, value: &Value) -> v1::RunResponse {
        let output = match &self.input {
            Input::Json(_) => run_response::Output::Json(
                serde_json::to_vec(value)
                    .expect("values have text keys, and writing to memory does not fail")
                    .into(),
            ),
            Input::Fields(_) => run_response::Output::Value(values::encode(value)),
        };
        v1::RunResponse { output: Some(output), revision: self.revision }
    }
}

fn frame(body: run_stream_response::Body, bytes: &mut Vec<u8>) {
    grpc::frame(&v1::RunStreamResponse { body: Some(body) }, bytes);
}

impl Exchange for RunExchange {
    fn target(&self) -> Option<Target<'_>> {
        let name = &*self.pipeline;
        Some(if name.starts_with('/') { Target::Route(name) } else { Target::Named { name, version: None } })
    }

    fn ask(&self, plan: &Plan) -> Result<Asked, Problem> {
        let request = match &self.input {
            Input::Json(json) => plan.parse_request(json)?,
            Input::Fields(fields) => plan.check_request(fields.clone())?,
        };
        Ok(Asked { fields: request.fields, num_values: request.num_values, form: self.form })
    }

    /// What it was given goes, its form stays.
    fn asked(&mut self) {
        match &mut self.input {
            Input::Json(json) => *json = Bytes::new(),
            Input::Fields(fields) => *fields = Map::new(),
        }
    }

    fn runs_on(&mut self, revision: u64) {
        self.revision = revision;
    }

    fn answer(&mut self, value: &Value, _: Told<'_>) -> Response<Last> {
        grpc::answer(&self.response(value))
    }

    fn stream_headers(&self) -> HeaderMap {
        grpc::headers()
    }

    fn part(&mut self, part: &StreamPart, bytes: &mut Vec<u8>) {
        let StreamPart { field, text } = part;
        let delta = v1::Delta { field: field.to_string(), text: text.to_string() };
        frame(run_stream_response::Body::Delta(delta), bytes);
    }

    fn end(&mut self, outcome: Result<&Value, &Problem>, _: Told<'_>) -> Last {
        match outcome {
            Ok(value) => {
                let mut bytes = Vec::new();
                frame(run_stream_response::Body::Response(self.response(value)), &mut bytes);
                grpc::ok(bytes)
            }
            Err(problem) => grpc::failed(problem),
        }
    }
}
