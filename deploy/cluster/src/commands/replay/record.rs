//! What became of the captured requests when they were sent again: counts, latencies and the first differences, from what is
//! handed in.

use super::compare::{Comparison, Difference, compare};
use super::read::Captured;

/// Most differences that are kept.
const MAX_KEPT: usize = 20;

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reply {
    /// A whole answer.
    Answered {
        /// Its HTTP status.
        status: u16,
        /// Its body.
        body: Vec<u8>,
        /// How long it took.
        latency_us: u64,
    },
    /// No whole answer, and why.
    Failed(String),
}

/// How an answer stands beside the one that was captured. A closed list: scripts know these names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They say the same, or both requests failed with the same status.
    Equal,
    /// Some numbers are off, within the tolerance.
    Near,
    /// They say something else.
    Different,
    /// There was an answer, or a failure of another status, and now there is none.
    Failed,
    /// There was none when the request was captured, or all of it was redacted.
    NotCompared,
}

impl Verdict {
    /// All of them, in the order they are shown.
    pub(super) const ALL: [Self; 5] =
        [Self::Equal, Self::Near, Self::Different, Self::Failed, Self::NotCompared];

    /// Its name in JSON.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Near => "near",
            Self::Different => "different",
            Self::Failed => "failed",
            Self::NotCompared => "not_compared",
        }
    }
}

/// A request whose answer is another one, or that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The request's id.
    pub(super) id: String,
    /// Different or failed.
    pub(super) verdict: Verdict,
    /// Where, and what stands there.
    pub(super) difference: Difference,
}

/// What has become of requests so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Summary {
    counts: [usize; Verdict::ALL.len()],
    /// The most that a number was off, of those within the tolerance.
    pub(super) off: f64,
    /// The first ones, in the order in which they ended.
    pub(super) found: Vec<Found>,
    /// In microseconds, of requests that were answered both times.
    captured_us: Vec<u64>,
    now_us: Vec<u64>,
}

impl Summary {
    /// A request has ended.
    pub(super) fn add(&mut self, captured: &Captured, reply: &Reply, tolerance: f64) {
        let (verdict, difference) = self.judge(captured, reply, tolerance);
        self.counts[verdict as usize] += 1;
        if let Some(difference) = difference.filter(|_| self.found.len() < MAX_KEPT) {
            self.found.push(Found { id: captured.id.clone(), verdict, difference });
        }
        if let (Reply::Answered { status: 200, latency_us, .. }, Some(before), 200) =
            (reply, captured.latency_us, captured.status)
        {
            self.captured_us.push(before);
            self.now_us.push(*latency_us);
        }
    }

    /// So many of that verdict.
    pub(super) fn count(&self, verdict: Verdict) -> usize {
        self.counts[verdict as usize]
    }

    /// So many in all.
    pub(super) fn total(&self) -> usize {
        self.counts.iter().sum()
    }

    /// Those that are not as they were.
    pub(super) fn bad(&self) -> usize {
        self.count(Verdict::Different) + self.count(Verdict::Failed)
    }

    /// The latencies when they were captured and those of now, where there are any.
    pub(super) fn latencies(&self) -> Option<[Latency; 2]> {
        Some([Latency::of(&self.captured_us)?, Latency::of(&self.now_us)?])
    }

    fn judge(&mut self, captured: &Captured, reply: &Reply, tolerance: f64) -> (Verdict, Option<Difference>) {
        let beside = |path: &str, now: String| {
            Some(Difference { path: path.to_owned(), captured: captured.status.to_string(), now })
        };
        let (status, body) = match reply {
            Reply::Failed(why) => return (Verdict::Failed, beside("status", why.clone())),
            Reply::Answered { status, body, .. } => (*status, body),
        };
        match (captured.status, status) {
            (200, 200) => {}
            (_, 200) => return (Verdict::NotCompared, None),
            (before, now) if before == now => return (Verdict::Equal, None),
            (_, now) => return (Verdict::Failed, beside("status", now.to_string())),
        }
        let before = captured.answer.as_ref().and_then(|answer| serde_json::from_str(answer.get()).ok());
        let Some(before) = before else { return (Verdict::NotCompared, None) };
        let Ok(now) = serde_json::from_slice(body) else {
            return (Verdict::Failed, beside("status", "an answer that is not JSON".to_owned()));
        };
        match compare(&before, &now, tolerance) {
            Comparison::Equal => (Verdict::Equal, None),
            Comparison::Near(off) => {
                self.off = self.off.max(off);
                (Verdict::Near, None)
            }
            Comparison::Different(difference) => (Verdict::Different, Some(difference)),
            Comparison::NothingToCompare => (Verdict::NotCompared, None),
        }
    }
}

/// Quantiles, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
}

impl Latency {
    #[expect(clippy::cast_precision_loss, reason = "microseconds of an hour are far below 2^52")]
    fn of(all_us: &[u64]) -> Option<Self> {
        let mut sorted = all_us.to_vec();
        sorted.sort_unstable();
        // The smallest value that so many percent do not exceed.
        let at = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).max(1);
            sorted.get(rank - 1).map(|us| *us as f64 / 1e3)
        };
        Some(Self { p50: at(50)?, p95: at(95)?, p99: at(99)? })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn captured(status: u16, answer: Option<&str>) -> Captured {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        Captured {
            id: "r-1".to_owned(),
            at_us: 0,
            fields: raw("{}"),
            status,
            latency_us: Some(2000),
            answer: answer.map(raw),
        }
    }

    fn reply(status: u16, body: &str) -> Reply {
        Reply::Answered { status, body: body.into(), latency_us: 1000 }
    }

    #[test]
    fn each_request_gets_one_verdict() {
        let good = || captured(200, Some("{\"a\":1.0}"));
        for (captured, reply, verdict) in [
            (good(), reply(200, "{\"a\": 1.0}\n"), Verdict::Equal),
            (good(), reply(200, "{\"a\":1.0001}"), Verdict::Near),
            (good(), reply(200, "{\"a\":2.0}"), Verdict::Different),
            (good(), reply(200, "not JSON"), Verdict::Failed),
            (good(), reply(503, "{}"), Verdict::Failed),
            (good(), Reply::Failed("no answer within 1m".into()), Verdict::Failed),
            (captured(503, None), reply(200, "{}"), Verdict::NotCompared),
            (captured(503, None), reply(503, "{}"), Verdict::Equal),
            (captured(503, None), reply(500, "{}"), Verdict::Failed),
            (captured(200, Some("\"[redacted]\"")), reply(200, "{}"), Verdict::NotCompared),
            (captured(200, None), reply(200, "{}"), Verdict::NotCompared),
        ] {
            let mut summary = Summary::default();
            summary.add(&captured, &reply, 1e-3);
            assert_eq!(summary.count(verdict), 1, "{captured:?} {reply:?}: {summary:?}");
            assert_eq!(summary.total(), 1);
            let is_bad = matches!(verdict, Verdict::Different | Verdict::Failed);
            assert_eq!((summary.bad() == 1, summary.found.len() == 1), (is_bad, is_bad), "{summary:?}");
            let both = captured.status == 200 && matches!(reply, Reply::Answered { status: 200, .. });
            assert_eq!(summary.latencies().is_some(), both);
        }
    }

    #[test]
    fn quantiles_are_values_that_were_there() {
        let all: Vec<u64> = (1..=100).rev().map(|ms| ms * 1000).collect();
        assert_eq!(Latency::of(&all), Some(Latency { p50: 50.0, p95: 95.0, p99: 99.0 }));
        assert_eq!(Latency::of(&[7000]), Some(Latency { p50: 7.0, p95: 7.0, p99: 7.0 }));
        assert_eq!(Latency::of(&[]), None);
    }

    #[test]
    fn differences_are_kept_up_to_a_bound_and_counted_beyond_it() {
        let mut summary = Summary::default();
        for _ in 0..100 {
            summary.add(&captured(200, Some("1")), &reply(200, "2"), 0.0);
        }
        assert_eq!((summary.bad(), summary.found.len()), (100, MAX_KEPT));
    }
}
