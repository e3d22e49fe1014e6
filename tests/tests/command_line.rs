//! The command as a script sees it: exit codes, JSON, help.

use std::fs;

use millstream_tests::{Cluster, UpOptions, root, run_cluster as cluster};

#[test]
fn every_example_is_valid() {
    for entry in fs::read_dir(root().join("pipelines/examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let output = cluster(&["validate", &path.display().to_string(), "--json"]);
            assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
        }
    }
}

#[test]
fn no_cluster_is_exit_code_4_and_says_what_to_do() {
    let output = cluster(&["status", "--cluster", "127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(4));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("cluster up"), "{text}");
}

#[test]
fn a_data_directory_without_a_cluster_never_means_another_one() {
    let empty = tempfile::tempdir().unwrap();
    let path = empty.path().display().to_string();
    let output = cluster(&["status", "--data-dir", &path]);
    assert_eq!(output.status.code(), Some(4));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains(&path) && text.contains("no `endpoints.json`"), "{text}");
}

#[test]
fn wrong_usage_is_exit_code_2() {
    assert_eq!(cluster(&["up", "--roles", "worker"]).status.code(), Some(2));
    assert_eq!(cluster(&["up", "--ingress", "0.0.0.0:0"]).status.code(), Some(2));
    assert_eq!(cluster(&["up", "--join", "127.0.0.1:1", "--roles", "head"]).status.code(), Some(2));
    assert_eq!(cluster(&["frobnicate"]).status.code(), Some(2));
    assert_eq!(cluster(&["status", "--log", "a=b=c", "--cluster", "127.0.0.1:1"]).status.code(), Some(2));
}

#[test]
fn a_missing_file_is_named() {
    let output = cluster(&["validate", "nowhere.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("nowhere.toml"));
}

#[test]
fn completions_know_commands_files_and_the_names_of_the_cluster() -> anyhow::Result<()> {
    for shell in ["zsh", "fish"] {
        let output = cluster(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8(output.stdout)?.contains("COMPLETE"), "{shell}");
    }
    let up = Cluster::up(&UpOptions::new())?;
    up.deploy(&fs::read_to_string(root().join("pipelines/examples/echo.toml"))?, &[])?;
    let made = up.command(&["key", "create", "alice"]);
    assert!(made.status.success(), "{made:?}");
    let folder = up.leader.data_dir().display().to_string();
    // A real bash, with the script that the command prints.
    let complete = |words: &str| -> anyhow::Result<String> {
        let words = words.replace("DIR", &folder);
        let last = words.split(' ').count() - 1;
        let script = format!(
            "cluster() {{ {binary} \"$@\"; }}; source <({binary} completions bash); COMP_WORDS=({words}); \
             COMP_CWORD={last}; _clap_complete_cluster cluster \"${{COMP_WORDS[{last}]}}\"; echo \"${{COMPREPLY[@]}}\"",
            binary = millstream_tests::cluster_binary().display(),
        );
        let output = std::process::Command::new("bash").args(["-c", &script]).output()?;
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    assert_eq!(complete("cluster roll")?, "rollout");
    for command in ["rollout undo", "get", "delete"] {
        assert_eq!(complete(&format!("cluster --data-dir DIR {command} ec"))?, "echo", "{command}");
    }
    assert_eq!(complete("cluster status --data-dir DIR ec")?, "echo echo/echo");
    assert_eq!(complete("cluster scale --data-dir DIR echo/")?, "echo/echo");
    assert_eq!(complete("cluster key set --data-dir DIR al")?, "alice");
    assert_eq!(complete("cluster key create --data-dir DIR al")?, "");
    let elsewhere = complete("cluster rollout undo --data-dir /no/such/folder ec")?;
    assert_eq!(elsewhere, "", "no cluster, no names and no error");
    Ok(())
}

#[test]
fn what_is_typed_counts_more_than_the_environment() {
    let empty = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let output = std::process::Command::new(millstream_tests::cluster_binary())
            .args(args)
            .env("MILLSTREAM_CLUSTER", "127.0.0.1:1")
            .output()
            .unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(run(&["status"]).contains("no cluster answers on `127.0.0.1:1`"));
    let path = empty.path().display().to_string();
    assert!(run(&["status", "--data-dir", &path]).contains("no `endpoints.json`"));
    let usage = run(&["scale", "a/b"]);
    assert!(usage.contains("Usage: cluster scale <--replicas"), "{usage}");
}

#[test]
fn failures_are_json_where_that_is_asked_for() {
    for (line, code, exit_code) in [
        (&["status", "--cluster", "127.0.0.1:1"][..], "unreachable", 4),
        (&["logs"], "usage", 2),
        (&["scale", "a/b"], "usage", 2),
        (&["deploy", "/nowhere.toml"], "failed", 1),
    ] {
        let output = cluster(&[line, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(exit_code), "{line:?}");
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["error"]["code"], code, "{line:?}");
        assert!(!answer["error"]["message"].as_str().unwrap().is_empty());
        assert!(output.stderr.is_empty(), "{line:?}");
    }
    let text = String::from_utf8(cluster(&["logs"]).stderr).unwrap();
    assert!(text.contains("there is no command `logs`: a process logs on its own stderr"), "{text}");
}
