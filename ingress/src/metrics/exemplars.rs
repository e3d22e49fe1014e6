//! For each bucket of the histogram of requests the trace of one request that fell into it, so that a chart leads to a trace.
//!
//! As the recorder is one for the process, so are these. Only kept traces get here: a few a second.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_proto::metric::SECONDS;
use parking_lot::Mutex;

/// A request that fell into a bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// Its trace.
    pub trace_id: String,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// When it ended, in milliseconds since the Unix epoch.
    pub at_ms: f64,
}

/// Which bucket: the values of the labels `pipeline` and `class`, and the index of its upper bound; the last one has none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket {
    /// The pipeline.
    pub pipeline: String,
    /// The class of statuses.
    pub class: &'static str,
    /// The index of the bound in [`SECONDS`].
    pub index: usize,
}

/// Most buckets with an exemplar.
const MAX: usize = 4096;

static NEWEST: Mutex<BTreeMap<Bucket, Exemplar>> = Mutex::new(BTreeMap::new());

/// The newest exemplar of each bucket.
#[must_use]
pub fn exemplars() -> BTreeMap<Bucket, Exemplar> {
    NEWEST.lock().clone()
}

/// A request of which there is a trace has ended.
pub(crate) fn note(pipeline: &str, class: &'static str, elapsed: Duration, trace_id: String) {
    let seconds = elapsed.as_secs_f64();
    let index = SECONDS.partition_point(|&bound| bound < seconds);
    let bucket = Bucket { pipeline: pipeline.to_owned(), class, index };
    #[expect(clippy::cast_precision_loss, reason = "microseconds since 1970 have 51 bits")]
    let at_ms = millstream_clock::unix_us() as f64 / 1e3;
    let mut newest = NEWEST.lock();
    if newest.len() < MAX || newest.contains_key(&bucket) {
        newest.insert(bucket, Exemplar { trace_id, seconds, at_ms });
    }
}
