//! The bundled tabular classifier against what ONNX Runtime's own Python interface gives (`tests/data/make.py`).

use millstream_pipelines::Task;
use millstream_values::{Tensor, Value};
use serde::Deserialize;

use crate::support::{assert_close, data, factory, floats, load, root, run, spec};

#[derive(Deserialize)]
struct Reference {
    features: Vec<Vec<f32>>,
    label: Vec<i64>,
    probabilities: Vec<Vec<f64>>,
}

#[test]
fn labels_and_probabilities_are_those_of_the_reference_together_and_apart() {
    let Some(factory) = factory() else { return };
    let reference: Reference = serde_json::from_slice(&std::fs::read(data("tabular.json")).unwrap()).unwrap();
    let model = root().join("pipelines/models/tabular-classifier");
    for max_size in [1, 8, 64] {
        let mut engine = load(&factory, &spec(Task::Tensor, max_size), &model).unwrap();
        let calls = reference.features.iter().map(|row| {
            assert_eq!(row.len(), 42);
            Value::map([("features", Value::Tensor(Tensor::from_f32([1, 42], row).unwrap()))])
        });
        let answers = run(&mut engine, calls.collect());
        for (at, answer) in answers.into_iter().enumerate() {
            let answer = answer.unwrap();
            assert_eq!(
                answer.get("label").unwrap().as_tensor().unwrap().to_i64().unwrap(),
                [reference.label[at]]
            );
            let probabilities = floats(answer.get("probabilities").unwrap());
            assert_close(&probabilities, &reference.probabilities[at], 1e-6, "probabilities");
        }
    }
}
