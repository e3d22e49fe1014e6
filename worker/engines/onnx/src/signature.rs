//! What a model takes and returns, as its file says: for those who check a pipeline without loading its models, and where
//! ONNX Runtime need not be installed.

use std::collections::BTreeMap;
use std::path::Path;

use millstream_model_files::open;
use millstream_pipelines::PortType;
use millstream_pipelines::types::ModelSignature;

use crate::factory::model_file_in;
use crate::outline::{Outline, PortOutline};

/// The signature of the model in a folder, or of a model's file. `None` where the file does not say all of it, and for a model that
/// cannot be used: why is said when it is loaded.
#[must_use]
pub fn signature_of(path: &Path) -> Option<ModelSignature> {
    let file = open(&model_file_in(path).ok()?).ok()?;
    let outline = Outline::read(&file).ok()?;
    let is_weight = |port: &PortOutline| {
        outline.initializers.iter().any(|weight| weight.is_of_main_graph && weight.name == port.name)
    };
    let own = |port: &&PortOutline| port.is_of_main_graph && !is_weight(port);
    let inputs = outline.inputs.iter().filter(own);
    let inputs = inputs.map(|port| Some((port.name.clone(), type_of(port)?))).collect::<Option<_>>()?;
    // What is not a tensor is left out of the answer.
    let outputs = outline.outputs.iter().filter(own);
    let outputs: BTreeMap<_, _> =
        outputs.filter_map(|port| Some((port.name.clone(), type_of(port)?))).collect();
    (!outputs.is_empty()).then_some(ModelSignature { inputs, outputs })
}

fn type_of(port: &PortOutline) -> Option<PortType> {
    let size = |size: &Option<u64>| size.and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
    let shape = port.shape.as_ref()?.iter().map(size).collect();
    Some(PortType { element: port.element?, shape })
}

#[cfg(test)]
mod tests {
    use millstream_engine::ModelStore;

    use super::*;
    use crate::model::{Model, Opening};
    use crate::tensor_engine::signature;
    use crate::testing;

    #[test]
    fn the_file_says_what_the_loaded_model_says() {
        let Some(environment) = testing::environment() else { return };
        let classifier = "../../../../../pipelines/models/tabular-classifier/model.onnx";
        for file in [
            "add.onnx",
            "linear.onnx",
            "lookup.onnx",
            "types.onnx",
            "texts.onnx",
            "external.onnx",
            "transposed.onnx",
            classifier,
        ] {
            let file = testing::data(file);
            let lanes = Model::open(&Opening {
                environment: &environment,
                file: &file,
                threads: 1,
                num_lanes: None,
                models: &ModelStore::default(),
                scratch: None,
            });
            let model = lanes.unwrap().remove(0).model().clone();
            assert_eq!(
                signature_of(&file),
                Some(signature(&model.inputs, &model.outputs)),
                "{}",
                file.display()
            );
        }
        assert_eq!(signature_of(&testing::data("make.py")), None);
    }
}
