//! `task = "tensor"`: any model, by its own input and output names.
//!
//! Calls of one step run together where that changes nothing: when the model leaves the first axis open everywhere and
//! a trial at warm-up gave the same rows together as apart. A run of several calls that fails is repeated call by call.

use std::sync::Arc;

use millstream_engine::{Call, LoadError, Progress, SteppingEngine, invalid_input};
use millstream_pipelines::DeploymentSpec;
use millstream_proto::call::Reply;
use millstream_values::{CallError, DType, ErrorClass, Map, Tensor, Value};

use crate::clock;
use crate::convert::to_tensors;
use crate::model::{Model, RunError};
use crate::pack::{alike, groups, join, num_rows, split};
use crate::port::{Dim, Port};

/// A tensor model being served.
pub(crate) struct TensorEngine {
    model: Model,
    /// What calls must bring: the model's inputs, narrowed by the declared signature.
    ports: Vec<Port>,
    output_names: Vec<Arc<str>>,
    max_rows: usize,
    /// Whether rows of several calls may run together; found out by [`warm_up`](SteppingEngine::warm_up).
    joins: bool,
}

/// A checked call.
struct Job {
    tensors: Vec<Tensor>,
    reply: Reply,
}

impl TensorEngine {
    /// An engine for `model` as `spec` declares it.
    ///
    /// # Errors
    /// [`LoadError::Unsupported`] when the declared signature is not the model's.
    pub(crate) fn new(model: Model, spec: &DeploymentSpec) -> Result<Self, LoadError> {
        let mut ports = model.inputs.clone();
        for (name, declared) in &spec.signature {
            let port = ports.iter_mut().find(|port| port.name == *name).ok_or_else(|| {
                let names: Vec<&str> = model.inputs.iter().map(|port| port.name.as_str()).collect();
                LoadError::Unsupported(format!(
                    "`signature` declares an input `{name}`; the model's inputs are `{}`",
                    names.join("`, `")
                ))
            })?;
            port.narrow(declared).map_err(LoadError::Unsupported)?;
        }
        let output_names = model.outputs.iter().map(|port| port.name.as_str().into()).collect();
        let max_rows = (spec.batch.max_size as usize).max(1);
        Ok(Self { model, ports, output_names, max_rows, joins: false })
    }

    /// Checks a call; one that is wrong, too late or not waited for is done with here.
    fn prepare(&self, call: Call) -> Option<Job> {
        if call.is_cancelled() {
            return None;
        }
        if call.deadline.is_some_and(|deadline| deadline <= clock::now()) {
            let late = "the deadline passed before the model ran";
            call.reply.finish(Err(CallError::started(ErrorClass::DeadlineExceeded, late)));
            return None;
        }
        match to_tensors(&call.inputs, &self.ports) {
            Ok(tensors) => Some(Job { tensors, reply: call.reply }),
            Err(error) => {
                call.reply.finish(Err(error));
                None
            }
        }
    }

    /// Runs calls together and answers them; `false` leaves them all unanswered.
    fn run_joined(&mut self, jobs: &mut Vec<Job>) -> bool {
        let tensors: Vec<&[Tensor]> = jobs.iter().map(|job| &job.tensors[..]).collect();
        let rows: Option<Vec<usize>> = tensors.iter().map(|tensors| num_rows(tensors)).collect();
        let (Some(rows), Ok(joined)) = (rows, join(&tensors)) else { return false };
        let parts = match self.model.run(&joined) {
            Ok(outputs) => split(&outputs, &rows),
            Err(_) => None,
        };
        let Some(parts) = parts else { return false };
        for (job, outputs) in jobs.drain(..).zip(parts) {
            job.reply.finish(Ok(self.answer(outputs)));
        }
        true
    }

    fn run_alone(&mut self, job: Job) {
        if job.reply.is_cancelled() {
            return;
        }
        let outcome =
            self.model.run(&job.tensors).map(|outputs| self.answer(outputs)).map_err(|error| failed(&error));
        job.reply.finish(outcome);
    }

    fn answer(&self, outputs: Vec<Tensor>) -> Value {
        let map: Map =
            self.output_names.iter().cloned().zip(outputs.into_iter().map(Value::Tensor)).collect();
        map.into()
    }

    /// Whether the model leaves the first axis of everything open, so that it could be the calls'.
    fn rows_are_open(&self) -> bool {
        !self.model.inputs.is_empty()
            && self.model.inputs.iter().chain(&self.model.outputs).all(|port| port.open_rows)
    }

    /// Whether three made-up rows give together what they give apart.
    fn try_joining(&mut self) -> Result<bool, RunError> {
        let inputs = made_up(&self.ports, 3);
        let (Some(one), Some(two)) = (rows_of(&inputs, 0, 1), rows_of(&inputs, 1, 3)) else {
            return Ok(false);
        };
        let whole = self.model.run(&inputs)?;
        let (one, two) = (self.model.run(&one)?, self.model.run(&two)?);
        Ok(split(&whole, &[1, 2]).is_some_and(|parts| alike(&parts[0], &one) && alike(&parts[1], &two)))
    }
}

impl SteppingEngine for TensorEngine {
    fn warm_up(&mut self) -> Result<(), LoadError> {
        if self.max_rows > 1 && self.rows_are_open() {
            match self.try_joining() {
                Ok(joins) => self.joins = joins,
                Err(error) => tracing::debug!(error = error.reason(), "a trial batch did not run"),
            }
            if !self.joins {
                tracing::info!("rows of this model depend on one another; calls run one by one");
            }
        }
        match self.model.run(&made_up(&self.ports, 1)) {
            Ok(_) => Ok(()),
            // Made-up sizes and values need not suit the model; real ones may.
            Err(RunError::Refused(reason)) => {
                tracing::info!(error = reason, "the model does not take made-up inputs; it is not warmed up");
                Ok(())
            }
            Err(RunError::Failed(reason)) => {
                Err(LoadError::Model(format!("the model does not run: {reason}; check its file")))
            }
        }
    }

    fn step(&mut self, calls: Vec<Call>) -> Progress {
        let jobs: Vec<Job> = calls.into_iter().filter_map(|call| self.prepare(call)).collect();
        let groups = if self.joins {
            let tensors: Vec<&[Tensor]> = jobs.iter().map(|job| &job.tensors[..]).collect();
            groups(&tensors, self.max_rows)
        } else {
            (0..jobs.len()).map(|at| vec![at]).collect()
        };
        let mut jobs: Vec<Option<Job>> = jobs.into_iter().map(Some).collect();
        for group in groups {
            let mut members: Vec<Job> = group.into_iter().filter_map(|at| jobs[at].take()).collect();
            members.retain(|job| !job.reply.is_cancelled());
            if members.len() < 2 || !self.run_joined(&mut members) {
                members.into_iter().for_each(|job| self.run_alone(job));
            }
        }
        Progress::Idle
    }

    fn memory_bytes(&self) -> u64 {
        self.model.num_bytes
    }
}

fn failed(error: &RunError) -> CallError {
    match error {
        RunError::Refused(reason) => {
            tracing::debug!(error = reason, "a model refused its inputs");
            invalid_input(
                "the model does not take these values: one is out of its range, or sizes do not go together",
            )
        }
        RunError::Failed(reason) => {
            tracing::warn!(error = reason, "a model failed");
            CallError::started(ErrorClass::Internal, "the model failed on these inputs")
        }
    }
}

/// Inputs with `rows` rows where that is open, 2 along any other open axis; small numbers, differing from row to row.
fn made_up(ports: &[Port], rows: usize) -> Vec<Tensor> {
    let tensor = |port: &Port| {
        let sizes = port.dims.iter().enumerate().map(|(axis, dim)| match dim {
            Dim::Fixed(size) => *size,
            Dim::Any(_) if axis == 0 && port.open_rows => rows,
            Dim::Any(_) => 2,
        });
        let shape: Vec<usize> = sizes.collect();
        let data: Vec<u8> =
            (0..shape.iter().product::<usize>()).flat_map(|at| small_number(port.dtype, at)).collect();
        Tensor::new(port.dtype, shape, data.into()).ok()
    };
    ports.iter().filter_map(tensor).collect()
}

/// The `at`-th made-up element: 0 or 1, or a float between -1 and 1.
fn small_number(dtype: DType, at: usize) -> Vec<u8> {
    // A fixed scramble of the position (Knuth's multiplicative hash), so that rows differ.
    #[expect(clippy::cast_possible_truncation, reason = "only the low bits matter")]
    let scrambled = (at as u32).wrapping_add(1).wrapping_mul(2_654_435_761) >> 16;
    let (bit, float) = (u8::try_from(scrambled & 1).unwrap_or(0), f64::from(scrambled) / 32_768.0 - 1.0);
    match dtype {
        DType::F16 => half::f16::from_f64(float).to_le_bytes().to_vec(),
        DType::BF16 => half::bf16::from_f64(float).to_le_bytes().to_vec(),
        #[expect(clippy::cast_possible_truncation, reason = "made up")]
        DType::F32 => (float as f32).to_le_bytes().to_vec(),
        DType::F64 => float.to_le_bytes().to_vec(),
        _ => {
            let mut bytes = vec![0; dtype.size_bytes()];
            bytes[0] = bit;
            bytes
        }
    }
}

fn rows_of(tensors: &[Tensor], start: usize, end: usize) -> Option<Vec<Tensor>> {
    tensors.iter().map(|tensor| tensor.slice(start, end)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::library::Places;
    use crate::runtime;

    #[test]
    fn only_models_with_independent_rows_run_calls_together() {
        let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
        let models = std::env::var_os("MILLSTREAM_TEST_MODELS")
            .map_or_else(|| crate_dir.join("../../../target/test-models"), Into::into);
        let places = Places { explicit: Some((models.join("lib"), "the test")), folders: Vec::new() };
        let files = match places.find() {
            Ok(files) => files,
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "{error}");
                eprintln!("skipped: {error}");
                return;
            }
        };
        let environment = runtime::environment(&files).unwrap();
        let classifier = "../../../pipelines/models/tabular-classifier/model.onnx";
        for (file, joins) in [
            ("tests/data/linear.onnx", true),
            ("tests/data/lookup.onnx", true),
            ("tests/data/types.onnx", true),
            (classifier, true),
            ("tests/data/running_sum.onnx", false),
        ] {
            let model = Model::open(&environment, &crate_dir.join(file), 1).unwrap();
            let (ports, output_names) = (model.inputs.clone(), Vec::new());
            let mut engine = TensorEngine { model, ports, output_names, max_rows: 8, joins: false };
            engine.warm_up().unwrap();
            assert_eq!(engine.joins, joins, "{file}");
        }
    }
}
