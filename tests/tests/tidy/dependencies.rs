//! Which package may know which; versions, lints and `unsafe` in one place.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use crate::files::{none_of, read};

/// A package of the workspace.
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// Its folder in the repository.
    pub(crate) folder: String,
    /// Its `Cargo.toml`.
    pub(crate) manifest: Table,
}

/// The packages that a package may know, by the names without `millstream-`. Each knows only what stands above it.
///
/// `head`, `ingress` and `worker` know nothing of each other: they meet in `deploy/cluster`, and in the simulation.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("values", &[]),
    ("status", &[]),
    ("listen", &["clock"]),
    ("connect", &["listen"]),
    ("kept", &["clock"]),
    ("calls", &["values", "status"]),
    ("link", &["clock", "values", "calls"]),
    ("proto", &["values", "status", "calls"]),
    ("pipelines", &["values"]),
    ("engine", &["values", "calls", "pipelines"]),
    ("model-files", &["values", "engine"]),
    ("batching", &["clock", "values", "calls", "pipelines", "engine"]),
    ("replica", &["clock", "values", "calls", "pipelines", "engine"]),
    ("engine-tensors", &["engine", "model-files"]),
    ("engine-text", &["values", "calls", "pipelines", "engine", "model-files", "batching"]),
    ("engine-candle", &["pipelines", "engine", "model-files", "engine-tensors", "engine-text"]),
    ("engine-answers", &["clock", "values", "calls", "engine"]),
    (
        "engine-generator",
        &["clock", "values", "pipelines", "engine", "engine-answers", "model-files", "engine-tensors"],
    ),
    ("engine-sim", &["clock", "values", "calls", "pipelines", "engine", "engine-answers"]),
    ("engine-onnx", &["values", "calls", "pipelines", "engine", "model-files", "batching", "engine-text"]),
    ("core", &["status", "pipelines"]),
    ("simulate", &["status", "pipelines", "core"]),
    ("dashboard", &[]),
    ("otlp", &["status"]),
    ("head", &["clock", "values", "listen", "connect", "proto", "pipelines", "core", "dashboard"]),
    ("etcd", &["head"]),
    ("ingress", &["clock", "values", "kept", "listen", "connect", "link", "proto", "pipelines"]),
    (
        "worker",
        &[
            "clock",
            "values",
            "kept",
            "listen",
            "connect",
            "link",
            "proto",
            "pipelines",
            "engine",
            "replica",
            "engine-candle",
            "engine-generator",
            "engine-sim",
            "engine-onnx",
        ],
    ),
    (
        "millstream",
        &[
            "clock",
            "kept",
            "listen",
            "connect",
            "proto",
            "pipelines",
            "simulate",
            "head",
            "etcd",
            "ingress",
            "otlp",
            "worker",
        ],
    ),
    ("simulation", &["connect", "proto", "pipelines", "core", "ingress", "worker"]),
    ("test-support", &[]),
    ("tests", &["proto", "pipelines", "core", "simulate", "ingress", "test-support"]),
];

/// What tests, and optional helpers of tests, may know besides.
const TESTS_MAY_KNOW: &[(&str, &[&str])] = &[
    ("engine-tensors", &["values", "calls", "pipelines"]),
    ("engine-candle", &["values", "calls"]),
    ("engine-generator", &["calls"]),
    ("head", &["test-support"]),
    ("etcd", &["test-support"]),
    ("listen", &["test-support"]),
    ("ingress", &["test-support"]),
    ("worker", &["test-support"]),
    ("millstream", &["test-support", "tests"]),
];

/// Packages of decisions, of which nothing may lead to an executor, a network or a log.
const PURE: [&str; 5] = ["values", "status", "pipelines", "core", "simulate"];
/// Packages that decide, and name such libraries through others only.
const PURE_THEMSELVES: [&str; 2] = ["batching", "engine"];
/// Executors, networks and logs.
const NOT_PURE: [&str; 9] =
    ["axum", "hyper", "metrics", "mio", "ractor", "reqwest", "tokio", "tonic", "tracing"];

/// The package with lints of its own, as it has `unsafe` code. No second one may be added.
const WITH_UNSAFE: &str = "engine-tensors";

/// The packages of the workspace, in the order of its list.
pub(crate) fn packages() -> Vec<Package> {
    let workspace = workspace();
    let members = workspace["members"].as_array().unwrap();
    members.iter().map(|member| package(member.as_str().unwrap())).collect()
}

fn package(folder: &str) -> Package {
    let manifest: Table = read(&format!("{folder}/Cargo.toml")).parse().unwrap();
    let name = manifest["package"]["name"].as_str().unwrap();
    Package { name: short(name).to_owned(), folder: folder.to_owned(), manifest }
}

fn workspace() -> Table {
    let manifest: Table = read("Cargo.toml").parse().unwrap();
    manifest["workspace"].as_table().unwrap().clone()
}

/// A package's name without what all of ours begin with.
fn short(name: &str) -> &str {
    name.strip_prefix("millstream-").unwrap_or(name)
}

impl Package {
    /// The dependencies of a kind, `dependencies` or `dev-dependencies`.
    fn dependencies(&self, kind: &str) -> Vec<(&String, &Value)> {
        self.manifest.get(kind).and_then(Value::as_table).into_iter().flatten().collect()
    }

    /// Packages of this workspace among the dependencies of a kind; `optional` or not.
    fn ours(&self, kind: &str) -> Vec<&str> {
        let all = self.dependencies(kind).into_iter().map(|(name, _)| name.as_str());
        all.filter(|name| name.starts_with("millstream-")).map(short).collect()
    }
}

fn allowed<'a>(table: &'a [(&str, &[&str])], package: &str) -> &'a [&'a str] {
    table.iter().find(|(name, _)| *name == package).map_or(&[], |(_, allowed)| allowed)
}

#[test]
fn packages_know_only_what_is_below_them() {
    let mut faults = Vec::new();
    for package in packages() {
        let name = package.name.as_str();
        if !MAY_KNOW.iter().any(|(known, _)| *known == name) {
            faults.push(format!("`{name}` is not in the table of `dependencies.rs`: say what it may know"));
        }
        let (code, tests) = (allowed(MAY_KNOW, name), allowed(TESTS_MAY_KNOW, name));
        for kind in ["dependencies", "build-dependencies", "dev-dependencies"] {
            for other in package.ours(kind) {
                let optional =
                    package.manifest[kind][&*format!("millstream-{other}")].get("optional").is_some();
                let for_tests = kind == "dev-dependencies" || optional;
                let is_allowed = code.contains(&other) || for_tests && tests.contains(&other);
                if !is_allowed {
                    faults.push(format!("`{name}` may not know `{other}`, which is among its {kind}"));
                }
            }
        }
    }
    none_of(&faults);
}

#[test]
fn the_table_itself_goes_one_way() {
    let mut above = BTreeSet::new();
    for (name, allowed) in MAY_KNOW {
        assert!(allowed.iter().all(|other| above.contains(other)), "`{name}` knows what stands below it");
        above.insert(name);
    }
}

#[test]
fn nothing_leads_from_decisions_to_an_executor_a_network_or_a_log() {
    let lock: Table = read("Cargo.lock").parse().unwrap();
    let mut needs: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in lock["package"].as_array().unwrap() {
        // `name` or `name version`: versions of a library are taken together.
        let names = package.get("dependencies").and_then(Value::as_array).into_iter().flatten();
        let names = names.map(|name| name.as_str().unwrap().split(' ').next().unwrap());
        needs.entry(package["name"].as_str().unwrap()).or_default().extend(names);
    }
    let mut faults = Vec::new();
    for package in packages() {
        let direct: Vec<&str> =
            package.dependencies("dependencies").iter().map(|(name, _)| name.as_str()).collect();
        let mut seen: BTreeSet<&str> = direct.iter().copied().collect();
        if PURE.contains(&&*package.name) {
            let mut next = direct;
            while let Some(name) = next.pop() {
                next.extend(needs.get(name).into_iter().flatten().filter(|name| seen.insert(name)));
            }
        } else if !PURE_THEMSELVES.contains(&&*package.name) {
            continue;
        }
        let impure = NOT_PURE.iter().filter(|name| seen.contains(*name));
        faults.extend(impure.map(|name| format!("`{}` decides, and leads to `{name}`", package.name)));
    }
    none_of(&faults);
}

#[test]
fn versions_are_set_once_in_the_workspace() {
    let workspace = workspace();
    let versions = workspace["dependencies"].as_table().unwrap();
    let (mut used, mut faults) = (BTreeSet::new(), Vec::new());
    for package in packages() {
        for kind in ["dependencies", "build-dependencies", "dev-dependencies"] {
            for (name, how) in package.dependencies(kind) {
                used.insert(name.clone());
                if how.get("workspace").and_then(Value::as_bool) != Some(true) {
                    faults.push(format!("{}: `{name}` is not `workspace = true`", package.folder));
                }
                for key in ["version", "path", "git"].into_iter().filter(|key| how.get(key).is_some()) {
                    faults.push(format!("{}: `{name}` has a `{key}` of its own", package.folder));
                }
            }
        }
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            let inherited = package.manifest["package"].get(key).and_then(|value| value.get("workspace"));
            if inherited.and_then(Value::as_bool) != Some(true) {
                faults.push(format!("{}: `{key}` is not the workspace's", package.folder));
            }
        }
    }
    let unused = versions.keys().filter(|name| !used.contains(*name));
    faults.extend(unused.map(|name| format!("Cargo.toml: no package uses `{name}`")));
    none_of(&faults);
}

#[test]
fn lints_are_set_once_and_forbid_unsafe_code() {
    let workspace = workspace();
    assert_eq!(workspace["lints"]["rust"]["unsafe_code"].as_str(), Some("forbid"));
    let mut faults = Vec::new();
    for package in packages() {
        let mut lints = package.manifest["lints"].as_table().unwrap().clone();
        if package.name != WITH_UNSAFE {
            if lints.get("workspace").and_then(Value::as_bool) != Some(true) {
                faults.push(format!("{}: its lints are not the workspace's", package.folder));
            }
            continue;
        }
        let mut expected = workspace["lints"].as_table().unwrap().clone();
        assert_eq!(remove(&mut lints, "clippy", "undocumented_unsafe_blocks").as_deref(), Some("deny"));
        assert_eq!(remove(&mut lints, "rust", "unsafe_op_in_unsafe_fn").as_deref(), Some("deny"));
        assert_eq!(remove(&mut lints, "rust", "unsafe_code").as_deref(), Some("deny"));
        remove(&mut expected, "rust", "unsafe_code");
        if lints != expected {
            faults.push(format!("{}: its other lints are not the workspace's", package.folder));
        }
    }
    none_of(&faults);
}

fn remove(lints: &mut Table, group: &str, lint: &str) -> Option<String> {
    let level = lints[group].as_table_mut().unwrap().remove(lint)?;
    level.as_str().map(str::to_owned)
}

#[test]
fn the_bans_are_left_out_for_whole_system_tests_alone() {
    let mut bans: Table = read("clippy.toml").parse().unwrap();
    let tests: Table = read("tests/clippy.toml").parse().unwrap();
    assert!(bans.remove("disallowed-methods").is_some());
    assert_eq!(bans, tests, "tests/clippy.toml differs from clippy.toml in more than the bans");
    assert_eq!(read("tests/simulation/clippy.toml"), read("clippy.toml"));
}
