//! `cluster debug bundle`: collects, packs, writes, and says what is in it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use clap::Args;
use serde_json::json;

use super::{from_head, from_store, local};
use crate::client::Client;
use crate::data_dir::DataDir;
use crate::debug_bundle::{Bundle, Manifest, Redaction, file};
use crate::exit::Failure;
use crate::global::Global;
use crate::local_time::local_time;
use crate::output::{Output, note};
use crate::style;
use crate::table::{Table, column, terminal};
use crate::token;

/// What nobody needs to ask for: it is never in a bundle.
const NEVER: &str =
    "prompts, answers, API keys, tokens, their hashes, and the environment: a bundle never has them";
/// What is left out by a flag.
const NO_FILES: &str = "pipelines' files (--no-files); without them nothing can be decided again";

/// Flags of `cluster debug bundle`.
#[derive(Debug, Args)]
pub(crate) struct BundleArgs {
    /// Where to write it, `-` for stdout [default: millstream-debug-TIME.tar.gz in the current folder].
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Leave out pipelines' files: they are as people wrote them, templates and defaults included. `cluster simulate --from` needs them.
    #[arg(long)]
    no_files: bool,
}

/// Runs the command.
pub(super) async fn run(global: &Global, args: BundleArgs) -> Result<(), Failure> {
    let to_stdout = args.output.as_deref() == Some(Path::new("-"));
    if to_stdout && global.json {
        return Err(Failure::usage("`--output -` and `--json` would both write to stdout; leave one out"));
    }
    if to_stdout && io::stdout().is_terminal() {
        return Err(Failure::usage(
            "a bundle is no text for a terminal; write `--output - > FILE`, or name a file",
        ));
    }
    let now_ms = millstream_clock::unix_ms();
    let folder = folder_name(now_ms);
    let path = args.output.unwrap_or_else(|| PathBuf::from(format!("{folder}.tar.gz")));
    if !to_stdout && path.exists() {
        return Err(taken(&path));
    }
    let data_dir = DataDir::of(global)?;
    let mut bundle = Bundle::new(secrets(global, &data_dir));
    bundle.leave_out(NEVER);
    if args.no_files {
        bundle.leave_out_pipelines(NO_FILES);
    }
    collect(global, &data_dir, &mut bundle).await?;
    let failed = |error: io::Error| Failure::failed(format!("the bundle cannot be packed: {error}"));
    let (manifest, bytes) = bundle.pack(&folder, now_ms).map_err(failed)?;
    let output = Output::of(global);
    if to_stdout {
        output.bytes(&bytes)?;
        note(text(&manifest));
        return Ok(());
    }
    write(&path, &bytes)?;
    let shown = path.display().to_string();
    output.show(&json!({ "file": shown, "bytes": bytes.len(), "manifest": manifest }), || {
        let size = ByteSize(bytes.len() as u64);
        format!("{}\n{} ({size}, only you can read it)", text(&manifest), style::strong(shown))
    })
}

/// `millstream-debug-20261130-101502`.
fn folder_name(now_ms: u64) -> String {
    let digits = |part: &str| part.chars().filter(char::is_ascii_digit).collect::<String>();
    let time = local_time(now_ms);
    let time: Vec<_> = time.split(' ').map(digits).collect();
    format!("millstream-debug-{}", time.join("-"))
}

/// The secrets of this machine, so that they go nowhere.
fn secrets(global: &Global, data_dir: &DataDir) -> Redaction {
    let mut redaction = Redaction::default();
    let own = [data_dir.token_file(), data_dir.join_token_file(), data_dir.joined_token_file()];
    for file in own.iter().chain(&global.token_file) {
        // One that is not there is in nothing.
        if let Ok(secret) = token::read("token", file) {
            redaction.learn(&secret);
        }
    }
    redaction
}

/// Takes what there is: from the head, else what its store has, and from this machine.
async fn collect(global: &Global, data_dir: &DataDir, bundle: &mut Bundle) -> Result<(), Failure> {
    let client = Client::connect(global).await;
    let away = match client {
        Ok(mut client) => {
            from_head::collect(&mut client, bundle).await;
            None
        }
        Err(failure) => Some(failure),
    };
    if let Some(failure) = &away {
        from_head::missing(bundle, &failure.message());
    }
    if !bundle.has(file::EVENTS) {
        from_store::collect(data_dir, bundle).await;
    }
    local::collect(global, data_dir, bundle).await;
    match away {
        // Versions alone help nobody.
        Some(failure) if bundle.is_empty() => Err(failure),
        _ => {
            local::versions(bundle);
            Ok(())
        }
    }
}

fn taken(path: &Path) -> Failure {
    Failure::failed(format!("there is a file `{}` already; name another with --output", path.display()))
}

/// Writes a new file that only its owner can read, whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        if written.is_err() {
            // It is ours, and half of it is of no use.
            let _ = std::fs::remove_file(path);
        }
        written
    };
    written().map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => taken(path),
        _ => Failure::failed(format!("cannot write `{}`: {error}", path.display())),
    })
}

/// What is in it, what could not be had, what is left out.
fn text(manifest: &Manifest) -> String {
    let mut table = Table::new([column("FILE", 0), column("SIZE", 0), column("WHAT", 1)]);
    for entry in &manifest.files {
        let size = ByteSize(entry.bytes as u64).to_string();
        table.row([entry.path.clone().into(), size.into(), entry.what.clone().into()], []);
    }
    let mut text = table.render(terminal().map(|(columns, _)| columns));
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for missing in &manifest.missing {
        by_reason.entry(&missing.why).or_default().push(&missing.path);
    }
    for (why, paths) in by_reason {
        let _ = writeln!(text, "{} {}: {why}", style::warn("not there:"), paths.join(", "));
    }
    for what in &manifest.left_out {
        let _ = writeln!(text, "left out: {what}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::debug_bundle::{Entry, Missing};

    #[test]
    fn a_bundle_is_named_after_its_time_and_private_and_replaces_nothing() {
        let name = folder_name(1_764_000_000_000);
        assert!(name.starts_with("millstream-debug-2025112"), "{name}");
        assert_eq!(name.len(), "millstream-debug-20251124-160000".len());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bundle.tar.gz");
        write(&path, b"x").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write(&path, b"y").unwrap_err().message().contains("name another with --output"));
        assert_eq!(std::fs::read(&path).unwrap(), b"x");
        let missing = write(&folder.path().join("no/folder"), b"x").unwrap_err().message();
        assert!(missing.starts_with("cannot write `"), "{missing}");
    }

    #[test]
    fn what_is_not_there_is_told_once_for_each_reason() {
        owo_colors::set_override(false);
        let missing = |path: &str, why: &str| Missing { path: path.to_owned(), why: why.to_owned() };
        let manifest = Manifest {
            format: String::new(),
            format_version: 1,
            command_version: String::new(),
            created_at_ms: 1,
            files: vec![Entry { path: "a".into(), bytes: 2048, what: "a file".into() }],
            missing: vec![missing("b", "no head"), missing("c", "no head"), missing("d", "no log")],
            left_out: vec!["answers".into()],
        };
        let text = text(&manifest);
        assert!(text.contains("a     2.0 KiB  a file"), "{text}");
        assert!(
            text.ends_with("not there: b, c: no head\nnot there: d: no log\nleft out: answers\n"),
            "{text}"
        );
    }
}
