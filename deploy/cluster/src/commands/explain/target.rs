//! What the word behind `cluster explain` means.

use clap::ValueEnum;
use millstream_proto::event::Event;
use millstream_proto::status::{ClusterStatus, DeploymentStatus, NodeStatus, PipelineStatus, ReplicaStatus};

use crate::exit::Failure;

/// Kinds of things that decisions are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// A pipeline.
    Pipeline,
    /// A deployment of one.
    Deployment,
    /// A replica.
    Replica,
    /// A node.
    Node,
}

impl Kind {
    /// In the order in which a name is looked for.
    const ALL: [Self; 4] = [Self::Pipeline, Self::Deployment, Self::Replica, Self::Node];

    /// As `--kind` has it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Pipeline => "pipeline",
            Self::Deployment => "deployment",
            Self::Replica => "replica",
            Self::Node => "node",
        }
    }
}

/// What a name stands for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target<'a> {
    Pipeline(&'a PipelineStatus),
    Deployment(&'a DeploymentStatus),
    Replica(&'a DeploymentStatus, &'a ReplicaStatus),
    Node(&'a NodeStatus),
    /// It is gone; events still name it.
    Gone(Kind),
}

/// Finds what has that name, now or in the past; with the other kinds of things that have it as well.
///
/// # Errors
/// When nothing has.
pub(super) fn find<'a>(
    status: &'a ClusterStatus,
    events: &[Event],
    name: &str,
    kind: Option<Kind>,
) -> Result<(Target<'a>, Vec<Kind>), Failure> {
    let kinds = Kind::ALL.into_iter().filter(|it| kind.is_none_or(|kind| kind == *it));
    let mut found: Vec<_> =
        kinds.clone().filter_map(|kind| Some((kind, standing(status, name, kind)?))).collect();
    if found.is_empty() {
        let gone = kinds.filter(|kind| is_told_of(events, name, *kind));
        found.extend(gone.map(|kind| (kind, Target::Gone(kind))));
    }
    let mut found = found.into_iter();
    match found.next() {
        Some((_, target)) => Ok((target, found.map(|(kind, _)| kind).collect())),
        None => Err(unknown(status, name, kind)),
    }
}

fn standing<'a>(status: &'a ClusterStatus, name: &str, kind: Kind) -> Option<Target<'a>> {
    let mut deployments = status.pipelines.iter().flat_map(|pipeline| &pipeline.deployments);
    match kind {
        Kind::Pipeline => status.pipelines.iter().find(|it| it.name == name).map(Target::Pipeline),
        Kind::Deployment => deployments.find(|it| it.full_name == name).map(Target::Deployment),
        Kind::Replica => deployments.find_map(|deployment| {
            let replica = deployment.replicas.iter().find(|replica| replica.id.as_str() == name)?;
            Some(Target::Replica(deployment, replica))
        }),
        Kind::Node => {
            status.nodes.iter().find(|it| it.name == name || it.id.as_str() == name).map(Target::Node)
        }
    }
}

/// Whether an event names it.
fn is_told_of(events: &[Event], name: &str, kind: Kind) -> bool {
    events.iter().any(|event| match kind {
        Kind::Pipeline => event.pipeline.as_deref() == Some(name),
        Kind::Deployment => event.deployment.is_some() && event.subject() == name,
        Kind::Replica => event.decision.replica() == Some(name),
        Kind::Node => event.decision.node() == Some(name),
    })
}

fn unknown(status: &ClusterStatus, name: &str, kind: Option<Kind>) -> Failure {
    let mut names = Vec::new();
    for pipeline in &status.pipelines {
        names.push(pipeline.name.clone());
        names.extend(pipeline.deployments.iter().map(|deployment| deployment.full_name.clone()));
    }
    let there = if names.is_empty() {
        "nothing is deployed".to_owned()
    } else {
        format!("there are {}", names.join(", "))
    };
    let nodes: Vec<_> = status.nodes.iter().map(|node| node.name.as_str()).collect();
    let nodes = if nodes.is_empty() { String::new() } else { format!("; nodes: {}", nodes.join(", ")) };
    let kinds = kind.map_or("pipeline, deployment, replica or node", Kind::word);
    Failure::refused(format!("there is no {kinds} `{name}`; {there}{nodes}"))
}

#[cfg(test)]
mod tests {
    use millstream_proto::event::Decision;

    use super::*;
    use crate::commands::status::example_cluster;

    #[test]
    fn a_name_means_what_stands_there_else_what_was_there() {
        let status = example_cluster();
        let decision =
            Decision::Placed { replica: "old-1".into(), node: "old".into(), revision: 1, gpus: Vec::new() };
        let events =
            [Event { sequence: 1, at_ms: 1, pipeline: Some("gone".into()), deployment: None, decision }];
        let kind_of = |name: &str, kind| match find(&status, &events, name, kind).map(|found| found.0) {
            Ok(Target::Pipeline(_)) => "pipeline",
            Ok(Target::Deployment(_)) => "deployment",
            Ok(Target::Replica(..)) => "replica",
            Ok(Target::Node(_)) => "node",
            Ok(Target::Gone(kind)) => kind.word(),
            Err(_) => "nothing",
        };
        let table = [
            ("rag", None, "pipeline"),
            ("rag/embedder", None, "deployment"),
            ("rag-embedder-1", None, "replica"),
            ("a", None, "node"),
            ("a", Some(Kind::Pipeline), "nothing"),
            ("old", None, "node"),
            ("old-1", None, "replica"),
            ("gone", None, "pipeline"),
            ("nobody", None, "nothing"),
        ];
        for (name, kind, expected) in table {
            assert_eq!(kind_of(name, kind), expected, "{name} {kind:?}");
        }
        let failure = find(&status, &events, "rga", None).map(drop).unwrap_err().message();
        assert!(
            failure.starts_with("there is no pipeline, deployment, replica or node `rga`; there are rag,")
        );
    }

    #[test]
    fn a_name_of_two_things_says_so() {
        let mut status = example_cluster();
        status.nodes[0].name = "rag".into();
        let (target, others) = find(&status, &[], "rag", None).unwrap();
        assert!(matches!(target, Target::Pipeline(_)));
        assert_eq!(others, [Kind::Node]);
        let (target, others) = find(&status, &[], "rag", Some(Kind::Node)).unwrap();
        assert!(matches!(target, Target::Node(_)) && others.is_empty());
    }
}
