//! Whole pipelines, from the file to the response: random ones under random answers, the bundled example, and what a
//! run costs.

use std::sync::Arc;
use std::time::Instant;

use millstream_pipelines::{Action, CallId, Color, Plan, Run, RunError, StageCall};
use millstream_values::{CallError, ErrorClass, Tensor, Value};
use proptest::prelude::*;

fn compile(text: &str) -> Arc<Plan> {
    Arc::new(
        Plan::compile("test.toml", text)
            .unwrap_or_else(|faults| panic!("{}\n{text}", faults.render(Color::Plain))),
    )
}

/// What a deployment of that name answers: right by its task's rules, whatever it is asked.
fn answer(plan: &Plan, call: &StageCall) -> Value {
    let texts =
        |name| call.inputs.get(name).and_then(Value::as_list).map(<[Value]>::to_vec).unwrap_or_default();
    match plan.targets()[call.target].deployment.as_str() {
        "embed" | "embedder" => {
            let num_texts = texts("texts").len();
            let numbers: Vec<f32> = (1_u8..).map(f32::from).take(num_texts * 2).collect();
            Value::Tensor(Tensor::from_f32([num_texts, 2], &numbers).unwrap())
        }
        "rerank" | "reranker" => {
            let documents = texts("documents");
            let keep =
                call.inputs.get("keep").and_then(Value::as_int).and_then(|keep| usize::try_from(keep).ok());
            let kept = documents.len().min(keep.unwrap_or(usize::MAX));
            Value::map([
                ("items", Value::list(documents[..kept].iter().cloned())),
                ("scores", Value::list(vec![Value::Float(0.5); kept])),
                ("indices", Value::list((0..).map(Value::Int).take(kept))),
            ])
        }
        "generate" | "generator" => Value::map([
            ("text", call.inputs.get("prompt").cloned().unwrap_or_default()),
            ("tokens", Value::Int(3)),
            ("finish_reason", Value::from("stop")),
        ]),
        "classify" => Value::map([("labels", Value::list(texts("texts"))), ("scores", Value::list([]))]),
        _ => call.inputs.clone(),
    }
}

/// Runs to the end, answering in the order that `choose` picks and failing where it says so.
fn drive(plan: &Arc<Plan>, body: &str, mut choose: impl FnMut() -> (usize, u8)) -> Result<Value, RunError> {
    let request = plan.parse_request(body.as_bytes()).unwrap();
    let (mut run, mut actions) = Run::start(Arc::clone(plan), &request.fields, |_| 16);
    let mut open: Vec<StageCall> = Vec::new();
    loop {
        for action in actions {
            match action {
                Action::Call(call) => open.push(call),
                Action::Cancel(id) => {
                    let at = open.iter().position(|call| call.id == id).expect("a call under way");
                    open.swap_remove(at);
                }
                Action::StageFailed(_) => {}
                Action::Finish(outcome) => {
                    assert!(open.is_empty(), "calls left open");
                    return outcome;
                }
            }
        }
        assert!(!open.is_empty(), "nothing is under way, and no end");
        let (which, fate) = choose();
        let call = open.swap_remove(which % open.len());
        let outcome = match fate {
            0 => Err(CallError::started(ErrorClass::DeadlineExceeded, "late")),
            1 => Err(CallError::not_started(ErrorClass::Overloaded, "full")),
            _ => Ok(answer(plan, &call)),
        };
        actions = run.finish_call(call.id, outcome);
    }
}

#[test]
fn the_bundled_example_answers() {
    let plan = compile(include_str!("../examples/rag.toml"));
    let body = r#"{"question": "why?", "documents": ["one", "two", "three"], "top_k": 2}"#;
    let response = drive(&plan, body, || (0, 9)).unwrap();
    assert_eq!(response.get("sources").and_then(Value::as_list).map(<[Value]>::len), Some(2));
    assert!(plan.can_stream());
}

#[test]
fn the_shortlist_stands_in_for_the_reranker() {
    let plan = compile(include_str!("../examples/rag.toml"));
    let body = r#"{"question": "why?", "documents": ["one", "two", "three"], "top_k": 2}"#;
    let mut num_calls = 0;
    let response = drive(&plan, body, || {
        num_calls += 1;
        (0, if num_calls == 2 { 0 } else { 9 })
    });
    let response = response.unwrap();
    assert_eq!(response.get("sources").and_then(Value::as_list).map(<[Value]>::len), Some(3));
    let answer = response.get("answer").and_then(Value::as_text).unwrap();
    assert!(
        answer.starts_with("Answer from the passages.\n- one\n") || answer.contains("- two\n"),
        "{answer}"
    );
    assert!(answer.ends_with("Question: why?\n"), "{answer}");
}

/// Values that stages so far offer, as expressions by what they are.
#[derive(Default)]
struct Offers {
    texts: Vec<String>,
    lists: Vec<String>,
    vectors: Vec<(String, String)>,
    ranked: Vec<String>,
}

fn pick(from: &[String], choice: u32) -> &str {
    &from[choice as usize % from.len()]
}

/// A pipeline file whose every stage is right by type; the last uses all others.
fn file(choices: &[(u32, u32, u32)]) -> String {
    let mut text = String::from(
        "name = \"random\"\nroute = \"/random\"\n[request]\nquestion = \"text\"\ndocuments = \"text[]\"\nnumber = \"int\"\n",
    );
    for task in ["embed", "rerank", "generate", "classify"] {
        text.push_str(&format!("[deployments.{task}]\ntask = \"{task}\"\nmodel = \"m@p\"\n"));
    }
    text.push_str("[deployments.echo]\nengine = \"echo\"\n");
    let mut offers = Offers::default();
    offers.texts.push("request.question".to_owned());
    offers
        .lists
        .extend(["request.documents".to_owned(), "[request.question] + request.documents".to_owned()]);
    let mut fallbacks: Vec<(&str, String)> = Vec::new();
    for (index, &(kind, a, b)) in choices.iter().enumerate() {
        let (name, kind) = (format!("s{index}"), kind % 8);
        let (one, list) = (pick(&offers.texts, a).to_owned(), pick(&offers.lists, b).to_owned());
        let (used, inputs) = match kind {
            0 => ("embed", format!("texts = '{list}'")),
            1 => ("rerank", format!("query = '{one}', documents = '{list}', keep = 'request.number'")),
            2 => ("generate", format!("prompt = '{one} ~ \"?\"', temperature = 0.5")),
            3 => ("classify", format!("texts = '{list}'")),
            4 => ("echo", format!("a = '{one}', b = '{list}'")),
            5 if !offers.vectors.is_empty() => {
                let (vectors, of) = &offers.vectors[b as usize % offers.vectors.len()];
                (
                    "op:similarity",
                    format!("query = '{vectors}[0]', vectors = '{vectors}', items = '{of}', keep = 2"),
                )
            }
            6 if !offers.ranked.is_empty() => {
                let ranked = pick(&offers.ranked, b);
                ("op:top_k", format!("items = '{ranked}.items', scores = '{ranked}.scores'"))
            }
            _ => ("op:merge", format!("a = '{one}', b = '{list}'")),
        };
        text.push_str(&format!("[stages.{name}]\nuse = \"{used}\"\ninputs = {{ {inputs} }}\n"));
        let called = !used.starts_with("op:");
        let each = called && kind == 2 && a % 2 == 0;
        if each {
            text.push_str(&format!("for_each = 'd in {list}'\nmax_parallel = {}\n", 1 + b % 3));
        }
        if called {
            text.push_str(&format!("retries = {}\n", a % 3));
        }
        let same = fallbacks.iter().find(|(other, _)| *other == used && !each).map(|(_, name)| name.clone());
        match (a % 7, same) {
            (0, _) => text.push_str("on_error = \"skip\"\n"),
            (1 | 2, Some(other)) => text.push_str(&format!("on_error = \"use:{other}\"\n")),
            (3, _) => text.push_str("when = 'request.number > 1'\n"),
            _ => {}
        }
        match used {
            "embed" => offers.vectors.push((name.clone(), list)),
            "rerank" | "op:similarity" | "op:top_k" => {
                offers.lists.push(format!("{name}.items"));
                offers.ranked.push(name.clone());
            }
            "generate" if each => offers.lists.push(format!("{name}|map(attribute=\"text\")|list")),
            "generate" => offers.texts.push(format!("{name}.text")),
            "classify" => {}
            _ => {
                offers.texts.push(format!("{name}.a"));
                offers.lists.push(format!("{name}.b"));
            }
        }
        if !each {
            fallbacks.push((used, name));
        }
    }
    text.push_str("[response]\n");
    for index in 0..choices.len() {
        text.push_str(&format!("r{index} = 's{index}'\n"));
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn every_checked_pipeline_runs_to_an_end(
        choices in proptest::collection::vec(any::<(u32, u32, u32)>(), 1..10),
        fates in proptest::collection::vec((any::<u8>(), 0..12_u8), 1..40),
        documents in proptest::collection::vec("[a-z]{0,3}", 0..4),
        number in 0..4,
    ) {
        let text = file(&choices);
        let plan = compile(&text);
        let documents = serde_json::to_string(&documents).unwrap();
        let body = format!(r#"{{"question": "why", "documents": {documents}, "number": {number}}}"#);
        let mut fates = fates.into_iter().cycle();
        let outcome = drive(&plan, &body, || fates.next().map(|(which, fate)| (usize::from(which), fate)).unwrap());
        match outcome {
            Ok(response) => {
                for index in 0..choices.len() {
                    let name = format!("r{index}");
                    prop_assert!(response.get(&name).is_some());
                }
            }
            Err(error) => prop_assert!(!error.message.contains("cannot go on"), "{error}\n{text}"),
        }
    }
}

const ECHO: &str = r#"
name  = "echo"
route = "/echo"
[request]
text = "text"
[deployments.echo]
engine = "echo"
[stages.echo]
use    = "echo"
inputs = { text = "request.text" }
[response]
text = "echo.text"
"#;

/// Prints what runs cost: `cargo test --release -p millstream-pipelines --test integration -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_run() {
    let echo = compile(ECHO);
    let request = echo.parse_request(br#"{"text": "hello"}"#).unwrap().fields;
    let reply = Value::map([("text", Value::from("hello"))]);
    print_cost("echo, one stage", || {
        let (mut run, actions) = Run::start(Arc::clone(&echo), &request, |_| 16);
        assert_eq!(actions.len(), 1);
        assert_eq!(run.finish_call(CallId(0), Ok(reply.clone())).len(), 1);
    });

    let rag = compile(include_str!("../examples/rag.toml"));
    let documents: Vec<String> =
        (0..32).map(|index| format!("passage {index} of some length, as passages are")).collect();
    let body =
        format!(r#"{{"question": "why?", "documents": {}}}"#, serde_json::to_string(&documents).unwrap());
    let request = rag.parse_request(body.as_bytes()).unwrap().fields;
    let numbers: Vec<f32> = (0_u16..33 * 384).map(|number| f32::from(number % 17) - 8.0).collect();
    let vectors = Value::Tensor(Tensor::from_f32([33, 384], &numbers).unwrap());
    let items = Value::list(documents[..3].iter().map(|item| Value::from(item.as_str())));
    let ranked = Value::map([("items", items), ("scores", Value::list([])), ("indices", Value::list([]))]);
    let text = Value::map([("text", Value::from("because"))]);
    print_cost("rag, 32 passages of 384 numbers", || {
        let (mut run, _) = Run::start(Arc::clone(&rag), &request, |_| 16);
        run.finish_call(CallId(0), Ok(vectors.clone()));
        run.finish_call(CallId(1), Ok(ranked.clone()));
        assert!(matches!(run.finish_call(CallId(2), Ok(text.clone()))[..], [Action::Finish(Ok(_))]));
    });
    print_cost("parsing the rag request", || {
        assert!(rag.parse_request(body.as_bytes()).is_ok());
    });
}

#[expect(clippy::print_stdout, reason = "its purpose")]
fn print_cost(what: &str, mut run: impl FnMut()) {
    const TURNS: u32 = 20_000;
    for _ in 0..TURNS / 10 {
        run();
    }
    let start = Instant::now();
    for _ in 0..TURNS {
        run();
    }
    println!("{what}: {} ns", (start.elapsed() / TURNS).as_nanos());
}
