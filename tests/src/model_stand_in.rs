//! A plain axum server that streams OpenAI's chunks at a set pace: what routers are put in front of, where a model is only to be waited
//! for. As an engine's, the tokens of all its streams come at the same moments.

use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::body::{Body, Bytes};
use axum::extract::Json;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::{Instant, interval_at, sleep};

/// Time to the first token.
pub const FIRST_TOKEN: Duration = Duration::from_millis(20);
/// Time to the next.
pub const NEXT_TOKEN: Duration = Duration::from_millis(10);
/// Who asks for so many tokens gets them slowly: streams that are to stay open. Not another model, as not all routers know two of one
/// server.
pub const SLOW_FROM_TOKENS: usize = 1_000;
const SLOW_TOKEN: Duration = Duration::from_secs(1);

/// Answers on a free port of loopback until the process is killed. Writes its address to the file once it listens.
pub fn serve(address_file: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let begin = Instant::now();
        let models = json!({"object": "list", "data": [{"id": "sim", "object": "model", "created": 1, "owned_by": "nobody"}]});
        let app = axum::Router::new()
            .route("/v1/chat/completions", post(move |Json(request)| chat(request, begin)))
            .route("/v1/models", get(|| async { Json(models) }))
            // Routers ask for health, load and more.
            .fallback(|| async { Json(json!({})) });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        fs::write(address_file, listener.local_addr()?.to_string())?;
        axum::serve(listener, app).await.context("serving")
    })
}

async fn chat(request: Value, begin: Instant) -> Response {
    let num_tokens = request["max_tokens"].as_u64().unwrap_or(16);
    let pace = if num_tokens >= SLOW_FROM_TOKENS as u64 { SLOW_TOKEN } else { NEXT_TOKEN };
    let arrived = Instant::now();
    let parts = futures_util::stream::unfold((0, None), move |(sent, ticks)| async move {
        let mut ticks = ticks;
        match &mut ticks {
            None => {
                sleep((arrived + FIRST_TOKEN).saturating_duration_since(Instant::now())).await;
                ticks = Some(interval_at(next_of(begin, pace), pace));
            }
            Some(ticks) if sent < num_tokens => drop(ticks.tick().await),
            Some(_) if sent == num_tokens => {}
            Some(_) => return None,
        }
        Some((Ok::<_, Infallible>(chunk(sent, num_tokens)), (sent + 1, ticks)))
    });
    ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(parts)).into_response()
}

/// The next moment of a rhythm that began then.
fn next_of(begin: Instant, pace: Duration) -> Instant {
    let beats = begin.elapsed().as_micros() / pace.as_micros().max(1) + 1;
    begin + pace * u32::try_from(beats).unwrap_or(u32::MAX)
}

fn chunk(sent: u64, num_tokens: u64) -> Bytes {
    let event = |delta: Value, finish_reason: Option<&str>| {
        let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason});
        let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "sim", "choices": [choice]});
        format!("data: {chunk}\n\n")
    };
    Bytes::from(match sent {
        0 => {
            event(json!({"role": "assistant", "content": ""}), None) + &event(json!({"content": "The"}), None)
        }
        sent if sent < num_tokens => event(json!({"content": " mill"}), None),
        _ => event(json!({}), Some("length")) + "data: [DONE]\n\n",
    })
}
