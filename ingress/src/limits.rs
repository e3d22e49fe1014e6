//! What the HTTP edge puts up with, and for how long.

use std::time::Duration;

use millstream_listen::ConnectionLimits;

/// Bounds of the HTTP edge; the defaults are those of the documentation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpLimits {
    /// Bounds on connections.
    pub connection: ConnectionLimits,
    /// Bounds on one request.
    pub request: RequestLimits,
}

/// Who may call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Visitors {
    /// Whether requests without an API key are refused.
    pub require_api_key: bool,
    /// Origins, such as `https://agent.example`, whose pages may call tools, beside those of this machine and of the address that is called.
    pub mcp_origins: Vec<String>,
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
    /// Bytes that the kept answers of all stages take together; stages that ask for more get a part of what they ask for.
    pub max_cache_bytes: usize,
    /// Bytes of the responses that are kept for later requests; 0 keeps none.
    pub max_response_store_bytes: usize,
    /// How long a response is kept.
    pub max_response_age: Duration,
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
            max_cache_bytes: 256 << 20,
            max_response_store_bytes: 0,
            max_response_age: Duration::from_secs(24 * 3600),
            body_time: Duration::from_secs(30),
            default_deadline: Duration::from_secs(60),
            max_deadline: Duration::from_secs(600),
            stream_keep_alive: Duration::from_secs(15),
        }
    }
}
