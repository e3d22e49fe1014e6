//! What a request calls, of what its key may.

use std::sync::Arc;

use millstream_pipelines::Task;

use super::access::may_call;
use super::request_end::RequestEnd;
use crate::keys::Key;
use crate::protocol::problem::shown;
use crate::protocol::{Problem, Target, mcp};
use crate::routes::{Route, RouteTable};

/// What a request calls.
pub(super) struct Called {
    pub(super) route: Arc<Route>,
    /// The revision that it names beside the pipeline.
    pub(super) version: Option<u64>,
}

/// Finds what is called; the request counts as one for it. What the key may not call is not there for it.
///
/// # Errors
/// 404, and 400 where several could be meant.
pub(super) fn called(
    table: &RouteTable,
    target: Target<'_>,
    key: Option<&Arc<Key>>,
    end: &RequestEnd,
) -> Result<Called, Problem> {
    let (route, version) = match target {
        // `/rag/` is `/rag`: no route ends with a slash.
        Target::Route(path) => {
            let plain = || table.by_path.get(path.strip_suffix('/')?);
            (table.by_path.get(path).or_else(plain), None)
        }
        Target::Named { name, version } => (table.named(name), version),
        Target::Tool(name) => (tool(table, name), None),
        Target::Only(tasks) => (Some(only(table, tasks, key)?), None),
        Target::OnlyRoute => (Some(only_route(table, key)?), None),
    };
    let route = route.filter(|route| may_call(key, route)).ok_or_else(|| nothing_there(target))?.clone();
    end.is_for(route.clone());
    Ok(Called { route, version })
}

/// The pipeline or deployment that is a tool of that name.
fn tool<'t>(table: &'t RouteTable, name: &str) -> Option<&'t Arc<Route>> {
    let mut found = mcp::callable_names(name).filter_map(|name| table.callable.get(&*name));
    found.find(|route| route.variants[0].plan.is_tool())
}

/// The only deployment that does one of these tasks.
fn only<'t>(
    table: &'t RouteTable,
    tasks: &[Task],
    key: Option<&Arc<Key>>,
) -> Result<&'t Arc<Route>, Problem> {
    let does = |route: &Route| route.variants[0].plan.task().is_some_and(|task| tasks.contains(&task));
    let does = |route: &Route| does(route) && may_call(key, route);
    let mut found: Vec<_> = table.callable.iter().filter(|(_, route)| does(route)).collect();
    match &found[..] {
        [(_, route)] => Ok(route),
        [] => Err(nothing_there(Target::Only(tasks))),
        _ => {
            found.sort_unstable_by_key(|(name, _)| *name);
            let names: Vec<_> = found.iter().take(20).map(|(name, _)| format!("`{name}`")).collect();
            let text = format!(
                "is missing, and there are several models that could be meant; give one of {}",
                names.join(", ")
            );
            Err(Problem::bad_field("/model", text))
        }
    }
}

/// The only pipeline that has a route.
fn only_route<'t>(table: &'t RouteTable, key: Option<&Arc<Key>>) -> Result<&'t Arc<Route>, Problem> {
    if let Some(route) = table.only_route() {
        return Ok(route);
    }
    let mut routes: Vec<_> = table.by_path.iter().filter(|(_, route)| may_call(key, route)).collect();
    if let [(_, route)] = routes[..] {
        return Ok(route);
    }
    routes.sort_unstable_by_key(|(path, _)| *path);
    let paths: Vec<_> =
        routes.into_iter().map(|(path, _)| path).take(20).map(|path| format!("`{path}`")).collect();
    Err(Problem::not_found(match &paths[..] {
        [] => "no pipeline has a route".to_owned(),
        paths => format!("several pipelines could be meant; call one at its own route: {}", paths.join(", ")),
    }))
}

fn nothing_there(target: Target<'_>) -> Problem {
    Problem::not_found(match target {
        Target::Route(path) => {
            format!("no pipeline has the route `{}`; `GET /-/routes` lists those there are", shown(path))
        }
        Target::Named { name, .. } => format!(
            "no pipeline or deployment has the name `{}`; `GET /-/routes` lists those there are",
            shown(name)
        ),
        Target::Tool(name) => {
            format!("there is no tool `{}`; `tools/list` lists those there are", shown(name))
        }
        Target::Only(tasks) => {
            let tasks: Vec<_> = tasks.iter().map(|task| format!("`{}`", task.as_str())).collect();
            format!("there is no deployment that does {}", tasks.join(" or "))
        }
        Target::OnlyRoute => "no pipeline has a route".to_owned(),
    })
}
