//! Text models: pooling over a graph's token vectors, and that batches of texts change nothing.

use std::path::Path;

use millstream_engine::{EngineFactory, LoadError};
use millstream_pipelines::Task;
use millstream_values::Value;

use crate::support::{
    Loaded, args, assert_close, data, factory, fetched, floats, load, run, run_one, spec, texts,
    write_tokenizer,
};

/// A model folder with the tiny embedder: one vector a word, no `token_type_ids`, a 32-bit mask.
fn tiny_embedder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(data("embedder.onnx"), dir.path().join("model.onnx")).unwrap();
    write_tokenizer(dir.path());
    for (name, text) in files {
        std::fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn embed(engine: &mut Loaded, of: &[&str]) -> Vec<f64> {
    floats(&run_one(engine, Value::map([("texts", texts(of))])).unwrap())
}

#[test]
fn token_vectors_are_pooled_without_padding_as_the_model_says() {
    let Some(factory) = factory() else { return };
    let load = |dir: &Path| load(&factory, &spec(Task::Embed, 8), dir).unwrap();
    let plain = tiny_embedder(&[]);
    let mut engine = load(plain.path());
    let (a, b) = (embed(&mut engine, &["a"]), embed(&mut engine, &["b"]));
    let mean: Vec<f64> = a.iter().zip(&b).map(|(a, b)| f64::midpoint(*a, *b)).collect();
    // A longer neighbour makes padding; the mean must not see it.
    assert_close(&embed(&mut engine, &["a b", "c d e f"])[..4], &mean, 1e-6, "mean");

    let cls = tiny_embedder(&[
        (
            "modules.json",
            r#"[{"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}]"#,
        ),
        ("1_Pooling/config.json", r#"{"pooling_mode": "cls"}"#),
    ]);
    let mut engine = load(cls.path());
    let length = a.iter().map(|value| value * value).sum::<f64>().sqrt();
    let unit: Vec<f64> = a.iter().map(|value| value / length).collect();
    assert_close(&embed(&mut engine, &["a b c"]), &unit, 1e-6, "first token, normalised");
}

#[test]
fn texts_are_cut_at_the_models_limit_and_no_texts_give_no_rows() {
    let Some(factory) = factory() else { return };
    let dir = tiny_embedder(&[("sentence_bert_config.json", r#"{"max_seq_length": 5}"#)]);
    let mut engine = load(&factory, &spec(Task::Embed, 8), dir.path()).unwrap();
    assert_eq!(embed(&mut engine, &["a b c d e f f f"]), embed(&mut engine, &["a b c d e"]));
    let none = run_one(&mut engine, Value::map([("texts", Value::list([]))])).unwrap();
    assert_eq!(none.as_tensor().unwrap().shape(), [0, 4]);
}

#[test]
fn a_graph_that_is_no_text_encoder_is_refused() {
    let Some(factory) = factory() else { return };
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(data("linear.onnx"), dir.path().join("model.onnx")).unwrap();
    write_tokenizer(dir.path());
    let spec = spec(Task::Embed, 8);
    assert!(factory.accepts(&args(&spec, dir.path())).is_ok());
    let Err(LoadError::Unsupported(text)) = load(&factory, &spec, dir.path()) else { panic!("not refused") };
    assert!(text.contains("`x: f32[?,3]`"), "{text}");
}

#[test]
fn a_real_embedder_gives_the_same_for_texts_together_and_apart() {
    let (Some(factory), Some(model)) = (factory(), fetched("all-MiniLM-L6-v2-onnx")) else { return };
    let long = "serving ".repeat(300);
    let all = [
        "a short one",
        "",
        "Models are served by replicas on the nodes of a cluster.",
        &long,
        "ünïcode ☃ 漢字",
    ];
    let mut engine = load(&factory, &spec(Task::Embed, 32), &model).unwrap();
    let together = embed(&mut engine, &all);
    assert_eq!(together.len(), all.len() * 384);
    for (at, text) in all.iter().enumerate() {
        let apart = embed(&mut engine, &[text]);
        assert_close(&together[at * 384..(at + 1) * 384], &apart, 1e-5, text);
        assert_close(&[apart.iter().map(|v| v * v).sum::<f64>()], &[1.0], 1e-5, "length");
    }
    // The same as calls of their own in one step.
    let calls = all.iter().map(|text| Value::map([("texts", texts(&[text]))])).collect();
    let answers: Vec<f64> =
        run(&mut engine, calls).into_iter().flat_map(|answer| floats(&answer.unwrap())).collect();
    assert_close(&answers, &together, 1e-5, "calls");
}
