//! The pool as tables of what comes in and what goes out, and its invariants over random histories.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use millstream_proto::call::Priority;

use super::*;
use crate::dispatch::router::Locality;

const LIMITS: PoolLimits = PoolLimits { max_ongoing: 2, max_queued: Some(3), near_room: 1 };

fn pool_of(keys: &[Key]) -> (Pool, Instant, SmallRng) {
    let (now, mut rng) = (millstream_clock::now(), SmallRng::seed_from_u64(3));
    let mut pool = Pool::new(LIMITS);
    assert!(pool.set_replicas(members(keys), &[], now, &mut rng).is_empty());
    (pool, now, rng)
}

/// Replicas that serve revision 1.
fn members(keys: &[Key]) -> Vec<Member> {
    keys.iter().map(|&key| member(key, &[1])).collect()
}

fn member(key: Key, serves: &[u64]) -> Member {
    Member { key, locality: Locality::Remote, serves: serves.into(), answers: SmallVec::new() }
}

/// Revisions and their thousandths.
fn shares(of: &[(u64, u16)]) -> Vec<TrafficShare> {
    of.iter().map(|&(revision, permille)| TrafficShare { revision, permille }).collect()
}

#[test]
fn a_request_goes_to_no_replica_that_cannot_answer_it() {
    let (now, mut rng) = (millstream_clock::now(), SmallRng::seed_from_u64(3));
    let mut pool = Pool::new(LIMITS);
    let apart =
        |key, revision| Member { answers: [revision].into_iter().collect(), ..member(key, &[revision]) };
    pool.set_replicas(vec![apart(0, 1), apart(1, 2)], &shares(&[(1, 500), (2, 500)]), now, &mut rng);
    let routing = |avoid| RoutingRequest { revision: Some(2), ..RoutingRequest::avoiding(avoid) };
    assert_eq!(pool.eligibility(routing(&[1])), Eligibility::AllAvoided);
    assert_eq!(
        pool.eligibility(RoutingRequest { revision: Some(3), ..RoutingRequest::avoiding(&[]) }),
        Eligibility::Empty
    );
    // The only one that can is not ejected, however often it fails.
    for _ in 0..20 {
        assert_eq!(pool.request(routing(&[]), now, &mut rng).admission, Admission::Send(1));
        pool.finish(1, Outcome::Failed, now, &mut rng);
    }
    // Full, it is waited for, although the other one has room.
    for _ in 0..LIMITS.max_ongoing {
        assert_eq!(pool.request(routing(&[]), now, &mut rng).admission, Admission::Send(1));
    }
    assert!(matches!(pool.request(routing(&[]), now, &mut rng).admission, Admission::Wait(_)));
    assert_eq!(pool.try_request(routing(&[]), now, &mut rng), None);
    let grants = pool.finish(1, Outcome::Answered, now, &mut rng);
    assert_eq!(grants.iter().map(|grant| grant.key).collect::<Vec<_>>(), [1]);
    // One that answers both stands in.
    let both = Member { answers: [1, 2].into_iter().collect(), ..member(2, &[1]) };
    pool.set_replicas(vec![both, apart(1, 2)], &shares(&[(1, 500), (2, 500)]), now, &mut rng);
    assert_eq!(pool.request(routing(&[1]), now, &mut rng).admission, Admission::Send(2));
}

#[test]
fn a_full_replica_makes_requests_wait_in_order_and_a_full_queue_sheds() {
    let (mut pool, now, mut rng) = pool_of(&[0]);
    let admissions: Vec<_> =
        (0..6).map(|_| pool.request(RoutingRequest::avoiding(&[]), now, &mut rng).admission).collect();
    use Admission::{Send, Wait};
    assert_eq!(admissions[..5], [Send(0), Send(0), Wait(0), Wait(1), Wait(2)]);
    assert!(matches!(
        admissions[5],
        Admission::Shed(Shed { retry_after_s: 1..=60, reason: ShedReason::Full })
    ));
    assert_eq!(pool.finish(0, Outcome::Answered, now, &mut rng), [Grant { ticket: 0, key: 0 }]);
    pool.give_up(1);
    assert_eq!(pool.finish(0, Outcome::Answered, now, &mut rng), [Grant { ticket: 2, key: 0 }]);
}

#[test]
fn places_in_the_queue_are_shared_out_among_the_ingresses() {
    let (mut pool, now, mut rng) = pool_of(&[0]);
    pool.set_num_ingresses(2);
    let admissions = [(); 5].map(|()| pool.request(RoutingRequest::avoiding(&[]), now, &mut rng).admission);
    assert_eq!(admissions[2..4], [Admission::Wait(0), Admission::Wait(1)], "two of three, rounded up");
    assert!(matches!(admissions[4], Admission::Shed(_)));
}

#[test]
fn without_replicas_requests_wait_and_the_first_replica_takes_them() {
    let (mut pool, now, mut rng) = pool_of(&[]);
    assert_eq!(pool.eligibility(RoutingRequest::avoiding(&[])), Eligibility::Empty);
    assert_eq!(pool.request(RoutingRequest::avoiding(&[]), now, &mut rng).admission, Admission::Wait(0));
    assert_eq!(pool.set_replicas(members(&[5]), &[], now, &mut rng), [Grant { ticket: 0, key: 5 }]);
}

#[test]
fn a_replica_that_comes_takes_part_of_the_queue_that_caused_it() {
    let (mut pool, now, mut rng) = pool_of(&[0]);
    for _ in 0..5 {
        pool.request(RoutingRequest::avoiding(&[]), now, &mut rng);
    }
    assert_eq!(pool.num_queued(), 3);
    let both = members(&[0, 1]);
    let grants = pool.set_replicas(both, &[], now, &mut rng);
    assert_eq!(
        grants,
        [Grant { ticket: 0, key: 1 }, Grant { ticket: 1, key: 1 }],
        "in order, to the new one"
    );
    assert_eq!(pool.num_queued(), 1);
}

#[test]
fn a_replica_that_said_full_is_left_alone_for_a_moment() {
    let (mut pool, now, mut rng) = pool_of(&[0]);
    assert_eq!(pool.request(RoutingRequest::avoiding(&[]), now, &mut rng).admission, Admission::Send(0));
    pool.finish(0, Outcome::Full, now, &mut rng);
    assert_eq!(pool.request(RoutingRequest::avoiding(&[]), now, &mut rng).admission, Admission::Wait(1 - 1));
    let wake = pool.next_wake().unwrap();
    assert_eq!(wake, now + FULL_BACKOFF);
    assert_eq!(pool.pump(wake, &mut rng), [Grant { ticket: 0, key: 0 }]);
}

#[test]
fn a_request_that_avoids_a_replica_whose_time_has_come_wakes_nobody() {
    let (mut pool, now, mut rng) = pool_of(&[0]);
    assert_eq!(pool.request(RoutingRequest::avoiding(&[]), now, &mut rng).admission, Admission::Send(0));
    pool.finish(0, Outcome::Full, now, &mut rng);
    assert_eq!(pool.request(RoutingRequest::avoiding(&[0]), now, &mut rng).admission, Admission::Wait(0));
    let wake = pool.next_wake().unwrap();
    assert_eq!(pool.pump(wake, &mut rng), []);
    assert_eq!(pool.next_wake(), None, "or whoever waits for it would wake again and again at once");
}

#[test]
fn a_request_avoids_where_it_failed_and_does_not_hold_up_others() {
    let (mut pool, now, mut rng) = pool_of(&[0, 1]);
    for _ in 0..4 {
        assert!(matches!(
            pool.request(RoutingRequest::avoiding(&[]), now, &mut rng).admission,
            Admission::Send(_)
        ));
    }
    assert_eq!(pool.request(RoutingRequest::avoiding(&[0]), now, &mut rng).admission, Admission::Wait(0));
    assert_eq!(pool.request(RoutingRequest::avoiding(&[]), now, &mut rng).admission, Admission::Wait(1));
    assert_eq!(pool.finish(0, Outcome::Answered, now, &mut rng), [Grant { ticket: 1, key: 0 }]);
    assert_eq!(pool.finish(1, Outcome::Answered, now, &mut rng), [Grant { ticket: 0, key: 1 }]);
    assert_eq!(pool.eligibility(RoutingRequest::avoiding(&[0])), Eligibility::Open);
    assert_eq!(pool.eligibility(RoutingRequest::avoiding(&[1, 0])), Eligibility::AllAvoided);
}

#[test]
fn calls_keep_to_replicas_of_their_revision_while_one_is_in_rotation() {
    let (mut pool, now, mut rng) = pool_of(&[]);
    pool.set_replicas(vec![member(0, &[1]), member(1, &[2])], &shares(&[(1, 900), (2, 100)]), now, &mut rng);
    let on = |revision, draw| RoutingRequest { revision, draw, ..RoutingRequest::avoiding(&[]) };
    for (routing, key) in [(on(Some(1), 950), 0), (on(Some(2), 0), 1), (on(None, 0), 0), (on(None, 950), 1)] {
        assert_eq!(pool.request(routing, now, &mut rng).admission, Admission::Send(key), "{routing:?}");
    }
    assert_eq!(
        pool.request(on(Some(2), 0), now, &mut rng).admission,
        Admission::Wait(0),
        "its replica is full"
    );
    pool.finish(0, Outcome::Answered, now, &mut rng);
    assert_eq!(pool.num_queued(), 1, "room elsewhere is not for it");
    assert_eq!(
        pool.request(on(Some(1), 0), now, &mut rng).admission,
        Admission::Send(0),
        "and it holds up nobody"
    );
    let grants = pool.finish(1, Outcome::Transport, now, &mut rng);
    assert!(grants.is_empty());
    let grants = pool.finish(0, Outcome::Answered, now, &mut rng);
    assert_eq!(grants, [Grant { ticket: 0, key: 0 }], "its own is ejected: better another than none");
    let avoiding = RoutingRequest { avoid: &[0], ..on(Some(1), 0) };
    assert!(
        matches!(pool.request(avoiding, now, &mut rng).admission, Admission::Wait(_)),
        "a retry may go to the other"
    );
    assert!(!pool.set_replicas(vec![member(0, &[1]), member(2, &[2])], &[], now, &mut rng).is_empty());
}

#[test]
fn while_replicas_are_replaced_a_request_gets_all_its_calls_from_new_or_from_old_ones() {
    let (mut pool, now, mut rng) = pool_of(&[]);
    pool.limits.max_ongoing = 100;
    let mut replicas = vec![member(0, &[2]), member(1, &[]), member(2, &[]), member(3, &[])];
    pool.set_replicas(replicas.clone(), &shares(&[(2, 1000)]), now, &mut rng);
    for (draw, new) in [(0, true), (249, true), (250, false), (999, false)] {
        for _ in 0..10 {
            let routing = RoutingRequest { revision: Some(2), draw, ..RoutingRequest::avoiding(&[]) };
            let Admission::Send(key) = pool.request(routing, now, &mut rng).admission else {
                panic!("there is room")
            };
            assert_eq!(key == 0, new, "{draw}");
        }
    }
    replicas.push(member(4, &[3]));
    pool.set_replicas(replicas, &shares(&[(2, 900), (3, 100)]), now, &mut rng);
    for draw in [0, 500, 999] {
        let routing = RoutingRequest { revision: Some(3), draw, ..RoutingRequest::avoiding(&[]) };
        assert_eq!(
            pool.request(routing, now, &mut rng).admission,
            Admission::Send(4),
            "a trial is not helped"
        );
    }
}

#[test]
fn an_ejected_replica_gets_one_probe_and_comes_back() {
    let (mut pool, now, mut rng) = pool_of(&[0, 1]);
    while pool.request(RoutingRequest::avoiding(&[1]), now, &mut rng).admission != Admission::Send(0) {}
    pool.finish(0, Outcome::Transport, now, &mut rng);
    for _ in 0..2 {
        assert_eq!(pool.request(RoutingRequest::avoiding(&[]), now, &mut rng).admission, Admission::Send(1));
    }
    assert_eq!(pool.request(RoutingRequest::avoiding(&[]), now, &mut rng).admission, Admission::Wait(0));
    let wake = pool.next_wake().unwrap();
    assert!((1000..=1200).contains(&(wake - now).as_millis()));
    assert_eq!(pool.pump(wake, &mut rng), [Grant { ticket: 0, key: 0 }]);
    assert_eq!(
        pool.request(RoutingRequest::avoiding(&[]), wake, &mut rng).admission,
        Admission::Wait(1),
        "one probe at a time"
    );
    let back = pool.finish(0, Outcome::Answered, wake, &mut rng);
    assert_eq!(back, [Grant { ticket: 1, key: 0 }]);
    assert_eq!(pool.request(RoutingRequest::avoiding(&[]), wake, &mut rng).admission, Admission::Send(0));
}

#[test]
fn the_last_replica_is_never_ejected_even_when_the_others_leave() {
    let (mut pool, now, mut rng) = pool_of(&[0, 1]);
    while pool.request(RoutingRequest::avoiding(&[1]), now, &mut rng).admission != Admission::Send(0) {}
    pool.finish(0, Outcome::Transport, now, &mut rng);
    pool.set_replicas(members(&[0]), &[], now, &mut rng);
    for _ in 0..2 {
        assert_eq!(pool.request(RoutingRequest::avoiding(&[]), now, &mut rng).admission, Admission::Send(0));
        pool.finish(0, Outcome::Transport, now, &mut rng);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Request { avoid: Vec<Key>, priority: usize, tenant: u32, left_ms: Option<u64> },
    Finish { nth: usize, outcome: usize },
    GiveUp { nth: usize },
    Replicas(BTreeSet<Key>),
    Pass { ms: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (prop::collection::vec(0..4u32, 0..2), 0..3usize, 0..3u32, prop::option::of(0..3000u64)).prop_map(
            |(avoid, priority, tenant, left_ms)| Step::Request { avoid, priority, tenant, left_ms }
        ),
        3 => (any::<usize>(), 0..6usize).prop_map(|(nth, outcome)| Step::Finish { nth, outcome }),
        1 => any::<usize>().prop_map(|nth| Step::GiveUp { nth }),
        1 => prop::collection::btree_set(0..4u32, 0..4).prop_map(Step::Replicas),
        1 => (0..3000u64).prop_map(|ms| Step::Pass { ms }),
    ];
    prop::collection::vec(step, 0..120)
}

const OUTCOMES: [Outcome; 6] = [
    Outcome::Answered,
    Outcome::Transport,
    Outcome::Failed,
    Outcome::TimedOut,
    Outcome::Full,
    Outcome::Abandoned,
];

/// What the pool was told and said so far, kept beside it.
#[derive(Default)]
struct Ledger {
    sent: Vec<Key>,
    waiting: BTreeMap<Ticket, Vec<Key>>,
}

impl Ledger {
    fn granted(&mut self, grants: &[Grant]) {
        for grant in grants {
            let avoid = self.waiting.remove(&grant.ticket).expect("only who waits is granted, and once");
            assert!(!avoid.contains(&grant.key), "never where it failed");
            self.sent.push(grant.key);
        }
    }
}

proptest! {
    #[test]
    fn capacity_is_kept_and_every_request_is_granted_at_most_once(steps in steps(), seed: u64) {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut now = millstream_clock::now();
        let mut pool = Pool::new(LIMITS);
        let mut ledger = Ledger::default();
        for step in steps {
            match step {
                Step::Request { avoid, priority, tenant, left_ms } => {
                    let routing = RoutingRequest {
                        draw: (seed % 1000) as u16,
                        claim: QueueClass { priority: Priority::ALL[priority], tenant, weight: tenant },
                        deadline: left_ms.map(|left| now + Duration::from_millis(left)),
                        ..RoutingRequest::avoiding(&avoid)
                    };
                    let Requested { admission, grants, evicted } = pool.request(routing, now, &mut rng);
                    ledger.granted(&grants);
                    if let Some((ticket, _)) = evicted {
                        prop_assert!(ledger.waiting.remove(&ticket).is_some(), "only who waits is evicted");
                        prop_assert!(matches!(admission, Admission::Wait(_)));
                    }
                    match admission {
                        Admission::Send(key) => {
                            prop_assert!(!avoid.contains(&key));
                            ledger.sent.push(key);
                        }
                        Admission::Wait(ticket) => { ledger.waiting.insert(ticket, avoid); }
                        Admission::Shed(Shed { reason, .. }) => {
                            prop_assert!(pool.num_queued() >= 3 || reason == ShedReason::TooLate);
                            prop_assert!(reason == ShedReason::Full || left_ms.is_some());
                        }
                    }
                }
                Step::Finish { nth, outcome } if !ledger.sent.is_empty() => {
                    let key = ledger.sent.remove(nth % ledger.sent.len());
                    let grants = pool.finish(key, OUTCOMES[outcome], now, &mut rng);
                    ledger.granted(&grants);
                }
                Step::GiveUp { nth } if !ledger.waiting.is_empty() => {
                    let ticket = *ledger.waiting.keys().nth(nth % ledger.waiting.len()).unwrap();
                    ledger.waiting.remove(&ticket);
                    pool.give_up(ticket);
                }
                Step::Replicas(keys) => {
                    // As in the real life of keys: one that left does not come back while calls are on the way.
                    let known = |key: Key| pool.replicas.iter().any(|replica| replica.key == key);
                    if keys.iter().all(|&key| known(key) || !ledger.sent.contains(&key)) {
                        // Even keys serve another revision than odd ones.
                        let members = keys.iter().map(|&key| member(key, &[1 + u64::from(key % 2)])).collect();
                        let grants = pool.set_replicas(members, &shares(&[(1, 500), (2, 500)]), now, &mut rng);
                        ledger.granted(&grants);
                    }
                }
                Step::Pass { ms } => {
                    now += Duration::from_millis(ms);
                    let grants = pool.pump(now, &mut rng);
                    ledger.granted(&grants);
                }
                Step::Finish { .. } | Step::GiveUp { .. } => {}
            }
            for replica in &pool.replicas {
                prop_assert!(replica.ongoing <= LIMITS.max_ongoing);
                let sent = ledger.sent.iter().filter(|&&key| key == replica.key).count();
                prop_assert_eq!(replica.ongoing as usize, sent);
            }
            let any_in = pool.replicas.iter().any(|replica| replica.health.is_in());
            prop_assert!(pool.replicas.is_empty() || any_in, "the last one is never ejected");
            prop_assert_eq!(pool.num_queued(), ledger.waiting.len());
        }
    }
}

fn claiming(priority: Priority, tenant: u32) -> RoutingRequest<'static> {
    RoutingRequest { claim: QueueClass { priority, tenant, weight: 1 }, ..RoutingRequest::avoiding(&[]) }
}

#[test]
fn a_full_queue_turns_away_whoever_would_be_served_last() {
    let (mut pool, now, mut rng) = pool_of(&[0]);
    let mut ask = |pool: &mut Pool, priority, tenant| pool.request(claiming(priority, tenant), now, &mut rng);
    for _ in 0..2 {
        ask(&mut pool, Priority::Normal, 1);
    }
    let tickets: Vec<_> = (0..3)
        .map(|_| match ask(&mut pool, Priority::Normal, 1).admission {
            Admission::Wait(ticket) => ticket,
            other => panic!("{other:?}"),
        })
        .collect();
    let urgent = ask(&mut pool, Priority::High, 1);
    assert!(matches!(urgent.admission, Admission::Wait(_)));
    assert!(
        matches!(urgent.evicted, Some((ticket, Shed { reason: ShedReason::Displaced, .. })) if ticket == tickets[2])
    );
    let other = ask(&mut pool, Priority::Normal, 2);
    assert!(
        matches!(other.evicted, Some((ticket, _)) if ticket == tickets[1]),
        "the heavy one pays: {other:?}"
    );
    let late = ask(&mut pool, Priority::Low, 3);
    assert!(matches!(late.admission, Admission::Shed(_)) && late.evicted.is_none());
    assert_eq!(pool.num_queued(), 3);
}

#[test]
fn who_would_be_turned_away_is_told_before_it_sends_its_body() {
    let (mut pool, now, mut rng) = pool_of(&[0]);
    for _ in 0..4 {
        pool.request(claiming(Priority::Normal, 1), now, &mut rng);
    }
    let claim = |priority, tenant| QueueClass { priority, tenant, weight: 1 };
    assert_eq!(pool.turns_away(claim(Priority::Normal, 1), &mut rng), None, "there is a place left");
    pool.request(claiming(Priority::Normal, 1), now, &mut rng);
    let table = [
        (Priority::Normal, 1, true),
        (Priority::Low, 2, true),
        // It goes before the last one, which gives way.
        (Priority::Normal, 2, false),
        (Priority::High, 1, false),
    ];
    for (priority, tenant, expected) in table {
        let shed = pool.turns_away(claim(priority, tenant), &mut rng);
        assert_eq!(shed.is_some(), expected, "{priority:?} {tenant}");
        let heard = pool.clone().request(claiming(priority, tenant), now, &mut rng).admission;
        assert_eq!(matches!(heard, Admission::Shed(_)), expected, "{priority:?} {tenant}");
    }
}

#[test]
fn nobody_waits_for_what_cannot_start() {
    let (mut pool, now, mut rng) = pool_of(&[]);
    let waits = pool.request(claiming(Priority::Normal, 1), now, &mut rng).admission;
    let Admission::Wait(ticket) = waits else { panic!("{waits:?}") };
    let reason = ShedReason::CannotStart(StartFailure::Replicas);
    let told = pool.set_start_failure(Some(StartFailure::Replicas));
    assert_eq!(
        told.iter().map(|(ticket, shed)| (*ticket, shed.reason)).collect::<Vec<_>>(),
        [(ticket, reason)]
    );
    let next = pool.request(claiming(Priority::Normal, 1), now, &mut rng).admission;
    assert!(matches!(next, Admission::Shed(shed) if shed.reason == reason), "{next:?}");
    let claim = QueueClass { priority: Priority::Normal, tenant: 1, weight: 1 };
    assert_eq!(pool.turns_away(claim, &mut rng).map(|shed| shed.reason), Some(reason));
    // It may start after all.
    assert_eq!(pool.set_start_failure(None), []);
    let waits = pool.request(claiming(Priority::Normal, 1), now, &mut rng).admission;
    assert!(matches!(waits, Admission::Wait(_)), "{waits:?}");
}

#[test]
fn calls_of_requests_that_have_begun_are_never_turned_away() {
    let (mut pool, now, mut rng) = pool_of(&[0]);
    let late = Some(now);
    let admitted =
        RoutingRequest { standing: Standing::Admitted, deadline: late, ..RoutingRequest::avoiding(&[]) };
    for _ in 0..2 {
        assert!(matches!(pool.request(admitted, now, &mut rng).admission, Admission::Send(_)));
    }
    let new = pool.request(RoutingRequest::avoiding(&[]), now, &mut rng).admission;
    let Admission::Wait(new) = new else { panic!("{new:?}") };
    // The queue has room for three.
    for at in 0..20 {
        let Requested { admission, evicted, .. } = pool.request(admitted, now, &mut rng);
        assert!(matches!(admission, Admission::Wait(_)), "{admission:?}");
        assert_eq!(evicted.map(|(ticket, _)| ticket), (at == 2).then_some(new), "only the new one gives way");
    }
    let full = pool.request(RoutingRequest::avoiding(&[]), now, &mut rng).admission;
    assert!(matches!(full, Admission::Shed(Shed { reason: ShedReason::Full, .. })), "{full:?}");
}

#[test]
fn what_cannot_be_in_time_is_turned_away_at_once() {
    let (mut pool, start, mut rng) = pool_of(&[0]);
    pool.set_limits(PoolLimits { max_queued: Some(1000), ..LIMITS });
    for _ in 0..102 {
        pool.request(RoutingRequest::avoiding(&[]), start, &mut rng);
    }
    let within = |seconds, now| RoutingRequest {
        deadline: Some(now + Duration::from_secs(seconds)),
        ..RoutingRequest::avoiding(&[])
    };
    let unknown = pool.request(within(1, start), start, &mut rng);
    assert!(matches!(unknown.admission, Admission::Wait(_)), "nothing is known of the rate yet");
    let mut now = start;
    for _ in 0..20 {
        now += Duration::from_millis(100);
        pool.finish(0, Outcome::Answered, now, &mut rng);
    }
    // 81 wait, and ten are answered in a second.
    let late = pool.request(within(7, now), now, &mut rng).admission;
    assert!(matches!(late, Admission::Shed(Shed { reason: ShedReason::TooLate, .. })), "{late:?}");
    assert!(matches!(pool.request(within(10, now), now, &mut rng).admission, Admission::Wait(_)));
    assert!(
        matches!(
            pool.request(
                RoutingRequest {
                    deadline: Some(now + Duration::from_secs(7)),
                    ..claiming(Priority::High, 0)
                },
                now,
                &mut rng
            )
            .admission,
            Admission::Wait(_)
        ),
        "nobody is before it"
    );
}
