//! The rectangle of ids that texts become when they run together. Pure: no model, no clock.

use crate::tokens::Tokens;

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
}
