//! Reads a request's body within its bounds.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Incoming};

use super::problem::Problem;
use crate::limits::RequestLimits;

/// The whole body. One that came in one piece is not copied.
///
/// # Errors
/// A problem: 413 for too many bytes (at once when they are announced), 408 when they come too slowly, 400 when they
/// do not come to an end.
pub(crate) async fn read_body(body: Incoming, limits: &RequestLimits) -> Result<Bytes, Problem> {
    if body.size_hint().lower() > limits.max_body_bytes as u64 {
        return Err(too_large(limits.max_body_bytes));
    }
    match tokio::time::timeout(limits.body_time, collect(body, limits.max_body_bytes)).await {
        Ok(result) => result,
        Err(_) => Err(too_slow(limits.body_time)),
    }
}

async fn collect(mut body: Incoming, max_bytes: usize) -> Result<Bytes, Problem> {
    let mut first = Bytes::new();
    let mut rest: Option<BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::malformed("the body ended before it was complete"))?;
        // Trailers say nothing that we need.
        let Ok(data) = frame.into_data() else { continue };
        let so_far = rest.as_ref().map_or(first.len(), BytesMut::len);
        if so_far + data.len() > max_bytes {
            return Err(too_large(max_bytes));
        }
        if so_far == 0 {
            first = data;
        } else {
            let rest = rest.get_or_insert_with(|| {
                let announced = usize::try_from(body.size_hint().lower()).unwrap_or(0).min(max_bytes);
                let mut all = BytesMut::with_capacity(first.len() + data.len() + announced);
                all.extend_from_slice(&first);
                all
            });
            rest.extend_from_slice(&data);
        }
    }
    Ok(rest.map_or(first, BytesMut::freeze))
}

fn too_large(max_bytes: usize) -> Problem {
    Problem::body_too_large(format!("the body has more than `{max_bytes}` bytes; send less in one request"))
}

fn too_slow(body_time: Duration) -> Problem {
    Problem::slow_body(format!("the body was not complete within `{body_time:?}`"))
}
