//! What batching costs: rows of the tabular classifier through replicas in this process, whose callers are batched,
//! beside ONNX Runtime called directly with ready batches on the same cores, in turn.
//!
//!     cargo run --release -p millstream-worker --example batch_cost -- target/test-models [REPLICAS]
//!
//! Replicas, one unless told, share the cores that the direct call has alone. Prints rows per second of both and their
//! ratio, for calls of 1, 8 and 64 rows: the median turn, and the ratios of the least and the best.
#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]
#![allow(clippy::print_stdout, reason = "a measurement for people")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use millstream_engine_onnx::{OnnxFactory, Places};
use millstream_pipelines::{Batch, DeploymentSpec, EngineKind, ModelRef, Task};
use millstream_proto::RequestId;
use millstream_proto::call::{CallEvent, CallRequest};
use millstream_proto::v1::{self, head_message};
use millstream_values::{Tensor, Value};
use millstream_worker::Worker;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;
use tokio::runtime::Runtime;

#[path = "../tests/support/mod.rs"]
#[allow(dead_code, unused_imports, clippy::unwrap_used, reason = "shared with the tests")]
mod support;
use support::testing::{echo_spec, start};
use support::{Head, Session as HeadSession};

/// The command's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn Error>;

const WIDTH: usize = 42;
/// Rows that wait or run at any time.
const NUM_ROWS: usize = 512;
/// Most rows in one run.
const MAX_BATCH: usize = 256;
const TURN: Duration = Duration::from_millis(400);
const NUM_TURNS: usize = 25;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let models = PathBuf::from(arguments.next().unwrap_or_else(|| "target/test-models".to_owned()));
    let cores = std::thread::available_parallelism()?.get();
    let num_replicas = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let rows = vec![0.5_f32; MAX_BATCH * WIDTH];

    let runtime = Runtime::new()?;
    let data_dir = tempfile::tempdir()?;
    let (worker, _head, _session) =
        runtime.block_on(replicas(&models, data_dir.path(), num_replicas, cores / num_replicas))?;
    let mut direct = session(&models, cores)?;
    let mut floor = |batch| rate(|| run(&mut direct, &rows[..batch * WIDTH]));
    let mut best = (0.0, 0);
    for batch in [32, 64, 128, MAX_BATCH] {
        let rate = floor(batch)?;
        if rate > best.0 {
            best = (rate, batch);
        }
    }
    let (_, best) = best;
    println!("{cores} cores; ONNX Runtime called directly is fastest with {best} rows");
    for num_rows in [1, 8, 64] {
        let tensor = Tensor::from_f32([num_rows, WIDTH], &rows[..num_rows * WIDTH])?;
        let inputs = Value::map([("features", Value::Tensor(tensor))]);
        let turn = |_| -> Result<_, Failure> {
            let floor = floor(best)?;
            let ours = num_rows as f64
                * runtime.block_on(calls(&worker, num_replicas, &inputs, NUM_ROWS / num_rows))?;
            Ok((ours / floor, ours, floor))
        };
        let mut turns: Vec<(f64, f64, f64)> = (0..NUM_TURNS).map(turn).collect::<Result<_, _>>()?;
        turns.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (ratio, ours, floor) = turns[NUM_TURNS / 2];
        let (least, most) = (turns[0].0, turns[NUM_TURNS - 1].0);
        println!(
            "{:>4} callers of {num_rows:>2} rows: {ours:>9.0} rows/s, direct {floor:>9.0}, ratio {ratio:.2} ({least:.2} to {most:.2})",
            NUM_ROWS / num_rows
        );
    }
    Ok(())
}

fn classifier() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/models/tabular-classifier")
}

/// A worker with replicas of the classifier.
async fn replicas(
    models: &Path,
    data_dir: &Path,
    num_replicas: usize,
    threads: usize,
) -> Result<(Worker, Head, HeadSession), Failure> {
    let mut head = Head::start().await;
    let mut config = head.config(data_dir);
    config.onnxruntime = Some(models.join("lib"));
    let worker = Worker::start(config).await?;
    let mut session = head.session(1).await;
    let mut spec = DeploymentSpec {
        task: Task::Tensor,
        engine: EngineKind::Onnx,
        model: Some(ModelRef::File { path: classifier().display().to_string() }),
        batch: Batch { max_size: u32::try_from(MAX_BATCH)?, ..Batch::default() },
        lanes: None,
        engine_settings: None,
        ..echo_spec("tabular")
    };
    spec.limits.max_ongoing_requests = u32::try_from(NUM_ROWS)?;
    spec.demand.cpu_milli = u64::try_from(threads * 1000)?;
    for index in 0..num_replicas {
        let id = index.to_string();
        session.send(1, head_message::Body::Start(start(&id, &spec))).await;
        session.state(&id, v1::ReplicaState::Ready).await;
    }
    Ok((worker, head, session))
}

/// Calls per second of so many callers, each of whom calls again once it is answered.
async fn calls(worker: &Worker, num_replicas: usize, inputs: &Value, callers: usize) -> Result<f64, Failure> {
    let begin = Instant::now();
    let caller = |index: usize| {
        let client = worker.client();
        let request = CallRequest::new(RequestId::random(), inputs.clone());
        async move {
            let replica = (index % num_replicas).to_string().into();
            let mut num_calls = 0_u32;
            while begin.elapsed() < TURN {
                let event = client.call(&replica, request.clone()).next().await;
                assert!(matches!(event, CallEvent::Done(_)), "{event:?}");
                num_calls += 1;
            }
            num_calls
        }
    };
    let tasks: Vec<_> = (0..callers).map(|index| tokio::spawn(caller(index))).collect();
    let mut num_calls = 0;
    for task in tasks {
        num_calls += task.await?;
    }
    Ok(f64::from(num_calls) / begin.elapsed().as_secs_f64())
}

fn session(models: &Path, threads: usize) -> Result<Session, Failure> {
    let places = Places { explicit: Some((models.join("lib"), "the command line")), folders: Vec::new() };
    let environment = OnnxFactory::with_places(places).environment()?;
    let message_of = |error: ort::Error<_>| error.message().to_owned();
    let builder = Session::builder(&environment)?;
    let builder = builder.with_optimization_level(GraphOptimizationLevel::Level3).map_err(message_of)?;
    let mut builder = builder.with_intra_threads(threads).map_err(message_of)?;
    Ok(builder.commit_from_file(classifier().join("model.onnx"))?)
}

/// One direct run; returns its rows.
fn run(session: &mut Session, rows: &[f32]) -> Result<usize, Failure> {
    let batch = rows.len() / WIDTH;
    let outputs = session.run([TensorRef::from_array_view(([batch, WIDTH], rows))?.into()])?;
    std::hint::black_box(outputs[1].try_extract_tensor::<f32>()?.1.to_vec());
    Ok(batch)
}

/// Rows per second of such runs.
fn rate(mut run: impl FnMut() -> Result<usize, Failure>) -> Result<f64, Failure> {
    let (begin, mut rows) = (Instant::now(), 0);
    while begin.elapsed() < TURN {
        rows += run()?;
    }
    Ok(rows as f64 / begin.elapsed().as_secs_f64())
}
