//! Inputs and value of a call to a deployment, by its task.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_values::DType;

use super::{MapType, TensorShape, Type};
use crate::{DeploymentSpec, Task};

/// An input of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputField {
    /// Its name.
    pub name: Arc<str>,
    /// What it takes.
    pub ty: Type,
    /// Whether it must be given.
    pub required: bool,
}

/// The inputs that a stage takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inputs {
    /// The known ones.
    pub fields: Vec<InputField>,
    /// Whether others are taken too.
    pub open: bool,
    /// Inputs of which exactly one must be given, such as `prompt` and `messages`; empty for none.
    pub exactly_one_of: Vec<Arc<str>>,
}

impl Inputs {
    /// Any inputs: deployments of other pipelines, echo, `op:merge`.
    #[must_use]
    pub fn any() -> Self {
        Self { open: true, ..Self::default() }
    }

    /// The input of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&InputField> {
        self.fields.iter().find(|field| &*field.name == name)
    }

    pub(crate) fn required(mut self, name: &str, ty: Type) -> Self {
        self.fields.push(InputField { name: name.into(), ty, required: true });
        self
    }

    pub(crate) fn optional(mut self, name: &str, ty: Type) -> Self {
        self.fields.push(InputField { name: name.into(), ty, required: false });
        self
    }
}

/// What a call to that deployment takes.
#[must_use]
pub fn task_inputs(spec: &DeploymentSpec) -> Inputs {
    let texts = || Type::list(Type::Text);
    match spec.task {
        Task::Embed => cut(Inputs::default()
            .required("texts", texts())
            .optional("prompt_name", Type::Text)
            .optional("input_type", Type::Text)),
        Task::Classify => cut(Inputs::default().required("texts", texts()).optional("top_k", Type::Int)),
        Task::Rerank => cut(Inputs::default()
            .required("query", Type::Text)
            .required("documents", texts())
            .optional("keep", Type::Int)
            .optional("max_document_tokens", Type::Int)),
        Task::Generate => generate_inputs(),
        Task::Tensor | Task::Custom if spec.inputs.signature.is_empty() => Inputs::any(),
        Task::Tensor | Task::Custom => spec
            .inputs
            .signature
            .iter()
            .fold(Inputs::default(), |inputs, (name, ty)| inputs.required(name, ty.into())),
    }
}

/// The same with what says how texts that are too long are cut.
fn cut(inputs: Inputs) -> Inputs {
    inputs.optional("truncate", Type::Text).optional("max_tokens", Type::Int)
}

fn generate_inputs() -> Inputs {
    let message = Type::Map(MapType {
        fields: BTreeMap::from([("role".into(), Type::Text), ("content".into(), Type::Any)]),
        rest: Some(Box::new(Type::Any)),
    });
    let inputs = Inputs::default()
        .optional("prompt", Type::Text)
        .optional("messages", Type::list(message))
        .optional("temperature", Type::Float)
        .optional("top_p", Type::Float)
        .optional("seed", Type::Int)
        .optional("stop", Type::OneOf(vec![Type::Text, Type::list(Type::Text)]))
        .optional("max_tokens", Type::Int);
    Inputs { exactly_one_of: vec!["prompt".into(), "messages".into()], ..inputs }
}

/// What a call to that deployment gives, for inputs of these types.
#[must_use]
pub fn task_output(spec: &DeploymentSpec, inputs: &BTreeMap<Arc<str>, Type>) -> Type {
    match spec.task {
        Task::Embed => Type::tensor(DType::F32, [None, None]),
        Task::Rerank => ranked(Type::Text),
        Task::Generate => {
            Type::map([("text", Type::Text), ("tokens", Type::Int), ("finish_reason", Type::Text)])
        }
        Task::Classify => Type::map([("labels", Type::list(Type::Any)), ("scores", Type::Any)]),
        Task::Tensor => Type::open_map(Type::Tensor(TensorShape::default())),
        Task::Custom if spec.engine == crate::EngineKind::Echo => {
            Type::map(inputs.iter().map(|(name, ty)| (Arc::clone(name), ty.clone())))
        }
        Task::Custom => Type::open_map(Type::Any),
    }
}

/// What ranking gives: `{items, scores, indices}`, best first.
pub(crate) fn ranked(item: Type) -> Type {
    Type::map([
        ("items", Type::list(item)),
        ("scores", Type::list(Type::Float)),
        ("indices", Type::list(Type::Int)),
    ])
}
