//! How long things take, and how long answers become: plain functions of the settings.

use std::time::Duration;

use millstream_pipelines::{AnswerTokens, FirstToken, NextToken};

/// From the beginning of a prompt to its first token: so many of its tokens are to be read, beside so many other sequences.
pub(crate) fn first_token(terms: &FirstToken, num_tokens: usize, num_others: usize) -> Duration {
    sum(terms.base, [(terms.per_prompt_token, num_tokens), (terms.per_sequence, num_others)])
}

/// From a token to the next, in a step of so many sequences.
pub(crate) fn next_token(terms: &NextToken, num_sequences: usize) -> Duration {
    sum(terms.base, [(terms.per_sequence, num_sequences.saturating_sub(1))])
}

fn sum<const N: usize>(base: Duration, terms: [(Duration, usize); N]) -> Duration {
    let times =
        |(each, count): (Duration, usize)| each.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
    terms.into_iter().map(times).fold(base, Duration::saturating_add)
}

/// After how many tokens an answer ends by itself, for this draw; `None` where it never does.
pub(crate) fn answer_length(range: Option<AnswerTokens>, draw: u64) -> Option<usize> {
    let AnswerTokens { min, max } = range?;
    let span = u64::from(max - min.min(max)) + 1;
    usize::try_from(u64::from(min) + draw % span).ok()
}

/// The next of a sequence of draws (splitmix64).
pub(crate) fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn times_are_sums_of_their_terms() {
        let first = FirstToken { base: 20 * MS, per_prompt_token: MS, per_sequence: 2 * MS };
        assert_eq!(first_token(&first, 0, 0), 20 * MS);
        assert_eq!(first_token(&first, 100, 3), 126 * MS);
        let next = NextToken { base: 10 * MS, per_sequence: MS };
        assert_eq!(next_token(&next, 1), 10 * MS);
        assert_eq!(next_token(&next, 64), 73 * MS);
        assert_eq!(next_token(&NextToken { base: Duration::MAX, ..next }, usize::MAX), Duration::MAX);
    }

    #[test]
    fn answers_are_as_long_as_they_may_be_or_between_two_lengths() {
        assert_eq!(answer_length(None, 5), None);
        let range = Some(AnswerTokens { min: 3, max: 5 });
        let lengths: Vec<_> = (0..6).map(|draw| answer_length(range, draw).unwrap()).collect();
        assert_eq!(lengths, [3, 4, 5, 3, 4, 5]);
    }
}
