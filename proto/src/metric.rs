//! How a metric is declared: its name, kind, meaning and labels as one value, so that what is recorded, what is described
//! to Prometheus and what the documentation lists are the same thing. Each crate declares its own in its `metrics.rs`.

/// What numbers a metric has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only grows, until the process ends.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations, counted by these upper bounds.
    Histogram(&'static [f64]),
}

/// A metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Definition {
    /// Its name: `millstream_`, what it counts, its base unit; `_total` on counters only.
    pub name: &'static str,
    /// What numbers it has.
    pub kind: Kind,
    /// What it means, for people.
    pub help: &'static str,
    /// Keys of its labels. Values are names that people gave, or words of a closed set.
    pub labels: &'static [&'static str],
}

/// Bounds for durations of requests and calls, in seconds: 100 µs to 60 s.
pub const SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0,
];

/// Bounds for sizes of batches, in inputs.
pub const INPUTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_rise() {
        for bounds in [SECONDS, INPUTS] {
            assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        }
    }
}
