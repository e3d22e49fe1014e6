//! The pipeline language: one TOML file that wires models into a DAG becomes a checked, compiled [`Plan`], and a
//! [`Run`] executes a plan for one request.
//!
//! Nothing here does I/O, awaits, reads a clock, or knows about nodes and replicas: the ingress carries out what a
//! run asks for, the head places the deployments, the worker starts them.
#![forbid(unsafe_code)]

mod alias;
mod check;
pub mod expr;
mod fault;
mod formula;
mod name;
mod ops;
mod plan;
mod port;
mod raw;
mod redact;
mod request;
mod request_error;
mod run;
mod spec;
pub mod types;

pub use alias::{Alias, AliasError, MAX_ALIAS_LENGTH};
pub use fault::{Color, Fault, Faults};
pub use formula::Formula;
pub use name::{FullName, MAX_NAME_LENGTH, Name, NameError};
pub use plan::{CachedStage, Chat, Interface, InterfaceField, OnError, Plan, Request, StageOutline};
pub use port::{DeclaredInputs, Element, PortType};
pub use raw::{closest, format_bytes, parse_duration};
pub use redact::{REDACTED, RedactedPath, redact_answer, redact_request};
pub use request::{MAX_ITEMS, MAX_VALUES, push_float, push_whole};
pub use request_error::{FieldFault, RequestError};
pub use run::{Action, CallId, Run, RunError, StageCall, StageFailure};
pub use spec::{
    AnswerTokens, Autoscaling, Batch, Cache, CacheScope, Capture, Demand, DeploymentSpec, Device, Echo,
    EngineKind, EngineSettings, FirstToken, GpuDemand, Hedge, Limits, ModelRef, NextToken, Placement,
    Rollout, Sim, Task, TensorType, TrafficStep,
};
