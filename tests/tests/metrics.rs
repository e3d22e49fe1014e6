//! What a cluster tells of itself: /metrics of every process, read strictly, the history, and the status, against what was done to
//! it.

use std::collections::BTreeSet;
use std::fs;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use millstream_tests::prometheus::Page;
use millstream_tests::{Cluster, Echo, Node, UpOptions, eventually};
use serde_json::{Value, json};

/// Label keys of all metrics, `le` of histograms included.
const KEYS: [&str; 25] = [
    "block_size",
    "class",
    "deployment",
    "finish_reason",
    "finished_reason",
    "gpu",
    "key",
    "kind",
    "le",
    "max_lora",
    "model_name",
    "node",
    "num_gpu_blocks",
    "on_error",
    "operation",
    "outcome",
    "phase",
    "pipeline",
    "reason",
    "result",
    "running_lora_adapters",
    "stage",
    "state",
    "version",
    "waiting_lora_adapters",
];

/// Where a process listens.
pub(crate) fn address(node: &mut Node, what: &str) -> String {
    node.endpoints()[what].as_str().unwrap_or_default().to_owned()
}

pub(crate) fn text_of(address: &str) -> String {
    let answer = reqwest::blocking::get(format!("http://{address}/metrics")).expect("the address answers");
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    answer.text().expect("text")
}

/// A process's page, read strictly.
fn scrape(address: &str) -> Page {
    let page = Page::parse(&text_of(address)).unwrap_or_else(|error| panic!("{error:#}"));
    let samples = page.families.values().flat_map(|family| &family.samples);
    let keys: BTreeSet<_> =
        samples.clone().flat_map(|sample| sample.labels.keys().map(String::as_str)).collect();
    assert!(keys.iter().all(|key| KEYS.contains(key)), "{keys:?}");
    assert!(page.families.iter().all(|(name, family)| {
        (name.starts_with("millstream_") || name.starts_with("vllm:")) && family.help.len() > 20
    }));
    assert!(samples.count() < 2000, "the number of series is bounded");
    page
}

/// A cluster of two nodes with three declared devices: `alpha` has a quarter of one on each node.
pub(crate) fn two_nodes() -> Result<Cluster> {
    let gpus = ["--gpu-memory", "80GiB", "--gpu-model", "H100"];
    let shares = Echo::new("alpha").deployment("gpus = 0.25\nmax_replicas_per_node = 1").replicas(2);
    let options = UpOptions::new().args(&["--node-name", "one", "--gpus", "2"]).args(&gpus);
    let mut cluster = Cluster::up(&options.pipeline(&shares))?;
    cluster.join("two", &[&["--gpus", "1"][..], &gpus].concat())?;
    cluster.wait_ready();
    Ok(cluster)
}

pub(crate) fn send(cluster: &Cluster, path: &str, body: &Value, times: u32, expected: u16) -> Result<()> {
    for _ in 0..times {
        let (status, answer) = cluster.post(path, body)?;
        ensure!(status == expected, "{status}: {answer}");
    }
    Ok(())
}

#[test]
fn every_process_tells_what_was_done_to_it() -> Result<()> {
    let mut cluster = two_nodes()?;
    send(&cluster, "/alpha", &json!({"text": "x"}), 7, 200)?;
    send(&cluster, "/alpha", &json!({"txet": "x"}), 3, 422)?;
    send(&cluster, "/nobody", &json!({}), 2, 404)?;
    // A demand that fits nowhere.
    cluster.deploy(&Echo::new("huge").deployment("gpus = 4"), &["--no-wait"])?;

    let admin = address(&mut cluster.leader, "admin");
    let page = eventually("the head has noticed everything", || {
        let page = scrape(&admin);
        let pending =
            page.one("millstream_pending_placements", &[("deployment", "huge/model"), ("reason", "gpu")]);
        (pending == Some(1.0) && page.one("millstream_nodes", &[("state", "ready")]) == Some(2.0))
            .then_some(page)
    });
    let requests =
        |pipeline, class| page.one("millstream_requests_total", &[("pipeline", pipeline), ("class", class)]);
    assert_eq!(requests("alpha", "2xx"), Some(7.0));
    assert_eq!(requests("alpha", "4xx"), Some(3.0));
    assert_eq!(requests("alpha", "5xx"), Some(0.0));
    assert_eq!(requests("", "4xx"), Some(2.0));
    let alpha = [("deployment", "alpha/model")];
    assert_eq!(page.sum("millstream_calls_total", &alpha), 7.0);
    assert_eq!(page.one("millstream_call_duration_seconds_count", &alpha), Some(7.0));
    assert_eq!(page.one("millstream_queue_wait_seconds_count", &alpha), Some(7.0));
    assert_eq!(page.sum("millstream_request_duration_seconds_count", &[("pipeline", "alpha")]), 10.0);
    for (name, expected) in [("target", 2.0), ("desired", 2.0), ("ready", 2.0)] {
        assert_eq!(page.one(&format!("millstream_{name}_replicas"), &alpha), Some(expected), "{name}");
    }
    assert_eq!(page.one("millstream_replicas", &[alpha[0], ("state", "ready")]), Some(2.0));
    assert_eq!(page.one("millstream_rollout_state", &[("pipeline", "alpha"), ("state", "ready")]), Some(1.0));
    assert_eq!(page.sum("millstream_rollout_state", &[("pipeline", "alpha")]), 1.0);
    assert_eq!(page.sum("millstream_gpu_share_booked_ratio", &[]), 0.5);
    assert_eq!(page.sum("millstream_gpu_share_free_ratio", &[]), 2.5);
    for node in ["one", "two"] {
        let age = page.one("millstream_node_heartbeat_age_seconds", &[("node", node)]);
        assert!(age.is_some_and(|age| (0.0..3.0).contains(&age)), "{age:?}");
    }
    assert!(page.sum("millstream_commands_total", &[("kind", "start")]) >= 2.0);
    assert!(page.sum("millstream_store_duration_seconds_count", &[("operation", "commit")]) >= 1.0);
    assert!(page.sum("millstream_process_resident_memory_bytes", &[]) > 1e6);
    assert!(page.sum("millstream_process_cpu_seconds_total", &[]) > 0.0);

    // The dashboard's page is of the same process; the other process has numbers of its own only.
    let dashboard = scrape(&address(&mut cluster.leader, "dashboard"));
    assert_eq!(dashboard.sum("millstream_requests_total", &[]), 12.0);
    let joined = address(&mut cluster.joined[0], "admin");
    let other = eventually("the worker has looked at its replicas", || {
        let page = scrape(&joined);
        (page.one("millstream_replica_ongoing_requests", &alpha) == Some(0.0)).then_some(page)
    });
    assert!(
        !other.families.contains_key("millstream_nodes")
            && !other.families.contains_key("millstream_requests_total")
    );
    Ok(())
}

#[test]
fn status_shows_the_shares_of_every_device() -> Result<()> {
    let cluster = two_nodes()?;
    let status = cluster.status();
    let nodes = status["nodes"].as_array().context("nodes")?;
    assert_eq!(nodes.len(), 2);
    for node in nodes {
        assert!(node["last_seen_ms_ago"].as_u64().is_some_and(|age| age < 3000), "{node}");
        let booked = &node["gpus"][0];
        assert_eq!(booked["model"], "H100");
        assert_eq!(booked["memory_bytes"], 80_u64 << 30);
        assert_eq!((&booked["booked_share"], &booked["free_share"]), (&json!(0.25), &json!(0.75)));
        let holder = booked["holders"][0]["replica"].as_str().context("a holder")?;
        assert!(holder.starts_with("alpha-model-"), "{holder}");
    }
    let alpha = &status["pipelines"][0]["deployments"][0];
    for key in ["target_replicas", "desired_replicas", "ready_replicas"] {
        assert_eq!(alpha[key], 2, "{alpha}");
    }
    assert_eq!(alpha["target_ongoing_requests"], 2.0);
    let table = String::from_utf8(cluster.command(&["status"]).stdout)?;
    assert_eq!(table.matches("H100").count(), 3, "{table}");
    assert_eq!(table.matches("0.250 alpha-model-").count(), 2, "{table}");
    Ok(())
}

#[test]
fn what_waits_and_what_left_is_seen_while_it_is_so() -> Result<()> {
    let mut cluster =
        Cluster::serving(&Echo::new("slow").deployment("delay = \"4s\"\nmax_ongoing_requests = 2"))?;
    let (admin, dashboard) =
        (address(&mut cluster.leader, "admin"), address(&mut cluster.leader, "dashboard"));
    let slow = [("deployment", "slow/model")];
    thread::scope(|scope| {
        let callers: Vec<_> =
            (0..5).map(|_| scope.spawn(|| cluster.post("/slow", &json!({"text": "x"})))).collect();
        eventually("two calls run and three wait", || {
            let page = scrape(&admin);
            let is = |name, expected| page.one(name, &slow) == Some(expected);
            (is("millstream_ongoing_requests", 2.0) && is("millstream_queued_requests", 3.0)).then_some(())
        });
        for caller in callers {
            let (status, answer) = caller.join().expect("no panic").expect("an answer");
            assert_eq!(status, 200, "{answer}");
        }
    });
    let client = cluster.send("/slow", &json!({"text": "x"}))?;
    eventually("its call runs", || {
        (scrape(&admin).one("millstream_ongoing_requests", &slow) == Some(1.0)).then_some(())
    });
    drop(client);
    eventually("the client that left is counted", || {
        let page = scrape(&admin);
        let left = page.one("millstream_requests_total", &[("pipeline", "slow"), ("class", "499")]);
        let abandoned = page.one("millstream_calls_total", &[slow[0], ("outcome", "abandoned")]);
        (left == Some(1.0) && abandoned == Some(1.0)).then_some(())
    });
    // Three waited for the two before them; the last for four of them.
    assert!(scrape(&admin).sum("millstream_queue_wait_seconds_sum", &slow) > 10.0);

    let token = fs::read_to_string(cluster.leader.data_dir().join("admin.token"))?;
    let series = |query: &str| cluster.http().get(format!("http://{dashboard}/api/series?{query}"));
    assert_eq!(series("").send()?.status(), 401);
    let answer: Value = series("metric=ongoing&since=1m").bearer_auth(&token).send()?.json()?;
    assert_eq!(answer["series"][0]["deployment"], "slow/model");
    let values = answer["series"][0]["values"].as_array().context("values")?;
    assert!(values.contains(&json!(2.0)), "{answer}");
    // Five requests were answered; the one whose client left is not counted.
    let sum_of = |query: &str| -> Option<f64> {
        let answer = series(query).bearer_auth(&token).send().ok()?.json::<Value>().ok()?;
        let values = answer["series"][0]["values"].as_array()?;
        Some(values.iter().filter_map(Value::as_f64).sum())
    };
    for query in ["metric=requests_per_second&pipeline=slow", "metric=calls_per_second&deployment=slow/model"]
    {
        eventually("the requests that ended are in the history", || {
            // Seconds may be longer or shorter than a second.
            sum_of(query).filter(|sum| (2.0..10.0).contains(sum))
        });
    }
    let bad = series("since=2h&step=x&what=1").bearer_auth(&token).send()?;
    assert_eq!(
        (bad.status().as_u16(), &bad.headers()["content-type"].to_str()?),
        (400, &"application/problem+json")
    );
    assert_eq!(bad.json::<Value>()?["errors"].as_array().map(Vec::len), Some(3));

    let with = |header: &str, value: &str| {
        cluster.http().get(format!("http://{admin}/metrics")).header(header, value).send()
    };
    assert_eq!(with("host", "worker-1.example")?.status(), 200, "whoever scrapes may go by a name");
    assert_eq!(with("origin", "http://evil.example")?.status(), 403);
    Ok(())
}

#[test]
fn what_was_deleted_leaves_and_what_crashed_is_counted() -> Result<()> {
    let mut cluster = Cluster::serving(&Echo::new("gone").deployment("crash_on = \"boom\""))?;
    let admin = address(&mut cluster.leader, "admin");
    let _ = cluster.post("/gone", &json!({"text": "boom"}))?;
    let gone = [("deployment", "gone/model")];
    eventually("the replica was started again", || {
        (scrape(&admin).sum("millstream_replica_restarts_total", &gone) >= 1.0).then_some(())
    });
    // Events count at once, gauges are set each second.
    eventually("its gauges are there", || scrape(&admin).one("millstream_ready_replicas", &gone));
    assert!(cluster.command(&["delete", "gone"]).status.success());
    let page = eventually("its gauges are gone", || {
        let page = scrape(&admin);
        let gauges = page.families.values().filter(|family| family.kind == "gauge");
        let labels = gauges.flat_map(|family| &family.samples).flat_map(|sample| sample.labels.values());
        labels.into_iter().all(|value| !value.starts_with("gone")).then_some(page)
    });
    assert!(page.sum("millstream_requests_total", &[("pipeline", "gone")]) >= 1.0, "counters stay");
    Ok(())
}

/// A pipeline that generates.
const GENERATES: &str = r#"
name = "writer"
route = "/writer"
[request]
prompt = "text"
[deployments.model]
task  = "generate"
model = "mini-generator"
[stages.answer]
use = "model"
inputs = { prompt = "request.prompt", max_tokens = "5", temperature = "0.0" }
[response]
text = "answer"
"#;

#[test]
fn a_generator_tells_of_its_tokens_under_our_names_and_those_of_vllm() -> Result<()> {
    let mut cluster = Cluster::up(&UpOptions::new().args(&["--empty"]))?;
    cluster.deploy(GENERATES, &[])?;
    send(&cluster, "/writer", &json!({"prompt": "once upon a time"}), 3, 200)?;
    let admin = address(&mut cluster.leader, "admin");
    let (ours, theirs) = (("deployment", "writer/model"), ("model_name", "writer/model"));
    let page = eventually("the gauges are set", || {
        let page = scrape(&admin);
        (page.one("vllm:num_requests_running", &[theirs]) == Some(0.0)).then_some(page)
    });
    let sum = |name: &str| page.sum(name, &[]);
    let prompts = sum("millstream_prompt_tokens_total");
    let tokens = sum("millstream_generated_tokens_total");
    assert!(prompts >= 9.0 && tokens > 0.0 && tokens <= 15.0, "{prompts} and {tokens}");
    assert_eq!(page.one("millstream_time_to_first_token_seconds_count", &[ours]), Some(3.0));
    assert_eq!(page.one("millstream_inter_token_seconds_count", &[ours]), Some(tokens - 3.0));
    assert_eq!(sum("millstream_generated_sequences_total"), 3.0);
    for (name, expected) in [
        ("vllm:time_to_first_token_seconds_count", 3.0),
        ("vllm:inter_token_latency_seconds_count", tokens - 3.0),
        ("vllm:e2e_request_latency_seconds_count", 3.0),
        ("vllm:request_queue_time_seconds_count", 3.0),
        ("vllm:request_prefill_time_seconds_count", 3.0),
        ("vllm:request_decode_time_seconds_count", 3.0),
        ("vllm:request_inference_time_seconds_count", 3.0),
        ("vllm:request_prompt_tokens_sum", prompts),
        ("vllm:request_generation_tokens_sum", tokens),
        ("vllm:request_max_num_generation_tokens_sum", 15.0),
        ("vllm:prompt_tokens_total", prompts),
        ("vllm:generation_tokens_total", tokens),
        ("vllm:prefix_cache_queries_total", 0.0),
        ("vllm:prefix_cache_hits_total", 0.0),
        ("vllm:num_preemptions_total", 0.0),
        ("vllm:num_requests_waiting", 0.0),
        ("vllm:kv_cache_usage_perc", 0.0),
        ("vllm:lora_requests_info", 1.0),
    ] {
        assert_eq!(page.one(name, &[theirs]), Some(expected), "{name}");
    }
    assert_eq!(page.sum("vllm:request_success_total", &[theirs]), 3.0);
    let blocks = page.sum("vllm:cache_config_info", &[theirs, ("block_size", "16")]);
    assert_eq!(blocks, 1.0);
    Ok(())
}
