//! `cluster diff`: what of a pipeline's file is other than what is deployed, and what deploying it would do.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use similar::TextDiff;

use crate::client::Client;
use crate::commands::deploy_plan;
use crate::exit::Failure;
use crate::global::Global;
use crate::output::Output;
use crate::pipeline_file::PipelineFile;
use crate::style;

/// Lines around a change.
const CONTEXT: usize = 3;

/// Flags of `cluster diff`.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// Pipeline files; a folder stands for its `.toml` files, `-` for standard input.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// Runs the command.
pub(crate) async fn run(global: &Global, args: &DiffArgs) -> Result<(), Failure> {
    let files = PipelineFile::read_all(&args.files)?;
    let mut client = Client::connect(global).await?;
    let stored = client.pipelines().await?;
    let mut text = String::new();
    let mut diffs = Vec::new();
    for file in &files {
        let name = file.plan.name().as_str();
        let deployed = stored.iter().find(|stored| stored.name == name);
        let before = deployed.map_or("", |stored| stored.source.as_str());
        let from =
            deployed.map_or_else(|| "nothing".to_owned(), |it| format!("{name} revision {}", it.revision));
        let diff = unified(before, &file.file.source, [&from, &file.file.file_name]);
        text += &colored(&diff);
        diffs.push(json!({"name": name, "deployed_revision": deployed.map(|it| it.revision), "diff": diff}));
    }
    let plans = client.plan_deploy(PipelineFile::request(files, None)).await?;
    plans.iter().for_each(|plan| text += &deploy_plan::render(plan));
    Output::of(global).show(&json!({"diffs": diffs, "plans": plans}), || text)
}

/// The changes from one text to the other, in the form that `diff -u` has.
fn unified(before: &str, after: &str, [from, to]: [&str; 2]) -> String {
    if before == after {
        return String::new();
    }
    TextDiff::from_lines(before, after).unified_diff().context_radius(CONTEXT).header(from, to).to_string()
}

fn colored(diff: &str) -> String {
    let mut text = String::new();
    for line in diff.lines() {
        let _ = match line.as_bytes() {
            [b'+', b'+', b'+', ..] | [b'-', b'-', b'-', ..] => writeln!(text, "{line}"),
            [b'+', ..] => writeln!(text, "{}", style::good(line)),
            [b'-', ..] => writeln!(text, "{}", style::bad(line)),
            _ => writeln!(text, "{line}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_shown_with_its_surroundings_and_none_as_nothing() {
        let before = "a\nb\nc\nd\ne\nf\n";
        let diff = unified(before, "a\nb\nc\nd\nE\nf\n", ["p revision 1", "p.toml"]);
        assert_eq!(diff, "--- p revision 1\n+++ p.toml\n@@ -2,5 +2,5 @@\n b\n c\n d\n-e\n+E\n f\n");
        assert_eq!(unified(before, before, ["", ""]), "");
    }
}
