//! The main job: `cluster up` with no arguments serves the bundled pipeline on real models.

use std::io::{BufRead as _, BufReader};

use anyhow::Result;
use millstream_tests::{Cluster, UpOptions, root};
use serde_json::{Value, json};

fn question() -> Value {
    json!({
        "question": "How long do replicas take to drain?",
        "documents": [
            "A replica that drains finishes its ongoing requests and takes no new ones, for at most thirty seconds.",
            "Bread needs flour, water, salt and yeast.",
            "The moon moves around the earth in about four weeks.",
            "GPU shares are booked in thousandths of a device.",
        ],
        "top_k": 2,
    })
}

#[test]
fn the_bundled_pipeline_answers_with_text_and_the_right_source() -> Result<()> {
    let mut cluster = Cluster::up(&UpOptions::new())?;
    cluster.wait_ready();
    let (status, answer) = cluster.post("/rag", &question())?;
    assert_eq!(status, 200, "{answer}");
    let sources = answer["sources"].as_array().expect("sources is a list");
    assert_eq!(sources.len(), 2);
    assert!(sources[0].as_str().unwrap_or_default().starts_with("A replica that drains"), "{answer}");
    let text = answer["answer"].as_str().expect("answer is text");
    assert!(text.split_whitespace().count() >= 3, "the generator writes words: {text:?}");
    let best = sources[0].as_str().unwrap_or_default();
    assert!(best.contains(text.trim().trim_end_matches('.')), "{text:?} is drawn from {best:?}");
    Ok(())
}

#[test]
fn an_answer_streams_as_server_sent_events_that_add_up_to_the_whole() -> Result<()> {
    let mut cluster = Cluster::up(&UpOptions::new())?;
    cluster.wait_ready();
    let answer = cluster
        .http()
        .post(cluster.url("/rag"))
        .header("accept", "text/event-stream")
        .json(&question())
        .send()?;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let (mut event, mut deltas, mut whole) = (String::new(), String::new(), Value::Null);
    let mut num_deltas = 0;
    for line in BufReader::new(answer).lines() {
        let line = line?;
        if let Some(name) = line.strip_prefix("event: ") {
            name.clone_into(&mut event);
        } else if let Some(data) = line.strip_prefix("data: ") {
            let data: Value = serde_json::from_str(data)?;
            match event.as_str() {
                "delta" => {
                    num_deltas += 1;
                    assert_eq!(data["field"], "answer");
                    deltas.push_str(data["text"].as_str().expect("a delta has text"));
                }
                "done" => whole = data,
                other => panic!("unexpected event {other}: {data}"),
            }
        }
    }
    assert!(num_deltas > 1, "the answer comes in parts, not in {num_deltas}");
    assert_eq!(whole["answer"], deltas);
    assert!(whole["sources"].is_array());
    Ok(())
}

#[test]
fn other_examples_serve_side_by_side() -> Result<()> {
    let examples = root().join("pipelines/examples");
    let options = UpOptions::new().file(examples.join("echo.toml")).file(examples.join("embedder.toml"));
    let mut cluster = Cluster::up(&options)?;
    cluster.wait_ready();
    let features: Vec<f64> = (0..42).map(|index| f64::from(index) * 0.5).collect();
    let (status, answer) = cluster.post("/echo", &json!({"features": features}))?;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["features"], json!(features));

    let texts = ["a replica drains", "a replica finishes its work and stops", "bread and butter"];
    let (status, answer) = cluster.post("/embed-texts", &json!({"texts": texts}))?;
    assert_eq!(status, 200, "{answer}");
    let rows: Vec<Vec<f64>> = serde_json::from_value(answer["vectors"].clone())?;
    assert_eq!(rows.len(), 3);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    assert!((dot(&rows[0], &rows[0]) - 1.0).abs() < 1e-4, "vectors are normalised");
    assert!(dot(&rows[0], &rows[1]) > dot(&rows[0], &rows[2]), "related texts are closer");
    Ok(())
}

#[test]
fn the_example_comes_at_the_first_start_alone_and_not_where_it_is_not_wanted() -> Result<()> {
    let mut cluster = Cluster::up(&UpOptions::new())?;
    cluster.wait_ready();
    let pipelines = |cluster: &Cluster| cluster.status()["pipelines"].as_array().map_or(0, Vec::len);
    assert_eq!(pipelines(&cluster), 1);
    assert!(cluster.command(&["delete", "rag"]).status.success());
    cluster.restart_leader(UpOptions::new())?;
    cluster.wait_ready();
    assert_eq!(pipelines(&cluster), 0, "whoever has deleted it does not want it back");
    let mut empty = Cluster::up(&UpOptions::new().args(&["--empty"]))?;
    empty.wait_ready();
    assert_eq!(pipelines(&empty), 0);
    let said = std::fs::read_to_string(empty.leader.data_dir().join("stdout.log"))?;
    assert!(said.contains("no pipeline is deployed"), "{said}");
    let bare = "name = \"bare\"\n[deployments.a]\nengine = \"sim\"\n";
    let mut bare = Cluster::up(&UpOptions::new().pipeline(bare))?;
    bare.wait_ready();
    let said = std::fs::read_to_string(bare.leader.data_dir().join("stdout.log"))?;
    assert!(said.contains("bare has no route") && said.contains("/v1/models"), "{said}");
    let mut headless = Cluster::up(&UpOptions::new().args(&["--roles", "head"]))?;
    headless.wait_ready();
    assert!(headless.leader.log().contains("cluster up --join 127.0.0.1:"), "{}", headless.leader.log());
    Ok(())
}
