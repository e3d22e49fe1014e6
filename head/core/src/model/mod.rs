//! The values that the control plane's decisions are made of: what is observed, what is decided, what is published.

mod checked;
mod command;
mod observation;
mod state;
mod table;
mod table_version;
mod traffic;

pub use checked::Checked;
pub use command::{Command, Order, Reason, Scale};
pub use observation::{Counted, Observation, Registration, Report};
pub use state::{
    AbsentMember, Booking, Conclusion, Device, Ended, Ingress, Leaving, Load, Node, NodeEntry, Pending,
    Replica, ReplicaCounts, Resources, Serving, SessionId, Settling, Starts, State, Unplaced,
};
pub use table::{DeploymentRoute, PipelineRoute, ReplicaRoute, RouteTable, StartFailure, Variant};
pub use table_version::TableVersion;
pub use traffic::{Lately, Traffic};
