//! What a public API is to the edge: how its requests say what they call and with which fields, and what answers, parts and errors
//! look like in it. One file for each API. All the rest is done for all of them alike, by `http`: connections, keys, limits, deadlines,
//! revisions, admission, execution.

mod anthropic;
mod cohere;
mod cut;
mod fields;
pub(crate) mod grpc;
pub(crate) mod inference;
pub(crate) mod mcp;
mod messages;
pub(crate) mod openai;
mod pieces;
mod pipeline;
pub(crate) mod problem;
mod rerank;
pub(crate) mod run;
pub(crate) mod sagemaker;
pub(crate) mod sse;
mod task;
mod tei;
mod text;
mod tokenize;
mod tokens;
mod vectors;
mod wire;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Response};
use millstream_pipelines::{Plan, Task};
use millstream_proto::call::Priority;
use millstream_proto::endpoint::Endpoint;
use millstream_proto::{RequestId, Value};
use tokio_util::task::AbortOnDropHandle;

use self::pieces::Pieces;
pub(crate) use self::pipeline::{PipelineProtocol, accepts, json, json_bytes};
pub(crate) use self::problem::Problem;
use crate::model::{StreamPart, Tenant};
use crate::trace::Trace;

/// The APIs of an ingress.
pub(crate) const PROTOCOLS: &[&dyn Protocol] = &[
    &openai::Chat,
    &openai::Completions,
    &openai::Responses,
    &openai::InputTokens,
    &openai::Embeddings,
    &openai::Moderations,
    &anthropic::Messages,
    &cohere::Rerank,
    &cohere::Embed,
    &rerank::Rerank,
    &tei::Embed,
    &tei::Predict,
    &tei::Decode,
    &openai::Score,
    &openai::Classify,
    &tokenize::Tokenize,
    &openai::Detokenize,
    &sagemaker::Invocations,
    &mcp::Mcp,
    &inference::Inference,
    &openai::Models,
    &PipelineProtocol,
];

/// Those over gRPC whose calls have one request. They are asked for by their paths, which no other API has.
pub(crate) const GRPC_PROTOCOLS: &[&dyn Protocol] = &[&inference::MODEL_INFER, &run::RUN, &run::RUN_STREAM];

/// A public API over HTTP.
pub(crate) trait Protocol: Send + Sync {
    /// What it answers.
    fn endpoints(&self) -> &'static [Endpoint];

    /// Whether requests of that path are its own.
    fn takes(&self, path: &str) -> bool {
        self.endpoint_of(path).is_some()
    }

    /// What it answers at a path. One slash more at the end is put up with.
    fn endpoint_of(&self, path: &str) -> Option<&'static Endpoint> {
        let is_that = |endpoint: &&Endpoint| {
            path.strip_prefix(endpoint.path).is_some_and(|rest| rest.is_empty() || rest == "/")
        };
        self.endpoints().iter().find(is_that)
    }

    /// Whether a pipeline may have one of its paths as its route, and then is what answers there.
    fn yields(&self) -> bool {
        false
    }

    /// The methods that the path answers, as `allow` lists them.
    fn methods(&self, path: &str) -> &'static str {
        self.endpoint_of(path).map_or("POST", |endpoint| endpoint.methods)
    }

    /// What a request calls; `None` where its body says it.
    fn target<'r>(&self, _head: &'r Parts) -> Option<Target<'r>> {
        None
    }

    /// Whether its answers say what a request has spent.
    fn tells_usage(&self) -> bool {
        true
    }

    /// Whether any page that a browser shows may call it, where the ingress as such lets pages in.
    fn trusts_pages(&self) -> bool {
        true
    }

    /// Whether it reads a body such as the head announces. The request has been let in; its body has not been read.
    ///
    /// # Errors
    /// The problem to answer with.
    fn check_content(&self, head: &Parts) -> Result<(), Problem> {
        pipeline::check_json(&head.headers)
    }

    /// How many bytes a body has as its first bytes say it; 0 where they do not.
    fn length_of(&self) -> fn(&[u8]) -> usize {
        |_| 0
    }

    /// A request whose body is here.
    ///
    /// # Errors
    /// The problem to answer with.
    fn read(&self, head: &Parts, body: Bytes) -> Result<Box<dyn Exchange>, Problem>;

    /// The answer to a request that has none. The headers that a problem asks for are not its business.
    fn problem(&self, problem: &Problem, request_id: &RequestId) -> Response<Last>;
}

/// One request of an API, and its answer.
pub(crate) trait Exchange: Send + Sync {
    /// What its body calls, where the head does not say it.
    fn target(&self) -> Option<Target<'_>> {
        None
    }

    /// How its body wants it to be treated, where the headers say nothing.
    fn wishes(&self) -> Wishes<'_> {
        Wishes::default()
    }

    /// Told who asks, before it is asked for more; says how many bytes it holds beside its body.
    ///
    /// # Errors
    /// The problem to answer with.
    fn comes_from(&mut self, _client: Client<'_>) -> Result<usize, Problem> {
        Ok(0)
    }

    /// What it asks of a pipeline, or of a deployment. May be asked for more than one plan.
    ///
    /// # Errors
    /// The problem to answer with.
    fn ask(&self, plan: &Plan) -> Result<Asked, Problem>;

    /// The answer to a request that calls nothing, for those without a [`Self::target`]; `None` where its API has no such. It is
    /// told what may be called.
    fn own_answer(&mut self, _callable: &mut Callable<'_>) -> Option<Response<Last>> {
        None
    }

    /// The answer where there is none to give, if the request has a form for it; `None` leaves it to [`Protocol::problem`].
    fn refuse(&mut self, _problem: &Problem, _told: Told<'_>) -> Option<Response<Last>> {
        None
    }

    /// Nobody asks any more: what only that needs may go, as requests may run for long.
    fn asked(&mut self) {}

    /// Told which revision it runs on, for answers that say it.
    fn runs_on(&mut self, _revision: u64) {}

    /// The whole answer.
    fn answer(&mut self, value: &Value, told: Told<'_>) -> Response<Last>;

    /// What is told at once where the answer is made later ([`Form::Later`]). Its end is told to [`Exchange::end`]; dropping the task
    /// stops the work, so that whoever keeps it can.
    fn accept(&mut self, _task: AbortOnDropHandle<()>) -> Response<Last> {
        Response::new(Last::default())
    }

    /// The headers of an answer in parts. What follows is for those alone that ask for [`Form::Parts`].
    fn stream_headers(&self) -> HeaderMap {
        HeaderMap::new()
    }

    /// Appends a part of the answer.
    fn part(&mut self, _part: &StreamPart, _bytes: &mut Vec<u8>) {}

    /// What says, while there is nothing to say, that the connection lives.
    fn keep_alive(&self) -> Bytes {
        Bytes::new()
    }

    /// The end of an answer in parts: with the whole answer, or with an error.
    fn end(&mut self, _outcome: Result<&Value, &Problem>, _told: Told<'_>) -> Last {
        Last::default()
    }
}

/// What requests may call by name, each with the plan that serves.
pub(crate) type Callable<'t> = dyn Iterator<Item = (&'t str, &'t Plan)> + 't;

/// What a request calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target<'r> {
    /// The pipeline with this route.
    Route(&'r str),
    /// The pipeline of this name, or the deployment of this full name.
    Named {
        /// `rag`, or `rag/embedder`.
        name: &'r str,
        /// One of its revisions; `None` leaves it to the weights.
        version: Option<u64>,
    },
    /// The tool of this name.
    Tool(&'r str),
    /// The only deployment that does one of these tasks.
    Only(&'r [Task]),
    /// The only pipeline that has a route.
    OnlyRoute,
}

/// How a request is to be treated, as its body says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Wishes<'r> {
    /// Who goes first where requests wait; within what its key allows.
    pub priority: Option<Priority>,
    /// Requests with the same text are best served by the same replica.
    pub affinity: Option<&'r str>,
    /// Who of the tenant's users it is for: an id, which logs and traces may have.
    pub user: Option<&'r str>,
}

/// Who asks.
#[derive(Clone, Copy)]
pub(crate) struct Client<'e> {
    /// Whose the request is.
    pub tenant: Tenant,
    /// With which priority it waits.
    pub priority: Priority,
    /// What keeps responses for later requests, where somebody wants that of this ingress.
    pub responses: Option<&'e Arc<openai::ResponseStore>>,
}

/// What an answer may tell of its request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told<'r> {
    /// The request's id.
    pub request_id: &'r RequestId,
    /// What it has spent, where its API tells that.
    pub spent: Spent,
}

/// The tokens of all calls that were made for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Spent {
    /// Those that went into models.
    pub input_tokens: u64,
    /// Those that models made.
    pub output_tokens: u64,
}

impl Spent {
    /// By the calls that a trace has.
    pub(crate) fn of(trace: &Trace) -> Self {
        let [input_tokens, output_tokens] = trace.tokens();
        Self { input_tokens, output_tokens }
    }
}

/// What a request asks for.
pub(crate) struct Asked {
    /// The fields of the request, checked.
    pub fields: Value,
    /// How many values they have.
    pub num_values: usize,
    /// How it wants its answer.
    pub form: Form,
}

/// How an answer goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// At once.
    Whole,
    /// In parts, as they are made.
    Parts,
    /// Later: the client is told at once that it is taken, and asks again.
    Later,
}

/// The last bytes of an answer, which may be all of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Last {
    /// The bytes.
    pub bytes: Bytes,
    /// More of them, each sent as it lies.
    pub more: VecDeque<Bytes>,
    /// Headers that come after them.
    pub trailers: Option<Box<HeaderMap>>,
}

impl From<Vec<u8>> for Last {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<Bytes> for Last {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, ..Self::default() }
    }
}

impl From<Pieces> for Last {
    fn from(pieces: Pieces) -> Self {
        let (bytes, more) = pieces.finish();
        Self { bytes, more, trailers: None }
    }
}

impl Last {
    /// Takes the next bytes that are to go out.
    pub(crate) fn next_bytes(&mut self) -> Option<Bytes> {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes.is_empty() { self.more.pop_front() } else { Some(bytes) }
    }

    /// How many bytes there are.
    pub(crate) fn num_bytes(&self) -> usize {
        self.bytes.len() + self.more.iter().map(Bytes::len).sum::<usize>()
    }
}
