//! What a person sees in the first five minutes, on a wide terminal and on a narrow one: the command runs on a pseudo-terminal, and
//! what is on the screen is compared with a snapshot. Colours are left out; numbers that differ from run to run are replaced.

use anyhow::Result;
use millstream_tests::eventually;
use regex::Regex;

use crate::pty::{Size, Terminal};

/// Lines of the terminal.
const ROWS: u16 = 60;

/// The text without what differs from run to run.
fn calm(text: &str) -> String {
    let rules = [
        (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
        (r"\b\d+(\.\d+)? of \d+ free", "N of N free"),
        (r"[\d.]+ GiB of [\d.]+ GiB free", "N GiB of N GiB free"),
        (r"\b\d+(ms|s|m|h) ago", "N ago"),
        (r"(?m) \d+s$", " N"),
        (r"process \d+", "process N"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "DATE TIME"),
        (r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID"),
        (r"(?m)^[⠀-⣿]", " "),
        (r"(\S) {3,}", "$1  "),
    ];
    rules.iter().fold(text.to_owned(), |text, (pattern, with)| {
        Regex::new(pattern).unwrap().replace_all(&text, *with).into_owned()
    })
}

const PIPELINE: &str = r#"name = "hello"
route = "/hello"
[request]
text = "text"
[deployments.model]
engine = "echo"
[stages.out]
use = "model"
inputs = { text = "request.text" }
[response]
text = "out.text"
"#;

#[test]
fn the_first_five_minutes_on_a_wide_and_on_a_narrow_terminal() -> Result<()> {
    for (name, columns) in [("wide", 120), ("narrow", 60)] {
        let folder = tempfile::tempdir()?;
        let size = Size { columns, rows: ROWS };
        std::fs::write(folder.path().join("hello.toml"), PIPELINE)?;
        std::fs::write(folder.path().join("bad.toml"), PIPELINE.replace("request.text", "request.txt"))?;
        let ports = ["--ingress", "0", "--control", "0", "--dashboard", "0", "--node-name", "laptop"];
        let up = Terminal::start(folder.path(), size, &[&["up"][..], &ports].concat())?;
        eventually("the cluster is ready", || up.text().contains("Ctrl-C drains").then_some(()));
        let seen = |args: &[&str]| -> Result<String> {
            let screen = calm(&Terminal::start(folder.path(), size, args)?.end().text);
            Ok(format!("\n$ cluster {}\n{screen}\n", args.join(" ")))
        };
        let mut session = format!("$ cluster up\n{}\n", calm(&up.text()));
        for args in [
            &["status"][..],
            &["deploy", "bad.toml"],
            &["deploy", "hello.toml"],
            &["status", "hello"],
            &["rollout", "history", "hello"],
            &["delete", "hello"],
            &["logs"],
        ] {
            session += &seen(args)?;
        }
        insta::assert_snapshot!(name, session);
    }
    Ok(())
}
