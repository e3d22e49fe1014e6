//! Which texts run together, and the rectangle of ids that they become. Pure: no model, no clock.

use crate::tokens::Tokens;

/// How large one run of the model may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Most texts, at least 1.
    pub max_rows: usize,
    /// Most tokens, padding counted; a single text longer than this still runs, alone.
    pub max_tokens: usize,
}

/// Padding that is always worth a run saved, in tokens.
const FREE_PADDING_TOKENS: usize = 64;

/// Indices of the texts to run next, given the lengths of those that wait, oldest first. The oldest is always among
/// them; those next to it in length join while the limits hold and padding stays below a quarter of the real tokens.
/// Costs a sort of the lengths; empty only if `lengths` is.
#[must_use]
pub fn choose(lengths: &[usize], limits: BatchLimits) -> Vec<usize> {
    if lengths.is_empty() {
        return Vec::new();
    }
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    // Equal lengths stay oldest first.
    order.sort_by_key(|&index| lengths[index]);
    let oldest = order.iter().position(|&index| index == 0).unwrap_or(0);
    let (mut low, mut high) = (oldest, oldest);
    let mut real = lengths[0];
    while high - low + 1 < limits.max_rows {
        let rows = high - low + 2;
        let longest = lengths[order[high]];
        let shorter = low.checked_sub(1).map(|at| (longest * rows, real + lengths[order[at]]));
        let longer = order.get(high + 1).map(|&index| (lengths[index] * rows, real + lengths[index]));
        let padding = |(area, tokens): (usize, usize)| area - tokens;
        let take_longer = match (shorter, longer) {
            (None, None) => break,
            (Some(_), None) => false,
            (None, Some(_)) => true,
            (Some(shorter), Some(longer)) => padding(longer) <= padding(shorter),
        };
        let Some((area, tokens)) = (if take_longer { longer } else { shorter }) else { break };
        if area > limits.max_tokens || area - tokens > tokens / 4 + FREE_PADDING_TOKENS {
            break;
        }
        real = tokens;
        if take_longer {
            high += 1;
        } else {
            low -= 1;
        }
    }
    let mut chosen = order[low..=high].to_vec();
    chosen.sort_unstable();
    chosen
}

/// Texts as one rectangle of ids, row-major `[rows, width]`; shorter rows are filled up at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBatch {
    /// How many texts.
    pub rows: usize,
    /// Tokens of the longest one, at least 1.
    pub width: usize,
    /// Token ids.
    pub ids: Vec<u32>,
    /// 1 for a token, 0 for padding.
    pub mask: Vec<u32>,
    /// 0 for the first text of a pair, 1 for the second.
    pub type_ids: Vec<u32>,
}

impl TokenBatch {
    /// Lays texts out as a rectangle; a text without tokens becomes a row of padding.
    #[must_use]
    pub fn of<'a>(rows: impl IntoIterator<Item = &'a Tokens>, pad_id: u32) -> Self {
        let rows: Vec<&Tokens> = rows.into_iter().collect();
        let width = rows.iter().map(|tokens| tokens.len()).max().unwrap_or(0).max(1);
        let area = rows.len() * width;
        let mut batch = Self {
            rows: rows.len(),
            width,
            ids: Vec::with_capacity(area),
            mask: Vec::with_capacity(area),
            type_ids: Vec::with_capacity(area),
        };
        for (row, tokens) in rows.iter().enumerate() {
            let end = (row + 1) * width;
            batch.ids.extend_from_slice(&tokens.ids);
            batch.ids.resize(end, pad_id);
            batch.mask.resize(row * width + tokens.len(), 1);
            batch.mask.resize(end, 0);
            batch.type_ids.extend_from_slice(&tokens.type_ids);
            batch.type_ids.resize(end, 0);
        }
        batch
    }

    /// Whether every row is as long as the longest, so that a mask changes nothing.
    #[must_use]
    pub fn is_unpadded(&self) -> bool {
        self.mask.iter().all(|&bit| bit == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: BatchLimits = BatchLimits { max_rows: 4, max_tokens: 1000 };

    #[test]
    fn the_oldest_runs_with_its_neighbours_in_length() {
        let table: [(&[usize], BatchLimits, &[usize]); 6] = [
            (&[], LIMITS, &[]),
            (&[10], LIMITS, &[0]),
            (&[10, 200, 12, 11], LIMITS, &[0, 2, 3]),
            (&[200, 10, 10, 190], LIMITS, &[0, 3]),
            (&[5, 5, 5, 5, 5, 5], LIMITS, &[0, 1, 2, 3]),
            (&[2000, 2000], LIMITS, &[0]),
        ];
        for (lengths, limits, expected) in table {
            assert_eq!(choose(lengths, limits), expected, "{lengths:?}");
        }
    }

    #[test]
    fn rows_are_filled_up_at_the_end() {
        let long = Tokens { ids: vec![1, 2, 3], type_ids: vec![0, 0, 1] };
        let short = Tokens { ids: vec![4], type_ids: vec![0] };
        let batch = TokenBatch::of([&long, &short], 9);
        assert_eq!((batch.rows, batch.width), (2, 3));
        assert_eq!(batch.ids, [1, 2, 3, 4, 9, 9]);
        assert_eq!(batch.mask, [1, 1, 1, 1, 0, 0]);
        assert_eq!(batch.type_ids, [0, 0, 1, 0, 0, 0]);
        assert!(!batch.is_unpadded());
        let empty = TokenBatch::of([&Tokens::default()], 9);
        assert_eq!((empty.ids, empty.mask), (vec![9], vec![0]));
    }

    proptest! {
        #[test]
        fn limits_hold_and_every_text_is_run_once(
            lengths in proptest::collection::vec(1usize..300, 0..60),
            max_rows in 1usize..20,
            max_tokens in 1usize..3000,
        ) {
            let limits = BatchLimits { max_rows, max_tokens };
            let mut left: Vec<(usize, usize)> = lengths.iter().copied().enumerate().collect();
            let mut seen = Vec::new();
            while !left.is_empty() {
                let waiting: Vec<usize> = left.iter().map(|entry| entry.1).collect();
                let chosen = choose(&waiting, limits);
                prop_assert_eq!(chosen[0], 0);
                prop_assert!(chosen.len() <= max_rows);
                let longest = chosen.iter().map(|&at| waiting[at]).max().unwrap_or(0);
                prop_assert!(chosen.len() == 1 || longest * chosen.len() <= max_tokens);
                for &at in chosen.iter().rev() {
                    seen.push(left.remove(at).0);
                }
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
        }
    }
}
