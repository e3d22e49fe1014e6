//! From one vector per token to one per text, as sentence-transformers does it. Pure arithmetic on slices.

use crate::batch::TokenBatch;
use crate::config::Pooling;

/// Pools token vectors `hidden`, row-major `[rows, width, size]`, to one vector per text, `[rows, size]`. Padding does
/// not count.
///
/// # Panics
/// When `hidden` is not `rows * width * size` long.
#[must_use]
pub fn pool(hidden: &[f32], batch: &TokenBatch, size: usize, pooling: Pooling) -> Vec<f32> {
    assert_eq!(hidden.len(), batch.rows * batch.width * size, "hidden states have the batch's shape");
    let mut out = vec![0.0_f32; batch.rows * size];
    if size == 0 {
        return out;
    }
    for (row, pooled) in out.chunks_exact_mut(size).enumerate() {
        let tokens = &hidden[row * batch.width * size..(row + 1) * batch.width * size];
        let mask = &batch.mask[row * batch.width..(row + 1) * batch.width];
        match pooling {
            Pooling::Cls => pooled.copy_from_slice(&tokens[..size]),
            Pooling::Mean => mean(tokens, mask, pooled),
            Pooling::Max => maximum(tokens, mask, pooled),
        }
    }
    out
}

#[expect(clippy::cast_precision_loss, reason = "a text has far fewer than 2^24 tokens")]
fn mean(tokens: &[f32], mask: &[u32], pooled: &mut [f32]) {
    let mut count = 0_u32;
    for (token, _) in tokens.chunks_exact(pooled.len()).zip(mask).filter(|(_, bit)| **bit == 1) {
        count += 1;
        for (sum, value) in pooled.iter_mut().zip(token) {
            *sum += value;
        }
    }
    // The floor is sentence-transformers' own, for a text without tokens.
    let scale = 1.0 / (count as f32).max(1e-9);
    pooled.iter_mut().for_each(|sum| *sum *= scale);
}

fn maximum(tokens: &[f32], mask: &[u32], pooled: &mut [f32]) {
    pooled.fill(-1e9);
    for (token, _) in tokens.chunks_exact(pooled.len()).zip(mask).filter(|(_, bit)| **bit == 1) {
        for (largest, value) in pooled.iter_mut().zip(token) {
            *largest = largest.max(*value);
        }
    }
}

/// Scales each vector of `rows`, `[n, size]`, to length 1; a zero vector stays zero.
pub fn normalize(rows: &mut [f32], size: usize) {
    if size == 0 {
        return;
    }
    for row in rows.chunks_exact_mut(size) {
        let length = row.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-12);
        row.iter_mut().for_each(|value| *value /= length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::Tokens;

    #[test]
    fn padding_does_not_count() {
        let two = Tokens { ids: vec![1, 2], type_ids: vec![0, 0] };
        let one = Tokens { ids: vec![3], type_ids: vec![0] };
        let batch = TokenBatch::of([&two, &one], 0);
        let hidden = [1.0, -2.0, 3.0, -4.0, 5.0, 6.0, 99.0, 99.0];
        assert_eq!(pool(&hidden, &batch, 2, Pooling::Mean), [2.0, -3.0, 5.0, 6.0]);
        assert_eq!(pool(&hidden, &batch, 2, Pooling::Max), [3.0, -2.0, 5.0, 6.0]);
        assert_eq!(pool(&hidden, &batch, 2, Pooling::Cls), [1.0, -2.0, 5.0, 6.0]);
    }

    #[test]
    fn vectors_get_length_one_and_zero_stays_zero() {
        let mut rows = [3.0, 4.0, 0.0, 0.0];
        normalize(&mut rows, 2);
        assert_eq!(rows, [0.6, 0.8, 0.0, 0.0]);
    }
}
