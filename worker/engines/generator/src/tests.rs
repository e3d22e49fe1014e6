//! The engine through its factory on tiny models that the tests write.

mod model;
mod parity;

use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use millstream_calls::call::CallEvent;
use millstream_engine::{
    Engine, EngineFactory, LoadArgs, LoadError, ModelStore, Progress, ResponseMode, SteppingEngine,
};
use millstream_engine_tensors::testing::{call, done, events, run, spec};
use millstream_pipelines::Task;
use millstream_values::{ErrorClass, Value};

use crate::GeneratorFactory;

fn load(dir: &Path) -> Result<Box<dyn SteppingEngine>, LoadError> {
    let spec = spec(Task::Generate);
    let models = ModelStore::default();
    let args = LoadArgs {
        spec: &spec,
        model_dir: Some(dir.to_owned()),
        threads: 2,
        gpus: &[],
        models: &models,
        progress: &|_| (),
    };
    match GeneratorFactory::new().load(&args)? {
        Engine::Stepping(mut lanes) => {
            lanes.iter_mut().try_for_each(|lane| lane.warm_up()).map(|()| lanes.remove(0))
        }
        Engine::Concurrent(_) => panic!("expected a stepping engine"),
    }
}

fn engine() -> (tempfile::TempDir, Box<dyn SteppingEngine>) {
    let dir = tempfile::tempdir().unwrap();
    model::write(dir.path(), &[]);
    let engine = load(dir.path()).unwrap();
    (dir, engine)
}

fn prompt(text: &str, more: &[(&str, Value)]) -> Value {
    Value::map([("prompt", Value::from(text))].into_iter().chain(more.iter().cloned()))
}

fn text_of(event: &CallEvent) -> String {
    done(event).get("text").unwrap().as_text().unwrap().to_owned()
}

fn end_of(event: &CallEvent) -> (i64, String) {
    let reason = done(event).get("finish_reason").unwrap().as_text().unwrap().to_owned();
    (done(event).get("tokens").unwrap().as_int().unwrap(), reason)
}

fn failure(event: &CallEvent) -> (ErrorClass, &str) {
    match event {
        CallEvent::Failed(error) => (error.class, &error.message),
        other => panic!("expected a failure, got {other:?}"),
    }
}

#[test]
fn requests_progress_together_and_each_gets_what_it_gets_alone() {
    let (_dir, mut engine) = engine();
    let long = "a prompt that is longer than the others ".repeat(4);
    let inputs = vec![
        prompt("one", &[("max_tokens", 20.into())]),
        prompt(&long, &[("max_tokens", 9.into()), ("temperature", 1.0.into()), ("seed", 5.into())]),
        prompt("three", &[("max_tokens", 0.into())]),
        prompt("four", &[("max_tokens", 1.into())]),
    ];
    let together = run(engine.as_mut(), inputs.clone());
    assert_eq!(failure(&together[2]).0, ErrorClass::Invalid);
    for index in [0, 1, 3] {
        assert_eq!(run(engine.as_mut(), vec![inputs[index].clone()])[0], together[index]);
    }
    assert_eq!(end_of(&together[0]), (20, "length".to_owned()));
    assert_eq!(end_of(&together[3]), (1, "length".to_owned()));
}

#[test]
fn a_call_that_comes_later_joins_and_room_shrinks() {
    let (_dir, mut engine) = engine();
    let (first, mut first_pending) = call(prompt("one", &[("max_tokens", 8.into())]));
    assert_eq!((engine.room(), engine.step(vec![first]).progress), (32, Progress::Busy));
    let (second, mut second_pending) = call(prompt("two", &[("max_tokens", 3.into())]));
    assert_eq!((engine.room(), engine.step(vec![second]).progress), (31, Progress::Busy));
    // The second has had two tokens by now: its third is its last.
    assert_eq!((engine.room(), engine.step(Vec::new()).progress), (30, Progress::Busy));
    assert_eq!(engine.room(), 31);
    assert_eq!(end_of(&events(&mut second_pending)[0]).0, 3);
    while engine.step(Vec::new()).progress != Progress::Idle {}
    assert_eq!(end_of(&events(&mut first_pending)[0]).0, 8);
}

#[test]
fn a_client_that_reads_slowly_pauses_its_own_answer_alone() {
    let (_dir, mut engine) = engine();
    let (mut slow, mut slow_pending) = call(prompt("one", &[("max_tokens", 40.into())]));
    slow.answer = ResponseMode::Stream;
    // As if it had left that much unread.
    slow.reply.delta_of(Value::None, 1 << 20);
    let (quick, mut quick_pending) = call(prompt("two", &[("max_tokens", 10.into())]));
    let mut progress = engine.step(vec![slow, quick]).progress;
    for _ in 0..20 {
        progress = engine.step(Vec::new()).progress;
    }
    assert_eq!(end_of(&events(&mut quick_pending)[0]).0, 10);
    assert!(matches!(progress, Progress::Waiting { .. }), "{progress:?}");
    assert_eq!(engine.step(Vec::new()).num_inputs, 0);
    assert_eq!(slow_pending.next().now_or_never(), Some(CallEvent::Delta(Value::None)));
    while engine.step(Vec::new()).progress != Progress::Idle {}
    assert_eq!(end_of(events(&mut slow_pending).last().unwrap()).0, 40);
}

#[test]
fn a_prompt_that_cannot_fit_is_refused_before_it_is_cut_into_tokens() {
    let (_dir, mut engine) = engine();
    let long = run(engine.as_mut(), vec![prompt(&"a".repeat(1 << 20), &[])]);
    let (class, message) = failure(&long[0]);
    assert_eq!(class, ErrorClass::Invalid);
    assert!(message.contains("1048576 bytes"), "{message}");
}

#[test]
fn parts_of_a_stream_are_the_whole_answer() {
    let (_dir, mut engine) = engine();
    let sampling = [("max_tokens", 60.into()), ("temperature", 2.0.into()), ("seed", 11.into())];
    let (mut streamed, mut pending) = call(prompt("Grüße", &sampling));
    streamed.answer = ResponseMode::Stream;
    let mut progress = engine.step(vec![streamed]).progress;
    while progress != Progress::Idle {
        progress = engine.step(Vec::new()).progress;
    }
    let events = events(&mut pending);
    let (last, parts) = events.split_last().unwrap();
    let parts: Vec<&str> = parts
        .iter()
        .map(|event| match event {
            CallEvent::Delta(part) => part.get("text").unwrap().as_text().unwrap(),
            other => panic!("expected a part, got {other:?}"),
        })
        .collect();
    assert!(parts.len() > 10 && parts.iter().all(|part| !part.is_empty()));
    assert_eq!(parts.concat(), text_of(last));
}

#[test]
fn a_seed_repeats_an_answer_and_another_seed_gives_another() {
    let (_dir, mut engine) = engine();
    let mut answer = |seed: i64| {
        let inputs =
            prompt("x", &[("temperature", 1.5.into()), ("max_tokens", 24.into()), ("seed", seed.into())]);
        text_of(&run(engine.as_mut(), vec![inputs])[0])
    };
    assert_eq!(answer(-3), answer(-3));
    assert_ne!(answer(1), answer(2));
}

#[test]
fn stop_strings_and_end_tokens_end_an_answer() {
    let (dir, mut engine) = engine();
    let sampled = [("max_tokens", 30.into()), ("temperature", 1.0.into()), ("seed", 4.into())];
    let whole = text_of(&run(engine.as_mut(), vec![prompt("tell", &sampled)])[0]);
    let characters: Vec<char> = whole.chars().collect();
    let stop: String = characters[characters.len() / 2..].iter().take(2).collect();
    let mut inputs = sampled.to_vec();
    inputs.push(("stop", Value::list(["no such text".into(), stop.as_str().into()])));
    let stopped = run(engine.as_mut(), vec![prompt("tell", &inputs)]);
    assert_eq!(text_of(&stopped[0]), whole[..whole.find(&stop).unwrap()]);
    assert_eq!(end_of(&stopped[0]).1, "stop");

    // The first greedy token is made an end token.
    let greedy = run(engine.as_mut(), vec![prompt("tell", &[("max_tokens", 1.into())])]);
    assert_eq!(end_of(&greedy[0]).1, "length");
    let ends: Vec<u32> = (3..259).collect();
    model::write(dir.path(), &ends);
    let mut engine = load(dir.path()).unwrap();
    let ended = run(engine.as_mut(), vec![prompt("tell", &[])]);
    assert_eq!((text_of(&ended[0]).as_str(), end_of(&ended[0])), ("", (1, "stop".to_owned())));
}

#[test]
fn a_prompt_beyond_the_context_is_refused_with_both_numbers_and_one_near_it_cut_short() {
    let (_dir, mut engine) = engine();
    let long = "x".repeat(model::CONTEXT);
    let near = "x".repeat(model::CONTEXT - 5);
    let events = run(engine.as_mut(), vec![prompt(&long, &[]), prompt(&near, &[]), prompt("", &[])]);
    let (class, message) = failure(&events[0]);
    assert_eq!(class, ErrorClass::Invalid);
    assert!(message.contains("has 512 tokens") && message.contains("context holds 512"), "{message}");
    assert_eq!(end_of(&events[1]), (5, "length".to_owned()));
    assert!(failure(&events[2]).1.contains("the prompt is empty"));
}

#[test]
fn who_has_left_or_is_too_late_is_dropped_between_two_tokens() {
    let (_dir, mut engine) = engine();
    let (first, gone) = call(prompt("one", &[]));
    assert_eq!(engine.step(vec![first]).progress, Progress::Busy);
    drop(gone);
    assert_eq!(engine.step(Vec::new()).progress, Progress::Idle);

    let (mut late, mut pending) = call(prompt("one", &[("max_tokens", 400.into())]));
    late.deadline = Some(Instant::now() + Duration::from_millis(15));
    let mut progress = engine.step(vec![late]).progress;
    let mut steps = 1;
    while progress != Progress::Idle {
        progress = engine.step(Vec::new()).progress;
        steps += 1;
    }
    assert!(steps < 400);
    assert_eq!(failure(&events(&mut pending)[0]).0, ErrorClass::DeadlineExceeded);
}

#[test]
fn messages_need_a_chat_template() {
    let (dir, mut engine) = engine();
    let messages = || {
        let message = Value::map([("role", "user".into()), ("content", "hello".into())]);
        Value::map([("messages", Value::list([message])), ("max_tokens", 6.into())])
    };
    let refused = run(engine.as_mut(), vec![messages()]);
    assert!(failure(&refused[0]).1.contains("no chat template"));
    let template =
        r#"{"chat_template": "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"}"#;
    std::fs::write(dir.path().join("tokenizer_config.json"), template).unwrap();
    let mut engine = load(dir.path()).unwrap();
    let events = run(engine.as_mut(), vec![messages(), prompt("[user] hello", &[("max_tokens", 6.into())])]);
    assert_eq!(events[0], events[1]);
}

#[test]
fn files_that_do_not_fit_each_other_are_told_by_file_tensor_and_shape() {
    let dir = tempfile::tempdir().unwrap();
    model::write(dir.path(), &[]);
    let path = dir.path().join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    for (from, to, expected) in [
        (
            "\"num_key_value_heads\":2",
            "\"num_key_value_heads\":4",
            "`model.layers.0.self_attn.k_proj.weight` has shape [16, 32]",
        ),
        ("\"vocab_size\":260", "\"vocab_size\":200", "`tokenizer.json` has 259 tokens"),
        ("\"num_hidden_layers\":2", "\"num_hidden_layers\":3", "has no tensor `model.layers.2."),
        ("\"llama\"", "\"gpt2\"", "`model_type` is `gpt2`"),
    ] {
        std::fs::write(&path, config.replace(from, to)).unwrap();
        let error = load(dir.path()).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
