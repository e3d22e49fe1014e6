//! What can be changed.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use millstream_core::desired::scale::ScaleRequest;
use millstream_core::desired::{Mode, NodeRequest};
use millstream_pipelines::{FullName, Plan};
use millstream_proto::key::KeyRequest;
use serde::Serialize;

use super::documents::{
    BoundsBody, BoundsView, DeployBody, DeployedView, Done, KeyBody, NodeView, PartBody, RolledView,
    ShutdownBody, TokenBody, UndoBody,
};
use super::input::Body;
use super::read::parse_name;
use super::refused::Refused;
use crate::catalog::Takeover;
use crate::control::deploy::{self, Text};
use crate::control::{Error, cluster, keys, nodes, rollout, scale, tokens};
use crate::server::http::{Site, page};

type Answer = Result<Response, Refused>;

/// What a deploy would do.
pub(crate) async fn plan(State(site): State<Arc<Site>>, Body(body): Body<DeployBody>) -> Answer {
    let term = site.leadership.term()?;
    let (texts, mode) = texts(body)?;
    let candidates = compiled(texts).await?;
    Ok(page(&deploy::plan(&term, candidates, mode).await?))
}

/// Deploys files.
pub(crate) async fn deploy(State(site): State<Arc<Site>>, Body(body): Body<DeployBody>) -> Answer {
    let term = site.leadership.term()?;
    let (texts, mode) = texts(body)?;
    let candidates = compiled(texts).await?;
    let deployed = deploy::deploy(&term, &candidates, Takeover { mode, expected: None }).await?;
    let views = deployed.into_iter().map(|deployed| {
        let deploy::Deployed { name, revision, changed } = deployed;
        DeployedView { name: name.to_string(), revision, changed }
    });
    Ok(page(&views.collect::<Vec<_>>()))
}

/// The texts to deploy, and how requests are to come to them.
fn texts(body: DeployBody) -> Result<(Vec<Text>, Option<Mode>), Refused> {
    let DeployBody { files, canary_percent, shadow_percent } = body;
    let mode = match (canary_percent, shadow_percent) {
        (None, None) => None,
        (Some(percent), None) => Some(Mode::Canary { permille: permille(percent)? }),
        (None, Some(percent)) => Some(Mode::Shadow { permille: permille(percent)? }),
        (Some(_), Some(_)) => {
            let detail = "a revision is a canary or a shadow; give `canary_percent` or `shadow_percent`";
            return Err(Error::Invalid(detail.to_owned()).into());
        }
    };
    if files.is_empty() {
        return Err(Error::Invalid("`files` is empty; give at least one".to_owned()).into());
    }
    let texts = files.into_iter().map(|file| Text {
        file_name: file.file_name,
        source: file.source,
        source_dir: file.source_dir,
    });
    Ok((texts.collect(), mode))
}

/// The texts compiled; where one is wrong, the faults of all of them with their places.
async fn compiled(texts: Vec<Text>) -> Result<Vec<millstream_core::desired::change::Candidate>, Refused> {
    match deploy::compile_all(texts.clone()).await {
        Ok(candidates) => Ok(candidates),
        Err(Error::Invalid(detail)) => {
            let faults = tokio::task::spawn_blocking(move || {
                let compiled = texts.iter().map(|text| Plan::compile(&text.file_name, &text.source));
                compiled.filter_map(Result::err).collect::<Vec<_>>()
            });
            let faults = faults.await.map_err(|_| Error::Internal("compiling these files failed"))?;
            if faults.is_empty() {
                return Err(Error::Invalid(detail).into());
            }
            Err(Refused::files(&faults))
        }
        Err(error) => Err(error.into()),
    }
}

/// Percent of the requests in thousandths.
fn permille(percent: f64) -> Result<u16, Refused> {
    let permille = (percent * 10.0).round();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 1000")]
    let number = permille.clamp(0.0, 1000.0) as u16;
    if (1.0..=1000.0).contains(&permille) {
        return Ok(number);
    }
    Err(Error::Invalid(format!("{percent}% of the requests is not a part; give 0.1 to 100")).into())
}

/// Removes a pipeline.
pub(crate) async fn delete_pipeline(State(site): State<Arc<Site>>, Path(name): Path<String>) -> Answer {
    deploy::delete(&*site.leadership.term()?, parse_name(&name)?).await?;
    Ok(done(name))
}

/// Lets a canary take over.
pub(crate) async fn promote(State(site): State<Arc<Site>>, Path(name): Path<String>) -> Answer {
    let revision = rollout::promote(&*site.leadership.term()?, &parse_name(&name)?).await?;
    Ok(rolled(revision))
}

/// Takes back what takes over.
pub(crate) async fn abort(State(site): State<Arc<Site>>, Path(name): Path<String>) -> Answer {
    let revision = rollout::abort(&*site.leadership.term()?, &parse_name(&name)?, None).await?;
    Ok(rolled(revision))
}

/// Goes back.
pub(crate) async fn undo(
    State(site): State<Arc<Site>>,
    Path(name): Path<String>,
    Body(body): Body<UndoBody>,
) -> Answer {
    let back = rollout::undo(&*site.leadership.term()?, &parse_name(&name)?, body.to_revision).await?;
    let rollout::Back { revision, text_of, warning } = back;
    Ok(page(&RolledView { revision, text_of: Some(text_of), warning }))
}

/// Gives a canary another part.
pub(crate) async fn set_part(
    State(site): State<Arc<Site>>,
    Path(name): Path<String>,
    Body(body): Body<PartBody>,
) -> Answer {
    let permille = permille(body.percent)?;
    let revision = rollout::set_part(&*site.leadership.term()?, &parse_name(&name)?, permille.into()).await?;
    Ok(rolled(revision))
}

fn rolled(revision: u64) -> Response {
    page(&RolledView { revision, text_of: None, warning: None })
}

/// Sets a deployment's bounds.
pub(crate) async fn set_bounds(
    State(site): State<Arc<Site>>,
    Path(names): Path<Vec<String>>,
    Body(body): Body<BoundsBody>,
) -> Answer {
    let BoundsBody { min_replicas, max_replicas } = body;
    let name = full_name(&names)?;
    scaled(&site, &name, ScaleRequest::Bounds(min_replicas, max_replicas)).await
}

/// Back to the file's bounds.
pub(crate) async fn reset_bounds(State(site): State<Arc<Site>>, Path(names): Path<Vec<String>>) -> Answer {
    scaled(&site, &full_name(&names)?, ScaleRequest::Reset).await
}

fn full_name(names: &[String]) -> Result<FullName, Refused> {
    let part = |index: usize| parse_name(names.get(index).map_or("", String::as_str));
    Ok(FullName { pipeline: part(0)?, deployment: part(1)? })
}

async fn scaled(site: &Site, name: &FullName, request: ScaleRequest) -> Answer {
    let scaled = scale::scale(&*site.leadership.term()?, name, request).await?;
    let scale::Scaled { min_replicas, max_replicas, changed } = scaled;
    Ok(page(&BoundsView { min_replicas, max_replicas, changed }))
}

/// Makes an API key.
pub(crate) async fn create_key(State(site): State<Arc<Site>>, Body(body): Body<KeyBody>) -> Answer {
    let term = site.leadership.term()?;
    found(keys::create(&term, &body.name, &digest(&body.sha256), &body.settings).await?)
}

/// Changes an API key.
pub(crate) async fn set_key(
    State(site): State<Arc<Site>>,
    Path(name): Path<String>,
    Body(settings): Body<KeyRequest>,
) -> Answer {
    let term = site.leadership.term()?;
    found(keys::set(&term, &name, &settings).await?)
}

/// Deletes an API key.
pub(crate) async fn delete_key(State(site): State<Arc<Site>>, Path(name): Path<String>) -> Answer {
    let term = site.leadership.term()?;
    keys::delete(&term, &name).await?;
    Ok(done(name))
}

/// Makes a token.
pub(crate) async fn create_token(State(site): State<Arc<Site>>, Body(body): Body<TokenBody>) -> Answer {
    let term = site.leadership.term()?;
    let ttl = body.ttl_ms.map(Duration::from_millis);
    found(tokens::create(&term, &body.name, &digest(&body.sha256), body.role, ttl).await?)
}

/// Deletes a token.
pub(crate) async fn delete_token(State(site): State<Arc<Site>>, Path(name): Path<String>) -> Answer {
    let term = site.leadership.term()?;
    tokens::delete(&term, &name).await?;
    Ok(done(name))
}

/// The bytes that a text of hexadecimal digits stands for; none for another text, which is refused as a digest then.
fn digest(text: &str) -> Vec<u8> {
    let digits: Option<Vec<u8>> = text.chars().map(|digit| digit.to_digit(16)?.try_into().ok()).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2)).unwrap_or_default();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Gives up a node.
pub(crate) async fn remove_node(State(site): State<Arc<Site>>, Path(name): Path<String>) -> Answer {
    let term = site.leadership.term()?;
    let id = nodes::remove(&term, name).await?;
    Ok(done(id.to_string()))
}

/// All that people asked for.
pub(crate) async fn export_state(State(site): State<Arc<Site>>) -> Answer {
    let text = cluster::export_state(&*site.leadership.term()?).await?;
    Ok(([(header::CONTENT_TYPE, "application/jsonl")], text).into_response())
}

/// Lets another head lead.
pub(crate) async fn step_down(State(site): State<Arc<Site>>) -> Answer {
    let term = site.leadership.term()?;
    cluster::step_down(&term, &site.roll).await?;
    Ok(done(term.host.name.clone()))
}

/// Keeps a node from getting anything new.
pub(crate) async fn cordon_node(State(site): State<Arc<Site>>, Path(name): Path<String>) -> Answer {
    change_node(&site, &name, NodeRequest::Cordon).await
}

/// Empties a node.
pub(crate) async fn drain_node(State(site): State<Arc<Site>>, Path(name): Path<String>) -> Answer {
    change_node(&site, &name, NodeRequest::Drain).await
}

/// Lets a node take replicas again.
pub(crate) async fn uncordon_node(State(site): State<Arc<Site>>, Path(name): Path<String>) -> Answer {
    change_node(&site, &name, NodeRequest::Uncordon).await
}

async fn change_node(site: &Site, node: &str, request: NodeRequest) -> Answer {
    let nodes::Changed { node, changed } = nodes::change(&*site.leadership.term()?, node, request).await?;
    Ok(page(&NodeView { node, changed }))
}

/// Ends the cluster.
pub(crate) async fn shut_down(State(site): State<Arc<Site>>, Body(body): Body<ShutdownBody>) -> Answer {
    let term = site.leadership.term()?;
    cluster::shut_down(&term, Duration::from_millis(body.drain_ms)).await?;
    Ok(done("the cluster".to_owned()))
}

fn done(what: String) -> Response {
    page(&Done { done: what })
}

fn found(made: Option<impl Serialize>) -> Answer {
    let gone = || Refused::new(StatusCode::CONFLICT, "it was deleted by somebody else meanwhile");
    Ok(page(&made.ok_or_else(gone)?))
}
