//! Kept answers as users see them: equal requests make one call, whoever waits takes over, answers end with their time
//! and their revision, and nobody gets the answer of another input.

use std::thread;

use anyhow::Result;
use millstream_tests::prometheus::Page;
use millstream_tests::{Cluster, Echo, eventually};
use serde_json::{Value, json};

/// An echo behind a cache, whose answers tell the revision's number.
fn pipeline(number: u32, cache: &str, delay: &str) -> Echo {
    Echo::new("p")
        .deployment(&format!("delay = \"{delay}\""))
        .stage(&format!("cache = {cache}"))
        .answer(&format!("number = {number}"))
}

struct Caching {
    cluster: Cluster,
    admin: String,
}

impl Caching {
    fn serving(text: &Echo) -> Result<Self> {
        let mut cluster = Cluster::serving(text)?;
        let admin = cluster.leader.endpoints()["admin"].as_str().unwrap().to_owned();
        Ok(Self { cluster, admin })
    }

    fn page(&self) -> Page {
        let page = self.cluster.http().get(format!("http://{}/metrics", self.admin)).send().unwrap();
        Page::parse(&page.text().unwrap()).unwrap()
    }

    /// Calls of the stage by what became of them: hit, joined, miss.
    fn results(&self) -> [f64; 3] {
        let page = self.page();
        ["hit", "joined", "miss"].map(|result| {
            let labels = [("pipeline", "p"), ("stage", "out"), ("result", result)];
            page.one("millstream_cache_requests_total", &labels).unwrap()
        })
    }

    /// Calls that replicas of `model` answered.
    fn calls(&self) -> f64 {
        self.calls_of("p/model")
    }

    fn calls_of(&self, deployment: &str) -> f64 {
        let labels = [("deployment", deployment), ("outcome", "answered")];
        self.page().sum("millstream_calls_total", &labels)
    }

    fn bytes(&self) -> Option<f64> {
        self.page().one("millstream_cache_bytes", &[("pipeline", "p"), ("stage", "out")])
    }

    fn ask(&self, text: &str) -> Value {
        let (status, answer) = self.cluster.post("/p", &json!({ "text": text })).unwrap();
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["text"], text, "the answer to what was asked");
        answer
    }
}

#[test]
fn equal_requests_make_one_call_which_alone_is_load() -> Result<()> {
    let caching = Caching::serving(&pipeline(1, r#"{ ttl = "10m", max = "1MiB" }"#, "2s"))?;
    thread::scope(|scope| {
        let requests: Vec<_> = (0..50).map(|_| scope.spawn(|| caching.ask("same"))).collect();
        requests.into_iter().for_each(|request| drop(request.join().unwrap()));
    });
    let [hit, joined, miss] = caching.results();
    assert_eq!((hit + joined, miss, caching.calls()), (49.0, 1.0, 1.0));
    let waits = caching.page().sum("millstream_queue_wait_seconds_count", &[("deployment", "p/model")]);
    assert_eq!(waits, 1.0, "the others never came to the deployment");
    for _ in 0..10 {
        caching.ask("same");
    }
    assert_eq!((caching.results(), caching.calls()), ([hit + 10.0, joined, 1.0], 1.0), "hits call nobody");
    eventually("the kept answer is measured", || (caching.bytes()? > 0.0).then_some(()));
    caching.ask("other");
    assert_eq!(caching.calls(), 2.0);
    Ok(())
}

#[test]
fn inputs_are_never_mixed() -> Result<()> {
    let caching = Caching::serving(&pipeline(1, r#""10m""#, "30ms"))?;
    thread::scope(|scope| {
        for client in 0..16 {
            let caching = &caching;
            scope.spawn(move || {
                (0..40).for_each(|at| drop(caching.ask(&format!("text {}", (at + client) % 10))))
            });
        }
    });
    let results = caching.results();
    assert_eq!((results.iter().sum::<f64>(), results[2], caching.calls()), (640.0, 10.0, 10.0));
    Ok(())
}

#[test]
fn whoever_waits_is_answered_when_the_first_client_leaves() -> Result<()> {
    // Whoever has had an answer of the stage `before` is at the cached one.
    let two_stages = pipeline(1, r#""10m""#, "2s")
        .echoes("before", "before.text")
        .more("[deployments.quick]\nengine = \"echo\"")
        .more("[stages.before]\nuse = \"quick\"\ninputs = { text = \"request.text\" }");
    let caching = Caching::serving(&two_stages)?;
    let leaves = caching.cluster.send("/p", &json!({"text": "x"}))?;
    eventually("the first call is made", || (caching.results()[2] == 1.0).then_some(()));
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..5).map(|_| scope.spawn(|| caching.ask("x"))).collect();
        eventually("the others wait", || (caching.calls_of("p/quick") == 6.0).then_some(()));
        assert_eq!(caching.calls(), 0.0, "the first call is under way");
        drop(leaves);
        waiting.into_iter().for_each(|request| drop(request.join().unwrap()));
    });
    let [_, _, miss] = caching.results();
    assert_eq!((miss, caching.calls()), (2.0, 1.0), "one of them took over");
    Ok(())
}

#[test]
fn an_answer_is_used_until_its_time_is_over() -> Result<()> {
    let caching = Caching::serving(&pipeline(1, r#""500ms""#, "0s"))?;
    caching.ask("x");
    let asked = eventually("the call is made again", || {
        caching.ask("x");
        let [hit, joined, miss] = caching.results();
        assert_eq!(miss, caching.calls());
        (miss >= 3.0).then_some(hit + joined + miss)
    });
    assert!(asked > 3.0, "some were answered by what was kept");
    Ok(())
}

#[test]
fn a_revision_answers_with_its_own_and_what_goes_frees_its_answers() -> Result<()> {
    let caching = Caching::serving(&pipeline(1, r#"{ ttl = "10m", scope = "all" }"#, "0s"))?;
    for _ in 0..3 {
        assert_eq!(caching.ask("x")["number"], 1);
    }
    assert_eq!(caching.calls(), 1.0);
    let one_answer = eventually("it is measured", || caching.bytes().filter(|&bytes| bytes > 0.0));
    // New replicas, as their settings differ; the stage and its inputs are the same.
    caching.cluster.deploy(&pipeline(2, r#"{ ttl = "10m", scope = "all" }"#, "1ms"), &[])?;
    let before = caching.calls();
    eventually("the new revision answers", || (caching.ask("x")["number"] == 2).then_some(()));
    eventually("its own answer is kept", || {
        let [hits, ..] = caching.results();
        caching.ask("x");
        (caching.results()[0] > hits).then_some(())
    });
    assert!(caching.calls() > before, "it never used the old one's answer");
    eventually("the old one's answers are gone", || (caching.bytes() == Some(one_answer)).then_some(()));
    assert!(caching.cluster.command(&["delete", "p"]).status.success());
    eventually("so are all with the pipeline", || caching.bytes().is_none().then_some(()));
    Ok(())
}
