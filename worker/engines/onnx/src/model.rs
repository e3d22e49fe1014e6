//! A model's session: opening it, what it takes and gives, running it.

use std::path::Path;

use millstream_engine::LoadError;
use millstream_values::Tensor;
use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionInputValue, SessionOutputs};
use ort::value::{Outlet, ValueType};

use crate::bridge::{copy_out, dtype_of, lend};
use crate::external::external_files;
use crate::port::{Dim, Port};

/// An opened model.
pub(crate) struct Model {
    session: Session,
    /// What it takes, in its own order.
    pub(crate) inputs: Vec<Port>,
    /// What it gives, in its own order; outputs that are not tensors of numbers are left out.
    pub(crate) outputs: Vec<Port>,
    /// Bytes of its weights on disk.
    pub(crate) num_bytes: u64,
}

/// Why a run gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunError {
    /// The model does not take these values, as far as ONNX Runtime can tell; its words, for operators.
    Refused(String),
    /// Something else; its words, for operators.
    Failed(String),
}

impl RunError {
    /// ONNX Runtime's words.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Refused(reason) | Self::Failed(reason) => reason,
        }
    }
}

impl From<ort::Error> for RunError {
    fn from(error: ort::Error) -> Self {
        use ort::ErrorCode::{GenericFailure, InvalidArgument, RuntimeException};
        // Types and shapes of the ports are checked before; what fails within the graph then is almost always a value (an
        // index out of range) or a combination of sizes. Lack of memory comes under the same codes.
        match error.code() {
            InvalidArgument | GenericFailure | RuntimeException if !error.message().contains("lloc") => {
                Self::Refused(error.message().to_owned())
            }
            _ => Self::Failed(error.message().to_owned()),
        }
    }
}

impl Model {
    /// Opens the model in `file`, to be run on `threads` threads.
    ///
    /// # Errors
    /// [`LoadError::Model`] for files that ONNX Runtime does not read or that keep weights outside their folder,
    /// [`LoadError::Unsupported`] for inputs that are not tensors of numbers.
    pub(crate) fn open(environment: &Environment, file: &Path, threads: usize) -> Result<Self, LoadError> {
        let external = external_files(file)?;
        let size = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
        let num_bytes = size(file) + external.iter().map(|path| size(path)).sum::<u64>();
        let session = session(environment, file, threads).map_err(|error| {
            LoadError::Model(format!("ONNX Runtime does not read `{}`: {}", file.display(), error.message()))
        })?;
        let inputs = session.inputs().iter().map(|outlet| port(outlet, "input")).collect::<Result<_, _>>()?;
        let mut outputs = Vec::new();
        for outlet in session.outputs() {
            match port(outlet, "output") {
                Ok(port) => outputs.push(port),
                Err(error) => tracing::warn!(error = %error, "an output of a model is left out"),
            }
        }
        if outputs.is_empty() {
            return Err(LoadError::Unsupported(format!(
                "`{}` has no output that is a tensor of numbers; export it so that it has one",
                file.display()
            )));
        }
        Ok(Self { session, inputs, outputs, num_bytes })
    }

    /// Runs the model on tensors in the order of `inputs`; gives tensors in the order of `outputs`.
    ///
    /// # Errors
    /// [`RunError`] as ONNX Runtime says.
    pub(crate) fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        let lent = inputs.iter().map(lend).collect::<ort::Result<Vec<_>>>()?;
        let outputs = self.session.run(&lent[..])?;
        let copied = self.outputs.iter().map(|port| match outputs.get(&port.name) {
            Some(value) => copy_out(value, port.dtype).map_err(RunError::from),
            None => Err(RunError::Failed(format!("output `{}` is missing", port.name))),
        });
        copied.collect()
    }

    /// Runs the model on ready-made values in the order of `inputs`; the caller reads the outputs.
    ///
    /// # Errors
    /// [`RunError`] as ONNX Runtime says.
    pub(crate) fn run_values(
        &mut self,
        inputs: &[SessionInputValue<'_>],
    ) -> Result<SessionOutputs<'_>, RunError> {
        Ok(self.session.run(inputs)?)
    }
}

/// Threads wait instead of spinning: replicas share their cores with one another and with the servers, and a thread that
/// spins for its neighbour's work takes the core that the neighbour needs.
fn session(environment: &Environment, file: &Path, threads: usize) -> ort::Result<Session> {
    Session::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::Level3)
        .map_err(plain)?
        .with_intra_threads(threads)
        .map_err(plain)?
        .with_inter_threads(1)
        .map_err(plain)?
        .with_intra_op_spinning(false)
        .map_err(plain)?
        // What fails is told by the run's own error; its log would tell it once more, for every bad input of a client.
        .with_log_level(LogLevel::Fatal)
        .map_err(plain)?
        .commit_from_file(file)
}

/// Drops the builder that an option's error carries for recovery.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn plain<R>(error: ort::Error<R>) -> ort::Error {
    ort::Error::new_with_code(error.code(), error.message().to_owned())
}

/// What an outlet of the graph takes or gives.
fn port(outlet: &Outlet, what: &str) -> Result<Port, LoadError> {
    let unsupported = |found: &str| {
        LoadError::Unsupported(format!(
            "{what} `{}` of the model is {found}; supported are tensors of numbers and booleans (for scikit-learn models: \
             export without `zipmap`)",
            outlet.name()
        ))
    };
    let ValueType::Tensor { ty, shape, dimension_symbols } = outlet.dtype() else {
        return Err(unsupported("not a tensor"));
    };
    let dtype = dtype_of(*ty).ok_or_else(|| unsupported(&format!("of type `{ty}`")))?;
    let dims = shape
        .iter()
        .enumerate()
        .map(|(axis, &size)| match usize::try_from(size) {
            Ok(size) => Dim::Fixed(size),
            Err(_) => Dim::Any(dimension_symbols.get(axis).cloned().unwrap_or_default()),
        })
        .collect();
    Ok(Port::new(outlet.name(), dtype, dims))
}
