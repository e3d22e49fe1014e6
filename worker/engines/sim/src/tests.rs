//! The engine on a clock of the tests' own.

use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use millstream_calls::call::{CallEvent, Parts, PendingCall, channel};
use millstream_engine::{Call, Progress, ResponseMode, SteppingEngine as _};
use millstream_pipelines::{AnswerTokens, Batch, FirstToken, NextToken, Sim};
use millstream_values::{ErrorClass, Value};

use crate::engine::{MAX_SLEEP, SimEngine};

const MS: Duration = Duration::from_millis(1);

/// 20 ms and 1 ms a token of the prompt, then 10 ms and 1 ms for each other sequence.
fn settings() -> Sim {
    Sim {
        first_token: FirstToken { base: 20 * MS, per_prompt_token: MS, per_sequence: Duration::ZERO },
        next_token: NextToken { base: 10 * MS, per_sequence: MS },
        ..Sim::default()
    }
}

/// An engine and its time.
struct Test {
    engine: SimEngine,
    start: Instant,
    now: Instant,
}

impl Test {
    fn new(settings: Sim) -> Self {
        let start = millstream_clock::now();
        Self { engine: SimEngine::new(settings, &Batch::default(), 0), start, now: start }
    }

    /// A streamed call for so many tokens.
    fn call(&self, prompt: &str, max_tokens: i64, more: &[(&str, Value)]) -> (Call, PendingCall) {
        let inputs = [("prompt", Value::from(prompt)), ("max_tokens", max_tokens.into())];
        let (reply, pending) = channel(Parts::Wanted);
        let mut call = Call::new(Value::map(inputs.into_iter().chain(more.iter().cloned())), reply, self.now);
        call.answer = ResponseMode::Stream;
        (call, pending)
    }

    fn step(&mut self, calls: Vec<Call>) -> Progress {
        self.engine.step_at(self.now, calls).progress
    }

    /// Goes on until that time.
    fn until(&mut self, ms: u32) -> Progress {
        let end = self.start + ms * MS;
        loop {
            match self.step(Vec::new()) {
                Progress::Waiting { until } if until <= end => self.now = until,
                progress => {
                    self.now = end;
                    return progress;
                }
            }
        }
    }

    /// Runs a call to its end: its text, tokens and reason, or its failure.
    fn answer(&mut self, prompt: &str, max_tokens: i64, more: &[(&str, Value)]) -> CallEvent {
        let (call, mut pending) = self.call(prompt, max_tokens, more);
        let mut progress = self.step(vec![call]);
        while let Progress::Waiting { until } = progress {
            self.now = until;
            progress = self.step(Vec::new());
        }
        assert_eq!(progress, Progress::Idle);
        loop {
            match pending.next().now_or_never().expect("it is over") {
                CallEvent::Delta(_) => {}
                end => return end,
            }
        }
    }
}

fn field(event: &CallEvent, name: &str) -> Value {
    match event {
        CallEvent::Done(value) => value.get(name).unwrap().clone(),
        other => panic!("expected an answer, got {other:?}"),
    }
}

/// Parts that are there.
fn parts(pending: &mut PendingCall) -> usize {
    let events = std::iter::from_fn(|| pending.next().now_or_never());
    events.take_while(|it| matches!(it, CallEvent::Delta(_))).count()
}

#[test]
fn tokens_come_when_the_curves_say() {
    let mut test = Test::new(settings());
    // 8 tokens.
    let (call, mut pending) = test.call(&"p".repeat(32), 5, &[]);
    assert_eq!(test.step(vec![call]), Progress::Waiting { until: test.start + 28 * MS });
    for (ms, expected) in [(27, 0), (28, 1), (37, 0), (38, 1), (47, 0), (48, 1), (57, 0), (58, 1)] {
        test.until(ms);
        assert_eq!(parts(&mut pending), expected, "after {ms} ms");
    }
    assert_eq!(test.until(68), Progress::Idle);
    assert_eq!(parts(&mut pending), 1);
}

#[test]
fn sequences_step_together_and_whoever_comes_joins_the_next_step() {
    let mut test = Test::new(settings());
    let (one, mut one_pending) = test.call("four", 100, &[]);
    test.step(vec![one]);
    // Its first token is there at 21 ms; steps end at 31, 41 ...
    test.until(25);
    let (two, mut two_pending) = test.call("four", 100, &[]);
    test.step(vec![two]);
    // The first token of the second is there at 46 ms, and it joins the step from 51 to 62 ms.
    test.until(50);
    assert_eq!((parts(&mut one_pending), parts(&mut two_pending)), (3, 1));
    test.until(61);
    assert_eq!((parts(&mut one_pending), parts(&mut two_pending)), (1, 0));
    test.until(62);
    assert_eq!((parts(&mut one_pending), parts(&mut two_pending)), (1, 1));
    test.until(73);
    assert_eq!((parts(&mut one_pending), parts(&mut two_pending)), (1, 1));
    assert_eq!(test.engine.room(), 30);
}

#[test]
fn a_thread_that_comes_late_keeps_the_pace_but_makes_up_for_no_more_than_a_step() {
    let mut test = Test::new(settings());
    let (call, mut pending) = test.call("four", 100, &[]);
    test.step(vec![call]);
    test.until(21);
    test.now = test.start + 36 * MS;
    assert_eq!(test.step(Vec::new()), Progress::Waiting { until: test.start + 41 * MS });
    test.now = test.start + 200 * MS;
    assert_eq!(test.step(Vec::new()), Progress::Waiting { until: test.start + 210 * MS });
    assert_eq!(parts(&mut pending), 3);
}

#[test]
fn the_same_request_gives_the_same_text_and_another_seed_another() {
    let ask = |seed: Option<i64>, own: u32| {
        let mut test = Test::new(Sim { seed: own, ..settings() });
        let more: Vec<_> = seed.map(|seed| ("seed", seed.into())).into_iter().collect();
        field(&test.answer("tell", 20, &more), "text")
    };
    assert_eq!(ask(None, 0), ask(None, 0));
    assert_ne!(ask(Some(1), 0), ask(Some(2), 0));
    assert_ne!(ask(Some(1), 0), ask(Some(1), 1));
}

#[test]
fn an_answer_ends_by_length_by_a_stop_text_or_by_itself() {
    let mut test = Test::new(settings());
    let whole = test.answer("tell", 12, &[]);
    assert_eq!((field(&whole, "tokens"), field(&whole, "finish_reason")), (12.into(), "length".into()));
    let text = field(&whole, "text").as_text().unwrap().to_owned();
    let stop = text.split(' ').nth(5).unwrap();
    let stopped = test.answer("tell", 12, &[("stop", stop.into())]);
    let expected = &text[..text.find(stop).unwrap()];
    assert_eq!((field(&stopped, "text"), field(&stopped, "finish_reason")), (expected.into(), "stop".into()));
    let mut test = Test::new(Sim { answer_tokens: Some(AnswerTokens { min: 3, max: 3 }), ..settings() });
    let own = test.answer("tell", 12, &[]);
    assert_eq!((field(&own, "tokens"), field(&own, "finish_reason")), (3.into(), "stop".into()));
}

#[test]
fn a_prompt_with_a_known_beginning_takes_less() {
    let mut test = Test::new(settings());
    let system = "s".repeat(64 * 4);
    let mut takes = |prompt: &str| {
        let before = test.now;
        test.answer(prompt, 1, &[]);
        test.now - before
    };
    assert_eq!(takes(&format!("{system}one.")), (20 + 65) * MS);
    assert_eq!(takes(&format!("{system}two.")), 21 * MS);
    assert_eq!(takes(&system), 21 * MS, "the last token is read");
}

#[test]
fn a_full_cache_has_calls_wait_in_order() {
    let mut test = Test::new(Sim { kv_tokens: 30, ..settings() });
    let (first, mut first_pending) = test.call("four", 19, &[]);
    let (second, mut second_pending) = test.call("four", 10, &[]);
    let (third, mut third_pending) = test.call("four", 9, &[]);
    test.step(vec![first, second, third]);
    assert_eq!(test.engine.room(), 0, "the second has to wait, and so does everybody behind it");
    // The first is over after 21 + 18 × 10 ms.
    test.until(200);
    assert_eq!((parts(&mut first_pending), parts(&mut second_pending)), (18, 0));
    test.until(222);
    assert_eq!((parts(&mut first_pending), parts(&mut second_pending), parts(&mut third_pending)), (1, 1, 1));
    let too_long = test.answer(&"x".repeat(200), 1, &[]);
    let CallEvent::Failed(error) = too_long else { panic!("{too_long:?}") };
    assert!(error.message.contains("has 50 tokens, but the model holds 30"), "{error}");
    assert_eq!(
        field(&test.answer(&"x".repeat(100), 100, &[]), "tokens"),
        5.into(),
        "as many as there is room for"
    );
}

#[test]
fn who_leaves_or_is_too_late_frees_the_place_soon_whatever_is_under_way() {
    let slow = FirstToken { base: Duration::from_secs(60), ..settings().first_token };
    let mut test = Test::new(Sim { first_token: slow, kv_tokens: 100, ..settings() });
    let (gone, pending) = test.call("four", 50, &[]);
    let (waits, waiting_pending) = test.call("four", 80, &[]);
    let Progress::Waiting { until } = test.step(vec![gone, waits]) else { panic!("two are under way") };
    assert_eq!(until, test.now + MAX_SLEEP);
    drop((pending, waiting_pending));
    test.now += MS;
    assert_eq!(test.step(Vec::new()), Progress::Idle);

    let (mut late, mut pending) = test.call("four", 50, &[]);
    late.deadline = Some(test.now + 30 * MS);
    let (mut waits, mut waiting_pending) = test.call("four", 80, &[]);
    waits.deadline = Some(test.now + 20 * MS);
    assert_eq!(test.step(vec![late, waits]), Progress::Waiting { until: test.now + 20 * MS });
    test.now += 20 * MS;
    assert_eq!(test.step(Vec::new()), Progress::Waiting { until: test.now + 10 * MS });
    test.now += 10 * MS;
    assert_eq!(test.step(Vec::new()), Progress::Idle);
    for pending in [&mut pending, &mut waiting_pending] {
        let Some(CallEvent::Failed(error)) = pending.next().now_or_never() else { panic!("it is late") };
        assert_eq!(error.class, ErrorClass::DeadlineExceeded);
    }
}

#[test]
fn a_client_that_reads_slowly_pauses_its_own_answer_alone() {
    let mut test = Test::new(settings());
    let (slow, mut slow_pending) = test.call("four", 5, &[]);
    // As if it had left that much unread.
    slow.reply.delta_of(Value::None, 1 << 20);
    let (quick, mut quick_pending) = test.call("four", 5, &[]);
    test.step(vec![slow, quick]);
    let progress = test.until(300);
    assert_eq!((parts(&mut quick_pending), test.engine.room()), (5, 31));
    assert!(matches!(progress, Progress::Waiting { .. }), "{progress:?}");
    assert_eq!(parts(&mut slow_pending), 2, "what was unread, and its first token");
    assert_eq!(test.until(400), Progress::Idle);
    assert_eq!(parts(&mut slow_pending), 4);
}

#[test]
fn a_step_gives_tokens_only_to_those_that_it_began_with() {
    let mut test = Test::new(settings());
    let (slow, mut slow_pending) = test.call("four", 100, &[]);
    // As if it had left so much unread that there is room for one token, and not for two.
    slow.reply.delta_of(Value::None, (64 << 10) - 104);
    let (quick, mut quick_pending) = test.call("four", 100, &[]);
    test.step(vec![slow, quick]);
    // First tokens at 21 ms and a step of both to 32 ms, after which the first is behind; a step of the other alone to 42 ms.
    test.until(35);
    assert_eq!((parts(&mut slow_pending), parts(&mut quick_pending)), (3, 2));
    test.until(42);
    assert_eq!((parts(&mut slow_pending), parts(&mut quick_pending)), (0, 1), "it was read on with too late");
    test.until(53);
    assert_eq!((parts(&mut slow_pending), parts(&mut quick_pending)), (1, 1));
}

#[test]
fn as_many_calls_fail_as_asked_some_in_the_middle() {
    let mut test = Test::new(Sim { fail_ratio: 0.5, ..settings() });
    let mut failed = 0;
    for number in 0..20 {
        failed +=
            usize::from(matches!(test.answer(&format!("call {number}"), 10, &[]), CallEvent::Failed(_)));
    }
    assert_eq!(failed, 10);
}

#[test]
#[should_panic(expected = "a prompt holds the text of `crash_on`")]
fn a_crash_is_a_panic() {
    Test::new(Sim { crash_on: Some("boom".into()), ..settings() }).answer("a boom b", 1, &[]);
}
