//! The same encoder written with candle's own operations on padded rectangles: what the kernels are compared with.

use candle_core::{Device, Tensor};
use candle_nn::ops::softmax_last_dim;
use millstream_engine_tensors::{Queries, Weights, with_f32};

use super::model;
use crate::bert::{Bert, Packed};
use crate::config::BertConfig;

pub(super) struct StockBert {
    tables: [Tensor; 3],
    norm: (Tensor, Tensor),
    layers: Vec<StockLayer>,
    config: BertConfig,
}

struct StockLayer {
    linear: Vec<(Tensor, Tensor)>,
    norms: Vec<(Tensor, Tensor)>,
}

impl StockBert {
    pub(super) fn load(weights: &Weights, prefix: &str, config: &BertConfig) -> Self {
        let get = |name: String| {
            let shape = weights.shape(&name).unwrap();
            weights.tensor(&name, &shape).unwrap()
        };
        let pair = |name: String| (get(format!("{name}.weight")), get(format!("{name}.bias")));
        let table = |name: &str| get(format!("{prefix}embeddings.{name}_embeddings.weight"));
        let layer = |index: usize| {
            let part = |name: &&str| pair(format!("{prefix}encoder.layer.{index}.{name}"));
            StockLayer {
                linear: [
                    "attention.self.query",
                    "attention.self.key",
                    "attention.self.value",
                    "attention.output.dense",
                    "intermediate.dense",
                    "output.dense",
                ]
                .iter()
                .map(part)
                .collect(),
                norms: ["attention.output.LayerNorm", "output.LayerNorm"].iter().map(part).collect(),
            }
        };
        Self {
            tables: ["word", "position", "token_type"].map(table),
            norm: pair(format!("{prefix}embeddings.LayerNorm")),
            layers: (0..config.num_layers).map(layer).collect(),
            config: config.clone(),
        }
    }

    /// Vectors of the last layer for `rows` texts of `tokens` tokens each, `[rows × tokens, hidden]`.
    pub(super) fn forward(&self, ids: &[u32], rows: usize, tokens: usize) -> Tensor {
        let (hidden, heads) = (self.config.hidden_size, self.config.num_heads);
        let ids = Tensor::from_slice(ids, rows * tokens, &Device::Cpu).unwrap();
        let positions: Vec<u32> = (0..rows).flat_map(|_| 0..u32::try_from(tokens).unwrap()).collect();
        let positions = Tensor::from_vec(positions, rows * tokens, &Device::Cpu).unwrap();
        let mut x = self.tables[0].index_select(&ids, 0).unwrap();
        x = (x + self.tables[1].index_select(&positions, 0).unwrap()).unwrap();
        x = x.broadcast_add(&self.tables[2].get(0).unwrap()).unwrap();
        x = self.normalised(&x, &self.norm);
        for layer in &self.layers {
            let linear = |x: &Tensor, index: usize| {
                let (weight, bias) = &layer.linear[index];
                x.matmul(&weight.t().unwrap()).unwrap().broadcast_add(bias).unwrap()
            };
            let split = |x: Tensor| {
                let x = x.reshape((rows, tokens, heads, hidden / heads)).unwrap();
                x.transpose(1, 2).unwrap().contiguous().unwrap()
            };
            let (q, k, v) = (split(linear(&x, 0)), split(linear(&x, 1)), split(linear(&x, 2)));
            let scale = 1.0 / f64::from(u32::try_from(hidden / heads).unwrap()).sqrt();
            let scores = (q.matmul(&k.t().unwrap()).unwrap() * scale).unwrap();
            let seen = softmax_last_dim(&scores).unwrap().matmul(&v).unwrap();
            let seen = seen.transpose(1, 2).unwrap().reshape((rows * tokens, hidden)).unwrap();
            x = self.normalised(&(linear(&seen, 3) + &x).unwrap(), &layer.norms[0]);
            let up = linear(&x, 4).gelu_erf().unwrap();
            x = self.normalised(&(linear(&up, 5) + &x).unwrap(), &layer.norms[1]);
        }
        x
    }

    fn normalised(&self, x: &Tensor, (weight, bias): &(Tensor, Tensor)) -> Tensor {
        candle_nn::ops::layer_norm(x, weight, bias, self.config.norm_epsilon).unwrap()
    }
}

#[test]
fn texts_end_to_end_give_what_candles_own_operations_give_for_each() {
    let dir = tempfile::tempdir().unwrap();
    model::write_bert(dir.path(), 1);
    let config = BertConfig::load(dir.path()).unwrap();
    let weights = Weights::open(dir.path()).unwrap();
    let stock = StockBert::load(&weights, "bert.", &config);
    let bert = Bert::load(&weights, "bert.", config).unwrap();
    let ids: Vec<u32> = (0..30).map(|index| index * 5 % 9).collect();
    let lengths = vec![12, 1, 17];
    let packed = Packed { ids: ids.clone(), type_ids: vec![0; 30], lengths: lengths.clone() };
    for threads in [1, 2] {
        let found =
            with_f32(&bert.forward(&packed, Queries::All, threads).unwrap(), <[f32]>::to_vec).unwrap();
        let first =
            with_f32(&bert.forward(&packed, Queries::First, threads).unwrap(), <[f32]>::to_vec).unwrap();
        let mut start = 0;
        for (index, &length) in lengths.iter().enumerate() {
            let expected = stock.forward(&ids[start..start + length], 1, length);
            let expected = expected.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
            assert!(close(&found[start * model::HIDDEN..], &expected), "text {index}");
            let row = &first[index * model::HIDDEN..(index + 1) * model::HIDDEN];
            assert!(close(row, &expected[..model::HIDDEN]), "first vector of text {index}");
            start += length;
        }
    }
}
