//! The protocol's names for types of elements.

use std::fmt;

use millstream_values::DType;

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Datatype {
    /// Texts, or bytes: elements of any length.
    Bytes,
    /// Numbers and booleans.
    Of(DType),
}

const NAMES: [(&str, Datatype); 14] = [
    ("BOOL", Datatype::Of(DType::Bool)),
    ("UINT8", Datatype::Of(DType::U8)),
    ("UINT16", Datatype::Of(DType::U16)),
    ("UINT32", Datatype::Of(DType::U32)),
    ("UINT64", Datatype::Of(DType::U64)),
    ("INT8", Datatype::Of(DType::I8)),
    ("INT16", Datatype::Of(DType::I16)),
    ("INT32", Datatype::Of(DType::I32)),
    ("INT64", Datatype::Of(DType::I64)),
    ("FP16", Datatype::Of(DType::F16)),
    ("BF16", Datatype::Of(DType::BF16)),
    ("FP32", Datatype::Of(DType::F32)),
    ("FP64", Datatype::Of(DType::F64)),
    ("BYTES", Datatype::Bytes),
];

impl Datatype {
    pub(super) fn parse(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, datatype)| *datatype)
    }

    pub(super) fn as_str(self) -> &'static str {
        NAMES.iter().find(|(_, datatype)| *datatype == self).map_or("BYTES", |(name, _)| name)
    }

    /// All names, for messages.
    pub(super) fn names() -> String {
        NAMES.map(|(name, _)| name).join(", ")
    }
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_ours_has_a_name() {
        for dtype in DType::ALL {
            let datatype = Datatype::Of(dtype);
            assert_eq!(Datatype::parse(datatype.as_str()), Some(datatype), "{dtype}");
        }
        assert_eq!(Datatype::parse("BYTES"), Some(Datatype::Bytes));
        assert_eq!(Datatype::parse("fp32"), None);
    }
}
