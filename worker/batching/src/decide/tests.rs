use proptest::prelude::*;

use super::*;

const WAIT: Duration = Duration::from_secs(10);
const NO_PREFERENCE: Limits<'static> =
    Limits { max_size: 8, max_tokens: usize::MAX, max_wait: WAIT, preferred_sizes: &[] };
const PREFERRING: Limits<'static> = Limits { preferred_sizes: &[2, 6], ..NO_PREFERENCE };

fn start() -> Instant {
    millstream_clock::now() + Duration::from_secs(3600)
}

/// Calls of one part each: inputs, group, seconds before now.
fn queue(calls: &[(usize, u64, u64)], now: Instant) -> Vec<Waiting> {
    let waiting = |(call, &(inputs, group, age)): (usize, &(usize, u64, u64))| Waiting {
        call,
        inputs,
        tokens: 0,
        group: Some(group),
        since: now - Duration::from_secs(age),
        due: false,
    };
    calls.iter().enumerate().map(waiting).collect()
}

/// Parts that run now, or the seconds to wait.
fn decide(queue: &[Waiting], limits: &Limits<'_>, now: Instant) -> Result<Vec<usize>, u64> {
    match next(queue, |it| it, limits, now).unwrap() {
        Next::Run { parts, .. } => Ok(parts),
        Next::WaitUntil(until) => Err((until - now).as_secs()),
    }
}

/// Calls, limits, and what is decided.
type Case<'a> = (&'a [(usize, u64, u64)], &'a Limits<'a>, Result<Vec<usize>, u64>);

#[test]
fn batches_close_when_they_are_full_preferred_unfit_or_old() {
    let now = start();
    let table: &[Case<'_>] = &[
        // a preferred size at once; a larger one too; anything else waits its time
        (&[(6, 0, 0)], &PREFERRING, Ok(vec![0])),
        (&[(1, 0, 0), (1, 0, 0)], &PREFERRING, Ok(vec![0, 1])),
        (&[(3, 0, 0)], &PREFERRING, Err(10)),
        (&[(3, 0, 4)], &PREFERRING, Err(6)),
        (&[(3, 0, 10)], &PREFERRING, Ok(vec![0])),
        (&[(7, 0, 0)], &PREFERRING, Ok(vec![0])),
        // another shape behind it: at once, and the other waits its own time
        (&[(2, 0, 0), (4, 1, 0)], &PREFERRING, Ok(vec![0])),
        (&[(3, 0, 0), (4, 1, 0)], &PREFERRING, Ok(vec![0])),
        (&[(4, 1, 3)], &PREFERRING, Err(7)),
        // a total beyond the largest preferred size: the first at once, the second waits its own time
        (&[(4, 0, 0), (3, 0, 0)], &PREFERRING, Ok(vec![0])),
        // the largest preferred size that the first calls reach; all that fits once the wait is over
        (&[(1, 0, 0), (1, 0, 0), (4, 0, 0), (1, 0, 0)], &PREFERRING, Ok(vec![0, 1, 2])),
        (&[(1, 0, 0), (1, 0, 0), (1, 0, 0)], &PREFERRING, Ok(vec![0, 1])),
        (&[(1, 0, 10), (1, 0, 0), (1, 0, 0)], &PREFERRING, Ok(vec![0, 1, 2])),
        // without preferred sizes
        (&[(7, 0, 0)], &NO_PREFERENCE, Err(10)),
        (&[(7, 0, 0), (1, 0, 0)], &NO_PREFERENCE, Ok(vec![0, 1])),
        (&[(7, 0, 0), (2, 0, 0)], &NO_PREFERENCE, Ok(vec![0])),
        (&[(9, 0, 0)], &NO_PREFERENCE, Ok(vec![0])),
        (&[(1, 0, 0), (1, 1, 0), (1, 0, 0)], &NO_PREFERENCE, Ok(vec![0, 2])),
        // an idle engine and no wait: at once
        (&[(1, 0, 0)], &Limits { max_wait: Duration::ZERO, ..NO_PREFERENCE }, Ok(vec![0])),
    ];
    for (calls, limits, expected) in table {
        assert_eq!(decide(&queue(calls, now), limits, now), *expected, "{calls:?}");
    }
}

#[test]
fn what_cannot_be_joined_runs_alone_and_at_once() {
    let now = start();
    let mut queue = queue(&[(1, 0, 0), (1, 0, 0)], now);
    queue[0].group = None;
    assert_eq!(decide(&queue, &NO_PREFERENCE, now), Ok(vec![0]));
    queue.swap(0, 1);
    assert_eq!(decide(&queue, &NO_PREFERENCE, now), Ok(vec![0]), "nothing fits behind it");
}

/// Texts of one call each, of these lengths.
fn texts(lengths: &[usize], now: Instant) -> Vec<Waiting> {
    let calls: Vec<(usize, u64, u64)> = lengths.iter().map(|_| (1, 0, 0)).collect();
    let mut texts = queue(&calls, now);
    texts.iter_mut().zip(lengths).for_each(|(text, &tokens)| text.tokens = tokens);
    texts
}

#[test]
fn the_first_runs_with_its_neighbours_in_length() {
    let now = start();
    let limits = Limits { max_size: 4, max_tokens: 1000, max_wait: Duration::ZERO, preferred_sizes: &[] };
    let table: [(&[usize], &[usize]); 5] = [
        (&[10], &[0]),
        (&[10, 200, 12, 11], &[0, 2, 3]),
        (&[200, 10, 10, 190], &[0, 3]),
        (&[5, 5, 5, 5, 5, 5], &[0, 1, 2, 3]),
        (&[2000, 2000], &[0]),
    ];
    for (lengths, expected) in table {
        assert_eq!(decide(&texts(lengths, now), &limits, now), Ok(expected.to_vec()), "{lengths:?}");
    }
}

#[test]
fn tokens_close_a_batch_and_what_it_leaves_out_is_due() {
    let now = start();
    let limits = Limits { max_size: 4, max_tokens: 1000, ..NO_PREFERENCE };
    assert_eq!(decide(&texts(&[400, 400], now), &limits, now), Err(10), "there is room for short ones");
    assert_eq!(decide(&texts(&[400, 400, 400], now), &limits, now), Ok(vec![0, 1]));
    let Some(Next::Run { parts, due }) = next(&texts(&[10, 200, 12, 11], now), |it| it, &limits, now) else {
        panic!("four are a full batch")
    };
    assert_eq!((parts, due), (vec![0, 2, 3], vec![1]));
    let mut rest = texts(&[200], now);
    rest[0].due = true;
    assert_eq!(decide(&rest, &limits, now), Ok(vec![0]), "its batch had closed");
}

fn arbitrary_queue() -> impl Strategy<Value = Vec<(usize, usize, u64, u64, bool)>> {
    // parts in the call, tokens, group (3 for what runs alone), age, due
    prop::collection::vec((1_usize..6, 0_usize..300, 0_u64..4, 0_u64..12, prop::bool::weighted(0.1)), 1..30)
}

proptest! {
    #[test]
    fn every_batch_keeps_its_limits_and_everything_runs_in_the_end(
        calls in arbitrary_queue(),
        max_size in 1_usize..12,
        max_tokens in prop_oneof![Just(usize::MAX), 1_usize..2000],
        wait_s in 0_u64..10,
        preferred in prop::collection::btree_set(1_u32..12, 0..3),
    ) {
        let mut now = start();
        let preferred: Vec<u32> = preferred.into_iter().filter(|&size| size as usize <= max_size).collect();
        let limits =
            Limits { max_size, max_tokens, max_wait: Duration::from_secs(wait_s), preferred_sizes: &preferred };
        let mut queue = Vec::new();
        for (call, (parts, tokens, group, age, due)) in calls.into_iter().enumerate() {
            let since = now - Duration::from_secs(age);
            let group = (group < 3).then_some(group);
            let part = Waiting { call, inputs: 1, tokens, group, since, due };
            queue.extend(std::iter::repeat_n(part, if group.is_some() { parts } else { 1 }));
        }
        let mut steps = 0;
        while !queue.is_empty() {
            steps += 1;
            prop_assert!(steps < 1000, "it never ends");
            match next(&queue, |it| it, &limits, now).unwrap() {
                Next::WaitUntil(until) => {
                    prop_assert!(until > now, "waiting for what has been");
                    let lead = queue[0];
                    prop_assert!(until <= lead.since + limits.max_wait, "the leader's wait is bounded");
                    prop_assert!(queue.iter().all(|part| part.group == lead.group && !part.due));
                    now = until;
                }
                Next::Run { parts, due } => {
                    prop_assert!(parts.is_sorted() && parts[0] == 0, "the first always runs");
                    let batch: Vec<Waiting> = parts.iter().map(|&place| queue[place]).collect();
                    prop_assert!(batch.len() == 1 || batch.iter().all(|part| part.group == queue[0].group
                        && part.group.is_some()));
                    let longest = batch.iter().map(|part| part.tokens).max().unwrap_or(0);
                    prop_assert!(batch.len() <= max_size);
                    prop_assert!(batch.len() == 1 || batch.len() * longest <= max_tokens);
                    prop_assert!(due.iter().all(|place| !parts.contains(place)));
                    due.iter().for_each(|&place| queue[place].due = true);
                    let mut place = 0;
                    queue.retain(|_| { place += 1; !parts.contains(&(place - 1)) });
                }
            }
        }
    }
}
