//! What the tests of both engines on candle share: tiny weights by a formula, reference values, running calls.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::missing_panics_doc,
    clippy::disallowed_methods,
    reason = "for tests"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use candle_core::{Device as CandleDevice, Tensor};
use millstream_calls::call::{CallEvent, Parts, PendingCall, channel};
use millstream_engine::{Call, Progress, SteppingEngine};
use millstream_pipelines::{
    Autoscaling, Batch, Demand, DeploymentSpec, Device, EngineKind, GpuDemand, Limits, Task,
};
use millstream_values::Value;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

/// A hash of the tensor's name and the element's index, mapped to -0.25..0.25; norms are 1 plus that.
pub fn recipe_weight(name: &str, shape: &[usize]) -> Tensor {
    let mut seed: u32 = 2_166_136_261;
    for byte in name.bytes() {
        seed = (seed ^ u32::from(byte)).wrapping_mul(16_777_619);
    }
    let offset = if name.to_lowercase().contains("norm") && name.ends_with("weight") { 1.0 } else { 0.0 };
    let count: usize = shape.iter().product();
    #[expect(clippy::cast_possible_truncation, reason = "the formula says so: 32 bits, then f32")]
    let value = |index: usize| {
        let mut h = (index as u32).wrapping_mul(2_654_435_761).wrapping_add(seed);
        h ^= h >> 16;
        h = h.wrapping_mul(0x85EB_CA6B);
        h ^= h >> 13;
        h = h.wrapping_mul(0xC2B2_AE35);
        h ^= h >> 16;
        ((f64::from(h) / 4_294_967_296.0 - 0.5) * 0.5 + offset) as f32
    };
    Tensor::from_vec((0..count).map(value).collect(), shape, &CandleDevice::Cpu).unwrap()
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

/// A file of reference values; `None` when it has not been made yet.
pub fn reference(name: &str) -> Option<Json> {
    let path = workspace().join("tests/reference").join(format!("{name}.json"));
    let bytes = std::fs::read(&path).ok()?;
    Some(serde_json::from_slice(&bytes).unwrap())
}

/// The reference values of the model in `dir`; `None`, with a message, when they have not been made yet.
///
/// # Panics
/// When they were made with other weights than those in `dir`.
pub fn reference_of(name: &str, dir: &Path) -> Option<Json> {
    let Some(reference) = reference(name) else {
        println!(
            "skipped: `tests/reference/{name}.json` is missing: run `tests/reference/make_references.py`"
        );
        return None;
    };
    let digest = Sha256::digest(std::fs::read(dir.join("model.safetensors")).unwrap());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        reference["weights_sha256"].as_str(),
        Some(digest.as_str()),
        "`tests/reference/{name}.json` is of other weights than `{}`: run `tests/reference/make_references.py`",
        dir.display()
    );
    Some(reference)
}

/// The folder of a model that the test set-up fetches. Absent: the test is skipped with a message, but fails in CI.
pub fn fetched_model(name: &str) -> Option<PathBuf> {
    let models = std::env::var_os("MILLSTREAM_TEST_MODELS")
        .map_or_else(|| workspace().join("target/test-models"), PathBuf::from);
    present(models.join(name), "run `tests/setup` to fetch it")
}

/// The folder of a bundled model.
pub fn bundled_model(name: &str) -> Option<PathBuf> {
    present(workspace().join("pipelines/models").join(name), "the repository is incomplete")
}

fn present(dir: PathBuf, advice: &str) -> Option<PathBuf> {
    if dir.join("config.json").is_file() {
        return Some(dir);
    }
    assert!(std::env::var_os("CI").is_none(), "`{}` is missing: {advice}", dir.display());
    println!("skipped: `{}` is missing: {advice}", dir.display());
    None
}

/// A JSON list of numbers.
pub fn numbers(json: &Json) -> Vec<f64> {
    json.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// Compares each number, and says what differs most.
pub fn assert_close(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let differences = found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs());
    let largest = differences.fold(0.0, f64::max);
    assert!(largest <= tolerance, "{what}: largest difference {largest:.2e}");
    println!("{what}: largest difference {largest:.2e}");
}

/// Settings of a deployment with that task, all others plain.
pub fn spec(task: Task) -> DeploymentSpec {
    DeploymentSpec {
        name: "model".parse().unwrap(),
        task,
        engine: EngineKind::Auto,
        model: None,
        device: Device::Cpu,
        demand: Demand {
            cpu_milli: 1000,
            memory_bytes: 0,
            gpus: GpuDemand::None,
            gpu_memory_bytes: 0,
            accelerators: Vec::new(),
            labels: Default::default(),
            max_replicas_per_node: None,
        },
        batch: Batch::default(),
        lanes: None,
        autoscaling: Autoscaling::default(),
        limits: Limits {
            max_ongoing_requests: 16,
            max_queued_requests: None,
            drain_timeout: Duration::from_secs(30),
            start_timeout: Duration::from_secs(300),
            step_timeout: None,
            max_surge: 1,
            idempotent: true,
        },
        engine_settings: None,
        inputs: Default::default(),
    }
}

/// A call that wants its answer whole.
pub fn call(inputs: Value) -> (Call, PendingCall) {
    let (reply, pending) = channel(Parts::Wanted);
    (Call::new(inputs, reply, std::time::Instant::now()), pending)
}

/// Steps the engine until all calls are answered; returns the last event of each.
pub fn run(engine: &mut dyn SteppingEngine, inputs: Vec<Value>) -> Vec<CallEvent> {
    let (calls, pending): (Vec<_>, Vec<_>) = inputs.into_iter().map(call).unzip();
    let mut progress = engine.step(calls).progress;
    while progress != Progress::Idle {
        progress = engine.step(Vec::new()).progress;
    }
    pending.into_iter().map(|mut call| events(&mut call).pop().unwrap()).collect()
}

/// Everything that came for a call, up to its end.
pub fn events(call: &mut PendingCall) -> Vec<CallEvent> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut events = Vec::new();
        loop {
            events.push(call.next().await);
            if !matches!(events.last(), Some(CallEvent::Delta(_))) {
                return events;
            }
        }
    })
}

/// The answer in an event.
pub fn done(event: &CallEvent) -> &Value {
    match event {
        CallEvent::Done(value) => value,
        other => panic!("expected an answer, got {other:?}"),
    }
}
