//! The engines of this build, and which of them runs a deployment. The only place that knows the cargo features.

use std::path::{Path, PathBuf};

use millstream_engine::{EngineFactory, LoadArgs, LoadError};
use millstream_pipelines::EngineKind;

use crate::echo::EchoFactory;

/// Every engine of this build, in the order in which `engine = "auto"` asks them.
pub(crate) struct Engines {
    factories: Vec<Box<dyn EngineFactory>>,
}

impl Engines {
    /// The engines that the features of this build name, and echo.
    pub(crate) fn new(onnxruntime: Option<PathBuf>, data_dir: &Path) -> Self {
        let _ = (&onnxruntime, data_dir);
        let factories: Vec<Box<dyn EngineFactory>> = vec![Box::new(EchoFactory)];
        Self { factories }
    }

    /// Exactly these, for tests.
    #[cfg(test)]
    pub(crate) fn of(factories: Vec<Box<dyn EngineFactory>>) -> Self {
        Self { factories }
    }

    /// The engine that runs the deployment: the named one, or for `auto` the first that accepts the model.
    pub(crate) fn choose(&self, args: &LoadArgs<'_>) -> Result<&dyn EngineFactory, LoadError> {
        match name(args.spec.engine) {
            Some(name) => self.named(name),
            None => self.first_that_accepts(args),
        }
    }

    fn named(&self, name: &str) -> Result<&dyn EngineFactory, LoadError> {
        let found = self.factories.iter().find(|factory| factory.name() == name);
        found.map(|factory| &**factory).ok_or_else(|| {
            let there: Vec<_> = self.factories.iter().map(|factory| format!("`{}`", factory.name())).collect();
            LoadError::NotInstalled(format!(
                "engine `{name}` is not part of this build, which has {}; build with the feature `{name}`, or leave \
                 `engine` out",
                there.join(", ")
            ))
        })
    }

    fn first_that_accepts(&self, args: &LoadArgs<'_>) -> Result<&dyn EngineFactory, LoadError> {
        let mut reasons = Vec::new();
        for factory in &self.factories {
            match factory.accepts(args) {
                Ok(()) => return Ok(&**factory),
                Err(reason) => reasons.push(format!("`{}`: {reason}", factory.name())),
            }
        }
        Err(LoadError::Unsupported(format!(
            "no engine of this build runs the model for task `{}`: {}",
            task(args),
            reasons.join("; ")
        )))
    }
}

/// The engine's name; `None` leaves the choice to the model's files.
fn name(kind: EngineKind) -> Option<&'static str> {
    match kind {
        EngineKind::Auto => None,
        EngineKind::Onnx => Some("onnx"),
        EngineKind::Candle => Some("candle"),
        EngineKind::Generator => Some("generator"),
        EngineKind::Process => Some("process"),
        EngineKind::Echo => Some("echo"),
    }
}

fn task(args: &LoadArgs<'_>) -> String {
    format!("{:?}", args.spec.task).to_lowercase()
}
