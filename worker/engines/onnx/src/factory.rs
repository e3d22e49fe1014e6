//! The kind of engine: whether it would run a model, and loading one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use millstream_engine::{Engine, EngineFactory, LoadArgs, LoadError};
use millstream_engine_text::{TextEngine, TextModel};
use millstream_pipelines::{Device, Task};
use ort::environment::Environment;

use crate::library::{Places, places};
use crate::model::{Model, Opening};
use crate::runtime;
use crate::tensor_engine::TensorEngine;
use crate::text_encoder::OnnxEncoder;

/// Makes engines that run on ONNX Runtime.
#[derive(Debug, Clone)]
pub struct OnnxFactory {
    places: Places,
    /// Where files without a name go; `None` for the system's folder.
    scratch: Option<PathBuf>,
}

impl OnnxFactory {
    /// Looks for the library at `onnxruntime` (a file or folder, from the settings), else where the environment says and
    /// in the usual places; see [`places`]. `variable` gives a variable of the environment. Nothing is loaded before the
    /// first model.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "the settings hand the path over")]
    pub fn new(
        onnxruntime: Option<PathBuf>,
        data_dir: &Path,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Self {
        let places = places(onnxruntime.as_deref(), data_dir, variable);
        Self { places, scratch: Some(data_dir.to_path_buf()) }
    }

    /// Looks for the library in `places`.
    #[must_use]
    pub fn with_places(places: Places) -> Self {
        Self { places, scratch: None }
    }

    /// Loads the library if that has not been done, and gives ONNX Runtime's environment, of which a process can have
    /// only one: for those that call ONNX Runtime beside this engine, as benchmarks do.
    ///
    /// # Errors
    /// [`LoadError::NotInstalled`] when the library is not there or does not load.
    pub fn environment(&self) -> Result<Environment, LoadError> {
        runtime::environment(&self.places.find()?)
    }
}

impl EngineFactory for OnnxFactory {
    fn name(&self) -> &'static str {
        "onnx"
    }

    fn accepts(&self, args: &LoadArgs<'_>) -> Result<(), LoadError> {
        check_spec(args)?;
        let file = model_file(args)?;
        if args.spec.task != Task::Tensor && !tokenizer_dir(&file, args).join("tokenizer.json").is_file() {
            return Err(LoadError::Unsupported(format!(
                "`tokenizer.json` is missing beside `{}`; texts need it",
                file.display()
            )));
        }
        self.places.find().map(|_| ())
    }

    fn load(&self, args: &LoadArgs<'_>) -> Result<Engine, LoadError> {
        check_spec(args)?;
        let file = model_file(args)?;
        (args.progress)("loading ONNX Runtime");
        let environment = self.environment()?;
        let text = match args.spec.task {
            Task::Tensor => None,
            task => {
                let text = TextModel::load(&tokenizer_dir(&file, args), task)?;
                Some(text.with_prompts(&args.spec.inputs.prompts))
            }
        };
        (args.progress)(&format!("loading {}", file.file_name().unwrap_or_default().display()));
        let lanes = Model::open(&Opening {
            environment: &environment,
            file: &file,
            threads: args.threads.max(1),
            num_lanes: args.spec.lanes.map(|_| args.num_lanes()),
            models: args.models,
            scratch: self.scratch.as_deref(),
        })?;
        let Some(text) = text else {
            return Ok(Engine::lanes(TensorEngine::lanes(lanes, args.spec)?));
        };
        let encoders =
            lanes.into_iter().map(|lane| OnnxEncoder::new(lane, &text)).collect::<Result<_, _>>()?;
        Ok(Engine::lanes(TextEngine::lanes(text, encoders, &args.spec.batch)))
    }
}

/// Whether this engine does such deployments at all.
fn check_spec(args: &LoadArgs<'_>) -> Result<(), LoadError> {
    if matches!(args.spec.task, Task::Generate | Task::Custom) {
        return Err(LoadError::Unsupported(
            "the onnx engine does `embed`, `rerank`, `classify` and `tensor`; choose another engine for this task"
                .to_owned(),
        ));
    }
    if args.spec.device == Device::Gpu {
        return Err(LoadError::Unsupported(
            "the onnx engine computes on the CPU; set `device = \"auto\"` or `device = \"cpu\"`".to_owned(),
        ));
    }
    Ok(())
}

fn model_file(args: &LoadArgs<'_>) -> Result<PathBuf, LoadError> {
    let Some(dir) = &args.model_dir else {
        return Err(LoadError::Unsupported("the onnx engine needs a model; set `model`".to_owned()));
    };
    model_file_in(dir)
}

/// A model's file: the path itself, or the folder's `model.onnx`, `onnx/model.onnx`, or only `.onnx` file.
///
/// # Errors
/// [`LoadError::Unsupported`] where there is none, or there are several.
pub(crate) fn model_file_in(dir: &Path) -> Result<PathBuf, LoadError> {
    let is_onnx =
        |path: &Path| path.extension().is_some_and(|extension| extension == "onnx") && path.is_file();
    if is_onnx(dir) {
        return Ok(dir.to_path_buf());
    }
    for name in ["model.onnx", "onnx/model.onnx"] {
        let file = dir.join(name);
        if file.is_file() {
            return Ok(file);
        }
    }
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<PathBuf> = entries.filter(|path| is_onnx(path)).collect();
    match (found.pop(), found.is_empty()) {
        (Some(file), true) => Ok(file),
        (Some(_), false) => Err(LoadError::Unsupported(format!(
            "`{}` has several `.onnx` files and none is `model.onnx`; name one of them in `model`",
            dir.display()
        ))),
        (None, _) => Err(LoadError::Unsupported(format!("`{}` has no `model.onnx`", dir.display()))),
    }
}

/// Where the tokenizer and the settings are: the model's folder, also for a graph in a folder of its own.
fn tokenizer_dir(file: &Path, args: &LoadArgs<'_>) -> PathBuf {
    match &args.model_dir {
        Some(dir) if dir.is_dir() => dir.clone(),
        _ => file.parent().unwrap_or(Path::new(".")).to_path_buf(),
    }
}
