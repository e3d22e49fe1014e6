//! Runs the commands of a page beside a cluster of its own.
//!
//! The page becomes one script for bash, line for line: what is in no block that runs is an empty line, a whole pipeline
//! with a name is written to its file, and a program in another language is what its interpreter reads. So the lines that
//! bash tells are the lines of the page.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use millstream_tests::{Cluster, UpOptions};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::docs::commands::not_run_here;
use crate::docs::page::{Block, Page, root};
use crate::docs::shell::commands;

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(60);
/// What a line of the log begins with that tells the line of the next command.
const MARK: &str = "docs-test line ";
/// What a line of the log begins with that tells how curl ended.
const CURL: &str = "docs-test curl ";
/// Runs the next `curl` of the path, and writes its report at once when it has ended: curl itself writes it in pieces, and
/// what stands behind it in a pipe may print between them.
const WHOLE_REPORTS: &str = r#"#!/bin/sh
report=$(mktemp)
PATH=${PATH#*:} command curl "$@" 2>"$report"
ended=$?
cat "$report" >&2
rm "$report"
exit $ended
"#;

/// Runs the program that it reads by the Python that has what the program imports. `TOOLS` and `FRAMEWORKS` are what
/// .ci/setup made; where all must run, none may be missing.
const PYTHON: &str = r#"#!/bin/bash
program=$(mktemp)
cat > "$program"
for python in TOOLS FRAMEWORKS; do
    if "$python" - "$program" <<'END' 2>/dev/null
import ast, importlib.util, sys
nodes = list(ast.walk(ast.parse(open(sys.argv[1]).read())))
names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
names += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
sys.exit(any(importlib.util.find_spec(name.split(".")[0]) is None for name in names))
END
    then
        exec "$python" "$program"
    fi
done
echo "skipped: what it imports is not there; .ci/setup installs it"
test -z "CI"
"#;
/// Kinds of blocks that are programs, and what reads them.
const INTERPRETERS: [(&str, &str); 2] = [("python", "python"), ("javascript", "node --input-type=module -")];

/// Runs the commands of this page, if it is there and has any.
///
/// # Panics
/// When one fails.
pub(crate) fn page(name: &str) {
    let Some(page) = Page::read(name) else { return };
    if !page.blocks().iter().any(runs) {
        return;
    }
    for block in page.blocks().iter().filter(|block| block.kind == "sh") {
        let found = commands(&block.text());
        let refused = found.iter().find_map(not_run_here);
        assert!(refused.is_none(), "{name}:{}: {}", block.line, refused.unwrap_or_default());
    }
    let mut cluster = Cluster::up(&UpOptions::new()).unwrap();
    cluster.wait_ready();
    let endpoints = cluster.leader.endpoints();
    let mut script = script(&page);
    for (flag, key) in [("ingress", "ingress"), ("control", "control"), ("dashboard", "dashboard")] {
        let standard = default_of(flag);
        let real = endpoints[key].as_str().expect("a cluster has all addresses");
        script = script.replace(&standard, real).replace(&standard.replace("127.0.0.1", "localhost"), real);
    }
    let scratch = tempfile::tempdir().unwrap();
    let ended = run(&page, &script, scratch.path(), cluster.leader.data_dir(), LIMIT);
    // Its log says nothing of why a command failed.
    drop(cluster);
    if let Err(fault) = ended {
        panic!("{fault}");
    }
}

/// Whether a block is run.
pub(crate) fn runs(block: &Block) -> bool {
    block.kind == "sh" || interpreter(block).is_some()
}

/// What reads the program of a block.
fn interpreter(block: &Block) -> Option<&'static str> {
    INTERPRETERS.iter().find(|(kind, _)| *kind == block.kind).map(|(_, command)| *command)
}

/// The default of a flag of `cluster up`, which is what pages write.
fn default_of(flag: &str) -> String {
    let line = millstream::command_line();
    let up = line.find_subcommand("up").expect("there is `cluster up`");
    let arg = up.get_arguments().find(|arg| arg.get_long() == Some(flag)).expect("it has the flag");
    arg.get_default_values()[0].to_str().expect("an address is text").to_owned()
}

/// The page as a script of as many lines.
fn script(page: &Page) -> String {
    let mut lines = vec![String::new(); page.text.lines().count()];
    for block in page.blocks() {
        place(&block, &mut lines);
    }
    lines.join("\n")
}

fn place(block: &Block, lines: &mut [String]) {
    let file = block.file_name();
    if runs(block) || file.is_some() {
        lines[block.line..block.line + block.lines.len()].clone_from_slice(&block.lines);
    }
    if let Some(file) = file {
        let folder = Path::new(file).parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).display();
        lines[block.line - 1] = format!("mkdir -p '{folder}'; cat > '{file}' <<'END OF FILE'");
        lines[block.line + block.lines.len()] = "END OF FILE".to_owned();
    }
    if let Some(command) = interpreter(block) {
        lines[block.line - 1] = format!("{command} <<'END OF PROGRAM'");
        lines[block.line + block.lines.len()] = "END OF PROGRAM".to_owned();
    }
}

/// Runs a page's script in a scratch folder; no command may take longer than `limit`.
fn run(page: &Page, script: &str, scratch: &Path, data_dir: &Path, limit: Duration) -> Result<(), String> {
    let folder = |name: &str| {
        let folder = scratch.join(name);
        fs::create_dir(&folder).unwrap();
        folder
    };
    let (programs, home, work) = (folder("programs"), folder("home"), folder("work"));
    symlink(env!("CARGO_BIN_EXE_cluster"), programs.join("cluster")).unwrap();
    // On stderr, so that what a page does with the answer is left alone.
    let report = format!("write-out = \"%{{stderr}}\\n{CURL}%{{http_code}}\\n\"\n");
    fs::write(home.join(".curlrc"), report).unwrap();
    let python = |folder: &str| root().join("target").join(folder).join("bin/python").display().to_string();
    let python = PYTHON
        .replace("TOOLS", &python("tools"))
        .replace("FRAMEWORKS", &python("frameworks"))
        .replace("\"CI\"", &format!("{:?}", std::env::var("CI").unwrap_or_default()));
    for (name, text) in [("curl", WHOLE_REPORTS), ("python", &python)] {
        fs::write(programs.join(name), text).unwrap();
        fs::set_permissions(programs.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    symlink(root().join("tests/clients/node/node_modules"), work.join("node_modules")).unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let log = scratch.join("log");
    let output = fs::File::options().create(true).append(true).open(&log).unwrap();
    let start = format!("exec 9>>\"$1\"; trap 'printf \"\\n{MARK}%s\\n\" $LINENO >&9' DEBUG; eval \"$2\"");
    let mut child = Command::new("bash")
        .args(["-eu", "-c", &start, &page.name])
        .arg(&log)
        .arg(script)
        .env_clear()
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("HOME", &home)
        .env("XDG_DATA_HOME", home.join("data"))
        .env("XDG_CONFIG_HOME", &home)
        .env("XDG_CACHE_HOME", home.join("cache"))
        .env("TMPDIR", scratch)
        .env("LANG", "C.UTF-8")
        .env("LITELLM_LOCAL_MODEL_COST_MAP", "True") // It would download prices.
        .env("MILLSTREAM_DATA_DIR", data_dir)
        .current_dir(work)
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .process_group(0)
        .spawn()
        .unwrap();
    let ended = wait(&mut child, &log, limit);
    let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
    let _ = child.wait();
    let log = fs::read_to_string(&log).unwrap_or_default();
    let fault = ended.err().or_else(|| unexpected_status(page, &log));
    let Some(fault) = fault else { return Ok(()) };
    let log: Vec<_> = log.lines().take(fault.num_lines.unwrap_or(usize::MAX)).collect();
    let line = log.iter().rev().find_map(|line| line.strip_prefix(MARK)?.parse().ok()).unwrap_or(1);
    let command = page.text.lines().nth(line - 1).unwrap_or_default().trim();
    let is_output = |line: &&str| !line.is_empty() && !line.starts_with("docs-test ");
    let output: Vec<_> = log.into_iter().filter(is_output).collect();
    let output = output[output.len().saturating_sub(40)..].join("\n");
    Err(format!("{}:{line}: {}: `{command}`\n--- output ---\n{output}", page.name, fault.what))
}

/// What went wrong, at the last command of the log.
struct Fault {
    what: String,
    /// How much of the log tells of it; `None` is all.
    num_lines: Option<usize>,
}

/// Waits for the script's end, and gives each command its time.
fn wait(child: &mut Child, log: &Path, limit: Duration) -> Result<(), Fault> {
    let mut commands = 0;
    let mut since = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            let what = format!("fails ({status})");
            return if status.success() { Ok(()) } else { Err(Fault { what, num_lines: None }) };
        }
        let text = fs::read_to_string(log).unwrap_or_default();
        let begun = text.lines().filter(|line| line.starts_with(MARK)).count();
        if begun > commands {
            (commands, since) = (begun, Instant::now());
        }
        if since.elapsed() > limit {
            return Err(Fault { what: format!("does not end within {limit:?}"), num_lines: None });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A request of curl that ended in an error which the block does not speak of: curl itself counts it as success.
fn unexpected_status(page: &Page, log: &str) -> Option<Fault> {
    let blocks = page.blocks();
    let mut line = 1;
    for (index, text) in log.lines().enumerate() {
        if let Some(number) = text.strip_prefix(MARK) {
            line = number.parse().unwrap_or(line);
        }
        let Some(status) = text.strip_prefix(CURL) else { continue };
        let block = blocks.iter().rev().find(|block| block.line < line)?;
        if !status.starts_with('2') && !block.text().contains(status) {
            let what = format!("is answered {status}; if it should be, say so in a comment (`# {status}`)");
            return Some(Fault { what, num_lines: Some(index + 1) });
        }
    }
    None
}

#[test]
fn a_page_becomes_a_script_of_the_same_lines() {
    let text = "# P\n```toml\n# a/b.toml\nname = \"x\"\n```\ntext\n```sh\necho 1\n```\n";
    let page = Page { name: "p.md".to_owned(), text: text.to_owned() };
    let lines = [
        "",
        "mkdir -p 'a'; cat > 'a/b.toml' <<'END OF FILE'",
        "# a/b.toml",
        "name = \"x\"",
        "END OF FILE",
        "",
        "",
        "echo 1",
        "",
    ];
    assert_eq!(script(&page), lines.join("\n"));
}

#[test]
fn failures_are_told_with_their_line() {
    let run_text = |text: &str| {
        let page = Page { name: "p.md".to_owned(), text: text.to_owned() };
        let scratch = tempfile::tempdir().unwrap();
        run(&page, &script(&page), scratch.path(), scratch.path(), Duration::from_secs(2))
    };
    assert_eq!(run_text("```sh\nX=a\ncluster --version\n```\n\n```sh\ntest $X = a\n```\n"), Ok(()));
    let fault = run_text("```sh\necho before\ncluster upp\necho after\n```\n").unwrap_err();
    assert!(
        fault.starts_with("p.md:3: fails") && fault.contains("upp") && !fault.contains("after"),
        "{fault}"
    );
    let fault = run_text("```sh\nprintf a\n\nsleep 60\n```\n").unwrap_err();
    assert!(fault.starts_with("p.md:4: does not end"), "{fault}");
    let fault = run_text("a\n```sh\necho $NOTHING\n```\n").unwrap_err();
    assert!(fault.starts_with("p.md:3: ") && fault.contains("NOTHING"), "{fault}");
}
