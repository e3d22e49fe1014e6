//! What all sessions of a model share: its weights, which are most of its memory. Without it each lane of each replica has a
//! copy.
//!
//! ONNX Runtime shares a weight only if it is handed in for each session, and takes it for the weight of that name *after* it has
//! optimised the graph, which may have transposed a weight in place. So the graph is optimised once, into a file without
//! a name; sessions are made from that file as it is, with its weights.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use bytemuck::{AnyBitPattern, NoUninit, Zeroable};
use half::{bf16, f16};
use millstream_values::DType;
use ort::environment::Environment;
use ort::session::builder::{GraphOptimizationLevel, PrepackedWeights, SessionBuilder};
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor};

use crate::outline::{Initializer, Outline};
use crate::session::{self, path_of, plain};

/// Smaller models are read for each session: that costs little, and they start sooner.
pub(crate) const MIN_SHARED_BYTES: u64 = 16 << 20;
/// Protobuf has no more in a file, so that ONNX Runtime could not write the graph.
const MAX_MODEL_BYTES: u64 = 2_000_000_000;
/// Smaller weights stay with their session.
const MIN_WEIGHT_BYTES: u64 = 4096;

/// See the module.
pub(crate) struct SharedModel {
    graph: File,
    weights: Vec<(String, Arc<DynValue>)>,
    packed: PrepackedWeights,
}

impl SharedModel {
    /// Whether sessions of a model of so many bytes share, if its weights are in its own file.
    pub(crate) fn is_worth_it(num_bytes: u64) -> bool {
        cfg!(target_os = "linux") && (MIN_SHARED_BYTES..=MAX_MODEL_BYTES).contains(&num_bytes)
    }

    /// Optimises the graph in `file`; `scratch` is a folder for the result.
    ///
    /// # Errors
    /// ONNX Runtime's, and those of the file system.
    pub(crate) fn of(environment: &Environment, file: &Path, scratch: Option<&Path>) -> ort::Result<Self> {
        let graph =
            scratch.map_or_else(tempfile::tempfile, tempfile::tempfile_in).map_err(ort::Error::wrap)?;
        let path = path_of(&graph, Path::new(""));
        drop(
            session::builder(environment, 1)?
                .with_optimization_level(GraphOptimizationLevel::Level3)
                .map_err(plain)?
                .with_optimized_model_path(&path)
                .map_err(plain)?
                // It runs nothing.
                .with_config_entry("session.disable_prepacking", "1")
                .map_err(plain)?
                .commit_from_file(file)?,
        );
        let weights = read_weights(&graph).map_err(ort::Error::wrap)?;
        Ok(Self { graph, weights, packed: PrepackedWeights::new() })
    }

    /// A session for `threads` threads.
    ///
    /// # Errors
    /// ONNX Runtime's.
    pub(crate) fn session(
        &self,
        environment: &Environment,
        threads: usize,
    ) -> ort::Result<ort::session::Session> {
        let mut builder: SessionBuilder = session::builder(environment, threads)?
            .with_prepacked_weights(&self.packed)
            .map_err(plain)?
            .with_optimization_level(GraphOptimizationLevel::Disable)
            .map_err(plain)?;
        for (name, weight) in &self.weights {
            builder = builder.with_initializer(name, weight.clone()).map_err(plain)?;
        }
        builder.commit_from_file(path_of(&self.graph, Path::new("")))
    }
}

/// The weights of a graph that sessions can share.
fn read_weights(graph: &File) -> io::Result<Vec<(String, Arc<DynValue>)>> {
    let outline = Outline::read(graph)?;
    let mut num_uses: HashMap<&str, usize> = HashMap::new();
    let inputs = outline.inputs.iter().map(|input| &input.name);
    let names = outline.initializers.iter().map(|weight| &weight.name).chain(inputs);
    names.for_each(|name| *num_uses.entry(name).or_default() += 1);
    let mut source = BufReader::new(graph);
    let mut weights = Vec::new();
    for weight in &outline.initializers {
        // A name that is there twice may mean either; one that is an input as well may be replaced by a call.
        if weight.is_of_main_graph
            && num_uses[weight.name.as_str()] == 1
            && let Some(value) = read_weight(&mut source, weight)?
        {
            weights.push((weight.name.clone(), Arc::new(value)));
        }
    }
    Ok(weights)
}

/// `None` for one that each session has by itself.
fn read_weight(source: &mut BufReader<&File>, weight: &Initializer) -> io::Result<Option<DynValue>> {
    match weight.dtype {
        Some(DType::F32) => read_as::<f32>(source, weight),
        Some(DType::U8) => read_as::<u8>(source, weight),
        Some(DType::I8) => read_as::<i8>(source, weight),
        Some(DType::U16) => read_as::<u16>(source, weight),
        Some(DType::I16) => read_as::<i16>(source, weight),
        Some(DType::I32) => read_as::<i32>(source, weight),
        Some(DType::I64) => read_as::<i64>(source, weight),
        Some(DType::F16) => read_as::<f16>(source, weight),
        Some(DType::F64) => read_as::<f64>(source, weight),
        Some(DType::U32) => read_as::<u32>(source, weight),
        Some(DType::U64) => read_as::<u64>(source, weight),
        Some(DType::BF16) => read_as::<bf16>(source, weight),
        Some(DType::Bool) | None => Ok(None),
    }
}

fn read_as<T>(source: &mut BufReader<&File>, weight: &Initializer) -> io::Result<Option<DynValue>>
where
    T: PrimitiveTensorElementType + AnyBitPattern + NoUninit + Zeroable + std::fmt::Debug + 'static,
{
    let Some(place) = &weight.raw_data else { return Ok(None) };
    let num_bytes = place.end - place.start;
    let num_elements =
        weight.dims.iter().try_fold(1_u64, |product, &dim| product.checked_mul(u64::try_from(dim).ok()?));
    let size = size_of::<T>() as u64;
    if num_bytes < MIN_WEIGHT_BYTES
        || num_elements.and_then(|number| number.checked_mul(size)) != Some(num_bytes)
    {
        return Ok(None);
    }
    let mut elements = vec![T::zeroed(); usize::try_from(num_bytes / size).map_err(io::Error::other)?];
    source.seek(SeekFrom::Start(place.start))?;
    source.read_exact(bytemuck::cast_slice_mut(&mut elements))?;
    let tensor = Tensor::from_array((weight.dims.clone(), elements)).map_err(io::Error::other)?;
    Ok(Some(tensor.into_dyn()))
}

#[cfg(test)]
mod tests {
    use ort::session::Session;

    use super::*;
    use crate::testing::{self, field};

    fn run(session: &mut Session) -> Vec<f32> {
        let elements: Vec<f32> = (0..2 * 64 * 32).map(|element: u16| f32::from(element) / 7.0).collect();
        let x = Tensor::from_array(([2_usize, 64, 32], elements)).unwrap();
        let outputs = session.run(ort::inputs!["x" => x]).unwrap();
        outputs["y"].try_extract_tensor::<f32>().unwrap().1.to_vec()
    }

    #[test]
    fn a_weight_that_is_rewritten_in_place_is_shared_as_it_then_is() {
        let Some(environment) = testing::environment() else { return };
        let file = testing::data("transposed.onnx");
        let expected = run(&mut session::of_file(&environment, 1, &file).unwrap());
        let shared = SharedModel::of(&environment, &file, None).unwrap();
        let shape = shared.weights[0].1.shape().to_vec();
        assert_eq!((shared.weights.len(), shape), (1, vec![1, 64, 32]), "transposed");
        for threads in [1, 2] {
            assert_eq!(run(&mut shared.session(&environment, threads).unwrap()), expected);
        }
    }

    #[test]
    fn what_could_mean_two_weights_or_has_no_such_size_is_not_shared() {
        let Some(_) = testing::environment() else { return };
        let weight = |name: &str, dims: &[i64]| {
            let raw = vec![0_u8; 8192];
            let dims: Vec<_> = dims.iter().map(|&dim| u8::try_from(dim).unwrap()).collect();
            [field(1, &dims), vec![2 << 3, 1], field(8, name.as_bytes()), field(9, &raw)].concat()
        };
        let shared = |graph: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            io::Write::write_all(&mut file, &field(7, graph)).unwrap();
            let names = read_weights(&file).unwrap();
            names.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        let good = field(5, &weight("w", &[64, 32]));
        assert_eq!(shared(&good), ["w"]);
        assert_eq!(shared(&[good.clone(), good.clone()].concat()), [""; 0], "twice");
        assert_eq!(shared(&[good.clone(), field(11, &field(1, b"w"))].concat()), [""; 0], "an input as well");
        let within = field(1, &field(5, &field(6, &good)));
        assert_eq!(shared(&within), [""; 0], "of a graph within");
        assert_eq!(shared(&[good, within].concat()), [""; 0], "there too");
        assert_eq!(shared(&field(5, &weight("w", &[64, 33]))), [""; 0], "cut off");
    }
}
