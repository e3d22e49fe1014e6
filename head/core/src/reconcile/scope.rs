//! What a pass is about: the whole cluster, or the pipelines that something happened to.
//!
//! A replica's change of state concerns its pipeline alone, and a pass over that costs what the pipeline has. Whatever may
//! concern others (nodes that come and go, what people ask for, freed room while somebody waits for it, time that has passed)
//! is looked at as a whole.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Command, Replica, State};
use millstream_pipelines::Name;
use millstream_status::{NodeId, ReplicaId};

/// What an observation changed: whether and when to decide again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing but when something was heard last.
    Nothing,
    /// Numbers that are only shown.
    Numbers,
    /// What came of requests on revisions that are on trial.
    Outcomes,
    /// An ingress has put a table in force.
    Confirmed,
    /// Something that concerns this pipeline.
    Pipeline(Name),
    /// Something that may concern all.
    Structure,
}

impl Change {
    /// That of a replica that is gone.
    pub(super) fn of(replica: Replica) -> Self {
        Self::Pipeline(replica.deployment.pipeline)
    }
}

/// What changed since the last pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Dirty {
    /// What these pipelines have; nothing when there are none.
    Pipelines(BTreeSet<Name>),
    /// Something that may concern all.
    All,
}

impl Dirty {
    pub(super) const NOTHING: Self = Self::Pipelines(BTreeSet::new());

    pub(super) fn is_nothing(&self) -> bool {
        *self == Self::NOTHING
    }

    pub(super) fn add(&mut self, other: Self) {
        match (self, other) {
            (Self::Pipelines(names), Self::Pipelines(more)) => names.extend(more),
            (all, Self::All) => *all = Self::All,
            (Self::All, _) => {}
        }
    }
}

impl Dirty {
    /// Whom a command concerns: they are looked at again, as it may lead to more.
    pub(super) fn of(command: &Command, state: &State) -> Self {
        match command {
            Command::Serve { pipeline, .. } | Command::ForgetPipeline { pipeline } => pipeline.clone().into(),
            Command::Rollout(change) => change.pipeline.clone().into(),
            Command::Start(order) | Command::Update(order) => order.deployment.pipeline.clone().into(),
            Command::Scale(scale) => scale.deployment.pipeline.clone().into(),
            Command::Retire { node, replica, .. } | Command::Stop { node, replica, .. } => {
                let known = state.nodes.get(node).and_then(|node| node.replicas.get(replica));
                known.map_or(Self::All, |replica| replica.deployment.pipeline.clone().into())
            }
            Command::Settle
            | Command::ReplaceNode { .. }
            | Command::ForgetNode { .. }
            | Command::ForgetIngress { .. }
            | Command::Alarm { .. } => Self::All,
        }
    }
}

impl From<Name> for Dirty {
    fn from(name: Name) -> Self {
        Self::Pipelines([name].into())
    }
}

/// Where replicas are, on a node.
pub(super) type Place = (NodeId, ReplicaId);

/// What a pass is about.
#[derive(Debug, Clone)]
pub(super) enum Scope {
    /// Everything.
    All,
    /// These pipelines, each with the places of its replicas; some of them may be empty by now.
    Pipelines(BTreeMap<Name, Vec<Place>>),
}

impl Scope {
    /// Whether a pipeline is looked at.
    pub(super) fn contains(&self, pipeline: &Name) -> bool {
        match self {
            Self::All => true,
            Self::Pipelines(places) => places.contains_key(pipeline),
        }
    }

    /// Whether everything is looked at.
    pub(super) fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }
}

/// Where each pipeline's replicas are. Places that have become empty may still be in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    by_pipeline: BTreeMap<Name, BTreeSet<Place>>,
    is_complete: bool,
}

impl Places {
    /// Something may have come that was not added.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// A replica was added.
    pub(super) fn add(&mut self, pipeline: &Name, place: Place) {
        if let Some(places) = self.by_pipeline.get_mut(pipeline) {
            places.insert(place);
        } else {
            self.by_pipeline.insert(pipeline.clone(), [place].into());
        }
    }

    /// The scope of what changed.
    pub(super) fn scope(&mut self, dirty: &Dirty, state: &State) -> Scope {
        let Dirty::Pipelines(names) = dirty else { return Scope::All };
        if !self.is_complete {
            self.read(state);
        }
        let places = names.iter().map(|name| {
            let places = self.by_pipeline.get(name).into_iter().flatten().cloned();
            (name.clone(), places.collect())
        });
        Scope::Pipelines(places.collect())
    }

    fn read(&mut self, state: &State) {
        self.forget();
        for (id, node) in &state.nodes {
            for (replica_id, replica) in &node.replicas {
                self.add(&replica.deployment.pipeline, (id.clone(), replica_id.clone()));
            }
        }
        self.is_complete = true;
    }
}
