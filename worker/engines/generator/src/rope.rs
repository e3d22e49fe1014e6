//! Rotary position embeddings: pairs of a head's numbers are turned by an angle that grows with the position.
//! Sources: Su et al. 2021; the `llama3` scaling of frequencies as Llama 3.1 defines it.

use millstream_engine::LoadError;
use serde::Deserialize;

use crate::unsupported::unsupported;

/// `rope_parameters` of newer files, `rope_scaling` of older ones.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct RawRope {
    pub(crate) rope_theta: Option<f64>,
    #[serde(alias = "type")]
    pub(crate) rope_type: Option<String>,
    pub(crate) factor: Option<f64>,
    pub(crate) low_freq_factor: Option<f64>,
    pub(crate) high_freq_factor: Option<f64>,
    pub(crate) original_max_position_embeddings: Option<f64>,
}

/// Angle per position for each pair of a head, `head_size / 2` of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rope {
    frequencies: Vec<f32>,
}

/// Cosines and sines for some positions, `[positions, head_size / 2]` each.
pub(crate) struct RotaryTable {
    cos: Vec<f32>,
    sin: Vec<f32>,
    pairs: usize,
}

const DEFAULT_THETA: f64 = 10_000.0;

impl Rope {
    /// Frequencies by the configuration.
    pub(crate) fn new(raw: &RawRope, theta: Option<f64>, head_size: usize) -> Result<Self, LoadError> {
        let theta = raw.rope_theta.or(theta).unwrap_or(DEFAULT_THETA);
        #[expect(clippy::cast_precision_loss, reason = "head sizes are small")]
        let plain = (0..head_size / 2).map(|pair| theta.powf(-2.0 * pair as f64 / head_size as f64));
        let frequencies: Vec<f64> = match raw.rope_type.as_deref() {
            None | Some("default") => plain.collect(),
            Some("linear") => {
                let factor = raw.factor.ok_or_else(|| incomplete("factor"))?;
                plain.map(|frequency| frequency / factor).collect()
            }
            Some("llama3") => {
                let scaling = Llama3Scaling::new(raw)?;
                plain.map(|frequency| scaling.apply(frequency)).collect()
            }
            Some(other) => return Err(unsupported("rope_type", other, "`default`, `linear` and `llama3`")),
        };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "angles are computed in f32, as the models were trained"
        )]
        Ok(Self { frequencies: frequencies.into_iter().map(|frequency| frequency as f32).collect() })
    }

    /// Cosines and sines for the given positions.
    pub(crate) fn turns(&self, positions: &[usize]) -> RotaryTable {
        let pairs = self.frequencies.len();
        let mut turns = RotaryTable { cos: Vec::new(), sin: Vec::new(), pairs };
        turns.cos.reserve(positions.len() * pairs);
        turns.sin.reserve(positions.len() * pairs);
        for &position in positions {
            for &frequency in &self.frequencies {
                #[expect(clippy::cast_precision_loss, reason = "contexts are far below 2^24")]
                let (sin, cos) = (position as f32 * frequency).sin_cos();
                turns.cos.push(cos);
                turns.sin.push(sin);
            }
        }
        turns
    }
}

impl RotaryTable {
    /// Turns every head of `row`, which stands at the `index`-th of the positions, in place.
    pub(crate) fn apply(&self, row: &mut [f32], index: usize) {
        let range = index * self.pairs..(index + 1) * self.pairs;
        let (cos, sin) = (&self.cos[range.clone()], &self.sin[range]);
        for head in row.chunks_exact_mut(2 * self.pairs) {
            let (first, second) = head.split_at_mut(self.pairs);
            for (((a, b), &cos), &sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }
}

/// Slows down low frequencies by `factor`, leaves high ones, blends between.
struct Llama3Scaling {
    factor: f64,
    low: f64,
    high: f64,
    original: f64,
}

impl Llama3Scaling {
    fn new(raw: &RawRope) -> Result<Self, LoadError> {
        Ok(Self {
            factor: raw.factor.ok_or_else(|| incomplete("factor"))?,
            low: raw.low_freq_factor.ok_or_else(|| incomplete("low_freq_factor"))?,
            high: raw.high_freq_factor.ok_or_else(|| incomplete("high_freq_factor"))?,
            original: raw
                .original_max_position_embeddings
                .ok_or_else(|| incomplete("original_max_position_embeddings"))?,
        })
    }

    fn apply(&self, frequency: f64) -> f64 {
        let turns = self.original * frequency / (2.0 * std::f64::consts::PI);
        if turns < self.low {
            frequency / self.factor
        } else if turns > self.high {
            frequency
        } else {
            let blend = (turns - self.low) / (self.high - self.low);
            (1.0 - blend) * frequency / self.factor + blend * frequency
        }
    }
}

fn incomplete(key: &str) -> LoadError {
    LoadError::Model(format!("`config.json`: the scaling of rotary embeddings has no `{key}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turning_keeps_lengths_and_inner_products_depend_on_the_distance_alone() {
        let rope = Rope::new(&RawRope::default(), None, 8).unwrap();
        let (q, k) =
            ([0.3, -1.0, 0.5, 2.0, 0.1, 0.9, -0.7, 0.2f32], [1.0, 0.4, -0.2, 0.8, -1.1, 0.3, 0.6, -0.5f32]);
        let product = |at_q: usize, at_k: usize| {
            let turns = rope.turns(&[at_q, at_k]);
            let (mut q, mut k) = (q, k);
            turns.apply(&mut q, 0);
            turns.apply(&mut k, 1);
            q.iter().zip(&k).map(|(a, b)| a * b).sum::<f32>()
        };
        assert!((product(7, 3) - product(104, 100)).abs() < 1e-4);
        assert!((product(7, 3) - product(8, 3)).abs() > 1e-3);
    }

    #[test]
    fn the_llama3_scaling_leaves_high_frequencies_and_divides_low_ones() {
        let raw = RawRope {
            rope_type: Some("llama3".to_owned()),
            factor: Some(8.0),
            low_freq_factor: Some(1.0),
            high_freq_factor: Some(4.0),
            original_max_position_embeddings: Some(64.0),
            ..RawRope::default()
        };
        let plain = Rope::new(&RawRope::default(), None, 16).unwrap().frequencies;
        let scaled = Rope::new(&raw, None, 16).unwrap().frequencies;
        assert_eq!(plain[0], scaled[0]);
        assert!((plain[7] / scaled[7] - 8.0).abs() < 1e-4);
        let error = Rope::new(&RawRope { factor: None, ..raw }, None, 16).unwrap_err().to_string();
        assert!(error.contains("has no `factor`"));
    }
}
