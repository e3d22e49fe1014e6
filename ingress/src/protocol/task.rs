//! What a request that names a model may name, and what it asks of it.

use millstream_pipelines::{Plan, Task};
use millstream_proto::Value;
use millstream_values::Map;

use super::{Asked, Form, Problem, Target};

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
            ("keep".into(), Value::Int(i64::try_from(keep).unwrap_or(i64::MAX))),
        ]);
        Self { task: Task::Rerank, model, fields }
    }

    /// The name that the request gives; empty where it gives none.
    pub(crate) fn model(&self) -> &str {
        self.model.as_deref().unwrap_or_default()
    }

    /// What is called.
    pub(crate) fn target(&self) -> Target<'_> {
        match &self.model {
            Some(name) => Target::Named { name, version: None },
            None => Target::Only(self.task),
        }
    }

    /// What is asked of it.
    ///
    /// # Errors
    /// The problem to answer with, where it does another task or does not take the fields.
    pub(crate) fn ask(&self, plan: &Plan) -> Result<Asked, Problem> {
        check_task(plan, self.task, self.model())?;
        let request = plan.check_request(self.fields.clone())?;
        Ok(Asked { fields: request.fields, num_values: request.num_values, form: Form::Whole })
    }

    /// Nobody asks any more.
    pub(crate) fn asked(&mut self) {
        self.fields = Map::new();
    }
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
