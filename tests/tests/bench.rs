//! `cluster bench` against a real cluster, and against a server that stands still for a while: an open loop must show
//! that in the latencies of all requests that were due meanwhile, not only of the one that was caught.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use millstream_tests::{Cluster, UpOptions, cluster_binary, eventually, root, run_cluster};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// How long the server stands still.
const STALL: Duration = Duration::from_millis(800);
/// Which request it stands still on.
const STALLED_REQUEST: u64 = 60;

fn bench(url: &str, flags: &[&str]) -> Output {
    let mut line = vec!["bench", url];
    line.extend(flags);
    run_cluster(&line)
}

fn result(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {stderr}", output.status);
    serde_json::from_slice(&output.stdout).expect("JSON on stdout")
}

fn echo() -> Result<Cluster> {
    let mut cluster = Cluster::up(&UpOptions::new().file(root().join("pipelines/examples/echo.toml")))?;
    cluster.wait_ready();
    Ok(cluster)
}

#[test]
fn a_cluster_answers_what_either_loop_sends() -> Result<()> {
    let cluster = echo()?;
    let features: Vec<f64> = (0..42).map(f64::from).collect();
    let bodies = cluster.folder().join("bodies.jsonl");
    // Every second body is refused: the bodies are taken in turn.
    std::fs::write(&bodies, format!("{}\n{}\n", json!({"features": features}), json!({"features": [1]})))?;
    let bodies = bodies.display().to_string();
    let flags = ["--rate", "100", "--duration", "2s", "--warm-up", "500ms", "--body", &bodies, "--json"];
    let open = result(&bench(&cluster.url("/echo"), &flags));
    assert_eq!((&open["sent"], &open["answered"], &open["failed"]), (&200.into(), &200.into(), &0.into()));
    assert_eq!((&open["status"]["2xx"], &open["status"]["4xx"]), (&100.into(), &100.into()), "{open}");
    assert_eq!(
        (&open["mode"], &open["method"], &open["ended_early"]),
        (&"open".into(), &"POST".into(), &false.into())
    );
    let latency = &open["latency_ms"];
    let figures =
        ["p50", "p90", "p95", "p99", "p99_9", "max"].map(|name| latency[name].as_f64().unwrap_or(-1.0));
    assert!(figures[0] > 0.0 && figures.is_sorted(), "{latency}");

    let flags = ["--concurrency", "4", "--duration", "1s", "--warm-up", "0s", "--body", &bodies, "--json"];
    let closed = result(&bench(&cluster.url("/echo"), &flags));
    assert_eq!(closed["sent"], closed["answered"], "{closed}");
    assert!(closed["answered"].as_u64() > Some(8), "{closed}");
    assert_eq!(
        (&closed["mode"], &closed["offered_per_s"], &closed["connections"]),
        (&"closed".into(), &Value::Null, &4.into())
    );
    Ok(())
}

#[test]
fn people_see_what_was_answered_and_why_not() -> Result<()> {
    let cluster = echo()?;
    let output = bench(&cluster.url("/nowhere"), &["--rate", "50", "--duration", "400ms", "--warm-up", "0s"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "failures are counted, they are no exit code: {text}");
    for part in ["GET http://", "50 requests/s", "sent", "4xx", "404", "\"status\":404"] {
        assert!(text.contains(part), "`{part}` is missing: {text}");
    }

    let flags = ["--rate", "50", "--duration", "400ms", "--warm-up", "0s", "--fail", "--json"];
    let output = bench(&cluster.url("/nowhere"), &flags);
    assert_eq!((output.status.code(), output.stderr.is_empty()), (Some(1), true));
    let json: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!((&json["refusals"][0]["status"], &json["refusals"][0]["count"]), (&404.into(), &20.into()));
    let good = ["--rate", "50", "--duration", "200ms", "--warm-up", "0s", "--fail", "--body"];
    let features: Vec<f64> = (0..42).map(f64::from).collect();
    let output =
        bench(&cluster.url("/echo"), &[&good[..], &[&json!({"features": features}).to_string()]].concat());
    assert!(output.status.success(), "{output:?}");
    Ok(())
}

/// Answers every request at once, but for one, before which it stands still. It serves one connection at a time.
struct Staller {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
}

impl Staller {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let requests = Arc::new(AtomicU64::new(0));
        let seen = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = serve(stream, &seen);
            }
        });
        Ok(Self { address, requests })
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

fn serve(stream: TcpStream, requests: &AtomicU64) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut answers = stream.try_clone()?;
    for line in BufReader::new(stream).lines() {
        if line?.is_empty() {
            if requests.fetch_add(1, Ordering::SeqCst) + 1 == STALLED_REQUEST {
                // Not a wait for anything: this pause is what the benchmark has to show.
                std::thread::sleep(STALL);
            }
            answers.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
        }
    }
    Ok(())
}

#[test]
fn a_stall_shows_in_an_open_loop_and_hides_in_a_closed_one() -> Result<()> {
    let server = Staller::start()?;
    let flags = ["--rate", "100", "--connections", "1", "--duration", "3s", "--warm-up", "0s", "--json"];
    let open = result(&bench(&server.url(), &flags));
    assert_eq!(open["answered"], 300, "{open}");
    // 80 of 300 requests were due while it stood still; only one of them was sent before that.
    let p90 = open["latency_ms"]["p90"].as_f64().context("p90")?;
    let p99 = open["latency_ms"]["p99"].as_f64().context("p99")?;
    assert!(p90 > 300.0 && p99 > 600.0, "{open}");

    let server = Staller::start()?;
    let flags = ["--concurrency", "1", "--duration", "3s", "--warm-up", "0s", "--json"];
    let closed = result(&bench(&server.url(), &flags));
    // Its caller waited like everybody else, and so sent nothing that could have waited.
    let (p90, max) = (&closed["latency_ms"]["p90"], &closed["latency_ms"]["max"]);
    assert!(p90.as_f64() < Some(300.0) && max.as_f64() > Some(700.0), "{closed}");
    assert!(closed["answered"].as_u64() > Some(STALLED_REQUEST), "{closed}");
    Ok(())
}

#[test]
fn requests_without_an_answer_are_counted_by_kind() -> Result<()> {
    // Accepts in the kernel, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/", silent.local_addr()?);
    let flags = ["--rate", "20", "--duration", "500ms", "--warm-up", "0s", "--timeout", "300ms", "--json"];
    let timeouts = result(&bench(&url, &flags));
    assert_eq!((&timeouts["sent"], &timeouts["errors"]["timeout"]), (&10.into(), &10.into()), "{timeouts}");
    assert_eq!(timeouts["latency_ms"], Value::Null);

    let rude = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/", rude.local_addr()?);
    std::thread::spawn(move || {
        for mut stream in rude.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
        }
    });
    let closed = result(&bench(&url, &["--rate", "20", "--duration", "500ms", "--warm-up", "0s", "--json"]));
    assert_eq!((&closed["failed"], &closed["errors"]["closed"]), (&10.into(), &10.into()), "{closed}");
    Ok(())
}

#[test]
fn nothing_there_and_nonsense_have_exit_codes_of_their_own() -> Result<()> {
    let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let nobody = bench(&format!("http://{free}/"), &["--duration", "1s"]);
    assert_eq!(nobody.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("cannot connect"), "{nobody:?}");

    let nonsense = bench("https://h/", &["--rate", "many", "--duration", "soon", "--body", "{"]);
    assert_eq!(nonsense.status.code(), Some(2));
    let text = String::from_utf8_lossy(&nonsense.stderr).into_owned();
    for part in ["4 arguments", "plain http", "--rate `many`", "--duration `soon`", "--body is not JSON"] {
        assert!(text.contains(part), "`{part}` is missing: {text}");
    }
    Ok(())
}

#[test]
fn an_interrupt_ends_it_early_with_the_figures_so_far() -> Result<()> {
    let server = Staller::start()?;
    let mut child: Child = Command::new(cluster_binary())
        .args([
            "bench",
            &server.url(),
            "--rate",
            "50",
            "--connections",
            "1",
            "--duration",
            "10m",
            "--json",
            "--warm-up",
            "0s",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    eventually("some requests have come", || (server.requests.load(Ordering::SeqCst) >= 5).then_some(()));
    kill_process(Pid::from_child(&child), Signal::INT)?;
    let status = eventually("it has ended", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    let mut text = String::new();
    child.stdout.take().context("stdout")?.read_to_string(&mut text)?;
    let early: Value = serde_json::from_str(&text)?;
    assert_eq!(early["ended_early"], true);
    assert!(early["answered"].as_u64() >= Some(4), "{early}");
    Ok(())
}
