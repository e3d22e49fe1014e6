//! The engines of this build, and which of them runs a deployment. The only place that knows the cargo features.

use std::path::{Path, PathBuf};

use millstream_engine::{EngineFactory, LoadArgs, LoadError};
use millstream_pipelines::types::ModelSignature;
use millstream_pipelines::{DeploymentSpec, EngineKind, Task};

use crate::Environment;
use crate::echo::EchoFactory;

/// Known to the language, not built yet.
const PROCESS: &str = "process";
/// Run no model.
const ECHO: &str = "echo";
const SIM: &str = "sim";

/// What a model's files say of what it takes and returns, without loading it; `None` where they say nothing that an engine of
/// this build reads.
#[cfg_attr(not(feature = "onnx"), expect(unused_variables, reason = "only ONNX files say it"))]
pub(crate) fn signature_of(spec: &DeploymentSpec, model: &Path) -> Option<ModelSignature> {
    #[cfg(feature = "onnx")]
    if matches!(spec.engine, EngineKind::Auto | EngineKind::Onnx) && ModelSignature::applies_to(spec) {
        return millstream_engine_onnx::signature_of(model);
    }
    None
}

/// Every engine of this build, in the order in which `engine = "auto"` asks them.
pub(crate) struct Engines {
    factories: Vec<Box<dyn EngineFactory>>,
}

impl Engines {
    /// The engines that the features of this build name, and those that run no model. Heavy parts are loaded with the first model.
    #[cfg_attr(
        not(feature = "onnx"),
        expect(unused_variables, clippy::needless_pass_by_value, reason = "only ONNX Runtime is looked for")
    )]
    pub(crate) fn new(onnxruntime: Option<PathBuf>, data_dir: &Path, environment: &Environment) -> Self {
        let factories: Vec<Box<dyn EngineFactory>> = vec![
            #[cfg(feature = "onnx")]
            Box::new(millstream_engine_onnx::OnnxFactory::new(onnxruntime, data_dir, |name| {
                environment.get(name).cloned()
            })),
            #[cfg(feature = "candle")]
            Box::new(millstream_engine_candle::CandleFactory::new()),
            #[cfg(feature = "generator")]
            Box::new(millstream_engine_generator::GeneratorFactory::new()),
            Box::new(millstream_engine_sim::SimFactory::default()),
            Box::new(EchoFactory),
        ];
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
            if name == PROCESS {
                return LoadError::NotInstalled(format!(
                    "engine `{PROCESS}` is not part of this version; choose another `engine`"
                ));
            }
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
                Err(reason) => reasons.push((factory.name(), reason.to_string())),
            }
        }
        // What runs no model never had a chance.
        reasons.retain(|(name, _)| ![ECHO, SIM].contains(name));
        let meant = likeliest(args);
        reasons.sort_by_key(|(name, _)| *name != meant);
        let mut reasons = reasons.into_iter();
        let first =
            reasons.next().map_or_else(String::new, |(name, reason)| format!(": {reason} (engine `{name}`)"));
        let others: String =
            reasons.map(|(name, reason)| format!("\n  nor does engine `{name}`: {reason}")).collect();
        Err(LoadError::Unsupported(format!(
            "no engine runs the model for task `{}`{first}{others}",
            task(args)
        )))
    }
}

/// The engine that was most probably meant, by the model's files and the task.
fn likeliest(args: &LoadArgs<'_>) -> &'static str {
    let is_onnx = |path: &Path| path.extension().is_some_and(|extension| extension == "onnx");
    let has_onnx = args.model_dir.as_deref().is_some_and(|model| {
        let files = std::fs::read_dir(model).into_iter().flatten().flatten();
        is_onnx(model) || files.map(|file| file.path()).any(|path| is_onnx(&path))
    });
    match args.spec.task {
        Task::Generate => "generator",
        Task::Tensor | Task::Custom => "onnx",
        _ if has_onnx => "onnx",
        _ => "candle",
    }
}

/// The engine's name; `None` leaves the choice to the model's files.
fn name(kind: EngineKind) -> Option<&'static str> {
    match kind {
        EngineKind::Auto => None,
        EngineKind::Onnx => Some("onnx"),
        EngineKind::Candle => Some("candle"),
        EngineKind::Generator => Some("generator"),
        EngineKind::Process => Some(PROCESS),
        EngineKind::Echo => Some(ECHO),
        EngineKind::Sim => Some(SIM),
    }
}

fn task(args: &LoadArgs<'_>) -> String {
    format!("{:?}", args.spec.task).to_lowercase()
}

#[cfg(test)]
mod tests {
    use millstream_engine::ModelStore;

    use super::*;
    use crate::testing::echo_spec;
    use millstream_replica::testing::{Probe, StepFactory};

    fn choose(engines: &Engines, engine: EngineKind) -> Result<&'static str, String> {
        let spec = millstream_pipelines::DeploymentSpec { engine, ..echo_spec("model") };
        let models = ModelStore::default();
        let args = LoadArgs {
            spec: &spec,
            model_dir: None,
            threads: 1,
            gpus: &[],
            models: &models,
            progress: &|_| (),
        };
        engines.choose(&args).map(EngineFactory::name).map_err(|error| error.to_string())
    }

    #[test]
    fn a_named_engine_is_taken_and_a_missing_one_says_what_there_is() {
        let engines = Engines::of(vec![Box::new(StepFactory(Probe::default())), Box::new(EchoFactory)]);
        assert_eq!(choose(&engines, EngineKind::Echo), Ok("echo"));
        assert_eq!(choose(&engines, EngineKind::Candle), Ok("candle"));
        let text = choose(&engines, EngineKind::Onnx).unwrap_err();
        assert!(text.contains("`onnx` is not part of this build, which has `candle`, `echo`"), "{text}");
        let text = choose(&engines, EngineKind::Process).unwrap_err();
        assert!(text.contains("not part of this version"), "{text}");
    }

    #[test]
    fn auto_takes_the_first_that_accepts_and_lists_every_reason() {
        let engines = Engines::of(vec![Box::new(EchoFactory), Box::new(StepFactory(Probe::default()))]);
        assert_eq!(choose(&engines, EngineKind::Auto), Ok("candle"));
        let text = choose(&Engines::of(vec![Box::new(EchoFactory)]), EngineKind::Auto).unwrap_err();
        assert_eq!(text, "no engine runs the model for task `custom`", "echo never had a chance");
        // The likeliest reason comes first.
        let engines = Engines::of(vec![Box::new(Refuses("candle")), Box::new(Refuses("onnx"))]);
        let text = choose(&engines, EngineKind::Auto).unwrap_err();
        let expected = "no engine runs the model for task `custom`: not for onnx (engine `onnx`)\n  nor does engine `candle`: not for candle";
        assert_eq!(text, expected);
    }

    /// An engine that runs nothing.
    struct Refuses(&'static str);

    impl EngineFactory for Refuses {
        fn name(&self) -> &'static str {
            self.0
        }

        fn accepts(&self, _: &LoadArgs<'_>) -> Result<(), LoadError> {
            Err(LoadError::Unsupported(format!("not for {}", self.0)))
        }

        fn load(&self, args: &LoadArgs<'_>) -> Result<millstream_engine::Engine, LoadError> {
            self.accepts(args)?;
            Err(LoadError::Unsupported(String::new()))
        }
    }

    /// Every bundled model is found by its name, loaded by the engine that `auto` picks, and warms up.
    #[cfg(all(feature = "candle", feature = "generator", feature = "onnx"))]
    #[test]
    fn the_bundled_models_run() {
        use millstream_engine::Engine;
        use millstream_pipelines::{DeploymentSpec, ModelRef, Task};

        let data_dir = tempfile::tempdir().unwrap();
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect();
        let engines = Engines::new(None, data_dir.path(), &environment);
        let models = [Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/models")];
        let cases = [
            ("mini-embedder", Task::Embed, "candle"),
            ("mini-reranker", Task::Rerank, "candle"),
            ("mini-generator", Task::Generate, "generator"),
            ("tabular-classifier", Task::Tensor, "onnx"),
        ];
        for (name, task, expected) in cases {
            let model = ModelRef::Alias { name: name.into(), alias: "production".into() };
            let model_dir = Some(crate::models::resolve(&model, &models, Path::new("")).unwrap());
            let spec = DeploymentSpec {
                task,
                engine: EngineKind::Auto,
                engine_settings: None,
                ..echo_spec("model")
            };
            let models = ModelStore::default();
            let args = LoadArgs {
                spec: &spec,
                model_dir,
                threads: 1,
                gpus: &[],
                models: &models,
                progress: &|_| (),
            };
            let factory = match engines.choose(&args) {
                Err(error) if expected == "onnx" && error.to_string().contains("ONNX Runtime") => {
                    eprintln!("skipped `{name}`: {error}");
                    continue;
                }
                chosen => chosen.unwrap(),
            };
            assert_eq!(factory.name(), expected, "{name}");
            let Engine::Stepping(mut lanes) = factory.load(&args).unwrap() else { panic!("{name} computes") };
            lanes.iter_mut().for_each(|lane| lane.warm_up().unwrap());
            assert!(lanes[0].memory_bytes() > 1000, "{name}");
        }
    }
}
