//! Tiny models with weights by the formula of the reference values, and a tokenizer whose tokens are bytes.

use std::collections::HashMap;
use std::path::Path;

use candle_core::Tensor;
use millstream_engine_tensors::testing::recipe_weight;
use serde_json::{Value as Json, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

pub(super) const CONTEXT: usize = 512;

/// Writes `config.json` and `model.safetensors` of a model of that shape.
pub(super) fn write_weights(dir: &Path, config: &Json) {
    let size = |key: &str| usize::try_from(config[key].as_u64().unwrap()).unwrap();
    let has = |key: &str| config[key].as_bool().unwrap_or(false);
    let (hidden, inner) = (size("hidden_size"), size("intermediate_size"));
    let head = hidden / size("num_attention_heads");
    let kv = size("num_key_value_heads") * head;
    let qwen2 = config["model_type"] == "qwen2";
    let (qkv_bias, out_bias, mlp_bias) =
        (qwen2 || has("attention_bias"), has("attention_bias"), has("mlp_bias"));
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("model.embed_tokens.weight".to_owned(), vec![size("vocab_size"), hidden]),
        ("model.norm.weight".to_owned(), vec![hidden]),
        ("lm_head.weight".to_owned(), vec![size("vocab_size"), hidden]),
    ];
    for index in 0..size("num_hidden_layers") {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        shapes.push((name("input_layernorm.weight"), vec![hidden]));
        shapes.push((name("post_attention_layernorm.weight"), vec![hidden]));
        for (part, shape, bias) in [
            ("self_attn.q_proj", [hidden, hidden], qkv_bias),
            ("self_attn.k_proj", [kv, hidden], qkv_bias),
            ("self_attn.v_proj", [kv, hidden], qkv_bias),
            ("self_attn.o_proj", [hidden, hidden], out_bias),
            ("mlp.gate_proj", [inner, hidden], mlp_bias),
            ("mlp.up_proj", [inner, hidden], mlp_bias),
            ("mlp.down_proj", [hidden, inner], mlp_bias),
        ] {
            if bias {
                shapes.push((name(&format!("{part}.bias")), vec![shape[0]]));
            }
            shapes.push((name(&format!("{part}.weight")), shape.to_vec()));
        }
    }
    let tensors: HashMap<String, Tensor> =
        shapes.into_iter().map(|(name, shape)| (name.clone(), recipe_weight(&name, &shape))).collect();
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    candle_core::safetensors::save(&tensors, dir.join("model.safetensors")).unwrap();
}

/// Writes a Llama-shaped model that knows bytes; `end_tokens` end its answers.
pub(super) fn write(dir: &Path, end_tokens: &[u32]) {
    let config = json!({
        "model_type": "llama", "vocab_size": 260, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0, "eos_token_id": end_tokens,
    });
    write_weights(dir, &config);
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let vocabulary: serde_json::Map<String, Json> =
        alphabet.into_iter().enumerate().map(|(id, letter)| (letter.to_string(), (id + 3).into())).collect();
    let special = |id: usize, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [special(0, "<|end|>"), special(1, "<|a|>"), special(2, "<|b|>")],
        "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    });
    std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
}
