//! The file as a whole: its name, route and deadline, then its parts, and what must hold between them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::capture::{self, Types};
use super::limits::{MAX_BODY_BOUNDS, MAX_TIMEOUT, MIN_TIMEOUT, NAME_HELP};
use super::stage::{self, Deployments};
use super::{MAX_ENTRIES, about, chat, deployment, request, rollout, serving, value};
use crate::expr::{Expression, Scope};
use crate::fault::FaultSink;
use crate::plan::{About, PlanParts, Response, Serving};
use crate::raw::{Raw, RawTable, Reader};
use crate::types::{Signatures, Type};
use crate::{DeploymentSpec, Name, Placement};

/// Checks a file. What it gives is whole only when no fault was recorded.
pub(super) fn check(file: &RawTable, signatures: &Signatures, faults: &mut FaultSink<'_>) -> PlanParts {
    let mut table = Reader::file(file);
    let name = name(&mut table, faults);
    let route = route(&mut table, faults);
    let about = about::of_pipeline(&mut table, faults);
    let timeout = table.duration("timeout", MIN_TIMEOUT..=MAX_TIMEOUT, faults);
    let max_body = table.bytes("max_body", MAX_BODY_BOUNDS, faults);
    let request = request::schema(section(&mut table, "request", faults), faults);
    let (deployments, tools) = deployments(&mut table, &name, faults);
    let deployments = Deployments { signatures: signatures.clone(), ..deployments };
    let around = serving::Around { file, pipeline: &name, deployments: &deployments.specs };
    let aliases = serving::aliases(&mut table, &around, faults);
    let placement = placement(&mut table, faults);
    let rollout = rollout::rollout(&mut table, faults);
    let capture = table.table("capture", faults);
    let chat_table = section(&mut table, "chat", faults);
    let stage_table = section(&mut table, "stages", faults);
    let response_table = section(&mut table, "response", faults);
    table.finish(faults);

    let response_raws: Vec<&Raw> =
        response_table.iter().flat_map(|t| &t.entries).map(|(_, raw)| raw).collect();
    let stages = stage::check(stage_table, &request.ty(), &deployments, &response_raws, faults);
    let response = response(response_table, &stages.scope, faults);
    let types = Types { request: request.ty(), answer: answer_type(response_table, &response) };
    let around = chat::Around { request: &request, answer: &types.answer };
    let chat = file.get("chat").zip(chat_table);
    let chat = chat.and_then(|((name, _), table)| chat::chat(name, table, &around, faults));
    let capture = capture::capture(capture, &types, faults);
    let has_stages = stage_table.is_some_and(|stages| !stages.entries.is_empty());
    belong_together(file, has_stages, faults);
    PlanParts {
        name,
        serving: Serving { route, chat, aliases, about, deployments: tools },
        request,
        deployments: deployments.specs,
        targets: stages.targets,
        timeout,
        max_body,
        placement,
        rollout,
        capture,
        stages: stages.plans,
        response: Response::Fields(response),
    }
}

/// One of the file's tables of named entries.
fn section<'a>(
    table: &mut Reader<'a>,
    key: &'static str,
    faults: &mut FaultSink<'_>,
) -> Option<&'a RawTable> {
    let (name, raw) = table.raw(key)?;
    let Some(entries) = raw.as_table() else {
        table.wrong_kind(key, raw, "a table", faults);
        return None;
    };
    if entries.entries.len() > MAX_ENTRIES {
        let message = format!("`{key}` has {} entries, more than {MAX_ENTRIES}", entries.entries.len());
        faults.push(name.span.clone(), message, "make several pipelines of it");
        return None;
    }
    Some(entries)
}

fn name(table: &mut Reader<'_>, faults: &mut FaultSink<'_>) -> Name {
    let placeholder = || "unnamed".parse().expect("`unnamed` is a name");
    if table.raw("name").is_none() {
        faults.push(0..0, "the pipeline has no `name`", "begin the file with `name = \"my-pipeline\"`");
        return placeholder();
    }
    let Some((text, raw)) = table.text("name", faults) else { return placeholder() };
    text.parse().unwrap_or_else(|_| {
        faults.push(raw.span.clone(), format!("`{text}` is not a name for a pipeline"), NAME_HELP);
        placeholder()
    })
}

fn route(table: &mut Reader<'_>, faults: &mut FaultSink<'_>) -> Option<String> {
    let (text, raw) = table.text("route", faults)?;
    if let Some(help) = route_fault(text) {
        faults.push(raw.span.clone(), format!("`{text}` cannot be a route"), help);
    }
    Some(text.to_owned())
}

/// What is wrong with a route.
fn route_fault(route: &str) -> Option<&'static str> {
    const TAKEN: [&str; 4] = ["/openapi.json", "/docs", "/metrics", "/"];
    let Some(rest) = route.strip_prefix('/') else { return Some("begin it with `/`: `\"/rag\"`") };
    if route.len() > 200 {
        return Some("use at most 200 characters");
    }
    if TAKEN.contains(&route) {
        return Some("the server itself answers there; use another, such as `\"/rag\"`");
    }
    let segments: Vec<&str> = rest.split('/').collect();
    let plain = |segment: &&str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
        !segment.is_empty() && *segment != "." && *segment != ".." && segment.bytes().all(allowed)
    };
    if !segments.iter().all(plain) {
        return Some(
            "use letters, digits, `-`, `_`, `.` and `~` between single slashes, and no slash at the end",
        );
    }
    if matches!(segments[0], "v1" | "v2" | "-") {
        return Some("routes under `/v1`, `/v2` and `/-` belong to the server's own protocols");
    }
    if matches!(segments.last(), Some(&("openapi.json" | "docs"))) {
        return Some("`openapi.json` and `docs` under a route are where its description is served");
    }
    None
}

/// The deployments, and what their tables say of them.
fn deployments(
    table: &mut Reader<'_>,
    pipeline: &Name,
    faults: &mut FaultSink<'_>,
) -> (Deployments, BTreeMap<Name, About>) {
    let mut specs: BTreeMap<Name, DeploymentSpec> = BTreeMap::new();
    let mut tools = BTreeMap::new();
    let mut names = Vec::new();
    for (key, raw) in section(table, "deployments", faults).iter().flat_map(|t| &t.entries) {
        names.push(key.text.clone());
        let Ok(name) = key.text.parse::<Name>() else {
            faults.push(
                key.span.clone(),
                format!("`{}` is not a name for a deployment", key.text),
                NAME_HELP,
            );
            continue;
        };
        if let Some((spec, about)) = deployment::deployment(&name, key, raw, faults) {
            if about != About::default() {
                tools.insert(name.clone(), about);
            }
            specs.insert(name, spec);
        }
    }
    (Deployments { pipeline: pipeline.clone(), specs, names, signatures: Signatures::new() }, tools)
}

/// How replicas are placed; without the table each by itself.
fn placement(table: &mut Reader<'_>, faults: &mut FaultSink<'_>) -> Placement {
    let Some(mut keys) = table.table("placement", faults) else { return Placement::default() };
    let all_or_nothing = keys.bool("all_or_nothing", faults).unwrap_or_default();
    keys.finish(faults);
    Placement { all_or_nothing }
}

fn response(
    table: Option<&RawTable>,
    scope: &Scope,
    faults: &mut FaultSink<'_>,
) -> Vec<(Arc<str>, Expression)> {
    let mut found = Vec::new();
    for (key, raw) in table.iter().flat_map(|t| &t.entries) {
        if key.text.parse::<Name>().is_err() {
            faults.push(key.span.clone(), format!("`{}` is not a name for a field", key.text), NAME_HELP);
        }
        let label = format!("response `{}`", key.text);
        if let Some(expression) = value::expression(raw, &label, scope, faults) {
            found.push((Arc::from(key.text.as_str()), expression));
        }
    }
    found
}

/// The type of the answer. Where a field of it has a fault, it is not known.
fn answer_type(table: Option<&RawTable>, response: &[(Arc<str>, Expression)]) -> Type {
    if table.is_some_and(|table| table.entries.len() != response.len()) {
        return Type::Any;
    }
    Type::map(response.iter().map(|(name, value)| (Arc::clone(name), value.ty().clone())))
}

/// Route, stages and response come together; a file without them holds deployments.
fn belong_together(file: &RawTable, has_stages: bool, faults: &mut FaultSink<'_>) {
    let place = |key: &str| file.get(key).map(|(key, _)| key.span.clone());
    let response_is_empty =
        file.get("response").is_some_and(|(_, raw)| raw.as_table().is_some_and(|t| t.entries.is_empty()));
    if let Some(span) = place("response").filter(|_| response_is_empty) {
        faults.push(span, "`[response]` is empty", "map at least one field: `answer = \"answer.text\"`");
    }
    match (place("route"), place("response")) {
        (Some(route), None) => {
            let help = "add `[response]` with the fields to answer, or remove the route";
            faults.push(route, "the pipeline has a `route` but no `[response]`", help);
        }
        (None, Some(response)) => {
            let help = "add `route = \"/…\"` at the top, or remove `[response]`";
            faults.push(response, "the pipeline has a `[response]` but no `route`", help);
        }
        (None, None) if has_stages => {
            let span = place("stages").unwrap_or(0..0);
            let help = "add `route = \"/…\"` at the top and `[response]` with the fields to answer";
            faults.push(span, "the pipeline has stages, but neither `route` nor `[response]`", help);
        }
        (None, None) if place("deployments").is_none() => {
            faults.push(0..0, "the file holds neither stages nor deployments", "add `[deployments.NAME]`");
        }
        _ => {}
    }
    if let Some(span) = place("mcp").filter(|_| place("route").is_none()) {
        let help = "add `route = \"/…\"` at the top, or write it into `[deployments.NAME]`";
        faults.push(span, "the pipeline has `mcp` but no `route`", help);
    }
    for table in ["request", "capture"] {
        if let Some(span) = place(table).filter(|_| place("route").is_none()) {
            let message = format!("the pipeline has a `[{table}]` but no `route`");
            faults.push(span, message, "add `route = \"/…\"` at the top");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_by_table() {
        for good in ["/rag", "/a/b", "/embed-texts", "/A_b.c~d", "/v3/x", "/echo2", "/embed"] {
            assert_eq!(route_fault(good), None, "{good}");
        }
        for bad in [
            "",
            "rag",
            "/",
            "//",
            "/a/",
            "/a//b",
            "/a b",
            "/é",
            "/../a",
            "/v1/x",
            "/v2",
            "/-/x",
            "/metrics",
            "/a/docs",
            "/a?b",
            "/{x}",
            "/a/openapi.json",
        ] {
            assert!(route_fault(bad).is_some(), "{bad}");
        }
    }
}
