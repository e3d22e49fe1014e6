//! Choosing the next token from logits. Pure: the random number generator is passed in.

use millstream_engine_answers::Sampling;
use rand::Rng;

/// The next token, or `None` when the logits hold no number to choose by.
pub(crate) fn choose(logits: &[f32], sampling: Sampling, random: &mut impl Rng) -> Option<u32> {
    let (best, &largest) = logits
        .iter()
        .enumerate()
        .filter(|(_, logit)| !logit.is_nan())
        // The first of equals, as elsewhere.
        .reduce(|best, next| if next.1 > best.1 { next } else { best })?;
    if largest == f32::NEG_INFINITY {
        return None;
    }
    let index = if sampling.temperature <= 0.0 {
        best
    } else {
        draw(logits, largest, sampling, random.random::<f64>()).unwrap_or(best)
    };
    u32::try_from(index).ok()
}

/// Draws an index with the part `point` (in [0, 1)) of the kept probability below it.
fn draw(logits: &[f32], largest: f32, sampling: Sampling, point: f64) -> Option<usize> {
    let weight = |logit: f32| {
        let weight = ((f64::from(logit) - f64::from(largest)) / sampling.temperature).exp();
        if weight.is_nan() { 0.0 } else { weight }
    };
    let mut kept: Vec<(usize, f64)> = logits.iter().map(|&logit| weight(logit)).enumerate().collect();
    let total: f64 = kept.iter().map(|entry| entry.1).sum();
    if sampling.top_p < 1.0 {
        // A token below this share of the rest cannot be among the kept ones: spares sorting a whole vocabulary.
        #[expect(clippy::cast_precision_loss, reason = "vocabularies are far below 2^53")]
        let floor = (1.0 - sampling.top_p) / logits.len() as f64 * total;
        kept.retain(|entry| entry.1 >= floor);
        kept.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let mut sum = 0.0;
        let needed = kept.iter().position(|entry| {
            sum += entry.1;
            sum >= sampling.top_p * total
        });
        kept.truncate(needed.map_or(kept.len(), |last| last + 1));
    }
    let mut left = point * kept.iter().map(|entry| entry.1).sum::<f64>();
    for &(index, weight) in &kept {
        left -= weight;
        if left < 0.0 {
            return Some(index);
        }
    }
    kept.iter().rev().find(|entry| entry.1 > 0.0).map(|entry| entry.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    fn frequencies(logits: &[f32], sampling: Sampling) -> Vec<f64> {
        let mut random = StdRng::seed_from_u64(7);
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..20_000 {
            counts[choose(logits, sampling, &mut random).unwrap() as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    #[test]
    fn temperature_zero_takes_the_first_of_the_largest() {
        let mut random = StdRng::seed_from_u64(1);
        let greedy = Sampling { temperature: 0.0, top_p: 1.0 };
        assert_eq!(choose(&[0.1, 3.0, 3.0, f32::NAN], greedy, &mut random), Some(1));
        assert_eq!(choose(&[f32::NAN, f32::NEG_INFINITY], greedy, &mut random), None);
        assert_eq!(choose(&[], greedy, &mut random), None);
    }

    #[test]
    fn draws_follow_the_softmax() {
        // Softmax of these logits is 0.5, 0.3, 0.2.
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let all = frequencies(&logits, Sampling { temperature: 1.0, top_p: 1.0 });
        for (found, expected) in all.iter().zip([0.5, 0.3, 0.2]) {
            assert!((found - expected).abs() < 0.02, "{all:?}");
        }
        // Half the temperature squares the odds: 25 : 9 : 4.
        let cold = frequencies(&logits, Sampling { temperature: 0.5, top_p: 1.0 });
        assert!((cold[0] - 25.0 / 38.0).abs() < 0.02, "{cold:?}");
    }

    #[test]
    fn top_p_keeps_the_fewest_tokens_that_reach_it() {
        let logits = [0.2f32.ln(), 0.5f32.ln(), 0.3f32.ln()];
        let found = frequencies(&logits, Sampling { temperature: 1.0, top_p: 0.7 });
        assert_eq!(found[0], 0.0);
        assert!((found[1] - 5.0 / 8.0).abs() < 0.02, "{found:?}");
        assert_eq!(frequencies(&logits, Sampling { temperature: 1.0, top_p: 0.01 })[1].round(), 1.0);
    }
}
