//! Which calls of a replica fail: as many as asked, spread evenly, and others with another seed.

use crate::curves::draw;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Faults {
    /// Part of the calls that fail, 0 to 1.
    ratio: f64,
    /// The part of a failure that has added up, below 1: with each call there is `ratio` more.
    due: f64,
}

impl Faults {
    /// Those of the `number`th replica of a process. Each begins elsewhere, so that many replicas do not fail at the same time.
    #[expect(clippy::cast_precision_loss, reason = "any number from 0 to 1 will do")]
    pub(crate) fn new(ratio: f64, seed: u64, number: u64) -> Self {
        let mut draws = seed ^ number.rotate_left(32);
        let due = (draw(&mut draws) >> 11) as f64 / (1_u64 << 53) as f64;
        Self { ratio, due }
    }

    /// Whether the next call fails.
    pub(crate) fn next_fails(&mut self) -> bool {
        self.due += self.ratio;
        let fails = self.due >= 1.0;
        if fails {
            self.due -= 1.0;
        }
        fails
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures(ratio: f64, seed: u64, number: u64) -> Vec<usize> {
        let mut faults = Faults::new(ratio, seed, number);
        (0..1000).filter(|_| faults.next_fails()).collect()
    }

    #[test]
    fn the_asked_part_fails_evenly_spread() {
        for (ratio, expected) in [(0.0, 0), (0.25, 250), (0.3, 300), (1.0, 1000)] {
            let failed = failures(ratio, 7, 3);
            assert!(failed.len().abs_diff(expected) <= 1, "{ratio}: {}", failed.len());
            let gaps = failed.windows(2).map(|pair| pair[1] - pair[0]);
            assert!(gaps.max().unwrap_or(0) <= 4, "{ratio}");
        }
    }

    #[test]
    fn seed_and_replica_decide_which() {
        assert_eq!(failures(0.01, 7, 0), failures(0.01, 7, 0));
        assert_ne!(failures(0.01, 7, 0), failures(0.01, 8, 0));
        // Of 1,000 replicas, about ten fail their first call.
        let first = (0..1000).filter(|&number| failures(0.01, 7, number).first() == Some(&0)).count();
        assert!((3..30).contains(&first), "{first}");
    }
}
