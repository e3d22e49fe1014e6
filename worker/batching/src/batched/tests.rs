use std::sync::Mutex;
use std::time::Duration;

use futures_util::FutureExt as _;
use millstream_calls::call::{CallEvent, Parts, PendingCall, channel};
use millstream_values::Started;
use proptest::prelude::*;

use millstream_engine::Priority;
use millstream_values::Value;

use super::*;
use crate::engine::Shape;

/// Answers a list of numbers with their doubles; refuses a batch with a negative one. Each number is a part, its group
/// its thousands.
struct Doubling {
    /// Numbers of each run.
    runs: Arc<Mutex<Vec<Vec<i64>>>>,
    companies: Mutex<Vec<Company>>,
    clock: Arc<Mutex<Instant>>,
    /// Time that a run takes.
    takes: Duration,
}

impl BatchEngine for Doubling {
    type Lane = ();
    type Call = Vec<Option<i64>>;
    type Part = (usize, i64);
    type Outcome = Vec<i64>;

    fn warm_up(&self, (): &mut (), _: &Batch) -> Result<(), LoadError> {
        Ok(())
    }

    fn prepare(&self, inputs: Value, _: Preparing<'_>) -> Result<(Self::Call, Vec<Self::Part>), CallError> {
        let Value::List(numbers) = inputs else {
            return Err(CallError::started(ErrorClass::Invalid, "not a list"));
        };
        let numbers: Vec<i64> = numbers.iter().filter_map(Value::as_int).collect();
        Ok((vec![None; numbers.len()], numbers.into_iter().enumerate().collect()))
    }

    fn shape(&self, part: &Self::Part) -> Shape {
        Shape { inputs: 1, tokens: 0, group: Some(part.1.unsigned_abs() / 1000) }
    }

    fn run(&self, (): &mut (), parts: &[&Self::Part], company: Company) -> Result<Vec<i64>, CallError> {
        self.companies.lock().unwrap().push(company);
        let numbers: Vec<i64> = parts.iter().map(|part| part.1).collect();
        self.runs.lock().unwrap().push(numbers.clone());
        *self.clock.lock().unwrap() += self.takes;
        if numbers.iter().any(|&number| number < 0) {
            return Err(CallError::started(ErrorClass::Internal, "a negative number"));
        }
        assert!(!numbers.contains(&66_666), "told to");
        Ok(numbers.into_iter().map(|number| number * 2).collect())
    }

    fn fill(&self, call: &mut Self::Call, part: &Self::Part, outcome: &mut Vec<i64>, at: usize) {
        assert_eq!(call[part.0], None, "filled twice");
        call[part.0] = Some(outcome[at]);
    }

    fn finish(&self, call: Self::Call) -> Result<Value, CallError> {
        Ok(Value::list(call.into_iter().map(|number| Value::Int(number.unwrap()))))
    }

    fn memory_bytes(&self) -> u64 {
        7
    }
}

/// A batching engine on a clock that only tests and runs move.
struct Bench {
    batched: Batched<Doubling>,
    clock: Arc<Mutex<Instant>>,
    runs: Arc<Mutex<Vec<Vec<i64>>>>,
}

impl Bench {
    fn new(batch: Batch) -> Self {
        Self::taking(Duration::from_millis(1), batch)
    }

    fn taking(takes: Duration, batch: Batch) -> Self {
        let clock = Arc::new(Mutex::new(millstream_clock::now()));
        let runs = Arc::<Mutex<Vec<Vec<i64>>>>::default();
        let companies = Mutex::default();
        let engine = Doubling { runs: runs.clone(), companies, clock: clock.clone(), takes };
        let read = clock.clone();
        let mut lanes = Batched::with_clock(engine, vec![()], batch, move || *read.lock().unwrap());
        Self { batched: lanes.remove(0), clock, runs }
    }

    fn now(&self) -> Instant {
        *self.clock.lock().unwrap()
    }

    fn pass(&self, time: Duration) {
        *self.clock.lock().unwrap() += time;
    }

    fn step(&mut self, calls: Vec<Call>) -> Progress {
        self.batched.step(calls).progress
    }

    /// Steps until nothing is left, passing the time that it waits.
    fn finish(&mut self) {
        loop {
            match self.step(Vec::new()) {
                Progress::Idle => return,
                Progress::Busy => {}
                Progress::Waiting { until } => {
                    assert!(until > self.now(), "asked to wait for what has been");
                    *self.clock.lock().unwrap() = until;
                }
            }
        }
    }

    fn runs(&self) -> Vec<Vec<i64>> {
        self.runs.lock().unwrap().clone()
    }
}

fn batch(max_size: u32, max_wait_ms: u64) -> Batch {
    Batch { max_size, max_wait: Duration::from_millis(max_wait_ms), ..Batch::default() }
}

fn call(numbers: &[i64]) -> (Call, PendingCall) {
    prioritized(numbers, Priority::Normal)
}

fn prioritized(numbers: &[i64], priority: Priority) -> (Call, PendingCall) {
    let (reply, pending) = channel(Parts::Wanted);
    let inputs = Value::list(numbers.iter().map(|&number| Value::Int(number)));
    // Not before the engine's clock, which then counts.
    let arrived = millstream_clock::now() + Duration::from_secs(3600);
    (Call { priority, ..Call::new(inputs, reply, arrived) }, pending)
}

fn answer(pending: &mut PendingCall) -> Option<Result<Value, CallError>> {
    match pending.next().now_or_never()? {
        CallEvent::Done(value) => Some(Ok(value)),
        CallEvent::Failed(error) => Some(Err(error)),
        CallEvent::Timing(_) | CallEvent::Delta(_) => panic!("a part of a whole answer"),
    }
}

fn doubled(numbers: &[i64]) -> Value {
    Value::list(numbers.iter().map(|&number| Value::Int(number * 2)))
}

#[test]
fn a_call_waits_for_company_only_so_long() {
    let mut bench = Bench::new(batch(4, 10));
    let (first, mut pending) = call(&[1]);
    let Progress::Waiting { until } = bench.step(vec![first]) else { panic!("it waits") };
    assert_eq!(until - bench.now(), Duration::from_millis(10));
    bench.pass(Duration::from_millis(4));
    let (second, _pending) = call(&[2]);
    let Progress::Waiting { until } = bench.step(vec![second]) else { panic!("it still waits") };
    assert_eq!(until - bench.now(), Duration::from_millis(6), "the oldest counts");
    bench.pass(Duration::from_millis(6));
    assert_eq!(bench.step(Vec::new()), Progress::Idle);
    assert_eq!(answer(&mut pending).unwrap().unwrap(), doubled(&[1]));
    assert_eq!(bench.runs(), [vec![1, 2]]);
}

#[test]
fn a_large_call_is_split_and_its_rest_does_not_wait() {
    let mut bench = Bench::new(batch(2, 10));
    let (large, mut pending) = call(&[1, 2, 3, 4, 5]);
    while bench.step(Vec::new()) != Progress::Idle {}
    let mut progress = bench.step(vec![large]);
    while let Progress::Busy = progress {
        progress = bench.step(Vec::new());
    }
    assert_eq!(progress, Progress::Idle, "never asked to wait");
    assert_eq!(answer(&mut pending).unwrap().unwrap(), doubled(&[1, 2, 3, 4, 5]));
    assert_eq!(bench.runs(), [vec![1, 2], vec![3, 4], vec![5]]);
}

#[test]
fn a_bad_call_fails_alone() {
    let mut bench = Bench::new(batch(8, 0));
    let calls = [call(&[1]), call(&[2, -3]), call(&[4])];
    let (calls, mut pending): (Vec<Call>, Vec<PendingCall>) = calls.into_iter().unzip();
    bench.step(calls);
    let answers: Vec<_> = pending.iter_mut().map(|pending| answer(pending).unwrap()).collect();
    assert_eq!(answers[0], Ok(doubled(&[1])));
    assert_eq!(answers[1].as_ref().unwrap_err().message, "a negative number");
    assert_eq!(answers[2], Ok(doubled(&[4])));
    assert_eq!(bench.runs(), [vec![1, 2, -3, 4], vec![1], vec![2, -3], vec![4]], "once more, each by itself");
}

#[test]
fn the_urgent_go_first_and_equals_in_order() {
    let mut bench = Bench::new(batch(2, 0));
    let calls = [
        prioritized(&[1], Priority::Low),
        prioritized(&[2], Priority::Normal),
        prioritized(&[3], Priority::High),
        prioritized(&[4], Priority::Normal),
        prioritized(&[5], Priority::High),
    ];
    let (calls, _pending): (Vec<Call>, Vec<PendingCall>) = calls.into_iter().unzip();
    bench.step(calls);
    bench.finish();
    assert_eq!(bench.runs(), [vec![3, 5], vec![2, 4], vec![1]]);
}

#[test]
fn the_late_and_the_left_are_dropped_before_a_batch_forms() {
    let mut bench = Bench::new(batch(4, 10));
    let (mut late, mut late_pending) = call(&[1]);
    late.deadline = Some(bench.now() + Duration::from_millis(5));
    let (left, left_pending) = call(&[2]);
    let Progress::Waiting { until } = bench.step(vec![late, left]) else { panic!("it waits") };
    assert_eq!(until - bench.now(), Duration::from_millis(5), "a deadline is answered when it passes");
    drop(left_pending);
    bench.pass(Duration::from_millis(5));
    assert_eq!(bench.step(Vec::new()), Progress::Idle);
    let error = answer(&mut late_pending).unwrap().unwrap_err();
    assert_eq!((error.class, error.started), (ErrorClass::DeadlineExceeded, Started::No));
    assert!(bench.runs().is_empty());
}

#[test]
fn settings_apply_to_what_waits_already() {
    let mut bench = Bench::new(batch(4, 10_000));
    let (waiting, mut pending) = call(&[1]);
    assert!(matches!(bench.step(vec![waiting]), Progress::Waiting { .. }));
    bench.batched.set_batch(&batch(4, 0));
    assert_eq!(bench.step(Vec::new()), Progress::Idle);
    assert!(answer(&mut pending).unwrap().is_ok());
}

#[test]
fn a_panic_gives_back_what_had_not_begun() {
    let mut bench = Bench::new(batch(1, 0));
    let (begun, mut begun_pending) = call(&[1, 1]);
    bench.step(vec![begun]);
    let (inside, mut inside_pending) = call(&[66_666]);
    let (queued, mut queued_pending) = call(&[1]);
    let inside = Call { priority: Priority::High, ..inside };
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        bench.step(vec![inside, queued]);
    }));
    assert!(panicked.is_err());
    let error = answer(&mut inside_pending).unwrap().unwrap_err();
    assert_eq!((error.class, error.started), (ErrorClass::Unavailable, Started::Crashed));
    let error = answer(&mut begun_pending).unwrap().unwrap_err();
    assert_eq!((error.class, error.started), (ErrorClass::Unavailable, Started::Yes));
    let error = answer(&mut queued_pending).unwrap().unwrap_err();
    assert_eq!((error.class, error.started), (ErrorClass::Unavailable, Started::No));
}

#[test]
fn calls_take_turns_so_that_nobody_waits_for_the_whole_of_a_large_one() {
    let mut bench = Bench::new(batch(4, 0));
    let (large, mut large_pending) = call(&[1; 40]);
    let (small, mut small_pending) = call(&[2]);
    let (urgent, mut urgent_pending) = prioritized(&[3; 8], Priority::High);
    bench.step(vec![large, small, urgent]);
    for _ in 0..2 {
        bench.step(Vec::new());
    }
    assert_eq!(bench.runs(), [vec![3; 4], vec![3; 4], vec![1; 4]], "the urgent first");
    assert!(answer(&mut urgent_pending).is_some());
    bench.step(Vec::new());
    assert!(answer(&mut small_pending).is_some(), "after one batch of the large one");
    bench.finish();
    assert!(answer(&mut large_pending).unwrap().is_ok());
}

#[test]
fn lanes_share_the_calls_and_know_whether_they_are_alone() {
    let clock = Arc::new(Mutex::new(millstream_clock::now()));
    let engine = Doubling {
        runs: Arc::default(),
        companies: Mutex::default(),
        clock: clock.clone(),
        takes: Duration::from_millis(1),
    };
    let mut lanes = Batched::with_clock(engine, vec![(), ()], batch(4, 0), move || *clock.lock().unwrap());
    let [first, second] = &mut lanes[..] else { panic!("two lanes") };
    let (large, mut pending) = call(&[1, 2, 3, 4, 5, 6]);
    assert_eq!(first.step(vec![large]), Stepped { progress: Progress::Busy, num_inputs: 4 });
    assert_eq!(second.step(Vec::new()), Stepped { progress: Progress::Idle, num_inputs: 2 });
    assert!(answer(&mut pending).unwrap().is_ok(), "the second lane answers what the first was given");
    assert_eq!(*first.engine().companies.lock().unwrap(), [Company::Others, Company::Alone]);
    assert_eq!(first.step(Vec::new()).progress, Progress::Idle);
}

/// A device with a high price for each run: `auto` learns to wait for company, and stops when nobody comes.
#[test]
fn auto_learns_when_company_pays() {
    let auto = Batch { max_size: 64, target_latency: Some(Duration::from_millis(200)), ..Batch::default() };
    let mut bench = Bench::taking(Duration::from_millis(20), auto);
    let mut pending = Vec::new();
    let mut send = |bench: &mut Bench, numbers: &[i64]| {
        let (call, mine) = call(numbers);
        pending.push(mine);
        bench.step(vec![call])
    };
    // Single inputs tell nothing of what a run costs by itself: no wait.
    assert_eq!(send(&mut bench, &[1]), Progress::Idle);
    for size in 1..30 {
        send(&mut bench, &vec![1; 3 + size % 6]);
        bench.finish();
        bench.pass(Duration::from_millis(2));
    }
    bench.runs.lock().unwrap().clear();
    let Progress::Waiting { until } = send(&mut bench, &[1]) else { panic!("company pays") };
    assert!(until - bench.now() < Duration::from_millis(200));
    bench.finish();
    bench.pass(Duration::from_secs(60));
    assert_eq!(send(&mut bench, &[2]), Progress::Idle, "nobody has come for a minute");
}

/// What happens in an interleaving.
#[derive(Debug, Clone)]
enum Act {
    Send { numbers: Vec<i64>, priority: Priority, deadline_ms: Option<u64> },
    Leave(prop::sample::Index),
    Pass(u64),
    Step,
    Set(Batch),
}

fn act() -> impl Strategy<Value = Act> {
    let number = prop_oneof![9 => 1_i64..3000, 1 => -5_i64..0];
    let priority = prop_oneof![Just(Priority::High), Just(Priority::Normal), Just(Priority::Low)];
    let batch = (1_u32..9, 0_u64..20, prop::option::of(1_u64..100), prop::bool::ANY).prop_map(
        |(max_size, wait, target, prefers)| Batch {
            target_latency: target.map(Duration::from_millis),
            preferred_sizes: if prefers && target.is_none() && max_size > 1 { vec![2] } else { Vec::new() },
            ..batch(max_size, wait)
        },
    );
    prop_oneof![
        6 => (prop::collection::vec(number, 0..12), priority, prop::option::weighted(0.3, 0_u64..40))
            .prop_map(|(numbers, priority, deadline_ms)| Act::Send { numbers, priority, deadline_ms }),
        2 => any::<prop::sample::Index>().prop_map(Act::Leave),
        3 => (0_u64..15).prop_map(Act::Pass),
        6 => Just(Act::Step),
        1 => batch.prop_map(Act::Set),
    ]
}

proptest! {
    #[test]
    fn every_call_is_answered_once_and_in_order_in_every_interleaving(
        acts in prop::collection::vec(act(), 1..80),
    ) {
        let mut bench = Bench::new(batch(4, 5));
        let mut sent: Vec<(Vec<i64>, bool, Option<PendingCall>)> = Vec::new();
        let (mut inbox, mut max_size) = (Vec::new(), 4);
        for act in acts {
            match act {
                Act::Send { numbers, priority, deadline_ms } => {
                    let (mut call, pending) = prioritized(&numbers, priority);
                    call.deadline = deadline_ms.map(|ms| bench.now() + Duration::from_millis(ms));
                    sent.push((numbers, deadline_ms.is_some(), Some(pending)));
                    inbox.push(call);
                }
                Act::Leave(index) => {
                    let len = sent.len().max(1);
                    if let Some(leaver) = sent.get_mut(index.index(len)) {
                        leaver.2 = None;
                    }
                }
                Act::Pass(ms) => bench.pass(Duration::from_millis(ms)),
                Act::Step => drop(bench.step(std::mem::take(&mut inbox))),
                Act::Set(batch) => {
                    max_size = max_size.max(batch.max_size as usize);
                    bench.batched.set_batch(&batch);
                }
            }
        }
        bench.step(std::mem::take(&mut inbox));
        bench.finish();
        prop_assert!(bench.batched.shared.calls.lock().is_empty());
        for run in bench.runs() {
            prop_assert!(run.len() <= max_size);
            prop_assert!(run.iter().all(|number| number.unsigned_abs() / 1000 == run[0].unsigned_abs() / 1000));
        }
        for (numbers, has_deadline, pending) in sent {
            let Some(mut pending) = pending else { continue };
            let Some(outcome) = answer(&mut pending) else {
                return Err(TestCaseError::fail(format!("{numbers:?} was not answered")));
            };
            match outcome {
                Ok(value) => {
                    prop_assert!(numbers.iter().all(|&number| number >= 0));
                    prop_assert_eq!(value, doubled(&numbers));
                }
                Err(error) if error.class == ErrorClass::DeadlineExceeded => prop_assert!(has_deadline),
                Err(error) => {
                    prop_assert!(numbers.iter().any(|&number| number < 0), "{:?} {:?}", numbers, error);
                }
            }
        }
    }
}
