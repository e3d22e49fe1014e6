//! Captures and replays: what is kept, what never is, within which bounds; and whether a replay finds out what a new revision
//! does otherwise.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use millstream_tests::{Cluster, Echo, UpOptions, eventually};
use serde_json::{Value, json};

/// A word that nobody else says.
const CANARY: &str = "plover-on-the-shingle-4417";

/// A pipeline that answers `text` and `version`, and captures all of its requests without their user.
fn capturing(version: u32, capture: &str) -> Echo {
    let capture = format!("[capture]\npercent = \"100%\"\nredact = [\"request.user\"]\n{capture}");
    Echo::new("p")
        .field("user = { type = \"text\", default = \"nobody\" }")
        .deployment(&format!("cpus = {}", 0.01 * f64::from(version)))
        .echoes("version", &version.to_string())
        .more(&capture)
}

fn captures(cluster: &Cluster) -> PathBuf {
    cluster.leader.data_dir().join("captures/p")
}

/// The text of all files of a folder, in order; empty where it is not there.
fn text_of(folder: &Path) -> String {
    let Ok(entries) = fs::read_dir(folder) else { return String::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    // One that goes meanwhile is gone.
    files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect()
}

/// Waits until there are so many events.
fn events(cluster: &Cluster, count: usize) -> Vec<Value> {
    eventually("the captures are written", || {
        let text = text_of(&captures(cluster));
        let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (events.len() >= count).then_some(events)
    })
}

fn said(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

fn replay(cluster: &Cluster, args: &[&str]) -> (Option<i32>, Value) {
    let output = cluster.command(&[&["replay", "--json"][..], args].concat());
    let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output.status.code(), document)
}

#[test]
fn a_replay_tells_a_revision_that_answers_alike_from_one_that_does_not() -> Result<()> {
    let cluster = Cluster::serving(&capturing(1, ""))?;
    for number in 0..20 {
        let body = json!({"text": format!("text {number}"), "user": CANARY});
        assert_eq!(cluster.post("/p", &body)?.0, 200);
    }
    let out = cluster.http().post(cluster.url("/p")).json(&json!({"text": "kept out"}));
    assert_eq!(out.header("x-capture", "off").send()?.status(), 200);
    let events = events(&cluster, 40);
    assert_eq!(events.len(), 40, "one is kept out");
    for (pair, number) in events.chunks(2).zip(0..) {
        let [request, response] = pair else { panic!("pairs") };
        assert_eq!((&request["id"], &request["source"]), (&response["id"], &json!("/p/revisions/1")));
        assert_eq!(request["data"], json!({"text": format!("text {number}"), "user": "[redacted]"}));
        assert_eq!(response["data"], json!({"text": format!("text {number}"), "version": 1}));
        assert_eq!(response["status"], 200);
    }
    assert!(!text_of(&captures(&cluster)).contains(CANARY));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&captures(&cluster)), 0o700);
    assert_eq!(mode(&captures(&cluster).join("00000001.jsonl")), 0o600);

    // The same answers, and others: beside the revision that serves, and compared with it.
    cluster.deploy(&capturing(2, ""), &["--shadow"])?;
    let (code, same) = replay(&cluster, &["--to", "p"]);
    assert_eq!(
        (code, &same["results"]["equal"], &same["revision"]),
        (Some(0), &json!(20), &json!(1)),
        "{same}"
    );
    assert_eq!(same["redacted_requests"], 20);
    let folder = captures(&cluster).display().to_string();
    let (code, other) = replay(&cluster, &[&folder, "--to", "p@2", "--speed", "100"]);
    assert_eq!((code, &other["results"]["different"]), (Some(1), &json!(20)), "{other}");
    let first = &other["differences"][0];
    assert_eq!((&first["path"], &first["now"]), (&json!("answer.version"), &json!("2")), "{other}");
    assert!(other["latency_ms"]["now"]["p99"].as_f64() > Some(0.0), "{other}");
    let (code, near) = replay(&cluster, &[&folder, "--to", "p@2", "--tolerance", "0.6", "--limit", "3"]);
    assert_eq!(
        (code, &near["results"]["near"], &near["requests"]),
        (Some(0), &json!(3), &json!(3)),
        "{near}"
    );

    let text = said(&cluster.command(&["replay", "--to", "p@2"]).stdout);
    for part in [
        "20 of 20 captured requests sent to p@2",
        "different           20",
        "answer.version  1",
        "and 15 more",
    ] {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
    assert_eq!(text_of(&captures(&cluster)).lines().count(), 40, "replays are not captured");
    Ok(())
}

#[test]
fn failures_are_captured_without_their_text_and_what_makes_no_sense_is_said() -> Result<()> {
    let failing = capturing(1, "").deployment("fail_ratio = 1.0").stage("retries = 0");
    let cluster = Cluster::serving(&failing)?;
    assert_eq!(cluster.post("/p", &json!({"text": "x"}))?.0, 500);
    assert_eq!(cluster.post("/p", &json!({"text": 1}))?.0, 422, "it never ran");
    let events = events(&cluster, 2);
    assert_eq!(
        (events.len(), &events[1]["status"], &events[1]["problem"]),
        (2, &json!(500), &json!("internal"))
    );
    assert!(events[1].get("data").is_none());
    let (code, same) = replay(&cluster, &["--to", "p"]);
    assert_eq!((code, &same["results"]["equal"]), (Some(0), &json!(1)), "it fails as it did: {same}");

    let bad = cluster.folder().join("bad.jsonl");
    fs::write(&bad, "{}\nnot JSON\n")?;
    let bad = bad.display().to_string();
    let nowhere = cluster.folder().join("nowhere").display().to_string();
    let captured = captures(&cluster).display().to_string();
    let table: [(&[&str], i32, &str); 8] = [
        (&["replay"], 2, "--to"),
        (&["replay", "--to", "p@x"], 2, "a revision is a number"),
        (&["replay", &nowhere, "--to", "p"], 2, "cannot read captures"),
        (&["replay", &bad, "--to", "p"], 2, "2 lines are not captures"),
        (&["replay", "--to", "q"], 2, "there are no captures of `q`"),
        (&["replay", &captured, "--to", "q"], 5, "no pipeline `q`"),
        (&["replay", "--to", "p@9"], 5, "revision 9 of `p` is not kept"),
        (&["replay", "--to", "p", "--ingress", "127.0.0.1:1"], 4, "cannot connect to the ingress"),
    ];
    for (line, code, part) in table {
        let Output { status, stderr, .. } = cluster.command(line);
        assert_eq!(status.code(), Some(code), "{line:?}: {}", said(&stderr));
        assert!(said(&stderr).contains(part), "{line:?}: {}", said(&stderr));
    }
    let wrong = cluster.try_deploy(&capturing(2, "max_size = \"1KiB\"\n"), &[]);
    assert_eq!(wrong.status.code(), Some(3));
    let plan = said(&cluster.try_deploy(&capturing(1, "max_size = \"2MiB\"\n"), &["--dry-run"]).stdout);
    assert!(plan.contains("captures 100% of the requests, at most 2MiB on disk at each ingress"), "{plan}");
    Ok(())
}

#[test]
fn a_ring_stays_within_its_size_across_a_restart_and_keeps_the_newest() -> Result<()> {
    const MAX: u64 = 1 << 20;
    let pipeline = capturing(1, "max_size = \"1MiB\"\n");
    let mut cluster = Cluster::serving(&pipeline)?;
    let size = |cluster: &Cluster| -> u64 {
        let files = fs::read_dir(captures(cluster)).into_iter().flatten();
        files.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).sum()
    };
    let fill = |cluster: &Cluster, from: u32, to: u32| -> Result<()> {
        let long = "x".repeat(8 << 10);
        for number in from..to {
            let body = json!({"text": format!("{number} {long}")});
            assert_eq!(cluster.post("/p", &body)?.0, 200);
            assert!(size(cluster) <= MAX, "{}", size(cluster));
        }
        eventually("the newest is there", || {
            text_of(&captures(cluster)).contains(&format!("\"{} x", to - 1)).then_some(())
        });
        Ok(())
    };
    fill(&cluster, 0, 150)?;
    assert!(size(&cluster) > MAX / 2);
    let too_large = json!({"text": "y".repeat(200 << 10)});
    assert_eq!(cluster.post("/p", &too_large)?.0, 200);
    eventually("what is larger than a file of the ring is dropped", || {
        let page = cluster.metrics().ok()?;
        let dropped =
            page.one("millstream_captured_requests_total", &[("pipeline", "p"), ("result", "dropped")]);
        (dropped == Some(1.0)).then_some(())
    });
    cluster.restart_leader(UpOptions::new())?;
    cluster.wait_ready();
    fill(&cluster, 150, 200)?;
    let (_, document) = replay(&cluster, &["--to", "p", "--limit", "20"]);
    assert_eq!(document["results"]["equal"], 20, "{document}");
    Ok(())
}

/// Takes events over HTTP until the test ends: one request a connection. Returns where, and what has come.
fn receiver(listener: TcpListener) -> Arc<Mutex<Vec<Value>>> {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let come = taken.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut line, mut length, mut head) = (String::new(), 0, String::new());
            while reader.read_line(&mut line).unwrap() > 2 {
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                head += &std::mem::take(&mut line).to_lowercase();
            }
            assert!(head.starts_with("post /events?of=p "), "{head}");
            assert!(head.contains("content-type: application/cloudevents+json"), "{head}");
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            come.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
            let answer = "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    taken
}

#[test]
fn a_receiver_gets_both_events_and_one_that_is_away_costs_no_request() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address: SocketAddr = listener.local_addr()?;
    drop(listener);
    let cluster = Cluster::serving(&capturing(1, &format!("sink = \"http://{address}/events?of=p\"\n")))?;
    for _ in 0..5 {
        assert_eq!(cluster.post("/p", &json!({"text": "lost", "user": CANARY}))?.0, 200);
    }
    let count = |result: &str| {
        let page = cluster.metrics().ok()?;
        page.one("millstream_captured_requests_total", &[("pipeline", "p"), ("result", result)])
    };
    eventually("all are dropped", || (count("dropped") == Some(5.0)).then_some(()));
    assert_eq!(cluster.leader.log().matches("captures are not taken").count(), 1);

    let taken = receiver(TcpListener::bind(address)?);
    for _ in 0..5 {
        assert_eq!(cluster.post("/p", &json!({"text": "kept", "user": CANARY}))?.0, 200);
    }
    eventually("all are taken", || (count("kept") == Some(5.0)).then_some(()));
    let events = taken.lock().unwrap().clone();
    let kinds: Vec<_> =
        events.iter().map(|event| event["type"].as_str().unwrap().rsplit('.').next().unwrap()).collect();
    assert_eq!(kinds, ["request", "response"].repeat(5));
    assert_eq!(events[0]["data"], json!({"text": "kept", "user": "[redacted]"}));
    assert_eq!(events[1]["data"], json!({"text": "kept", "version": 1}));
    assert!(cluster.leader.log().contains("captures are taken again"));
    assert!(!captures(&cluster).exists(), "nothing is on disk");

    // What a receiver has written can be sent again.
    let file = cluster.folder().join("taken.jsonl");
    fs::write(&file, events.iter().map(|event| format!("{event}\n")).collect::<String>())?;
    let (code, document) = replay(&cluster, &[&file.display().to_string(), "--to", "p@1"]);
    assert_eq!((code, &document["results"]["equal"]), (Some(0), &json!(5)), "{document}");
    Ok(())
}
