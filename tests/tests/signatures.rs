//! What the file of a pipeline cannot know: what its models take and return. A pipeline that does not fit them is refused where
//! their files can be read, and never serves where they are known only once they are loaded.

use std::process::Output;

use anyhow::Result;
use millstream_tests::{Cluster, UpOptions, eventually, root};
use serde_json::{Value, json};

/// A pipeline of the bundled classifier, which takes `features: f32[?,42]` and returns `label` and `probabilities`.
fn classifier(name: &str, model: &str, input: &str, output: &str) -> String {
    format!(
        r#"name = "{name}"
route = "/{name}"
[request]
features = "f32[?,42]"
[deployments.tabular]
task = "tensor"
model = "{model}"
[stages.scored]
use = "tabular"
inputs = {{ {input} = "request.features" }}
[response]
label = "scored.{output}"
"#
    )
}

const BUNDLED: &str = "tabular-classifier";

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn answers(cluster: &Cluster, path: &str) -> Result<u16> {
    Ok(cluster.post(path, &json!({"features": [vec![0.5; 42]]}))?.0)
}

fn pipeline(cluster: &Cluster, name: &str) -> Value {
    let status = cluster.status();
    let pipelines = status["pipelines"].as_array().cloned().unwrap_or_default();
    pipelines.into_iter().find(|pipeline| pipeline["name"] == name).unwrap_or_default()
}

/// A model that has no replicas but when it is asked.
fn check_idle_model(cluster: &Cluster) -> Result<()> {
    let idle = |output| {
        let autoscaling = "[deployments.tabular.autoscaling]\nmin_replicas = 0\nidle_timeout = \"200ms\"\n";
        classifier("idle", BUNDLED, "features", output) + autoscaling
    };
    let failed = cluster.try_deploy(&idle("labels"), &[]);
    assert!(!failed.status.success(), "{}", said(&failed));
    assert!(said(&failed).contains("did you mean `label`?"), "{}", said(&failed));
    cluster.deploy(&idle("label"), &[])?;
    // What was loaded for the check leaves, and comes again with the first request.
    eventually("there is no replica", || {
        let replicas = pipeline(cluster, "idle")["deployments"][0]["replicas"].clone();
        replicas.as_array()?.is_empty().then_some(())
    });
    assert_eq!(answers(cluster, "/idle")?, 200);
    Ok(())
}

#[test]
fn what_does_not_fit_its_models_never_serves() -> Result<()> {
    let models = std::env::var("MILLSTREAM_TEST_MODELS")
        .unwrap_or_else(|_| root().join("target/test-models").display().to_string());
    let library = format!("{models}/lib");
    if !std::path::Path::new(&library).is_dir() {
        assert!(std::env::var_os("CI").is_none(), "`{library}` is missing");
        eprintln!("skipped: `{library}` is missing; run `tests/setup`");
        return Ok(());
    }
    let good = classifier("good", BUNDLED, "features", "label");
    let options = UpOptions::new().args(&["--onnxruntime", &library]).pipeline(&good);
    let mut cluster = Cluster::up(&options)?;
    cluster.wait_ready();
    assert_eq!(answers(&cluster, "/good")?, 200);

    // Only its response changes: its replicas stay, and what they are is known at once.
    let failed = cluster.try_deploy(&classifier("good", BUNDLED, "features", "labels"), &[]);
    let text = said(&failed);
    assert_eq!(failed.status.code(), Some(1), "{text}");
    for part in ["revision 2 of `good` was rolled back", "deployed.toml:12:17", "did you mean `label`?"] {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
    assert_eq!(answers(&cluster, "/good")?, 200, "the revision before serves on");

    // The first revision of a pipeline has nothing to go back to: it never serves.
    let failed = cluster.try_deploy(&classifier("new", BUNDLED, "rows", "label"), &[]);
    let text = said(&failed);
    assert_eq!(failed.status.code(), Some(1), "{text}");
    for part in ["does not fit its models", "`inputs.rows` is unknown", "`features`"] {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
    let shown = pipeline(&cluster, "new");
    assert_eq!((&shown["state"], shown["mismatch"].is_string()), (&json!("failed"), true), "{shown}");
    let mended = cluster.try_deploy(&classifier("new", BUNDLED, "features", "label"), &[]);
    let shown = String::from_utf8_lossy(&mended.stdout).into_owned();
    assert!(mended.status.success(), "{}", said(&mended));
    for part in ["new revision 2 is ready", "new serves /new. Try it:", "  curl -s http://127.0.0.1:"] {
        assert!(shown.contains(part), "`{part}` is not in\n{shown}");
    }
    assert_eq!(answers(&cluster, "/new")?, 200);
    assert!(pipeline(&cluster, "new")["mismatch"].is_null());

    // Files that can be read here are read before anything is sent, with or without a cluster.
    let model = format!("file:{}", root().join("pipelines/models/tabular-classifier").display());
    for command in ["deploy", "validate"] {
        let file = cluster.folder().join("own.toml");
        std::fs::write(&file, classifier("own", &model, "features", "labels"))?;
        let refused = cluster.command(&[command, &file.display().to_string()]);
        assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
        assert!(said(&refused).contains("did you mean `label`?"), "{}", said(&refused));
    }
    cluster.deploy(&classifier("own", &model, "features", "label"), &[])?;
    assert_eq!(answers(&cluster, "/own")?, 200);
    check_idle_model(&cluster)?;
    Ok(())
}

#[test]
fn nobody_waits_for_what_cannot_start() -> Result<()> {
    let cluster = Cluster::up(&UpOptions::new())?;
    let lost = r#"name = "lost"
route = "/lost"
[request]
texts = "text[]"
[deployments.embedder]
task = "embed"
engine = "candle"
model = "file:/no/such/model"
[stages.vectors]
use = "embedder"
inputs = { texts = "request.texts" }
[response]
vectors = "vectors"
"#;
    let failed = cluster.try_deploy(lost, &[]);
    assert_eq!(failed.status.code(), Some(1), "{}", said(&failed));
    // Well before its deadline, which is a minute away.
    let answer = cluster.http().post(cluster.url("/lost")).json(&json!({"texts": ["a"]})).send()?;
    assert_eq!(answer.headers()["x-millstream-refused"], "no-replica");
    let (status, problem) = (answer.status().as_u16(), answer.json::<Value>()?);
    assert_eq!((status, &problem["type"]), (503, &json!("urn:millstream:problem:unavailable")), "{problem}");
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("`lost/embedder` cannot start: its replicas fail each time"), "{problem}");
    Ok(())
}
