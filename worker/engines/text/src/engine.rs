//! The engine of every text encoder: takes calls apart into texts, runs texts of several calls together, answers.
//!
//! Which texts run together, and when, is decided by [`Batched`]; here is what a batch of them means to the model.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};

use millstream_batching::{BatchEngine, Batched, Company, Preparing, Shape};
use millstream_engine::LoadError;
use millstream_pipelines::{Batch, Task};
use millstream_values::{CallError, Value};

use crate::answer::{classified, embedded, failed, ranked, top_labels};
use crate::batch::TokenBatch;
use crate::call::TextCall;
use crate::cut::Cut;
use crate::model::TextModel;
use crate::pool::normalize;
use crate::tokens::Tokens;

/// Computes a model's numbers, one batch at a time. An engine has one for each of its lanes.
pub trait Encoder: Send + 'static {
    /// Runs the model once: for `embed` the pooled vectors (not yet normalised), for `rerank` and `classify` the head's
    /// raw outputs.
    ///
    /// # Errors
    /// [`EncoderError`] when this batch does not run; the engine then tries its calls one by one.
    fn run(&mut self, batch: &TokenBatch, company: Company) -> Result<Rows, EncoderError>;

    /// Bytes of memory that the model holds, as far as is known.
    fn memory_bytes(&self) -> u64;
}

/// One row of numbers per text.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Numbers in a row.
    pub width: usize,
    /// Row-major `[rows, width]`.
    pub data: Vec<f32>,
}

/// Why a batch did not run, for operators: it is logged, clients see only that the model failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EncoderError(pub String);

/// An embedder, cross-encoder or classifier on some [`Encoder`].
pub struct TextEngine<E> {
    model: TextModel,
    labels: Vec<Value>,
    /// Numbers in a row, known after the first run.
    width: AtomicUsize,
    memory_bytes: u64,
    encoder: PhantomData<fn() -> E>,
}

/// A call under way.
pub struct TextJob {
    call: TextCall,
    /// Row-major, filled as texts are run.
    rows: Vec<f32>,
}

/// A text of a call, ready to be run.
pub struct TextPart {
    index: usize,
    tokens: Tokens,
}

impl<E: Encoder> TextEngine<E> {
    /// What serves calls to `model`: a lane for each of these encoders.
    #[must_use]
    pub fn lanes(model: TextModel, encoders: Vec<E>, batch: &Batch) -> Vec<Batched<Self>> {
        let num_labels = if model.task == Task::Classify { model.config.num_labels() } else { 0 };
        let labels = (0..num_labels).map(|at| Value::from(model.config.label(at))).collect();
        let memory_bytes = encoders.first().map_or(0, Encoder::memory_bytes);
        let engine = Self { model, labels, width: AtomicUsize::new(0), memory_bytes, encoder: PhantomData };
        Batched::lanes(engine, encoders, batch.clone())
    }

    fn width(&self) -> usize {
        self.width.load(Ordering::Relaxed)
    }

    /// Runs the model and checks the shape of what it gives.
    fn run_batch(&self, encoder: &mut E, batch: &TokenBatch, company: Company) -> Result<Rows, EncoderError> {
        let rows = encoder.run(batch, company)?;
        if rows.data.len() != batch.rows * rows.width {
            let (found, expected) = (rows.data.len(), batch.rows * rows.width);
            return Err(EncoderError(format!("the model gave {found} numbers instead of {expected}")));
        }
        let expected = match self.model.task {
            Task::Rerank => 1,
            Task::Classify => self.labels.len(),
            _ if self.width() > 0 => self.width(),
            _ => rows.width,
        };
        if rows.width != expected {
            return Err(EncoderError(format!(
                "the model gives {} numbers a text, not {expected}",
                rows.width
            )));
        }
        self.width.store(rows.width, Ordering::Relaxed);
        Ok(rows)
    }
}

impl<E: Encoder> BatchEngine for TextEngine<E> {
    type Lane = E;
    type Call = TextJob;
    type Part = TextPart;
    type Outcome = Rows;

    const DEFAULT_MAX_TOKENS: usize = 16_384;

    fn warm_up(&self, encoder: &mut E, batch: &Batch) -> Result<(), LoadError> {
        let broken =
            |reason: &str| LoadError::Model(format!("the model does not run: {reason}; check its files"));
        let short = self
            .model
            .tokenizer
            .encode("warm up", Cut::default())
            .map_err(|error| broken(&format!("{error:?}")))?;
        // A short batch and a full, longer one: the shapes that first calls come in.
        let mut long = short.clone();
        long.ids =
            short.ids.iter().copied().cycle().take(32.min(self.model.tokenizer.max_tokens())).collect();
        long.type_ids = vec![0; long.ids.len()];
        for (tokens, rows) in [(&short, 1), (&long, batch.max_size.clamp(1, 8) as usize)] {
            let batch = TokenBatch::of(std::iter::repeat_n(tokens, rows), self.model.tokenizer.pad_id());
            for company in [Company::Alone, Company::Others] {
                self.run_batch(encoder, &batch, company).map_err(|error| broken(&error.0))?;
            }
        }
        Ok(())
    }

    fn prepare(
        &self,
        inputs: Value,
        preparing: Preparing<'_>,
    ) -> Result<(TextJob, Vec<TextPart>), CallError> {
        let call = TextCall::parse(self.model.task, &inputs)?;
        let tokens = self.model.encode(&call, || preparing.go_on())?;
        let rows = vec![0.0; tokens.len() * self.width()];
        let parts = tokens.into_iter().enumerate().map(|(index, tokens)| TextPart { index, tokens });
        Ok((TextJob { call, rows }, parts.collect()))
    }

    fn shape(&self, part: &TextPart) -> Shape {
        Shape { inputs: 1, tokens: part.tokens.len(), group: Some(0) }
    }

    fn run(&self, encoder: &mut E, parts: &[&TextPart], company: Company) -> Result<Rows, CallError> {
        let batch = TokenBatch::of(parts.iter().map(|part| &part.tokens), self.model.tokenizer.pad_id());
        let mut rows =
            self.run_batch(encoder, &batch, company).map_err(|error| failed("the model", &error.0))?;
        if self.model.task == Task::Embed && self.model.sentence.normalize {
            normalize(&mut rows.data, rows.width);
        }
        rows.data.chunks_exact_mut(rows.width.max(1)).for_each(|row| self.model.activation.apply(row));
        Ok(rows)
    }

    fn fill(&self, job: &mut TextJob, part: &TextPart, outcome: &mut Rows, at: usize) {
        let width = outcome.width;
        // The first run of all tells the width.
        job.rows.resize(job.call.num_rows() * width, 0.0);
        job.rows[part.index * width..(part.index + 1) * width]
            .copy_from_slice(&outcome.data[at * width..(at + 1) * width]);
    }

    fn finish(&self, job: TextJob) -> Result<Value, CallError> {
        match &job.call {
            TextCall::Embed(call) => embedded(call.texts.len(), self.width(), job.rows)
                .map_err(|error| failed("the answer", &error.to_string())),
            TextCall::Rerank(call) => Ok(ranked(&call.documents, &job.rows, call.keep)),
            TextCall::Classify(call) => Ok(match call.top_k {
                None => classified(&self.labels, &job.rows),
                Some(top_k) => top_labels(&self.labels, &job.rows, top_k),
            }),
            TextCall::Tokens(call) => self.model.answer_tokens(call),
        }
    }

    fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }
}

#[cfg(test)]
mod tests;
