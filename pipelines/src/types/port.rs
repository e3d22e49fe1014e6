//! How the type of a model's input or output is written, and the type that a stage's values have for it.

use std::str::FromStr;

use super::Type;
use crate::{Element, PortType, TensorType};

impl FromStr for PortType {
    type Err = String;

    /// As [`TensorType`], and `text[?]`. The error says what to write.
    fn from_str(text: &str) -> Result<Self, String> {
        // The same but for the element, so that sizes are read in one place.
        let (element, text) = match text.strip_prefix("text[") {
            Some(shape) => (Some(Element::Text), format!("u8[{shape}")),
            None => (None, text.to_owned()),
        };
        let TensorType { dtype, shape } = text.parse()?;
        Ok(Self { element: element.unwrap_or(Element::Of(dtype)), shape })
    }
}

impl From<&PortType> for Type {
    /// What a stage passes and gets: texts are lists, as deep as there are axes.
    fn from(port: &PortType) -> Self {
        match port.element {
            Element::Of(dtype) => Self::tensor(dtype, port.shape.clone()),
            Element::Text => port.shape.iter().fold(Self::Text, |item, _| Self::list(item)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_and_shown_alike() {
        for text in ["f32[?,4]", "text[?]", "text[?,1]", "bool[3]"] {
            let port: PortType = text.parse().unwrap();
            assert_eq!(port.to_string(), text);
            let json = serde_json::to_string(&port).unwrap();
            assert_eq!(serde_json::from_str::<PortType>(&json).unwrap(), port, "{json}");
        }
        assert_eq!(Type::from(&"text[?,1]".parse::<PortType>().unwrap()).to_string(), "text[][]");
        for (text, help) in [
            ("text", "write a tensor"),
            ("text[]", "at least 1"),
            ("text[0]", "at least 1"),
            ("texts[?]", "use one of"),
        ] {
            let found = text.parse::<PortType>().unwrap_err();
            assert!(found.contains(help), "{text}: {found}");
        }
    }
}
