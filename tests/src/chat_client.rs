//! A client of `/v1/chat/completions` that costs little beside what it measures: bytes of a connection, and when they came.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A keep-alive connection that streams one answer after the other.
pub struct ChatClient {
    connection: TcpStream,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

/// What came of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Streamed {
    /// Until its first token was there.
    pub first_token: Duration,
    /// Events with a token.
    pub num_tokens: usize,
}

const END: &[u8] = b"data: [DONE]\n\n";

impl ChatClient {
    /// Connects; asks `model` for so many tokens each time.
    pub async fn connect(address: SocketAddr, model: &str, num_tokens: usize) -> Result<Self> {
        let connection = TcpStream::connect(address).await?;
        connection.set_nodelay(true)?;
        let body = format!(
            "{{\"model\":\"{model}\",\"stream\":true,\"max_tokens\":{num_tokens},\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}]}}"
        );
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        Ok(Self { connection, request: (head + &body).into_bytes(), buffer: Vec::new() })
    }

    /// Sends a request and waits for its first token.
    pub async fn begin(&mut self) -> Result<Duration> {
        self.buffer.clear();
        let start = Instant::now();
        self.connection.write_all(&self.request).await?;
        while num_tokens(&self.buffer) == 0 {
            self.read().await?;
        }
        Ok(start.elapsed())
    }

    /// Sends a request and reads its answer to the end.
    pub async fn stream(&mut self) -> Result<Streamed> {
        let first_token = self.begin().await?;
        // The last chunk of the body is empty.
        while !(self.buffer.ends_with(b"0\r\n\r\n") && contains(&self.buffer, END)) {
            self.read().await?;
        }
        Ok(Streamed { first_token, num_tokens: num_tokens(&self.buffer) })
    }

    async fn read(&mut self) -> Result<()> {
        let num_bytes = self.connection.read_buf(&mut self.buffer).await.context("reading a stream")?;
        let text = || String::from_utf8_lossy(&self.buffer).into_owned();
        ensure!(num_bytes > 0, "the connection ended: {}", text());
        ensure!(self.buffer.starts_with(&b"HTTP/1.1 200"[..self.buffer.len().min(12)]), "{}", text());
        Ok(())
    }
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    let tail = &bytes[bytes.len().saturating_sub(64)..];
    tail.windows(wanted.len()).any(|window| window == wanted)
}

/// Events with a text that is not empty.
fn num_tokens(bytes: &[u8]) -> usize {
    const CONTENT: &[u8] = b"\"content\":\"";
    let mut windows = bytes.windows(CONTENT.len() + 1);
    std::iter::from_fn(|| windows.find(|window| window.starts_with(CONTENT)))
        .filter(|window| window.last() != Some(&b'"'))
        .count()
}
