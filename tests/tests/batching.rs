//! Batches as users see them: calls that wait for company, settings that change under running replicas.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use millstream_tests::{Cluster, eventually};
use serde_json::{Value, json};

/// Longer than anything here takes that does not wait for company.
const LONG: Duration = Duration::from_secs(20);

/// An embedder with these batch settings.
fn pipeline(batch: &str) -> String {
    format!(
        "name = \"p\"\nroute = \"/p\"\n\n[request]\ntexts = \"text[]\"\n\n[response]\nvectors = \"embed\"\n\n\
         [deployments.model]\ntask = \"embed\"\nmodel = \"mini-embedder@production\"\nengine = \"candle\"\n{batch}\n\n\
         [stages.embed]\nuse = \"model\"\ninputs = {{ texts = \"request.texts\" }}\n"
    )
}

fn embed(cluster: &Cluster, texts: &[&str]) -> (u16, Value) {
    cluster.post("/p", &json!({ "texts": texts })).unwrap()
}

/// Ids and process of all replicas.
fn replicas(cluster: &Cluster) -> Vec<(Value, Value)> {
    let status = cluster.status();
    let replicas = status["pipelines"][0]["deployments"][0]["replicas"].as_array().unwrap().clone();
    replicas.iter().map(|replica| (replica["id"].clone(), replica["pid"].clone())).collect()
}

#[test]
fn a_full_batch_goes_at_once_and_new_settings_reach_running_replicas() -> Result<()> {
    let waiting = format!("batch = {{ max_size = 4, max_wait = \"{}s\" }}", 2 * LONG.as_secs());
    let cluster = Cluster::serving(&pipeline(&waiting))?;
    let before = replicas(&cluster);
    let start = Instant::now();
    thread::scope(|scope| {
        let calls: Vec<_> = (0..4).map(|_| scope.spawn(|| embed(&cluster, &["a lone text"]).0)).collect();
        assert!(calls.into_iter().all(|call| call.join().unwrap() == 200));
    });
    assert!(start.elapsed() < LONG, "the four of them are a full batch");
    let page = cluster.metrics()?;
    assert!((page.sum("millstream_batch_size_count", &[]) - 1.0).abs() < 0.1, "one batch");
    assert!((page.sum("millstream_batch_size_sum", &[]) - 4.0).abs() < 0.1, "of four texts");

    thread::scope(|scope| {
        let lone = scope.spawn(|| embed(&cluster, &["a lone text"]).0);
        eventually("the call waits for company", || {
            let status = cluster.status();
            (status["pipelines"][0]["deployments"][0]["ongoing"] == 1).then_some(())
        });
        cluster.deploy(&pipeline("batch = { max_size = 4 }"), &[]).unwrap();
        assert_eq!(lone.join().unwrap(), 200);
    });
    assert!(start.elapsed() < LONG, "it was let go by the new settings");
    assert_eq!(embed(&cluster, &["another"]).0, 200);
    assert_eq!(replicas(&cluster), before, "no replica was replaced");
    assert!(start.elapsed() < LONG, "an idle model runs a call at once");
    Ok(())
}

#[test]
fn a_client_that_asks_hears_where_the_time_went() -> Result<()> {
    let plain = pipeline("batch = { max_wait = \"300ms\" }");
    let hedged = plain.replace("[stages.embed]\n", "[stages.embed]\nhedge = \"10s\"\n");
    assert_ne!(hedged, plain);
    let cluster = Cluster::serving(&plain)?;
    let ask = |cluster: &Cluster, timing: &str| {
        let request = cluster.http().post(cluster.url("/p")).header("x-server-timing", timing);
        request.json(&json!({ "texts": ["a lone text"] })).send()
    };
    assert!(!ask(&cluster, "0")?.headers().contains_key("server-timing"));
    for file in [plain, hedged] {
        cluster.deploy(&file, &[])?;
        let answer = ask(&cluster, "1")?;
        let header = answer.headers()["server-timing"].to_str()?.to_owned();
        let parts: Vec<(&str, f64)> = header
            .split(", ")
            .map(|part| part.split_once(";dur=").unwrap())
            .map(|(name, ms)| (name, ms.parse().unwrap()))
            .collect();
        let names: Vec<&str> = parts.iter().map(|part| part.0).collect();
        assert_eq!(names, ["embed-queue", "embed-batch", "embed-run", "total"], "{header}");
        assert!(parts[1].1 >= 290.0, "it waited for company: {header}");
        assert!(parts[2].1 > 0.0 && parts[3].1 >= parts[1].1 + parts[2].1, "{header}");
    }
    Ok(())
}

#[test]
fn many_inputs_are_split_and_come_back_in_order() -> Result<()> {
    let cluster = Cluster::serving(&pipeline("batch = \"auto\"\ntarget_latency = \"20ms\""))?;
    let texts: Vec<String> = (0..150).map(|at| format!("text {at} {}", "and more ".repeat(at % 7))).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (status, together) = embed(&cluster, &texts);
    assert_eq!(status, 200, "{together}");
    let together = together["vectors"].as_array().unwrap();
    assert_eq!(together.len(), texts.len());
    for at in [0, 77, 149] {
        let (_, alone) = embed(&cluster, &texts[at..=at]);
        let pairs = together[at].as_array().unwrap().iter().zip(alone["vectors"][0].as_array().unwrap());
        let difference = pairs.map(|(a, b)| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs());
        assert!(difference.fold(0.0, f64::max) < 1e-4, "text {at}");
    }
    Ok(())
}
