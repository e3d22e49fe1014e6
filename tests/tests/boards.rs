//! Boards and alerts are true: they are what their script makes, a real Prometheus knows each of their queries and has
//! numbers for it, each alert fires when it should, and each is explained.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use millstream_tests::{Cluster, Echo, Load, UpOptions, eventually, root};
use regex::Regex;
use serde_json::{Value, json};

use crate::metrics::address;
use crate::prometheus::{Prometheus, is_installed, promtool};

const BOARDS: [&str; 3] = ["overview", "deployment", "nodes"];

/// Queries that may have no number here, by a part of them: nothing of what they count happens in the test.
const MAY_BE_EMPTY: [&str; 2] = [
    // What was usual until an hour ago.
    "offset 1h",
    // A key that has sent too much.
    "millstream_key_requests_total{result!=\"admitted\"}",
];

fn read(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| path.to_owned())
}

/// A query, and where it stands.
struct Query {
    place: String,
    text: String,
}

/// All queries of a board, of its choices as well, with everything chosen.
fn queries_of(name: &str) -> Result<Vec<Query>> {
    let board: Value = serde_json::from_str(&read(&format!("deploy/grafana/millstream-{name}.json"))?)?;
    let mut found = Vec::new();
    for panel in board["panels"].as_array().context("panels")? {
        let title = panel["title"].as_str().context("a title")?;
        ensure!(
            panel["description"].as_str().is_some_and(|text| text.len() > 10),
            "{title} is not explained"
        );
        ensure!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} has no unit");
        ensure!(panel["datasource"]["uid"] == "${datasource}", "{title} has a data source of its own");
        for target in panel["targets"].as_array().context("targets")? {
            let text = target["expr"].as_str().context("an expression")?.to_owned();
            found.push(Query { place: format!("{name}: {title}"), text });
        }
    }
    let label_values = Regex::new(r"^label_values\((.+), \w+\)$")?;
    for variable in board["templating"]["list"].as_array().context("variables")? {
        let Some(text) = variable["query"]["query"].as_str() else { continue };
        let series = label_values.captures(text).with_context(|| text.to_owned())?[1].to_owned();
        found.push(Query { place: format!("{name}: variable {}", variable["name"]), text: series });
    }
    for query in &mut found {
        for (variable, value) in [("$__rate_interval", "1m"), ("$pipeline", ".*"), ("$deployment", ".*")] {
            query.text = query.text.replace(variable, value);
        }
        ensure!(!query.text.contains('$'), "{}: what is the variable in `{}`?", query.place, query.text);
    }
    Ok(found)
}

/// The expressions of all rules that Prometheus has loaded: of those that record, and of alerts.
fn rules_of(prometheus: &Prometheus) -> (Vec<Query>, Vec<Query>) {
    let groups = eventually("the rules are loaded", || {
        let answer = prometheus.ask("rules", &[])?;
        answer["data"]["groups"].as_array().filter(|groups| !groups.is_empty()).cloned()
    });
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().expect("rules"));
    let (mut records, mut alerts) = (Vec::new(), Vec::new());
    for rule in rules {
        let text = |key: &str| rule[key].as_str().expect("text").to_owned();
        let query = Query { place: text("name"), text: text("query") };
        if rule["type"] == "alerting" { alerts.push(query) } else { records.push(query) }
    }
    (records, alerts)
}

/// Why Prometheus does not take a query.
fn refusal(prometheus: &Prometheus, query: &Query) -> Option<String> {
    let Query { place, text } = query;
    let answer = prometheus.ask("query", &[("query", text)]).unwrap_or_default();
    (answer["status"] != "success").then(|| format!("{place}: `{text}`: {}", answer["error"]))
}

fn has_numbers(prometheus: &Prometheus, query: &Query) -> bool {
    let answer = prometheus.ask("query", &[("query", &query.text)]).unwrap_or_default();
    let samples = answer["data"]["result"].as_array();
    samples.is_some_and(|samples| samples.iter().any(|sample| sample["value"][1] != "NaN"))
}

/// A pipeline with a model that books memory and works in batches.
const VECTORS: &str = r#"
name = "vectors"
route = "/vectors"
[request]
text = "text"
[deployments.embedder]
task  = "embed"
model = "mini-embedder@production"
[stages.vectors]
use = "embedder"
inputs = { texts = "[request.text]" }
[response]
text = "request.text"
count = "vectors|length"
"#;

/// A cluster where there is something to see: a real model, a declared device, a cache, a replica that crashed, one that
/// was added by hand, and one that fits nowhere.
fn eventful() -> Result<Cluster> {
    let alpha = Echo::new("alpha")
        .deployment("gpus = 0.25\ncrash_on = \"boom\"")
        .stage("cache = { ttl = \"1ms\" }")
        .replicas(1);
    let mut cluster = Cluster::up(&UpOptions::new().args(&["--gpus", "1"]).pipeline(&alpha))?;
    cluster.wait_ready();
    cluster.deploy(VECTORS, &[])?;
    cluster.deploy(&Echo::new("huge").deployment("gpus = 4"), &["--no-wait"])?;
    ensure!(cluster.command(&["scale", "alpha/model", "--replicas", "2"]).status.success());
    let _ = cluster.post("/alpha", &json!({"text": "boom"}))?;
    Ok(cluster)
}

#[test]
fn a_real_prometheus_has_numbers_for_each_query() -> Result<()> {
    if !is_installed() {
        return Ok(());
    }
    let mut cluster = eventful()?;
    let admin = address(&mut cluster.leader, "admin");
    let prometheus = Prometheus::start(&cluster, &[admin])?;
    let loads = ["/alpha", "/vectors"].map(|path| Load::on(&cluster, path).start(1));
    let (records, alerts) = rules_of(&prometheus);
    assert!(records.len() > 10 && alerts.len() > 10, "{} and {}", records.len(), alerts.len());
    let mut queries = records;
    for name in BOARDS {
        queries.extend(queries_of(name)?);
    }
    let refused: Vec<_> = alerts.iter().filter_map(|query| refusal(&prometheus, query)).collect();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    for query in &queries {
        let may_be_empty = MAY_BE_EMPTY.iter().any(|part| query.text.contains(part));
        // Rates need two scrapes, and rules need rates.
        eventually(&format!("{}: a number for `{}`", query.place, query.text), || {
            if let Some(refused) = refusal(&prometheus, query) {
                panic!("{refused}");
            }
            (may_be_empty || has_numbers(&prometheus, query)).then_some(())
        });
    }
    drop(loads);
    Ok(())
}

#[test]
fn each_alert_fires_when_it_should_and_not_otherwise() -> Result<()> {
    if !is_installed() {
        return Ok(());
    }
    let folder = root().join("deploy/prometheus");
    let path = |name: &str| folder.join(name).display().to_string();
    promtool(&["check", "config", &path("prometheus.yml")], "")?;
    promtool(&["check", "rules", &path("rules.yml"), &path("alerts.yml")], "")?;
    let mut tested = String::new();
    for entry in fs::read_dir(folder.join("tests"))? {
        let file = entry?.path();
        promtool(&["test", "rules", &file.display().to_string()], "")?;
        tested += &fs::read_to_string(file)?;
    }
    for alert in alerts()? {
        assert!(tested.contains(&alert), "there is no test of {alert}");
    }
    Ok(())
}

/// The names of all alerts.
fn alerts() -> Result<BTreeSet<String>> {
    let text = read("deploy/prometheus/alerts.yml")?;
    Ok(text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::to_owned).collect())
}

#[test]
fn each_alert_has_its_section_and_points_to_it() -> Result<()> {
    let alerts = alerts()?;
    let page = read("docs/alerts.md")?;
    let sections = page.lines().filter_map(|line| line.strip_prefix("### "));
    let sections: BTreeSet<String> = sections.map(str::to_owned).collect();
    assert_eq!(alerts, sections);
    let rules = read("deploy/prometheus/alerts.yml")?;
    let pointers = rules.lines().filter_map(|line| line.trim().strip_prefix("runbook: "));
    let expected = alerts.iter().map(|alert| format!("docs/alerts.md#{}", alert.to_lowercase()));
    assert_eq!(pointers.map(str::to_owned).collect::<BTreeSet<_>>(), expected.collect());
    for key in ["severity", "summary", "description", "runbook"] {
        let start = format!("{key}: ");
        let count = rules.lines().filter(|line| line.trim().starts_with(&start)).count();
        assert_eq!(count, alerts.len(), "each alert has `{key}`");
    }
    Ok(())
}

#[test]
fn boards_are_what_their_script_makes() -> Result<()> {
    let made = tempfile::tempdir()?;
    let script = root().join("deploy/grafana/make.py");
    // `-B`: nothing is written beside the script.
    let Ok(output) = Command::new("python3").arg("-B").arg(&script).arg(made.path()).output() else {
        assert!(std::env::var_os("CI").is_none(), "`python3` is missing");
        eprintln!("skipped: `python3` is not installed");
        return Ok(());
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_dir(made.path())?.count(), BOARDS.len());
    for name in BOARDS {
        let file = format!("millstream-{name}.json");
        let same = fs::read_to_string(made.path().join(&file))? == read(&format!("deploy/grafana/{file}"))?;
        assert!(same, "{file} is older than its script; run: python3 deploy/grafana/make.py");
    }
    Ok(())
}
