//! API keys: who comes in, how much, and who waits for whom, with real processes.

use std::process::Output;
use std::thread;

use anyhow::{Context as _, Result};
use millstream_tests::prometheus::Page;
use millstream_tests::{Cluster, Echo, Load, UpOptions, eventually};
use reqwest::blocking::Response;
use serde_json::{Value, json};

/// An echo that is busy with a call for a while.
fn slow_echo() -> Echo {
    Echo::new("p").deployment("delay = \"500ms\"\nmax_ongoing_requests = 50")
}

fn run(cluster: &Cluster, args: &[&str]) -> String {
    let output = cluster.command(&[&["key"][..], args].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Makes a key; returns its secret once the ingress knows it.
fn create(cluster: &Cluster, name: &str, limits: &[&str]) -> String {
    let secret = run(cluster, &[&["create", name][..], limits].concat()).trim().to_owned();
    eventually("the ingress knows the key", || (routes(cluster, &secret) == 200).then_some(()));
    secret
}

/// The status of a page that costs no request.
fn routes(cluster: &Cluster, secret: &str) -> u16 {
    let answer = cluster.http().get(cluster.url("/-/routes")).header("x-api-key", secret).send().unwrap();
    answer.status().as_u16()
}

fn ask_with(cluster: &Cluster, secret: &str) -> Response {
    cluster.ask("/p", &[("authorization", &bearer(secret))]).unwrap()
}

fn bearer(secret: &str) -> String {
    format!("Bearer {secret}")
}

/// Three requests at the same time; those that are turned away.
fn three_at_once(cluster: &Cluster, secret: &str) -> Vec<Response> {
    let answers = thread::scope(|scope| {
        let callers = [(); 3].map(|()| scope.spawn(|| ask_with(cluster, secret)));
        callers.map(|caller| caller.join().unwrap())
    });
    answers.into_iter().filter(|answer| answer.status() == 429).collect()
}

fn retry_after(answer: &Response) -> u64 {
    answer.headers()["retry-after"].to_str().unwrap().parse().unwrap()
}

fn counted(page: &Page, key: &str, result: &str) -> Option<f64> {
    page.one("millstream_key_requests_total", &[("key", key), ("result", result)])
}

#[test]
fn a_key_opens_with_both_headers_until_it_is_deleted_and_nobody_shows_its_secret() -> Result<()> {
    let cluster = Cluster::serving(&Echo::new("p"))?;
    let secret = create(&cluster, "alice", &["--weight", "2", "--priority", "high"]);
    assert!(secret.starts_with("mk_") && secret.len() == 46, "{secret}");
    assert_eq!(ask_with(&cluster, &secret).status(), 200);
    assert_eq!(cluster.ask("/p", &[("x-api-key", &secret)])?.status(), 200);
    assert_eq!(cluster.ask("/p", &[])?.status(), 200, "no key is asked for");
    for wrong in ["mk_wrong", "", &secret[..45]] {
        let refused = ask_with(&cluster, wrong);
        assert_eq!(refused.status(), 401, "{wrong}");
        assert_eq!(refused.headers()["www-authenticate"], "Bearer");
        assert_eq!(refused.headers()["content-type"], "application/problem+json");
        let text = refused.text()?;
        assert!(text.contains("urn:millstream:problem:unauthorized") && !text.contains("mk_"), "{text}");
    }
    let page = cluster.metrics()?;
    assert_eq!(counted(&page, "alice", "admitted"), Some(2.0));
    assert_eq!(counted(&page, "alice", "rate"), Some(0.0));

    let again = cluster.command(&["key", "create", "alice"]);
    assert_eq!(again.status.code(), Some(5));
    assert!(stderr(&again).contains("`cluster key set alice`"), "{}", stderr(&again));
    let unknown = cluster.command(&["key", "delete", "alcie"]);
    assert_eq!(unknown.status.code(), Some(5));
    assert!(stderr(&unknown).contains("there are `alice`"), "{}", stderr(&unknown));
    let bad = ["key", "create", "Bob", "--rate", "-1", "--burst", "0", "--weight", "x", "--priority", "soon"];
    let bad = cluster.command(&bad);
    assert_eq!(bad.status.code(), Some(2));
    for part in ["`Bob`", "rate -1", "burst `0`", "weight `x`", "`soon`", "give `high`, `normal` or `low`"] {
        assert!(stderr(&bad).contains(part), "{}", stderr(&bad));
    }
    let no_rate = cluster.command(&["key", "set", "alice", "--burst", "3"]);
    assert_eq!(no_rate.status.code(), Some(2), "{}", stderr(&no_rate));

    let listed: Value = serde_json::from_str(&run(&cluster, &["list", "--json"]))?;
    assert_eq!((&listed["keys"][0]["name"], &listed["keys"][0]["weight"]), (&json!("alice"), &json!(2)));
    let table = run(&cluster, &["list"]);
    assert!(table.contains("alice") && table.contains("high"), "{table}");
    run(&cluster, &["set", "alice", "--weight", "3", "--rate", "none"]);
    let shown = [listed.to_string(), table, String::from_utf8(cluster.command(&["explain"]).stdout)?];
    let random = secret.trim_start_matches("mk_");
    assert!(shown.iter().all(|text| !text.contains(random)));
    assert!(shown[2].contains("API key alice was made: weight 2, priority high"), "{}", shown[2]);
    assert!(shown[2].contains("API key alice now has rate none, weight 3"), "{}", shown[2]);

    run(&cluster, &["delete", "alice"]);
    eventually("its secret is refused", || (ask_with(&cluster, &secret).status() == 401).then_some(()));
    assert!(!cluster.leader.log().contains(random), "secrets are in no log");
    for file in std::fs::read_dir(cluster.leader.data_dir())? {
        let path = file?.path();
        if path.is_file() {
            let bytes = std::fs::read(&path)?;
            let found = bytes.windows(random.len()).any(|window| window == random.as_bytes());
            assert!(!found, "{} has the secret", path.display());
        }
    }
    Ok(())
}

#[test]
fn limits_are_told_with_the_time_to_wait_and_change_in_place() -> Result<()> {
    let cluster = Cluster::serving(&slow_echo())?;
    let slow = create(&cluster, "slow", &["--rate", "0.01", "--burst", "2"]);
    let left = |answer: &Response| {
        let header = |what: &str| {
            answer.headers()[&format!("x-ratelimit-{what}-requests")].to_str().unwrap().to_owned()
        };
        (answer.status().as_u16(), header("limit"), header("remaining"))
    };
    let answers = [ask_with(&cluster, &slow), ask_with(&cluster, &slow), ask_with(&cluster, &slow)];
    let expected = [(200, "1"), (200, "0"), (429, "0")];
    assert_eq!(
        answers.each_ref().map(left),
        expected.map(|(status, remaining)| (status, "2".to_owned(), remaining.to_owned()))
    );
    let [_, _, over] = answers;
    let reset = over.headers()["x-ratelimit-reset-requests"].to_str()?.strip_suffix("ms").context("ms")?;
    assert!((190_000..=200_000).contains(&reset.parse::<u32>()?), "{reset}");
    assert!((60..=100).contains(&retry_after(&over)), "a hundred seconds make one: {over:?}");
    let text = over.text()?;
    assert!(text.contains("key `slow` is over its rate"), "{text}");
    // A refused body is not read: one that is not a request at all is told the same.
    let garbage = cluster.http().post(cluster.url("/p")).header("x-api-key", &slow);
    assert_eq!(garbage.body("{").send()?.status(), 429);

    let narrow = create(&cluster, "narrow", &["--concurrency", "2"]);
    let full = eventually("one of three at once is turned away", || {
        let mut refused = three_at_once(&cluster, &narrow);
        refused.pop().filter(|_| refused.is_empty())
    });
    assert_eq!(retry_after(&full), 1);
    assert!(!full.headers().contains_key("x-ratelimit-limit-requests"), "it has no rate");
    assert_eq!(full.headers()["x-millstream-refused"], "quota");
    let text = full.text()?;
    assert!(text.contains("concurrency limit: `2` at a time"), "{text}");
    eventually("places are given back", || (ask_with(&cluster, &narrow).status() == 200).then_some(()));
    let page = cluster.metrics()?;
    assert_eq!(counted(&page, "slow", "admitted"), Some(2.0), "never more than the burst");
    assert!(counted(&page, "slow", "rate") >= Some(2.0));
    assert!(counted(&page, "narrow", "concurrency") >= Some(1.0));

    assert_eq!(ask_with(&cluster, &slow).status(), 429);
    let output = run(&cluster, &["set", "slow", "--rate", "none"]);
    assert!(output.contains("key slow has no limits"), "{output}");
    eventually("the limit is lifted", || (ask_with(&cluster, &slow).status() == 200).then_some(()));
    Ok(())
}

#[test]
fn each_ingress_takes_its_part_of_a_limit() -> Result<()> {
    let mut cluster = Cluster::serving(&slow_echo())?;
    let secret = create(&cluster, "alice", &["--concurrency", "2"]);
    cluster.join("second", &["--roles", "ingress,worker"])?;
    // Three at once: so many come in, and the others are told of this limit.
    let comes_to = |cluster: &Cluster, most: usize| {
        eventually("the limit is this part of it", || {
            let refused = three_at_once(cluster, &secret);
            let texts: Vec<_> = refused.into_iter().map(|answer| answer.text().unwrap()).collect();
            let output = format!("`{most}` at a time");
            (texts.len() == 3 - most && texts.iter().all(|text| text.contains(&output))).then_some(())
        });
    };
    comes_to(&cluster, 1);
    cluster.joined.clear();
    comes_to(&cluster, 2);
    Ok(())
}

#[test]
fn keys_outlive_the_head_and_an_ingress_may_require_them() -> Result<()> {
    let options = UpOptions::new().args(&["--require-api-key"]);
    let mut cluster = Cluster::up(&options.clone().pipeline(&Echo::new("p")))?;
    cluster.wait_ready();
    let secret = create(&cluster, "alice", &["--rate", "1000", "--concurrency", "9"]);
    let check = |cluster: &Cluster| -> Result<()> {
        let refused = cluster.ask("/p", &[])?;
        assert_eq!(refused.status(), 401);
        assert!(refused.text()?.contains("`authorization: Bearer …`"));
        let nowhere = cluster.http().post(cluster.url("/nowhere")).send()?;
        assert_eq!(nowhere.status(), 401, "which routes there are is nobody's business");
        assert_eq!(cluster.http().get(cluster.url("/-/routes")).send()?.status(), 401);
        assert_eq!(cluster.http().get(cluster.url("/-/healthz")).send()?.status(), 200);
        assert_eq!(ask_with(cluster, &secret).status(), 200);
        Ok(())
    };
    check(&cluster)?;
    let before = run(&cluster, &["list", "--json"]);
    cluster.restart_leader(options)?;
    eventually("it serves again", || (ask_with(&cluster, &secret).status() == 200).then_some(()));
    check(&cluster)?;
    assert_eq!(run(&cluster, &["list", "--json"]), before);
    run(&cluster, &["delete", "alice"]);
    create(&cluster, "alice", &[]);
    let again: Value = serde_json::from_str(&run(&cluster, &["list", "--json"]))?;
    assert_eq!(again["keys"][0]["tenant"], 2, "numbers are never used again");
    Ok(())
}

#[test]
fn a_light_key_does_not_wait_behind_a_heavy_one() -> Result<()> {
    const LIGHT: u64 = 40;
    let narrow = "delay = \"40ms\"\nmax_ongoing_requests = 1\nmax_queued_requests = 20";
    let cluster = Cluster::serving(&Echo::new("p").deployment(narrow))?;
    let load = |secret: &str| Load::on(&cluster, "/p").header("authorization", &bearer(secret));
    let (heavy, light) = (create(&cluster, "heavy", &[]), create(&cluster, "light", &[]));
    let heavy = load(&heavy).start(40);
    eventually("the queue is full", || (heavy.shed() > 20).then_some(()));
    let before = heavy.answered();
    let light = load(&light).start(1);
    light.until_answered(LIGHT);
    // The replica runs one call at a time: alone, the light one would have had all the answers of that time.
    let (of_light, of_heavy) = (light.answered(), heavy.answered() - before);
    assert!(
        of_light * 3 >= of_light + of_heavy,
        "at least a third: {of_light} beside {of_heavy} of the heavy one"
    );
    let (heavy, light) = (heavy.stop(), light.stop());
    assert_eq!((heavy.failed, light.failed), (0, 0), "{:?} {:?}", heavy.texts, light.texts);
    assert_eq!(light.shed, 0, "the light one is never turned away");
    Ok(())
}
