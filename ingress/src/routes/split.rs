//! Which revision of a pipeline a request runs on, as plain functions: by weight, by what the client asks for, the same
//! for all requests with one key.

use crate::dispatch::router;
use crate::model::TrafficShare;

/// What a client asks for by the header `x-revision`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The revision that serves.
    Stable,
    /// The one that is on trial beside it.
    Canary,
    /// This one.
    Number(u64),
}

impl Asked {
    /// Reads the header's value.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "stable" => Some(Self::Stable),
            "canary" => Some(Self::Canary),
            number => number.parse().ok().map(Self::Number),
        }
    }
}

/// The index of the revision that a request runs on, the serving one being the first; `None` when the one asked for is
/// not routed. `draw` is random, or made from a key (`draw_of`): 0 to 999.
pub fn choose(shares: &[TrafficShare], asked: Option<Asked>, draw: u16) -> Option<usize> {
    match asked {
        Some(Asked::Stable) => Some(0),
        Some(Asked::Canary) => (shares.len() > 1).then_some(1),
        Some(Asked::Number(number)) => shares.iter().position(|part| part.revision == number),
        // Routes may name one revision only for those who ask for it.
        None => Some(router::drawn(shares.iter().map(|part| part.permille), draw).unwrap_or(0)),
    }
}

/// A draw that is the same for every request of this pipeline with this key, at every ingress.
pub(crate) fn draw_of(pipeline: &str, key: &[u8]) -> u16 {
    u16::try_from(affinity_of(pipeline, key) % 1000).unwrap_or_default()
}

/// A number that is the same for every request of this pipeline with this key: in every build, at every ingress.
pub(crate) fn affinity_of(pipeline: &str, key: &[u8]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(pipeline.as_bytes()).update(&[0]).update(key);
    let mut number = [0; 8];
    hasher.finalize_xof().fill(&mut number);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STABLE: TrafficShare = TrafficShare { revision: 7, permille: 900 };
    const CANARY: TrafficShare = TrafficShare { revision: 8, permille: 100 };

    #[test]
    fn weights_decide_unless_the_client_does() {
        let table = [
            (&[STABLE, CANARY][..], None, 0, Some(0)),
            (&[STABLE, CANARY], None, 899, Some(0)),
            (&[STABLE, CANARY], None, 900, Some(1)),
            (&[STABLE, CANARY], None, 999, Some(1)),
            (&[STABLE], None, 999, Some(0)),
            (&[STABLE, CANARY], Some("stable"), 999, Some(0)),
            (&[STABLE, CANARY], Some("canary"), 0, Some(1)),
            (&[STABLE, CANARY], Some("8"), 0, Some(1)),
            (&[STABLE, CANARY], Some("9"), 0, None),
            (&[STABLE], Some("canary"), 0, None),
        ];
        for (parts, asked, draw, expected) in table {
            let asked = asked.map(|text| Asked::parse(text).unwrap());
            assert_eq!(choose(parts, asked, draw), expected, "{asked:?} {draw}");
        }
        assert_eq!(Asked::parse("newest"), None);
    }

    #[test]
    fn a_key_always_draws_the_same_and_keys_spread() {
        let draws: Vec<_> = (0..10_000).map(|n: u32| draw_of("p", &n.to_le_bytes())).collect();
        assert_eq!(draws[17], draw_of("p", &17_u32.to_le_bytes()));
        assert_eq!(draw_of("p", b"user-1"), 496, "another build would send it elsewhere");
        let canary = draws.iter().filter(|&&draw| draw >= 900).count();
        assert!((900..1100).contains(&canary), "{canary}");
    }
}
