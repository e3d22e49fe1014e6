//! Revisions of one pipeline, `p`, for tests and benchmarks of updates: good ones, ones that fail, ones that never get
//! ready. Each says in its answers which it is.

use millstream_test_support::Echo;

/// An echo that says which version it is.
#[must_use]
pub fn revision(version: u32) -> Echo {
    Echo::new("p").deployment("delay = \"5ms\"").replicas(2).echoes("version", &version.to_string())
}

/// A revision whose replicas cannot be kept from the one before: their settings differ.
#[must_use]
pub fn good_revision(version: u32) -> Echo {
    revision(version).deployment(&format!("cpus = {}", 0.01 + 0.001 * f64::from(version)))
}

/// One that answers half of its calls.
#[must_use]
pub fn failing_revision(version: u32) -> Echo {
    good_revision(version).deployment("fail_ratio = 0.5")
}

/// One that never gets ready.
#[must_use]
pub fn broken_revision(version: u32) -> Echo {
    let broken = "[deployments.broken]\ntask = \"embed\"\nengine = \"candle\"\nmodel = \"file:nowhere\"";
    good_revision(version).more(broken)
}
