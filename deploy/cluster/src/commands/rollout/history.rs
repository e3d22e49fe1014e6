//! `cluster rollout history`: which revisions there are, what became of them, and how much each changed.

use millstream_proto::status::PipelineStatus;
use millstream_proto::v1::KeptRevision;
use serde::Serialize;
use serde_json::json;
use similar::{ChangeTag, TextDiff};

use crate::client::Client;
use crate::exit::Failure;
use crate::local_time::local_time;
use crate::output::Output;
use crate::table::{Table, column, terminal};

/// A revision.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Entry {
    revision: u64,
    deployed_at_ms: u64,
    by: String,
    file_name: String,
    /// `serves`, `wanted`, or what became of it.
    state: String,
    /// Why it does not serve, where it was taken back.
    reason: String,
    /// Lines that it has and the one before had not; absent for the oldest.
    lines_added: Option<usize>,
    lines_removed: Option<usize>,
}

/// Shows them.
pub(super) async fn run(output: Output, client: &mut Client, name: &str) -> Result<(), Failure> {
    let kept = client.revisions(name).await?;
    let status = client.status().await?;
    let pipeline = status.pipelines.iter().find(|pipeline| pipeline.name == name);
    let mut entries = Vec::with_capacity(kept.len());
    let mut before: Option<String> = None;
    for revision in kept {
        let stored = client.revision(name, Some(revision.revision)).await?.pipeline.unwrap_or_default();
        let size = before.as_deref().map(|before| size_of(before, &stored.source));
        entries.push(Entry::of(revision, pipeline, size));
        before = Some(stored.source);
    }
    entries.reverse();
    output.show(&json!({"name": name, "revisions": entries}), || table(&entries))
}

/// Lines added and removed between two texts.
fn size_of(before: &str, after: &str) -> (usize, usize) {
    let diff = TextDiff::from_lines(before, after);
    let count = |tag| diff.iter_all_changes().filter(|change| change.tag() == tag).count();
    (count(ChangeTag::Insert), count(ChangeTag::Delete))
}

impl Entry {
    fn of(kept: KeptRevision, pipeline: Option<&PipelineStatus>, size: Option<(usize, usize)>) -> Self {
        let KeptRevision { revision, file_name, deployed_at_ms, by } = kept;
        let verdict = pipeline
            .and_then(|pipeline| pipeline.verdicts.iter().find(|verdict| verdict.revision == revision));
        let serves = pipeline.and_then(|pipeline| pipeline.serving_revision) == Some(revision);
        let state = match verdict {
            _ if serves => "serves".to_owned(),
            Some(verdict) => verdict.outcome.replace('_', " "),
            None if pipeline.is_some_and(|pipeline| pipeline.revision == revision) => "wanted".to_owned(),
            None => "replaced".to_owned(),
        };
        Self {
            revision,
            deployed_at_ms,
            by,
            file_name,
            state,
            reason: verdict.map(|verdict| verdict.reason.clone()).unwrap_or_default(),
            lines_added: size.map(|(added, _)| added),
            lines_removed: size.map(|(_, removed)| removed),
        }
    }
}

fn table(entries: &[Entry]) -> String {
    let mut table = Table::new([
        column("REVISION", 0),
        column("STATE", 0),
        column("LINES", 1),
        column("DEPLOYED", 0),
        column("BY", 3),
        column("FILE", 2),
    ]);
    for entry in entries {
        let lines = entry.lines_added.zip(entry.lines_removed);
        table.row(
            [
                entry.revision.to_string().into(),
                entry.state.as_str().into(),
                lines
                    .map_or_else(|| "-".to_owned(), |(added, removed)| format!("+{added} -{removed}"))
                    .into(),
                local_time(entry.deployed_at_ms).into(),
                entry.by.as_str().into(),
                entry.file_name.as_str().into(),
            ],
            [entry.reason.clone()],
        );
    }
    table.render(terminal().map(|(columns, _)| columns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_change_is_its_lines() {
        assert_eq!(size_of("a\nb\nc\n", "a\nB\nc\nd\n"), (2, 1));
        assert_eq!(size_of("a\n", "a\n"), (0, 0));
    }
}
