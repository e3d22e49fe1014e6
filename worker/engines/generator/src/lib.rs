//! Decoder-only generators (Llama and Qwen2 shapes) on candle, from safetensors, on the CPU.
//!
//! Several requests progress together, one token a step, each with its own cache. Kernels and reading of weights are
//! `millstream-engine-tensors`'; when work runs is the replica's.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests take real time"))]

mod config;
mod decoder;
mod engine;
mod failures;
mod rope;
mod sampler;
mod sequence;
mod stream;
mod template;
mod text_side;
mod unsupported;

use std::path::Path;
use std::sync::Arc;

use millstream_engine::{Engine, EngineFactory, LoadArgs, LoadError, Uncounted};
use millstream_engine_tensors::Weights;
use millstream_model_files::tokenizer_file;
use millstream_pipelines::{Device, Task};
use rayon::ThreadPoolBuilder;

use crate::config::DecoderConfig;
use crate::decoder::Decoder;
use crate::engine::GeneratorEngine;
use crate::template::ChatTemplate;
use crate::text_side::TextSide;

/// Makes engines that run Llama- and Qwen2-shaped models on the CPU.
#[derive(Debug, Default)]
pub struct GeneratorFactory;

impl GeneratorFactory {
    /// The factory; it holds nothing.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl EngineFactory for GeneratorFactory {
    fn name(&self) -> &'static str {
        "generator"
    }

    fn accepts(&self, args: &LoadArgs<'_>) -> Result<(), LoadError> {
        let dir = args.model_dir_for("generator")?;
        if args.spec.task != Task::Generate {
            return Err(LoadError::Unsupported("`generator` does the task `generate` only".to_owned()));
        }
        if args.spec.device == Device::Gpu {
            return Err(LoadError::Unsupported(
                "`generator` computes on the cpu in this build; set `device` to `cpu` or `auto`".to_owned(),
            ));
        }
        if !Weights::are_in(dir) {
            return Err(LoadError::Unsupported(format!("`{}` has no safetensors weights", dir.display())));
        }
        if !dir.join("tokenizer.json").is_file() {
            return Err(LoadError::Unsupported(format!("`{}` has no `tokenizer.json`", dir.display())));
        }
        DecoderConfig::load(dir).map(drop)
    }

    fn load(&self, args: &LoadArgs<'_>) -> Result<Engine, LoadError> {
        self.accepts(args)?;
        Ok(Engine::stepping(load(args.model_dir_for("generator")?, args)?))
    }
}

fn load(dir: &Path, args: &LoadArgs<'_>) -> Result<GeneratorEngine, LoadError> {
    (args.progress)("reading tokenizer and settings");
    let config = DecoderConfig::load(dir)?;
    let tokenizer = tokenizer_file(dir)?.map(|file| file.tokenizer).ok_or_else(|| {
        LoadError::Model(format!("`{}` has no `tokenizer.json`; fetch the model anew", dir.display()))
    })?;
    let vocabulary = tokenizer.get_vocab_size(true);
    if vocabulary > config.vocab_size {
        return Err(LoadError::Model(format!(
            "`tokenizer.json` has {vocabulary} tokens, but `config.json` says `vocab_size` {}; \
             they are of different models",
            config.vocab_size
        )));
    }
    let template = ChatTemplate::load(dir)?;
    (args.progress)("loading weights");
    let load = || Decoder::load(&Weights::open(dir)?, config);
    let decoder = args.models.get_or_load("generator", "", dir, load)?;
    let pool =
        (args.threads > 1).then(|| ThreadPoolBuilder::new().num_threads(args.threads).build()).transpose();
    let pool = pool.map_err(|error| {
        LoadError::NotInstalled(format!("cannot start {} threads: {error}", args.threads))
    })?;
    Ok(GeneratorEngine {
        watch: None,
        meter: Arc::new(Uncounted),
        decoder,
        text: TextSide { tokenizer, template },
        threads: args.threads,
        pool,
        max_sequences: (args.spec.batch.max_size as usize).max(1),
        active: Vec::new(),
    })
}

#[cfg(test)]
mod tests;
