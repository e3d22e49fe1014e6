//! The engine against ONNX Runtime called directly, on the same model, tokens and threads.
//!
//!     cargo run --release -p millstream-engine-onnx --example bench -- target/test-models [THREADS]
//!
//! Prints the median time of each, in milliseconds, and their ratio: all-MiniLM-L6-v2 with one text and with 32, and the
//! tabular classifier row by row and 32 calls together.
#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use millstream_calls::call::{Parts, channel};
use millstream_engine::{Call, Engine, EngineFactory, LoadArgs, ModelStore, Progress, SteppingEngine};
use millstream_engine_onnx::{OnnxFactory, Places};
use millstream_engine_text::{Cut, TextModel, TokenBatch, Tokens, normalize, pool};
use millstream_pipelines::{DeploymentSpec, Task};
use millstream_values::{Tensor, Value};
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionInputValue};
use ort::value::TensorRef;

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let models = PathBuf::from(arguments.next().unwrap_or_else(|| "target/test-models".to_owned()));
    let threads: usize = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let places = Places { explicit: Some((models.join("lib"), "the command line")), folders: Vec::new() };
    let factory = OnnxFactory::with_places(places);
    let environment = factory.environment()?;
    println!("{threads} threads, median ms       engine    direct   engine/direct");
    let minilm = models.join("all-MiniLM-L6-v2-onnx");
    for (texts, words) in [(1, 10), (1, 120), (32, 10), (32, 120)] {
        let mut direct = session(&environment, &minilm.join("model.onnx"), threads)?;
        bench_embed(&factory, &mut direct, &minilm, threads, texts, words)?;
    }
    let tabular = Path::new("pipelines/models/tabular-classifier");
    for calls in [1, 32] {
        let mut direct = session(&environment, &tabular.join("model.onnx"), threads)?;
        bench_tabular(&factory, &mut direct, tabular, threads, calls)?;
    }
    Ok(())
}

fn bench_embed(
    factory: &OnnxFactory,
    direct: &mut Session,
    dir: &Path,
    threads: usize,
    num_texts: usize,
    words: usize,
) -> Result<(), Failure> {
    let spec = spec("embed")?;
    let mut engine = load(factory, &spec, dir, threads)?;
    let text = TextModel::load(dir, Task::Embed)?;
    let texts: Vec<String> =
        (0..num_texts).map(|at| format!("{at} {}", "the replica answers ".repeat(words / 3))).collect();
    let inputs = Value::map([("texts", Value::list(texts.iter().map(|text| Value::from(text.as_str()))))]);
    let through = || {
        run(&mut *engine, vec![inputs.clone()]);
        Ok(())
    };
    let plain = || {
        let encode =
            |one: &String| text.tokenizer.encode(one, Cut::default()).map_err(|error| format!("{error:?}"));
        let tokens: Vec<Tokens> = texts.iter().map(encode).collect::<Result<_, _>>()?;
        let batch = TokenBatch::of(&tokens, text.tokenizer.pad_id());
        let wide = |numbers: &[u32]| numbers.iter().map(|number| i64::from(*number)).collect::<Vec<_>>();
        let (ids, mask, types) = (wide(&batch.ids), wide(&batch.mask), wide(&batch.type_ids));
        let shape = [batch.rows, batch.width];
        let values: [SessionInputValue<'_>; 3] = [
            TensorRef::from_array_view((shape, &ids[..]))?.into(),
            TensorRef::from_array_view((shape, &mask[..]))?.into(),
            TensorRef::from_array_view((shape, &types[..]))?.into(),
        ];
        let outputs = direct.run(&values[..])?;
        let (_, hidden) = outputs[0].try_extract_tensor::<f32>()?;
        let mut vectors =
            pool(hidden, &batch, hidden.len() / (batch.rows * batch.width), text.sentence.pooling);
        normalize(&mut vectors, 384);
        std::hint::black_box(vectors);
        Ok(())
    };
    compare(&format!("embed {num_texts:>2} texts, {words:>3} words"), through, plain)
}

fn bench_tabular(
    factory: &OnnxFactory,
    direct: &mut Session,
    dir: &Path,
    threads: usize,
    num_calls: usize,
) -> Result<(), Failure> {
    let spec = spec("tensor")?;
    let mut engine = load(factory, &spec, dir, threads)?;
    let row: Vec<f32> = (0..42_u8).map(|at| f32::from(at) / 10.0 - 2.0).collect();
    let inputs = Value::map([("features", Value::Tensor(Tensor::from_f32([1, 42], &row)?))]);
    let all = row.repeat(num_calls);
    let through = || {
        run(&mut *engine, vec![inputs.clone(); num_calls]);
        Ok(())
    };
    let plain = || {
        let values: [SessionInputValue<'_>; 1] =
            [TensorRef::from_array_view(([num_calls, 42], &all[..]))?.into()];
        let outputs = direct.run(&values[..])?;
        std::hint::black_box(outputs[1].try_extract_tensor::<f32>()?.1.to_vec());
        Ok(())
    };
    compare(&format!("tabular {num_calls:>2} calls of 1 row"), through, plain)
}

/// Runs both in turn, so that other load on the machine hits both alike.
fn compare(
    what: &str,
    mut through: impl FnMut() -> Result<(), Failure>,
    mut direct: impl FnMut() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    while with.len() < 9 || (begin.elapsed() < Duration::from_secs(4) && with.len() < 2001) {
        with.push(time(&mut through)?);
        without.push(time(&mut direct)?);
    }
    let (with, without) = (median(with), median(without));
    println!("{what:<28} {with:>9.4} {without:>9.4} {:>9.3}", with / without);
    Ok(())
}

fn time(run: &mut impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    let begin = Instant::now();
    run()?;
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn run(engine: &mut dyn SteppingEngine, inputs: Vec<Value>) {
    let (calls, _pending): (Vec<Call>, Vec<_>) = inputs
        .into_iter()
        .map(|inputs| {
            let (reply, pending) = channel(Parts::Unwanted);
            (Call::new(inputs, reply, std::time::Instant::now()), pending)
        })
        .unzip();
    let mut progress = engine.step(calls).progress;
    while let Progress::Busy = progress {
        progress = engine.step(Vec::new()).progress;
    }
}

fn load(
    factory: &OnnxFactory,
    spec: &DeploymentSpec,
    dir: &Path,
    threads: usize,
) -> Result<Box<dyn SteppingEngine>, Failure> {
    let models = ModelStore::default();
    let args = LoadArgs {
        spec,
        model_dir: Some(dir.to_path_buf()),
        threads,
        gpus: &[],
        models: &models,
        progress: &|_| {},
    };
    match factory.load(&args)? {
        Engine::Stepping(mut lanes) => {
            let mut first = lanes.remove(0);
            first.warm_up()?;
            Ok(first)
        }
        Engine::Concurrent(_) => Err("not a stepping engine".into()),
    }
}

fn session(
    environment: &ort::environment::Environment,
    file: &Path,
    threads: usize,
) -> Result<Session, Failure> {
    let message_of = |error: ort::Error<_>| error.message().to_owned();
    Ok(Session::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::Level3)
        .map_err(message_of)?
        .with_intra_threads(threads)
        .map_err(message_of)?
        .commit_from_file(file)?)
}

/// A deployment with all defaults that matter here, as it travels between head and worker.
fn spec(task: &str) -> Result<DeploymentSpec, Failure> {
    let zero = serde_json::json!({"secs": 0, "nanos": 0});
    Ok(serde_json::from_value(serde_json::json!({
        "name": "model", "task": task, "engine": "onnx", "model": null, "device": "cpu",
        "demand": {
            "cpu_milli": 1000, "memory_bytes": 0, "gpus": "none", "gpu_memory_bytes": 0, "accelerators": [],
            "labels": {}, "max_replicas_per_node": null,
        },
        "batch": {"max_size": 32, "max_wait": zero, "max_tokens": null, "preferred_sizes": []},
        "autoscaling": {
            "min_replicas": 1, "max_replicas": 1, "target_ongoing_requests": 2.0, "look_back": zero,
            "upscale_delay": zero, "downscale_delay": zero, "idle_timeout": zero, "upscaling_factor": 1.0,
            "downscaling_factor": 1.0,
            "upscale_tolerance": 0.2,
        },
        "limits": {
            "max_ongoing_requests": 64, "max_queued_requests": null, "drain_timeout": zero, "start_timeout": zero,
            "max_surge": 1, "idempotent": true,
        },
        "echo": null, "signature": {},
    }))?)
}
