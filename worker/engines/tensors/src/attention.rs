//! Scaled dot-product attention over slices: without padding, without masks, without copies of keys and values.

use candle_core::{Error, Result, Tensor};
use rayon::prelude::*;

use crate::linear::with_f32;
use crate::math;
use crate::matmul::{View, matmul};

/// Query rows that are worked on together: bounds the memory for scores to this times the number of keys.
const ROW_BLOCK: usize = 128;

/// Which keys a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CausalMask {
    /// All of them.
    All,
    /// Row `i` sees the first `before + i + 1`.
    Causal {
        /// Keys that are there before the first query's own.
        before: usize,
    },
}

impl CausalMask {
    fn keys_of(self, row: usize, num_keys: usize) -> usize {
        match self {
            Self::All => num_keys,
            Self::Causal { before } => (before + row + 1).min(num_keys),
        }
    }
}

/// One head's attention: queries `[rows, d]`, keys and values `[keys, d]`.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// Queries.
    pub queries: View<'a>,
    /// Keys.
    pub keys: View<'a>,
    /// Values.
    pub values: View<'a>,
    /// What products are multiplied by before the softmax.
    pub scale: f32,
    /// Which keys each query sees.
    pub sight: CausalMask,
}

/// The attention's result, `[rows, d]` without gaps.
///
/// # Panics
/// When the sizes of the views do not fit each other.
#[must_use]
pub fn attend(attention: &Attention<'_>) -> Vec<f32> {
    let Attention { queries, keys, values, scale, sight } = *attention;
    let (rows, size) = (queries.num_rows(), values.num_cols());
    let mut out = vec![0.0; rows * size];
    if rows == 1 {
        one_query(&mut out, attention);
        return out;
    }
    // Rows of keys become columns once, so that the product reads them in order.
    let transposed_keys = transpose(keys);
    let mut scores = Vec::new();
    for (block, out) in out.chunks_mut(ROW_BLOCK * size).enumerate() {
        let first = block * ROW_BLOCK;
        let last = (first + ROW_BLOCK).min(rows);
        let seen = sight.keys_of(last - 1, keys.num_rows());
        scores.clear();
        scores.resize((last - first) * seen, 0.0);
        let keys = View::new(&transposed_keys, queries.num_cols(), seen, keys.num_rows());
        matmul(&mut scores, queries.rows(first, last), keys, scale, 1);
        for (offset, row) in scores.chunks_exact_mut(seen).enumerate() {
            let (visible, hidden) = row.split_at_mut(sight.keys_of(first + offset, seen));
            math::softmax(visible);
            hidden.fill(0.0);
        }
        matmul(out, View::new(&scores, last - first, seen, seen), values.rows(0, seen), 1.0, 1);
    }
    out
}

fn transpose(view: View<'_>) -> Vec<f32> {
    let (rows, cols) = (view.num_rows(), view.num_cols());
    let mut out = vec![0.0; rows * cols];
    for row in 0..rows {
        for (col, &value) in view.row(row).iter().enumerate() {
            out[col * rows + row] = value;
        }
    }
    out
}

/// A single query, as in decoding: inner products and a weighted sum, cheaper than two matrix products.
fn one_query(out: &mut [f32], attention: &Attention<'_>) {
    let Attention { queries, keys, values, scale, sight } = *attention;
    let seen = sight.keys_of(0, keys.num_rows());
    let query = queries.row(0);
    let mut scores: Vec<f32> = (0..seen).map(|key| scale * math::dot(query, keys.row(key))).collect();
    math::softmax(&mut scores);
    for (key, &score) in scores.iter().enumerate() {
        math::add_scaled(out, values.row(key), score);
    }
}

/// Which tokens of a sequence ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queries {
    /// Every token.
    All,
    /// The first one alone: enough in the last layer of a model whose result is read from there.
    First,
}

/// Self-attention where every token sees its whole sequence. `packed` is `[tokens, 3 × heads × d]`: queries, keys and
/// values side by side, the sequences one after another with the given `lengths`. Returns `[tokens, heads × d]`, or
/// `[sequences, heads × d]` for [`Queries::First`] (an empty sequence gives zeros then).
///
/// # Errors
/// When the shape does not follow from lengths and heads, or the tensor is not on the CPU.
pub fn attend_packed(
    packed: &Tensor,
    lengths: &[usize],
    num_heads: usize,
    who: Queries,
    threads: usize,
) -> Result<Tensor> {
    let (tokens, width) = packed.dims2()?;
    let hidden = width / 3;
    if lengths.iter().sum::<usize>() != tokens
        || hidden * 3 != width
        || num_heads == 0
        || hidden % num_heads != 0
    {
        return Err(Error::Msg(format!("{tokens} × {width} is not packed attention of {num_heads} heads")));
    }
    let size = hidden / num_heads;
    let starts = starts_of(lengths);
    let rows: Vec<usize> = match who {
        Queries::All => lengths.to_vec(),
        Queries::First => vec![1; lengths.len()],
    };
    let row_starts = starts_of(&rows);
    #[expect(clippy::cast_precision_loss, reason = "head sizes are far below 2^24")]
    let scale = 1.0 / (size as f32).sqrt();
    let mut out = vec![0.0; rows.iter().sum::<usize>() * hidden];
    with_f32(packed, |packed| {
        let one = |sequence: usize, head: usize| {
            let part = |index: usize| {
                let offset = starts[sequence] * width + index * hidden + head * size;
                View::new(&packed[offset..], lengths[sequence], size, width)
            };
            let queries = part(0).rows(0, rows[sequence]);
            attend(&Attention { queries, keys: part(1), values: part(2), scale, sight: CausalMask::All })
        };
        let mut place = |sequence: usize, head: usize, result: &[f32]| {
            let rows = row_starts[sequence] * hidden..(row_starts[sequence] + rows[sequence]) * hidden;
            for (row, result) in out[rows].chunks_exact_mut(hidden).zip(result.chunks_exact(size)) {
                row[head * size..(head + 1) * size].copy_from_slice(result);
            }
        };
        let all = (0..lengths.len()).filter(|&sequence| lengths[sequence] > 0);
        let all: Vec<_> = all.flat_map(|sequence| (0..num_heads).map(move |head| (sequence, head))).collect();
        if threads > 1 && tokens * tokens / lengths.len().max(1) > 4_096 {
            let results: Vec<_> = all.par_iter().map(|&(sequence, head)| one(sequence, head)).collect();
            for (&(sequence, head), result) in all.iter().zip(&results) {
                place(sequence, head, result);
            }
        } else {
            for (sequence, head) in all {
                place(sequence, head, &one(sequence, head));
            }
        }
    })?;
    let num_rows = out.len() / hidden.max(1);
    Tensor::from_vec(out, (num_rows, hidden), packed.device())
}

fn starts_of(lengths: &[usize]) -> Vec<usize> {
    lengths.iter().scan(0, |at, &length| Some(std::mem::replace(at, *at + length))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made_up(n: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from(u16::try_from(state >> 16).unwrap()) / 32_768.0 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    fn plain(attention: &Attention<'_>) -> Vec<f32> {
        let Attention { queries, keys, values, scale, sight } = *attention;
        let mut out = Vec::new();
        for row in 0..queries.num_rows() {
            let seen = sight.keys_of(row, keys.num_rows());
            let score = |key: usize| -> f64 {
                let products = queries.row(row).iter().zip(keys.row(key)).map(|(a, b)| f64::from(a * b));
                (products.sum::<f64>() * f64::from(scale)).exp()
            };
            let total: f64 = (0..seen).map(score).sum();
            for column in 0..values.num_cols() {
                let sum: f64 =
                    (0..seen).map(|key| score(key) / total * f64::from(values.row(key)[column])).sum();
                #[expect(clippy::cast_possible_truncation, reason = "compared in f32")]
                out.push(sum as f32);
            }
        }
        out
    }

    #[test]
    fn attention_agrees_with_plain_loops_for_every_kind_of_sight() {
        let (q, k, v) = (made_up(300 * 24, 1), made_up(310 * 16, 2), made_up(310 * 16, 3));
        for (rows, sight) in [
            (1, CausalMask::All),
            (1, CausalMask::Causal { before: 200 }),
            (5, CausalMask::All),
            (300, CausalMask::Causal { before: 10 }),
            (300, CausalMask::Causal { before: 0 }),
        ] {
            let attention = Attention {
                queries: View::new(&q, rows, 16, 24),
                keys: View::new(&k, 310, 16, 16),
                values: View::new(&v, 310, 16, 16),
                scale: 0.25,
                sight,
            };
            for (a, b) in attend(&attention).iter().zip(plain(&attention)) {
                assert!((a - b).abs() < 1e-5, "{rows} rows, {sight:?}: {a} {b}");
            }
        }
    }

    #[test]
    fn packed_sequences_do_not_see_each_other() {
        let device = candle_core::Device::Cpu;
        let packed = Tensor::from_vec(made_up(150 * 48, 4), (150, 48), &device).unwrap();
        let together = attend_packed(&packed, &[100, 0, 50], 2, Queries::All, 2).unwrap();
        let second = attend_packed(&packed.narrow(0, 100, 50).unwrap(), &[50], 2, Queries::All, 1).unwrap();
        let expected = together.narrow(0, 100, 50).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(second.to_vec2::<f32>().unwrap(), expected);
        let first =
            attend_packed(&packed, &[100, 0, 50], 2, Queries::First, 1).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(first.len(), 3);
        for (a, b) in first[2].iter().zip(&expected[0]) {
            assert!((a - b).abs() < 1e-5);
        }
        assert!(attend_packed(&packed, &[100], 2, Queries::All, 1).is_err());
    }
}
