//! What `cluster up` tells: where it listens, and a line to paste for each pipeline.

use millstream_connect::Heads;
use serde_json::json;

use crate::data_dir::Endpoints;
use crate::exit::Failure;
use crate::output::{Output, note};
use crate::served::Served;
use crate::style;
use crate::up::addresses::Exposure;

/// Told as soon as everything listens. On stderr, so that stdout has only what scripts want.
pub(crate) fn listening(output: Output, endpoints: &Endpoints, joined: Option<&Heads>, exposure: &Exposure) {
    if output == Output::Json {
        return;
    }
    match joined {
        Some(head) => note(format_args!("node `{}` joins the cluster at {head}", endpoints.node_name)),
        None => note(format_args!("cluster on node `{}`", endpoints.node_name)),
    }
    let lines = [
        ("requests", endpoints.ingress_url()),
        ("control", joined.is_none().then(|| endpoints.control.clone())),
        ("dashboard", endpoints.dashboard.map(|address| format!("http://{address}"))),
        ("metrics", endpoints.admin.map(|address| format!("http://{address}/metrics"))),
        ("replica traffic", endpoints.worker.map(|address| address.to_string())),
    ];
    for (what, address) in lines {
        if let Some(address) = address {
            note(format_args!("  {what:<16}{address}"));
        }
    }
    if exposure.require_api_key && endpoints.ingress.is_some() {
        note(format_args!("  {:<16}asked for: `cluster key create NAME` makes one", "API keys"));
    }
    for accepted in &exposure.accepted {
        note(format_args!("  {:<16}{accepted}", style::warn("accepted risk")));
    }
}

/// Told by a head that runs no replicas itself: what brings up somebody who does.
pub(crate) fn no_worker(endpoints: &Endpoints) {
    let Endpoints { control, .. } = endpoints;
    note(format_args!(
        "no worker in this process; start one on this machine with\n\n  cluster up --join {control} --node-name worker-1\n\n\
         and on another with a copy of `join.token` of this data directory: docs/cluster.md has the lines"
    ));
}

/// Whether everything that was to start did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All of it.
    Ready,
    /// Some pipelines did not; why is told already.
    Partly,
}

impl Outcome {
    fn last_line(self) -> String {
        let stop = "Ctrl-C drains and stops";
        match self {
            Self::Ready => format!("{}; {stop}", style::good("ready")),
            Self::Partly => {
                format!("{}: mend the rest and `cluster deploy` it; {stop}", style::warn("partly ready"))
            }
        }
    }
}

/// Told once the pipelines serve, or cannot.
pub(crate) fn ready(
    output: Output,
    endpoints: &Endpoints,
    served: &[Served],
    outcome: Outcome,
) -> Result<(), Failure> {
    let pipelines: Vec<_> =
        served.iter().map(|pipeline| json!({"name": pipeline.name(), "route": pipeline.route()})).collect();
    let ready = outcome == Outcome::Ready;
    output.show(&json!({"endpoints": endpoints, "pipelines": pipelines, "ready": ready}), || {
        let Some(ingress) = endpoints.ingress_url() else { return outcome.last_line() };
        let calls: String = served.iter().map(|pipeline| pipeline.call(&ingress)).collect();
        let nothing = "\nno pipeline is deployed; `cluster deploy FILE` deploys one\n";
        let calls = if calls.is_empty() && outcome == Outcome::Ready { nothing.to_owned() } else { calls };
        format!("{calls}\n{}", outcome.last_line())
    })
}
