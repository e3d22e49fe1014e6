//! Command lines that are not run: whether what they name is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::{Command as Process, Stdio};

use serde_json::Value;

use crate::docs::page::root;
use crate::docs::shell::Command;

/// What cargo can be asked for in this repository.
pub(crate) struct Workspace {
    /// Packages: their targets as (kind, name), and their features.
    packages: BTreeMap<String, Package>,
    profiles: BTreeSet<String>,
}

#[derive(Default)]
struct Package {
    targets: BTreeSet<(String, String)>,
    features: BTreeSet<String>,
}

/// The package that cargo takes when none is named.
const DEFAULT_PACKAGE: &str = "millstream";

impl Workspace {
    /// Asks cargo, without a network.
    pub(crate) fn read() -> Self {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Process::new(cargo)
            .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
            .current_dir(root())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success(), "cargo metadata fails");
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let mut packages = BTreeMap::new();
        for package in metadata["packages"].as_array().unwrap() {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let mut found = Package::default();
            for target in package["targets"].as_array().unwrap() {
                let kinds = target["kind"].as_array().unwrap().iter();
                found.targets.extend(kinds.map(|kind| (text(kind), text(&target["name"]))));
            }
            found.features = package["features"].as_object().unwrap().keys().cloned().collect();
            packages.insert(text(&package["name"]), found);
        }
        let manifest: toml::Table = fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
        let mut profiles: BTreeSet<_> = ["dev", "release", "test", "bench"].map(str::to_owned).into();
        profiles.extend(manifest["profile"].as_table().unwrap().keys().cloned());
        Self { packages, profiles }
    }

    /// What is wrong with the arguments of `cargo`.
    fn check_cargo(&self, words: &[String]) -> Result<(), String> {
        let mut words = words.iter().map(String::as_str).filter(|word| !word.starts_with('+'));
        let Some(subcommand) = words.next() else { return Ok(()) };
        if !["run", "build", "test", "check", "clippy", "bench", "doc", "nextest", "miri", "hack"]
            .contains(&subcommand)
        {
            return Ok(());
        }
        let mut packages = Vec::new();
        let mut targets = Vec::new();
        let mut features = Vec::new();
        let mut whole_workspace = false;
        while let Some(word) = words.next().filter(|word| *word != "--") {
            let (flag, value) =
                word.split_once('=').map_or((word, None), |(flag, value)| (flag, Some(value)));
            let mut value = || value.or_else(|| words.next()).unwrap_or_default();
            match flag {
                "-p" | "--package" => packages.push(value()),
                "--bin" | "--example" | "--test" | "--bench" => targets.push((&flag[2..], value())),
                "--features" | "-F" => features.extend(value().split(',')),
                "--workspace" | "--all" => whole_workspace = true,
                "--cargo-profile" => self.check_profile(value())?,
                "--profile" if subcommand != "nextest" => self.check_profile(value())?,
                _ => {}
            }
        }
        if let Some(package) = packages.iter().find(|package| !self.packages.contains_key(**package)) {
            return Err(format!("there is no package `{package}`"));
        }
        let runs_cluster = packages.iter().all(|package| *package == DEFAULT_PACKAGE)
            && targets.iter().all(|target| *target == ("bin", "cluster"));
        if packages.is_empty() {
            packages.push(DEFAULT_PACKAGE);
        }
        let chosen = || {
            self.packages
                .iter()
                .filter(|(name, _)| whole_workspace || packages.contains(&&name[..]))
                .map(|(_, package)| package)
        };
        for (kind, name) in targets {
            let target = (kind.to_owned(), name.to_owned());
            if !chosen().any(|package| package.targets.contains(&target)) {
                return Err(format!("there is no {kind} `{name}` in {}", packages.join(", ")));
            }
        }
        for feature in features {
            if !chosen().any(|package| package.features.contains(feature)) {
                return Err(format!("there is no feature `{feature}` in {}", packages.join(", ")));
            }
        }
        let rest: Vec<_> = words.collect();
        if subcommand == "run" && runs_cluster { check_cluster(&rest) } else { Ok(()) }
    }

    fn check_profile(&self, name: &str) -> Result<(), String> {
        if self.profiles.contains(name) { Ok(()) } else { Err(format!("there is no profile `{name}`")) }
    }
}

/// What clap says to the arguments of `cluster`.
fn check_cluster(arguments: &[&str]) -> Result<(), String> {
    use clap::error::ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    let line = ["cluster"].iter().chain(arguments);
    match millstream::command_line().try_get_matches_from(line) {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind(), DisplayHelp | DisplayVersion) => Ok(()),
        Err(error) if error.kind() == DisplayHelpOnMissingArgumentOrSubcommand => {
            Err("a subcommand is missing".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// What is wrong with the commands of a block, each with its line in the block. Paths are those of one of the folders.
pub(crate) fn faults(
    commands: &[Command],
    mut folders: Vec<PathBuf>,
    workspace: &Workspace,
) -> Vec<(usize, String)> {
    let mut faults = Vec::new();
    for Command { line, words } in commands {
        let (program, arguments) = words.split_first().expect("a command has a program");
        let checked = match &program[..] {
            "cd" => {
                let target = arguments.first().map(String::as_str).unwrap_or_default();
                folders = folders
                    .iter()
                    .map(|folder| folder.join(target))
                    .filter(|folder| folder.is_dir())
                    .collect();
                Ok(())
            }
            "cargo" => workspace.check_cargo(arguments),
            "bash" | "sh" | "python" | "python3" => match arguments.first() {
                Some(script) if !script.starts_with('-') && script.contains('/') => {
                    check_path(&folders, script)
                }
                _ => Ok(()),
            },
            _ if program.rsplit('/').next() == Some("cluster") => {
                check_cluster(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
            }
            _ if program.contains('/') => check_path(&folders, program),
            _ => Ok(()),
        };
        if let Err(fault) = checked {
            faults.push((*line, format!("`{}`: {fault}", words.join(" "))));
        }
    }
    faults
}

/// Whether a program of the repository is there. What the reader or a build makes is not looked for, nor what is in a
/// folder that the reader made.
fn check_path(folders: &[PathBuf], path: &str) -> Result<(), String> {
    let elsewhere = ["/", "~", "1", "target/", ".venv/", "venv/"];
    let path = path.strip_prefix("./").unwrap_or(path);
    let is_there = folders.is_empty() || folders.iter().any(|folder| folder.join(path).is_file());
    if is_there || elsewhere.iter().any(|start| path.starts_with(start)) {
        Ok(())
    } else {
        Err(format!("there is no file `{path}`"))
    }
}

/// Why a command does not belong into a block that is run: it needs more than this machine, or does not end.
pub(crate) fn not_run_here(command: &Command) -> Option<String> {
    const PROGRAMS: [&str; 12] = [
        "cargo",
        "rustup",
        "pip",
        "pip3",
        "python",
        "python3",
        "apt-get",
        "apt",
        "systemctl",
        "docker",
        "git",
        "ssh",
    ];
    let program = command.words[0].as_str();
    let is_up = program == "cluster" && command.words.get(1).is_some_and(|word| word == "up");
    let program = if is_up { "cluster up" } else { program };
    let refused = is_up || PROGRAMS.contains(&program);
    refused.then(|| format!("`{program}` is not run here: mark the block `no-run`"))
}

/// What bash says to the syntax of a script.
pub(crate) fn syntax_fault(script: &str) -> Option<String> {
    let output = Process::new("bash").args(["-n", "-c", script]).output().unwrap();
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// What Python says to the syntax of a program; nothing where it is not installed.
pub(crate) fn python_fault(program: &str) -> Option<String> {
    let parse = "import ast, sys; ast.parse(sys.argv[1])";
    let output = Process::new("python3").args(["-c", parse, program]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    (!output.status.success()).then(|| text.lines().last().unwrap_or_default().to_owned())
}

#[test]
fn what_is_not_there_is_found() {
    let workspace = Workspace::read();
    let faults_of =
        |script: &str| faults(&crate::docs::shell::commands(script), vec![root()], &workspace).len();
    for good in [
        "cluster up search.toml --gpus 4",
        "cargo run --release -- up",
        "cargo run --release -p millstream-tests --bin bench-echo -- --anything",
        "cargo test -p millstream --test system",
        "tests/run --help",
        "python3 tests/bench/peers/main.py",
        "cluster --version",
    ] {
        assert_eq!(faults_of(good), 0, "{good}");
    }
    for bad in [
        "cluster upp",
        "cluster up --gpu 4",
        "cargo run --release -- upp",
        "cargo run --profile nowhere -- up",
        "cargo test -p nowhere",
        "cargo run --bin bench-echo",
        "tests/walk",
        "python3 tests/nowhere.py",
        "KEY=$(cluster key make bob)",
    ] {
        assert_eq!(faults_of(bad), 1, "{bad}");
    }
}
