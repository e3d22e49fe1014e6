//! Reads a request's body within its bounds.

use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Incoming};
use millstream_pipelines::format_bytes;

use crate::deadline::within;
use crate::protocol::Problem;

/// What is read and thrown away of a body that is not wanted: a client that is cut off while it writes may never read
/// why (its system reports the broken connection first).
const MAX_DISCARDED_BYTES: usize = 16 << 20;
/// How long that may take.
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// The body of a request.
pub(crate) enum RequestBody {
    /// As it comes on a connection.
    Incoming(Incoming),
    /// One that is here: a message of a stream of requests.
    Whole(Bytes),
}

/// How many bytes a body has as its own first bytes say it; 0 where they do not.
pub(crate) type LengthOf = fn(&[u8]) -> usize;

/// What a body may take.
pub(crate) struct Bounds {
    /// Told by the body itself, where no header says it.
    pub(crate) length_of: LengthOf,
    pub(crate) max_bytes: usize,
    /// To arrive.
    pub(crate) time: Duration,
}

/// The whole body. One that came in one piece is not copied.
///
/// # Errors
/// A problem: 413 for too many bytes (at once when they are announced), 408 when they come too slowly, 400 when they
/// do not come to an end, and what `take` says to bytes that have come.
pub(crate) async fn read_body(
    body: RequestBody,
    bounds: Bounds,
    take: impl Fn(usize) -> Result<(), Problem>,
) -> Result<Bytes, Problem> {
    let Bounds { max_bytes, time, .. } = bounds;
    let mut body = match body {
        RequestBody::Incoming(body) => body,
        RequestBody::Whole(bytes) if bytes.len() > max_bytes => return Err(too_large(max_bytes)),
        RequestBody::Whole(bytes) => return take(bytes.len()).map(|()| bytes),
    };
    let announced = body.size_hint().lower();
    let collected = if announced > max_bytes as u64 {
        Ok(Collected::TooLarge)
    } else {
        match within(millstream_clock::now() + time, pin!(collect(&mut body, &bounds, &take))).await {
            Ok(collected) => collected,
            Err(_) => Err(too_slow(time)),
        }
    };
    match collected {
        Ok(Collected::Whole(bytes)) => Ok(bytes),
        Ok(Collected::TooLarge) => {
            discard_body(body);
            Err(too_large(max_bytes))
        }
        Err(problem) => {
            discard_body(body);
            Err(problem)
        }
    }
}

enum Collected {
    Whole(Bytes),
    TooLarge,
}

async fn collect(
    body: &mut Incoming,
    &Bounds { length_of, max_bytes, .. }: &Bounds,
    take: impl Fn(usize) -> Result<(), Problem>,
) -> Result<Collected, Problem> {
    let mut first = Bytes::new();
    let mut rest: Option<BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::malformed("the body ended before it was complete"))?;
        // Trailers say nothing that we need.
        let Ok(data) = frame.into_data() else { continue };
        let so_far = rest.as_ref().map_or(first.len(), BytesMut::len);
        if so_far + data.len() > max_bytes {
            return Ok(Collected::TooLarge);
        }
        take(data.len())?;
        if so_far == 0 {
            if length_of(&data) > max_bytes {
                return Ok(Collected::TooLarge);
            }
            first = data;
        } else {
            let rest = rest.get_or_insert_with(|| {
                let announced = usize::try_from(body.size_hint().lower()).unwrap_or(0).min(max_bytes);
                let capacity = (first.len() + data.len() + announced).max(length_of(&first));
                let mut all = BytesMut::with_capacity(capacity);
                all.extend_from_slice(&first);
                all
            });
            rest.extend_from_slice(&data);
        }
    }
    Ok(Collected::Whole(rest.map_or(first, BytesMut::freeze)))
}

/// Reads a body that is not wanted to its end, within bounds, beside the answer.
pub(crate) fn discard_body(body: Incoming) {
    if !body.is_end_stream() {
        tokio::spawn(tokio::time::timeout(DISCARD_TIME, discard(body)));
    }
}

/// Reads on without keeping anything.
async fn discard(mut body: Incoming) {
    let mut left = MAX_DISCARDED_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let num_bytes = frame.data_ref().map_or(0, Bytes::len);
        left = left.saturating_sub(num_bytes);
        if left == 0 {
            return;
        }
    }
}

/// What is told to a body of more bytes.
pub(super) fn too_large(max_bytes: usize) -> Problem {
    let max = format_bytes(max_bytes as u64);
    Problem::body_too_large(format!(
        "the body is larger than `{max}`; send less in one request, or let the pipeline's file say a larger `max_body`"
    ))
}

/// What is told to a body that takes longer.
pub(super) fn too_slow(body_time: Duration) -> Problem {
    Problem::slow_body(format!("the body was not complete within `{body_time:?}`"))
}
