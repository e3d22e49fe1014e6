//! Twenty updates of one pipeline under continuous load: good ones, ones that never get ready, ones that fail half of
//! their calls, ones on top of each other. Prints what became of the requests; the goal is that none fails.
//! `cargo build --release && cargo run --release -p millstream-tests --bin bench-updates`

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use millstream_tests::{Cluster, Echo, Load, UpOptions, broken_revision, failing_revision, good_revision};

/// What an update is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Good,
    NeverReady,
    BadAfterReady,
    OnTop,
}

const UPDATES: [Kind; 20] = {
    use Kind::{BadAfterReady, Good, NeverReady, OnTop};
    [
        Good,
        BadAfterReady,
        OnTop,
        OnTop,
        Good,
        NeverReady,
        Good,
        OnTop,
        OnTop,
        OnTop,
        Good,
        BadAfterReady,
        Good,
        Good,
        NeverReady,
        OnTop,
        Good,
        BadAfterReady,
        OnTop,
        Good,
    ]
};

fn pipeline(number: u32, kind: Kind) -> Echo {
    match kind {
        Kind::Good | Kind::OnTop => good_revision(number),
        Kind::NeverReady => broken_revision(number),
        Kind::BadAfterReady => failing_revision(number),
    }
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn main() -> Result<()> {
    let mut cluster =
        Cluster::up(&UpOptions::new().args(&["--roles", "head,ingress"]).pipeline(&pipeline(0, Kind::Good)))?;
    cluster.join("left", &[])?;
    cluster.join("right", &[])?;
    cluster.wait_ready();
    let load = Load::on(&cluster, "/p").start(8);
    let start = Instant::now();
    println!("| update | kind | took | outcome |\n| --- | --- | --- | --- |");
    for (number, kind) in (1..).zip(UPDATES) {
        let flags: &[&str] = if kind == Kind::OnTop { &["--no-wait"] } else { &[] };
        let begun = Instant::now();
        let output = cluster.try_deploy(&pipeline(number, kind), flags);
        let bad = matches!(kind, Kind::NeverReady | Kind::BadAfterReady);
        let outcome = match (output.status.success(), kind) {
            (true, Kind::OnTop) => "stored",
            (true, _) => "serves",
            (false, _) => "rolled back",
        };
        println!("| {} | {kind:?} | {:.1} s | {outcome} |", number, begun.elapsed().as_secs_f64());
        ensure!(output.status.success() != bad, "{}", String::from_utf8_lossy(&output.stderr));
        if kind == Kind::OnTop {
            // The next one comes while this one is under way.
            std::thread::sleep(Duration::from_millis(400));
        }
    }
    let ended = load.stop();
    let rate = ended.answered as f64 / start.elapsed().as_secs_f64();
    println!(
        "\n{} requests answered ({rate:.0}/s), {} shed, {} failed; goal: 0 failed",
        ended.answered, ended.shed, ended.failed
    );
    ended.texts.iter().for_each(|text| println!("  {text}"));
    Ok(())
}
