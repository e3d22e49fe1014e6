//! What a request that names a model may name.

use millstream_pipelines::{Plan, Task};

use super::Problem;

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
