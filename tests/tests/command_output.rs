//! What becomes of the command's output when its reader leaves, or there is no room for it.

use std::fs::File;
use std::process::{Command, Output, Stdio};

use anyhow::Result;
use millstream_tests::{Cluster, Echo, cluster_binary, root};

/// Runs a command whose stdout and stderr go there.
fn run(args: &[&str], stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Result<Output> {
    let mut command = Command::new(cluster_binary());
    Ok(command.args(args).stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn()?.wait_with_output()?)
}

/// The end of a pipe whose reader has left.
fn broken_pipe() -> Result<std::io::PipeWriter> {
    let (_, writer) = std::io::pipe()?;
    Ok(writer)
}

#[test]
fn a_reader_that_has_left_ends_the_command_without_a_word() -> Result<()> {
    let cluster = Cluster::serving(&Echo::new("p"))?;
    let data_dir = cluster.leader.data_dir().display().to_string();
    let example = root().join("pipelines/examples/echo.toml").display().to_string();
    let commands: [&[&str]; 8] = [
        &["status"],
        &["status", "--json"],
        &["status", "--watch"],
        &["top", "--json"],
        &["rollout", "status"],
        &["explain"],
        &["validate", &example],
        &["completions", "bash"],
    ];
    for command in commands {
        let line = [command, &["--data-dir", &data_dir]].concat();
        let output = run(&line, broken_pipe()?, Stdio::piped())?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*stderr), (Some(0), ""), "{command:?}");
    }
    Ok(())
}

#[test]
fn nobody_needs_to_read_messages() -> Result<()> {
    let output = run(&["status", "--cluster", "127.0.0.1:1"], Stdio::piped(), broken_pipe()?)?;
    assert_eq!(output.status.code(), Some(4));
    Ok(())
}

#[test]
fn output_that_cannot_be_written_is_a_failure() -> Result<()> {
    let full = File::options().write(true).open("/dev/full")?;
    let output = run(&["completions", "bash"], full, Stdio::piped())?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("cannot write to stdout"), "{stderr}");
    Ok(())
}
