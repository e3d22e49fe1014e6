//! What travels with a call beside its inputs: where it belongs, whose it is, how much time it has.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use millstream_status::Priority;

use crate::RequestId;

/// See the module. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallContext {
    /// The request that this call belongs to.
    pub request_id: RequestId,
    /// Work past this instant is dropped before it runs.
    pub deadline: Option<Instant>,
    /// Who goes first where calls wait.
    pub priority: Priority,
    /// How many tries of it had begun before, on other replicas.
    pub attempt: u32,
    /// Whether it is to run without company: a replica has crashed while it worked on this call and others.
    pub alone: bool,
    /// The trace that the request belongs to.
    pub trace: Option<TraceContext>,
    /// The name of the API key that the request came with.
    pub tenant: Option<Arc<str>>,
    /// The same for requests that are best served by the same replica; of no meaning otherwise.
    pub affinity: Option<u64>,
}

impl CallContext {
    /// Of a request's first attempt, without anything else.
    #[must_use]
    pub fn new(request_id: RequestId) -> Self {
        Self {
            request_id,
            deadline: None,
            priority: Priority::default(),
            attempt: 0,
            alone: false,
            trace: None,
            tenant: None,
            affinity: None,
        }
    }
}

/// The context of a distributed trace, as W3C Trace Context has it in the headers `traceparent` and `tracestate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; not all zero.
    pub trace_id: [u8; 16],
    /// The span that this work is done for; not all zero.
    pub parent_id: [u8; 8],
    /// Bit 0: the trace is sampled.
    pub flags: u8,
    /// The header `tracestate`, passed on as it is.
    pub state: Option<Arc<str>>,
}

/// Bytes of a `traceparent` of version 00.
const PARENT_BYTES: usize = 55;

impl TraceContext {
    /// Reads the header `traceparent`; `None` for what the specification says to ignore.
    #[must_use]
    pub fn parse(parent: &str) -> Option<Self> {
        let bytes = parent.as_bytes();
        let (version, dashes) = (bytes.get(..2)?, [2, 35, 52]);
        if bytes.len() < PARENT_BYTES || dashes.iter().any(|&at| bytes[at] != b'-') {
            return None;
        }
        let [version] = hex(version)?;
        // A later version may say more, after another dash.
        let is_whole = bytes.len() == PARENT_BYTES || version > 0 && bytes[PARENT_BYTES] == b'-';
        if version == 0xff || !is_whole {
            return None;
        }
        let (trace_id, parent_id) = (hex(&bytes[3..35])?, hex(&bytes[36..52])?);
        let [flags] = hex(&bytes[53..55])?;
        let is_valid = trace_id != [0; 16] && parent_id != [0; 8];
        is_valid.then_some(Self { trace_id, parent_id, flags, state: None })
    }
}

/// The header `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, parent) = (u128::from_be_bytes(self.trace_id), u64::from_be_bytes(self.parent_id));
        write!(f, "00-{trace:032x}-{parent:016x}-{:02x}", self.flags)
    }
}

/// Bytes from lower-case hexadecimal digits, two each.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_and_written() {
        let trace = TraceContext::parse(PARENT).unwrap();
        assert_eq!((trace.trace_id[0], trace.parent_id[7], trace.flags), (0x4b, 0xb7, 1));
        assert_eq!(trace.to_string(), PARENT);
        // A later version may have more to say.
        let later = PARENT.replacen("00", "01", 1) + "-more";
        assert_eq!(TraceContext::parse(&later), Some(trace));
    }

    #[test]
    fn what_is_no_traceparent_is_ignored() {
        let zero_trace = PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        let zero_parent = PARENT.replace("00f067aa0ba902b7", &"0".repeat(16));
        let cases = [
            "",
            "00",
            &PARENT[..54],
            &format!("{PARENT}-more"),
            &format!("{PARENT}0"),
            &PARENT.replace('a', "A"),
            &PARENT.replacen("00", "ff", 1),
            &PARENT.replace('-', "_"),
            &zero_trace,
            &zero_parent,
            &"é".repeat(28),
        ];
        for case in cases {
            assert_eq!(TraceContext::parse(case), None, "{case}");
        }
    }
}
