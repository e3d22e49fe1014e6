//! Decisions are plain functions of state and time: no I/O, no clock, no chance, nothing logged or counted.
//!
//! `clippy.toml` bans the clock, the environment and chance wherever they are; this rule bans more, in fewer files.

use syn::visit::{self, Visit};
use syn::{Expr, ExprMethodCall, ItemUse};

use crate::files::none_of;
use crate::modules;
use crate::uses::leaves;

/// Modules that decide. Paths are files, or folders with all their files.
const CORE: &[&str] = &[
    "pipelines/src",
    "proto/values/src",
    "deploy/cluster/src/commands/bench/pace.rs",
    "deploy/cluster/src/commands/bench/record.rs",
    "deploy/cluster/src/commands/replay/compare.rs",
    "deploy/cluster/src/commands/replay/record.rs",
    "deploy/cluster/src/commands/top/history.rs",
    "deploy/cluster/src/commands/top/known.rs",
    "deploy/cluster/src/commands/top/rows.rs",
    "deploy/cluster/src/commands/top/state.rs",
    "deploy/cluster/src/commands/top/view",
    "head/core/src",
    "head/simulate/src",
    "head/src/server/http/series.rs",
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
    "ingress/src/capture/event.rs",
    "ingress/src/capture/room.rs",
    "ingress/src/cache/fingerprint.rs",
    "ingress/src/cache/size.rs",
    "proto/listen/src/activity.rs",
    "ingress/src/routes/load.rs",
    "worker/replica/src/watchdog.rs",
    "worker/src/epoch.rs",
    "worker/src/lifecycle.rs",
    "proto/connect/src/backoff.rs",
    "proto/connect/src/heads.rs",
    "worker/batching/src/decide.rs",
    "worker/batching/src/learn.rs",
    "worker/src/restart.rs",
];

/// What a deciding module may not mention: paths that begin like this.
const FORBIDDEN: &[&str] = &[
    "axum",
    "hyper",
    "metrics",
    "ractor",
    "tokio",
    "tonic",
    "tracing",
    "rand::random",
    "rand::random_bool",
    "rand::random_range",
    "rand::rng",
    "std::env",
    "std::fs",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::net::ToSocketAddrs",
    "std::process",
    "std::thread",
    "std::time::SystemTime",
    "std::time::Instant::now",
    "SystemTime::now",
    "Instant::now",
];

/// Modules of our own that do what is forbidden here: a path with one of these words.
const FORBIDDEN_MODULES: [&str; 3] = ["clock", "metrics", "random"];

/// Methods that read the disk or the clock.
const FORBIDDEN_METHODS: [&str; 11] = [
    "canonicalize",
    "elapsed",
    "exists",
    "is_dir",
    "is_file",
    "is_symlink",
    "metadata",
    "read_dir",
    "read_link",
    "symlink_metadata",
    "try_exists",
];

#[test]
fn decisions_are_free_of_io_time_and_chance() {
    let modules = modules::all();
    let mut faults = Vec::new();
    for place in CORE {
        let here = modules.iter().filter(|module| is_in(&module.file, place)).collect::<Vec<_>>();
        if here.is_empty() {
            faults.push(format!("{place} is gone: correct the list in `core.rs`"));
        }
        for module in here {
            let mut reader = Reader::default();
            module.items.iter().for_each(|item| reader.visit_item(item));
            faults.extend(reader.found.iter().map(|found| format!("{}: mentions `{found}`", module.file)));
        }
    }
    none_of(&faults);
}

fn is_in(file: &str, place: &str) -> bool {
    file.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[derive(Default)]
struct Reader {
    found: Vec<String>,
}

impl Reader {
    fn note(&mut self, path: &str) {
        let begins = |forbidden: &str| {
            path.strip_prefix(forbidden).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        let words: Vec<&str> = path.split("::").collect();
        let is_ours = matches!(words[0], "crate" | "super" | "self")
            && words.iter().any(|word| FORBIDDEN_MODULES.contains(word));
        // A word alone is a name of this file's own.
        if words.len() > 1 && (is_ours || FORBIDDEN.iter().any(|forbidden| begins(forbidden))) {
            self.found.push(path.to_owned());
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        for leaf in leaves(item) {
            self.note(&leaf.path.join("::"));
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let words: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note(&words.join("::"));
        visit::visit_path(self, path);
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        let name = call.method.to_string();
        // A closure or a field of that name is called in another form.
        if call.args.is_empty() && FORBIDDEN_METHODS.contains(&name.as_str()) && !is_own(&call.receiver) {
            self.found.push(format!(".{name}()"));
        }
        visit::visit_expr_method_call(self, call);
    }
}

/// A method of the file's own type, called on `self`.
fn is_own(receiver: &Expr) -> bool {
    matches!(receiver, Expr::Path(path) if path.path.is_ident("self"))
}

#[test]
fn reading_the_disk_the_clock_and_chance_is_found() {
    let text = r#"
        use std::fs;
        use std::{net::SocketAddr, thread::spawn};
        use crate::metrics;
        fn f(metrics: u32, at: &std::path::Path) -> bool {
            tokio::select! { _ = x => {} }
            at.exists() && self.exists() && rand::random::<bool>() && std::time::Instant::now() > metrics
        }
    "#;
    let mut reader = Reader::default();
    syn::parse_file(text).unwrap().items.iter().for_each(|item| reader.visit_item(item));
    let expected =
        ["std::fs", "std::thread::spawn", "crate::metrics", "tokio::select", ".exists()", "rand::random"];
    assert_eq!(reader.found, [&expected[..], &["std::time::Instant::now"]].concat());
}
