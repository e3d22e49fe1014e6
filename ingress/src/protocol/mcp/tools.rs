//! The tools that there are, as `tools/list` tells them.

use millstream_pipelines::{Plan, Task};
use serde_json::{Value as Json, json};

use super::message::RpcError;
use crate::protocol::Callable;
use crate::protocol::inference::LONE_OUTPUT;

/// Most tools of one answer.
const PAGE: usize = 100;
/// Longest name of a tool: two names of 63 characters, and what is between them.
const MAX_NAME_BYTES: usize = 128;
/// Between pipeline and deployment in the name of a tool: many models take only letters, digits, `_` and `-`.
const BETWEEN: &str = "__";

/// The names under which what has that name as a tool may be called. Names may have two underscores themselves: then there are several.
pub(crate) fn callable_names(tool: &str) -> impl Iterator<Item = String> {
    let tool = if tool.len() <= MAX_NAME_BYTES && tool.is_ascii() { tool } else { "" };
    let split = move |at: usize| {
        let (pipeline, rest) = (&tool[..at], &tool[at..]);
        Some(format!("{pipeline}/{}", rest.strip_prefix(BETWEEN)?))
    };
    std::iter::once(tool.to_owned()).chain((1..tool.len()).filter_map(split))
}

/// A page of the tools, by name.
///
/// # Errors
/// For a cursor that is not from here.
pub(super) fn page(callable: &mut Callable<'_>, cursor: Option<&str>) -> Result<Json, RpcError> {
    let is_name = |text: &str| {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        !text.is_empty() && text.len() <= MAX_NAME_BYTES && text.bytes().all(fits)
    };
    if cursor.is_some_and(|cursor| !is_name(cursor)) {
        return Err(RpcError::invalid_params("the `cursor` is not one that this server gave"));
    }
    let tools = callable.filter(|(_, plan)| plan.is_tool());
    let mut tools: Vec<_> = tools.map(|(name, plan)| (name.replace('/', BETWEEN), plan)).collect();
    tools.sort_by(|(a, plan), (b, other)| a.cmp(b).then(plan.task().is_some().cmp(&other.task().is_some())));
    // Of two with one name the pipeline is the one that is called.
    tools.dedup_by(|(a, _), (b, _)| a == b);
    let first = tools.partition_point(|(name, _)| cursor.is_some_and(|cursor| &**name <= cursor));
    let rest = &tools[first..];
    let shown: Vec<_> = rest.iter().take(PAGE).map(|(name, plan)| tool(name, plan)).collect();
    let mut page = json!({ "tools": shown });
    if rest.len() > PAGE {
        page["nextCursor"] = json!(rest[PAGE - 1].0);
    }
    Ok(page)
}

fn tool(name: &str, plan: &Plan) -> Json {
    let description = match (plan.description(), plan.task()) {
        (Some(description), _) => description.to_owned(),
        (None, None) => format!("Runs the pipeline `{}`.", plan.name()),
        (None, Some(Task::Embed)) => "Turns texts into vectors.".to_owned(),
        (None, Some(Task::Rerank)) => "Puts the documents that answer a query best first.".to_owned(),
        (None, Some(_)) => "Gives texts labels.".to_owned(),
    };
    json!({
        "name": name,
        "description": description,
        "inputSchema": plan.fields_schema(),
        "outputSchema": plan.answer_interface().json_schema(LONE_OUTPUT),
        // A model answers, and changes nothing.
        "annotations": { "readOnlyHint": true, "openWorldHint": false },
    })
}
