//! The documentation is true: its pipelines compile, its commands run, and what is not run here is at least accepted.
//!
//! What a block of code is, is said by the words after its opening fence:
//!
//! - `toml`: a whole pipeline. When its first line is `# NAME.toml`, later commands of the page find it in that file.
//! - `toml fragment`: whole tables of a pipeline.
//! - `sh`: commands that are run, by page and from top to bottom, beside a cluster that serves the bundled example.
//! - `sh no-run`: commands that are not run, but whose arguments and paths are checked. So are the lines of `console`
//!   blocks that begin with `$`.
//! - `python`, `javascript`: a program that is run like them, where what it imports is installed.
//! - `python no-run`: a program that parses.
//! - the others of `page::KINDS`: anything.

mod commands;
mod page;
mod pipelines;
mod run;
mod shell;

use commands::Workspace;
use page::{Block, KINDS, Page, pages};

/// A test for each page whose commands are run, so that pages run at the same time and fail by themselves.
macro_rules! pages_that_run {
    ($($test:ident: $page:literal,)*) => {
        const RUN: &[&str] = &[$($page),*];

        mod commands_run_in {
            $(
                #[test]
                fn $test() {
                    crate::docs::run::page($page);
                }
            )*
        }
    };
}

pages_that_run! {
    readme: "README.md",
    contributing: "CONTRIBUTING.md",
    models_readme: "pipelines/models/README.md",
    alerts: "docs/alerts.md",
    autoscaling: "docs/autoscaling.md",
    batching: "docs/batching.md",
    benchmarks: "docs/benchmarks.md",
    caching: "docs/caching.md",
    captures: "docs/captures.md",
    cli: "docs/cli.md",
    clients: "docs/clients.md",
    cluster: "docs/cluster.md",
    concepts: "docs/concepts.md",
    dashboard: "docs/dashboard.md",
    debugging: "docs/debugging.md",
    grpc: "docs/grpc.md",
    http: "docs/http.md",
    keys: "docs/keys.md",
    metrics: "docs/metrics.md",
    models: "docs/models.md",
    pipelines: "docs/pipelines.md",
    placement: "docs/placement.md",
    requests: "docs/requests.md",
    rollouts: "docs/rollouts.md",
    simulation: "docs/simulation.md",
    traces: "docs/traces.md",
}

/// Fails with all faults of all blocks.
fn check_blocks(mut check: impl FnMut(&Page, &Block) -> Vec<String>) {
    let faults: Vec<String> = pages()
        .iter()
        .flat_map(|page| page.blocks().iter().flat_map(|block| check(page, block)).collect::<Vec<_>>())
        .collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_block_is_of_a_known_kind() {
    check_blocks(|page, block| {
        let is_known = KINDS.contains(&&block.kind[..]);
        let fault =
            || format!("{}:{}: `{}` is none of {}", page.name, block.line, block.kind, KINDS.join(", "));
        (!is_known).then(fault).into_iter().collect()
    });
}

#[test]
fn every_pipeline_compiles() {
    check_blocks(|page, block| match &block.kind[..] {
        "toml" | "toml fragment" => pipelines::fault(page, block).into_iter().collect(),
        _ => Vec::new(),
    });
}

#[test]
fn every_command_line_is_accepted() {
    let workspace = Workspace::read();
    check_blocks(|page, block| {
        let script = match &block.kind[..] {
            "sh" | "sh no-run" => block.text(),
            "console" => typed(block),
            _ => return Vec::new(),
        };
        let found = shell::commands(&script);
        let folders = vec![page::root(), page::root().join(&page.name).parent().unwrap().to_owned()];
        let mut faults = commands::faults(&found, folders, &workspace);
        faults.extend(commands::syntax_fault(&script).map(|fault| (0, fault)));
        if block.kind == "sh" {
            let refused = |command: &shell::Command| Some((command.line, commands::not_run_here(command)?));
            faults.extend(found.iter().filter_map(refused));
        }
        let place = |line: usize| format!("{}:{}", page.name, block.line + 1 + line);
        faults.into_iter().map(|(line, fault)| format!("{}: {fault}", place(line))).collect()
    });
}

#[test]
fn every_program_parses() {
    check_blocks(|page, block| {
        let fault = block.kind.starts_with("python").then(|| commands::python_fault(&block.text())).flatten();
        fault.map(|fault| format!("{}:{}: {fault}", page.name, block.line)).into_iter().collect()
    });
}

/// What a person types in a `console` block: the lines after `$ ` and those that continue them.
fn typed(block: &Block) -> String {
    let mut continues = false;
    let mut typed = String::new();
    for line in &block.lines {
        let command = if continues { Some(&line[..]) } else { line.strip_prefix("$ ") };
        continues = command.is_some_and(|command| command.ends_with('\\'));
        typed += command.unwrap_or_default();
        typed.push('\n');
    }
    typed
}

#[test]
fn every_page_with_commands_is_run() {
    for page in pages() {
        let has_commands = page.blocks().iter().any(run::runs);
        let name = &page.name;
        assert!(!has_commands || RUN.contains(&&name[..]), "add {name} to `pages_that_run`");
    }
}
