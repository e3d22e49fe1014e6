//! The bundled models are worth calling: measured over HTTP on committed questions about committed passages.

use anyhow::Result;
use millstream_tests::Cluster;
use serde_json::{Value, json};

const PIPELINE: &str = r#"
name = "quality"
route = "/rank"
[request]
question = "text"
passages = "text[]"
[deployments.embedder]
task  = "embed"
model = "mini-embedder@production"
[deployments.reranker]
task  = "rerank"
model = "mini-reranker@production"
[stages.vectors]
use = "embedder"
inputs = { texts = "[request.question] + request.passages" }
[stages.near]
use = "op:similarity"
inputs = { query = "vectors[0]", vectors = "vectors[1:]", items = "request.passages", keep = 8 }
[stages.ranked]
use = "reranker"
inputs = { query = "request.question", documents = "near.items" }
[response]
near = "near.items"
ranked = "ranked.items"
"#;

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn embedder_finds_and_reranker_improves() -> Result<()> {
    let passages = lines(include_str!("../../pipelines/models/eval/passages.jsonl"));
    let questions = lines(include_str!("../../pipelines/models/eval/questions.jsonl"));
    assert!(questions.len() >= 50, "{} questions", questions.len());
    let texts: Vec<&str> = passages.iter().filter_map(|passage| passage["text"].as_str()).collect();
    let cluster = Cluster::serving(PIPELINE)?;
    let (mut in_first_three, mut embedder_first, mut reranker_first) = (0, 0, 0);
    for question in &questions {
        let right =
            passages.iter().find(|passage| passage["id"] == question["passage_id"]).expect("its passage");
        let (status, answer) =
            cluster.post("/rank", &json!({"question": question["question"], "passages": texts}))?;
        assert_eq!(status, 200, "{answer}");
        let place = |key: &str| answer[key].as_array()?.iter().position(|text| *text == right["text"]);
        in_first_three += usize::from(place("near").is_some_and(|place| place < 3));
        embedder_first += usize::from(place("near") == Some(0));
        reranker_first += usize::from(place("ranked") == Some(0));
    }
    let count = questions.len();
    eprintln!(
        "of {count} questions on {} passages: embedder first {embedder_first}, among the first three {in_first_three}; \
         reranker first {reranker_first}",
        texts.len()
    );
    assert!(in_first_three * 5 >= count * 4, "in the first three: {in_first_three} of {count}");
    assert!(reranker_first > embedder_first, "reranker {reranker_first}, embedder {embedder_first}");
    Ok(())
}
