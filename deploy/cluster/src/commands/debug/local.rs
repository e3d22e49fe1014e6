//! What a bundle has from this machine: the process that holds the data directory, its metrics and logs, versions.

use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;

use crate::data_dir::{DataDir, Endpoints};
use crate::debug_bundle::{Bundle, file};
use crate::exit::Failure;
use crate::global::Global;

/// How long a process may take for its metrics.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Largest page of metrics.
const MAX_PAGE_BYTES: usize = 64 << 20;
/// What is kept of a log: its end.
const MAX_LOG_BYTES: u64 = 4 << 20;
/// Most logs.
const MAX_LOGS: usize = 20;

/// Takes it.
pub(super) async fn collect(global: &Global, data_dir: &DataDir, bundle: &mut Bundle) {
    match data_dir.endpoints() {
        Ok(Some(endpoints)) => process(&endpoints, bundle).await,
        found => {
            let why = match found {
                Err(error) => format!("{error:#}"),
                _ => format!("no process holds the data directory `{}`", data_dir.path().display()),
            };
            for path in [file::ENDPOINTS, file::ARGUMENTS, file::METRICS] {
                bundle.miss(path, &why);
            }
        }
    }
    if global.cluster.is_some() {
        bundle.leave_out("`local/` is of this machine's data directory, `--cluster` may be another one");
    }
    logs(data_dir.path(), bundle);
}

async fn process(endpoints: &Endpoints, bundle: &mut Bundle) {
    let what = "where the process that holds the data directory listens";
    bundle.add_json(file::ENDPOINTS, what, Ok(endpoints));
    match arguments_of(endpoints.pid) {
        Some(arguments) => {
            let found = json!({ "arguments": arguments });
            bundle.add_json(file::ARGUMENTS, "the arguments of that process", Ok(found));
        }
        None => {
            bundle
                .miss(file::ARGUMENTS, format!("process {} of `endpoints.json` does not run", endpoints.pid));
        }
    }
    match endpoints.admin {
        None => bundle.miss(file::METRICS, "the process has no admin address"),
        Some(address) => match tokio::time::timeout(TIMEOUT, metrics(address)).await {
            Ok(Ok(page)) => bundle.add(file::METRICS, "the metrics of that process", &page),
            Ok(Err(error)) => bundle.miss(file::METRICS, format!("http://{address}/metrics: {error}")),
            Err(_) => bundle.miss(file::METRICS, format!("http://{address}/metrics does not answer")),
        },
    }
}

/// The arguments of a process of this program; another one may have its number by now.
fn arguments_of(pid: u32) -> Option<Vec<String>> {
    let arguments = arguments(&fs::read(format!("/proc/{pid}/cmdline")).ok()?);
    let program = std::env::current_exe().ok()?;
    let is_ours = Path::new(arguments.first()?).file_name() == program.file_name();
    (is_ours && arguments.iter().any(|word| word == "up")).then_some(arguments)
}

/// The words of a command line as `/proc` has it.
fn arguments(line: &[u8]) -> Vec<String> {
    let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

async fn metrics(address: SocketAddr) -> io::Result<Bytes> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    let request = Request::get("/metrics").header("host", address.to_string()).body(Empty::<Bytes>::new());
    let answer = sender.send_request(request.map_err(io::Error::other)?).await.map_err(io::Error::other)?;
    if !answer.status().is_success() {
        return Err(io::Error::other(format!("status {}", answer.status())));
    }
    let page = Limited::new(answer.into_body(), MAX_PAGE_BYTES).collect().await;
    page.map(http_body_util::Collected::to_bytes).map_err(io::Error::other)
}

/// The ends of the log files in a data directory. A process logs on stderr, which somebody may have sent there.
fn logs(folder: &Path, bundle: &mut Bundle) {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let is_log = |path: &Path| {
        path.extension().is_some_and(|end| end == "log")
            // One that is a link may lead anywhere.
            && fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).filter(|path| is_log(path)).collect();
    paths.sort();
    if paths.is_empty() {
        let why = format!(
            "a process logs on its own stderr, and `{}` has no *.log file; add what you have of it",
            folder.display()
        );
        bundle.miss(file::LOGS, why);
    }
    for path in paths.iter().take(MAX_LOGS) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{}/{name}", file::LOGS);
        match end_of(path) {
            Ok(text) => bundle.add(name, "the end of a log file in the data directory", &text),
            Err(error) => bundle.miss(name, error.to_string()),
        }
    }
}

/// The last bytes of a file, from the beginning of a line.
fn end_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(MAX_LOG_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut text = Vec::new();
    file.take(MAX_LOG_BYTES).read_to_end(&mut text)?;
    if start > 0 {
        let line = text.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        text.drain(..line);
    }
    Ok(text)
}

/// Versions of the command and of what it runs on.
pub(super) fn versions(bundle: &mut Bundle) {
    let system = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let versions = json!({
        "command": env!("CARGO_PKG_VERSION"),
        "system": text(system.sysname()),
        "kernel": text(system.release()),
        "machine": text(system.machine()),
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
    });
    let what = "this command and this machine; `head.json` has the head's and the workers' versions";
    bundle.add_json::<_>(file::VERSIONS, what, Ok::<_, Failure>(versions));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debug_bundle::Redaction;

    #[test]
    fn a_command_line_is_read_as_words() {
        assert_eq!(arguments(b"cluster\0up\0--gpus\x000\0"), ["cluster", "up", "--gpus", "0"]);
        assert!(arguments(b"").is_empty());
    }

    #[test]
    fn the_ends_of_logs_are_taken_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let long = "a line of a log\n".repeat(300_000);
        fs::write(folder.path().join("long.log"), &long).unwrap();
        fs::write(folder.path().join("admin.token"), "secret").unwrap();
        std::os::unix::fs::symlink(folder.path().join("admin.token"), folder.path().join("x.log")).unwrap();
        let mut bundle = Bundle::new(Redaction::default());
        logs(folder.path(), &mut bundle);
        assert!(bundle.has("local/logs/long.log") && !bundle.has("local/logs/x.log"));
        let end = end_of(&folder.path().join("long.log")).unwrap();
        assert!(end.len() as u64 <= MAX_LOG_BYTES && end.starts_with(b"a line"), "{}", end.len());
        let empty = tempfile::tempdir().unwrap();
        logs(empty.path(), &mut bundle);
        let (manifest, _) = bundle.pack("x", 1).unwrap();
        assert_eq!(manifest.missing[0].path, file::LOGS);
    }
}
