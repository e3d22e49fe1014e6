//! Choice as plain functions: of a replica (two distinct candidates at random, the less busy one wins), and of a revision
//! by its part of the requests.

use rand::Rng;
use smallvec::SmallVec;

/// How near a replica is; nearer ones are preferred while they have room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Locality {
    /// A channel send away.
    SameProcess,
    /// Over the loopback.
    SameMachine,
    /// Over a network.
    Remote,
}

/// A replica that could take one more call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Calls sent to it and not yet answered.
    pub ongoing: u32,
    /// How near it is.
    pub locality: Locality,
}

/// The index of the candidate that a call goes to; `None` when there is none.
///
/// A near replica counts as having room while it has fewer than `near_room` ongoing calls: with the deployment's own
/// target there, a second replica elsewhere takes its part as soon as the near one is as busy as it should be.
pub(crate) fn choose(candidates: &[Candidate], near_room: u32, rng: &mut impl Rng) -> Option<usize> {
    if candidates.len() <= 1 {
        return if candidates.is_empty() { None } else { Some(0) };
    }
    for tier in [Locality::SameProcess, Locality::SameMachine] {
        let near = positions(candidates, |c| c.locality == tier && c.ongoing < near_room);
        if !near.is_empty() {
            return Some(less_busy_of_two(candidates, &near, rng));
        }
    }
    let all = positions(candidates, |_| true);
    Some(less_busy_of_two(candidates, &all, rng))
}

/// The index of the part, of those with so many thousandths of the requests, that a draw of 0 to 999 falls into; `None`
/// when they end below it.
pub(crate) fn drawn(permilles: impl IntoIterator<Item = u16>, draw: u16) -> Option<usize> {
    let mut below = 0;
    permilles.into_iter().position(|permille| {
        below += permille;
        draw < below
    })
}

fn positions(candidates: &[Candidate], wanted: impl Fn(&Candidate) -> bool) -> SmallVec<[usize; 8]> {
    candidates.iter().enumerate().filter(|(_, c)| wanted(c)).map(|(index, _)| index).collect()
}

/// `among` is not empty. The two are drawn in random order, so that ties are fair.
fn less_busy_of_two(candidates: &[Candidate], among: &[usize], rng: &mut impl Rng) -> usize {
    if among.len() == 1 {
        return among[0];
    }
    let first = rng.random_range(0..among.len());
    let second = (first + rng.random_range(1..among.len())) % among.len();
    let (first, second) = (among[first], among[second]);
    if candidates[second].ongoing < candidates[first].ongoing { second } else { first }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::Locality::{Remote, SameMachine, SameProcess};
    use super::*;

    fn candidates(list: &[(u32, Locality)]) -> Vec<Candidate> {
        list.iter().map(|&(ongoing, locality)| Candidate { ongoing, locality }).collect()
    }

    fn counts(list: &[(u32, Locality)], near_room: u32) -> Vec<usize> {
        let candidates = candidates(list);
        let mut rng = SmallRng::seed_from_u64(7);
        let mut counts = vec![0; list.len()];
        for _ in 0..3000 {
            counts[choose(&candidates, near_room, &mut rng).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn nobody_is_chosen_from_nobody() {
        assert_eq!(choose(&[], 2, &mut SmallRng::seed_from_u64(1)), None);
    }

    #[test]
    fn the_less_busy_of_two_always_wins() {
        assert_eq!(counts(&[(3, Remote), (1, Remote)], 2), [0, 3000]);
    }

    #[test]
    fn the_busiest_of_many_is_never_chosen() {
        assert_eq!(counts(&[(1, Remote), (9, Remote), (2, Remote), (2, Remote)], 2)[1], 0);
    }

    #[test]
    fn ties_are_fair() {
        for count in counts(&[(2, Remote), (2, Remote), (2, Remote)], 2) {
            assert!((850..1150).contains(&count), "{count}");
        }
    }

    #[test]
    fn near_replicas_are_preferred_only_while_they_have_room() {
        assert_eq!(counts(&[(1, SameProcess), (0, Remote), (0, SameMachine)], 2), [3000, 0, 0]);
        assert_eq!(counts(&[(2, SameProcess), (0, Remote), (1, SameMachine)], 2), [0, 0, 3000]);
        let full = counts(&[(2, SameProcess), (0, Remote), (2, SameMachine)], 2);
        assert!(full[1] > full[0] && full[1] > full[2], "{full:?}");
    }

    proptest! {
        #[test]
        fn a_candidate_is_always_found_and_never_the_strictly_busiest(
            ongoing in prop::collection::vec(0..20u32, 1..9), seed: u64,
        ) {
            let list: Vec<_> = ongoing.iter().map(|&n| (n, Remote)).collect();
            let chosen = choose(&candidates(&list), 2, &mut SmallRng::seed_from_u64(seed)).unwrap();
            let max = *ongoing.iter().max().unwrap();
            let alone = ongoing.iter().filter(|&&n| n == max).count() == 1;
            prop_assert!(ongoing.len() == 1 || !alone || ongoing[chosen] < max);
        }
    }
}
