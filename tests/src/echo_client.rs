//! What the echo benchmarks share: a bare axum echo in a process of its own, and a client that calls echoes.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use std::{env, fs};

use anyhow::{Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;

/// The file that the axum echo is to write its address to, if this process is the one.
#[must_use]
pub fn axum_file() -> Option<String> {
    (env::args().nth(1)? == "--axum").then(|| env::args().nth(2))?
}

/// 42 floats.
#[must_use]
pub fn body() -> Bytes {
    let features: Vec<f64> = (0..42).map(|index| f64::from(index) * 0.5).collect();
    Bytes::from(json!({"features": features}).to_string())
}

/// A process that ends with this, whatever becomes of the program that started it.
pub struct Axum(Child);

impl Drop for Axum {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts this program again as a bare axum echo; returns its address once it listens.
pub fn start_axum() -> Result<(Axum, SocketAddr)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("address");
    let child = Command::new(env::current_exe()?).arg("--axum").arg(&file).stdin(Stdio::null()).spawn()?;
    let child = Axum(child);
    let address = crate::eventually("axum listens", || fs::read_to_string(&file).ok()?.parse().ok());
    Ok((child, address))
}

/// A keep-alive connection.
pub async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// One call; returns the seconds that it took.
pub async fn call(connection: &mut SendRequest<Full<Bytes>>, body: &Bytes) -> Result<f64> {
    let request = hyper::Request::post("/echo")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(body.clone()))?;
    connection.ready().await?;
    let start = Instant::now();
    let answer = connection.send_request(request).await?;
    let status = answer.status();
    let bytes = answer.into_body().collect().await?.to_bytes();
    let elapsed = start.elapsed().as_secs_f64();
    ensure!(status == 200, "{status}: {}", String::from_utf8_lossy(&bytes));
    Ok(elapsed)
}

/// In microseconds, of sorted seconds.
#[must_use]
pub fn quantile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100] * 1e6
}
