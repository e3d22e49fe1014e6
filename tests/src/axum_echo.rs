//! The floor of the echo benchmarks: axum with a typed body, and nothing else.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use axum::Json;
use axum::routing::post;
use tokio::net::TcpListener;

#[derive(serde::Serialize, serde::Deserialize)]
struct Features {
    features: Vec<f32>,
}

/// Answers `POST /echo` with what it was sent, on a free port of loopback, until the process is killed. Writes its
/// address to the file once it listens.
pub fn serve(address_file: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let app = axum::Router::new().route("/echo", post(|Json(body): Json<Features>| async { Json(body) }));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        fs::write(address_file, listener.local_addr()?.to_string())?;
        axum::serve(listener, app).await.context("serving")
    })
}
