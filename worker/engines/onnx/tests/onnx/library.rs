//! Without the library, and with files that are none: clear errors, no panic.

use millstream_engine::{EngineFactory, LoadError};
use millstream_engine_onnx::{OnnxFactory, Places};
use millstream_pipelines::{Device, Task};

use crate::support::{args, data, factory, load, spec};

#[test]
fn a_missing_library_is_an_error_that_says_how_to_get_it() {
    let dir = tempfile::tempdir().unwrap();
    let factory = OnnxFactory::with_places(Places { explicit: None, folders: vec![dir.path().join("lib")] });
    let spec = spec(Task::Tensor, 1);
    for outcome in [
        factory.accepts(&args(&spec, &data("linear.onnx"))),
        factory.load(&args(&spec, &data("linear.onnx"))).map(|_| ()),
    ] {
        let Err(LoadError::NotInstalled(text)) = outcome else { panic!("{outcome:?}") };
        assert!(text.contains("pip download") && text.contains("tests/setup"), "{text}");
    }
}

#[test]
fn what_the_engine_does_not_do_is_refused_before_the_library_is_looked_for() {
    let factory = OnnxFactory::with_places(Places { explicit: None, folders: Vec::new() });
    let refused = |spec: &_, model: &std::path::Path| match factory.accepts(&args(spec, model)) {
        Err(LoadError::Unsupported(text)) => text,
        other => panic!("{other:?}"),
    };
    assert!(refused(&spec(Task::Generate, 1), &data("linear.onnx")).contains("choose another engine"));
    let gpu = millstream_pipelines::DeploymentSpec { device: Device::Gpu, ..spec(Task::Tensor, 1) };
    assert!(refused(&gpu, &data("linear.onnx")).contains("computes on the CPU"));
    let empty = tempfile::tempdir().unwrap();
    assert!(refused(&spec(Task::Tensor, 1), empty.path()).contains("has no `model.onnx`"));
    assert!(refused(&spec(Task::Tensor, 1), &data("")).contains("several `.onnx` files"));
    assert!(refused(&spec(Task::Embed, 1), &data("linear.onnx")).contains("`tokenizer.json` is missing"));
}

#[test]
fn files_that_are_no_model_are_errors() {
    let Some(factory) = factory() else { return };
    let dir = tempfile::tempdir().unwrap();
    for content in [&b""[..], b"not a model at all", &[0xff; 100]] {
        std::fs::write(dir.path().join("model.onnx"), content).unwrap();
        match load(&factory, &spec(Task::Tensor, 1), dir.path()) {
            Err(LoadError::Model(text)) => assert!(text.contains("model.onnx"), "{text}"),
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("{content:?} was loaded"),
        }
    }
    assert!(factory.accepts(&args(&spec(Task::Tensor, 1), &data("linear.onnx"))).is_ok());
}
