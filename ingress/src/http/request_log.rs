//! Tells the log how requests ended: those that the server failed, at a bounded rate; all of them where that is asked for, with the
//! target `access` at the level `info`.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{Method, Uri};
use millstream_proto::RequestId;
use parking_lot::Mutex;
use tracing::Level;

use crate::keys::bucket::{Bucket, Rate};
use crate::protocol::Problem;
use crate::routes::Pipeline;
use crate::trace::Trace;

/// The target of the lines for all requests, as log filters name it.
pub const ACCESS_LOG: &str = "access";
/// How many failed requests are told: an outage does not fill a disk.
const FAILURES: Rate = Rate { per_s: 10.0, burst: 20.0 };
/// As much of a path as is told.
const MAX_PATH_CHARS: usize = 200;

/// See the module. One for all requests of an ingress.
pub(crate) struct RequestLog {
    failures: Mutex<Failures>,
}

struct Failures {
    bucket: Bucket,
    /// Those that came too fast since the last one that was told.
    not_told: u64,
}

/// What a request asked for.
pub(crate) struct RequestLine {
    method: Method,
    uri: Uri,
    /// The tenant's user, as an id.
    user: OnceLock<Box<str>>,
}

/// A request that has ended.
pub(crate) struct Ended<'a> {
    pub request_id: &'a RequestId,
    pub line: &'a RequestLine,
    pub status: u16,
    pub elapsed: Duration,
    /// What answered it.
    pub pipeline: Option<&'a Pipeline>,
    /// Why it has no answer.
    pub problem: Option<&'a Problem>,
    /// Its trace, if it has one.
    pub trace: Option<&'a Trace>,
}

impl RequestLine {
    /// The HTTP method.
    pub(super) fn method(&self) -> &Method {
        &self.method
    }
}

impl RequestLine {
    /// It is for this user of its tenant.
    pub(super) fn is_for_user(&self, user: &str) {
        let _ = self.user.set(user.into());
    }

    /// The tenant's user.
    pub(super) fn user(&self) -> &OnceLock<Box<str>> {
        &self.user
    }
}

impl From<&Parts> for RequestLine {
    fn from(head: &Parts) -> Self {
        Self { method: head.method.clone(), uri: head.uri.clone(), user: OnceLock::new() }
    }
}

impl RequestLog {
    /// Nothing has been told.
    pub(crate) fn new(now: Instant) -> Self {
        Self { failures: Mutex::new(Failures { bucket: Bucket::full(now), not_told: 0 }) }
    }

    /// A request has ended at that time.
    pub(crate) fn tell(&self, ended: &Ended<'_>, now: Instant) {
        macro_rules! tell {
            ($level:expr, $target:expr, $not_told:expr, $text:literal) => {{
                let Ended { request_id, line, status, elapsed, pipeline, problem, trace } = ended;
                let origin = problem.and_then(Problem::origin);
                let path: String = line.uri.path().chars().take(MAX_PATH_CHARS).collect();
                tracing::event!(
                    target: $target, $level, %request_id, method = %line.method, path, status,
                    elapsed_ms = elapsed.as_secs_f64() * 1000.0,
                    pipeline = pipeline.map(|it| it.plan.name().as_str()),
                    revision = pipeline.map(|it| it.revision),
                    class = problem.map(Problem::name),
                    stage = origin.map(|it| &*it.stage),
                    replica = origin.and_then(|it| it.replica.as_ref()).map(|it| it.as_str()),
                    detail = problem.map(Problem::detail),
                    trace_id = trace.map(Trace::trace_id),
                    user = line.user().get().map(|user| &**user),
                    not_told = $not_told,
                    $text
                );
            }};
        }
        if tracing::enabled!(target: ACCESS_LOG, Level::INFO) {
            tell!(Level::INFO, ACCESS_LOG, None::<u64>, "a request ended");
        } else if ended.status >= 500
            && let Some(not_told) = self.may_tell(now)
        {
            let not_told = Some(not_told).filter(|not_told| *not_told > 0);
            tell!(Level::WARN, module_path!(), not_told, "a request failed");
        }
    }

    /// Whether one more failure may be told, and how many were not before it.
    fn may_tell(&self, now: Instant) -> Option<u64> {
        let mut failures = self.failures.lock();
        if failures.bucket.take(FAILURES, now).is_ok() {
            return Some(std::mem::take(&mut failures.not_told));
        }
        failures.not_told += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_at_a_bounded_rate_and_the_others_are_counted() {
        let start = millstream_clock::now();
        let log = RequestLog::new(start);
        let told = (0..100).filter(|_| log.may_tell(start).is_some()).count();
        assert_eq!(told, 20);
        assert_eq!(log.may_tell(start + Duration::from_secs(1)), Some(80));
        assert_eq!(log.may_tell(start + Duration::from_secs(1)), Some(0));
    }
}
