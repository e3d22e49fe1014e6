//! Finding what the tests need, building deployments, running calls.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use millstream_calls::call::{CallEvent, Parts, PendingCall, channel};
use millstream_engine::{
    Call, Engine, EngineFactory, LoadArgs, LoadError, ModelStore, Progress, SteppingEngine,
};
use millstream_engine_onnx::{OnnxFactory, Places};
use millstream_pipelines::{
    Autoscaling, Batch, Demand, DeploymentSpec, Device, EngineKind, GpuDemand, Limits, Task,
};
use millstream_values::{CallError, Value};

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

/// A file that the repository has.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A path below the fetched models; `None`, with a message, when it is not there.
pub(crate) fn fetched(name: &str) -> Option<PathBuf> {
    let models = std::env::var_os("MILLSTREAM_TEST_MODELS")
        .map_or_else(|| root().join("target/test-models"), PathBuf::from);
    let path = models.join(name);
    if path.exists() {
        return Some(path);
    }
    skip(&format!("`{}` is missing; run `tests/setup`", path.display()));
    None
}

/// Says why a test does nothing; fails where nothing may be left out.
pub(crate) fn skip(reason: &str) {
    assert!(std::env::var_os("CI").is_none(), "{reason}");
    eprintln!("skipped: {reason}");
}

pub(crate) fn factory() -> Option<OnnxFactory> {
    let places = Places { explicit: Some((fetched("lib")?, "the test")), folders: Vec::new() };
    Some(OnnxFactory::with_places(places))
}

pub(crate) fn spec(task: Task, max_size: u32) -> DeploymentSpec {
    DeploymentSpec {
        name: "model".parse().unwrap(),
        task,
        engine: EngineKind::Onnx,
        model: None,
        device: Device::Cpu,
        demand: Demand {
            cpu_milli: 1000,
            memory_bytes: 0,
            gpus: GpuDemand::None,
            gpu_memory_bytes: 0,
            accelerators: Vec::new(),
            labels: std::collections::BTreeMap::new(),
            max_replicas_per_node: None,
        },
        batch: Batch { max_size, ..Batch::default() },
        lanes: None,
        autoscaling: Autoscaling::default(),
        limits: Limits {
            max_ongoing_requests: 8,
            max_queued_requests: None,
            drain_timeout: Duration::from_secs(1),
            start_timeout: Duration::from_secs(60),
            step_timeout: None,
            max_surge: 1,
            idempotent: true,
        },
        engine_settings: None,
        inputs: Default::default(),
    }
}

pub(crate) fn args<'a>(spec: &'a DeploymentSpec, model: &Path) -> LoadArgs<'a> {
    static MODELS: LazyLock<ModelStore> = LazyLock::new(ModelStore::default);
    let model_dir = Some(model.to_path_buf());
    LoadArgs { spec, model_dir, threads: 2, gpus: &[], models: &MODELS, progress: &|_| {} }
}

pub(crate) type Loaded = Box<dyn SteppingEngine>;

pub(crate) fn load(factory: &OnnxFactory, spec: &DeploymentSpec, model: &Path) -> Result<Loaded, LoadError> {
    match factory.load(&args(spec, model))? {
        Engine::Stepping(mut lanes) => {
            lanes.iter_mut().try_for_each(|lane| lane.warm_up()).map(|()| lanes.remove(0))
        }
        Engine::Concurrent(_) => panic!("not a stepping engine"),
    }
}

/// The engine for a graph of `tests/data`; `None` when the library is missing.
pub(crate) fn tensor_engine(name: &str, max_size: u32) -> Option<Loaded> {
    Some(load(&factory()?, &spec(Task::Tensor, max_size), &data(name)).unwrap())
}

pub(crate) fn call(inputs: Value) -> (Call, PendingCall) {
    let (reply, pending) = channel(Parts::Wanted);
    (Call::new(inputs, reply, std::time::Instant::now()), pending)
}

/// Hands all calls to one step, steps on until the engine idles, and gives the answers in order.
pub(crate) fn run(engine: &mut Loaded, inputs: Vec<Value>) -> Vec<Result<Value, CallError>> {
    let (calls, pending): (Vec<Call>, Vec<PendingCall>) = inputs.into_iter().map(call).unzip();
    let mut progress = engine.step(calls).progress;
    while let Progress::Busy = progress {
        progress = engine.step(Vec::new()).progress;
    }
    pending.into_iter().map(finished).collect()
}

pub(crate) fn run_one(engine: &mut Loaded, inputs: Value) -> Result<Value, CallError> {
    run(engine, vec![inputs]).remove(0)
}

/// The answer of a call that the engine is done with.
pub(crate) fn finished(mut pending: PendingCall) -> Result<Value, CallError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    match runtime.block_on(pending.next()) {
        CallEvent::Done(value) => Ok(value),
        CallEvent::Failed(error) => Err(error),
        CallEvent::Timing(_) | CallEvent::Delta(_) => {
            panic!("a part from an engine that answers in one piece")
        }
    }
}

pub(crate) fn texts(texts: &[&str]) -> Value {
    Value::list(texts.iter().copied().map(Value::from))
}

pub(crate) fn floats(value: &Value) -> Vec<f64> {
    match value {
        Value::Tensor(tensor) => tensor.iter_f64().collect(),
        Value::List(values) => values.iter().flat_map(floats).collect(),
        other => vec![other.as_f64().expect("a number")],
    }
}

#[track_caller]
pub(crate) fn assert_close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: other size");
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst <= tolerance, "{what}: differs by {worst:e}, allowed {tolerance:e}");
}

/// A tokenizer that knows the words `[PAD] [UNK] a b c d e f` (ids 0 to 7), split at spaces.
pub(crate) fn write_tokenizer(dir: &Path) {
    let words = ["[PAD]", "[UNK]", "a", "b", "c", "d", "e", "f"];
    let vocabulary: serde_json::Map<String, serde_json::Value> =
        words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), id.into())).collect();
    let tokenizer = serde_json::json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": null,
        "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    });
    std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
}

/// The keys of a map value.
pub(crate) fn keys(value: &Value) -> Vec<Arc<str>> {
    value.as_map().expect("a map").keys().cloned().collect()
}
