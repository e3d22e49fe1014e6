//! What `cluster up` tells: where it listens, and a line to paste for each pipeline.

use millstream_pipelines::Plan;
use millstream_proto::v1::StoredPipeline;
use serde_json::json;

use crate::cli::Global;
use crate::data_dir::Endpoints;
use crate::style;

/// A pipeline that people can call.
pub(crate) struct Served {
    name: String,
    route: String,
    example: String,
}

impl Served {
    /// The stored pipeline's route and an example body; `None` without a route.
    pub(crate) fn of(stored: StoredPipeline) -> Option<Self> {
        let plan = Plan::compile(&stored.file_name, &stored.source).ok()?;
        Some(Self { name: stored.name, route: plan.route()?.to_owned(), example: plan.example_body() })
    }
}

/// Told as soon as everything listens. On stderr, so that stdout has only what scripts want.
pub(crate) fn listening(global: &Global, endpoints: &Endpoints, joined: Option<&str>) {
    if global.json {
        return;
    }
    match joined {
        Some(head) => eprintln!("node `{}` joins the cluster at {head}", endpoints.node_name),
        None => eprintln!("cluster on node `{}`", endpoints.node_name),
    }
    let lines = [
        ("requests", endpoints.ingress.map(|address| format!("http://{address}"))),
        ("control", joined.is_none().then(|| endpoints.control.clone())),
        ("dashboard", endpoints.dashboard.map(|address| format!("http://{address}"))),
        ("replica traffic", endpoints.worker.map(|address| address.to_string())),
    ];
    for (what, address) in lines {
        if let Some(address) = address {
            eprintln!("  {what:<16}{address}");
        }
    }
}

/// Told once the pipelines serve.
pub(crate) fn ready(global: &Global, endpoints: &Endpoints, served: &[Served]) {
    if global.json {
        let pipelines: Vec<_> =
            served.iter().map(|pipeline| json!({"name": pipeline.name, "route": pipeline.route})).collect();
        println!("{}", json!({"endpoints": endpoints, "pipelines": pipelines}));
        return;
    }
    let Some(ingress) = endpoints.ingress else {
        println!("{}; Ctrl-C drains and stops", style::good("ready"));
        return;
    };
    for pipeline in served {
        println!("\n{} serves {}. Try it:\n", style::strong(&pipeline.name), pipeline.route);
        println!(
            "  curl -s http://{ingress}{} -H 'content-type: application/json' -d '{}'",
            pipeline.route,
            pipeline.example.replace('\'', r"'\''")
        );
    }
    println!("\n{}; Ctrl-C drains and stops", style::good("ready"));
}
