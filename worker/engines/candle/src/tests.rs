//! The engine through its factory on tiny models that the tests write, and its pieces against candle's own operations.

mod model;
mod parity;
mod stock;

use std::path::Path;
use std::time::Instant;

use millstream_calls::call::CallEvent;
use millstream_engine::{Engine, EngineFactory, LoadArgs, LoadError, ModelStore, Progress, SteppingEngine};
use millstream_engine_tensors::testing::{call, done, events, run, spec};
use millstream_pipelines::Task;
use millstream_values::{ErrorClass, Value};

use crate::CandleFactory;

pub(crate) fn load(dir: &Path, task: Task, threads: usize) -> Result<Box<dyn SteppingEngine>, LoadError> {
    let spec = spec(task);
    let models = ModelStore::default();
    let args = LoadArgs {
        spec: &spec,
        model_dir: Some(dir.to_owned()),
        threads,
        gpus: &[],
        models: &models,
        progress: &|_| (),
    };
    match CandleFactory::new().load(&args)? {
        Engine::Stepping(mut lanes) => {
            lanes.iter_mut().try_for_each(|lane| lane.warm_up()).map(|()| lanes.remove(0))
        }
        Engine::Concurrent(_) => panic!("expected a stepping engine"),
    }
}

pub(crate) fn texts(texts: &[&str]) -> Value {
    Value::map([("texts", Value::list(texts.iter().map(|&text| Value::from(text))))])
}

fn rows(value: &Value) -> Vec<Vec<f32>> {
    let tensor = value.as_tensor().unwrap();
    (0..tensor.len().unwrap()).map(|index| tensor.index(index).unwrap().to_f32().unwrap()).collect()
}

#[test]
fn calls_of_one_step_are_answered_alone_and_a_wrong_one_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    model::write_bert(dir.path(), 1);
    let mut engine = load(dir.path(), Task::Embed, 2).unwrap();
    let inputs = vec![
        texts(&["alpha beta gamma", "beta"]),
        Value::map([("texts", Value::Int(3))]),
        texts(&[]),
        texts(&["gamma", ""]),
    ];
    let events = run(engine.as_mut(), inputs);
    let together = rows(done(&events[0]));
    assert_eq!(together.len(), 2);
    let CallEvent::Failed(error) = &events[1] else { panic!("expected a failure") };
    assert_eq!(error.class, ErrorClass::Invalid);
    assert_eq!(done(&events[2]).as_tensor().unwrap().shape(), [0, model::HIDDEN]);
    assert_eq!(rows(done(&events[3])).len(), 2);
    for (index, text) in ["alpha beta gamma", "beta"].into_iter().enumerate() {
        let alone = rows(done(&run(engine.as_mut(), vec![texts(&[text])])[0])).remove(0);
        let difference = alone.iter().zip(&together[index]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(difference < 1e-6, "{text} differs by {difference} in company");
    }
    assert!(engine.memory_bytes() > 0);
}

#[test]
fn documents_are_ranked_and_texts_classified() {
    let dir = tempfile::tempdir().unwrap();
    model::write_bert(dir.path(), 1);
    let mut engine = load(dir.path(), Task::Rerank, 1).unwrap();
    let documents = ["alpha", "beta gamma", "gamma gamma alpha"];
    let query = |keep: Value| {
        Value::map([
            ("query", "alpha beta".into()),
            ("documents", Value::list(documents.map(Value::from))),
            ("keep", keep),
        ])
    };
    let events = run(engine.as_mut(), vec![query(Value::None), query(Value::Int(2))]);
    let scores = |event: &CallEvent| -> Vec<f64> {
        done(event)
            .get("scores")
            .unwrap()
            .as_list()
            .unwrap()
            .iter()
            .map(|score| score.as_f64().unwrap())
            .collect()
    };
    let all = scores(&events[0]);
    assert!(all.is_sorted_by(|a, b| a >= b) && all.iter().all(|score| (0.0..1.0).contains(score)), "{all:?}");
    assert_eq!(scores(&events[1]), all[..2]);

    let dir = tempfile::tempdir().unwrap();
    model::write_bert(dir.path(), 3);
    let mut engine = load(dir.path(), Task::Classify, 1).unwrap();
    let events = run(engine.as_mut(), vec![texts(&["alpha", "beta"]), texts(&[])]);
    let labels = done(&events[0]).get("labels").unwrap().as_list().unwrap().to_vec();
    assert_eq!(labels.len(), 2);
    assert!(labels.iter().all(|label| ["zero", "one", "two"].contains(&label.as_text().unwrap())));
    assert!(scores(&events[0]).iter().all(|score| *score > 1.0 / 3.0 && *score < 1.0));
    assert!(scores(&events[1]).is_empty());
}

#[test]
fn a_call_past_its_deadline_or_without_its_caller_is_not_run() {
    let dir = tempfile::tempdir().unwrap();
    model::write_bert(dir.path(), 1);
    let mut engine = load(dir.path(), Task::Embed, 1).unwrap();
    let (mut late, mut pending) = call(texts(&["alpha"]));
    late.deadline = Some(Instant::now());
    let (left, gone) = call(texts(&["beta"]));
    drop(gone);
    assert_eq!(engine.step(vec![late, left]).progress, Progress::Idle);
    let [CallEvent::Failed(error)] = &events(&mut pending)[..] else { panic!("expected a failure") };
    assert_eq!(error.class, ErrorClass::DeadlineExceeded);
}

#[test]
fn files_that_do_not_fit_each_other_are_told_by_file_tensor_and_shape() {
    let dir = tempfile::tempdir().unwrap();
    model::write_bert(dir.path(), 1);
    let path = dir.path().join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    let error = |from: &str, to: &str, task: Task| {
        std::fs::write(&path, config.replace(from, to)).unwrap();
        load(dir.path(), task, 1).err().unwrap().to_string()
    };
    let wrong = error("\"intermediate_size\":24", "\"intermediate_size\":25", Task::Embed);
    assert!(
        wrong.contains("model.safetensors`: tensor `bert.encoder.layer.0.intermediate.dense.weight`"),
        "{wrong}"
    );
    assert!(wrong.contains("[24, 16]") && wrong.contains("[25, 16]"), "{wrong}");
    let wrong = error("\"vocab_size\":9", "\"vocab_size\":8", Task::Embed);
    assert!(wrong.contains("`tokenizer.json` has 9 tokens"), "{wrong}");
    let wrong = error("\"bert\"", "\"llama\"", Task::Embed);
    assert!(wrong.contains("`model_type` is `llama`"), "{wrong}");
    let wrong = error("", "", Task::Generate);
    assert!(wrong.contains("`generator` writes text"), "{wrong}");
    std::fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    let wrong = error("", "", Task::Embed);
    assert!(wrong.contains("has no safetensors weights"), "{wrong}");
}
