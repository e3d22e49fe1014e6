//! What a deployment's file may say of its inputs, and the type of a model's input or output: a tensor of numbers, or one of texts. In pipelines only the first is a
//! [`Tensor`](millstream_values::Tensor); texts are lists, in lists as deep as the shape.

use std::collections::BTreeMap;
use std::fmt;

use millstream_values::DType;
use serde::{Deserialize, Serialize};

/// What a model's tensor consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Element {
    /// Numbers or booleans.
    Of(DType),
    /// Texts in UTF-8.
    Text,
}

/// `f32[?,4]`, or `text[?]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortType {
    /// What it consists of.
    #[serde(rename = "dtype")]
    pub element: Element,
    /// Sizes of the axes; `None` is any size (`?`).
    pub shape: Vec<Option<usize>>,
}

impl Element {
    /// The name as it is written in pipeline files, such as `f32`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Of(dtype) => dtype.as_str(),
            Self::Text => "text",
        }
    }

    /// The element of that name, if there is one.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if name == "text" { Some(Self::Text) } else { DType::parse(name).map(Self::Of) }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Element> for String {
    fn from(element: Element) -> Self {
        element.as_str().to_owned()
    }
}

impl TryFrom<String> for Element {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Self::parse(&name).ok_or_else(|| format!("`{name}` is not an element type"))
    }
}

impl fmt::Display for PortType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes: Vec<String> =
            self.shape.iter().map(|size| size.map_or("?".to_owned(), |size| size.to_string())).collect();
        write!(f, "{}[{}]", self.element, sizes.join(","))
    }
}

/// What a deployment's file says of its inputs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeclaredInputs {
    /// Inputs of a tensor model (or echo), by name; empty when the model's own are used.
    pub signature: BTreeMap<String, PortType>,
    /// Prompts of an embedder by name, beside those of its files or in place of them: put before a text that asks for it.
    #[serde(default)]
    pub prompts: BTreeMap<String, String>,
}
