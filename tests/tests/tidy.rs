//! Rules of the repository that no compiler checks: decisions stay free of I/O, files stay short and open with why they
//! exist.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};

/// Modules that decide: plain functions of state and time. Paths are files, or folders with all their files.
const CORE: &[&str] = &[
    "pipelines/src",
    "deploy/cluster/src/commands/bench/pace.rs",
    "deploy/cluster/src/commands/bench/record.rs",
    "head/src/scheduler",
    "head/src/reconcile",
    "head/src/autoscaler",
    "head/src/simulate",
    "head/src/rollout",
    "head/src/desired/change.rs",
    "head/src/desired/keys.rs",
    "head/src/desired/rollout.rs",
    "head/src/desired/scale.rs",
    "head/src/explain/mod.rs",
    "head/src/series.rs",
    "head/src/api/series.rs",
    "ingress/src/dispatch/outcomes.rs",
    "ingress/src/keys/bucket.rs",
    "ingress/src/keys/limits.rs",
    "ingress/src/routes/split.rs",
    "ingress/src/dispatch/admission.rs",
    "ingress/src/dispatch/ejection.rs",
    "ingress/src/dispatch/router.rs",
    "ingress/src/dispatch/pool.rs",
    "ingress/src/dispatch/queue.rs",
    "ingress/src/execute/retry.rs",
    "ingress/src/execute/cache/fingerprint.rs",
    "ingress/src/execute/cache/size.rs",
    "ingress/src/http/activity.rs",
    "ingress/src/routes/load.rs",
    "worker/src/epoch.rs",
    "worker/src/lifecycle.rs",
    "worker/src/models.rs",
    "worker/src/backoff.rs",
    "worker/batching/src/decide.rs",
    "worker/batching/src/learn.rs",
    "worker/src/restart.rs",
];

/// What a deciding module may not mention.
const FORBIDDEN_IN_CORE: [&str; 8] = [
    "tokio::",
    "ractor::",
    "tonic::",
    "tracing::",
    "metrics::",
    "Instant::now",
    "SystemTime::now",
    "rand::rng()",
];

/// Where time and environment are read: each crate's `clock.rs`, the command, and what finds ONNX Runtime.
const MAY_READ: [&str; 4] = ["clock.rs", "deploy/cluster", "engines/onnx/src/factory.rs", "testing.rs"];

/// Reading them, outside of tests.
const READS: [&str; 4] = ["Instant::now", "SystemTime::now", "env::var(", "env::var_os("];

/// Longest source file, tests apart.
const MAX_LINES: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A file's path in the repository.
fn shown(file: &Path) -> String {
    file.strip_prefix(root()).unwrap().display().to_string()
}

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    if folder.is_file() {
        files.push(folder.to_owned());
        return;
    }
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&path, files);
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
}

/// The part of a file that is not its unit tests.
fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text)
}

/// Whether code, not comments, has the word.
fn mentions(text: &str, word: &str) -> bool {
    text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(word))
}

#[test]
fn decisions_are_free_of_io_time_and_chance() {
    let mut faults = Vec::new();
    for place in CORE {
        let mut files = Vec::new();
        sources(&root().join(place), &mut files);
        assert!(!files.is_empty(), "{place} is gone: mend the list");
        for file in files.iter().filter(|file| !file.ends_with("tests.rs")) {
            let text = fs::read_to_string(file).unwrap();
            for word in FORBIDDEN_IN_CORE {
                if mentions(without_tests(&text), word) {
                    faults.push(format!("{}: mentions `{word}`", shown(file)));
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn time_and_environment_are_read_in_one_place() {
    let mut files = Vec::new();
    for part in ["proto", "pipelines", "ingress", "worker", "head"] {
        sources(&root().join(part), &mut files);
    }
    let mut faults = Vec::new();
    for file in files {
        let path = shown(&file);
        if MAY_READ.iter().chain(&["/tests/", "/examples/", "tests.rs"]).any(|place| path.contains(place)) {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let found = READS.iter().filter(|word| mentions(without_tests(&text), word));
        faults.extend(
            found.map(|word| format!("{path}: has `{word}`; take it as an argument, or ask `clock.rs`")),
        );
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_file_says_why_it_exists_and_is_short() {
    let mut files = Vec::new();
    sources(&root(), &mut files);
    let mut faults = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        // A `tests.rs` belongs to the module whose tests it holds.
        if !text.starts_with("//!") && !file.ends_with("tests.rs") {
            faults.push(format!("{}: does not open with `//!`", shown(&file)));
        }
        let lines = without_tests(&text).lines().count();
        let is_test = file.components().any(|part| part.as_os_str() == "tests") || file.ends_with("tests.rs");
        if lines > MAX_LINES && !is_test {
            faults.push(format!("{}: {lines} lines, more than {MAX_LINES}", shown(&file)));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
