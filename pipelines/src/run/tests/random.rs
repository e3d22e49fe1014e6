//! Random plans under random answers, failures and orders.

use proptest::prelude::*;

use super::*;

const NAMES: [&str; 8] = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"];

/// One stage as numbers: what it uses (bits of earlier stages), and how it behaves.
#[derive(Debug, Clone)]
struct RandomStage {
    uses: u8,
    kind: u8,
    for_each: bool,
    when: Option<bool>,
    max_parallel: u32,
    on_error: u8,
}

fn random_stage() -> impl Strategy<Value = RandomStage> {
    (any::<u8>(), 0..4_u8, any::<bool>(), proptest::option::weighted(0.3, any::<bool>()), 0..3_u32, 0..6_u8)
        .prop_map(|(uses, kind, for_each, when, max_parallel, on_error)| RandomStage {
            uses,
            kind,
            for_each,
            when,
            max_parallel,
            on_error,
        })
}

fn build(stages: &[RandomStage], response: u8) -> Arc<Plan> {
    let mut builder = Builder::new(&NAMES[..stages.len()]);
    for (index, stage) in stages.iter().enumerate() {
        let used: Vec<&str> = (0..index)
            .filter(|earlier| stage.uses & (1 << earlier) != 0)
            .map(|earlier| NAMES[earlier])
            .collect();
        let list = format!("[{}]", used.join(", "));
        let inputs = [("x", list.as_str()), ("q", "request.q")];
        builder = match stage.kind {
            0 => builder.stage(NAMES[index], Work::Operator(Operator::Merge), &inputs),
            _ => builder.call(NAMES[index], &inputs),
        };
        if stage.for_each {
            builder = builder.for_each(if stage.uses % 3 == 0 { "[]" } else { "request.docs" });
        }
        let when = stage.when.map(|yes| builder.expression(if yes { "true" } else { "false" }));
        builder = builder.with(|plan| {
            plan.when = when;
            plan.rules.max_parallel = Some(stage.max_parallel).filter(|max| *max > 0);
            // Only earlier stages stand in, so that there is no cycle.
            plan.on_error = match (stage.on_error, usize::from(stage.uses).checked_rem(index)) {
                (0 | 1, _) => OnError::Skip,
                (2 | 3, Some(fallback)) => OnError::Use(fallback),
                _ => OnError::Fail,
            };
        });
    }
    let names: Vec<&str> =
        (0..stages.len()).filter(|stage| response & (1 << stage) != 0).map(|stage| NAMES[stage]).collect();
    builder.respond(&[("r", &format!("[{}]", names.join(", ")))])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Whatever happens to its calls, a run ends exactly once and without an internal error of its own, every call is
    /// answered or cancelled exactly once, and nothing follows the end.
    #[test]
    fn every_run_ends_once_and_every_call_is_settled_once(
        stages in proptest::collection::vec(random_stage(), 1..8),
        response in any::<u8>(),
        choices in proptest::collection::vec((any::<u16>(), 0..10_u8), 200),
    ) {
        let plan = build(&stages, response);
        let (mut run, mut actions) = Run::start(plan, &request(), |_| 16);
        let mut open: Vec<CallId> = Vec::new();
        let mut next_id = 0;
        let mut choices = choices.into_iter().cycle();
        let mut finished = None;
        for _ in 0..1000 {
            for action in actions.drain(..) {
                prop_assert!(finished.is_none(), "{action:?} after the end");
                match action {
                    Action::Call(call) => {
                        prop_assert!(call.id.0 >= next_id, "an id twice");
                        next_id = call.id.0 + 1;
                        open.push(call.id);
                    }
                    Action::Cancel(call) => {
                        let at = open.iter().position(|of| *of == call);
                        prop_assert!(at.is_some(), "cancelled {call:?} is not under way");
                        open.swap_remove(at.unwrap());
                    }
                    Action::StageFailed(_) => {}
                    Action::Finish(outcome) => finished = Some(outcome),
                }
            }
            if finished.is_some() {
                break;
            }
            prop_assert!(!open.is_empty(), "nothing is under way, and no end");
            let (which, fate) = choices.next().unwrap();
            let call = open.swap_remove(usize::from(which) % open.len());
            actions = run.finish_call(call, match fate {
                0 => Err(CallError::started(ErrorClass::DeadlineExceeded, "late")),
                1 => Err(CallError::not_started(ErrorClass::Unavailable, "away")),
                2 => Err(CallError::started(ErrorClass::Invalid, "bad")),
                _ => Ok(Value::map([("text", Value::Int(i64::from(fate)))])),
            });
            prop_assert!(run.finish_call(call, Ok(Value::None)).is_empty(), "answered twice");
        }
        prop_assert!(open.is_empty(), "calls left open: {open:?}");
        match finished {
            Some(Ok(body)) => prop_assert!(body.get("r").is_some()),
            Some(Err(error)) => prop_assert!(!error.message.contains("cannot go on"), "{error}"),
            None => prop_assert!(false, "no end"),
        }
    }
}
