//! The compiled form of a pipeline, which the ingress executes: everything that can be decided at deploy time is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_values::{Map, Value};

use crate::expr::{Expression, Template};
use crate::ops::Operator;
use crate::request::Schema;
use crate::types::Type;
use crate::{Cache, Capture, DeploymentSpec, FullName, Hedge, Name, Placement, RequestError, Rollout, Task};

mod breaking;
mod chat;
mod deployment;
mod graph;
mod interface;
mod serving;
mod tool;

pub use chat::Chat;
use graph::Graph;
pub use interface::{Interface, InterfaceField};
pub(crate) use serving::Serving;
pub(crate) use tool::About;

/// A checked pipeline, ready to run. Immutable; shared by all requests.
//
// The checker makes one of `PlanParts`: it gives each stage a dense index, compiles expressions and templates in
// topological order (the pre-pass `expr::references` tells which names a text mentions, so that the order is known
// before types are), with an `expr::Scope` that knows the stages' indices and types, and hands the parts to
// `Plan::new`, which derives the graph. The order of the stages in the list is free; that there is no cycle
// (`on_error = "use:…"` counts as an edge to the stage that it names) is the checker's to see to.
pub struct Plan {
    pub(crate) parts: PlanParts,
    pub(crate) graph: Graph,
    /// See [`Plan::task`].
    task: Option<Task>,
    /// See [`Plan::callable_name`].
    callable_name: Arc<str>,
    /// What a deployment called by itself answers; anything for a pipeline, whose `[response]` says it.
    answer: Type,
}

/// What a plan is made of.
pub(crate) struct PlanParts {
    pub(crate) name: Name,
    pub(crate) serving: Serving,
    /// What `[request]` declares; empty without it.
    pub(crate) request: Schema,
    pub(crate) deployments: BTreeMap<Name, DeploymentSpec>,
    /// The deployments that stages call; [`Work::Call`] indexes it.
    pub(crate) targets: Vec<FullName>,
    pub(crate) timeout: Option<Duration>,
    /// Most bytes of a request's body.
    pub(crate) max_body: Option<u64>,
    pub(crate) placement: Placement,
    pub(crate) rollout: Rollout,
    pub(crate) capture: Option<Capture>,
    /// A stage's place in this list is its index everywhere.
    pub(crate) stages: Vec<StagePlan>,
    pub(crate) response: Response,
}

/// What a run answers.
#[derive(Debug)]
pub(crate) enum Response {
    /// A map, field by field; empty without `[response]`.
    Fields(Vec<(Arc<str>, Expression)>),
    /// The value of the stage of that index, as it is.
    Stage(usize),
}

/// One step of the DAG.
#[derive(Debug)]
pub(crate) struct StagePlan {
    pub(crate) name: Arc<str>,
    pub(crate) work: Work,
    pub(crate) inputs: StageInputs,
    pub(crate) when: Option<Expression>,
    /// The list of `for_each = "d in LIST"`; `d` is [`crate::expr::Env::item`], see [`crate::expr::Scope::with_item`].
    pub(crate) for_each: Option<Expression>,
    pub(crate) rules: CallRules,
    pub(crate) on_error: OnError,
}

/// How a stage's calls are made.
#[derive(Debug, Clone, Default)]
pub(crate) struct CallRules {
    /// Of each call.
    pub(crate) timeout: Option<Duration>,
    /// Most calls of `for_each` under way at a time.
    pub(crate) max_parallel: Option<u32>,
    /// How often a failed call that may have run is made again, where the file says it.
    pub(crate) retries: Option<u32>,
    pub(crate) hedge: Option<Hedge>,
    /// Whether and how long answers are kept; for a stage that calls a deployment.
    pub(crate) cache: Option<Cache>,
}

/// What a stage does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Calls a deployment.
    Call {
        /// Index into [`PlanParts::targets`].
        target: usize,
        /// Whether the answer's `text` may come in parts: task generate, or a deployment that another pipeline declares.
        text: TextAnswer,
    },
    /// Computes here.
    Operator(Operator),
}

/// Whether a call's answer has a `text` that can stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextAnswer {
    /// It may.
    Streams,
    /// It has none, or it comes in one piece.
    Whole,
}

impl TextAnswer {
    /// Of calls to that deployment.
    pub(crate) fn of(spec: &DeploymentSpec) -> Self {
        if spec.task == Task::Generate { Self::Streams } else { Self::Whole }
    }
}

/// What a failed stage means for the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The run fails.
    Fail,
    /// The stage has the value none.
    Skip,
    /// The stage has the value of the stage of that index.
    Use(usize),
}

/// The inputs of a stage.
#[derive(Debug)]
pub(crate) enum StageInputs {
    /// One by one; `prompt` and `template` are inputs of that name.
    Named(Vec<Input>),
    /// The fields of the request, as they are.
    Request,
}

impl StageInputs {
    /// Those that are made one by one.
    pub(crate) fn named(&self) -> &[Input] {
        match self {
            Self::Named(inputs) => inputs,
            Self::Request => &[],
        }
    }
}

/// One input of a stage.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) name: Arc<str>,
    pub(crate) value: InputValue,
    /// Whether it must have a value; one that need not is left out when it is none.
    pub(crate) required: bool,
}

/// Where an input comes from.
#[derive(Debug)]
pub(crate) enum InputValue {
    /// An expression or a literal.
    Expression(Expression),
    /// A text with holes.
    Template(Template),
}

impl Plan {
    /// Makes a plan of checked parts.
    pub(crate) fn new(parts: PlanParts) -> Self {
        let graph = Graph::of(&parts);
        let callable_name = parts.name.as_str().into();
        Self { parts, graph, task: None, callable_name, answer: Type::Any }
    }

    /// What requests call it: the pipeline's name, or the full name of a deployment that is called by itself.
    #[must_use]
    pub fn callable_name(&self) -> &Arc<str> {
        &self.callable_name
    }

    /// How many of its stages may call a generator of text.
    #[must_use]
    pub fn num_generating_stages(&self) -> usize {
        let generates =
            |stage: &&StagePlan| matches!(stage.work, Work::Call { text: TextAnswer::Streams, .. });
        self.parts.stages.iter().filter(generates).count()
    }

    /// What it does, where it is a deployment called by itself; `None` for a pipeline.
    #[must_use]
    pub fn task(&self) -> Option<Task> {
        self.task
    }

    /// The pipeline's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.parts.name
    }

    /// Its stages in the file's order: their names, and what the run makes of their failures.
    pub fn stages(&self) -> impl ExactSizeIterator<Item = (&str, OnError)> {
        self.parts.stages.iter().map(|stage| (&*stage.name, stage.on_error))
    }

    /// What the stage of that index does, and what it waits for.
    #[must_use]
    pub fn outline(&self, stage: usize) -> StageOutline {
        let plan = &self.parts.stages[stage];
        let (target, operator) = match plan.work {
            Work::Call { target, .. } => (Some(target), None),
            Work::Operator(operator) => (None, Some(operator.as_str())),
        };
        let waits = |(_, dependents): &(usize, &Vec<usize>)| dependents.contains(&stage);
        StageOutline {
            target,
            operator,
            after: self.graph.dependents.iter().enumerate().filter(waits).map(|(index, _)| index).collect(),
            is_conditional: plan.when.is_some(),
            is_for_each: plan.for_each.is_some(),
        }
    }

    /// The stages that the response is made of.
    #[must_use]
    pub fn response_stages(&self) -> &[usize] {
        &self.graph.response
    }

    /// The deployments that it declares.
    #[must_use]
    pub fn deployments(&self) -> &BTreeMap<Name, DeploymentSpec> {
        &self.parts.deployments
    }

    /// The deployments that its stages call, its own and those of other pipelines; [`crate::StageCall::target`]
    /// indexes it.
    #[must_use]
    pub fn targets(&self) -> &[FullName] {
        &self.parts.targets
    }

    /// The whole request's deadline, when the file sets one (`timeout = "10s"`).
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.parts.timeout
    }

    /// Most bytes of a request's body; `None` for what the ingress takes of any.
    #[must_use]
    pub fn max_body(&self) -> Option<u64> {
        self.parts.max_body
    }

    /// How its replicas are placed (`[placement]`).
    #[must_use]
    pub fn placement(&self) -> Placement {
        self.parts.placement
    }

    /// How a revision with this plan takes over.
    #[must_use]
    pub fn rollout(&self) -> &Rollout {
        &self.parts.rollout
    }

    /// Which requests are captured (`[capture]`); `None` for none.
    #[must_use]
    pub fn capture(&self) -> Option<&Capture> {
        self.parts.capture.as_ref()
    }

    /// The stages whose answers are kept for later requests; [`crate::StageCall::cache`] indexes it.
    #[must_use]
    pub fn caches(&self) -> &[CachedStage] {
        &self.graph.caches
    }

    /// Whether the response has a field that can stream.
    #[must_use]
    pub fn can_stream(&self) -> bool {
        self.graph.streams.iter().any(Option::is_some)
    }

    /// Validates a JSON body against `[request]` and fills in defaults, without building a JSON tree in between.
    ///
    /// # Errors
    /// [`RequestError::Malformed`] for what is not JSON, is nested too deep or has a duplicate key;
    /// [`RequestError::Invalid`] with every fault against the schema.
    pub fn parse_request(&self, body: &[u8]) -> Result<Request, RequestError> {
        self.parts.request.parse(body)
    }

    /// What a request's JSON body is to be, as JSON Schema.
    #[must_use]
    pub fn request_schema(&self) -> serde_json::Value {
        self.parts.request.json_schema()
    }

    /// The fields of a request, as JSON Schema: those of the body without what says how to answer.
    #[must_use]
    pub fn fields_schema(&self) -> serde_json::Value {
        self.parts.request.fields_schema()
    }

    /// The names of the fields of `[response]`, in the order of the file; none for a deployment called by itself.
    pub fn response_names(&self) -> impl Iterator<Item = &str> {
        let fields = match &self.parts.response {
            Response::Fields(fields) => fields.as_slice(),
            Response::Stage(_) => &[],
        };
        fields.iter().map(|(name, _)| &**name)
    }

    /// Checks fields that were made from something other than a JSON body, and fills in defaults: the rules of
    /// [`parse_request`](Self::parse_request) for values.
    ///
    /// # Errors
    /// [`RequestError::Invalid`] with every fault.
    pub fn check_request(&self, fields: Map) -> Result<Request, RequestError> {
        self.parts.request.check(fields)
    }

    /// Targets that every request calls first and needs: where one of them has no room, reading a body is in vain.
    #[must_use]
    pub fn first_targets(&self) -> &[usize] {
        &self.graph.first_targets
    }

    /// A JSON body that shows what the fields without a default look like: their `example`, else something of their
    /// type.
    #[must_use]
    pub fn example_body(&self) -> String {
        self.parts.request.example()
    }
}

/// What a stage does, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageOutline {
    /// What it calls: an index into [`Plan::targets`].
    pub target: Option<usize>,
    /// What it computes at the ingress.
    pub operator: Option<&'static str>,
    /// The stages that it waits for.
    pub after: Vec<usize>,
    /// Whether it runs only under a condition (`when`).
    pub is_conditional: bool,
    /// Whether it runs once for each element of a list (`for_each`).
    pub is_for_each: bool,
}

/// A stage whose answers are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedStage {
    /// Its name.
    pub stage: Arc<str>,
    /// What it calls: an index into [`Plan::targets`].
    pub target: usize,
    /// How long, how many and for whom.
    pub cache: Cache,
}

/// A validated request body.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// A map of all fields of `[request]`.
    pub fields: Value,
    /// Whether the body asked for a stream (`"stream": true`).
    pub stream: bool,
    /// How many values the fields have, those in lists and maps counted.
    pub num_values: usize,
}
