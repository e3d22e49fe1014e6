//! What a person sees in the first five minutes, on a wide terminal and on a narrow one: the command runs on a pseudo-terminal, and
//! what is on the screen is compared with a snapshot. Colours are left out; numbers that differ from run to run are replaced.

use std::fs::File;
use std::io::Read as _;
use std::num::NonZero;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::Result;
use millstream_tests::{cluster_binary, eventually};
use regex::Regex;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// Lines of the terminal.
const ROWS: u16 = 60;

/// A command on a terminal of its own.
struct Terminal {
    child: Child,
    screen: Arc<Mutex<vt100::Parser>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Terminal {
    fn start(folder: &Path, columns: u16, args: &[&str]) -> Result<Self> {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&controller)?;
        unlockpt(&controller)?;
        tcsetwinsize(&controller, Winsize { ws_row: ROWS, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?;
        let path = ptsname(&controller, Vec::new())?.to_string_lossy().into_owned();
        let terminal = || -> Result<Stdio> { Ok(File::options().read(true).write(true).open(&path)?.into()) };
        let child = Command::new(cluster_binary())
            .args(args)
            .current_dir(folder)
            .env("TERM", "xterm")
            .env("XDG_RUNTIME_DIR", folder)
            .env("MILLSTREAM_DATA_DIR", folder.join("data"))
            .env_remove("NO_COLOR")
            .stdin(terminal()?)
            .stdout(terminal()?)
            .stderr(terminal()?)
            .spawn()?;
        let size = |number: u16| NonZero::new(number).expect("a terminal has rows and columns");
        let screen = vt100::Parser::new(size(ROWS), size(columns), 0);
        let screen = Arc::new(Mutex::new(screen));
        let mut output = File::from(controller);
        let shown = Arc::clone(&screen);
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // It fails once nobody has the terminal open any more.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                shown.lock().unwrap().process(&bytes[..count]);
            }
        });
        Ok(Self { child, screen, reader: Some(reader) })
    }

    fn text(&self) -> String {
        let parser = self.screen.lock().unwrap();
        let (_, columns) = parser.screen().size();
        let rows: Vec<String> =
            parser.screen().rows(0, columns.get()).map(|row| row.trim_end().to_owned()).collect();
        rows.join("\n").trim_end().to_owned()
    }

    /// What is on the screen once the command has ended by itself.
    fn end(mut self) -> String {
        eventually("the command has ended", || self.child.try_wait().unwrap());
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        calm(&self.text())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

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
        std::fs::write(folder.path().join("hello.toml"), PIPELINE)?;
        std::fs::write(folder.path().join("bad.toml"), PIPELINE.replace("request.text", "request.txt"))?;
        let ports = ["--ingress", "0", "--control", "0", "--dashboard", "0", "--node-name", "laptop"];
        let up = Terminal::start(folder.path(), columns, &[&["up"][..], &ports].concat())?;
        eventually("the cluster is ready", || up.text().contains("Ctrl-C drains").then_some(()));
        let seen = |args: &[&str]| -> Result<String> {
            let screen = Terminal::start(folder.path(), columns, args)?.end();
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
