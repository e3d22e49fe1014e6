//! BERT-family embedders, cross-encoders and classifiers on candle, from safetensors: the engine that needs nothing
//! but the model's files.
//!
//! It computes numbers only. Tokens, batches, calls and answers are `millstream-engine-text`'s; kernels and reading of
//! weights are `millstream-engine-tensors`'.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests take real time"))]

mod bert;
mod config;
mod encoder;
mod head;

use millstream_engine::{Engine, EngineFactory, LoadArgs, LoadError};
use millstream_engine_tensors::Weights;
use millstream_engine_text::{TextEngine, TextModel};
use millstream_pipelines::{Device, Task};

use crate::config::BertConfig;
use crate::encoder::{BertEncoder, Model};

/// Makes engines that run BERT- and RoBERTa-shaped models on the CPU.
#[derive(Debug, Default)]
pub struct CandleFactory;

impl CandleFactory {
    /// The factory; it holds nothing.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl EngineFactory for CandleFactory {
    fn name(&self) -> &'static str {
        "candle"
    }

    fn accepts(&self, args: &LoadArgs<'_>) -> Result<(), LoadError> {
        let dir = args.model_dir_for("candle")?;
        if !matches!(args.spec.task, Task::Embed | Task::Rerank | Task::Classify) {
            return Err(LoadError::Unsupported(
                "`candle` does the tasks `embed`, `rerank` and `classify`; `generator` writes text"
                    .to_owned(),
            ));
        }
        if args.spec.device == Device::Gpu {
            return Err(LoadError::Unsupported(
                "`candle` computes on the cpu in this build; set `device` to `cpu` or `auto`".to_owned(),
            ));
        }
        if !Weights::are_in(dir) {
            return Err(LoadError::Unsupported(format!("`{}` has no safetensors weights", dir.display())));
        }
        if !dir.join("tokenizer.json").is_file() {
            return Err(LoadError::Unsupported(format!("`{}` has no `tokenizer.json`", dir.display())));
        }
        BertConfig::load(dir).map(drop)
    }

    fn load(&self, args: &LoadArgs<'_>) -> Result<Engine, LoadError> {
        self.accepts(args)?;
        let dir = args.model_dir_for("candle")?;
        (args.progress)("reading tokenizer and settings");
        let model = TextModel::load(dir, args.spec.task)?.with_prompts(&args.spec.inputs.prompts);
        (args.progress)("loading weights");
        // A number of labels is as much of the task as its name.
        let part = format!("{:?} {}", model.task, model.config.num_labels());
        let weights = args.models.get_or_load(self.name(), part, dir, || Model::load(dir, &model))?;
        let encoder = BertEncoder::new(weights, args.threads)?;
        let encoders = vec![encoder; args.num_lanes()];
        Ok(Engine::lanes(TextEngine::lanes(model, encoders, &args.spec.batch)))
    }
}

#[cfg(test)]
mod tests;
