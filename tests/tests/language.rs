//! The pipeline language as clients see it: what each feature of a file makes of a request, on one cluster.

use anyhow::Result;
use millstream_tests::{Cluster, Echo, UpOptions};
use serde_json::{Value, json};

/// One deployment that answers at once, and one whose calls all fail.
const MODELS: &str =
    "[deployments.model]\nengine = \"echo\"\n[deployments.broken]\nengine = \"echo\"\nfail_ratio = 1.0\n";

/// A pipeline over these request fields: stages and response.
fn pipeline(name: &str, request: &str, rest: &str) -> String {
    format!("name = \"{name}\"\nroute = \"/{name}\"\n[request]\n{request}\n{MODELS}\n{rest}")
}

/// A body, and the status and answer that it gets. Of an object these keys are compared, of an error a part of its text.
type Exchange = (Value, u16, Value);

/// Pipelines, with what their requests are answered.
fn table() -> Vec<(String, Vec<Exchange>)> {
    let text = "text = \"text\"";
    let ask = || json!({"text": "x"});
    let letters: Vec<String> = (0..40).map(|number| format!("letter {number}")).collect();
    vec![
        (
            pipeline(
                "for-each",
                "texts = \"text[]\"",
                r#"
[stages.each]
use = "model"
for_each = "t in request.texts"
inputs = { text = "t", length = "t|length" }
[response]
results = "each"
texts = "each|map(attribute='text')"
"#,
            ),
            vec![
                (
                    json!({"texts": ["a", "bb"]}),
                    200,
                    json!({"results": [{"text": "a", "length": 1}, {"text": "bb", "length": 2}], "texts": ["a", "bb"]}),
                ),
                (json!({"texts": []}), 200, json!({"results": [], "texts": []})),
                (json!({ "texts": letters }), 200, json!({ "texts": letters })),
            ],
        ),
        (
            pipeline(
                "when",
                "text = \"text\"\ndeep = \"bool\"",
                r#"
[deployments.large]
engine = "echo"
[stages.small]
use = "model"
inputs = { text = "request.text ~ ' small'" }
[stages.large]
use = "large"
when = "request.deep"
inputs = { text = "request.text ~ ' large'" }
[response]
text = "(large or small).text"
skipped = "large is none"
"#,
            ),
            vec![
                (json!({"text": "x", "deep": false}), 200, json!({"text": "x small", "skipped": true})),
                (json!({"text": "x", "deep": true}), 200, json!({"text": "x large", "skipped": false})),
            ],
        ),
        (
            pipeline(
                "stand-in",
                text,
                r#"
[stages.main]
use = "broken"
inputs = { text = "request.text" }
on_error = "use:backup"
[stages.backup]
use = "model"
inputs = { text = "request.text ~ ' from the backup'" }
[response]
text = "main.text"
"#,
            ),
            vec![(ask(), 200, json!({"text": "x from the backup"}))],
        ),
        (
            pipeline(
                "skip",
                text,
                r#"
[stages.main]
use = "broken"
inputs = { text = "request.text" }
on_error = "skip"
[response]
failed = "main is none"
"#,
            ),
            vec![(ask(), 200, json!({"failed": true}))],
        ),
        (
            pipeline(
                "fail",
                text,
                r#"
[stages.main]
use = "broken"
inputs = { text = "request.text" }
[response]
text = "main.text"
"#,
            ),
            vec![(ask(), 500, json!("fail_ratio"))],
        ),
        // Of an echo with this `fail_ratio` each second call fails.
        (
            Echo::new("retried").deployment("fail_ratio = 0.5").stage("retries = 1").to_string(),
            vec![(ask(), 200, ask()), (ask(), 200, ask()), (ask(), 200, ask()), (ask(), 200, ask())],
        ),
        (
            Echo::new("unretried").deployment("fail_ratio = 0.5").to_string(),
            vec![(ask(), 200, ask()), (ask(), 500, json!("fail_ratio")), (ask(), 200, ask())],
        ),
        (
            pipeline(
                "prompts",
                "question = \"text\"\ndocuments = \"text[]\"",
                r#"
[stages.asked]
use = "model"
prompt = "{% for document in request.documents %}{{ loop.index }}. {{ document }}; {% endfor %}Q: {{ request.question }}"
[stages.chat]
use = "model"
messages = "[{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': request.question}]"
[response]
prompt = "asked.prompt"
chat = { messages = "chat.messages", last = "chat.messages[-1].content" }
"#,
            ),
            vec![(
                json!({"question": "why?", "documents": ["one", "two"]}),
                200,
                json!({
                    "prompt": "1. one; 2. two; Q: why?",
                    "chat": {
                        "messages": [
                            {"role": "system", "content": "Be brief."},
                            {"role": "user", "content": "why?"},
                        ],
                        "last": "why?",
                    },
                }),
            )],
        ),
        (
            pipeline(
                "operators",
                "items = \"text[]\"\nscores = \"float[]\"",
                r#"
[stages.best]
use = "op:top_k"
inputs = { items = "request.items", scores = "request.scores", keep = 2 }
[stages.chosen]
use = "op:select"
inputs = { items = "request.items", indices = "best.indices" }
[stages.line]
use = "op:template"
template = "{{ chosen|join(' and ') }}"
[stages.merged]
use = "op:merge"
inputs = { best = "best.items[0]", line = "line" }
[stages.echoed]
use = "model"
inputs = { merged = "merged" }
[response]
best = "best"
chosen = "chosen"
merged = "echoed.merged"
"#,
            ),
            vec![
                (
                    json!({"items": ["a", "b", "c"], "scores": [0.25, 0.75, 0.5]}),
                    200,
                    json!({
                        "best": {"items": ["b", "c"], "scores": [0.75, 0.5], "indices": [1, 2]},
                        "chosen": ["b", "c"],
                        "merged": {"best": "b", "line": "b and c"},
                    }),
                ),
                (json!({"items": ["a"], "scores": "high"}), 422, json!("/scores")),
            ],
        ),
        (
            Echo::new("foreign")
                .uses("for-each/model")
                .echoes("twice", "request.text ~ request.text")
                .to_string(),
            vec![(ask(), 200, json!({"text": "x", "twice": "xx"}))],
        ),
        (
            Echo::new("late").deployment("delay = \"10m\"").stage("timeout = \"100ms\"").to_string(),
            vec![(ask(), 504, json!("stage `out`"))],
        ),
        (
            Echo::new("defaults")
                .field("count = { type = \"int\", default = 3 }")
                .echoes("count", "request.count + 1")
                .to_string(),
            vec![
                (ask(), 200, json!({"text": "x", "count": 4})),
                (json!({"text": "x", "count": -1}), 200, json!({"text": "x", "count": 0})),
            ],
        ),
    ]
}

/// Whether an object has these keys with these values; anything else has to be equal.
fn has(answer: &Value, expected: &Value) -> bool {
    match (answer, expected) {
        (Value::Object(answer), Value::Object(expected)) => {
            expected.iter().all(|(key, value)| answer.get(key).is_some_and(|found| has(found, value)))
        }
        _ => answer == expected,
    }
}

#[test]
fn each_feature_does_what_its_page_says() -> Result<()> {
    let table = table();
    let options = table.iter().fold(UpOptions::new(), |options, (file, _)| options.pipeline(file));
    let mut cluster = Cluster::up(&options)?;
    cluster.wait_ready();
    for (file, requests) in &table {
        let name = file.split('"').nth(1).unwrap_or_default();
        for (body, expected_status, expected) in requests {
            let (status, answer) = cluster.post(&format!("/{name}"), body)?;
            assert_eq!(status, *expected_status, "{name}: {body}: {answer}");
            let fits = match expected {
                Value::String(part) => answer.to_string().contains(part.as_str()),
                _ => has(&answer, expected),
            };
            assert!(fits, "{name}: {body}: {answer} is not {expected}");
        }
    }

    // Replicas saw as many calls as the files say.
    let page = cluster.metrics()?;
    let calls = |deployment| page.sum("millstream_calls_total", &[("deployment", deployment)]);
    for (deployment, expected) in [
        ("for-each/model", 2.0 + 40.0 + 1.0),
        ("when/large", 1.0),
        ("when/model", 2.0),
        ("retried/model", 4.0 + 3.0),
        ("unretried/model", 3.0),
        ("operators/model", 1.0),
    ] {
        assert_eq!(calls(deployment), expected, "{deployment}");
    }
    // A stage's calls are timed once each, however often they were tried.
    for (pipeline, stage, expected) in
        [("when", "large", 1.0), ("retried", "out", 4.0), ("skip", "main", 1.0)]
    {
        let labels = [("pipeline", pipeline), ("stage", stage)];
        let timed = page.one("millstream_stage_duration_seconds_count", &labels);
        assert_eq!(timed, Some(expected), "{pipeline}/{stage}");
    }
    // What `on_error` hides from clients is counted.
    for (pipeline, on_error, expected) in
        [("stand-in", "use", 1.0), ("skip", "skip", 1.0), ("fail", "fail", 1.0)]
    {
        let labels = [("pipeline", pipeline), ("stage", "main"), ("on_error", on_error)];
        assert_eq!(page.one("millstream_stage_failures_total", &labels), Some(expected), "{pipeline}");
    }
    // A retry that helps is not a failure of the stage.
    let failures = |pipeline| page.sum("millstream_stage_failures_total", &[("pipeline", pipeline)]);
    assert_eq!((failures("retried"), failures("unretried")), (0.0, 1.0));
    Ok(())
}
