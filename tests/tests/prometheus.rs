//! A real Prometheus reads what every process tells of itself, with the shipped configuration.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use millstream_tests::{Cluster, eventually, root};
use reqwest::Url;
use serde_json::{Value, json};

use crate::metrics::{address, send, text_of, two_nodes};

/// A Prometheus with the shipped configuration; killed when dropped.
pub(crate) struct Prometheus {
    process: Child,
    address: String,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    /// Scrapes these processes of the cluster.
    pub(crate) fn start(cluster: &Cluster, targets: &[String]) -> Result<Self> {
        let targets = format!("static_configs: [{{targets: {targets:?}}}]");
        Self::discovering(cluster, &targets)
    }

    /// Scrapes what this part of a configuration leads to.
    fn discovering(cluster: &Cluster, targets: &str) -> Result<Self> {
        let config = configuration(cluster.folder(), targets)?;
        promtool(&["check", "config", &config], "")?;
        // Free a moment ago; Prometheus does not tell which port it picked.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let data = cluster.folder().join("prometheus");
        let log = fs::File::create(cluster.folder().join("prometheus.log"))?;
        let process = Command::new("prometheus")
            .arg(format!("--config.file={config}"))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--enable-feature=exemplar-storage")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        Ok(Self { process, address })
    }

    /// What its API answers, whatever the status; nothing before it listens.
    pub(crate) fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Option<Value> {
        let url = Url::parse_with_params(&format!("http://{}/api/v1/{path}", self.address), parameters);
        reqwest::blocking::get(url.ok()?).ok()?.json().ok()
    }
}

/// Whether Prometheus is there. Where all tests must run, it has to be.
pub(crate) fn is_installed() -> bool {
    let is_there = ["prometheus", "promtool"].into_iter().all(|program| {
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    });
    assert!(is_there || std::env::var_os("CI").is_none(), "`prometheus` and `promtool` are missing");
    if !is_there {
        eprintln!(
            "skipped: `prometheus` and `promtool` are not installed (Debian: apt-get install prometheus)"
        );
    }
    is_there
}

/// The shipped configuration in a folder, for these targets, in a hurry.
fn configuration(folder: &Path, targets: &str) -> Result<String> {
    let shipped = root().join("deploy/prometheus");
    let text = fs::read_to_string(shipped.join("prometheus.yml"))?;
    let (before, _) = text.split_once("static_configs:").context("the shipped file has targets")?;
    let with_targets = format!("{before}{targets}\n");
    let path = folder.join("prometheus.yml");
    fs::write(&path, with_targets.replace(": 5s", ": 1s"))?;
    for rules in ["rules.yml", "alerts.yml"] {
        let text = fs::read_to_string(shipped.join(rules))?;
        fs::write(folder.join(rules), text.replace("interval: 1m", "interval: 1s"))?;
    }
    Ok(path.display().to_string())
}

/// Fails when promtool finds anything at all.
pub(crate) fn promtool(args: &[&str], input: &str) -> Result<()> {
    let mut child = Command::new("promtool")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("stdin")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&said));
    Ok(())
}

#[test]
fn a_real_prometheus_scrapes_the_cluster() -> Result<()> {
    if !is_installed() {
        return Ok(());
    }
    let mut cluster = two_nodes()?;
    send(&cluster, "/alpha", &json!({"text": "x"}), 5, 200)?;
    let targets = [address(&mut cluster.leader, "admin"), address(&mut cluster.joined[0], "admin")];
    for target in &targets {
        promtool(&["check", "metrics"], &text_of(target))?;
    }
    let prometheus = Prometheus::start(&cluster, &targets)?;
    let query = |query: &str| -> Option<f64> {
        let answer = prometheus.ask("query", &[("query", query)])?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    };
    let is = |what: &str, text: &str, expected: f64| {
        eventually(what, || (query(text) == Some(expected)).then_some(()));
    };
    is("both processes are up", r#"sum(up{job="millstream"})"#, 2.0);
    is("requests were scraped", r#"sum(millstream_requests_total{pipeline="alpha",class="2xx"})"#, 5.0);
    is(
        "ongoing requests were recorded",
        r#"deployment:millstream_ongoing_requests:max{deployment="alpha/model"}"#,
        0.0,
    );
    is(
        "ready replicas were recorded",
        r#"deployment:millstream_ready_replicas:max{deployment="alpha/model"}"#,
        2.0,
    );
    Ok(())
}

#[test]
fn a_real_prometheus_asks_the_head_for_its_targets_and_gets_traces_with_the_buckets() -> Result<()> {
    if !is_installed() {
        return Ok(());
    }
    let mut cluster = two_nodes()?;
    let dashboard = address(&mut cluster.leader, "dashboard");
    let made = cluster.command(&["token", "create", "prometheus", "--role", "viewer"]);
    ensure!(made.status.success(), "{made:?}");
    let token = String::from_utf8(made.stdout)?.trim().to_owned();
    let url = format!("http://{dashboard}/-/targets");
    assert_eq!(cluster.http().get(&url).send()?.status(), 401);
    let listed: Value = cluster.http().get(&url).bearer_auth(&token).send()?.json()?;
    let targets: BTreeSet<_> = listed
        .as_array()
        .context("groups")?
        .iter()
        .map(|group| (group["labels"]["__meta_millstream_node"].to_string(), group["targets"][0].to_string()))
        .collect();
    let expected = [
        (r#""one""#.to_owned(), json!(address(&mut cluster.leader, "admin")).to_string()),
        (r#""two""#.to_owned(), json!(address(&mut cluster.joined[0], "admin")).to_string()),
    ];
    assert_eq!(targets, BTreeSet::from(expected), "{listed}");

    let file = cluster.folder().join("viewer.token");
    fs::write(&file, &token)?;
    let discovery = format!(
        "http_sd_configs: [{{url: '{url}', authorization: {{type: Bearer, credentials_file: '{}'}}}}]",
        file.display()
    );
    let prometheus = Prometheus::discovering(&cluster, &discovery)?;
    eventually("both processes are found and up", || {
        let answer = prometheus.ask("query", &[("query", r#"sum(up{job="millstream"})"#)])?;
        (answer["data"]["result"][0]["value"][1] == "2").then_some(())
    });
    send(&cluster, "/alpha", &json!({"text": "x"}), 5, 200)?;
    let exemplar = eventually("a bucket has the trace of a request", || {
        let query = r#"millstream_request_duration_seconds_bucket{pipeline="alpha"}"#;
        let parameters = [("query", query), ("start", "0"), ("end", "9999999999")];
        let answer = prometheus.ask("query_exemplars", &parameters)?;
        answer["data"][0]["exemplars"][0]["labels"]["trace_id"].as_str().map(str::to_owned)
    });
    let requests = cluster.rest("/api/requests?pipeline=alpha")?;
    let known = requests["requests"].as_array().context("requests")?;
    assert!(known.iter().any(|request| request["trace_id"] == exemplar.as_str()), "{exemplar}: {requests}");
    Ok(())
}
