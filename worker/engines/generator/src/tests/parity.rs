//! Agreement with transformers on the same weights, by the committed reference values.

use std::path::Path;
use std::time::Instant;

use millstream_engine_tensors::Weights;
use millstream_engine_tensors::testing::{assert_close, bundled_model, numbers, reference, reference_of};
use millstream_model_files::tokenizer_file;
use millstream_values::Value;
use serde_json::Value as Json;

use super::model;
use crate::config::DecoderConfig;
use crate::decoder::{Cache, Decoder};
use crate::template::ChatTemplate;

const TOLERANCE: f64 = 1e-3;

fn decoder(dir: &Path) -> Decoder {
    Decoder::load(&Weights::open(dir).unwrap(), DecoderConfig::load(dir).unwrap()).unwrap()
}

fn ids(json: &Json) -> Vec<u32> {
    json.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}

fn largest(logits: &[f32]) -> u32 {
    let best = (0..logits.len()).reduce(|best, next| if logits[next] > logits[best] { next } else { best });
    u32::try_from(best.unwrap()).unwrap()
}

/// Logits after the prompt, and as many greedy tokens as the reference has.
fn check(what: &str, decoder: &Decoder, case: &Json) {
    let prompt = ids(&case["ids"]);
    for threads in [1, 2] {
        let mut cache = Cache::new(decoder.config());
        let mut logits = decoder.prefill(&prompt, &mut cache, threads).unwrap();
        if !case["logits"].is_null() {
            assert_close(what, &logits, &numbers(&case["logits"]), TOLERANCE);
        }
        let mut found = vec![largest(&logits)];
        let expected = ids(&case["greedy_ids"]);
        while found.len() < expected.len() {
            logits = decoder.decode(&found[found.len() - 1..], &mut [&mut cache], threads).unwrap();
            found.push(largest(&logits));
        }
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn logits_and_greedy_tokens_of_the_bundled_generator_equal_transformers() {
    let Some(dir) = bundled_model("mini-generator") else { return };
    let Some(reference) = reference_of("mini-generator", &dir) else { return };
    let decoder = decoder(&dir);
    let tokenizer = tokenizer_file(&dir).unwrap().unwrap().tokenizer;
    for case in reference["cases"].as_array().unwrap() {
        let prompt = case["prompt"].as_str().unwrap();
        assert_eq!(tokenizer.encode_fast(prompt, true).unwrap().get_ids(), ids(&case["ids"]), "{prompt}");
        check(prompt, &decoder, case);
        let text = tokenizer.decode(&ids(&case["greedy_ids"]), true).unwrap();
        assert_eq!(text, case["greedy_text"].as_str().unwrap());
    }
    let chat = &reference["chat"];
    let message = |json: &Json| {
        let text = |key: &str| Value::from(json[key].as_str().unwrap());
        Value::map([("role", text("role")), ("content", text("content"))])
    };
    let messages: Vec<Value> = chat["messages"].as_array().unwrap().iter().map(message).collect();
    let template = ChatTemplate::load(&dir).unwrap().unwrap();
    assert_eq!(template.render(&messages).unwrap(), chat["rendered"].as_str().unwrap());
}

#[test]
fn logits_and_greedy_tokens_of_both_shapes_equal_transformers() {
    let reference = reference("tiny").unwrap();
    for shape in ["qwen2", "llama"] {
        let dir = tempfile::tempdir().unwrap();
        model::write_weights(dir.path(), &reference[shape]["config"]);
        check(shape, &decoder(dir.path()), &reference[shape]);
    }
}

#[test]
fn a_prompt_in_one_piece_and_token_by_token_gives_the_same() {
    let reference = &reference("tiny").unwrap()["llama"];
    let dir = tempfile::tempdir().unwrap();
    model::write_weights(dir.path(), &reference["config"]);
    let decoder = decoder(dir.path());
    let prompt = ids(&reference["ids"]);
    let mut one = Cache::new(decoder.config());
    let whole = decoder.prefill(&prompt, &mut one, 1).unwrap();
    let mut other = Cache::new(decoder.config());
    let mut logits = Vec::new();
    for id in prompt {
        logits = decoder.decode(&[id], &mut [&mut other], 1).unwrap();
    }
    let whole: Vec<f64> = whole.into_iter().map(f64::from).collect();
    assert_close("token by token", &logits, &whole, 1e-4);
}

/// Run by hand: `cargo test -p millstream-engine-generator -- --ignored --nocapture speed`.
#[test]
#[ignore = "measures time: run it by hand"]
fn speed_alone_and_in_company() {
    let Some(dir) = bundled_model("mini-generator") else { return };
    let decoder = decoder(&dir);
    for sequences in [1, 8, 32] {
        let mut caches: Vec<Cache> = (0..sequences).map(|_| Cache::new(decoder.config())).collect();
        for cache in &mut caches {
            decoder.prefill(&[5; 64], cache, 1).unwrap();
        }
        let steps = 100;
        let start = Instant::now();
        for _ in 0..steps {
            let mut caches: Vec<&mut Cache> = caches.iter_mut().collect();
            decoder.decode(&vec![5; sequences], &mut caches, 1).unwrap();
        }
        let step_ms = start.elapsed().as_secs_f64() * 1e3 / f64::from(steps);
        println!("{sequences} sequences: {step_ms:.2} ms a step on one thread");
    }
}
