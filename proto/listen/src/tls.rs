//! TLS on a listener: a certificate that is read from files again when they change, and the handshake on a connection.
//!
//! A connection keeps what it was accepted with; those that come later get what is newest. A broken new file changes nothing.

mod load;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use parking_lot::Mutex;
pub use rustls::ServerConfig;
use rustls::pki_types::UnixTime;
use tokio::sync::Mutex as AsyncMutex;

pub use self::load::{Error, PemFile, PemFiles};
use self::load::{Stamps, Validity, load};
use crate::{Connection, http as http_server};

/// What is spoken over TLS where HTTP is: both kinds, the second where the client does not say.
pub const HTTP: &[&[u8]] = &[b"h2", b"http/1.1"];

/// How often the files are looked at, at most.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a connection waits for a disk; after that it gets the certificate that was there.
const LOOK_TIME: Duration = Duration::from_secs(1);

/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 22;

/// What a client gets that speaks clear text.
const SPEAKS_HTTPS: &str = "this port speaks HTTPS; write https:// instead of http://\n";

/// A certificate and its key, as files have them now. Copies share what was read.
#[derive(Debug, Clone)]
pub struct ServerCertificate {
    shared: Arc<Shared>,
    watch: Arc<AsyncMutex<Watch>>,
}

#[derive(Debug)]
struct Shared {
    files: PemFiles,
    alpn: &'static [&'static [u8]],
    config: Mutex<Arc<ServerConfig>>,
}

/// What is known of the files.
#[derive(Debug)]
struct Watch {
    looked_at: Instant,
    /// As they were when they were read last, whether or not that went well.
    stamps: Stamps,
}

impl ServerCertificate {
    /// Reads the files; `alpn` names the protocols that are spoken over it. A certificate that has expired is warned about.
    ///
    /// # Errors
    /// Names the flag, the file and what is wrong with it.
    pub fn load(files: PemFiles, alpn: &'static [&'static [u8]]) -> Result<Self, Error> {
        let stamps = Stamps::of(&files);
        let config = load_and_warn(&files, alpn)?;
        let shared = Arc::new(Shared { files, alpn, config: Mutex::new(config) });
        let watch = Watch { looked_at: millstream_clock::now(), stamps };
        Ok(Self { shared, watch: Arc::new(AsyncMutex::new(watch)) })
    }

    /// What the next connection is to be secured with. Once a second the caller waits until somebody has looked at the files.
    pub async fn current(&self) -> Arc<ServerConfig> {
        // Somebody else is looking, or has just looked: nobody waits for that.
        if let Ok(mut watch) = self.watch.clone().try_lock_owned() {
            let now = millstream_clock::now();
            if now.saturating_duration_since(watch.looked_at) >= LOOK_INTERVAL {
                watch.looked_at = now;
                let shared = self.shared.clone();
                let look = tokio::task::spawn_blocking(move || shared.look(&mut watch.stamps));
                let _ = tokio::time::timeout(LOOK_TIME, look).await;
            }
        }
        self.shared.config.lock().clone()
    }
}

impl Shared {
    /// Takes what the files have, if they have changed.
    fn look(&self, stamps: &mut Stamps) {
        // Before they are read: what changes meanwhile is seen the next time.
        let now = Stamps::of(&self.files);
        if now == *stamps {
            return;
        }
        *stamps = now;
        match load_and_warn(&self.files, self.alpn) {
            Ok(config) => {
                *self.config.lock() = config;
                tracing::info!(certificate = %self.files.certificates, "certificate replaced for new connections");
            }
            Err(error) => {
                tracing::error!(%error, "the certificate was not replaced, the one of before serves on")
            }
        }
    }
}

fn load_and_warn(files: &PemFiles, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, Error> {
    let now = UnixTime::since_unix_epoch(Duration::from_millis(millstream_clock::unix_ms()));
    let loaded = load(files, alpn, now)?;
    let certificate = &files.certificates;
    match loaded.validity {
        Validity::Valid => {}
        Validity::Expired => {
            tracing::warn!(%certificate, "the certificate has expired: clients will refuse it")
        }
        Validity::NotYet => {
            tracing::warn!(%certificate, "the certificate is not valid yet: clients will refuse it");
        }
    }
    Ok(Arc::new(loaded.config))
}

/// The connection over TLS, after the handshake. `None` when that failed; a client that speaks HTTP in clear text is told so.
pub async fn accept(connection: Connection, certificate: &ServerCertificate) -> Option<Connection> {
    match connection.peek().await {
        Ok(Some(HANDSHAKE)) => {}
        Ok(Some(_)) => {
            refuse_clear_text(connection).await;
            return None;
        }
        Ok(None) | Err(_) => return None,
    }
    let config = certificate.current().await;
    match connection.secure(config).await {
        Ok(connection) => Some(connection),
        Err(error) => {
            tracing::debug!(%error, "TLS handshake failed");
            None
        }
    }
}

async fn refuse_clear_text(connection: Connection) {
    http_server::serve(connection, |_| async {
        let mut answer = Response::new(Full::from(Bytes::from_static(SPEAKS_HTTPS.as_bytes())));
        *answer.status_mut() = StatusCode::BAD_REQUEST;
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        answer
    })
    .await;
}
