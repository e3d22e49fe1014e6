//! `task = "tensor"`: any model, by its own input and output names.
//!
//! Calls run together where that changes nothing: when the model leaves the first axis open everywhere and a trial at
//! warm-up gave the same rows together as apart. Calls then differ in their number of rows alone, and one with more rows
//! than a batch holds runs in several.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

use millstream_batching::{BatchEngine, Batched, Company, Preparing, Shape};
use millstream_engine::{LoadError, invalid_input};
use millstream_pipelines::types::ModelSignature;
use millstream_pipelines::{Batch, DeploymentSpec, Element};
use millstream_values::{CallError, DType, ErrorClass, Map, Tensor, Value};
use smallvec::{SmallVec, smallvec};

use crate::array::{Array, Texts};
use crate::convert::to_tensors;
use crate::model::{Lane, Model, RunError};
use crate::pack::{alike, join, num_rows, rows_of, starts};
use crate::port::{Dim, Port};

/// A tensor model being served.
pub(crate) struct TensorEngine {
    model: Arc<Model>,
    /// What calls must bring: the model's inputs, narrowed by the declared signature.
    ports: Vec<Port>,
    /// An answer's names, without their tensors: answers are copies of it.
    answer: Map,
    /// Whether rows of several calls may run together; found out by the first [`warm_up`](BatchEngine::warm_up).
    joins: OnceLock<bool>,
    /// Inputs that the model took: where it refuses others, whose fault that is.
    good: OnceLock<Vec<Array>>,
}

/// Rows of a call, in the order of the model's inputs.
pub(crate) struct TensorPart {
    index: usize,
    tensors: Vec<Array>,
}

/// What a run gave.
pub(crate) struct Outputs {
    tensors: Vec<Array>,
    /// Where each part's rows begin, and where the last one's end; `None` when all is one part's.
    starts: Option<Vec<usize>>,
}

impl Outputs {
    /// Takes the rows of the part at place `at` of the run: views, no copies.
    fn of_part(&mut self, at: usize) -> Vec<Array> {
        match &self.starts {
            None => std::mem::take(&mut self.tensors),
            Some(starts) => rows_of(&self.tensors, starts[at], starts[at + 1]).unwrap_or_default(),
        }
    }
}

impl TensorEngine {
    /// What serves calls with these lanes of a model, as `spec` declares it.
    ///
    /// # Errors
    /// [`LoadError::Unsupported`] when the declared signature is not the model's.
    pub(crate) fn lanes(lanes: Vec<Lane>, spec: &DeploymentSpec) -> Result<Vec<Batched<Self>>, LoadError> {
        let Some(first) = lanes.first() else { return Ok(Vec::new()) };
        let engine = Self::new(first.model().clone(), spec)?;
        Ok(Batched::lanes(engine, lanes, spec.batch.clone()))
    }

    fn new(model: Arc<Model>, spec: &DeploymentSpec) -> Result<Self, LoadError> {
        let mut ports = model.inputs.clone();
        for (name, declared) in &spec.inputs.signature {
            let port = ports.iter_mut().find(|port| port.name == *name).ok_or_else(|| {
                let names: Vec<&str> = model.inputs.iter().map(|port| port.name.as_str()).collect();
                LoadError::Unsupported(format!(
                    "`signature` declares an input `{name}`; the model's inputs are `{}`",
                    names.join("`, `")
                ))
            })?;
            port.narrow(declared).map_err(LoadError::Unsupported)?;
        }
        let answer = model.outputs.iter().map(|port| (port.name.as_str().into(), Value::None)).collect();
        Ok(Self { model, ports, answer, joins: OnceLock::new(), good: OnceLock::new() })
    }

    fn joins(&self) -> bool {
        self.joins.get().is_some_and(|joins| *joins)
    }

    /// Whether the model leaves the first axis of everything open, so that it could be the calls'.
    fn rows_are_open(&self) -> bool {
        !self.model.inputs.is_empty()
            && self.model.inputs.iter().chain(&self.model.outputs).all(|port| port.open_rows)
    }

    /// Runs the model. Values that it refuses are the caller's fault only while it takes others: a model that takes none is broken.
    fn run_on(&self, lane: &mut Lane, inputs: &[Array], company: Company) -> Result<Vec<Array>, CallError> {
        match lane.run(inputs, company) {
            Ok(outputs) => {
                if self.good.get().is_none() {
                    // Another lane may have been first.
                    let _ = self.good.set(inputs.to_vec());
                }
                Ok(outputs)
            }
            Err(RunError::Refused(reason)) => {
                let takes_others = self.good.get().is_some_and(|good| lane.run(good, company).is_ok());
                Err(failed(&if takes_others { RunError::Refused(reason) } else { RunError::Failed(reason) }))
            }
            Err(error) => Err(failed(&error)),
        }
    }

    /// Whether three made-up rows give together what they give apart.
    fn try_joining(&self, lane: &mut Lane) -> Result<bool, RunError> {
        let inputs = made_up(&self.ports, 3);
        let (Some(one), Some(two)) = (rows_of(&inputs, 0, 1), rows_of(&inputs, 1, 3)) else {
            return Ok(false);
        };
        let mut run = |inputs: &[Array]| lane.run(inputs, Company::Others);
        let whole = run(&inputs)?;
        let (one, two) = (run(&one)?, run(&two)?);
        let same = |start, end, apart: &[Array]| {
            rows_of(&whole, start, end).is_some_and(|together| alike(&together, apart))
        };
        Ok(starts(&whole, &[1, 2]).is_some() && same(0, 1, &one) && same(1, 3, &two))
    }
}

impl BatchEngine for TensorEngine {
    type Lane = Lane;
    /// Outputs of each part, in the order of the parts.
    type Call = SmallVec<[Vec<Array>; 1]>;
    type Part = TensorPart;
    type Outcome = Outputs;

    fn warm_up(&self, lane: &mut Lane, batch: &Batch) -> Result<(), LoadError> {
        if batch.max_size > 1 && self.rows_are_open() && self.joins.get().is_none() {
            let joins = self.try_joining(lane).unwrap_or_else(|error| {
                tracing::debug!(error = error.reason(), "a trial batch did not run");
                false
            });
            if !joins {
                tracing::info!("rows of this model depend on one another; calls run one by one");
            }
            // Lanes are warmed up one after the other: nobody has set it meanwhile.
            let _ = self.joins.set(joins);
        }
        let inputs = made_up(&self.ports, 1);
        let ran = lane.run(&inputs, Company::Others).and_then(|_| lane.run(&inputs, Company::Alone));
        match ran {
            Ok(_) => {
                let _ = self.good.set(inputs);
                Ok(())
            }
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

    fn prepare(
        &self,
        inputs: Value,
        Preparing { max_size, .. }: Preparing<'_>,
    ) -> Result<(Self::Call, Vec<TensorPart>), CallError> {
        let tensors = to_tensors(&inputs, &self.ports)?;
        let rows = if self.joins() { num_rows(&tensors).unwrap_or(0) } else { 0 };
        let parts = if rows > max_size {
            let slices = (0..rows).step_by(max_size.max(1)).map(|start| {
                let tensors = rows_of(&tensors, start, rows.min(start + max_size))?;
                Some(TensorPart { index: start / max_size, tensors })
            });
            slices.collect()
        } else {
            None
        };
        let parts = parts.unwrap_or_else(|| vec![TensorPart { index: 0, tensors }]);
        Ok((smallvec![Vec::new(); parts.len()], parts))
    }

    fn shape(&self, part: &TensorPart) -> Shape {
        let rows = num_rows(&part.tensors);
        let group = rows.filter(|_| self.joins()).map(|_| row_shape(&part.tensors));
        Shape { inputs: rows.unwrap_or(1), tokens: 0, group }
    }

    fn run(&self, lane: &mut Lane, parts: &[&TensorPart], company: Company) -> Result<Outputs, CallError> {
        if let [part] = parts {
            let tensors = self.run_on(lane, &part.tensors, company)?;
            return Ok(Outputs { tensors, starts: None });
        }
        let tensors: Vec<&[Array]> = parts.iter().map(|part| &part.tensors[..]).collect();
        let rows: Vec<usize> = tensors.iter().map(|tensors| num_rows(tensors).unwrap_or(0)).collect();
        let joined = join(&tensors).map_err(|error| failed(&RunError::Failed(error.to_string())))?;
        let tensors = self.run_on(lane, &joined, company)?;
        let starts = starts(&tensors, &rows).ok_or_else(|| {
            failed(&RunError::Failed("an output does not have one row for each input row".to_owned()))
        })?;
        Ok(Outputs { tensors, starts: Some(starts) })
    }

    fn fill(&self, call: &mut Self::Call, part: &TensorPart, outputs: &mut Outputs, at: usize) {
        call[part.index] = outputs.of_part(at);
    }

    fn finish(&self, mut call: Self::Call) -> Result<Value, CallError> {
        let outputs = if call.len() == 1 {
            call.swap_remove(0)
        } else {
            let parts: Vec<&[Array]> = call.iter().map(Vec::as_slice).collect();
            join(&parts).map_err(|error| failed(&RunError::Failed(error.to_string())))?
        };
        let mut answer = self.answer.clone();
        answer.values_mut().zip(outputs).for_each(|(value, output)| *value = output.into_value());
        Ok(answer.into())
    }

    fn memory_bytes(&self) -> u64 {
        self.model.num_bytes
    }

    fn signature(&self) -> Option<ModelSignature> {
        Some(signature(&self.ports, &self.model.outputs))
    }
}

/// The signature of a model that takes and returns these.
pub(crate) fn signature(inputs: &[Port], outputs: &[Port]) -> ModelSignature {
    let types = |ports: &[Port]| ports.iter().map(|port| (port.name.clone(), port.ty())).collect();
    ModelSignature { inputs: types(inputs), outputs: types(outputs) }
}

/// What calls have in common that may run together: everything of their shapes but the number of rows. Their types are
/// the ports'.
fn row_shape(tensors: &[Array]) -> u64 {
    let mut hasher = DefaultHasher::new();
    tensors.iter().for_each(|tensor| tensor.shape()[1..].hash(&mut hasher));
    hasher.finish()
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
fn made_up(ports: &[Port], rows: usize) -> Vec<Array> {
    let tensor = |port: &Port| {
        let sizes = port.dims.iter().enumerate().map(|(axis, dim)| match dim {
            Dim::Fixed(size) => *size,
            Dim::Any(_) if axis == 0 && port.open_rows => rows,
            Dim::Any(_) => 2,
        });
        let shape: Vec<usize> = sizes.collect();
        let places = 0..shape.iter().product::<usize>();
        match port.element {
            Element::Of(dtype) => {
                let data: Vec<u8> = places.flat_map(|at| small_number(dtype, at)).collect();
                Tensor::new(dtype, shape, data.into()).ok().map(Array::Numbers)
            }
            // Digits: a model may make numbers of them.
            Element::Text => {
                let texts = places.map(|at| small_number(DType::U8, at)[0].to_string().into());
                Texts::new(shape, texts.collect()).map(Array::Texts)
            }
        }
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

#[cfg(test)]
mod tests {
    use millstream_engine::ModelStore;

    use super::*;
    use crate::model::Opening;
    use crate::testing;

    #[test]
    fn only_models_with_independent_rows_run_calls_together() {
        let Some(environment) = testing::environment() else { return };
        let classifier = "../../../../../pipelines/models/tabular-classifier/model.onnx";
        for (file, joins) in [
            ("linear.onnx", true),
            ("lookup.onnx", true),
            ("types.onnx", true),
            ("texts.onnx", true),
            (classifier, true),
            ("running_sum.onnx", false),
        ] {
            let mut lane = Model::open(&Opening {
                environment: &environment,
                file: &testing::data(file),
                threads: 1,
                num_lanes: None,
                models: &ModelStore::default(),
                scratch: None,
            })
            .unwrap()
            .remove(0);
            let (model, answer) = (lane.model().clone(), Map::new());
            let engine = TensorEngine {
                ports: model.inputs.clone(),
                model,
                answer,
                joins: OnceLock::new(),
                good: OnceLock::new(),
            };
            engine.warm_up(&mut lane, &Batch::default()).unwrap();
            assert_eq!(engine.joins(), joins, "{file}");
        }
    }
}
