//! The REST API of the head, and who may use it: what the dashboard does, done by a program.

use anyhow::{Context as _, Result};
use millstream_tests::{Cluster, Echo, UpOptions};
use reqwest::Method;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::redirect::Policy;
use serde_json::{Value, json};

/// Somebody who asks the dashboard's address.
struct Caller<'a> {
    cluster: &'a Cluster,
    http: Client,
    token: String,
}

impl<'a> Caller<'a> {
    fn admin(cluster: &'a Cluster) -> Result<Self> {
        let token = std::fs::read_to_string(cluster.leader.data_dir().join("admin.token"))?;
        Self::with(cluster, token.trim())
    }

    fn with(cluster: &'a Cluster, token: &str) -> Result<Self> {
        let http = Client::builder().redirect(Policy::none()).build()?;
        Ok(Self { cluster, http, token: token.to_owned() })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("http://{}{path}", self.cluster.dashboard()));
        if self.token.is_empty() { request } else { request.bearer_auth(&self.token) }
    }

    fn get(&self, path: &str) -> Result<Value> {
        Ok(self.request(Method::GET, path).send()?.error_for_status()?.json()?)
    }

    fn send(&self, method: Method, path: &str, body: &Value) -> Result<(u16, Value)> {
        let answer = self.request(method, path).json(body).send()?;
        let status = answer.status().as_u16();
        Ok((status, answer.json()?))
    }
}

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn file(source: &str) -> Value {
    json!({"files": [{"file_name": "pasted.toml", "source": source}]})
}

#[test]
fn a_pipeline_is_planned_deployed_scaled_rolled_out_and_deleted() -> Result<()> {
    let cluster = Cluster::up(&UpOptions::new().args(&["--empty"]))?;
    let admin = Caller::admin(&cluster)?;
    let (one, two) = (Echo::new("p").to_string(), Echo::new("p").deployment("delay = \"1ms\"").to_string());

    let (status, refused) = admin.send(Method::POST, "/api/plan", &file("name = \"p\"\nroute = 4\n"))?;
    assert_eq!(status, 422, "{refused}");
    let fault = &refused["errors"][1];
    assert_eq!(
        (&fault["path"], &fault["line"], &fault["column"]),
        (&json!("pasted.toml"), &json!(2), &json!(9))
    );
    let (status, plan) = admin.send(Method::POST, "/api/plan", &file(&one))?;
    assert_eq!((status, &plan[0]["changed"]), (200, &json!(true)), "{plan}");
    assert_eq!(admin.get("/api/pipelines")?, json!([]), "a plan changes nothing");

    let (status, deployed) = admin.send(Method::POST, "/api/deploy", &file(&one))?;
    assert_eq!((status, &deployed), (200, &json!([{"name": "p", "revision": 1, "changed": true}])));
    millstream_tests::eventually("it serves", || {
        (cluster.post("/p", &json!({"text": "x"})).ok()?.0 == 200).then_some(())
    });
    let stored = admin.get("/api/pipelines/p")?;
    assert_eq!((&stored["source"], &stored["file_name"]), (&json!(one), &json!("pasted.toml")));
    let graph = admin.get("/api/pipelines/p/graph")?;
    assert_eq!(graph["stages"][0]["deployment"], "p/model", "{graph}");
    assert_eq!(graph["response_after"], json!([graph["stages"][0]["name"]]));

    let stages = millstream_tests::eventually("its stage is counted", || {
        admin.get("/api/pipelines/p/stages").ok().filter(|stages| stages[0]["stage"] == "out")
    });
    assert!(stages[0]["p50_ms"].is_number() && stages[0]["failed_per_second"] == 0.0, "{stages}");
    let what_if = millstream_tests::eventually("something is recorded", || {
        let asked = json!({"deployment": "p/model", "max_replicas": 3});
        admin.send(Method::POST, "/api/simulate", &asked).ok().filter(|(status, _)| *status == 200)
    });
    let simulated = &what_if.1["simulated"];
    assert_eq!((&simulated["max_ready"], &simulated["ready"][0]), (&json!(1), &json!(1.0)), "{what_if:?}");
    let wrong = json!({"deployment": "p/model", "min_replicas": 5, "max_replicas": 3});
    assert_eq!(admin.send(Method::POST, "/api/simulate", &wrong)?.0, 422);

    let bounds = "/api/pipelines/p/deployments/model/bounds";
    let (_, scaled) = admin.send(Method::PUT, bounds, &json!({"min_replicas": 2, "max_replicas": 2}))?;
    assert_eq!(scaled, json!({"min_replicas": 2, "max_replicas": 2, "changed": true}));
    let (status, refused) = admin.send(Method::PUT, bounds, &json!({"min_replica": 2}))?;
    assert_eq!(status, 400, "{refused}");
    assert!(refused["detail"].as_str().is_some_and(|text| text.contains("`min_replicas`")), "{refused}");

    let mut canary = file(&two);
    canary["canary_percent"] = json!(10.0);
    assert_eq!(admin.send(Method::POST, "/api/deploy", &canary)?.1[0]["revision"], 2);
    let rollout = || admin.get("/api/summary").ok().map(|summary| summary["pipelines"][0]["rollout"].clone());
    millstream_tests::eventually("the canary has its part", || {
        rollout().filter(|rollout| rollout["traffic_ratio"] == 0.1)
    });
    let (status, _) = admin.send(Method::PUT, "/api/pipelines/p/rollout", &json!({"percent": 50}))?;
    assert_eq!(status, 200);
    let (status, rolled) = admin.send(Method::POST, "/api/pipelines/p/rollout/abort", &json!({}))?;
    assert_eq!((status, &rolled["revision"]), (200, &json!(1)));
    let revisions = admin.get("/api/pipelines/p/revisions")?;
    assert_eq!(revisions[1]["verdict"]["outcome"], "aborted", "{revisions}");

    let events = admin.get("/api/events?target=p&limit=1000")?;
    let texts: Vec<_> = events["events"].as_array().context("a list")?.iter().map(|it| &it["text"]).collect();
    assert!(texts.contains(&&json!("revision 2 was aborted, revision 1 serves")), "{texts:?}");
    assert_eq!(admin.send(Method::DELETE, "/api/pipelines/p", &json!({}))?, (200, json!({"done": "p"})));
    assert_eq!(admin.send(Method::DELETE, "/api/pipelines/p", &json!({}))?.0, 404);
    Ok(())
}

#[test]
fn a_viewer_sees_everything_and_changes_nothing_until_the_token_is_deleted() -> Result<()> {
    let mut cluster = Cluster::up(&UpOptions::new().pipeline(&Echo::new("p")))?;
    cluster.wait_ready();
    let made = cluster.command(&["token", "create", "grafana", "--role", "viewer", "--ttl", "1h"]);
    let token = String::from_utf8(made.stdout)?.trim().to_owned();
    assert!(token.starts_with("mt_"), "{token}");
    let viewer = Caller::with(&cluster, &token)?;
    assert_eq!(viewer.get("/api/me")?["role"], "viewer");
    for path in ["/api/status", "/api/summary", "/api/replicas", "/api/series", "/api/openapi.json"] {
        viewer.get(path)?;
    }
    let (status, refused) = viewer.send(Method::DELETE, "/api/pipelines/p", &json!({}))?;
    assert_eq!(status, 403, "{refused}");
    // Nothing shows the token again.
    let listed = String::from_utf8(cluster.command(&["token", "list", "--json"]).stdout)?;
    assert!(listed.contains("grafana") && !listed.contains(&token[3..]), "{listed}");
    assert!(cluster.command(&["token", "delete", "grafana"]).status.success());
    assert_eq!(viewer.request(Method::GET, "/api/status").send()?.status(), 401);
    let worker = cluster.command(&["token", "create", "--role", "worker"]);
    assert_eq!(worker.status.code(), Some(2), "{worker:?}");
    Ok(())
}

#[test]
fn a_browser_logs_in_with_the_form_and_is_known_by_its_cookie() -> Result<()> {
    let cluster = Cluster::up(&UpOptions::new().args(&["--empty"]))?;
    let admin = Caller::admin(&cluster)?;
    let stranger = Caller::with(&cluster, "")?;
    let form = |token: &str, next: &str| {
        let kind = ("content-type", "application/x-www-form-urlencoded");
        let body = format!("token={token}&next={next}");
        stranger.request(Method::POST, "/login").header(kind.0, kind.1).body(body).send()
    };
    for path in ["/", "/scaling", "/pipelines/p"] {
        let page = stranger.request(Method::GET, path).send()?;
        assert_eq!(header(&page, "x-content-type-options"), "nosniff");
        assert!(header(&page, "content-security-policy").starts_with("default-src 'none'"));
        assert!(page.text()?.contains("name=\"token\""), "{path}: the form");
        let page = admin.request(Method::GET, path).send()?.text()?;
        assert!(
            !page.contains("name=\"token\"") && page.contains("href=\"/scaling\""),
            "{path}: the dashboard"
        );
    }
    let wrong = form("wrong", "/")?;
    assert_eq!((wrong.status().as_u16(), header(&wrong, "set-cookie")), (401, ""));
    assert!(wrong.text()?.contains("role=\"alert\""));

    let right = form(&admin.token, "/scaling")?;
    assert_eq!((right.status().as_u16(), header(&right, "location")), (303, "/scaling"));
    let cookie = header(&right, "set-cookie").to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains(&admin.token));
    assert_eq!(header(&form(&admin.token, "//elsewhere")?, "location"), "/");
    let session = cookie.split(';').next().unwrap_or_default();
    let with_cookie = |method: Method, path: &str| stranger.request(method, path).header("cookie", session);
    assert_eq!(with_cookie(Method::GET, "/api/status").send()?.status(), 200);
    assert_eq!(stranger.request(Method::GET, "/api/status").send()?.status(), 401);

    // A page of another site can send a form with the cookie of an old browser, but no JSON, and it says where it is from.
    let shutdown = || with_cookie(Method::POST, "/api/shutdown");
    let foreign =
        shutdown().header("origin", "http://elsewhere.test").json(&json!({"drain_ms": 0})).send()?;
    assert_eq!(foreign.status(), 403);
    let as_form = shutdown().header("content-type", "text/plain").body("{\"drain_ms\":0}").send()?;
    assert_eq!(as_form.status(), 415);
    let out = with_cookie(Method::POST, "/logout").send()?;
    assert!(header(&out, "set-cookie").contains("Max-Age=0"));
    Ok(())
}

#[test]
fn what_happens_is_sent_as_it_happens() -> Result<()> {
    use std::io::{BufRead as _, BufReader};

    let cluster = Cluster::up(&UpOptions::new().args(&["--empty"]))?;
    let admin = Caller::admin(&cluster)?;
    let live = admin.request(Method::GET, "/api/live").timeout(std::time::Duration::from_secs(60)).send()?;
    assert_eq!(header(&live, "content-type"), "text/event-stream");
    let mut lines = BufReader::new(live).lines();
    let mut next = |wanted: &str| -> Result<Value> {
        let mut event = String::new();
        for line in &mut lines {
            let line = line?;
            if let Some(name) = line.strip_prefix("event: ") {
                name.clone_into(&mut event);
            } else if let Some(data) = line.strip_prefix("data: ").filter(|_| event == wanted) {
                return Ok(serde_json::from_str(data)?);
            }
        }
        anyhow::bail!("the stream has ended")
    };
    assert_eq!(next("summary")?["health"]["sentence"], "no pipeline is deployed yet");
    cluster.deploy(&Echo::new("p").to_string(), &[])?;
    assert_eq!(next("decision")?["text"], "revision 1 was deployed");
    let serving = loop {
        let summary = next("summary")?;
        if summary["health"]["state"] == "ok" && summary["pipelines"][0]["state"] == "ready" {
            break summary;
        }
    };
    assert_eq!(serving["pipelines"][0]["deployments"][0]["replica_counts"]["ready"], 1, "{serving}");
    Ok(())
}
