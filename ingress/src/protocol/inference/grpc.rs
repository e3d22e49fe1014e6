//! The protocol over gRPC: `ModelInfer` with one request and one answer, and the requests of Triton's `ModelStreamInfer`, each of which is
//! a request of its own here. Answers have raw contents, as Triton's do.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Response};
use millstream_pipelines::Plan;
use millstream_proto::RequestId;
use millstream_proto::endpoint::{Access, Endpoint};
use millstream_proto::inference::infer_parameter::ParameterChoice;
use millstream_proto::inference::model_infer_response::InferOutputTensor;
use millstream_proto::inference::{InferParameter, ModelInferResponse, ModelStreamInferResponse};
use millstream_values::Value;

use super::super::pieces::Pieces;
use super::super::{Asked, Exchange, Form, Last, Problem, Protocol, Target, Told, grpc};
use super::exchange::InferExchange;
use super::message::InferMessage;
use super::outputs::{Output, OutputContent};
use crate::model::StreamPart;

/// `ModelInfer`.
pub(crate) const MODEL_INFER: grpc::Method = grpc::Method {
    endpoints: &[Endpoint {
        methods: "POST",
        path: "/inference.GRPCInferenceService/ModelInfer",
        access: Access::ApiKey,
        help: "The Open Inference Protocol over gRPC: runs a pipeline or a deployment on tensors.",
    }],
    read: |bytes| {
        let message = InferMessage::read(&bytes)?;
        Ok(Box::new(GrpcExchange(exchange(&message, &bytes)?)))
    },
};

/// The number of the field with the contents of outputs.
const RAW_OUTPUT_CONTENTS: u32 = 6;
/// What is set on an answer of a stream that is its request's last.
const FINAL: &str = "triton_final_response";

/// One request of `ModelStreamInfer`.
#[derive(Default)]
pub(crate) struct StreamedInfer {
    /// What its client calls it, once that has been read.
    id: OnceLock<String>,
}

/// A problem is an answer here: the stream goes on.
impl Protocol for StreamedInfer {
    fn endpoints(&self) -> &'static [Endpoint] {
        &[]
    }

    fn tells_usage(&self) -> bool {
        false
    }

    fn check_content(&self, _: &Parts) -> Result<(), Problem> {
        Ok(())
    }

    fn read(&self, _: &Parts, bytes: Bytes) -> Result<Box<dyn Exchange>, Problem> {
        let message = InferMessage::read(&bytes)?;
        let _ = self.id.set(message.id.to_owned());
        let infer = exchange(&message, &bytes)?;
        let InferMessage { stream, empty_final_response, .. } = message;
        Ok(Box::new(StreamedExchange { infer, stream, empty_final_response, sent: HashSet::new() }))
    }

    fn problem(&self, problem: &Problem, _: &RequestId) -> Response<Last> {
        Response::new(error(problem, self.id.get().map(String::as_str)).into())
    }
}

fn exchange(message: &InferMessage<'_>, bytes: &Bytes) -> Result<InferExchange, Problem> {
    let version = message.revision()?;
    Ok(InferExchange::new(message.model.to_owned(), version, message.request(bytes)?))
}

/// A request that has no answer, or none to its end, as a message of the stream.
fn error(problem: &Problem, id: Option<&str>) -> Vec<u8> {
    let id = id.unwrap_or_default().to_owned();
    // The text may not be empty: that is how clients know an error.
    let text = Some(problem.text()).filter(|text| !text.is_empty());
    let error_message = text.unwrap_or_else(|| problem.name().to_owned());
    let infer_response = Some(ModelInferResponse { id, ..Default::default() });
    let mut bytes = Vec::new();
    grpc::frame(&ModelStreamInferResponse { error_message, infer_response }, &mut bytes);
    bytes
}

/// An answer with these outputs, without their contents.
fn response(exchange: &InferExchange, outputs: &[Output<'_>]) -> ModelInferResponse {
    let (model, version, id) = exchange.told();
    let head = |output: &Output<'_>| InferOutputTensor {
        name: output.name.to_owned(),
        datatype: output.datatype().as_str().to_owned(),
        // Sizes of what is in memory.
        shape: output.shape.iter().map(|&size| i64::try_from(size).unwrap_or(i64::MAX)).collect(),
        ..Default::default()
    };
    ModelInferResponse {
        model_name: model.to_owned(),
        model_version: version.to_string(),
        id: id.unwrap_or_default().to_owned(),
        outputs: outputs.iter().map(head).collect(),
        ..Default::default()
    }
}

/// The raw contents of an output.
fn contents(output: &Output<'_>) -> Pieces {
    let mut pieces = Pieces::default();
    output.write(&mut pieces);
    pieces
}

/// The same in one piece: a stream's messages are put together anyway.
fn raw_contents(output: &Output<'_>) -> Bytes {
    match &output.content {
        OutputContent::Tensor(tensor) => tensor.data().clone(),
        OutputContent::Texts(_) => Last::from(contents(output)).bytes,
    }
}

fn wanted<'v>(exchange: &InferExchange, value: &'v Value) -> Result<Vec<Output<'v>>, Problem> {
    Ok(exchange.wanted(value)?.into_iter().map(|(output, _)| output).collect())
}

/// A request of `ModelInfer`.
struct GrpcExchange(InferExchange);

impl Exchange for GrpcExchange {
    fn target(&self) -> Option<Target<'_>> {
        self.0.target()
    }

    fn ask(&self, plan: &Plan) -> Result<Asked, Problem> {
        self.0.ask(plan)
    }

    fn asked(&mut self) {
        self.0.asked();
    }

    fn runs_on(&mut self, revision: u64) {
        self.0.runs_on(revision);
    }

    fn answer(&mut self, value: &Value, _: Told<'_>) -> Response<Last> {
        match wanted(&self.0, value) {
            Ok(outputs) => {
                let contents = outputs.iter().map(contents).collect();
                grpc::answer_with(&response(&self.0, &outputs), RAW_OUTPUT_CONTENTS, contents)
            }
            Err(problem) => grpc::refuse(&problem),
        }
    }
}

/// A request of `ModelStreamInfer`. A model whose text streams answers in parts, each an answer of its own with what comes next of an
/// output; the last one has the other outputs.
struct StreamedExchange {
    infer: InferExchange,
    /// Whether the request says that it wants parts, or that it wants none.
    stream: Option<bool>,
    empty_final_response: bool,
    /// The outputs of which parts have been sent.
    sent: HashSet<Arc<str>>,
}

/// Whether an answer is the last one to its request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Last,
    Before,
}

impl StreamedExchange {
    fn frame(&self, outputs: &[Output<'_>], place: Place, bytes: &mut Vec<u8>) {
        let mut response = response(&self.infer, outputs);
        response.raw_output_contents = outputs.iter().map(raw_contents).collect();
        let choice = ParameterChoice::BoolParam(place == Place::Last);
        let parameter = InferParameter { parameter_choice: Some(choice) };
        response.parameters = HashMap::from([(FINAL.to_owned(), parameter)]);
        let infer_response = Some(response);
        grpc::frame(&ModelStreamInferResponse { error_message: String::new(), infer_response }, bytes);
    }

    /// The last answer: what has not been sent in parts. One without outputs comes where it is asked for.
    fn last(&self, outcome: Result<&Value, &Problem>) -> Vec<u8> {
        let id = self.infer.told().2;
        let mut outputs = match outcome.map(|value| wanted(&self.infer, value)) {
            Ok(Ok(outputs)) => outputs,
            Ok(Err(problem)) => return error(&problem, id),
            Err(problem) => return error(problem, id),
        };
        outputs.retain(|output| !self.sent.contains(output.name));
        let mut bytes = Vec::new();
        if !outputs.is_empty() || self.sent.is_empty() || self.empty_final_response {
            self.frame(&outputs, Place::Last, &mut bytes);
        }
        bytes
    }
}

impl Exchange for StreamedExchange {
    fn target(&self) -> Option<Target<'_>> {
        self.infer.target()
    }

    fn ask(&self, plan: &Plan) -> Result<Asked, Problem> {
        let asked = self.infer.ask(plan)?;
        let form = if self.stream != Some(false) && plan.can_stream() { Form::Parts } else { Form::Whole };
        Ok(Asked { form, ..asked })
    }

    fn asked(&mut self) {
        self.infer.asked();
    }

    fn runs_on(&mut self, revision: u64) {
        self.infer.runs_on(revision);
    }

    fn answer(&mut self, value: &Value, _: Told<'_>) -> Response<Last> {
        Response::new(self.last(Ok(value)).into())
    }

    fn stream_headers(&self) -> HeaderMap {
        grpc::headers()
    }

    fn part(&mut self, part: &StreamPart, bytes: &mut Vec<u8>) {
        if !self.infer.wants(&part.field) {
            return;
        }
        let text = Value::Text(part.text.clone());
        self.frame(&[Output::of(&part.field, &text)], Place::Before, bytes);
        if !self.sent.contains(&part.field) {
            self.sent.insert(part.field.clone());
        }
    }

    fn end(&mut self, outcome: Result<&Value, &Problem>, _: Told<'_>) -> Last {
        self.last(outcome).into()
    }
}

#[cfg(test)]
mod tests;
