use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::testing;

/// A lifecycle with its clock and its random numbers.
struct Bench {
    lifecycle: Lifecycle,
    now: Instant,
    rng: SmallRng,
}

impl Bench {
    fn new() -> Self {
        Self {
            lifecycle: Lifecycle::default(),
            now: millstream_clock::now(),
            rng: SmallRng::seed_from_u64(1),
        }
    }

    /// What an event leads to, in short words.
    fn decide(&mut self, event: Event) -> Vec<String> {
        self.lifecycle.decide(event, self.now, &mut self.rng).iter().map(words).collect()
    }
}

fn words(action: &Action) -> String {
    match action {
        Action::Spawn(order, incarnation) => format!("spawn {} #{incarnation}", order.id),
        Action::Drain { id, incarnation, timeout } => format!("drain {id} #{incarnation} {timeout:?}"),
        Action::Retry { id, incarnation, delay } => {
            // Jitter takes a quarter at most, so the nominal delay is the next power of two.
            format!(
                "retry {id} #{incarnation} within {}s",
                delay.as_millis().div_ceil(1000).next_power_of_two()
            )
        }
        Action::Report(report) => {
            let state = format!("{:?}", report.state).to_lowercase();
            let text =
                format!("{} {state} {} {} {}", report.order.id, report.restarts, report.doing, report.error);
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        }
        Action::Apply(order, incarnation) => format!("apply {} #{incarnation}", order.id),
        Action::ReportUnknown(id) => format!("{id} unknown"),
    }
}

fn start(id: &str) -> Event {
    Event::Start(Arc::new(Order::try_from(testing::start(id, &testing::echo_spec("echo"))).unwrap()))
}

fn stop(id: &str) -> Event {
    Event::Stop { id: id.into(), drain: Duration::from_secs(3) }
}

fn ready(id: &str, incarnation: Incarnation) -> Event {
    Event::Ready { id: id.into(), incarnation, model: LoadedModel { memory_bytes: 5, signature: None } }
}

fn failed(id: &str, incarnation: Incarnation) -> Event {
    Event::Ended(id.into(), incarnation, Some("broken".into()))
}

#[test]
fn a_model_that_cannot_be_loaded_is_tried_again_once_a_minute_until_it_can() {
    let mut bench = Bench::new();
    bench.decide(start("a"));
    assert!(bench.decide(Event::Unloadable("a".into(), 1)).is_empty(), "its end tells it");
    let actions = bench.lifecycle.decide(failed("a", 1), bench.now, &mut bench.rng);
    let [Action::Report(report), Action::Retry { delay, .. }] = &actions[..] else { panic!("{actions:?}") };
    assert!(report.is_unloadable && *delay == Duration::from_secs(60), "{report:?} {delay:?}");
    bench.decide(Event::RetryDue("a".into(), 1));
    assert!(bench.lifecycle.reports().all(|report| report.is_unloadable), "until it has loaded");
    bench.decide(Event::Ready { id: "a".into(), incarnation: 2, model: LoadedModel::default() });
    assert!(bench.lifecycle.reports().all(|report| !report.is_unloadable));
}

#[test]
fn a_whole_life() {
    let mut bench = Bench::new();
    assert_eq!(bench.decide(start("a")), ["a starting 0 starting", "spawn a #1"]);
    assert_eq!(bench.decide(start("a")), ["a starting 0 starting"], "a start twice is harmless");
    assert_eq!(bench.decide(Event::Doing("a".into(), 1, "loading x".into())), ["a starting 0 loading x"]);
    assert!(bench.decide(Event::Doing("a".into(), 1, "loading x".into())).is_empty(), "no news");
    assert_eq!(bench.decide(ready("a", 1)), ["a ready 0"]);
    assert_eq!(bench.decide(stop("a")), ["a draining 0", "drain a #1 3s"]);
    assert_eq!(bench.decide(stop("a")), ["a draining 0"], "a stop twice is harmless");
    assert_eq!(bench.decide(Event::Ended("a".into(), 1, None)), ["a stopped 0"]);
    assert_eq!(bench.decide(stop("a")), ["a unknown"]);
    assert_eq!(bench.lifecycle.num_replicas(), 0);
}

#[test]
fn new_settings_apply_to_a_replica_that_is_there_and_to_its_next_start() {
    let mut bench = Bench::new();
    bench.decide(start("a"));
    bench.decide(ready("a", 1));
    let mut wider = testing::start("a", &testing::echo_spec("echo"));
    wider.revision += 1;
    let wider = Arc::new(Order::try_from(wider).unwrap());
    assert_eq!(bench.decide(Event::Start(wider.clone())), ["apply a #1", "a ready 0"]);
    assert_eq!(bench.decide(Event::Start(wider.clone())), ["a ready 0"], "nothing is new the second time");
    bench.decide(failed("a", 1));
    let again = bench.lifecycle.decide(Event::RetryDue("a".into(), 1), bench.now, &mut bench.rng);
    assert_eq!(again[1], Action::Spawn(wider, 2));
}

#[test]
fn failures_are_reported_and_retried_with_backoff() {
    let mut bench = Bench::new();
    bench.decide(start("a"));
    for (incarnation, within) in [(1, 1), (2, 2), (3, 4), (4, 8)] {
        let restarts = incarnation - 1;
        assert_eq!(
            bench.decide(failed("a", incarnation)),
            [format!("a failed {restarts} broken"), format!("retry a #{incarnation} within {within}s")]
        );
        let next = incarnation + 1;
        assert_eq!(
            bench.decide(Event::RetryDue("a".into(), incarnation)),
            [format!("a starting {incarnation} starting again"), format!("spawn a #{next}")]
        );
    }
    bench.decide(ready("a", 5));
    bench.now += Duration::from_secs(31);
    assert_eq!(
        bench.decide(failed("a", 5)),
        ["a failed 4 broken", "retry a #5 within 1s"],
        "a steady time forgives earlier failures"
    );
}

#[test]
fn an_end_that_nobody_asked_for_is_a_failure() {
    let mut bench = Bench::new();
    bench.decide(start("a"));
    bench.decide(ready("a", 1));
    let actions = bench.decide(Event::Ended("a".into(), 1, None));
    assert_eq!(actions[0], "a failed 0 the replica ended without being asked to");
}

#[test]
fn words_of_an_earlier_start_change_nothing() {
    let mut bench = Bench::new();
    bench.decide(start("a"));
    bench.decide(failed("a", 1));
    bench.decide(Event::RetryDue("a".into(), 1));
    for late in [failed("a", 1), ready("a", 1), Event::RetryDue("a".into(), 1)] {
        assert!(bench.decide(late.clone()).is_empty(), "{late:?}");
    }
}

#[test]
fn a_replica_that_waits_to_be_started_again_stops_at_once() {
    let mut bench = Bench::new();
    bench.decide(start("a"));
    bench.decide(failed("a", 1));
    assert_eq!(bench.decide(stop("a")), ["a stopped 0 broken"]);
    assert!(bench.decide(Event::RetryDue("a".into(), 1)).is_empty());
}

#[test]
fn a_failure_while_draining_is_an_end() {
    let mut bench = Bench::new();
    bench.decide(start("a"));
    bench.decide(ready("a", 1));
    bench.decide(stop("a"));
    assert_eq!(bench.decide(failed("a", 1)), ["a stopped 0"]);
}

#[test]
fn a_worker_that_leaves_stops_all_and_starts_nothing() {
    let mut bench = Bench::new();
    bench.decide(start("a"));
    bench.decide(start("b"));
    bench.decide(failed("b", 2));
    let actions = bench.decide(Event::StopAll { drain: Duration::from_secs(1) });
    assert_eq!(actions, ["a draining 0", "drain a #1 1s", "b stopped 0 broken"]);
    assert_eq!(bench.decide(start("c")), ["c unknown"]);
}

#[test]
fn replicas_of_a_deployment_know_how_many_they_are() {
    let mut bench = Bench::new();
    let order = |id: &str, deployment: &str, revision: u64| {
        let start = testing::start(id, &testing::echo_spec(deployment));
        Arc::new(Order { revision, ..Order::try_from(start).unwrap() })
    };
    // a revision that is being replaced and the pipeline's other models do not count
    let orders = [
        order("a", "embedder", 3),
        order("b", "embedder", 3),
        order("c", "embedder", 4),
        order("d", "reranker", 3),
    ];
    for order in &orders {
        bench.decide(Event::Start(order.clone()));
    }
    assert_eq!(orders.each_ref().map(|order| bench.lifecycle.num_like(order)), [2, 2, 1, 1]);
}

proptest! {
    /// Whatever comes in whatever order: a replica has at most one actor, and one that is gone has none.
    #[test]
    fn no_replica_runs_twice(steps in prop::collection::vec((0_u8..7, 0_u64..12), 0..60)) {
        let mut bench = Bench::new();
        let mut alive = std::collections::BTreeSet::new();
        for (kind, number) in steps {
            let event = match kind {
                0 => start("a"),
                1 => stop("a"),
                2 => ready("a", number),
                3 => { alive.remove(&number); failed("a", number) }
                4 => { alive.remove(&number); Event::Ended("a".into(), number, None) }
                5 => Event::Doing("a".into(), number, number.to_string()),
                _ => Event::RetryDue("a".into(), number),
            };
            for action in bench.lifecycle.decide(event, bench.now, &mut bench.rng) {
                if let Action::Spawn(_, incarnation) = action {
                    prop_assert!(alive.insert(incarnation));
                }
            }
            prop_assert!(alive.len() <= 1);
            prop_assert!(bench.lifecycle.num_replicas() > 0 || alive.is_empty());
        }
    }
}
