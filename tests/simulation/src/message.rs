//! What processes say to one another, and on which end of which connection.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_core::model::{Counted, Load, Order, Registration, Report, RouteTable, TableVersion};
use millstream_pipelines::FullName;
use millstream_proto::{CallError, IngressId, ReplicaId};

/// A connection; never used twice.
pub(crate) type ConnId = u64;

/// Which end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Dialler,
    Accepter,
}

impl End {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Accepter,
            Self::Accepter => Self::Dialler,
        }
    }

    pub(crate) fn index(self) -> usize {
        usize::from(self == Self::Accepter)
    }
}

/// What is said.
#[derive(Debug)]
pub(crate) enum Message {
    /// Worker to head, first: who it is, what runs, the highest epoch that it has obeyed.
    Register(Registration, u64),
    /// Worker to head: it lives; ongoing requests by replica.
    Heartbeat(BTreeMap<ReplicaId, u64>),
    /// Worker to head.
    Replica(Report),
    /// Head to worker, with the head's epoch.
    Command(u64, Command),
    /// Ingress to head, first.
    Hello(IngressId),
    /// Head to ingress, with its epoch.
    Table(u64, RouteTable),
    /// Ingress to head: the table of that version is in force.
    Ack(TableVersion),
    /// Ingress to head: its requests, and how calls and requests ended.
    Load(BTreeMap<FullName, Load>, Counted),
    /// Ingress to worker: run a call.
    Call { call: u64, replica: ReplicaId },
    /// Ingress to worker: nobody waits for that call any more.
    Cancel(u64),
    /// Worker to ingress: how a call ended.
    Reply(u64, Result<(), CallError>),
}

/// What a head tells a worker.
#[derive(Debug)]
pub(crate) enum Command {
    Registered,
    Start(Box<Order>),
    Stop(ReplicaId, Duration),
}
