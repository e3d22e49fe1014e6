use proptest::prelude::*;

use super::*;

/// Any value that is not very large.
pub(crate) fn any_value() -> impl Strategy<Value = Value> {
    let tensor = (0..DType::ALL.len(), prop::collection::vec(0_usize..5, 0..4)).prop_map(|(dtype, shape)| {
        let dtype = DType::ALL[dtype];
        let num_bytes = shape.iter().product::<usize>() * dtype.size_bytes();
        Value::Tensor(Tensor::new(dtype, shape, vec![7; num_bytes].into()).unwrap())
    });
    let leaf = prop_oneof![
        Just(Value::None),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        prop::num::f64::NORMAL.prop_map(Value::Float),
        ".{0,20}".prop_map(Value::from),
        prop::collection::vec(any::<u8>(), 0..10_000).prop_map(|bytes| Value::Bytes(bytes.into())),
        tensor,
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::list),
            prop::collection::vec((".{0,8}", inner), 0..6).prop_map(Value::map),
        ]
    })
}

fn encode(value: &Value) -> Result<Bytes, TooMuch> {
    let mut encoder = Encoder::default();
    encoder.put_value(value)?;
    Ok(encoder.take().concat().into())
}

fn decode(bytes: &Bytes) -> Result<Value, BadValue> {
    let mut decoder = Decoder::sharing(bytes);
    let value = decoder.value()?;
    decoder.end()?;
    Ok(value)
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(Value::Int(1), |value, at| {
        if at % 2 == 0 { Value::list([value]) } else { Value::map([("a", value)]) }
    })
}

#[test]
fn values_may_be_as_deep_as_the_product_allows_and_no_deeper() {
    let deepest = Value::map([("inputs", nested(MAX_DEPTH))]);
    assert_eq!(decode(&encode(&deepest).unwrap()).unwrap(), deepest);
    assert_eq!(encode(&Value::list([deepest])), Err(TooMuch::Deep));
    let bytes = [[8, 1].repeat(MAX_DEPTH + 2), vec![0]].concat();
    assert_eq!(decode(&bytes.into()), Err(BadValue::TooMuch(TooMuch::Deep)));
}

#[test]
fn a_few_bytes_do_not_make_many_values() {
    let many = Value::List(vec![Value::None; MAX_VALUES].into());
    assert_eq!(encode(&many), Err(TooMuch::Many));
    // A list that says it has 2^40 items.
    let bytes = [8, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 0];
    assert_eq!(decode(&Bytes::copy_from_slice(&bytes)), Err(BadValue::TooMuch(TooMuch::Many)));
    let bytes = [8, 100, 0];
    assert_eq!(decode(&Bytes::copy_from_slice(&bytes)), Err(BadValue::Short));
}

#[test]
fn what_is_too_large_is_known_before_it_is_sent() {
    let piece = Value::Bytes(vec![0; 1 << 20].into());
    let large = Value::list(vec![piece.clone(); 68]);
    assert_eq!(encode(&large), Err(TooMuch::Large));
    assert!(encode(&Value::list(vec![piece; 60])).is_ok());
}

#[test]
fn large_bytes_are_shared_on_both_ends() {
    let data = Bytes::from(vec![7; 1 << 20]);
    let mut encoder = Encoder::default();
    encoder.put_value(&Value::list([Value::Int(1), Value::Bytes(data.clone()), Value::Int(2)])).unwrap();
    let segments = encoder.take();
    assert_eq!(segments.len(), 3);
    assert_eq!(segments[1].as_ptr(), data.as_ptr());
    let whole = Bytes::from(segments.concat());
    let Value::List(items) = decode(&whole).unwrap() else { panic!("a list") };
    let Value::Bytes(read) = &items[1] else { panic!("bytes") };
    assert!(whole.as_ptr_range().contains(&read.as_ptr()));
}

proptest! {
    #[test]
    fn what_was_written_is_read(value in any_value()) {
        let bytes = encode(&value).unwrap();
        prop_assert_eq!(&decode(&bytes).unwrap(), &value);
        let mut copied = Decoder::copying(&bytes);
        prop_assert_eq!(copied.value().unwrap(), value);
    }

    #[test]
    fn any_bytes_make_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes.into());
    }

    #[test]
    fn a_value_with_a_byte_changed_or_lost_makes_a_value_or_an_error(
        value in any_value(), at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let mut bytes = encode(&value).unwrap().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode(&bytes.clone().into());
        bytes.truncate(at);
        prop_assert!(decode(&bytes.into()).is_err());
    }
}
