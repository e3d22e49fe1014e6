//! What the command says, all of it in one text that a person can read from top to bottom: the snapshot. Lines that are run against one
//! cluster, one after the other, with what they print and how they end. Numbers and paths that differ from run to run are replaced.

use std::fmt::Write as _;
use std::fs;

use anyhow::Result;
use millstream_tests::{Cluster, Echo, run_cluster};
use regex::Regex;

/// Lines that need no cluster.
const ALONE: &[&str] = &[
    "",
    "logs",
    "stattus",
    "apply hello.toml",
    "up --port 9000",
    "up --roles worker",
    "up --join 127.0.0.1:1 --roles head",
    "up --ingress 0.0.0.0:0",
    "up --ingress nonsense",
    "up --empty FOLDER/hello.toml",
    "validate FOLDER/hello.toml",
    "validate FOLDER/bad.toml",
    "validate FOLDER",
    "validate FOLDER/nothing.toml",
    "deploy --canary 10 FOLDER/hello.toml",
    "deploy --canary 10% --shadow FOLDER/hello.toml",
    "status --cluster 127.0.0.1:1",
    "status --data-dir FOLDER/nowhere",
    "status --log nonsense=nonsense",
    "scale hello/model",
    "simulate autoscaling",
    "explain hello --since yesterday",
    "completions tcsh",
];

/// Lines that are run against a cluster that serves `hello`.
const WITH_CLUSTER: &[&str] = &[
    "deploy FOLDER/hello.toml",
    "deploy FOLDER/bad.toml",
    "deploy FOLDER/bad.toml --json",
    "deploy FOLDER/next.toml --dry-run",
    "diff FOLDER/next.toml",
    "deploy FOLDER/next.toml --canary 20%",
    "rollout set hello --percent 200%",
    "rollout set hello --percent 40%",
    "rollout set nothing --percent 40%",
    "rollout abort hello",
    "rollout abort hello",
    "rollout promote hello",
    "rollout undo hello",
    "rollout undo hello --to 7",
    "rollout status nothing",
    "rollout history nothing",
    "deploy FOLDER/unloadable.toml",
    "delete iris",
    "deploy FOLDER/user.toml",
    "get nothing",
    "get hello --revision 9",
    "status nothing",
    "explain nothing",
    "scale hello/model --replicas 2",
    "scale hello/model --replicas 2",
    "scale hello/modle --replicas 2",
    "scale hello/model --min 3 --max 1",
    "scale hello/model --reset",
    "key create alice --rate 5 --concurrency 2",
    "key create alice",
    "key create alice --rate many",
    "key set alice --weight 3",
    "key set bob --weight 3",
    "key delete alice",
    "key delete alice",
    "node remove nothing",
    "delete hello nothing",
    "delete nothing --json",
    "rollout undo hello",
    "down",
    "status",
];

fn rules(folder: &str, node: &str) -> Vec<(Regex, &'static str)> {
    let rule = |pattern: &str, with| (Regex::new(pattern).unwrap(), with);
    vec![
        rule(&regex::escape(folder), "FOLDER"),
        rule(r"127\.0\.0\.1:\d{4,5}\b", "127.0.0.1:PORT"),
        rule(r"(?m)^ +\d+\.\d+ s  .*\n", ""),
        rule(r"mk_[\w-]{20,}", "mk_SECRET"),
        rule(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\dZ?", "DATE TIME"),
        rule(r"for [\dms ]+, with", "for TIME, with"),
        rule(r#""at_ms":\d+"#, "\"at_ms\":N"),
        rule(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID"),
        rule(&format!(r"\bon {}\b", regex::escape(node)), "on NODE"),
    ]
}

#[test]
fn what_the_command_says_can_be_read_from_top_to_bottom() -> Result<()> {
    let hello = |more: &str| Echo::new("hello").deployment(more).to_string();
    let cluster = Cluster::serving(&hello("cpus = 0.01"))?;
    let folder = cluster.folder().to_owned();
    for (name, text) in [
        ("hello.toml", hello("cpus = 0.01")),
        ("next.toml", hello("cpus = 0.02").replace("/hello", "/greeting")),
        ("bad.toml", hello("colour = \"red\"").replace("request.text", "request.txt")),
        (
            "unloadable.toml",
            "name = \"iris\"\n[deployments.model]\ntask = \"tensor\"\nmodel = \"mini-embeder\"\n".to_owned(),
        ),
        ("user.toml", Echo::new("user").uses("hello/modle").to_string()),
    ] {
        fs::write(folder.join(name), text)?;
    }
    let folder = folder.display().to_string();
    let node = cluster.status()["nodes"][0]["name"].as_str().unwrap_or_default().to_owned();
    let rules = rules(&folder, &node);
    let mut said = String::new();
    let mut note = |line: &str, output: &std::process::Output| {
        let mut text = format!("{}{}", text(&output.stdout), text(&output.stderr));
        for (pattern, with) in &rules {
            text = pattern.replace_all(&text, *with).into_owned();
        }
        let code = output.status.code().unwrap_or(-1);
        let _ = writeln!(said, "$ cluster {line}\n{}\n(exit {code})\n", text.trim_end());
    };
    let words = |line: &str| -> Vec<String> {
        line.split_whitespace().map(|word| word.replace("FOLDER", &folder)).collect()
    };
    for line in ALONE {
        note(line, &run_cluster(&words(line)));
    }
    for line in WITH_CLUSTER {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        note(line, &cluster.command(&words));
    }
    insta::assert_snapshot!(said);
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
