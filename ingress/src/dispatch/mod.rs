//! From a stage's call to a replica: admission, queue, choice, ejection. The decisions are plain functions of plain
//! data ([`admission`], [`router`], [`ejection`], [`queue`], [`pool`]); [`deployment`] carries them out.

mod admission;
mod deployment;
mod ejection;
mod latency;
pub(crate) mod outcomes;
mod place;
pub(crate) mod pool;
mod queue;
pub(crate) mod router;
mod settings;
mod target;

pub(crate) use deployment::{Deployment, Load, Permit};
pub(crate) use outcomes::{CallCounts, Outcomes};
pub(crate) use place::{Arrival, StandIns};
pub(crate) use pool::{
    Eligibility, Key, QueueClass, RoutingRequest, Shed, ShedReason, Standing, StartFailure,
};
pub(crate) use router::Locality;
pub(crate) use settings::DeploymentSettings;
pub(crate) use target::{NewRoute, NewTarget};
