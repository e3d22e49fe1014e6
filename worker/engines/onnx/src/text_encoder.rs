//! Text encoders in ONNX: which inputs the graph takes tokens on, which output is the one, and pooling where the graph
//! leaves it to us.

use std::borrow::Cow;

use millstream_engine::LoadError;
use millstream_engine_text::{Company, Encoder, EncoderError, Pooling, Rows, TextModel, TokenBatch, pool};
use millstream_pipelines::{Element, Task};
use millstream_values::DType;
use ort::session::{SessionInputValue, SessionOutputs};
use ort::value::{DynValue, Tensor};

use crate::bridge::sizes;
use crate::model::{Lane, RunError};
use crate::port::Port;

/// An embedder, cross-encoder or classifier.
pub(crate) struct OnnxEncoder {
    lane: Lane,
    /// What goes to each input, in the model's order.
    feeds: Vec<Feed>,
    output: Port,
    pooling: Pooling,
}

/// What an input gets, as 64-bit (`wide`) or 32-bit integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Feed {
    what: What,
    wide: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Ids,
    Mask,
    TypeIds,
    Positions,
}

impl OnnxEncoder {
    /// An encoder out of a model for the task of `text`.
    ///
    /// # Errors
    /// [`LoadError::Unsupported`] when the graph's inputs or outputs are not a text encoder's.
    pub(crate) fn new(lane: Lane, text: &TextModel) -> Result<Self, LoadError> {
        let feeds = lane.model().inputs.iter().map(feed).collect::<Result<_, _>>()?;
        let output = choose_output(&lane.model().outputs, text.task)?.clone();
        Ok(Self { lane, feeds, output, pooling: text.sentence.pooling })
    }
}

fn feed(port: &Port) -> Result<Feed, LoadError> {
    let what = match port.name.as_str() {
        "input_ids" => What::Ids,
        "attention_mask" => What::Mask,
        "token_type_ids" => What::TypeIds,
        "position_ids" => What::Positions,
        _ => {
            return Err(LoadError::Unsupported(format!(
                "the model takes `{}: {port}`, which a text does not give; serve it with `task = \"tensor\"`",
                port.name
            )));
        }
    };
    match port.element {
        Element::Of(DType::I64) => Ok(Feed { what, wide: true }),
        Element::Of(DType::I32) => Ok(Feed { what, wide: false }),
        _ => Err(LoadError::Unsupported(format!(
            "the model takes `{}` as `{port}`, not as integers",
            port.name
        ))),
    }
}

/// The output to read: by name where names are customary, else by rank. Vectors of a text beat vectors of tokens; a
/// BERT's `pooler_output` is not a sentence's vector.
fn choose_output(outputs: &[Port], task: Task) -> Result<&Port, LoadError> {
    let named = |name: &str| outputs.iter().find(|port| port.name == name);
    let ranked =
        |rank: usize| outputs.iter().find(|port| port.dims.len() == rank && port.name != "pooler_output");
    let found = match task {
        Task::Embed => named("sentence_embedding")
            .or_else(|| named("last_hidden_state"))
            .or_else(|| ranked(3))
            .or_else(|| ranked(2)),
        _ => named("logits").or_else(|| ranked(2)).or_else(|| ranked(1)),
    };
    let usable = |port: &&Port| matches!(port.element, Element::Of(DType::F32 | DType::F16));
    found.filter(usable).ok_or_else(|| {
        let listed: Vec<String> = outputs.iter().map(|port| format!("`{}: {port}`", port.name)).collect();
        let wanted = if task == Task::Embed { "vectors of texts or tokens" } else { "`logits`" };
        LoadError::Unsupported(format!("the model gives {}, not {wanted} in f32 or f16", listed.join(", ")))
    })
}

impl Encoder for OnnxEncoder {
    fn run(&mut self, batch: &TokenBatch, company: Company) -> Result<Rows, EncoderError> {
        let Self { lane, feeds, output: port, pooling } = self;
        let values = feeds.iter().map(|feed| value(*feed, batch)).collect::<ort::Result<Vec<_>>>();
        let values = values.map_err(|error| EncoderError(error.message().to_owned()))?;
        let read = |outputs: &SessionOutputs<'_>| {
            let missing = || RunError::Failed(format!("output `{}` is missing", port.name));
            let (shape, numbers) = floats(outputs.get(&port.name).ok_or_else(missing)?, port.element)?;
            match shape[..] {
                [rows] if rows == batch.rows => Ok(Rows { width: 1, data: numbers.into_owned() }),
                [rows, width] if rows == batch.rows => Ok(Rows { width, data: numbers.into_owned() }),
                [rows, tokens, size] if rows == batch.rows && tokens == batch.width => {
                    Ok(Rows { width: size, data: pool(&numbers, batch, size, *pooling) })
                }
                _ => Err(RunError::Failed(format!(
                    "output `{}` has the shape {shape:?} for {} texts of {} tokens",
                    port.name, batch.rows, batch.width
                ))),
            }
        };
        lane.run_values(&values, company, read).map_err(|error| EncoderError(error.reason().to_owned()))
    }

    fn memory_bytes(&self) -> u64 {
        self.lane.model().num_bytes
    }
}

/// One input of the graph, `[rows, width]`.
fn value(feed: Feed, batch: &TokenBatch) -> ort::Result<SessionInputValue<'static>> {
    let shape = [batch.rows, batch.width];
    let width = u32::try_from(batch.width).unwrap_or(u32::MAX);
    let numbers: Cow<'_, [u32]> = match feed.what {
        What::Ids => Cow::Borrowed(&batch.ids),
        What::Mask => Cow::Borrowed(&batch.mask),
        What::TypeIds => Cow::Borrowed(&batch.type_ids),
        What::Positions => Cow::Owned((0..batch.rows).flat_map(|_| 0..width).collect()),
    };
    if feed.wide {
        let numbers: Vec<i64> = numbers.iter().copied().map(i64::from).collect();
        return Ok(Tensor::from_array((shape, numbers))?.into());
    }
    let numbers: Vec<i32> = numbers.iter().map(|&id| id.cast_signed()).collect();
    Ok(Tensor::from_array((shape, numbers))?.into())
}

/// An output's shape and numbers; borrowed from ONNX Runtime's memory where they are `f32`.
fn floats(output: &DynValue, element: Element) -> ort::Result<(Vec<usize>, Cow<'_, [f32]>)> {
    if element == Element::Of(DType::F16) {
        let (shape, numbers) = output.try_extract_tensor::<half::f16>()?;
        return Ok((sizes(shape)?, numbers.iter().map(|number| number.to_f32()).collect()));
    }
    let (shape, numbers) = output.try_extract_tensor::<f32>()?;
    Ok((sizes(shape)?, Cow::Borrowed(numbers)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::Dim;

    fn port(name: &str, dtype: DType, rank: usize) -> Port {
        Port::new(name, Element::Of(dtype), vec![Dim::Any(String::new()); rank])
    }

    #[test]
    fn the_output_is_chosen_by_name_then_by_rank() {
        let f32 = |name, rank| port(name, DType::F32, rank);
        let table = [
            (
                Task::Embed,
                vec![f32("last_hidden_state", 3), f32("pooler_output", 2)],
                Some("last_hidden_state"),
            ),
            (
                Task::Embed,
                vec![f32("token_embeddings", 3), f32("sentence_embedding", 2)],
                Some("sentence_embedding"),
            ),
            (Task::Embed, vec![f32("vectors", 2)], Some("vectors")),
            (Task::Embed, vec![f32("pooler_output", 2)], None),
            (Task::Embed, vec![port("last_hidden_state", DType::I64, 3)], None),
            (Task::Rerank, vec![f32("hidden", 3), f32("logits", 2)], Some("logits")),
            (Task::Rerank, vec![f32("score", 1)], Some("score")),
            (Task::Classify, vec![f32("hidden", 3)], None),
        ];
        for (task, outputs, expected) in table {
            let found = choose_output(&outputs, task);
            assert_eq!(found.as_ref().ok().map(|port| port.name.as_str()), expected, "{outputs:?}");
        }
    }

    #[test]
    fn inputs_that_a_text_does_not_give_are_refused() {
        assert_eq!(feed(&port("attention_mask", DType::I32, 2)), Ok(Feed { what: What::Mask, wide: false }));
        let error = feed(&port("pixel_values", DType::F32, 4)).unwrap_err().to_string();
        assert!(error.contains("`pixel_values: f32[?,?,?,?]`"), "{error}");
    }
}
