//! What a request that names a model may name, and what it asks of it.

use http::Response;
use millstream_pipelines::{Plan, Task};
use millstream_proto::Value;
use millstream_values::Map;

use super::cut::Cut;
use super::{Asked, Exchange, Form, Last, Problem, Target, Told};

/// A request to one deployment: by its full name, or as the only one that does the task.
pub(crate) struct TaskCall {
    task: Task,
    model: Option<String>,
    fields: Map,
}

impl TaskCall {
    /// Texts to vectors.
    pub(crate) fn embed(model: Option<String>, texts: Value) -> Self {
        Self { task: Task::Embed, model, fields: Map::from_iter([("texts".into(), texts)]) }
    }

    /// Texts to labels.
    pub(crate) fn classify(model: Option<String>, texts: Value) -> Self {
        Self { task: Task::Classify, model, fields: Map::from_iter([("texts".into(), texts)]) }
    }

    /// The `keep` documents that answer a query best.
    pub(crate) fn rerank(model: Option<String>, query: String, documents: Vec<String>, keep: u64) -> Self {
        let fields = Map::from_iter([
            ("query".into(), Value::from(query)),
            ("documents".into(), texts(documents)),
            ("keep".into(), whole(keep)),
        ]);
        Self { task: Task::Rerank, model, fields }
    }

    /// The same with texts cut in that way. What engines do by themselves need not be said.
    pub(crate) fn cut(mut self, cut: Cut) -> Self {
        if cut.truncate != Cut::END.truncate {
            self.fields.insert("truncate".into(), cut.truncate.into());
        }
        if let Some(max_tokens) = cut.max_tokens {
            self.fields.insert("max_tokens".into(), whole(max_tokens));
        }
        self
    }

    /// The same with so many tokens of each document at most.
    pub(crate) fn max_document_tokens(mut self, max: Option<u64>) -> Self {
        self.fields.extend(max.map(|max| ("max_document_tokens".into(), whole(max))));
        self
    }

    /// The same with the model's prompt of that name before each text.
    pub(crate) fn prompt_name(mut self, name: Option<String>) -> Self {
        self.fields.extend(name.map(|name| ("prompt_name".into(), name.into())));
        self
    }

    /// The same for texts of that kind, for which the model may have a prompt: `query`, `document`.
    pub(crate) fn input_type(mut self, kind: Option<&str>) -> Self {
        self.fields.extend(kind.map(|kind| ("input_type".into(), kind.into())));
        self
    }

    /// The same with all labels of the model.
    pub(crate) fn all_labels(mut self) -> Self {
        self.fields.insert("top_k".into(), Value::Int(i64::from(u32::MAX)));
        self
    }

    /// The name that the request gives; empty where it gives none.
    fn model(&self) -> &str {
        self.model.as_deref().unwrap_or_default()
    }

    /// The request, answered in that way.
    pub(crate) fn answered_by(self, answer: impl TaskAnswer + 'static) -> Box<dyn Exchange> {
        Box::new(TaskExchange { call: self, answer })
    }
}

/// How an API answers such a request.
pub(crate) trait TaskAnswer: Send + Sync {
    /// The whole answer; `model` is the name that the request gives, empty where it gives none.
    fn answer(&self, model: &str, value: &Value, told: Told<'_>) -> Response<Last>;
}

/// Such a request with its answer.
struct TaskExchange<A> {
    call: TaskCall,
    answer: A,
}

impl<A: TaskAnswer> Exchange for TaskExchange<A> {
    fn target(&self) -> Option<Target<'_>> {
        Some(match &self.call.model {
            Some(name) => Target::Named { name, version: None },
            None => Target::Only(std::slice::from_ref(&self.call.task)),
        })
    }

    fn ask(&self, plan: &Plan) -> Result<Asked, Problem> {
        let TaskCall { task, fields, .. } = &self.call;
        check_task(plan, *task, self.call.model())?;
        let request = plan.check_request(fields.clone())?;
        Ok(Asked { fields: request.fields, num_values: request.num_values, form: Form::Whole })
    }

    fn asked(&mut self) {
        self.call.fields = Map::new();
    }

    fn answer(&mut self, value: &Value, told: Told<'_>) -> Response<Last> {
        self.answer.answer(self.call.model(), value, told)
    }
}

/// A number as a value.
fn whole(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Texts as a value.
pub(crate) fn texts(texts: Vec<String>) -> Value {
    Value::list(texts.into_iter().map(Value::from))
}

/// A document in the answer of what ranks.
pub(crate) struct Ranked<'v> {
    /// Its place in the request.
    pub(crate) index: i64,
    pub(crate) score: f64,
    pub(crate) text: &'v Value,
}

/// The documents of such an answer, best first.
pub(crate) fn ranked(value: &Value) -> impl Iterator<Item = Ranked<'_>> {
    let list = |name: &str| value.get(name).and_then(Value::as_list).unwrap_or_default();
    let ranked = list("indices").iter().zip(list("scores")).zip(list("items"));
    ranked.map(|((index, score), text)| Ranked {
        index: index.as_int().unwrap_or_default(),
        score: score.as_f64().unwrap_or_default(),
        text,
    })
}

/// A label of a text.
pub(crate) struct Label<'v> {
    /// Its place among the model's labels.
    pub(crate) index: usize,
    pub(crate) label: &'v Value,
    pub(crate) score: f64,
}

/// The labels of each text in the answer of what classifies with all labels, likeliest first.
pub(crate) fn labels(value: &Value) -> Vec<Vec<Label<'_>>> {
    fn items(value: Option<&Value>) -> &[Value] {
        value.and_then(Value::as_list).unwrap_or_default()
    }
    let [labels, scores, indices] = ["labels", "scores", "indices"].map(|name| items(value.get(name)));
    let rows = labels.iter().zip(scores).zip(indices).map(|((labels, scores), indices)| {
        let all = items(Some(labels)).iter().zip(items(Some(scores))).zip(items(Some(indices)));
        let all = all.map(|((label, score), index)| Label {
            index: index.as_int().and_then(|index| usize::try_from(index).ok()).unwrap_or_default(),
            label,
            score: score.as_f64().unwrap_or_default(),
        });
        all.collect()
    });
    rows.collect()
}

/// Refuses what does not do the task.
pub(crate) fn check_task(plan: &Plan, wanted: Task, model: &str) -> Result<(), Problem> {
    match plan.task() {
        Some(task) if task == wanted => Ok(()),
        Some(task) => Err(Problem::bad_field(
            "/model",
            format!(
                "the model `{model}` does `{}`, and this route asks for `{}`; `GET /v1/models` lists all models",
                task.as_str(),
                wanted.as_str()
            ),
        )),
        None => Err(Problem::bad_field(
            "/model",
            format!(
                "`{model}` is a pipeline; call it at its own route, or name one of its deployments as `{model}/DEPLOYMENT`; one \
                 with `[chat]` in its file answers chats"
            ),
        )),
    }
}
