//! Tensor models: names, types, shapes, and that running together changes nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_engine::Progress;
use millstream_pipelines::{Element, PortType, Task};
use millstream_values::{DType, ErrorClass, Tensor, Value};

use crate::support::{call, data, factory, finished, floats, keys, load, run, run_one, spec, tensor_engine};

fn x(rows: &[[f32; 3]]) -> Value {
    let values: Vec<f32> = rows.iter().flatten().copied().collect();
    Value::map([("x", Value::Tensor(Tensor::from_f32([rows.len(), 3], &values).unwrap()))])
}

#[test]
fn outputs_bear_the_models_names() {
    let Some(mut engine) = tensor_engine("linear.onnx", 8) else { return };
    let answer = run_one(&mut engine, x(&[[1.0, 2.0, 3.0]])).unwrap();
    assert_eq!(keys(&answer), ["y".into(), "best".into()]);
    let y = answer.get("y").unwrap().as_tensor().unwrap();
    assert_eq!((y.shape(), y.to_f32().unwrap()), (&[1, 2][..], vec![4.5, 4.5]));
    assert_eq!(answer.get("best").unwrap().as_tensor().unwrap().to_i64().unwrap(), [0]);
    assert!(engine.memory_bytes() > 0);
}

#[test]
fn weights_in_a_file_of_their_own_are_read_and_counted() {
    let Some(mut engine) = tensor_engine("external.onnx", 8) else { return };
    let answer = run_one(&mut engine, x(&[[1.0, 2.0, 3.0]])).unwrap();
    assert_eq!(floats(answer.get("y").unwrap()), [4.5, 4.5]);
    let size = |name: &str| data(name).metadata().unwrap().len();
    assert_eq!(engine.memory_bytes(), size("external.onnx") + size("external.bin"));
}

#[test]
fn lists_and_single_rows_are_taken() {
    let Some(mut engine) = tensor_engine("linear.onnx", 8) else { return };
    let row = Value::list([Value::Int(1), Value::Float(0.5), Value::Int(0)]);
    let answers = run(
        &mut engine,
        vec![Value::map([("x", row.clone())]), Value::map([("x", Value::list([row.clone(), row]))])],
    );
    assert_eq!(floats(answers[0].as_ref().unwrap().get("y").unwrap()), [1.5, 0.0]);
    assert_eq!(floats(answers[1].as_ref().unwrap().get("y").unwrap()), [1.5, 0.0, 1.5, 0.0]);
}

#[test]
fn wrong_names_types_and_shapes_are_invalid_and_fail_alone() {
    let Some(mut engine) = tensor_engine("linear.onnx", 8) else { return };
    let answers = run(
        &mut engine,
        vec![
            x(&[[1.0, 0.0, 0.0]]),
            Value::map([("z", Value::Int(1))]),
            Value::map([("x", Value::Tensor(Tensor::from_i64([1, 3], &[1, 2, 3]).unwrap()))]),
            Value::map([("x", Value::Tensor(Tensor::from_f32([1, 4], &[0.0; 4]).unwrap()))]),
            x(&[[0.0, 1.0, 0.0]]),
        ],
    );
    let message = |at: usize| {
        let error = answers[at].as_ref().unwrap_err();
        assert_eq!(error.class, ErrorClass::Invalid);
        error.message.as_str()
    };
    assert_eq!(floats(answers[0].as_ref().unwrap().get("y").unwrap()), [1.5, -0.5]);
    assert_eq!(
        message(1),
        "input `z` is not known; the model takes `x: f32[?,3]`; input `x` is missing; it is `f32[?,3]`"
    );
    assert_eq!(message(2), "input `x` is `i64[1,3]`, the model takes `f32[?,3]`");
    assert_eq!(message(3), "input `x` is `f32[1,4]`, the model takes `f32[?,3]`");
    assert_eq!(floats(answers[4].as_ref().unwrap().get("y").unwrap()), [0.5, 0.5]);
}

#[test]
fn together_and_apart_give_the_same() {
    for name in ["linear.onnx", "running_sum.onnx"] {
        let (Some(mut together), Some(mut apart)) = (tensor_engine(name, 8), tensor_engine(name, 1)) else {
            return;
        };
        let calls = [x(&[[1.0, 2.0, 3.0]]), x(&[[4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]), x(&[[-1.0, 0.5, 0.25]])];
        let joined = run(&mut together, calls.to_vec());
        for (inputs, joined) in calls.into_iter().zip(joined) {
            assert_eq!(joined.unwrap(), run_one(&mut apart, inputs).unwrap(), "{name}");
        }
    }
}

#[test]
fn a_call_that_fails_in_the_graph_fails_alone() {
    let Some(mut engine) = tensor_engine("lookup.onnx", 8) else { return };
    let ids = |ids: [i64; 2]| Value::map([("ids", Value::Tensor(Tensor::from_i64([1, 2], &ids).unwrap()))]);
    let answers = run(&mut engine, vec![ids([0, 1]), ids([2, 99]), ids([3, 3])]);
    assert_eq!(floats(answers[0].as_ref().unwrap().get("rows").unwrap()), [0.0, 1.0, 2.0, 3.0]);
    let error = answers[1].as_ref().unwrap_err();
    assert_eq!(error.class, ErrorClass::Invalid);
    assert!(!error.message.contains("Gather"), "tells internals: {}", error.message);
    assert_eq!(floats(answers[2].as_ref().unwrap().get("rows").unwrap()), [6.0, 7.0, 6.0, 7.0]);
}

#[test]
fn axes_of_one_name_must_agree() {
    let Some(mut engine) = tensor_engine("add.onnx", 8) else { return };
    let tensor = |n: usize| Value::Tensor(Tensor::from_f32([1, n], &vec![1.0; n]).unwrap());
    let error = run_one(&mut engine, Value::map([("a", tensor(2)), ("b", tensor(3))])).unwrap_err();
    assert_eq!(error.message, "axis 1 of input `b` is 3, but axis `n` is 2 in input `a`");
    let sum = run_one(&mut engine, Value::map([("a", tensor(3)), ("b", tensor(3))])).unwrap();
    assert_eq!(floats(sum.get("sum").unwrap()), [2.0; 3]);
}

#[test]
fn every_element_type_goes_in_and_comes_out_wherever_its_bytes_lie() {
    let Some(mut engine) = tensor_engine("types.onnx", 8) else { return };
    for shift in 0..2 {
        let tensors: Vec<(String, Tensor)> = DType::ALL
            .into_iter()
            .map(|dtype| {
                // Bytes 0 and 1 alone: booleans too must be valid. The shift makes them lie at odd addresses.
                let len = 2 * dtype.size_bytes();
                let bytes: Vec<u8> = (0..len + shift).map(|at| u8::from(at % 3 == 0)).collect();
                let bytes = Bytes::from(bytes).slice(shift..);
                (dtype.to_string(), Tensor::new(dtype, [1, 2], bytes).unwrap())
            })
            .collect();
        let inputs =
            Value::map(tensors.iter().map(|(name, t)| (format!("in_{name}"), Value::Tensor(t.clone()))));
        let answer = run_one(&mut engine, inputs).unwrap();
        for (name, tensor) in &tensors {
            assert_eq!(answer.get(&format!("out_{name}")), Some(&Value::Tensor(tensor.clone())), "{name}");
        }
    }
}

#[test]
fn the_declared_signature_is_checked_and_narrows() {
    let Some(factory) = factory() else { return };
    let mut declared = spec(Task::Tensor, 4);
    let mut declare = |name: &str, dtype, size| {
        declared.inputs.signature = BTreeMap::from([(
            name.to_owned(),
            PortType { element: Element::Of(dtype), shape: vec![Some(1), Some(size)] },
        )]);
        load(&factory, &declared, &data("add.onnx")).map_err(|error| error.to_string())
    };
    assert!(declare("c", DType::F32, 2).err().unwrap().contains("the model's inputs are `a`, `b`"));
    assert!(declare("a", DType::F64, 2).err().unwrap().contains("declares input `a` as `f64[1,2]`"));
    let mut engine = declare("a", DType::F32, 2).unwrap();
    let tensor = |n: usize| Value::Tensor(Tensor::from_f32([1, n], &vec![1.0; n]).unwrap());
    let error = run_one(&mut engine, Value::map([("a", tensor(3)), ("b", tensor(3))])).unwrap_err();
    assert_eq!(error.message, "input `a` is `f32[1,3]`, the model takes `f32[1,2]`");
}

#[test]
fn calls_without_rows_or_waiters_or_time_do_no_harm() {
    let Some(mut engine) = tensor_engine("linear.onnx", 8) else { return };
    let empty = Value::map([("x", Value::Tensor(Tensor::from_f32([0, 3], &[]).unwrap()))]);
    let answers = run(&mut engine, vec![empty, x(&[[0.0; 3]])]);
    assert_eq!(answers[0].as_ref().unwrap().get("y").unwrap().as_tensor().unwrap().shape(), [0, 2]);
    assert_eq!(floats(answers[1].as_ref().unwrap().get("y").unwrap()), [0.5, -0.5]);

    let (left, pending) = call(x(&[[0.0; 3]]));
    drop(pending);
    let (mut late, late_pending) = call(x(&[[0.0; 3]]));
    late.deadline = Instant::now().checked_sub(Duration::from_millis(1));
    let (good, good_pending) = call(x(&[[0.0; 3]]));
    assert_eq!(engine.step(vec![left, late, good]).progress, Progress::Idle);
    assert_eq!(finished(late_pending).unwrap_err().class, ErrorClass::DeadlineExceeded);
    assert!(finished(good_pending).is_ok());
}

#[test]
fn texts_go_in_and_come_out_as_lists() {
    let Some(mut engine) = tensor_engine("texts.onnx", 8) else { return };
    let list = |texts: &[&str]| Value::list(texts.iter().copied().map(Value::from));
    let words = |words: &[&str]| {
        let pairs = Value::list(words.iter().map(|word| list(&[word, "é"])));
        Value::map([("words", list(words)), ("pairs", pairs)])
    };
    let calls = vec![words(&["Bread", ""]), words(&["FLOUR", "flour", "Ünknown"]), words(&[])];
    let answers = run(&mut engine, calls);
    let shown = |at: usize| serde_json::to_string(answers[at].as_ref().unwrap()).unwrap();
    assert_eq!(shown(0), r#"{"kind":["food",""],"known":[1,-1],"same":[["Bread","é"],["","é"]]}"#);
    assert_eq!(
        shown(1),
        r#"{"kind":["","näher",""],"known":[-1,2,-1],"same":[["FLOUR","é"],["flour","é"],["Ünknown","é"]]}"#
    );
    // A lone text, and a lone pair, are a row.
    let one = Value::map([("words", Value::from("Bread")), ("pairs", list(&["a", "b"]))]);
    let answer = run_one(&mut engine, one).unwrap();
    assert_eq!(answer.get("kind"), Some(&list(&["food"])));
    let error =
        run_one(&mut engine, Value::map([("words", Value::Int(1)), ("pairs", list(&["a"]))])).unwrap_err();
    assert_eq!(error.class, ErrorClass::Invalid);
    assert_eq!(
        error.message,
        "input `words` is `int`, the model takes `text[?]`; input `pairs` is `text[1]`, the model takes `text[?,2]`"
    );
}
