//! The runs of small plans, step by step.

mod random;

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_values::CallError;

use super::*;
use crate::expr::{Expression, Scope, Template};
use crate::ops::Operator;
use crate::plan::{CallRules, Input, InputValue, PlanParts, Serving, StageInputs, StagePlan, TextAnswer};
use crate::types::Type;

/// Builds a plan without the file; every value is of any type.
pub(super) struct Builder {
    scope: Scope,
    stages: Vec<StagePlan>,
}

impl Builder {
    pub(super) fn new(names: &[&str]) -> Self {
        let mut scope = Scope::new(Type::Any);
        for (index, name) in names.iter().enumerate() {
            scope.add_stage(*name, index, Type::Any);
        }
        Self { scope: scope.with_item("d", Type::Any), stages: Vec::new() }
    }

    pub(super) fn expression(&self, source: &str) -> Expression {
        Expression::compile(source, &self.scope).unwrap()
    }

    pub(super) fn stage(mut self, name: &str, work: Work, inputs: &[(&str, &str)]) -> Self {
        let inputs = inputs
            .iter()
            .map(|(name, source)| Input {
                name: (*name).into(),
                value: match source.strip_prefix("T:") {
                    Some(template) => InputValue::Template(Template::compile(template, &self.scope).unwrap()),
                    None => InputValue::Expression(self.expression(source)),
                },
                required: true,
            })
            .collect();
        self.stages.push(StagePlan {
            name: name.into(),
            work,
            inputs: StageInputs::Named(inputs),
            when: None,
            for_each: None,
            rules: CallRules::default(),
            on_error: OnError::Fail,
        });
        self
    }

    pub(super) fn call(self, name: &str, inputs: &[(&str, &str)]) -> Self {
        self.stage(name, Work::Call { target: 0, text: TextAnswer::Streams }, inputs)
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut StagePlan)) -> Self {
        change(self.stages.last_mut().unwrap());
        self
    }

    fn when(self, source: &str) -> Self {
        let when = self.expression(source);
        self.with(|stage| stage.when = Some(when))
    }

    pub(super) fn for_each(self, source: &str) -> Self {
        let list = self.expression(source);
        self.with(|stage| stage.for_each = Some(list))
    }

    pub(super) fn respond(self, response: &[(&str, &str)]) -> Arc<Plan> {
        let response =
            response.iter().map(|(name, source)| ((*name).into(), self.expression(source))).collect();
        Arc::new(plan(self.stages, response))
    }
}

fn plan(stages: Vec<StagePlan>, response: Vec<(Arc<str>, Expression)>) -> Plan {
    Plan::new(PlanParts {
        name: "test".parse().unwrap(),
        serving: Serving::default(),
        deployments: BTreeMap::new(),
        targets: vec!["test/echo".parse().unwrap()],
        timeout: None,
        max_body: None,
        placement: crate::Placement::default(),
        rollout: crate::Rollout::default(),
        capture: None,
        request: crate::request::Schema::default(),
        stages,
        response: Response::Fields(response),
    })
}

fn request() -> Value {
    Value::map([
        ("q", Value::from("why")),
        ("docs", Value::list(["a", "b", "c"].map(Value::from))),
        ("no", Value::Bool(false)),
    ])
}

/// Calls as `stage#id`, cancels as `-id`, the end as `ok {json}` or an error.
fn show(actions: &[Action]) -> Vec<String> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Call(call) => Some(format!("{}#{}", call.stage, call.id.0)),
            Action::Cancel(call) => Some(format!("-{}", call.0)),
            Action::StageFailed(_) => None,
            Action::Finish(Ok(body)) => Some(format!("ok {}", serde_json::to_string(body).unwrap())),
            Action::Finish(Err(error)) => Some(format!("{} {error}", error.class)),
        })
        .collect()
}

fn start(plan: &Arc<Plan>) -> (Run, Vec<String>) {
    let (run, actions) = Run::start(Arc::clone(plan), &request(), |_| 16);
    let shown = show(&actions);
    (run, shown)
}

fn ok(run: &mut Run, call: u32, text: &str) -> Vec<String> {
    show(&run.finish_call(CallId(call), Ok(Value::map([("text", Value::from(text))]))))
}

fn fail(run: &mut Run, call: u32, class: ErrorClass) -> Vec<String> {
    show(&run.finish_call(CallId(call), Err(CallError::started(class, "broken"))))
}

#[test]
fn independent_stages_start_at_once_and_a_dependent_waits_for_both() {
    let plan = Builder::new(&["a", "b", "c"])
        .call("a", &[("x", "request.q")])
        .call("b", &[("x", "request.q")])
        .call("c", &[("x", "T:{{ a.text }}+{{ b.text }}")])
        .respond(&[("answer", "c.text"), ("question", "request.q")]);
    let (mut run, first) = Run::start(Arc::clone(&plan), &request(), |_| 16);
    assert_eq!(show(&first), ["a#0", "b#1"]);
    let Action::Call(call) = &first[0] else { panic!("a call") };
    assert_eq!(call.inputs, Value::map([("x", Value::from("why"))]));
    assert_eq!(ok(&mut run, 1, "B"), [""; 0]);
    let next = run.finish_call(CallId(0), Ok(Value::map([("text", Value::from("A"))])));
    let Action::Call(call) = &next[0] else { panic!("a call") };
    assert_eq!(call.inputs, Value::map([("x", Value::from("A+B"))]));
    assert_eq!(call.streams.as_deref(), Some("answer"));
    assert_eq!(ok(&mut run, 2, "C"), [r#"ok {"answer":"C","question":"why"}"#]);
    assert_eq!(ok(&mut run, 2, "late"), [""; 0]);
    assert!(plan.can_stream());
}

#[test]
fn operators_run_inline() {
    let plan = Builder::new(&["m", "t"])
        .stage("m", Work::Operator(Operator::Merge), &[("a", "request.q"), ("b", "1")])
        .stage("t", Work::Operator(Operator::Template), &[("template", "T:{{ m.a }}{{ m.b }}")])
        .respond(&[("r", "t")]);
    assert_eq!(start(&plan).1, [r#"ok {"r":"why1"}"#]);
}

#[test]
fn a_false_condition_gives_none_and_dependents_run_on() {
    let plan = Builder::new(&["a", "b"])
        .call("a", &[("x", "request.q")])
        .when("request.no")
        .call("b", &[("x", "'none' if a is none else a.text")])
        .respond(&[("a", "a"), ("b", "b.text")]);
    let (mut run, first) = start(&plan);
    assert_eq!(first, ["b#0"]);
    assert_eq!(ok(&mut run, 0, "B"), [r#"ok {"a":null,"b":"B"}"#]);
}

#[test]
fn for_each_answers_in_order_whatever_the_order_of_ends() {
    let plan = Builder::new(&["a"])
        .call("a", &[("x", "d")])
        .for_each("request.docs")
        .respond(&[("r", "a|map(attribute='text')|list")]);
    let (mut run, first) = start(&plan);
    assert_eq!(first, ["a#0", "a#1", "a#2"]);
    assert_eq!(ok(&mut run, 2, "C"), [""; 0]);
    assert_eq!(ok(&mut run, 0, "A"), [""; 0]);
    assert_eq!(ok(&mut run, 1, "B"), [r#"ok {"r":["A","B","C"]}"#]);
    assert!(!plan.can_stream());
    let none = Builder::new(&["a"]).call("a", &[("x", "d")]).for_each("[]").respond(&[("r", "a")]);
    assert_eq!(start(&none).1, [r#"ok {"r":[]}"#]);
    let bad = Builder::new(&["a"]).call("a", &[("x", "d")]).for_each("request.q").respond(&[("r", "a")]);
    assert_eq!(start(&bad).1, ["internal stage `a`: `for_each`: a text has no elements to go through"]);
}

#[test]
fn so_many_elements_are_called_for_at_a_time_and_made_one_by_one() {
    let plan = Builder::new(&["a"])
        .call("a", &[("x", "1 // d")])
        .for_each("[1, 2, 0, 4]")
        .with(|stage| stage.rules.max_parallel = Some(2))
        .respond(&[("r", "a")]);
    let (mut run, first) = start(&plan);
    assert_eq!(first, ["a#0", "a#1"]);
    // The third element cannot be made; the calls before it are under way by then.
    let next = ok(&mut run, 0, "A");
    assert_eq!(next.len(), 2, "{next:?}");
    assert!(next[0] == "-1" && next[1].starts_with("internal stage `a`"), "{next:?}");
}

#[test]
fn a_call_carries_its_timeout_and_retries() {
    let plan = Builder::new(&["a"])
        .call("a", &[("x", "request.q")])
        .with(|stage| (stage.rules.retries, stage.rules.timeout) = (Some(2), Some(Duration::from_secs(3))))
        .respond(&[("r", "a.text")]);
    let (_, first) = Run::start(plan, &request(), |_| 16);
    let Action::Call(call) = &first[0] else { panic!("a call") };
    assert_eq!((call.retries, call.timeout), (Some(2), Some(Duration::from_secs(3))));
}

#[test]
fn a_failure_cancels_what_is_under_way() {
    let plan = Builder::new(&["a", "b", "c"])
        .call("a", &[("x", "request.q")])
        .call("b", &[("x", "d")])
        .for_each("request.docs")
        .call("c", &[("x", "a")])
        .respond(&[("r", "[a, b, c]")]);
    let (mut run, _) = start(&plan);
    assert_eq!(ok(&mut run, 2, "B"), [""; 0]);
    assert_eq!(fail(&mut run, 1, ErrorClass::Unavailable), ["-3", "-0", "unavailable stage `b`: broken"]);
    assert_eq!(ok(&mut run, 0, "A"), [""; 0]);
}

#[test]
fn skip_gives_none_and_cancels_the_other_elements() {
    let plan = Builder::new(&["a", "b"])
        .call("a", &[("x", "d")])
        .for_each("request.docs")
        .with(|stage| stage.on_error = OnError::Skip)
        .call("b", &[("x", "request.q")])
        .respond(&[("a", "a"), ("b", "b.text")]);
    let (mut run, first) = start(&plan);
    assert_eq!(first.len(), 4);
    assert_eq!(fail(&mut run, 1, ErrorClass::Internal), ["-0", "-2"]);
    assert_eq!(ok(&mut run, 3, "B"), [r#"ok {"a":null,"b":"B"}"#]);
}

#[test]
fn another_stage_stands_in_now_or_when_it_is_done() {
    let plan = Builder::new(&["a", "b"])
        .call("a", &[("x", "request.q")])
        .with(|stage| stage.on_error = OnError::Use(1))
        .call("b", &[("x", "request.q")])
        .respond(&[("r", "a.text")]);
    let (mut run, _) = start(&plan);
    assert_eq!(fail(&mut run, 0, ErrorClass::Internal), [""; 0]);
    assert_eq!(ok(&mut run, 1, "B"), [r#"ok {"r":"B"}"#]);
    let (mut run, _) = start(&plan);
    assert_eq!(ok(&mut run, 1, "B"), [""; 0]);
    assert_eq!(fail(&mut run, 0, ErrorClass::Internal), [r#"ok {"r":"B"}"#]);
    // What only stands in may fail as long as it is not needed, and is cancelled when it is not.
    let (mut run, _) = start(&plan);
    assert_eq!(fail(&mut run, 1, ErrorClass::Internal), [""; 0]);
    assert_eq!(ok(&mut run, 0, "A"), [r#"ok {"r":"A"}"#]);
    let (mut run, _) = start(&plan);
    assert_eq!(ok(&mut run, 0, "A"), ["-1", r#"ok {"r":"A"}"#]);
    for order in [[0, 1], [1, 0]] {
        let (mut run, _) = start(&plan);
        assert_eq!(fail(&mut run, order[0], ErrorClass::Internal), [""; 0]);
        assert_eq!(fail(&mut run, order[1], ErrorClass::Internal), ["internal stage `a`: broken"]);
    }
}

#[test]
fn whatever_becomes_of_a_failed_stage_its_failure_is_told_once() {
    for on_error in [OnError::Fail, OnError::Skip, OnError::Use(1)] {
        let plan = Builder::new(&["a", "b"])
            .call("a", &[("x", "request.q")])
            .with(|stage| stage.on_error = on_error)
            .call("b", &[("x", "request.q")])
            .respond(&[("r", "[a, b]")]);
        let (mut run, _) = Run::start(plan, &request(), |_| 16);
        let actions = run.finish_call(CallId(0), Err(CallError::started(ErrorClass::Internal, "broken")));
        let failures: Vec<_> = actions
            .iter()
            .filter_map(|action| match action {
                Action::StageFailed(failure) => Some((failure.stage, failure.error.to_string())),
                _ => None,
            })
            .collect();
        assert_eq!(failures, [(0, "stage `a`: broken".to_owned())], "{on_error:?}");
    }
}

#[test]
fn a_stand_in_whose_own_needs_fail_fails_with_them() {
    let plan = Builder::new(&["a", "b", "c"])
        .call("a", &[("x", "request.q")])
        .with(|stage| stage.on_error = OnError::Use(2))
        .call("b", &[("x", "request.q")])
        .call("c", &[("x", "b.text")])
        .respond(&[("r", "a.text")]);
    let (mut run, _) = start(&plan);
    assert_eq!(fail(&mut run, 0, ErrorClass::Unavailable), [""; 0]);
    assert_eq!(fail(&mut run, 1, ErrorClass::Internal), ["unavailable stage `a`: broken"]);
}

#[test]
fn stages_that_stand_in_for_each_other_end_the_run() {
    let plan = Builder::new(&["a", "b"])
        .call("a", &[("x", "request.q")])
        .with(|stage| stage.on_error = OnError::Use(1))
        .call("b", &[("x", "request.q")])
        .with(|stage| stage.on_error = OnError::Use(0))
        .respond(&[("r", "a.text")]);
    let (mut run, _) = start(&plan);
    assert_eq!(fail(&mut run, 0, ErrorClass::Unavailable), [""; 0]);
    assert_eq!(fail(&mut run, 1, ErrorClass::Internal), ["unavailable stage `a`: broken"]);
}

#[test]
fn bad_inputs_and_responses_name_their_place() {
    let plan = Builder::new(&["a"]).call("a", &[("x", "request.nothing")]).respond(&[("r", "a")]);
    assert_eq!(start(&plan).1, ["internal stage `a`: `x`: `request.nothing` has no value"]);
    let plan = Builder::new(&["a"]).call("a", &[("x", "none")]).respond(&[("r", "a")]);
    assert_eq!(start(&plan).1, ["internal stage `a`: `x` is none: the stage that it comes from was skipped"]);
    let plan = Builder::new(&["a"]).call("a", &[("x", "1")]).respond(&[("r", "a.nothing")]);
    let (mut run, _) = start(&plan);
    assert_eq!(ok(&mut run, 0, "A"), ["internal stage `response`: `r`: `a.nothing` has no value"]);
}

#[test]
fn an_optional_input_that_is_none_is_left_out() {
    let plan = Builder::new(&["a"])
        .call("a", &[("x", "1"), ("keep", "none")])
        .with(|stage| {
            let StageInputs::Named(inputs) = &mut stage.inputs else { panic!("{stage:?}") };
            inputs[1].required = false;
        })
        .respond(&[("r", "a")]);
    let (_, actions) = Run::start(plan, &request(), |_| 16);
    let Action::Call(call) = &actions[0] else { panic!("a call") };
    assert_eq!(call.inputs, Value::map([("x", Value::Int(1))]));
}

#[test]
fn a_call_that_was_not_sent_yet_is_taken_back_at_once() {
    let many = |names: &[&str]| {
        Builder::new(names)
            .call("a", &[("x", "d")])
            .for_each("range(60000)")
            .call("b", &[("x", "request.nothing")])
    };
    let plan = many(&["a", "b"]).respond(&[("r", "[a, b]")]);
    assert_eq!(start(&plan).1, ["internal stage `b`: `x`: `request.nothing` has no value"]);
    let plan = many(&["a", "b"]).with(|stage| stage.on_error = OnError::Skip).respond(&[("r", "b")]);
    assert_eq!(start(&plan).1, [r#"ok {"r":null}"#]);
    let plan = Builder::new(&["a"]).call("a", &[("x", "d")]).for_each("range(70000)").respond(&[("r", "a")]);
    assert_eq!(start(&plan).1, ["too_large stage `a`: `for_each` over 70000 elements; at most 65536"]);
}
