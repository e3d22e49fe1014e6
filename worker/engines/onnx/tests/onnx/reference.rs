//! Text models against the committed values of sentence-transformers (`tests/reference`), on the same weights.

use millstream_pipelines::Task;
use millstream_values::Value;
use serde_json::Value as Json;

use crate::support::{assert_close, factory, fetched, floats, load, root, run, run_one, skip, spec, texts};

/// How far numbers may lie from the reference.
const TOLERANCE: f64 = 1e-4;

/// The committed values of that name; `None`, with a message, while they are not there.
fn reference(name: &str) -> Option<Json> {
    let path = root().join(format!("tests/reference/{name}.json"));
    if let Ok(text) = std::fs::read(&path) {
        return Some(serde_json::from_slice(&text).unwrap());
    }
    skip(&format!("`{}` is missing", path.display()));
    None
}

fn strings(list: &Json) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

fn numbers(list: &Json) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// Compares an embedder, all texts in one call and each in a call of its own.
fn check_embedder(model: &str, values: &str) {
    let (Some(factory), Some(dir), Some(values)) = (factory(), fetched(model), reference(values)) else {
        return;
    };
    let expected: Vec<f64> = values["embeddings"].as_array().unwrap().iter().flat_map(numbers).collect();
    let of = strings(&values["texts"]);
    let mut engine = load(&factory, &spec(Task::Embed, 32), &dir).unwrap();
    let whole = run_one(&mut engine, Value::map([("texts", texts(&of))])).unwrap();
    assert_eq!(whole.as_tensor().unwrap().shape(), [of.len(), expected.len() / of.len()]);
    assert_close(&floats(&whole), &expected, TOLERANCE, "one call");
    let calls = of.iter().map(|text| Value::map([("texts", texts(&[text]))])).collect();
    let each: Vec<f64> =
        run(&mut engine, calls).into_iter().flat_map(|answer| floats(&answer.unwrap())).collect();
    assert_close(&each, &expected, TOLERANCE, "calls of their own");
}

#[test]
fn embeddings_of_all_minilm_are_those_of_sentence_transformers() {
    check_embedder("all-MiniLM-L6-v2-onnx", "all-minilm-l6-v2");
}

#[test]
fn embeddings_of_the_bundled_embedder_are_those_of_sentence_transformers() {
    check_embedder("mini-embedder-onnx", "mini-embedder");
}

#[test]
fn scores_of_the_bundled_reranker_are_those_of_sentence_transformers() {
    let (Some(factory), Some(dir)) = (factory(), fetched("mini-reranker-onnx")) else { return };
    let Some(values) = reference("mini-reranker") else { return };
    let expected = numbers(&values["scores"]);
    let mut engine = load(&factory, &spec(Task::Rerank, 32), &dir).unwrap();
    let inputs = [
        ("query", Value::from(values["query"].as_str().unwrap())),
        ("documents", texts(&strings(&values["documents"]))),
    ];
    let answer = run_one(&mut engine, Value::map(inputs)).unwrap();
    let scores = floats(answer.get("scores").unwrap());
    assert!(scores.is_sorted_by(|a, b| a >= b), "not best first: {scores:?}");
    let mut in_order = vec![f64::NAN; expected.len()];
    for (score, index) in scores.iter().zip(answer.get("indices").unwrap().as_list().unwrap()) {
        in_order[usize::try_from(index.as_int().unwrap()).unwrap()] = *score;
    }
    assert_close(&in_order, &expected, TOLERANCE, "scores");
}
