//! Conversions between domain types and generated types. A message from the network is never trusted: what is
//! missing or inconsistent is a [`WireError`].

use std::sync::Arc;
use std::time::Duration;

use millstream_values::{CallError, DType, ErrorClass, Map, Started, Tensor, TensorError, Value};

use crate::call::{Priority, Timing};
use crate::key::KeyRequest;
use crate::status::ReplicaState;
use crate::v1;

/// Why a message is not one of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A field that must be there is not.
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    /// An enum has a number that this version does not know.
    #[error("field `{field}` has the unknown value {value}")]
    UnknownEnum {
        /// Which field.
        field: &'static str,
        /// What it held.
        value: i32,
    },
    /// Bytes and shape do not fit.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// Lists and maps are nested deeper than the wire carries.
    #[error("value is nested deeper than {MAX_DEPTH}")]
    TooDeep,
}

/// Deepest nesting of lists and maps that is decoded. Prost refuses more than 100 nested messages before that: a list takes
/// two and a map three, so a value that arrives as bytes has at most 33 maps or 49 lists around it.
const MAX_DEPTH: usize = 64;

impl From<WireError> for tonic::Status {
    fn from(error: WireError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

/// The gRPC code of an error class.
#[must_use]
pub fn grpc_code(class: ErrorClass) -> tonic::Code {
    match class {
        ErrorClass::Malformed | ErrorClass::TooLarge | ErrorClass::Invalid => tonic::Code::InvalidArgument,
        ErrorClass::NotFound => tonic::Code::NotFound,
        ErrorClass::Conflict => tonic::Code::Aborted,
        ErrorClass::RateLimited | ErrorClass::Overloaded => tonic::Code::ResourceExhausted,
        ErrorClass::Unavailable => tonic::Code::Unavailable,
        ErrorClass::DeadlineExceeded => tonic::Code::DeadlineExceeded,
        ErrorClass::Cancelled => tonic::Code::Cancelled,
        ErrorClass::Internal => tonic::Code::Internal,
    }
}

/// A gRPC status of that class and text.
pub fn status_of(class: ErrorClass, message: impl Into<String>) -> tonic::Status {
    tonic::Status::new(grpc_code(class), message)
}

impl From<&Value> for v1::Value {
    fn from(value: &Value) -> Self {
        use v1::value::Kind;
        let kind = match value {
            Value::None => Kind::None(true),
            Value::Bool(value) => Kind::Bool(*value),
            Value::Int(value) => Kind::Int(*value),
            Value::Float(value) => Kind::Float(*value),
            Value::Text(text) => Kind::Text(text.to_string()),
            Value::Bytes(bytes) => Kind::Bytes(bytes.clone()),
            Value::Tensor(tensor) => Kind::Tensor(tensor.into()),
            Value::List(values) => Kind::List(v1::List { values: values.iter().map(Into::into).collect() }),
            Value::Map(map) => Kind::Map((&**map).into()),
        };
        Self { kind: Some(kind) }
    }
}

impl From<&Map> for v1::Map {
    fn from(map: &Map) -> Self {
        let entries = map
            .iter()
            .map(|(name, value)| v1::Entry { name: name.to_string(), value: Some(value.into()) })
            .collect();
        Self { entries }
    }
}

impl From<&Tensor> for v1::Tensor {
    fn from(tensor: &Tensor) -> Self {
        Self {
            dtype: v1::DType::from(tensor.dtype()).into(),
            shape: tensor.shape().iter().map(|&dim| dim as u64).collect(),
            data: tensor.data().clone(),
        }
    }
}

impl TryFrom<v1::Value> for Value {
    type Error = WireError;

    fn try_from(value: v1::Value) -> Result<Self, WireError> {
        decode_value(value, 0)
    }
}

impl TryFrom<v1::Map> for Map {
    type Error = WireError;

    fn try_from(map: v1::Map) -> Result<Self, WireError> {
        decode_map(map, 0)
    }
}

fn decode_value(value: v1::Value, depth: usize) -> Result<Value, WireError> {
    use v1::value::Kind;
    if depth > MAX_DEPTH {
        return Err(WireError::TooDeep);
    }
    Ok(match value.kind.ok_or(WireError::Missing("kind"))? {
        Kind::None(_) => Value::None,
        Kind::Bool(value) => Value::Bool(value),
        Kind::Int(value) => Value::Int(value),
        Kind::Float(value) => Value::Float(value),
        Kind::Text(text) => Value::from(text),
        Kind::Bytes(bytes) => Value::Bytes(bytes),
        Kind::Tensor(tensor) => Value::Tensor(tensor.try_into()?),
        Kind::List(list) => Value::List(
            list.values
                .into_iter()
                .map(|value| decode_value(value, depth + 1))
                .collect::<Result<Arc<[_]>, _>>()?,
        ),
        Kind::Map(map) => Value::from(decode_map(map, depth + 1)?),
    })
}

fn decode_map(map: v1::Map, depth: usize) -> Result<Map, WireError> {
    map.entries
        .into_iter()
        .map(|entry| {
            let value = entry.value.ok_or(WireError::Missing("value"))?;
            Ok((entry.name.into(), decode_value(value, depth)?))
        })
        .collect()
}

impl TryFrom<v1::Tensor> for Tensor {
    type Error = WireError;

    fn try_from(tensor: v1::Tensor) -> Result<Self, WireError> {
        let dtype = v1::DType::try_from(tensor.dtype)
            .ok()
            .and_then(dtype_from_wire)
            .ok_or(WireError::UnknownEnum { field: "dtype", value: tensor.dtype })?;
        let shape: Vec<usize> = tensor
            .shape
            .into_iter()
            .map(|dim| usize::try_from(dim).map_err(|_| TensorError::Overflow(Vec::new())))
            .collect::<Result<_, _>>()?;
        Ok(Self::new(dtype, shape, tensor.data)?)
    }
}

/// The two enums side by side, once; both directions follow from it.
const DTYPES: [(DType, v1::DType); 13] = [
    (DType::Bool, v1::DType::Bool),
    (DType::U8, v1::DType::U8),
    (DType::U16, v1::DType::U16),
    (DType::U32, v1::DType::U32),
    (DType::U64, v1::DType::U64),
    (DType::I8, v1::DType::I8),
    (DType::I16, v1::DType::I16),
    (DType::I32, v1::DType::I32),
    (DType::I64, v1::DType::I64),
    (DType::F16, v1::DType::F16),
    (DType::BF16, v1::DType::Bf16),
    (DType::F32, v1::DType::F32),
    (DType::F64, v1::DType::F64),
];

impl From<v1::KeySettings> for KeyRequest {
    fn from(settings: v1::KeySettings) -> Self {
        let v1::KeySettings { rate_per_s, burst, concurrency, weight, priority } = settings;
        Self { rate_per_s, burst, concurrency, weight, priority }
    }
}

impl From<KeyRequest> for v1::KeySettings {
    fn from(request: KeyRequest) -> Self {
        let KeyRequest { rate_per_s, burst, concurrency, weight, priority } = request;
        Self { rate_per_s, burst, concurrency, weight, priority }
    }
}

impl From<DType> for v1::DType {
    fn from(dtype: DType) -> Self {
        DTYPES.iter().find(|(ours, _)| *ours == dtype).map_or(Self::Unspecified, |(_, wire)| *wire)
    }
}

fn dtype_from_wire(dtype: v1::DType) -> Option<DType> {
    DTYPES.iter().find(|(_, wire)| *wire == dtype).map(|(ours, _)| *ours)
}

const CLASSES: [(ErrorClass, v1::ErrorClass); 11] = [
    (ErrorClass::Malformed, v1::ErrorClass::Malformed),
    (ErrorClass::TooLarge, v1::ErrorClass::TooLarge),
    (ErrorClass::Invalid, v1::ErrorClass::Invalid),
    (ErrorClass::NotFound, v1::ErrorClass::NotFound),
    (ErrorClass::Conflict, v1::ErrorClass::Conflict),
    (ErrorClass::RateLimited, v1::ErrorClass::RateLimited),
    (ErrorClass::Overloaded, v1::ErrorClass::Overloaded),
    (ErrorClass::Unavailable, v1::ErrorClass::Unavailable),
    (ErrorClass::DeadlineExceeded, v1::ErrorClass::DeadlineExceeded),
    (ErrorClass::Cancelled, v1::ErrorClass::Cancelled),
    (ErrorClass::Internal, v1::ErrorClass::Internal),
];

impl From<&CallError> for v1::Failure {
    fn from(error: &CallError) -> Self {
        let class = CLASSES
            .iter()
            .find(|(ours, _)| *ours == error.class)
            .map_or(v1::ErrorClass::Internal, |(_, wire)| *wire);
        Self { class: class.into(), message: error.message.clone(), started: error.started == Started::Yes }
    }
}

/// A class that this version does not know is `Internal`: a failure stays a failure.
impl From<v1::Failure> for CallError {
    fn from(failure: v1::Failure) -> Self {
        let class = CLASSES
            .iter()
            .find(|(_, wire)| *wire as i32 == failure.class)
            .map_or(ErrorClass::Internal, |(ours, _)| *ours);
        let started = if failure.started { Started::Yes } else { Started::No };
        Self { class, message: failure.message, started }
    }
}

const REPLICA_STATES: [(ReplicaState, v1::ReplicaState); 5] = [
    (ReplicaState::Starting, v1::ReplicaState::Starting),
    (ReplicaState::Ready, v1::ReplicaState::Ready),
    (ReplicaState::Draining, v1::ReplicaState::Draining),
    (ReplicaState::Stopped, v1::ReplicaState::Stopped),
    (ReplicaState::Failed, v1::ReplicaState::Failed),
];

impl From<Timing> for v1::Timing {
    fn from(timing: Timing) -> Self {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self { waited_us: micros(timing.waited), ran_us: micros(timing.ran) }
    }
}

impl From<v1::Timing> for Timing {
    fn from(timing: v1::Timing) -> Self {
        Self { waited: Duration::from_micros(timing.waited_us), ran: Duration::from_micros(timing.ran_us) }
    }
}

impl From<Priority> for v1::Priority {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::High => Self::High,
            Priority::Normal => Self::Normal,
            Priority::Low => Self::Low,
        }
    }
}

impl From<v1::Priority> for Priority {
    fn from(priority: v1::Priority) -> Self {
        match priority {
            v1::Priority::High => Self::High,
            v1::Priority::Normal => Self::Normal,
            v1::Priority::Low => Self::Low,
        }
    }
}

impl From<ReplicaState> for v1::ReplicaState {
    fn from(state: ReplicaState) -> Self {
        REPLICA_STATES.iter().find(|(ours, _)| *ours == state).map_or(Self::Unspecified, |(_, wire)| *wire)
    }
}

impl TryFrom<v1::ReplicaState> for ReplicaState {
    type Error = WireError;

    fn try_from(state: v1::ReplicaState) -> Result<Self, WireError> {
        REPLICA_STATES
            .iter()
            .find(|(_, wire)| *wire == state)
            .map(|(ours, _)| *ours)
            .ok_or(WireError::UnknownEnum { field: "state", value: state.into() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::None),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            (-1e300..1e300f64).prop_map(Value::Float),
            ".*".prop_map(Value::from),
            prop::collection::vec(
                any::<f32>().prop_filter("NaN is not equal to itself", |x| !x.is_nan()),
                0..12
            )
            .prop_map(|values| Value::Tensor(Tensor::from_f32([values.len(), 1], &values).unwrap())),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::list),
                prop::collection::vec(("[a-z]{1,4}", inner), 0..4).prop_map(Value::map),
            ]
        })
    }

    proptest! {
        #[test]
        fn values_survive_the_wire(value in any_value()) {
            let bytes = v1::Value::from(&value).encode_to_vec();
            let wire = v1::Value::decode(bytes.as_slice()).unwrap();
            prop_assert_eq!(Value::try_from(wire).unwrap(), value);
        }
    }

    #[test]
    fn every_dtype_class_and_state_survives_the_wire() {
        for dtype in DType::ALL {
            assert_eq!(dtype_from_wire(v1::DType::from(dtype)), Some(dtype));
        }
        for (class, _) in CLASSES {
            let error = CallError::started(class, "x");
            assert_eq!(CallError::from(v1::Failure::from(&error)), error);
        }
        for (state, _) in REPLICA_STATES {
            assert_eq!(ReplicaState::try_from(v1::ReplicaState::from(state)).unwrap(), state);
        }
    }

    #[test]
    fn a_tensor_whose_bytes_do_not_fit_its_shape_is_refused() {
        let wire = v1::Tensor { dtype: v1::DType::F32.into(), shape: vec![2, 2], data: vec![0; 12].into() };
        assert!(matches!(Tensor::try_from(wire), Err(WireError::Tensor(TensorError::Size { .. }))));
        let wire = v1::Tensor { dtype: 99, shape: vec![], data: vec![].into() };
        assert!(matches!(Tensor::try_from(wire), Err(WireError::UnknownEnum { field: "dtype", value: 99 })));
    }

    #[test]
    fn nesting_has_a_limit() {
        let mut value = v1::Value { kind: Some(v1::value::Kind::Int(1)) };
        for _ in 0..80 {
            value = v1::Value { kind: Some(v1::value::Kind::List(v1::List { values: vec![value] })) };
        }
        assert_eq!(Value::try_from(value), Err(WireError::TooDeep));
    }
}
