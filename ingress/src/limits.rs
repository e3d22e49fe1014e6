//! What the HTTP edge puts up with, and for how long.

use std::time::Duration;

/// Bounds of the HTTP edge; the defaults are those of the documentation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpLimits {
    /// Bounds on connections.
    pub connection: ConnectionLimits,
    /// Bounds on one request.
    pub request: RequestLimits,
}

/// Bounds on connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// How long a new connection may stay silent.
    pub first_byte: Duration,
    /// How long a request's header block may take.
    pub headers: Duration,
    /// How long a connection may stay without a request, or refuse to take what is written to it.
    pub idle: Duration,
    /// Connections at a time. Beyond that one that has no request gives way to a new one, or the new one waits.
    pub max_connections: usize,
    /// Connections at a time from one address; more are closed. Those of the same machine are not counted.
    pub max_per_address: usize,
    /// HTTP/2 streams at a time on one connection.
    pub max_h2_streams: u32,
    /// Streams that an HTTP/2 client may have reset before they were looked at.
    pub max_h2_pending_resets: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(5),
            headers: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            max_connections: 4096,
            max_per_address: 256,
            max_h2_streams: 100,
            max_h2_pending_resets: 20,
        }
    }
}

/// Bounds on one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLimits {
    /// Bytes of the path and query; more is 414.
    pub max_uri_bytes: usize,
    /// Bytes of all header names and values; more is 431.
    pub max_header_bytes: usize,
    /// Number of headers; more is 431.
    pub max_headers: usize,
    /// Bytes of a body; more is 413.
    pub max_body_bytes: usize,
    /// Bytes that the bodies under way and their values take together; what comes beyond is 503.
    pub max_bytes_under_way: usize,
    /// How long a body may take to arrive; longer is 408.
    pub body_time: Duration,
    /// Deadline of a request for which neither the client nor the pipeline sets one.
    pub default_deadline: Duration,
    /// The longest deadline; what asks for more gets this.
    pub max_deadline: Duration,
    /// Silence on an event stream after which a comment is sent.
    pub stream_keep_alive: Duration,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            max_uri_bytes: 8 << 10,
            max_header_bytes: 32 << 10,
            max_headers: 100,
            max_body_bytes: 4 << 20,
            max_bytes_under_way: 256 << 20,
            body_time: Duration::from_secs(30),
            default_deadline: Duration::from_secs(60),
            max_deadline: Duration::from_secs(600),
            stream_keep_alive: Duration::from_secs(15),
        }
    }
}
