//! Agreement with sentence-transformers and transformers on the same weights, by the committed reference values.

use std::path::PathBuf;
use std::time::Instant;

use millstream_engine_tensors::testing::{
    assert_close, bundled_model, done, fetched_model, numbers, reference, reference_of, run,
};
use millstream_engine_tensors::{Queries, Weights, with_f32};
use millstream_pipelines::Task;
use millstream_values::Value;

use super::{load, model, rows};
use crate::bert::{Bert, Packed};
use crate::config::BertConfig;
use crate::head::Head;

const TOLERANCE: f64 = 1e-4;

fn check_embedder(dir: Option<PathBuf>, name: &str) {
    let Some(dir) = dir else { return };
    let Some(reference) = reference_of(name, &dir) else { return };
    let expected: Vec<Vec<f64>> = reference["embeddings"].as_array().unwrap().iter().map(numbers).collect();
    let texts: Vec<&str> =
        reference["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    for threads in [1, 2] {
        let mut engine = load(&dir, Task::Embed, threads).unwrap();
        let mut inputs = vec![super::texts(&texts)];
        inputs.extend(texts.iter().map(|text| super::texts(&[text])));
        let events = run(engine.as_mut(), inputs);
        for (index, found) in rows(done(&events[0])).iter().enumerate() {
            assert_close(&format!("{name}, text {index} in one call"), found, &expected[index], TOLERANCE);
        }
        for (index, event) in events[1..].iter().enumerate() {
            let found = &rows(done(event))[0];
            assert_close(&format!("{name}, text {index} alone"), found, &expected[index], TOLERANCE);
        }
    }
}

#[test]
fn embeddings_of_the_real_minilm_equal_sentence_transformers() {
    check_embedder(fetched_model("all-MiniLM-L6-v2"), "all-minilm-l6-v2");
}

#[test]
fn embeddings_of_the_bundled_embedder_equal_sentence_transformers() {
    check_embedder(bundled_model("mini-embedder"), "mini-embedder");
}

#[test]
fn scores_of_the_bundled_reranker_equal_sentence_transformers() {
    let Some(dir) = bundled_model("mini-reranker") else { return };
    let Some(reference) = reference_of("mini-reranker", &dir) else { return };
    let expected = numbers(&reference["scores"]);
    let documents =
        reference["documents"].as_array().unwrap().iter().map(|text| text.as_str().unwrap().into());
    let inputs = Value::map([
        ("query", reference["query"].as_str().unwrap().into()),
        ("documents", Value::list(documents)),
    ]);
    let mut engine = load(&dir, Task::Rerank, 2).unwrap();
    let events = run(engine.as_mut(), vec![inputs]);
    let list = |name: &str| done(&events[0]).get(name).unwrap().as_list().unwrap().to_vec();
    let mut found = vec![f32::NAN; expected.len()];
    for (index, score) in list("indices").iter().zip(list("scores")) {
        #[expect(clippy::cast_possible_truncation, reason = "scores are f32")]
        let score = score.as_f64().unwrap() as f32;
        found[usize::try_from(index.as_int().unwrap()).unwrap()] = score;
    }
    assert_close("mini-reranker", &found, &expected, TOLERANCE);
}

#[test]
fn logits_of_a_roberta_shape_equal_transformers() {
    let reference = &reference("tiny").unwrap()["roberta"];
    let dir = tempfile::tempdir().unwrap();
    let head: [(&str, &[usize]); 2] = [("classifier.dense", &[32, 32]), ("classifier.out_proj", &[3, 32])];
    model::write(dir.path(), &reference["config"], "roberta.", &head);
    let config = BertConfig::load(dir.path()).unwrap();
    let weights = Weights::open(dir.path()).unwrap();
    let head = Head::load(&weights, &config, 3).unwrap();
    let bert = Bert::load(&weights, "roberta.", config).unwrap();
    let ids: Vec<u32> = reference["ids"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| u32::try_from(id.as_u64().unwrap()).unwrap())
        .collect();
    let texts = Packed { type_ids: vec![0; ids.len()], lengths: vec![ids.len()], ids };
    let first = bert.forward(&texts, Queries::First, 1).unwrap();
    let logits = with_f32(&head.forward(&first, 1).unwrap(), <[f32]>::to_vec).unwrap();
    assert_close("roberta", &logits, &numbers(&reference["logits"]), 1e-5);
}

/// Run by hand: `cargo test -p millstream-engine-candle -- --ignored --nocapture speed`.
#[test]
#[ignore = "measures time: run it by hand"]
fn speed_beside_candles_own_operations() {
    let Some(dir) = fetched_model("all-MiniLM-L6-v2") else { return };
    let config = BertConfig::load(&dir).unwrap();
    let weights = Weights::open(&dir).unwrap();
    let stock = super::stock::StockBert::load(&weights, "", &config);
    let bert = Bert::load(&weights, "", config).unwrap();
    let best = |runs: usize, work: &mut dyn FnMut()| {
        work();
        let times: Vec<f64> = (0..runs)
            .map(|_| {
                let start = Instant::now();
                work();
                start.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        times.into_iter().fold(f64::INFINITY, f64::min)
    };
    for (rows, tokens, runs) in [(1, 16, 60), (1, 128, 40), (32, 16, 30), (32, 128, 6)] {
        let ids: Vec<u32> =
            (0..rows * tokens).map(|i| 1000 + u32::try_from(i * 37 % 20_000).unwrap()).collect();
        let groups: Vec<Packed> = ids
            .chunks((512 / tokens).max(1) * tokens)
            .map(|ids| Packed {
                ids: ids.to_vec(),
                type_ids: vec![0; ids.len()],
                lengths: vec![tokens; ids.len() / tokens],
            })
            .collect();
        let before = best(runs, &mut || drop(stock.forward(&ids, rows, tokens)));
        let after = best(runs, &mut || {
            for group in &groups {
                bert.forward(group, Queries::All, 1).unwrap();
            }
        });
        println!(
            "{rows} texts of {tokens} tokens: candle's operations {before:.1} ms, here on one thread {after:.1} ms"
        );
    }
}
