//! `cluster top` as somebody uses it over ssh, on a terminal of 80 × 24, and as a script reads it.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::Result;
use millstream_tests::{Cluster, Echo, Load, UpOptions, cluster_binary, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::pty::{Size, Terminal};

const SMALL: Size = Size { columns: 80, rows: 24 };

/// The command on a small terminal.
fn top(cluster: &Cluster) -> Result<Terminal> {
    let data_dir = cluster.leader.data_dir().display().to_string();
    Terminal::start(cluster.folder(), SMALL, &["top", "--data-dir", &data_dir])
}

/// The line of the screen that begins like this, the mark of the selected row left out.
fn line<'a>(screen: &'a str, start: &str) -> Option<&'a str> {
    screen.lines().map(|line| line.trim_start_matches(['>', ' '])).find(|line| line.starts_with(start))
}

#[test]
fn deployments_are_watched_filtered_and_explained_on_a_small_terminal() -> Result<()> {
    let busy = Echo::new("busy").deployment("delay = \"50ms\"").replicas(2);
    let mut cluster = Cluster::up(&UpOptions::new().pipeline(&busy).pipeline(&Echo::new("idle")))?;
    cluster.wait_ready();
    let callers = Load::on(&cluster, "/busy").start(4);
    let mut top = top(&cluster)?;

    let screen = top.shows("both pipelines, one with its load", |screen| {
        let is_busy = line(screen, "busy").is_some_and(|line| line.contains("requests/s  p50 "));
        is_busy && line(screen, "model").is_some_and(|line| line.contains("2/2") && line.contains('█'))
    });
    assert!(screen.contains("cluster ok: 2 pipelines serve"), "{screen}");
    assert!(line(&screen, "idle").is_some_and(|line| line.contains("no requests")), "{screen}");
    assert!(screen.contains("row 1 of 4") && screen.contains("q quit"), "{screen}");

    top.types("/idle")?;
    top.shows("the filter as it is typed", |screen| screen.contains("names with: idle_"));
    top.types("\r")?;
    top.shows("the rows with that name alone", |screen| {
        screen.contains("row 1 of 2") && line(screen, "busy").is_none()
    });
    top.types("\x1b[B\r")?;
    let screen = top.shows("the decisions about the second row", |screen| {
        screen.contains("idle/model: ") && screen.contains("of revision 1 is started on")
    });
    assert!(screen.contains("Esc back"), "{screen}");
    top.types("\x1b")?;
    top.shows("the table again", |screen| screen.contains("? help") && screen.contains("row 2 of 2"));
    top.types("\x1b")?;
    top.shows("all rows again", |screen| line(screen, "busy").is_some() && line(screen, "idle").is_some());
    top.types("q")?;
    let left = top.end();
    assert_eq!((left.code, left.is_as_before, left.text.as_str()), (Some(0), true, ""));
    drop(callers.stop());
    Ok(())
}

#[test]
fn a_lost_head_is_told_and_found_again_and_a_signal_leaves_the_terminal_as_it_was() -> Result<()> {
    let mut cluster = Cluster::serving(&Echo::new("p"))?;
    let top = top(&cluster)?;
    top.shows("the deployment", |screen| line(screen, "model").is_some());
    cluster.leader.kill();
    top.shows("how old the figures are", |screen| {
        screen.contains("these figures are ") && line(screen, "model").is_some()
    });
    cluster.restart_leader(UpOptions::new().args(&["--empty"]))?;
    top.shows("the head again", |screen| {
        !screen.contains("these figures are ") && screen.contains("cluster ok")
    });
    top.signal(Signal::TERM)?;
    let left = top.end();
    assert_eq!((left.code, left.is_as_before, left.text.as_str()), (Some(0), true, ""));
    Ok(())
}

#[test]
fn a_terminal_that_hangs_up_ends_the_command() -> Result<()> {
    let cluster = Cluster::serving(&Echo::new("p"))?;
    let top = top(&cluster)?;
    top.shows("the deployment", |screen| line(screen, "model").is_some());
    assert_eq!(top.hang_up(), Some(0));
    Ok(())
}

#[test]
fn scripts_get_a_line_each_second_and_pipes_without_json_are_refused() -> Result<()> {
    let cluster = Cluster::serving(&Echo::new("p"))?;
    let mut child = Command::new(cluster_binary())
        .args(["top", "--json", "--data-dir"])
        .arg(cluster.leader.data_dir())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().expect("it is piped");
    let lines: Vec<Value> = BufReader::new(stdout)
        .lines()
        .take(2)
        .map(|line| Ok(serde_json::from_str(&line?)?))
        .collect::<Result<_>>()?;
    kill_process(Pid::from_child(&child), Signal::INT)?;
    let status = eventually("Ctrl-C ends it", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    for line in &lines {
        assert_eq!(line["health"]["state"], "ok", "{line}");
        let deployment = &line["deployments"][0];
        assert_eq!(deployment["deployment"], "p/model", "{line}");
        assert_eq!(deployment["ready_replicas"], 1, "{line}");
        assert_eq!(deployment["last_decision"]["kind"], "placed", "{line}");
    }
    let at = |line: &Value| line["at_ms"].as_u64().unwrap();
    assert!(at(&lines[1]) - at(&lines[0]) >= 500, "{lines:?}");

    let refused = cluster.command(&["top"]);
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr.contains("cluster top --json"), "{stderr}");
    Ok(())
}
