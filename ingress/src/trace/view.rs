//! A trace as people and other systems see it.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use http::Method;
use millstream_pipelines::{DeploymentSpec, Task};
use millstream_proto::RequestId;
use millstream_proto::call::Timing;
use millstream_proto::trace::{RequestTrace, SpanKind, SpanLink, TraceKept, TraceSpan, TracedRequest};
use serde_json::{Value, json};

use super::record::{Trace, TracedCall, TracedTry};
use crate::routes::{Pipeline, Route};

/// A request that has ended.
pub(crate) struct Finished<'a> {
    pub(crate) request_id: &'a RequestId,
    pub(crate) started: Instant,
    pub(crate) elapsed: Duration,
    pub(crate) status: u16,
    /// The HTTP method.
    pub(crate) method: &'a Method,
    /// The tenant's user, as an id.
    pub(crate) user: &'a OnceLock<Box<str>>,
    pub(crate) route: Option<&'a Route>,
}

impl Finished<'_> {
    /// What it is counted for, whatever revision it ran on.
    pub(super) fn pipeline(&self) -> Option<&Pipeline> {
        self.route.map(|route| &*route.variants[0])
    }
}

/// Provider of the GenAI conventions.
const PROVIDER: &str = "millstream";

impl Trace {
    /// The trace's id as other systems write it.
    pub(crate) fn trace_id(&self) -> String {
        hex(&self.trace_id)
    }

    /// The whole trace; `at_ms` is when the request came.
    pub(super) fn view(
        &self,
        ended: &Finished<'_>,
        why: TraceKept,
        at_ms: f64,
        ingress: &str,
    ) -> RequestTrace {
        let name = ended.pipeline().map_or("", |pipeline| pipeline.plan.name().as_str());
        let mut calls = self.take_calls();
        calls.sort_by_key(|call| (call.began, call.number));
        let pipeline = ended.route.and_then(|route| self.pipeline_of(route));
        let revision = pipeline.map_or(0, |pipeline| pipeline.revision);
        let mut spans = vec![self.root(ended, revision)];
        for call in &calls {
            self.push(call, pipeline, ended.started, &mut spans);
        }
        // Calls that ran at the same time.
        spans[1..].sort_by_key(|span| span.start_us);
        RequestTrace {
            request: TracedRequest {
                request_id: ended.request_id.to_string(),
                trace_id: self.trace_id(),
                pipeline: name.to_owned(),
                revision,
                at_ms,
                duration_ms: ended.elapsed.as_secs_f64() * 1e3,
                status: ended.status,
                ingress: ingress.to_owned(),
                kept: why,
            },
            parent_id: self.parent.as_ref().map(|parent| hex(&parent.parent_id)),
            spans,
        }
    }

    /// The request's own span; `revision` is the one that it runs on, 0 before one is chosen.
    fn root(&self, ended: &Finished<'_>, revision: u64) -> TraceSpan {
        let route = ended.pipeline().and_then(|pipeline| pipeline.plan.route()).unwrap_or_default();
        let mut attributes = BTreeMap::from([
            ("http.request.method".to_owned(), json!(ended.method.as_str())),
            ("http.response.status_code".to_owned(), json!(ended.status)),
            ("millstream.request.id".to_owned(), json!(ended.request_id.as_str())),
        ]);
        attributes.extend(ended.user.get().map(|user| ("enduser.pseudo.id".to_owned(), json!(user))));
        if let Some(pipeline) = ended.pipeline() {
            attributes.extend([
                ("http.route".to_owned(), json!(route)),
                ("millstream.pipeline".to_owned(), json!(pipeline.plan.name().as_str())),
                ("millstream.revision".to_owned(), json!(revision)),
                ("gen_ai.operation.name".to_owned(), json!("invoke_workflow")),
                ("gen_ai.provider.name".to_owned(), json!(PROVIDER)),
            ]);
        }
        TraceSpan {
            span_id: self.hex_id(0),
            parent_id: self.parent.as_ref().map(|parent| hex(&parent.parent_id)),
            name: format!("{} {route}", ended.method).trim_end().to_owned(),
            kind: SpanKind::Request,
            start_us: 0,
            duration_us: micros(ended.elapsed),
            attributes,
            links: Vec::new(),
            error: (ended.status >= 500).then(|| ended.status.to_string()),
        }
    }

    fn push(
        &self,
        call: &TracedCall,
        pipeline: Option<&Pipeline>,
        request: Instant,
        spans: &mut Vec<TraceSpan>,
    ) {
        let ended = call.ended.unwrap_or(call.began);
        let of = |[id, parent]: [u32; 2], name: String, kind, [start, end]: [Instant; 2]| TraceSpan {
            span_id: self.hex_id(id),
            parent_id: Some(self.hex_id(parent)),
            name,
            kind,
            start_us: micros(start.saturating_duration_since(request)),
            duration_us: micros(end.saturating_duration_since(start)),
            attributes: BTreeMap::new(),
            links: Vec::new(),
            error: None,
        };
        let (name, attributes) = pipeline.map(|pipeline| stage(call, pipeline)).unwrap_or_default();
        let stage = of([call.span(), 0], name, SpanKind::Stage, [call.began, ended]);
        spans.push(TraceSpan { attributes, error: call.error.map(|class| class.to_string()), ..stage });
        for (index, tried) in call.tries().iter().enumerate() {
            let TracedTry { began, placed, replica, attempt, .. } = tried;
            let [queue, call_span] = call.spans_of(index);
            let queue = of([queue, call.span()], "queue".to_owned(), SpanKind::Queue, [*began, *placed]);
            let error = tried.error.map(|class| class.to_string());
            let Some(replica) = replica else {
                spans.push(TraceSpan { error, ..queue });
                continue;
            };
            let attributes = BTreeMap::from([
                ("millstream.replica".to_owned(), json!(replica.as_str())),
                ("millstream.attempt".to_owned(), json!(attempt + 1)),
            ]);
            let times = [*placed, tried.ended.unwrap_or(ended)];
            let sent = of([call_span, call.span()], format!("call {replica}"), SpanKind::Try, times);
            let sent = TraceSpan { attributes, error, ..sent };
            let in_replica = tried.reported.as_ref().map(|timing| self.in_replica(&sent, timing));
            spans.extend([queue, sent]);
            spans.extend(in_replica.into_iter().flatten());
        }
    }

    /// What a replica says of its time, within the call to it: it has no clock in common with the ingress, so that what it says
    /// counts from the end of the call backwards, half of the rest on either side.
    fn in_replica(&self, call: &TraceSpan, timing: &Timing) -> [TraceSpan; 2] {
        let (waited, ran) = (micros(timing.waited), micros(timing.ran));
        let way = call.duration_us.saturating_sub(waited + ran) / 2;
        let part = |name: &str, kind, start_us, duration_us, mark: u64| TraceSpan {
            span_id: format!("{:016x}", u64::from_str_radix(&call.span_id, 16).unwrap_or(1) ^ mark),
            parent_id: Some(call.span_id.clone()),
            name: name.to_owned(),
            kind,
            start_us,
            duration_us,
            attributes: (timing.batch_size > 0)
                .then(|| ("millstream.batch.size".to_owned(), json!(timing.batch_size)))
                .into_iter()
                .collect(),
            links: Vec::new(),
            error: None,
        };
        let start = call.start_us + way;
        let mates = timing.mates.iter().flat_map(|mates| mates.iter());
        let links = mates.map(|mate| SpanLink { trace_id: hex(&mate.trace_id), span_id: hex(&mate.span_id) });
        let mut run = part("run", SpanKind::Run, start + waited, ran, 1 << 62);
        for (key, tokens) in [("input", timing.input_tokens), ("output", timing.output_tokens)] {
            if tokens > 0 {
                run.attributes.insert(format!("gen_ai.usage.{key}_tokens"), json!(tokens));
            }
        }
        [
            part("batch", SpanKind::Batch, start, waited, 1 << 63),
            TraceSpan { links: links.filter(|link| link.span_id != call.span_id).collect(), ..run },
        ]
    }

    fn hex_id(&self, span: u32) -> String {
        hex(&self.span_id(span).to_be_bytes())
    }
}

/// The name of a call's stage, and what is known of it.
fn stage(call: &TracedCall, pipeline: &Pipeline) -> (String, BTreeMap<String, Value>) {
    let name = pipeline.plan.stages().nth(call.stage).map_or("", |(name, _)| name);
    let deployment = pipeline.targets[call.target].name();
    let is_own = *pipeline.plan.name() == deployment.pipeline;
    let spec = pipeline.plan.deployments().get(&deployment.deployment).filter(|_| is_own);
    let own = [("millstream.stage", json!(name)), ("millstream.deployment", json!(deployment.to_string()))];
    let all = own.into_iter().chain(spec.into_iter().flat_map(|spec| gen_ai(spec)));
    (name.to_owned(), all.map(|(key, value)| (key.to_owned(), value)).collect())
}

/// What the GenAI conventions of OpenTelemetry ask for of a deployment. `rerank` is not among their operations, and is what
/// other gateways write.
fn gen_ai(spec: &DeploymentSpec) -> Vec<(&'static str, Value)> {
    let operation = match spec.task {
        Task::Embed => "embeddings",
        Task::Rerank => "rerank",
        Task::Generate => "text_completion",
        _ => return Vec::new(),
    };
    let mut attributes =
        vec![("gen_ai.operation.name", json!(operation)), ("gen_ai.provider.name", json!(PROVIDER))];
    attributes.extend(spec.model.iter().map(|model| ("gen_ai.request.model", json!(model.to_string()))));
    attributes
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |four_bits: u8| char::from(DIGITS[usize::from(four_bits & 0xf)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}
