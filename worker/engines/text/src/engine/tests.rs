//! The engine's rules, with an encoder whose numbers can be told in advance.

use std::path::Path;
use std::sync::{Arc, Mutex};

use millstream_calls::call::{CallEvent, Parts, PendingCall, channel};
use millstream_engine::{Call, Progress, SteppingEngine};

use millstream_values::ErrorClass;

use super::*;

/// Embeds a text as `[number of tokens, first id]`; scores it by its first id. Fails on any batch with the id of `poison`.
struct Counting {
    task: Task,
    /// Rows and width of every run.
    runs: Arc<Mutex<Vec<(usize, usize)>>>,
}

const POISON: u32 = 7;

impl Encoder for Counting {
    fn run(&mut self, batch: &TokenBatch, _: Company) -> Result<Rows, EncoderError> {
        self.runs.lock().unwrap().push((batch.rows, batch.width));
        if batch.ids.contains(&POISON) {
            return Err(EncoderError("poison".to_owned()));
        }
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let rows = (0..batch.rows).map(|row| {
            let cells = row * batch.width..(row + 1) * batch.width;
            (batch.mask[cells.clone()].iter().sum::<u32>() as f32, batch.ids[cells.start] as f32)
        });
        Ok(match self.task {
            Task::Embed => Rows { width: 2, data: rows.flat_map(|(count, first)| [count, first]).collect() },
            Task::Rerank => Rows { width: 1, data: rows.map(|(count, first)| count + first).collect() },
            _ => Rows { width: 2, data: rows.flat_map(|(_, first)| [3.0, first]).collect() },
        })
    }

    fn memory_bytes(&self) -> u64 {
        42
    }
}

type Runs = Arc<Mutex<Vec<(usize, usize)>>>;

/// An engine whose words are `a` to `f`, ids 2 to 7, with `config.json` of that text.
fn engine(task: Task, max_size: u32, config: &str) -> (Batched<TextEngine<Counting>>, Runs) {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path(), config);
    let model = TextModel::load(dir.path(), task).unwrap();
    let runs = Arc::<Mutex<Vec<(usize, usize)>>>::default();
    let batch = Batch { max_size, ..Batch::default() };
    let mut engine = TextEngine::lanes(model, vec![Counting { task, runs: runs.clone() }], &batch).remove(0);
    engine.warm_up().unwrap();
    runs.lock().unwrap().clear();
    (engine, runs)
}

fn write_model(dir: &Path, config: &str) {
    let words = ["[PAD]", "[UNK]", "a", "b", "c", "d", "e", "f"];
    let vocabulary: serde_json::Map<String, serde_json::Value> =
        words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), id.into())).collect();
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    });
    std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(dir.join("config.json"), config).unwrap();
}

fn call(inputs: Value) -> (Call, PendingCall) {
    let (reply, pending) = channel(Parts::Wanted);
    (Call::new(inputs, reply, std::time::Instant::now()), pending)
}

fn texts(of: &[&str]) -> Value {
    Value::map([("texts", Value::list(of.iter().copied().map(Value::from)))])
}

fn finished(mut pending: PendingCall) -> Result<Value, CallError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    match runtime.block_on(pending.next()) {
        CallEvent::Done(value) => Ok(value),
        CallEvent::Failed(error) => Err(error),
        CallEvent::Timing(_) | CallEvent::Delta(_) => panic!("a part of a whole answer"),
    }
}

fn run(engine: &mut Batched<TextEngine<Counting>>, inputs: Vec<Value>) -> Vec<Result<Value, CallError>> {
    let (calls, pending): (Vec<Call>, Vec<PendingCall>) = inputs.into_iter().map(call).unzip();
    let mut progress = engine.step(calls).progress;
    while let Progress::Busy = progress {
        progress = engine.step(Vec::new()).progress;
    }
    pending.into_iter().map(finished).collect()
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_tensor().unwrap().to_f32().unwrap()
}

#[test]
fn texts_of_several_calls_run_together_and_come_back_in_order() {
    let (mut engine, runs) = engine(Task::Embed, 8, "{}");
    let answers = run(&mut engine, vec![texts(&["a b c", "b"]), texts(&["c c"])]);
    assert_eq!(numbers(answers[0].as_ref().unwrap()), [3.0, 2.0, 1.0, 3.0]);
    assert_eq!(numbers(answers[1].as_ref().unwrap()), [2.0, 4.0]);
    assert_eq!(*runs.lock().unwrap(), [(3, 3)]);
}

#[test]
fn a_call_larger_than_a_batch_is_run_in_parts_and_others_may_join() {
    let (mut engine, runs) = engine(Task::Embed, 2, "{}");
    let (large, large_pending) = call(texts(&["a", "b", "c", "d", "e"]));
    assert_eq!(engine.step(vec![large]).num_inputs, 2);
    let (small, small_pending) = call(texts(&["b"]));
    assert!(matches!(engine.step(vec![small]).progress, Progress::Busy));
    assert_eq!(engine.step(Vec::new()).progress, Progress::Idle);
    assert_eq!(
        numbers(&finished(large_pending).unwrap()),
        [1.0, 2.0, 1.0, 3.0, 1.0, 4.0, 1.0, 5.0, 1.0, 6.0]
    );
    assert_eq!(numbers(&finished(small_pending).unwrap()), [1.0, 3.0]);
    assert_eq!(*runs.lock().unwrap(), [(2, 1), (2, 1), (2, 1)]);
}

#[test]
fn a_call_that_the_model_fails_on_fails_alone() {
    let (mut engine, runs) = engine(Task::Embed, 8, "{}");
    let answers = run(&mut engine, vec![texts(&["a"]), texts(&["b", "f"]), texts(&["c"])]);
    assert_eq!(numbers(answers[0].as_ref().unwrap()), [1.0, 2.0]);
    let error = answers[1].as_ref().unwrap_err();
    assert_eq!(
        (error.class, error.message.as_str()),
        (ErrorClass::Internal, "the model failed on these inputs")
    );
    assert_eq!(numbers(answers[2].as_ref().unwrap()), [1.0, 4.0]);
    assert_eq!(*runs.lock().unwrap(), [(4, 1), (1, 1), (2, 1), (1, 1)]);
}

#[test]
fn cancelled_and_late_calls_are_not_run() {
    let (mut engine, runs) = engine(Task::Embed, 8, "{}");
    let (left, pending) = call(texts(&["a"]));
    drop(pending);
    let (mut late, late_pending) = call(texts(&["a"]));
    late.deadline = Some(std::time::Instant::now());
    assert_eq!(engine.step(vec![left, late]).progress, Progress::Idle);
    assert_eq!(finished(late_pending).unwrap_err().class, ErrorClass::DeadlineExceeded);
    assert!(runs.lock().unwrap().is_empty());
}

#[test]
fn a_caller_that_leaves_half_way_takes_its_texts_along() {
    let (mut engine, runs) = engine(Task::Embed, 2, "{}");
    let (large, pending) = call(texts(&["a", "b", "c", "d", "e"]));
    assert!(matches!(engine.step(vec![large]).progress, Progress::Busy));
    drop(pending);
    assert_eq!(engine.step(Vec::new()).progress, Progress::Idle);
    assert_eq!(runs.lock().unwrap().len(), 1);
}

#[test]
fn bad_inputs_and_no_texts_are_answered_at_once() {
    let (mut engine, runs) = engine(Task::Embed, 8, "{}");
    let answers = run(&mut engine, vec![texts(&[]), Value::Int(1)]);
    assert_eq!(answers[0].as_ref().unwrap().as_tensor().unwrap().shape(), [0, 2]);
    assert_eq!(answers[1].as_ref().unwrap_err().class, ErrorClass::Invalid);
    assert!(runs.lock().unwrap().is_empty());
    assert_eq!(engine.memory_bytes(), 42);
}

#[test]
fn scores_go_through_a_sigmoid_unless_the_model_says_otherwise() {
    let inputs = || {
        let documents = Value::list(["a", "b c", "c"].map(Value::from));
        Value::map([("query", Value::from("a")), ("documents", documents), ("keep", Value::Int(2))])
    };
    let identity = r#"{"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}"#;
    let (mut raw, _) = engine(Task::Rerank, 8, identity);
    let answer = run(&mut raw, vec![inputs()]).remove(0).unwrap();
    assert_eq!(answer.get("scores"), Some(&Value::list([5.0, 4.0].map(Value::Float))));
    assert_eq!(answer.get("indices"), Some(&Value::list([1, 0].map(Value::Int))));
    assert_eq!(answer.get("items"), Some(&Value::list(["b c", "a"].map(Value::from))));
    let (mut squashed, _) = engine(Task::Rerank, 8, "{}");
    let answer = run(&mut squashed, vec![inputs()]).remove(0).unwrap();
    let Some(Value::List(scores)) = answer.get("scores") else { panic!("no scores") };
    assert!((scores[0].as_f64().unwrap() - 0.993_307_149).abs() < 1e-6);
}

#[test]
fn classes_bear_the_models_labels() {
    let (mut engine, _) = engine(Task::Classify, 8, r#"{"id2label": {"0": "calm", "1": "urgent"}}"#);
    let answer = run(&mut engine, vec![texts(&["a", "d"])]).remove(0).unwrap();
    assert_eq!(answer.get("labels"), Some(&Value::list(["calm", "urgent"].map(Value::from))));
    let Some(Value::List(scores)) = answer.get("scores") else { panic!("no scores") };
    assert!((scores[0].as_f64().unwrap() - 0.731_058_578).abs() < 1e-6);
}
