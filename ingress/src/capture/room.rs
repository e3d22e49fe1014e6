//! Which files of a ring go, and whether a new one begins, so that all of them never take more than they may: a plain
//! function of their sizes.

/// A ring has about so many files, each of at most an eighth of its bytes.
pub(super) const SEGMENTS: u64 = 8;

/// How room is made for what is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// So many of the oldest files go first.
    pub(super) num_deleted: usize,
    /// Whether it begins a new file; else it goes to the end of the newest.
    pub(super) begins: bool,
}

/// Makes room for `more` bytes in a ring of `max` bytes whose files have these sizes, the oldest first. `None` for what is
/// larger than a file may be: it would push out most of what there is.
pub(super) fn make(sizes: &[u64], more: u64, max: u64) -> Option<Room> {
    let max_segment = max / SEGMENTS;
    if more > max_segment {
        return None;
    }
    let begins = sizes.last().is_none_or(|newest| newest + more > max_segment);
    let may_go = if begins { sizes } else { &sizes[..sizes.len() - 1] };
    let mut total = sizes.iter().sum::<u64>() + more;
    let goes = |size: &&u64| {
        let is_over = total > max;
        total -= if is_over { **size } else { 0 };
        is_over
    };
    Some(Room { num_deleted: may_go.iter().take_while(goes).count(), begins })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_newest_file_is_filled_and_the_oldest_goes() {
        let room = |num_deleted, begins| Some(Room { num_deleted, begins });
        for (sizes, more, expected) in [
            (&[][..], 10, room(0, true)),
            (&[90], 10, room(0, false)),
            (&[91], 10, room(0, true)),
            (&[100; 8], 1, room(1, true)),
            (&[100, 100, 100, 100, 100, 100, 100, 50], 50, room(0, false)),
            (&[100; 7], 100, room(0, true)),
            // What a larger `max_size` of an earlier revision has left.
            (&[500, 500, 500], 10, room(2, true)),
            (&[500, 500, 10], 10, room(1, false)),
            (&[], 101, None),
        ] {
            assert_eq!(make(sizes, more, 800), expected, "{sizes:?} + {more}");
        }
    }

    proptest! {
        /// Whatever is written and however the bound changes, a ring is within it, and what fits in one file is kept.
        #[test]
        fn a_ring_is_never_over_its_bound(writes in prop::collection::vec((1_u64..400, 800_u64..3000), 1..200)) {
            let mut sizes: Vec<u64> = Vec::new();
            for (more, max) in writes {
                let Some(room) = make(&sizes, more, max) else {
                    prop_assert!(more > max / SEGMENTS);
                    continue;
                };
                sizes.drain(..room.num_deleted);
                if room.begins {
                    sizes.push(more);
                } else {
                    *sizes.last_mut().unwrap() += more;
                }
                prop_assert!(sizes.iter().sum::<u64>() <= max, "{sizes:?} in {max}");
            }
        }
    }
}
