//! What a loaded model says of its inputs and outputs, and whether what a stage passes fits. The file does not know it; once a
//! replica has loaded the model, the file is checked again with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Inputs, TensorShape, Type, assignable};
use crate::{DeploymentSpec, Element, Name, PortType, Task};

/// The tensors that a model takes and returns, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ModelSignature {
    /// What it takes.
    pub inputs: BTreeMap<String, PortType>,
    /// What it returns.
    pub outputs: BTreeMap<String, PortType>,
}

/// The signatures of a pipeline's deployments, as far as they are known.
pub type Signatures = BTreeMap<Name, Arc<ModelSignature>>;

impl ModelSignature {
    /// Whether what calls to the deployment take and return is what its model's signature says; other tasks have inputs and outputs of
    /// their own.
    #[must_use]
    pub fn applies_to(spec: &DeploymentSpec) -> bool {
        spec.task == Task::Tensor
    }

    /// What a call to that deployment takes: what its file declares, else what the model takes.
    pub(crate) fn inputs(&self, spec: &DeploymentSpec) -> Inputs {
        let declared = &spec.inputs.signature;
        let ports = self.inputs.iter().map(|(name, ty)| (name, declared.get(name).unwrap_or(ty)));
        ports.fold(Inputs::default(), |inputs, (name, ty)| inputs.required(name, ty.into()))
    }

    /// What a call returns. Shapes depend on those of the inputs: a lone row has no first axis.
    pub(crate) fn output(&self) -> Type {
        let value = |port: &PortType| match port.element {
            Element::Of(dtype) => Type::Tensor(TensorShape { dtype: Some(dtype), shape: None }),
            // A model that does not say how many axes there are has none here.
            Element::Text if port.shape.is_empty() => Type::Any,
            Element::Text => port.into(),
        };
        Type::map(self.outputs.iter().map(|(name, port)| (name.as_str(), value(port))))
    }
}

/// Whether a value may go into a model's input: a tensor of its element type and shape, one row of it, or what a tensor can be made
/// of. Texts go into a tensor of texts, and nowhere else.
///
/// # Errors
/// What is asked for and what was given.
pub(crate) fn fits_model(from: &Type, wanted: &Type) -> Result<(), String> {
    let fits = match from {
        Type::Optional(from) => return fits_model(from, wanted),
        Type::OneOf(all) => all.iter().any(|from| fits_model(from, wanted).is_ok()),
        from if wanted.is_texts() => {
            let row = if let Type::List(row) = wanted { row } else { wanted };
            assignable(from, wanted).is_ok() || assignable(from, row).is_ok()
        }
        Type::Text | Type::Bytes | Type::Map(_) | Type::None => false,
        Type::List(item) => fits_model(item, &Type::Any).is_ok(),
        Type::Tensor(given) => match wanted {
            Type::Tensor(wanted) => {
                given.overlaps(wanted) || one_row(wanted).is_some_and(|row| given.overlaps(&row))
            }
            _ => true,
        },
        Type::Any | Type::Bool | Type::Int | Type::Float => true,
    };
    if fits { Ok(()) } else { Err(format!("expected `{wanted}`, found `{from}`")) }
}

/// A tensor without its first axis, where one row may stand for a tensor of one.
fn one_row(tensor: &TensorShape) -> Option<TensorShape> {
    let (first, row) = tensor.shape.as_ref()?.split_first()?;
    let shape = row.to_vec();
    first.is_none_or(|size| size == 1).then_some(TensorShape { dtype: tensor.dtype, shape: Some(shape) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Plan;

    const FILE: &str = r#"name = "p"
route = "/p"
[request]
row = "f32[4]"
rows = "f32[?,4]"
five = "f32[?,5]"
wide = "f64[?,4]"
numbers = "float[][]"
words = "text[]"
[deployments.iris]
engine = "onnx"
task = "tensor"
model = "file:iris.onnx"
[stages.scored]
use = "iris"
inputs = { INPUTS }
[response]
label = "RESPONSE"
"#;

    fn check(inputs: &str, response: &str) -> Result<(), String> {
        let file = FILE.replace("INPUTS", inputs).replace("RESPONSE", response);
        // Without the model nothing of this is known.
        Plan::compile("p.toml", &file).unwrap();
        let tensor = |text: &str| text.parse::<PortType>().unwrap();
        let signature = ModelSignature {
            inputs: [("float_input".to_owned(), tensor("f32[?,4]"))].into(),
            outputs: [
                ("label".to_owned(), tensor("i64[?]")),
                ("probabilities".to_owned(), tensor("f32[?,3]")),
            ]
            .into(),
        };
        let signatures = [("iris".parse().unwrap(), Arc::new(signature))].into();
        let compiled = Plan::compile_with("p.toml", &file, &signatures);
        compiled.map(drop).map_err(|faults| faults.to_string())
    }

    #[test]
    fn what_fits_the_model_passes() {
        for given in ["request.rows", "request.row", "request.numbers"] {
            for response in ["scored.label", "scored.probabilities", "scored"] {
                assert_eq!(
                    check(&format!("float_input = \"{given}\""), response),
                    Ok(()),
                    "{given} {response}"
                );
            }
        }
    }

    #[test]
    fn what_the_model_does_not_have_is_a_fault_at_its_place() {
        let good = "float_input = \"request.rows\"";
        for (inputs, response, expected) in [
            (
                "features = \"request.rows\"",
                "scored.label",
                "p.toml:16:12: stage `scored`: `inputs.features` is unknown: the model has no such input",
            ),
            ("features = \"request.rows\"", "scored.label", "the input `float_input` is missing"),
            (
                "float_input = \"request.five\"",
                "scored.label",
                "p.toml:16:26: stage `scored`: `inputs.float_input`: expected `f32[?,4]`, found `f32[?,5]`",
            ),
            ("float_input = \"request.wide\"", "scored.label", "expected `f32[?,4]`, found `f64[?,4]`"),
            ("float_input = \"request.words\"", "scored.label", "expected `f32[?,4]`, found `text[]`"),
            (good, "scored.labels", "labels"),
        ] {
            let faults = check(inputs, response).unwrap_err();
            assert!(faults.contains(expected), "{faults}");
        }
        assert!(check(good, "scored.labels").unwrap_err().contains("did you mean `label`?"));
    }
    #[test]
    fn texts_go_into_tensors_of_texts_alone() {
        let fits = |from: &str, port: &str| {
            let from = from.parse::<crate::request::FieldType>().unwrap().ty();
            fits_model(&from, &(&port.parse::<PortType>().unwrap()).into())
        };
        for (from, port) in [
            ("text[]", "text[?]"),
            ("text", "text[?]"),
            ("text[][]", "text[?,1]"),
            ("text[]", "text[?,1]"),
            ("json", "text[?]"),
        ] {
            assert_eq!(fits(from, port), Ok(()), "{from} into {port}");
        }
        for (from, port) in [
            ("text[]", "f32[?]"),
            ("float[]", "text[?]"),
            ("f32[?]", "text[?]"),
            ("text", "text[?,1]"),
            ("text[][]", "text[?]"),
            ("bytes", "text[?]"),
        ] {
            assert!(fits(from, port).is_err(), "{from} into {port}");
        }
    }
}
