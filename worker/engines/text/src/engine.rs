//! The stepping engine of every text encoder: takes calls, runs texts of several calls together, answers.
//!
//! Each step runs the model once. Texts wait in one queue, oldest first; [`choose`](crate::choose) picks what goes
//! together. A run that fails is repeated call by call, so that one bad input fails alone. A caller that has left, or a
//! deadline that has passed, takes its texts out of the queue.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use millstream_engine::{Call, LoadError, Progress, SteppingEngine};
use millstream_pipelines::{Batch, Task};
use millstream_proto::call::Reply;
use millstream_values::{CallError, ErrorClass, Value};

use crate::answer::{classified, embedded, ranked};
use crate::batch::{BatchLimits, TokenBatch, choose};
use crate::call::TextCall;
use crate::clock;
use crate::model::TextModel;
use crate::pool::normalize;
use crate::tokens::Tokens;

/// Tokens in one run when the deployment sets no `batch.max_tokens`.
const DEFAULT_MAX_TOKENS: usize = 16_384;
/// Texts looked at for one batch, in batches: more would only cost sorting.
const WINDOW_BATCHES: usize = 8;

/// Computes a model's numbers.
pub trait Encoder: Send {
    /// Runs the model once: for `embed` the pooled vectors (not yet normalised), for `rerank` and `classify` the head's
    /// raw outputs.
    ///
    /// # Errors
    /// [`EncoderError`] when this batch does not run; the engine then tries its calls one by one.
    fn run(&mut self, batch: &TokenBatch) -> Result<Rows, EncoderError>;

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
    encoder: E,
    limits: BatchLimits,
    labels: Vec<Value>,
    /// Numbers in a row, known after the first run.
    width: usize,
    jobs: BTreeMap<u64, Job>,
    next_job: u64,
    waiting: VecDeque<Row>,
}

/// A call under way.
struct Job {
    call: TextCall,
    reply: Reply,
    deadline: Option<Instant>,
    /// Row-major, filled as texts are run.
    rows: Vec<f32>,
    left: usize,
}

/// A text of a call that waits to be run.
struct Row {
    job: u64,
    index: usize,
    tokens: Tokens,
}

impl<E: Encoder> TextEngine<E> {
    /// An engine for `model` that runs at most `batch.max_size` texts and `batch.max_tokens` tokens at a time.
    #[must_use]
    pub fn new(model: TextModel, encoder: E, batch: &Batch) -> Self {
        let limits = BatchLimits {
            max_rows: (batch.max_size as usize).max(1),
            max_tokens: batch.max_tokens.map_or(DEFAULT_MAX_TOKENS, |max| max as usize),
        };
        let num_labels = if model.task == Task::Classify { model.config.num_labels() } else { 0 };
        let labels = (0..num_labels).map(|at| Value::from(model.config.label(at))).collect();
        Self {
            model,
            encoder,
            limits,
            labels,
            width: 0,
            jobs: BTreeMap::new(),
            next_job: 0,
            waiting: VecDeque::new(),
        }
    }

    /// Runs the model and checks the shape of what it gives.
    fn run(&mut self, batch: &TokenBatch) -> Result<Rows, EncoderError> {
        let rows = self.encoder.run(batch)?;
        if rows.data.len() != batch.rows * rows.width {
            let (found, expected) = (rows.data.len(), batch.rows * rows.width);
            return Err(EncoderError(format!("the model gave {found} numbers instead of {expected}")));
        }
        let expected = match self.model.task {
            Task::Rerank => 1,
            Task::Classify => self.labels.len(),
            _ if self.width > 0 => self.width,
            _ => rows.width,
        };
        if rows.width != expected {
            return Err(EncoderError(format!(
                "the model gives {} numbers a text, not {expected}",
                rows.width
            )));
        }
        self.width = rows.width;
        Ok(rows)
    }

    fn accept(&mut self, call: Call) {
        let parsed = match TextCall::parse(self.model.task, &call.inputs) {
            Ok(parsed) => parsed,
            Err(error) => return call.reply.finish(Err(error)),
        };
        let tokens = match self.model.encode(&parsed) {
            Ok(tokens) => tokens,
            Err(error) => return call.reply.finish(Err(failed("the tokenizer", &error))),
        };
        let id = self.next_job;
        self.next_job += 1;
        let left = tokens.len();
        let job = Job {
            call: parsed,
            reply: call.reply,
            deadline: call.deadline,
            rows: vec![0.0; left * self.width],
            left,
        };
        if left == 0 {
            return self.finish(job);
        }
        self.jobs.insert(id, job);
        self.waiting.extend(tokens.into_iter().enumerate().map(|(index, tokens)| Row {
            job: id,
            index,
            tokens,
        }));
    }

    /// Takes out calls that nobody waits for or that are too late.
    fn drop_dead(&mut self) {
        if self.jobs.is_empty() {
            return;
        }
        let now = clock::now();
        let dead: Vec<u64> = self
            .jobs
            .iter()
            .filter(|(_, job)| {
                job.reply.is_cancelled() || job.deadline.is_some_and(|deadline| deadline <= now)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in dead {
            self.fail(
                id,
                CallError::started(ErrorClass::DeadlineExceeded, "the deadline passed before the model ran"),
            );
        }
    }

    fn fail(&mut self, id: u64, error: CallError) {
        if let Some(job) = self.jobs.remove(&id) {
            job.reply.finish(Err(error));
        }
        self.waiting.retain(|row| row.job != id);
    }

    /// Takes the next rows out of the queue.
    fn next_rows(&mut self) -> Vec<Row> {
        let window = self.waiting.len().min(self.limits.max_rows.saturating_mul(WINDOW_BATCHES));
        let lengths: Vec<usize> = self.waiting.iter().take(window).map(|row| row.tokens.len()).collect();
        let chosen = choose(&lengths, self.limits);
        // From the back, so that earlier places stay valid.
        let mut rows: Vec<Row> = chosen.iter().rev().filter_map(|&at| self.waiting.remove(at)).collect();
        rows.reverse();
        rows
    }

    fn run_rows(&mut self, rows: &[Row]) {
        let batch = TokenBatch::of(rows.iter().map(|row| &row.tokens), self.model.tokenizer.pad_id());
        match self.run(&batch) {
            Ok(outcome) => self.scatter(rows, outcome),
            Err(error) => self.run_call_by_call(rows, &error),
        }
    }

    /// After a failed run: every call's texts by themselves; a call whose texts fail again fails.
    fn run_call_by_call(&mut self, rows: &[Row], first: &EncoderError) {
        let mut calls: BTreeMap<u64, Vec<&Row>> = BTreeMap::new();
        for row in rows {
            calls.entry(row.job).or_default().push(row);
        }
        let alone = calls.len() == 1;
        for (id, own) in calls {
            let outcome = if alone {
                Err(first.clone())
            } else {
                let batch = TokenBatch::of(own.iter().map(|row| &row.tokens), self.model.tokenizer.pad_id());
                self.run(&batch)
            };
            match outcome {
                Ok(outcome) => self.scatter(own, outcome),
                Err(error) => self.fail(id, failed("the model", &error.0)),
            }
        }
    }

    /// Puts a run's rows into their calls and answers those that are complete.
    fn scatter<'a>(&mut self, rows: impl IntoIterator<Item = &'a Row>, mut outcome: Rows) {
        let width = outcome.width;
        if self.model.task == Task::Embed && self.model.sentence.normalize {
            normalize(&mut outcome.data, width);
        }
        for (at, row) in rows.into_iter().enumerate() {
            let numbers = &mut outcome.data[at * width..(at + 1) * width];
            self.model.activation.apply(numbers);
            let Some(job) = self.jobs.get_mut(&row.job) else { continue };
            // The first run of all tells the width.
            job.rows.resize(job.call.num_rows() * width, 0.0);
            job.rows[row.index * width..(row.index + 1) * width].copy_from_slice(numbers);
            job.left -= 1;
            if job.left == 0
                && let Some(job) = self.jobs.remove(&row.job)
            {
                self.finish(job);
            }
        }
    }

    fn finish(&self, job: Job) {
        let answer = match &job.call {
            TextCall::Embed(call) => embedded(call.texts.len(), self.width, &job.rows)
                .map_err(|error| failed("the answer", &error.to_string())),
            TextCall::Rerank(call) => Ok(ranked(&call.documents, &job.rows, call.keep)),
            TextCall::Classify(_) => Ok(classified(&self.labels, &job.rows)),
        };
        job.reply.finish(answer);
    }
}

impl<E: Encoder> SteppingEngine for TextEngine<E> {
    fn warm_up(&mut self) -> Result<(), LoadError> {
        let broken =
            |reason: &str| LoadError::Model(format!("the model does not run: {reason}; check its files"));
        let short = self.model.tokenizer.encode("warm up").map_err(|error| broken(&error))?;
        // A short batch and a full, longer one: the shapes that first calls come in.
        let mut long = short.clone();
        long.ids =
            short.ids.iter().copied().cycle().take(32.min(self.model.tokenizer.max_tokens())).collect();
        long.type_ids = vec![0; long.ids.len()];
        for (tokens, rows) in [(&short, 1), (&long, self.limits.max_rows.min(8))] {
            let batch = TokenBatch::of(std::iter::repeat_n(tokens, rows), self.model.tokenizer.pad_id());
            self.run(&batch).map_err(|error| broken(&error.0))?;
        }
        Ok(())
    }

    fn step(&mut self, calls: Vec<Call>) -> Progress {
        for call in calls {
            self.accept(call);
        }
        self.drop_dead();
        let rows = self.next_rows();
        if !rows.is_empty() {
            self.run_rows(&rows);
        }
        if self.waiting.is_empty() {
            return Progress::Idle;
        }
        // New calls may join while the queue is short; beyond that they are better kept where others can take them.
        Progress::Busy { room: (2 * self.limits.max_rows).saturating_sub(self.waiting.len()) }
    }

    fn memory_bytes(&self) -> u64 {
        self.encoder.memory_bytes()
    }
}

/// A failure that is not the caller's fault: the reason goes to the log, the caller learns what failed.
fn failed(what: &str, reason: &str) -> CallError {
    tracing::warn!(error = reason, "a call failed in a text engine");
    CallError::started(ErrorClass::Internal, format!("{what} failed on these inputs"))
}

#[cfg(test)]
mod tests;
