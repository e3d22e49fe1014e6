//! What captured requests are sent to: a pipeline's route at an ingress, and one of its revisions.

use std::str::FromStr;

use millstream_pipelines::{Name, Plan};
use millstream_proto::status::{ClusterStatus, PipelineStatus, Scheme};

use crate::client::{Client, check_addresses};
use crate::data_dir::DataDir;
use crate::exit::Failure;
use crate::global::Global;

/// `PIPELINE` or `PIPELINE@REVISION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) pipeline: Name,
    /// The one that serves unless given.
    pub(super) revision: Option<u64>,
}

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, revision) = match text.split_once('@') {
            Some((name, revision)) => (name, Some(revision)),
            None => (text, None),
        };
        let pipeline = name.parse().map_err(|error| format!("{error}"))?;
        let revision = match revision.map(|text| text.parse::<u64>().ok().filter(|number| *number > 0)) {
            Some(None) => {
                return Err("a revision is a number; write PIPELINE@REVISION, such as `rag@4`".to_owned());
            }
            Some(number) => number,
            None => None,
        };
        Ok(Self { pipeline, revision })
    }
}

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) pipeline: String,
    pub(super) revision: u64,
    pub(super) route: String,
    /// HOST:PORT.
    pub(super) ingress: String,
}

/// Asks the cluster where the pipeline is served, and whether that revision takes requests.
pub(super) async fn find(global: &Global, asked: &Asked, ingress: Option<&str>) -> Result<Target, Failure> {
    let mut client = Client::connect(global).await?;
    let status = client.status().await?;
    let name = asked.pipeline.as_str();
    // The head says which pipelines or revisions there are.
    let stored = client.revision(name, asked.revision).await?.pipeline.unwrap_or_default();
    let pipeline = status.pipelines.iter().find(|pipeline| pipeline.name == name);
    let pipeline = pipeline.ok_or_else(|| Failure::refused(format!("no pipeline `{name}`")))?;
    let revision = choose(pipeline, asked.revision)?;
    let plan = Plan::compile(&stored.file_name, &stored.source).map_err(|faults| {
        Failure::failed(format!("revision {revision} of `{name}` does not compile here: {faults}"))
    })?;
    let Some(route) = plan.route() else {
        return Err(Failure::refused(format!("`{name}` has no route, so it takes no requests")));
    };
    let ingress = match ingress {
        Some(address) => address.to_owned(),
        None => ingress_of(global, &status)?,
    };
    check_addresses(std::slice::from_ref(&ingress), global.clear_text())?;
    Ok(Target { pipeline: name.to_owned(), revision, route: route.to_owned(), ingress })
}

/// The revision that requests go to: the one asked for if it takes any, else the one that serves.
fn choose(pipeline: &PipelineStatus, asked: Option<u64>) -> Result<u64, Failure> {
    let name = &pipeline.name;
    let mut taking: Vec<u64> = pipeline.serving_revision.into_iter().collect();
    taking.extend(pipeline.rollout.as_ref().map(|rollout| rollout.revision));
    taking.sort_unstable();
    taking.dedup();
    let Some(asked) = asked else {
        return pipeline.serving_revision.ok_or_else(|| {
            Failure::refused(format!("no revision of `{name}` serves; `cluster status {name}` says why"))
        });
    };
    if taking.contains(&asked) {
        return Ok(asked);
    }
    let there: Vec<_> = taking.iter().map(u64::to_string).collect();
    let there = match &there[..] {
        [] => "none does".to_owned(),
        [one] => format!("revision {one} does"),
        several => format!("revisions {} do", several.join(" and ")),
    };
    Err(Failure::refused(format!(
        "revision {asked} of `{name}` takes no requests, {there}; deploy it beside the one that serves: `cluster deploy \
         FILE --shadow`"
    )))
}

/// The ingress of the process whose data directory this is, else one that the head knows.
fn ingress_of(global: &Global, status: &ClusterStatus) -> Result<String, Failure> {
    let own = match &global.cluster {
        None => DataDir::of(global)?.endpoints()?,
        Some(_) => None,
    };
    let own = own.and_then(|own| Some((own.ingress?.to_string(), own.ingress_scheme)));
    let known =
        || status.ingresses.first().map(|known| (known.entrance.address.clone(), known.entrance.scheme));
    match own.or_else(known) {
        None => Err(Failure::unreachable(
            "the cluster has no ingress; name one with --ingress HOST:PORT".to_owned(),
        )),
        Some((address, Scheme::Http)) => Ok(address),
        Some((address, Scheme::Https)) => Err(Failure::usage(format!(
            "the ingress at `{address}` speaks HTTPS, and this command speaks clear text only; name one that does with \
             --ingress HOST:PORT, such as another process with `--roles ingress` on this machine"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_pipeline_and_perhaps_a_revision() {
        for (text, pipeline, revision) in [("rag", "rag", None), ("rag@4", "rag", Some(4))] {
            let asked: Asked = text.parse().unwrap();
            assert_eq!((asked.pipeline.as_str(), asked.revision), (pipeline, revision));
        }
        for bad in ["", "@4", "rag@", "rag@0", "rag@new", "Rag@1", "rag@1@2"] {
            assert!(bad.parse::<Asked>().is_err(), "{bad}");
        }
    }
}
