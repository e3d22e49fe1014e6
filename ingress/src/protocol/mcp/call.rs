//! `tools/call`, and its answer: whole, or with the parts of a text as notifications of progress before it.

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use millstream_pipelines::Plan;
use millstream_proto::Value;

use super::message::{Id, RpcError, answer, list, response};
use super::result;
use super::version::Era;
use crate::model::StreamPart;
use crate::protocol::{Asked, Exchange, Form, Last, Problem, Target, Told, sse};

/// See the module.
pub(super) struct CallExchange {
    id: Id,
    tool: String,
    /// JSON, an object.
    arguments: Bytes,
    /// Who wants to be told of parts.
    progress: Option<Id>,
    num_parts: u64,
    era: Era,
    /// The other answers of its batch.
    batch: Option<Vec<Vec<u8>>>,
}

impl CallExchange {
    pub(super) fn new(id: Id, tool: String, arguments: Bytes, progress: Option<Id>, era: Era) -> Self {
        Self { id, tool, arguments, progress, num_parts: 0, era, batch: None }
    }

    pub(super) fn id(&self) -> &Id {
        &self.id
    }

    /// The same as one of a batch, whose other answers are these: it is answered whole.
    pub(super) fn among(self, others: Vec<Vec<u8>>) -> Self {
        Self { progress: None, batch: Some(others), ..self }
    }

    /// The bytes of the answer.
    fn outcome(&self, outcome: Result<&Value, &Problem>) -> Result<Vec<u8>, RpcError> {
        match outcome {
            Ok(value) => Ok(result::of_tool(value, self.era)),
            // There is no such tool: that is no failure of one.
            Err(problem) if problem.status() == StatusCode::NOT_FOUND => Err(RpcError::of(problem)),
            Err(problem) => Ok(result::failed(&problem.text(), self.era)),
        }
    }

    fn whole(&mut self, outcome: Result<&Value, &Problem>) -> Response<Last> {
        let outcome = self.outcome(outcome);
        let bytes = answer(Some(&self.id), &outcome);
        let mut response = response(match self.batch.take() {
            Some(mut answers) => {
                answers.push(bytes);
                list(&answers)
            }
            None => bytes,
        });
        if let (Err(error), Era::Alone) = (&outcome, self.era) {
            *response.status_mut() = error.status();
        }
        response
    }
}

impl Exchange for CallExchange {
    fn target(&self) -> Option<Target<'_>> {
        Some(Target::Tool(&self.tool))
    }

    fn refuse(&mut self, problem: &Problem, _: Told<'_>) -> Option<Response<Last>> {
        Some(self.whole(Err(problem)))
    }

    fn ask(&self, plan: &Plan) -> Result<Asked, Problem> {
        let request = plan.parse_request(&self.arguments)?;
        let form = if self.progress.is_some() && plan.can_stream() { Form::Parts } else { Form::Whole };
        Ok(Asked { fields: request.fields, num_values: request.num_values, form })
    }

    fn asked(&mut self) {
        self.arguments = Bytes::new();
    }

    fn answer(&mut self, value: &Value, _: Told<'_>) -> Response<Last> {
        self.whole(Ok(value))
    }

    fn stream_headers(&self) -> HeaderMap {
        sse::headers()
    }

    fn part(&mut self, part: &StreamPart, bytes: &mut Vec<u8>) {
        self.num_parts += 1;
        let Some(token) = &self.progress else { return };
        let text = serde_json::Value::from(&*part.text);
        let message = format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{{\"progressToken\":{},\"progress\":{},\"message\":{text}}}}}",
            token.as_json(),
            self.num_parts
        );
        sse::event("message", message.as_bytes(), bytes);
    }

    fn keep_alive(&self) -> Bytes {
        sse::COMMENT
    }

    fn end(&mut self, outcome: Result<&Value, &Problem>, _: Told<'_>) -> Last {
        let mut bytes = Vec::new();
        sse::event("message", &answer(Some(&self.id), &self.outcome(outcome)), &mut bytes);
        bytes.into()
    }
}
