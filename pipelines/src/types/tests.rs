use super::*;

fn map(fields: &[(&str, Type)]) -> Type {
    Type::map(fields.iter().cloned())
}

#[test]
fn display_is_what_users_write() {
    for (ty, text) in [
        (Type::Any, "json"),
        (Type::list(Type::Text), "text[]"),
        (Type::tensor(DType::F32, [None, Some(384)]), "f32[?,384]"),
        (Type::tensor(DType::I64, []), "i64[]"),
        (Type::Tensor(TensorShape::default()), "tensor"),
        (map(&[("scores", Type::Any), ("items", Type::Any)]), "{items, scores}"),
        (Type::open_map(Type::Any), "map"),
        (Type::Text.optional(), "text or none"),
        (Type::list(Type::Text.optional()), "(text or none)[]"),
        (Type::OneOf(vec![Type::Text, Type::list(Type::Text)]), "text or text[]"),
    ] {
        assert_eq!(ty.to_string(), text);
    }
}

#[test]
fn assignable_by_table() {
    let tensor = Type::tensor(DType::F32, [None, Some(4)]);
    for (from, to, ok) in [
        (Type::Int, Type::Float, true),
        (Type::Float, Type::Int, false),
        (Type::Bool, Type::Int, false),
        (Type::Any, Type::Text, true),
        (Type::Text, Type::Any, true),
        (Type::Text, Type::list(Type::Text), false),
        (Type::list(Type::Int), Type::list(Type::Float), true),
        (Type::list(Type::Any), Type::list(Type::Text), true),
        (tensor.clone(), Type::tensor(DType::F32, [Some(3), None]), true),
        (tensor.clone(), Type::tensor(DType::F32, [Some(3), Some(5)]), false),
        (tensor.clone(), Type::tensor(DType::F16, [None, None]), false),
        (tensor.clone(), Type::tensor(DType::F32, [None]), false),
        (tensor.clone(), Type::Tensor(TensorShape::default()), true),
        (tensor, Type::Text, false),
        (Type::Tensor(TensorShape::default()), Type::list(Type::Text), true),
        (Type::Tensor(TensorShape::default()), Type::list(Type::Int), false),
        (Type::Text.optional(), Type::Text, true),
        (Type::Text, Type::Text.optional(), true),
        (Type::None, Type::Text, false),
        (Type::None, Type::Text.optional(), true),
        (Type::OneOf(vec![Type::Text, Type::Int]), Type::Float, true),
        (Type::OneOf(vec![Type::Text, Type::Int]), Type::Bool, false),
        (map(&[("a", Type::Int)]), map(&[("a", Type::Float)]), true),
        (map(&[("a", Type::Int), ("b", Type::Int)]), map(&[("a", Type::Float)]), false),
        (map(&[("a", Type::Int)]), Type::open_map(Type::Int), true),
        (Type::open_map(Type::Int), map(&[("a", Type::Int)]), true),
        (map(&[]), map(&[("a", Type::Int)]), false),
    ] {
        assert_eq!(assignable(&from, &to).is_ok(), ok, "{from} to {to}");
    }
}

#[test]
fn the_reason_names_both_types() {
    let reason = assignable(&Type::tensor(DType::F32, [None, None]), &Type::Text).unwrap_err();
    assert_eq!(reason, "expected `text`, found `f32[?,?]`");
    let reason = assignable(&map(&[("a", Type::Int)]), &map(&[("a", Type::Text)])).unwrap_err();
    assert_eq!(reason, "in `a`: expected `text`, found `int`");
    let reason = assignable(&map(&[("a", Type::Int)]), &map(&[("b", Type::Text)])).unwrap_err();
    assert_eq!(reason, "expected `{b}`, but `{a}` has no `b`");
}

#[test]
fn join_keeps_what_holds_for_both() {
    assert_eq!(Type::Int.join(Type::Float), Type::Float);
    assert_eq!(Type::Text.join(Type::None), Type::Text.optional());
    assert_eq!(Type::Text.optional().join(Type::Text), Type::Text.optional());
    assert_eq!(Type::Text.join(Type::Any), Type::Any);
    assert_eq!(Type::Text.join(Type::Bool).join(Type::Text), Type::OneOf(vec![Type::Text, Type::Bool]));
    let joined = Type::tensor(DType::F32, [Some(2), None]).join(Type::tensor(DType::F32, [Some(3), Some(4)]));
    assert_eq!(joined, Type::tensor(DType::F32, [None, None]));
    let value = Value::list([Value::Int(1), Value::Float(0.5)]);
    assert_eq!(Type::of(&value), Type::list(Type::Float));
}
