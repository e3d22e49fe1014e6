//! The last minute of a deployment's ongoing requests, one value a second, and how it is drawn in few characters.

use std::collections::VecDeque;

/// Values that are kept: a minute of them.
pub(super) const LENGTH: usize = 60;
/// From nothing to the highest value of the minute.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The newest values, one a second.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct History {
    values: VecDeque<u64>,
    /// Values that were ever taken: columns of several seconds begin at the same ones whenever they are drawn.
    num_taken: usize,
}

impl History {
    /// Adds the value of this second; the oldest one leaves after a minute.
    pub(super) fn push(&mut self, value: u64) {
        if self.values.len() == LENGTH {
            self.values.pop_front();
        }
        self.values.push_back(value);
        self.num_taken += 1;
    }

    /// The minute as bars in that many characters, the newest at the right. Where there are fewer characters than seconds, each stands for
    /// the highest of several.
    pub(super) fn bars(&self, width: usize) -> String {
        let highest = self.values.iter().copied().max().unwrap_or(0);
        let columns = self.columns(width);
        let blank = width.saturating_sub(columns.len());
        let bars = columns.into_iter().map(|value| bar(value, highest));
        std::iter::repeat_n(' ', blank).chain(bars).collect()
    }

    /// The highest values of equally long stretches, at most `width` of them.
    fn columns(&self, width: usize) -> Vec<u64> {
        if width == 0 {
            return Vec::new();
        }
        let seconds = LENGTH.div_ceil(width);
        let oldest = self.num_taken - self.values.len();
        let mut columns: Vec<(usize, u64)> = Vec::new();
        for (at, &value) in self.values.iter().enumerate() {
            let stretch = (oldest + at) / seconds;
            match columns.last_mut().filter(|(known, _)| *known == stretch) {
                Some((_, highest)) => *highest = value.max(*highest),
                None => columns.push((stretch, value)),
            }
        }
        let surplus = columns.len().saturating_sub(width);
        columns.drain(..surplus);
        columns.into_iter().map(|(_, value)| value).collect()
    }
}

/// A value beside the highest one. Nothing is the lowest bar, and anything more is higher than that.
fn bar(value: u64, highest: u64) -> char {
    if value == 0 {
        return BARS[0];
    }
    let steps = BARS.len() as u128 - 1;
    let step = (u128::from(value) * steps).div_ceil(u128::from(highest.max(1)));
    BARS[usize::try_from(step).unwrap_or(0).min(BARS.len() - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> History {
        let mut history = History::default();
        values.into_iter().for_each(|value| history.push(value));
        history
    }

    #[test]
    fn the_newest_value_is_at_the_right_and_the_highest_fills_its_place() {
        assert_eq!(of([]).bars(3), "   ");
        assert_eq!(of([0, 1, 7]).bars(60).trim_start(), "▁▂█");
        assert_eq!(of([0, 0]).bars(60).trim_start(), "▁▁");
        assert_eq!(of([1, 1_000_000]).bars(60).trim_start(), "▂█");
        assert_eq!(of([u64::MAX]).bars(1), "█");
        assert_eq!(of([5]).bars(0), "");
    }

    #[test]
    fn a_minute_is_kept_and_a_narrow_column_shows_the_highest_of_several_seconds() {
        let minute = of(0..200);
        assert_eq!(minute.bars(60).chars().count(), 60);
        assert_eq!(minute.columns(12), (0..12).map(|column| 140 + column * 5 + 4).collect::<Vec<_>>());
        // A peak keeps its column's height as the minute goes on.
        let mut peak = of([vec![0; 30], vec![9], vec![0; 4]].concat());
        for _ in 0..20 {
            assert_eq!(peak.columns(12).iter().filter(|&&value| value == 9).count(), 1);
            assert!(peak.columns(12).len() <= 12);
            peak.push(0);
        }
    }
}
