//! What the messages of a call say. A start is a list of fields and then the inputs; a field has a number, a length and its
//! bytes, so that a peer of an earlier version skips what it does not know, and field 0 ends the list.

use std::sync::Arc;
use std::time::Duration;

use millstream_calls::call::{
    CallContext, CallRequest, MAX_MATES, Priority, ResponseMode, SpanRef, Timing, TraceContext,
};
use millstream_calls::{ReplicaId, RequestId};
use millstream_values::{CallError, ErrorClass, Started, Value};

use crate::codec::{BadValue, Decoder, Encoder, TooMuch};

/// Longest text of an error that travels.
const MAX_ERROR_BYTES: usize = 4 << 10;
/// Bytes of the ids of a trace and a span.
const SPAN_BYTES: usize = 24;

/// A call as it travels: its deadline is the time that is left.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Start {
    pub(crate) replica: ReplicaId,
    /// Its context has no deadline yet: that follows from when the start came, and `left`.
    pub(crate) request: CallRequest,
    pub(crate) left: Option<Duration>,
}

/// Numbers of the fields of a start.
mod field {
    pub(super) const END: u8 = 0;
    pub(super) const REPLICA: u8 = 1;
    pub(super) const REQUEST: u8 = 2;
    pub(super) const LEFT_US: u8 = 3;
    pub(super) const STREAM: u8 = 4;
    pub(super) const PRIORITY: u8 = 5;
    pub(super) const TIMED: u8 = 6;
    pub(super) const ATTEMPT: u8 = 7;
    pub(super) const TRACE: u8 = 8;
    pub(super) const TRACE_STATE: u8 = 9;
    pub(super) const TENANT: u8 = 10;
    pub(super) const AFFINITY: u8 = 11;
    pub(super) const ALONE: u8 = 12;
}

/// Numbers of the fields of a failure, and of a timing.
mod failure {
    pub(super) const CLASS: u8 = 1;
    pub(super) const STARTED: u8 = 2;
    pub(super) const MESSAGE: u8 = 3;
}
mod timing {
    pub(super) const WAITED_US: u8 = 1;
    pub(super) const RAN_US: u8 = 2;
    pub(super) const BATCH_SIZE: u8 = 3;
    pub(super) const MATES: u8 = 4;
    pub(super) const INPUT_TOKENS: u8 = 5;
    pub(super) const OUTPUT_TOKENS: u8 = 6;
}

const PRIORITIES: [(Priority, u64); 3] = [(Priority::Normal, 0), (Priority::High, 1), (Priority::Low, 2)];

const CLASSES: [(ErrorClass, u64); 11] = [
    (ErrorClass::Malformed, 1),
    (ErrorClass::TooLarge, 2),
    (ErrorClass::Invalid, 3),
    (ErrorClass::NotFound, 4),
    (ErrorClass::Conflict, 5),
    (ErrorClass::RateLimited, 6),
    (ErrorClass::Overloaded, 7),
    (ErrorClass::Unavailable, 8),
    (ErrorClass::DeadlineExceeded, 9),
    (ErrorClass::Cancelled, 10),
    (ErrorClass::Internal, 11),
];

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Numbers of a field take at most ten bytes.
fn put_number(out: &mut Encoder, field: u8, number: u64) {
    out.put_u8(field);
    let length = (1..=9).find(|bytes| number >> (7 * bytes) == 0).unwrap_or(10);
    out.put_number(length);
    out.put_number(number);
}

fn put_text(out: &mut Encoder, field: u8, text: &str) {
    out.put_u8(field);
    out.put_text(text);
}

/// Writes a call of which so much time is left.
pub(crate) fn put_start(
    out: &mut Encoder,
    replica: &ReplicaId,
    request: &CallRequest,
    left: Option<Duration>,
) -> Result<(), TooMuch> {
    let CallRequest { context, inputs, answer, timed } = request;
    let CallContext { request_id, deadline: _, priority, attempt, alone, trace, tenant, affinity } = context;
    put_text(out, field::REPLICA, replica.as_str());
    put_text(out, field::REQUEST, request_id.as_str());
    if let Some(left) = left {
        put_number(out, field::LEFT_US, micros(left));
    }
    if *answer == ResponseMode::Stream {
        put_number(out, field::STREAM, 1);
    }
    if let Some((_, number @ 1..)) = PRIORITIES.iter().find(|(known, _)| known == priority) {
        put_number(out, field::PRIORITY, *number);
    }
    if *timed {
        put_number(out, field::TIMED, 1);
    }
    if *attempt > 0 {
        put_number(out, field::ATTEMPT, u64::from(*attempt));
    }
    if *alone {
        put_number(out, field::ALONE, 1);
    }
    if let Some(trace) = trace {
        put_text(out, field::TRACE, &trace.to_string());
        trace.state.iter().for_each(|state| put_text(out, field::TRACE_STATE, state));
    }
    if let Some(tenant) = tenant {
        put_text(out, field::TENANT, tenant);
    }
    if let Some(affinity) = affinity {
        put_number(out, field::AFFINITY, *affinity);
    }
    out.put_u8(field::END);
    out.put_value(inputs)
}

/// Fields as they come, up to the end of their list or of the bytes.
fn fields<'a>(
    from: &mut Decoder<'a>,
    mut take: impl FnMut(u8, &'a [u8]) -> Result<(), BadValue>,
) -> Result<(), BadValue> {
    loop {
        let field = from.u8()?;
        if field == field::END {
            return Ok(());
        }
        let length = usize::try_from(from.number()?).map_err(|_| BadValue::Short)?;
        take(field, from.slice(length)?)?;
    }
}

fn number(bytes: &[u8]) -> Result<u64, BadValue> {
    Decoder::copying(bytes).number()
}

/// The largest one for what is larger.
fn small_number(bytes: &[u8]) -> Result<u32, BadValue> {
    Ok(u32::try_from(number(bytes)?).unwrap_or(u32::MAX))
}

fn text(bytes: &[u8]) -> Result<&str, BadValue> {
    std::str::from_utf8(bytes).map_err(|_| BadValue::Text)
}

impl Start {
    /// Reads a call.
    pub(crate) fn read(mut from: Decoder<'_>) -> Result<Self, BadValue> {
        let (mut replica, mut request_id) = ("", "");
        let mut start = Self {
            replica: ReplicaId::new(""),
            request: CallRequest {
                context: CallContext::new(RequestId::new("")),
                inputs: Value::None,
                answer: ResponseMode::Whole,
                timed: false,
            },
            left: None,
        };
        let (request, mut trace_state) = (&mut start.request, None);
        let context = &mut request.context;
        fields(&mut from, |field, bytes| {
            match field {
                field::REPLICA => replica = text(bytes)?,
                field::REQUEST => request_id = text(bytes)?,
                field::LEFT_US => start.left = Some(Duration::from_micros(number(bytes)?)),
                field::STREAM if number(bytes)? == 1 => request.answer = ResponseMode::Stream,
                field::PRIORITY => {
                    // One that this version does not know is a normal one.
                    let number = number(bytes)?;
                    let known = PRIORITIES.iter().find(|(_, known)| *known == number);
                    context.priority = known.map_or(Priority::Normal, |(priority, _)| *priority);
                }
                field::TIMED => request.timed = number(bytes)? == 1,
                field::ATTEMPT => context.attempt = small_number(bytes)?,
                field::ALONE => context.alone = number(bytes)? == 1,
                field::TRACE => context.trace = TraceContext::parse(text(bytes)?),
                field::TRACE_STATE => trace_state = Some(Arc::from(text(bytes)?)),
                field::TENANT => context.tenant = Some(Arc::from(text(bytes)?)),
                field::AFFINITY => context.affinity = Some(number(bytes)?),
                _ => {}
            }
            Ok(())
        })?;
        if let Some(trace) = &mut context.trace {
            trace.state = trace_state;
        }
        context.request_id = RequestId::new(request_id);
        request.inputs = from.value()?;
        from.end()?;
        start.replica = ReplicaId::new(replica);
        Ok(start)
    }
}

/// Writes how a call failed.
pub(crate) fn put_failure(out: &mut Encoder, error: &CallError) {
    let class = CLASSES.iter().find(|(known, _)| *known == error.class).map_or(11, |(_, number)| *number);
    put_number(out, failure::CLASS, class);
    put_number(
        out,
        failure::STARTED,
        match error.started {
            Started::No => 0,
            Started::Yes => 1,
            Started::Crashed => 2,
        },
    );
    let end = error.message.floor_char_boundary(MAX_ERROR_BYTES);
    put_text(out, failure::MESSAGE, &error.message[..end]);
    out.put_u8(field::END);
}

/// Reads how a call failed. A class that this version does not know is `Internal`: a failure stays a failure.
pub(crate) fn read_failure(mut from: Decoder<'_>) -> Result<CallError, BadValue> {
    let mut error = CallError::started(ErrorClass::Internal, "");
    fields(&mut from, |field, bytes| {
        match field {
            failure::CLASS => {
                let number = number(bytes)?;
                let known = CLASSES.iter().find(|(_, known)| *known == number);
                error.class = known.map_or(ErrorClass::Internal, |(class, _)| *class);
            }
            failure::STARTED => {
                error.started = match number(bytes)? {
                    0 => Started::No,
                    2 => Started::Crashed,
                    _ => Started::Yes,
                }
            }
            failure::MESSAGE => text(bytes)?.clone_into(&mut error.message),
            _ => {}
        }
        Ok(())
    })?;
    Ok(error)
}

/// Writes where a call's time went.
pub(crate) fn put_timing(out: &mut Encoder, timing: &Timing) {
    put_number(out, timing::WAITED_US, micros(timing.waited));
    put_number(out, timing::RAN_US, micros(timing.ran));
    put_number(out, timing::BATCH_SIZE, timing.batch_size.into());
    for (field, tokens) in
        [(timing::INPUT_TOKENS, timing.input_tokens), (timing::OUTPUT_TOKENS, timing.output_tokens)]
    {
        if tokens > 0 {
            put_number(out, field, tokens.into());
        }
    }
    if let Some(mates) = &timing.mates {
        out.put_u8(timing::MATES);
        out.put_number((mates.len() * SPAN_BYTES) as u64);
        for SpanRef { trace_id, span_id } in mates.iter() {
            out.put_slice(trace_id);
            out.put_slice(span_id);
        }
    }
    out.put_u8(field::END);
}

/// Reads where a call's time went.
pub(crate) fn read_timing(mut from: Decoder<'_>) -> Result<Timing, BadValue> {
    let mut timing = Timing::default();
    fields(&mut from, |field, bytes| {
        match field {
            timing::WAITED_US => timing.waited = Duration::from_micros(number(bytes)?),
            timing::RAN_US => timing.ran = Duration::from_micros(number(bytes)?),
            timing::BATCH_SIZE => timing.batch_size = small_number(bytes)?,
            timing::INPUT_TOKENS => timing.input_tokens = small_number(bytes)?,
            timing::OUTPUT_TOKENS => timing.output_tokens = small_number(bytes)?,
            timing::MATES => timing.mates = Some(spans(bytes)),
            _ => {}
        }
        Ok(())
    })?;
    Ok(timing)
}

/// Trace and span ids, one after the other.
fn spans(bytes: &[u8]) -> Arc<[SpanRef]> {
    let (spans, _) = bytes.as_chunks::<SPAN_BYTES>();
    let span = |bytes: &[u8; SPAN_BYTES]| {
        let mut span = SpanRef { trace_id: [0; 16], span_id: [0; 8] };
        span.trace_id.copy_from_slice(&bytes[..16]);
        span.span_id.copy_from_slice(&bytes[16..]);
        span
    };
    spans.iter().take(MAX_MATES).map(span).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::codec::tests::any_value;

    fn bytes_of(put: impl FnOnce(&mut Encoder)) -> Bytes {
        let mut encoder = Encoder::default();
        put(&mut encoder);
        encoder.take().concat().into()
    }

    fn full() -> CallRequest {
        let trace =
            TraceContext { trace_id: [1; 16], parent_id: [2; 8], flags: 1, state: Some("vendor=1".into()) };
        let context = CallContext {
            priority: Priority::Low,
            attempt: 3,
            alone: true,
            trace: Some(trace),
            tenant: Some("team-a".into()),
            affinity: Some(u64::MAX),
            ..CallContext::new(RequestId::new("r-1"))
        };
        CallRequest {
            context,
            inputs: Value::map([("a", Value::Int(1))]),
            answer: ResponseMode::Stream,
            timed: true,
        }
    }

    fn read(request: &CallRequest, left: Option<Duration>) -> Start {
        let replica = ReplicaId::new("p-model-1");
        let bytes = bytes_of(|out| put_start(out, &replica, request, left).unwrap());
        Start::read(Decoder::sharing(&bytes)).unwrap()
    }

    #[test]
    fn all_that_a_call_says_arrives() {
        let left = Some(Duration::from_micros(1_234_567));
        let start = read(&full(), left);
        assert_eq!((start.replica.as_str(), &start.request, start.left), ("p-model-1", &full(), left));
        let plain = CallRequest {
            context: CallContext::new(RequestId::new("r")),
            inputs: Value::None,
            answer: ResponseMode::Whole,
            timed: false,
        };
        let start = read(&plain, None);
        assert_eq!((start.request, start.left), (plain, None));
    }

    #[test]
    fn fields_of_a_later_version_are_skipped() {
        let bytes = bytes_of(|out| {
            put_text(out, 99, "of a later version");
            put_number(out, field::PRIORITY, 17);
            put_start(out, &ReplicaId::new("x"), &full(), None).unwrap();
        });
        assert_eq!(Start::read(Decoder::sharing(&bytes)).unwrap().request, full());
        let bytes = bytes_of(|out| {
            put_number(out, failure::CLASS, 99);
            put_text(out, failure::MESSAGE, "m");
            put_text(out, 77, "?");
            out.put_u8(field::END);
        });
        let error = read_failure(Decoder::copying(&bytes)).unwrap();
        assert_eq!(error, CallError::started(ErrorClass::Internal, "m"));
    }

    #[test]
    fn failures_and_timings_arrive() {
        for class in ErrorClass::ALL {
            let crashed = CallError { class, message: "boom".into(), started: Started::Crashed };
            for error in [CallError::started(class, "why"), CallError::not_started(class, ""), crashed] {
                let bytes = bytes_of(|out| put_failure(out, &error));
                assert_eq!(read_failure(Decoder::copying(&bytes)).unwrap(), error);
            }
        }
        let long = CallError::started(ErrorClass::Internal, "é".repeat(10_000));
        let bytes = bytes_of(|out| put_failure(out, &long));
        assert_eq!(read_failure(Decoder::copying(&bytes)).unwrap().message.len(), MAX_ERROR_BYTES);
        let mate = |byte| SpanRef { trace_id: [byte; 16], span_id: [byte; 8] };
        for mates in [None, Some([mate(1), mate(2)].into())] {
            let waited = Duration::from_micros(u64::MAX / 2);
            let (ran, batch_size) = (Duration::ZERO, 7);
            let timing = Timing { waited, ran, batch_size, input_tokens: 300, output_tokens: 0, mates };
            let bytes = bytes_of(|out| put_timing(out, &timing));
            assert_eq!(read_timing(Decoder::copying(&bytes)).unwrap(), timing);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_make_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Start::read(Decoder::copying(&bytes));
            let _ = read_failure(Decoder::copying(&bytes));
            let _ = read_timing(Decoder::copying(&bytes));
        }

        #[test]
        fn inputs_arrive(inputs in any_value()) {
            let request = CallRequest { inputs, ..full() };
            prop_assert_eq!(read(&request, None).request, request);
        }
    }
}
