//! Tiny models with weights by the formula of the reference values.

use std::collections::HashMap;
use std::path::Path;

use candle_core::Tensor;
use millstream_engine_tensors::testing::recipe_weight;
use serde_json::{Value as Json, json};

pub(super) const HIDDEN: usize = 16;

/// Names and shapes of an encoder's tensors.
fn encoder_shapes(prefix: &str, config: &Json) -> Vec<(String, Vec<usize>)> {
    let size = |key: &str| usize::try_from(config[key].as_u64().unwrap()).unwrap();
    let (hidden, inner) = (size("hidden_size"), size("intermediate_size"));
    let mut shapes = Vec::new();
    for (table, key) in
        [("word", "vocab_size"), ("position", "max_position_embeddings"), ("token_type", "type_vocab_size")]
    {
        shapes.push((format!("{prefix}embeddings.{table}_embeddings.weight"), vec![size(key), hidden]));
    }
    let mut layer = |name: String, shape: Vec<usize>| {
        shapes.push((format!("{name}.bias"), vec![shape[0]]));
        shapes.push((format!("{name}.weight"), shape));
    };
    layer(format!("{prefix}embeddings.LayerNorm"), vec![hidden]);
    for index in 0..size("num_hidden_layers") {
        let name = |part: &str| format!("{prefix}encoder.layer.{index}.{part}");
        for part in
            ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"]
        {
            layer(name(part), vec![hidden, hidden]);
        }
        layer(name("intermediate.dense"), vec![inner, hidden]);
        layer(name("output.dense"), vec![hidden, inner]);
        layer(name("attention.output.LayerNorm"), vec![hidden]);
        layer(name("output.LayerNorm"), vec![hidden]);
    }
    shapes
}

/// Writes `config.json` and `model.safetensors`.
pub(super) fn write(dir: &Path, config: &Json, prefix: &str, head: &[(&str, &[usize])]) {
    let mut shapes = encoder_shapes(prefix, config);
    for (name, shape) in head {
        shapes.push((format!("{name}.bias"), vec![shape[0]]));
        shapes.push((format!("{name}.weight"), shape.to_vec()));
    }
    let tensors: HashMap<String, Tensor> =
        shapes.into_iter().map(|(name, shape)| (name.clone(), recipe_weight(&name, &shape))).collect();
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    candle_core::safetensors::save(&tensors, dir.join("model.safetensors")).unwrap();
}

/// A BERT-shaped classifier with a tokenizer of nine words.
pub(super) fn write_bert(dir: &Path, num_labels: usize) {
    let labels = ["zero", "one", "two"];
    let id2label: serde_json::Map<String, Json> =
        (0..num_labels).map(|index| (index.to_string(), labels[index].into())).collect();
    let config = json!({
        "model_type": "bert", "vocab_size": 9, "hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 24, "max_position_embeddings": 32, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
        "id2label": id2label,
    });
    let head: [(&str, &[usize]); 2] =
        [("bert.pooler.dense", &[HIDDEN, HIDDEN]), ("classifier", &[num_labels, HIDDEN])];
    write(dir, &config, "bert.", &head);
    write_tokenizer(dir);
}

fn write_tokenizer(dir: &Path) {
    let words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "alpha", "beta", "gamma", "delta", "."];
    let vocabulary: serde_json::Map<String, Json> =
        words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), id.into())).collect();
    let special = |id: usize| json!({"id": words[id], "ids": [id], "tokens": [words[id]]});
    let piece = |id: &str, kind: usize| json!({"SpecialToken": {"id": id, "type_id": kind}});
    let text = |id: &str, kind: usize| json!({"Sequence": {"id": id, "type_id": kind}});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
        "decoder": null,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [piece("[CLS]", 0), text("A", 0), piece("[SEP]", 0)],
            "pair": [piece("[CLS]", 0), text("A", 0), piece("[SEP]", 0), text("B", 1), piece("[SEP]", 1)],
            "special_tokens": {"[CLS]": special(2), "[SEP]": special(3)},
        },
    });
    std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
}
