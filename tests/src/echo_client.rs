//! What the echo benchmarks share: a bare axum echo in a process of its own, and a client that calls echoes.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;
use std::{env, fs};

use anyhow::{Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use millstream_test_support::{ClientConfig, connect_tls};
use serde_json::json;
use tokio::net::TcpStream;

/// The file that the axum echo is to write its address to, if this process is the one.
#[must_use]
pub fn axum_file() -> Option<String> {
    address_file("--axum")
}

/// The file that a server is to write its address to, if this process was started with that flag to be one.
#[must_use]
pub fn address_file(flag: &str) -> Option<String> {
    (env::args().nth(1)? == flag).then(|| env::args().nth(2))?
}

/// 42 floats.
#[must_use]
pub fn body() -> Bytes {
    let features: Vec<f64> = (0..42).map(|index| f64::from(index) * 0.5).collect();
    Bytes::from(json!({"features": features}).to_string())
}

/// A process that ends with this, whatever becomes of the program that started it.
pub struct OwnServer(Child);

impl OwnServer {
    /// The id of its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl From<Child> for OwnServer {
    fn from(child: Child) -> Self {
        Self(child)
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts this program again as a bare axum echo; returns its address once it listens.
pub fn start_axum() -> Result<(OwnServer, SocketAddr)> {
    start_own("--axum")
}

/// Starts this program again with that flag, as a server; returns its address once it listens.
pub fn start_own(flag: &str) -> Result<(OwnServer, SocketAddr)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("address");
    let child = Command::new(env::current_exe()?).arg(flag).arg(&file).stdin(Stdio::null()).spawn()?;
    let child = OwnServer(child);
    let address = crate::eventually("the server listens", || fs::read_to_string(&file).ok()?.parse().ok());
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

/// A keep-alive connection over TLS.
pub async fn connect_over_tls(
    address: SocketAddr,
    client: Arc<ClientConfig>,
) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let stream = connect_tls(stream, client).await?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// One call; returns the seconds that it took.
pub async fn call(connection: &mut SendRequest<Full<Bytes>>, body: &Bytes) -> Result<f64> {
    call_at(connection, "/echo", None, body).await
}

/// One call of any path, with an API key where there is one; returns the seconds that it took.
pub async fn call_at(
    connection: &mut SendRequest<Full<Bytes>>,
    path: &str,
    key: Option<&str>,
    body: &Bytes,
) -> Result<f64> {
    let mut request =
        hyper::Request::post(path).header("host", "localhost").header("content-type", "application/json");
    if let Some(key) = key {
        request = request.header("x-api-key", key);
    }
    let request = request.body(Full::new(body.clone()))?;
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
