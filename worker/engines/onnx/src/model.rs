//! A model's session: opening it, what it takes and gives, running it.

use std::path::Path;
use std::sync::Arc;

use millstream_batching::Company;
use millstream_engine::{LoadError, ModelStore};
use millstream_model_files::open;
use ort::environment::Environment;
use ort::session::{Session, SessionInputValue, SessionOutputs};
use ort::value::{Outlet, ValueType};
use parking_lot::Mutex;

use crate::array::Array;
use crate::bridge::{borrow, copy_out, element_of};
use crate::external::external_files;
use crate::port::{Dim, Port};
use crate::session::{self, path_of};
use crate::shared::{MIN_SHARED_BYTES, SharedModel};

/// An opened model: what it takes and gives, which its lanes share.
pub(crate) struct Model {
    /// What it takes, in its own order.
    pub(crate) inputs: Vec<Port>,
    /// What it gives, in its own order; outputs that are not tensors are left out.
    pub(crate) outputs: Vec<Port>,
    /// Bytes of its weights on disk.
    pub(crate) num_bytes: u64,
    /// What its sessions share, kept for the replicas to come.
    _shared: Option<Arc<SharedModel>>,
}

/// A model that is to be opened.
pub(crate) struct Opening<'a> {
    pub(crate) environment: &'a Environment,
    pub(crate) file: &'a Path,
    /// What it may compute on, at least 1.
    pub(crate) threads: usize,
    /// How many lanes were asked for.
    pub(crate) num_lanes: Option<usize>,
    /// What replicas of one model share.
    pub(crate) models: &'a ModelStore,
    /// A folder for files without a name; `None` for that of the system.
    pub(crate) scratch: Option<&'a Path>,
}

/// What runs a model, one run at a time: a session with one thread, and one with all threads that the lanes share for runs that have
/// no company. They share the model's weights.
pub(crate) struct Lane {
    model: Arc<Model>,
    own: Session,
    /// `None` where the lane's own session has all threads.
    whole: Option<Arc<Mutex<Session>>>,
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
    /// Opens a model: its lanes.
    ///
    /// # Errors
    /// [`LoadError::Model`] for files that ONNX Runtime does not read or that keep weights outside their folder,
    /// [`LoadError::Unsupported`] for inputs that are not tensors of numbers, booleans or texts.
    pub(crate) fn open(opening: &Opening<'_>) -> Result<Vec<Lane>, LoadError> {
        let Opening { environment, file, threads, models, scratch, .. } = *opening;
        let source = open(file)?;
        let external = external_files(&source, file)?;
        let size = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
        let num_bytes = size(file) + external.iter().map(|path| size(path)).sum::<u64>();
        // What was opened and checked is what is read; only a model with files beside it must be read by its name.
        let path = if external.is_empty() { path_of(&source, file) } else { file.to_path_buf() };
        let refused = |error: ort::Error| {
            let shown = file.display().to_string();
            let reason = error.message().replace(&*path.to_string_lossy(), &shown);
            LoadError::Model(format!("ONNX Runtime does not read `{shown}`: {reason}"))
        };
        let shared = if external.is_empty() && SharedModel::is_worth_it(num_bytes) {
            let (dir, name) = (file.parent().unwrap_or(Path::new(".")), file.file_name().unwrap_or_default());
            let load = || SharedModel::of(environment, &path, scratch).map_err(refused);
            let shared = models.get_or_load("onnx", name.to_string_lossy(), dir, load);
            // If it is the model, the sessions say so too.
            let cause =
                |error: &LoadError| tracing::warn!(%error, "each lane has the model's weights for itself");
            shared.inspect_err(cause).ok()
        } else {
            None
        };
        let open = |threads| {
            let opened = match &shared {
                Some(shared) => shared.session(environment, threads),
                None => session::of_file(environment, threads, &path),
            };
            opened.map_err(refused)
        };
        // Each lane of a large model that does not share its weights would have them once more.
        let num_default = if shared.is_some() || num_bytes < MIN_SHARED_BYTES { threads } else { 1 };
        let num_lanes = opening.num_lanes.unwrap_or(num_default);
        // One after the other: each holds the file's contents while it opens.
        let whole = open(threads)?;
        let model = Arc::new(Self::of(&whole, file, num_bytes, shared.clone())?);
        if num_lanes <= 1 {
            return Ok(vec![Lane { model, own: whole, whole: None }]);
        }
        let whole = Arc::new(Mutex::new(whole));
        let lane = |_| Ok(Lane { model: model.clone(), own: open(1)?, whole: Some(whole.clone()) });
        (0..num_lanes).map(lane).collect()
    }

    fn of(
        session: &Session,
        file: &Path,
        num_bytes: u64,
        shared: Option<Arc<SharedModel>>,
    ) -> Result<Self, LoadError> {
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
                "`{}` has no output that is a tensor; export it so that it has one",
                file.display()
            )));
        }
        Ok(Self { inputs, outputs, num_bytes, _shared: shared })
    }
}

impl Lane {
    /// The model that it runs.
    pub(crate) fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Runs the model on tensors in the order of its inputs; returns tensors in the order of its outputs.
    ///
    /// # Errors
    /// [`RunError`] as ONNX Runtime says.
    pub(crate) fn run(&mut self, inputs: &[Array], company: Company) -> Result<Vec<Array>, RunError> {
        let lent = inputs.iter().map(borrow).collect::<ort::Result<Vec<_>>>()?;
        let model = self.model.clone();
        self.run_values(&lent, company, |outputs| {
            let copied = model.outputs.iter().map(|port| match outputs.get(&port.name) {
                Some(value) => copy_out(value, port.element).map_err(RunError::from),
                None => Err(RunError::Failed(format!("output `{}` is missing", port.name))),
            });
            copied.collect()
        })
    }

    /// Runs the model on ready-made values in the order of its inputs; `read` takes what is wanted of the outputs.
    ///
    /// # Errors
    /// [`RunError`] as ONNX Runtime says, and that of `read`.
    pub(crate) fn run_values<T>(
        &mut self,
        inputs: &[SessionInputValue<'_>],
        company: Company,
        read: impl FnOnce(&SessionOutputs<'_>) -> Result<T, RunError>,
    ) -> Result<T, RunError> {
        // Taken only if no other lane has it: a run that began alone may have got company meanwhile.
        let whole = self.whole.as_ref().filter(|_| company == Company::Alone);
        match whole.and_then(|whole| whole.try_lock()) {
            Some(mut whole) => read(&whole.run(inputs)?),
            None => read(&self.own.run(inputs)?),
        }
    }
}

/// What an outlet of the graph takes or gives.
fn port(outlet: &Outlet, what: &str) -> Result<Port, LoadError> {
    let unsupported = |found: &str| {
        LoadError::Unsupported(format!(
            "{what} `{}` of the model is {found}; supported are tensors of numbers, booleans and texts (for scikit-learn \
             models: export without `zipmap`)",
            outlet.name()
        ))
    };
    let ValueType::Tensor { ty, shape, dimension_symbols } = outlet.dtype() else {
        return Err(unsupported("not a tensor"));
    };
    let element = element_of(*ty).ok_or_else(|| unsupported(&format!("of type `{ty}`")))?;
    let dims = shape
        .iter()
        .enumerate()
        .map(|(axis, &size)| match usize::try_from(size) {
            Ok(size) => Dim::Fixed(size),
            Err(_) => Dim::Any(dimension_symbols.get(axis).cloned().unwrap_or_default()),
        })
        .collect();
    Ok(Port::new(outlet.name(), element, dims))
}
