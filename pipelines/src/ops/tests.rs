use millstream_values::{ErrorClass, Tensor};

use super::*;

fn given(inputs: &[(&str, Value)]) -> Vec<(Arc<str>, Value)> {
    inputs.iter().map(|(name, value)| ((*name).into(), value.clone())).collect()
}

fn texts(items: &[&str]) -> Value {
    Value::list(items.iter().map(|item| Value::from(*item)))
}

fn ints(items: &[i64]) -> Value {
    Value::list(items.iter().copied().map(Value::Int))
}

fn floats(items: &[f64]) -> Value {
    Value::list(items.iter().copied().map(Value::Float))
}

fn tensor(shape: &[usize], values: &[f32]) -> Value {
    Value::Tensor(Tensor::from_f32(shape, values).unwrap())
}

fn similar(query: Value, vectors: Value, items: Value, keep: Option<i64>) -> Result<Value, EvalError> {
    let mut inputs = given(&[("query", query), ("vectors", vectors), ("items", items)]);
    inputs.extend(keep.map(|keep| ("keep".into(), Value::Int(keep))));
    Operator::Similarity.apply(&inputs)
}

#[test]
fn similarity_ranks_by_cosine_with_ties_in_order() {
    let vectors = tensor(&[4, 2], &[0.0, 1.0, 2.0, 0.0, 1.0, 1.0, 5.0, 0.0]);
    let found = similar(tensor(&[2], &[1.0, 0.0]), vectors, texts(&["a", "b", "c", "d"]), Some(3)).unwrap();
    assert_eq!(found.get("items"), Some(&texts(&["b", "d", "c"])));
    assert_eq!(found.get("indices"), Some(&ints(&[1, 3, 2])));
    let scores: Vec<f64> =
        found.get("scores").unwrap().as_list().unwrap().iter().filter_map(Value::as_f64).collect();
    assert!((scores[0] - 1.0).abs() < 1e-6 && (scores[2] - 0.5_f64.sqrt()).abs() < 1e-6, "{scores:?}");
}

#[test]
fn similarity_takes_a_row_as_query_unaligned_bytes_and_zero_vectors() {
    // A view that starts one byte into its buffer is not aligned.
    let mut bytes = vec![0_u8];
    bytes.extend([0.0_f32, 0.0, 1.0, 0.0].iter().flat_map(|value| value.to_le_bytes()));
    let data = bytes::Bytes::from(bytes).slice(1..);
    let vectors = Value::Tensor(Tensor::new(DType::F32, [2, 2], data).unwrap());
    let found = similar(tensor(&[1, 2], &[3.0, 0.0]), vectors, texts(&["zero", "same"]), None).unwrap();
    assert_eq!(found.get("items"), Some(&texts(&["same", "zero"])));
    assert_eq!(found.get("scores"), Some(&floats(&[1.0, 0.0])));
    let none = similar(tensor(&[2], &[1.0, 0.0]), tensor(&[0, 2], &[]), texts(&[]), None).unwrap();
    assert_eq!(none.get("items"), Some(&texts(&[])));
}

#[test]
fn similarity_says_which_sizes_disagree() {
    let (query, vectors, items) =
        (|| tensor(&[2], &[1.0, 0.0]), || tensor(&[1, 2], &[1.0, 0.0]), || texts(&["a"]));
    for (result, message) in [
        (
            similar(tensor(&[3], &[0.0; 3]), vectors(), items(), None),
            "`query` has 3 numbers, but rows of `vectors` have 2",
        ),
        (similar(query(), vectors(), texts(&["a", "b"]), None), "`vectors` has 1 rows for 2 items"),
        (similar(query(), vectors(), items(), Some(0)), "`keep` is 0; it must be 1 or more"),
        (
            similar(tensor(&[2, 2], &[0.0; 4]), vectors(), items(), None),
            "`query` has the shape [2, 2]; it takes one vector, [d] or [1, d]",
        ),
        (
            similar(query(), tensor(&[2], &[0.0; 2]), items(), None),
            "`vectors` has the shape [2]; it takes rows, [n, d]",
        ),
        (
            similar(tensor(&[2], &[f32::NAN, 0.0]), vectors(), items(), None),
            "the score of item 0 is not a number",
        ),
        (similar(Value::None, vectors(), items(), None), "`query` takes a tensor, not none"),
        (similar(query(), vectors(), Value::None, None), "`items` takes a list, not none"),
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.class, ErrorClass::Invalid);
        assert_eq!(error.message, message);
    }
}

#[test]
fn top_k_sorts_lists_and_tensors_of_scores() {
    for scores in [floats(&[0.1, 0.9, 0.9]), tensor(&[3], &[0.1, 0.9, 0.9])] {
        let found = Operator::TopK.apply(&given(&[
            ("items", texts(&["a", "b", "c"])),
            ("scores", scores),
            ("keep", Value::Int(2)),
        ]));
        assert_eq!(found.unwrap().get("items"), Some(&texts(&["b", "c"])));
    }
    let nan = given(&[("items", texts(&["a"])), ("scores", floats(&[f64::NAN]))]);
    assert_eq!(Operator::TopK.apply(&nan).unwrap_err().message, "the score of item 0 is not a number");
    let few = given(&[("items", texts(&["a"])), ("scores", floats(&[]))]);
    assert_eq!(Operator::TopK.apply(&few).unwrap_err().message, "0 scores for 1 items");
}

#[test]
fn select_merge_and_template() {
    let picked =
        Operator::Select.apply(&given(&[("items", texts(&["a", "b", "c"])), ("indices", ints(&[2, 0, 2]))]));
    assert_eq!(picked.unwrap(), texts(&["c", "a", "c"]));
    for bad in [ints(&[3]), ints(&[-1]), texts(&["0"])] {
        let result = Operator::Select.apply(&given(&[("items", texts(&["a", "b", "c"])), ("indices", bad)]));
        assert_eq!(result.unwrap_err().class, ErrorClass::Invalid);
    }
    let merged = Operator::Merge.apply(&given(&[("b", Value::Int(1)), ("a", Value::None)])).unwrap();
    assert_eq!(merged, Value::map([("b", Value::Int(1)), ("a", Value::None)]));
    assert_eq!(
        Operator::Template.apply(&given(&[("template", Value::from("x"))])).unwrap(),
        Value::from("x")
    );
}

#[test]
fn outputs_follow_from_inputs() {
    let inputs = BTreeMap::from([("items".into(), Type::list(Type::Text))]);
    assert_eq!(Operator::Select.output(&inputs), Type::list(Type::Text));
    assert_eq!(Operator::Merge.output(&inputs), Type::map([("items", Type::list(Type::Text))]));
    let Type::Map(ranked) = Operator::TopK.output(&inputs) else { panic!("a map") };
    assert_eq!(ranked.get("items"), Some(&Type::list(Type::Text)));
    for operator in Operator::ALL {
        assert_eq!(Operator::parse(operator.as_str()), Some(operator));
    }
}
