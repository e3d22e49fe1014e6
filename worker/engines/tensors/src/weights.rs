//! Weights of a model in safetensors, in one file or several, as `f32` tensors whose shapes are checked.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use candle_core::safetensors::BufferedSafetensors;
use candle_core::{DType, Device, Tensor};
use millstream_engine::LoadError;
use millstream_model_files::{json, open, unreadable};
use serde::Deserialize;

const ONE_FILE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Largest header of a safetensors file.
const MAX_HEADER_BYTES: u64 = 16 << 20;

/// The tensors of a model's folder, in memory while this lives.
pub struct Weights {
    files: Vec<BufferedSafetensors>,
    /// Which file has the tensor of that name.
    file_of: BTreeMap<String, usize>,
    source: String,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// Whether the folder has weights that [`Weights::open`] would look at.
    #[must_use]
    pub fn are_in(dir: &Path) -> bool {
        dir.join(ONE_FILE).is_file() || dir.join(INDEX).is_file()
    }

    /// Reads `model.safetensors`, or the files that `model.safetensors.index.json` names. They are read and not mapped, as
    /// nobody can keep others from changing them. Headers larger than 16 MiB are refused.
    ///
    /// # Errors
    /// [`LoadError::Model`] when a file is missing, outside the folder, or not in that format.
    pub fn open(dir: &Path) -> Result<Self, LoadError> {
        let (source, paths) = files_of(dir)?;
        let (mut files, mut file_of) = (Vec::new(), BTreeMap::new());
        for path in &paths {
            let file = BufferedSafetensors::new(read(path)?).map_err(|error| {
                LoadError::Model(format!("`{}` is not a safetensors file: {error}", path.display()))
            })?;
            file_of.extend(file.tensors().into_iter().map(|(name, _)| (name, files.len())));
            files.push(file);
        }
        Ok(Self { files, file_of, source })
    }

    /// Whether there is a tensor of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.file_of.contains_key(name)
    }

    fn file(&self, name: &str) -> Option<&BufferedSafetensors> {
        self.file_of.get(name).map(|&file| &self.files[file])
    }

    /// The sizes of a tensor's axes, if there is one of that name.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.file(name)?.get(name).ok().map(|view| view.shape().to_vec())
    }

    /// The tensor of that name as `f32` on the CPU; f16, bf16 and f64 are converted.
    ///
    /// # Errors
    /// [`LoadError::Model`] when it is missing or of another shape than the configuration says,
    /// [`LoadError::Unsupported`] when its elements are no floating-point numbers.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, LoadError> {
        let missing = || {
            LoadError::Model(format!(
                "`{}` has no tensor `{name}`, which `config.json` asks for (shape {shape:?})",
                self.source
            ))
        };
        let file = self.file(name).ok_or_else(missing)?;
        let view = file.get(name).map_err(|_| missing())?;
        if view.shape() != shape {
            return Err(LoadError::Model(format!(
                "`{}`: tensor `{name}` has shape {:?}, but `config.json` says {shape:?}",
                self.source,
                view.shape()
            )));
        }
        let broken = |error| LoadError::Model(format!("`{}`: tensor `{name}`: {error}", self.source));
        let tensor = file.load(name, &Device::Cpu).map_err(broken)?;
        match tensor.dtype() {
            DType::F32 | DType::F16 | DType::BF16 | DType::F64 => {
                tensor.to_dtype(DType::F32).and_then(|tensor| tensor.contiguous()).map_err(broken)
            }
            other => Err(LoadError::Unsupported(format!(
                "`{}`: tensor `{name}` is {other:?}; give weights as f32, f16 or bf16",
                self.source
            ))),
        }
    }
}

fn files_of(dir: &Path) -> Result<(String, Vec<PathBuf>), LoadError> {
    let one = dir.join(ONE_FILE);
    if one.is_file() {
        return Ok((one.display().to_string(), vec![one]));
    }
    let index_path = dir.join(INDEX);
    if !index_path.is_file() {
        return Err(LoadError::Model(format!("`{}` has no `{ONE_FILE}` and no `{INDEX}`", dir.display())));
    }
    let index: Index = json(dir, INDEX)?;
    let names: BTreeSet<&String> = index.weight_map.values().collect();
    if let Some(outside) = names.iter().find(|name| name.contains(['/', '\\']) || name.starts_with('.')) {
        return Err(LoadError::Model(format!(
            "`{}` names the file `{outside}`; only files in the model's own folder are read",
            index_path.display()
        )));
    }
    if names.is_empty() {
        return Err(LoadError::Model(format!("`{}` names no files", index_path.display())));
    }
    Ok((index_path.display().to_string(), names.into_iter().map(|name| dir.join(name)).collect()))
}

/// The bytes of a safetensors file, which begins with the length of its JSON header.
fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let failed = |error| unreadable(path, &error);
    let mut file = open(path)?;
    let size = file.metadata().map_err(failed)?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(failed)?;
    let header = u64::from_le_bytes(length);
    if header > MAX_HEADER_BYTES {
        return Err(LoadError::Model(format!(
            "`{}` is not a safetensors file, or has a header of {header} bytes; the most is {MAX_HEADER_BYTES}",
            path.display()
        )));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    bytes.extend(length);
    // No more than there was: a file that grows meanwhile is not what was looked at.
    file.take(size.saturating_sub(8)).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn save(dir: &Path, name: &str, tensors: &[(&str, Tensor)]) {
        let map: HashMap<&str, Tensor> = tensors.iter().cloned().collect();
        candle_core::safetensors::save(&map, dir.join(name)).unwrap();
    }

    #[test]
    fn half_precision_becomes_f32_and_a_wrong_shape_is_told_with_both_shapes() {
        let dir = tempfile::tempdir().unwrap();
        let half =
            Tensor::new(&[[1.0f32, 2.5], [0.25, -3.0]], &Device::Cpu).unwrap().to_dtype(DType::F16).unwrap();
        save(dir.path(), ONE_FILE, &[("a.weight", half)]);
        let weights = Weights::open(dir.path()).unwrap();
        let loaded = weights.tensor("a.weight", &[2, 2]).unwrap();
        assert_eq!(loaded.to_vec2::<f32>().unwrap(), [[1.0, 2.5], [0.25, -3.0]]);
        let error = weights.tensor("a.weight", &[2, 3]).unwrap_err().to_string();
        assert!(
            error.contains("tensor `a.weight` has shape [2, 2], but `config.json` says [2, 3]"),
            "{error}"
        );
        let error = weights.tensor("b.weight", &[2]).unwrap_err().to_string();
        assert!(error.contains("has no tensor `b.weight`"), "{error}");
    }

    #[test]
    fn several_files_are_found_by_their_index_and_only_in_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let one = Tensor::new(&[1.0f32], &Device::Cpu).unwrap();
        save(dir.path(), "x-1.safetensors", &[("a", one.clone())]);
        save(dir.path(), "x-2.safetensors", &[("b", one)]);
        let index = r#"{"weight_map": {"a": "x-1.safetensors", "b": "x-2.safetensors"}}"#;
        std::fs::write(dir.path().join(INDEX), index).unwrap();
        let weights = Weights::open(dir.path()).unwrap();
        assert!(weights.has("a") && weights.tensor("b", &[1]).is_ok());
        std::fs::write(dir.path().join(INDEX), r#"{"weight_map": {"a": "../x.safetensors"}}"#).unwrap();
        let error = Weights::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("only files in the model's own folder"), "{error}");
    }

    #[test]
    fn a_huge_header_and_a_file_of_another_kind_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(ONE_FILE);
        std::fs::write(&path, (MAX_HEADER_BYTES + 1).to_le_bytes()).unwrap();
        let error = Weights::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("header of 16777217 bytes"), "{error}");
        std::fs::write(&path, b"\x04\0\0\0\0\0\0\0nope").unwrap();
        let error = Weights::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("is not a safetensors file"), "{error}");
    }
}
