//! What a listener puts up with from connections.

use std::time::Duration;

/// Bounds on the connections of a listener. The default is for listeners that anybody may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// How long a new connection may stay silent.
    pub first_byte: Duration,
    /// How long a TLS handshake may take, from its first byte.
    pub handshake: Duration,
    /// How long a request's header block may take.
    pub headers: Duration,
    /// How long a connection may stay without a request.
    pub idle: Duration,
    /// How long a client may take nothing of an answer, or less than a kilobyte a second of it.
    pub write: Duration,
    /// Connections at a time. Beyond that one that has no request gives way to a new one, or the new one waits.
    pub max_connections: usize,
    /// Connections at a time from one address; more are closed. Those of the same machine are not counted.
    pub max_per_address: usize,
    /// Bounds of HTTP/2.
    pub h2: H2Limits,
    /// Whether the last file descriptors of the process are left to others: the store, models, the cluster's own connections. Without
    /// it they are taken when no other connection of the listener can give way.
    pub leaves_reserve: bool,
}

/// Bounds on an HTTP/2 connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct H2Limits {
    /// Streams at a time.
    pub max_streams: u32,
    /// Streams that a client may have reset before they were looked at.
    pub max_pending_resets: usize,
    /// Bytes of a header block.
    pub max_header_bytes: u32,
    /// How often a connection is asked for a sign of life.
    pub ping_interval: Duration,
    /// How long it may take to give one.
    pub ping_timeout: Duration,
}

impl Default for H2Limits {
    fn default() -> Self {
        Self {
            max_streams: 100,
            max_pending_resets: 20,
            max_header_bytes: 32 << 10,
            ping_interval: Duration::from_secs(20),
            ping_timeout: Duration::from_secs(20),
        }
    }
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(5),
            handshake: Duration::from_secs(5),
            headers: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            write: Duration::from_secs(30),
            max_connections: 4096,
            max_per_address: 256,
            h2: H2Limits::default(),
            leaves_reserve: true,
        }
    }
}

impl ConnectionLimits {
    /// For pages that few people and scrapers look at.
    #[must_use]
    pub fn pages() -> Self {
        Self {
            max_connections: 512,
            h2: H2Limits { max_streams: 32, ..H2Limits::default() },
            ..Self::default()
        }
    }

    /// For the cluster's own processes. One that is gone is to be noticed soon.
    #[must_use]
    pub fn members() -> Self {
        Self {
            first_byte: Duration::from_secs(3),
            max_connections: 4096,
            max_per_address: 4096,
            h2: H2Limits {
                max_streams: 64,
                ping_interval: Duration::from_secs(10),
                ping_timeout: Duration::from_secs(5),
                ..H2Limits::default()
            },
            leaves_reserve: false,
            ..Self::default()
        }
    }
}
