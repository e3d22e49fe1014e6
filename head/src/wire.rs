//! Generated types to domain types and back. What comes from the network is checked field by field: names and ids are short
//! and printable, texts for people are cut and shown with their control characters escaped, as terminals and logs show them.

use std::sync::Arc;
use std::time::Duration;

use millstream_core::model::{Counted, Device, Load, Order, Registration, Report, Resources, TableVersion};
use millstream_core::rollout::{Outcomes, Shadowed, Tally};
use millstream_core::scheduler::Share;
use millstream_pipelines::types::ModelSignature;
use millstream_pipelines::{Element, FullName, Name, NameError, PortType};
use millstream_proto::status::{AcceptedRisk, Entrance, ReplicaState, Scheme};
use millstream_proto::{NodeId, ReplicaId, v1};

/// Why a message makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// A field is empty.
    #[error("field `{0}` is empty; fill it in")]
    Empty(&'static str),
    /// A field is too long, or holds control characters.
    #[error("field `{0}` is not a name: at most {MAX_NAME_BYTES} bytes, without control characters")]
    NotAName(&'static str),
    /// There are too many of something.
    #[error("field `{0}` has more than {1} entries")]
    TooMany(&'static str, usize),
    /// A name is not valid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An element type that this version does not know.
    #[error("field `dtype` has the unknown value `{0}`")]
    DType(String),
    /// A state that this version does not know.
    #[error("field `state` has the unknown value {0}")]
    State(i32),
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

/// Most inputs, outputs or axes of a model.
const MAX_PORTS: usize = 1024;
/// Longest name, id or address: that of a host.
const MAX_NAME_BYTES: usize = 253;
/// Longest text for people; the rest of it is cut.
const MAX_TEXT_BYTES: usize = 4096;
const MAX_LABELS: usize = 64;
const MAX_DEVICES: usize = 256;
/// More risks than there are.
const MAX_RISKS: usize = 8;

/// A name, an id or an address.
pub(crate) fn name(field: &'static str, text: String) -> Result<String, Error> {
    match text {
        text if text.is_empty() => Err(Error::Empty(field)),
        text if text.len() > MAX_NAME_BYTES || text.chars().any(char::is_control) => {
            Err(Error::NotAName(field))
        }
        text => Ok(text),
    }
}

/// Where an ingress takes requests. Risks that this version does not know are left out.
pub(crate) fn entrance(hello: &v1::Hello) -> Result<Entrance, Error> {
    let address = name("address", hello.address.clone())?;
    let scheme = if hello.tls { Scheme::Https } else { Scheme::Http };
    let mut accepted_risks: Vec<_> = hello
        .accepted_risks()
        .filter_map(|risk| match risk {
            v1::AcceptedRisk::Unspecified => None,
            v1::AcceptedRisk::ClearText => Some(AcceptedRisk::ClearText),
            v1::AcceptedRisk::Anonymous => Some(AcceptedRisk::Anonymous),
        })
        .collect();
    accepted_risks.dedup();
    accepted_risks.truncate(MAX_RISKS);
    Ok(Entrance { address, scheme, accepted_risks })
}

/// A text for people.
fn shown(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
        text.push('…');
    }
    if !text.contains(is_harmful) {
        return text;
    }
    let escaped = text.chars().map(|c| match c {
        c if is_harmful(c) => c.escape_debug().to_string(),
        c => c.to_string(),
    });
    escaped.collect()
}

/// What could move a terminal's cursor or hide what is written. Lines are kept.
fn is_harmful(c: char) -> bool {
    c.is_control() && c != '\n'
}

fn at_most(field: &'static str, count: usize, max: usize) -> Result<(), Error> {
    if count > max { Err(Error::TooMany(field, max)) } else { Ok(()) }
}

fn full_name(pipeline: &str, deployment: &str) -> Result<FullName, Error> {
    Ok(FullName { pipeline: pipeline.parse()?, deployment: deployment.parse()? })
}

/// Milliseconds of a duration, as they travel.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A worker's first message. Reports that make no sense are left out: the rest of the node is fine.
pub(crate) fn registration(register: v1::Register) -> Result<Registration, Error> {
    let resources = register.resources.unwrap_or_default();
    at_most("labels", register.labels.len(), MAX_LABELS)?;
    at_most("gpus", resources.gpus.len(), MAX_DEVICES)?;
    let gpus = resources.gpus.into_iter().map(|gpu| Device {
        index: gpu.index,
        model: shown(gpu.model),
        memory_bytes: gpu.memory_bytes,
    });
    let replicas = register.replicas.into_iter().filter_map(|replica| match report(replica) {
        Ok(report) => Some(report),
        Err(error) => {
            tracing::warn!(node_id = register.node_id, %error, "a worker registered a replica that makes no sense");
            None
        }
    });
    Ok(Registration {
        replicas: replicas.collect(),
        id: NodeId::new(name("node_id", register.node_id)?),
        name: name("name", register.name)?,
        address: name("address", register.address)?,
        pid: register.pid,
        version: shown(register.version),
        labels: register.labels.into_iter().map(|(key, value)| (shown(key), shown(value))).collect(),
        resources: Resources {
            cpu_milli: resources.cpu_milli,
            memory_bytes: resources.memory_bytes,
            gpus: gpus.collect(),
        },
    })
}

fn signature(signature: v1::ModelSignature) -> Result<ModelSignature, Error> {
    let ports = |field, ports: Vec<v1::ModelPort>| {
        at_most(field, ports.len(), MAX_PORTS)?;
        ports.into_iter().map(port).collect::<Result<_, Error>>()
    };
    Ok(ModelSignature {
        inputs: ports("inputs", signature.inputs)?,
        outputs: ports("outputs", signature.outputs)?,
    })
}

fn port(port: v1::ModelPort) -> Result<(String, PortType), Error> {
    at_most("shape", port.shape.len(), MAX_PORTS)?;
    let element = Element::parse(&port.dtype).ok_or_else(|| Error::DType(shown(port.dtype)))?;
    let shape = port.shape.into_iter().map(|size| usize::try_from(size).ok()).collect();
    Ok((shown(port.name), PortType { element, shape }))
}

/// A replica as its worker sees it.
pub(crate) fn report(report: v1::ReplicaReport) -> Result<Report, Error> {
    let state = match report.state() {
        v1::ReplicaState::Starting => ReplicaState::Starting,
        v1::ReplicaState::Ready => ReplicaState::Ready,
        v1::ReplicaState::Draining => ReplicaState::Draining,
        v1::ReplicaState::Stopped => ReplicaState::Stopped,
        v1::ReplicaState::Failed => ReplicaState::Failed,
        v1::ReplicaState::Unspecified => return Err(Error::State(report.state)),
    };
    // A worker that never heard of a replica reports it as stopped, without a deployment.
    let deployment = match (state, full_name(&report.pipeline, &report.deployment)) {
        (_, Ok(name)) => name,
        (ReplicaState::Stopped, Err(_)) => full_name("unknown", "unknown")?,
        (_, Err(error)) => return Err(error),
    };
    Ok(Report {
        id: ReplicaId::new(name("replica_id", report.replica_id)?),
        deployment,
        revision: report.revision,
        state,
        doing: shown(report.doing),
        error: shown(report.error),
        pid: report.pid,
        restarts: report.restarts,
        is_unloadable: report.is_unloadable,
        signature: report.signature.map(signature).transpose()?.map(Arc::new),
        gpus: report.gpus.into_iter().map(|share| Share { index: share.index, milli: share.milli }).collect(),
    })
}

/// An ingress's load report. Names that are not valid are left out.
pub(crate) fn loads(report: v1::LoadReport) -> std::collections::BTreeMap<FullName, Load> {
    let load = |load: v1::DeploymentLoad| {
        let name = full_name(&load.pipeline, &load.deployment).ok()?;
        Some((name, Load { ongoing: load.ongoing, queued: load.queued, arrived: load.arrived }))
    };
    report.deployments.into_iter().filter_map(load).collect()
}

/// Requests that an ingress turned away since its last report.
pub(crate) fn shed(report: &v1::LoadReport) -> impl Iterator<Item = (FullName, u64)> {
    let shed = report.deployments.iter().filter(|load| load.shed > 0);
    shed.filter_map(|load| Some((full_name(&load.pipeline, &load.deployment).ok()?, load.shed)))
}

/// How requests and calls ended at an ingress since its last report, by pipeline and revision.
pub(crate) fn counted(report: &v1::LoadReport) -> Counted {
    let mut counted = Counted::new();
    let outcomes = |counts: &v1::Outcomes| Outcomes { answered: counts.answered, failed: counts.failed };
    for load in &report.deployments {
        let Ok(name) = full_name(&load.pipeline, &load.deployment) else { continue };
        for counts in &load.outcomes {
            let tally = counted.entry((name.pipeline.clone(), counts.revision)).or_default();
            tally.deployments.insert(name.deployment.clone(), outcomes(counts));
        }
    }
    for report in &report.pipelines {
        let Ok(name) = report.pipeline.parse::<Name>() else { continue };
        for counts in &report.outcomes {
            let tally = counted.entry((name.clone(), counts.revision)).or_default();
            tally.requests = outcomes(counts);
            for &v1::DurationCount { bucket, count } in &counts.durations {
                tally.durations.count(usize::try_from(bucket).unwrap_or(usize::MAX), count);
            }
        }
        if let Some(shadow) = &report.shadow {
            let v1::ShadowOutcomes { revision, compared, different, failed } = *shadow;
            counted.entry((name, revision)).or_default().shadow = Shadowed { compared, different, failed };
        }
    }
    counted
}

/// How the calls of stages ended at an ingress since its last report: pipeline, stage, how many and how long they took.
pub(crate) fn stages(report: &v1::LoadReport) -> impl Iterator<Item = (Name, &str, Tally)> {
    report.pipelines.iter().flat_map(|pipeline| {
        let name = pipeline.pipeline.parse::<Name>().ok();
        pipeline.stages.iter().filter_map(move |stage| {
            let mut tally = Tally::default();
            for &v1::DurationCount { bucket, count } in &stage.durations {
                tally.durations.count(usize::try_from(bucket).unwrap_or(usize::MAX), count);
            }
            let failed = stage.failed;
            tally.requests = Outcomes { answered: tally.durations.total().saturating_sub(failed), failed };
            Some((name.clone()?, stage.stage.as_str(), tally))
        })
    })
}

/// The table that an ingress confirms; one without a version confirms none.
pub(crate) fn version(ack: v1::Ack) -> TableVersion {
    let v1::TableVersion { epoch, number } = ack.version.unwrap_or_default();
    TableVersion { epoch, number }
}

/// An order to start a replica.
pub(crate) fn start(order: &Order) -> v1::StartReplica {
    v1::StartReplica {
        replica_id: order.replica.to_string(),
        pipeline: order.deployment.pipeline.to_string(),
        deployment: order.deployment.deployment.to_string(),
        revision: order.revision,
        spec_json: serde_json::to_string(&*order.spec)
            .expect("a deployment's settings have string keys only and no failing serialiser"),
        source_dir: order.source_dir.clone(),
        gpus: order
            .gpus
            .iter()
            .map(|share| v1::GpuShare { index: share.index, milli: share.milli })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_printable() {
        assert_eq!(name("name", "node-1".into()).as_deref(), Ok("node-1"));
        for bad in ["", "a\nb", "\u{1b}[2J", &"x".repeat(300)] {
            assert!(name("name", bad.into()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn texts_for_people_are_cut_and_cannot_steer_a_terminal() {
        assert_eq!(shown("loading ü.gguf\nslowly".into()), "loading ü.gguf\nslowly");
        assert_eq!(shown("\u{1b}[2Jgone\r".into()), "\\u{1b}[2Jgone\\r");
        let long = shown("ü".repeat(MAX_TEXT_BYTES));
        assert!(long.len() < MAX_TEXT_BYTES + 4 && long.ends_with('…'));
    }

    #[test]
    fn a_registration_is_bounded() {
        let gpu = v1::Gpu { index: 0, model: "a\u{7}".into(), memory_bytes: 1 };
        let register = |labels: usize, gpus| v1::Register {
            node_id: "a".into(),
            name: "node".into(),
            address: "127.0.0.1:1".into(),
            labels: (0..labels).map(|n| (n.to_string(), "\t".into())).collect(),
            resources: Some(v1::Resources { gpus: vec![gpu.clone(); gpus], ..Default::default() }),
            ..Default::default()
        };
        let fine = registration(register(MAX_LABELS, MAX_DEVICES)).unwrap();
        assert_eq!((fine.labels["7"].as_str(), fine.resources.gpus[0].model.as_str()), ("\\t", "a\\u{7}"));
        assert_eq!(registration(register(MAX_LABELS + 1, 0)), Err(Error::TooMany("labels", MAX_LABELS)));
        assert_eq!(registration(register(0, MAX_DEVICES + 1)), Err(Error::TooMany("gpus", MAX_DEVICES)));
    }
}
