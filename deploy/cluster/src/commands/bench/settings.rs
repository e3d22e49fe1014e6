//! What `cluster bench` was asked for, checked as a whole: all faults of the command line come at once.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Uri};

use super::BenchArgs;
use super::pace::{Mode, Phases};
use crate::input;
use millstream_pipelines::parse_duration;

/// Requests per second without `--rate` and `--concurrency`.
const DEFAULT_RATE: f64 = 200.0;
/// Most requests per second.
const MAX_RATE: f64 = 1e6;
/// Most connections, and most callers.
const MAX_CONNECTIONS: usize = 10_000;
/// Connections without `--connections`.
const DEFAULT_CONNECTIONS: usize = 256;
/// Longest run and longest wait: latencies are kept up to an hour.
const MAX_TIME: Duration = Duration::from_secs(3600);
/// Largest file of bodies that is read.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// A load test that makes sense.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) url: Uri,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    /// Taken in turn; never empty.
    pub(super) bodies: Vec<Bytes>,
    pub(super) mode: Mode,
    pub(super) phases: Phases,
    pub(super) timeout: Duration,
    pub(super) connections: usize,
}

/// The sentences that say what is wrong.
type Faults = Vec<String>;

impl Settings {
    /// Checks the flags, and reads the bodies.
    pub(super) fn of(args: &BenchArgs, stdin: &mut impl Read) -> Result<Self, Faults> {
        let mut faults = Faults::new();
        let target = target(&args.url, &mut faults);
        let bodies = match &args.body {
            None => vec![Bytes::new()],
            Some(body) => read_bodies(body, stdin).unwrap_or_else(|fault| {
                faults.push(fault);
                vec![]
            }),
        };
        let has_body = args.body.is_some();
        let method = match args.method.as_deref() {
            None => Some(if has_body { Method::POST } else { Method::GET }),
            Some(name) => keep(&mut faults, parse_method(name)),
        };
        let headers = headers(&args.headers, has_body, &mut faults);
        let mode = mode(args, &mut faults);
        let duration = time("--duration", &args.duration, Zero::Refused, &mut faults);
        let warm_up = time("--warm-up", &args.warm_up, Zero::Allowed, &mut faults);
        let timeout = time("--timeout", &args.timeout, Zero::Refused, &mut faults);
        let connections = match (&args.connections, mode) {
            (Some(text), _) => keep(&mut faults, count("--connections", text)),
            (None, Some(Mode::Closed { concurrency })) => Some(concurrency),
            (None, _) => Some(DEFAULT_CONNECTIONS),
        };
        if let (Some(Mode::Open { rate }), Some(duration)) = (mode, duration)
            && rate * duration.as_secs_f64() < 1.0
        {
            let duration = humantime::format_duration(duration);
            faults.push(format!(
                "--rate {rate} for {duration} is less than one request; raise the one or the other"
            ));
        }
        let (Some((url, host, port)), Some(method), Some(mode), Some(duration)) =
            (target, method, mode, duration)
        else {
            return Err(faults);
        };
        let (Some(warm_up), Some(timeout), Some(connections)) = (warm_up, timeout, connections) else {
            return Err(faults);
        };
        if !faults.is_empty() {
            return Err(faults);
        }
        let phases = Phases { warm_up, duration };
        Ok(Self { url, host, port, method, headers, bodies, mode, phases, timeout, connections })
    }
}

/// The value, or its fault put with the others.
fn keep<T>(faults: &mut Faults, value: Result<T, String>) -> Option<T> {
    value.map_err(|fault| faults.push(fault)).ok()
}

fn target(text: &str, faults: &mut Faults) -> Option<(Uri, String, u16)> {
    let form = "write it as http://HOST:PORT/PATH";
    let url = match text.parse::<Uri>() {
        Ok(url) => url,
        Err(error) => {
            faults.push(format!("`{text}` is not a URL ({error}); {form}"));
            return None;
        }
    };
    match url.scheme_str() {
        Some("http") => {}
        Some("https") => {
            faults.push(format!(
                "`{text}`: this command speaks plain http only; aim at the server behind what ends TLS"
            ));
            return None;
        }
        _ => {
            faults.push(format!("`{text}` has no http:// in front; {form}"));
            return None;
        }
    }
    let Some(host) = url.host().filter(|host| !host.is_empty()) else {
        faults.push(format!("`{text}` names no host; {form}"));
        return None;
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = url.port_u16().unwrap_or(80);
    Some((url, host, port))
}

/// Bodies from a literal, from stdin (`@-`) or from a file (`FILE` or `@FILE`).
fn read_bodies(body: &str, stdin: &mut impl Read) -> Result<Vec<Bytes>, String> {
    if body.trim_start().starts_with(['{', '[']) {
        return match serde_json::from_str::<serde::de::IgnoredAny>(body) {
            Ok(_) => Ok(vec![Bytes::copy_from_slice(body.as_bytes())]),
            Err(error) => Err(format!("--body is not JSON ({error}); to send it as it is, put it in a file")),
        };
    }
    let name = body.strip_prefix('@').unwrap_or(body);
    let bytes = match body {
        "@-" => input::read_at_most(stdin, MAX_FILE_BYTES).context("cannot read stdin"),
        _ => input::read_file("file", Path::new(name), MAX_FILE_BYTES),
    };
    let bytes = Bytes::from(bytes.map_err(|error| format!("--body: {error:#}"))?);
    if Path::new(name).extension().is_some_and(|extension| extension == "jsonl") {
        return lines(name, &bytes);
    }
    Ok(vec![bytes])
}

/// The bodies of a `.jsonl` file, one a line; empty lines are none.
fn lines(name: &str, bytes: &Bytes) -> Result<Vec<Bytes>, String> {
    let mut bodies = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        serde_json::from_slice::<serde::de::IgnoredAny>(line)
            .map_err(|error| format!("--body: `{name}`, line {}: not JSON ({error})", index + 1))?;
        bodies.push(bytes.slice_ref(line));
    }
    if bodies.is_empty() {
        return Err(format!("--body: `{name}` holds no body; put one JSON value on each line"));
    }
    Ok(bodies)
}

fn parse_method(name: &str) -> Result<Method, String> {
    let upper = name.to_ascii_uppercase();
    match Method::from_bytes(upper.as_bytes()) {
        Ok(Method::CONNECT) | Err(_) => {
            Err(format!("--method `{name}` cannot be sent; use GET, POST, PUT, PATCH or DELETE"))
        }
        Ok(method) => Ok(method),
    }
}

fn headers(lines: &[String], has_body: bool, faults: &mut Faults) -> HeaderMap {
    let mut headers = given_headers(lines, faults);
    if has_body && !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    headers
}

/// Headers as they are given.
pub(super) fn given_headers(lines: &[String], faults: &mut Faults) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let parsed = line.split_once(':').and_then(|(name, value)| {
            let name: HeaderName = name.trim().parse().ok()?;
            let value: HeaderValue = value.trim().parse().ok()?;
            Some((name, value))
        });
        match parsed {
            Some((name, _)) if name == HOST || name == "content-length" || name == "transfer-encoding" => {
                faults.push(format!(
                    "--header `{line}`: `{name}` follows from the URL and the body; leave it out"
                ));
            }
            Some((name, value)) => {
                headers.append(name, value);
            }
            None => faults.push(format!("--header `{line}` is not a header; write it as 'name: value'")),
        }
    }
    headers
}

fn mode(args: &BenchArgs, faults: &mut Faults) -> Option<Mode> {
    match (&args.rate, &args.concurrency) {
        (Some(_), Some(_)) => {
            faults.push(
                "--rate sends whether or not answers come, --concurrency waits for them; choose one"
                    .to_owned(),
            );
            None
        }
        (_, Some(text)) => {
            if args.connections.is_some() {
                faults.push(
                    "--connections has no meaning with --concurrency: each caller has its own; leave it out"
                        .to_owned(),
                );
            }
            keep(faults, count("--concurrency", text)).map(|concurrency| Mode::Closed { concurrency })
        }
        (Some(text), None) => {
            let text = text.strip_suffix("/s").unwrap_or(text);
            match text.parse::<f64>() {
                Ok(rate) if rate > 0.0 && rate <= MAX_RATE => Some(Mode::Open { rate }),
                _ => {
                    faults.push(format!(
                        "--rate `{text}` is not a rate; give requests per second above 0 and up to {MAX_RATE}"
                    ));
                    None
                }
            }
        }
        (None, None) => Some(Mode::Open { rate: DEFAULT_RATE }),
    }
}

fn count(flag: &str, text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=MAX_CONNECTIONS).contains(&count) => Ok(count),
        _ => Err(format!("{flag} `{text}` is not a number from 1 to {MAX_CONNECTIONS}")),
    }
}

/// Whether a time may be nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Zero {
    Allowed,
    Refused,
}

fn time(flag: &str, text: &str, zero: Zero, faults: &mut Faults) -> Option<Duration> {
    let fault = match parse_duration(text) {
        Ok(time) if time.is_zero() && zero == Zero::Refused => "is nothing; give a time above 0".to_owned(),
        Ok(time) if time > MAX_TIME => "is more than an hour".to_owned(),
        Ok(time) => return Some(time),
        Err(error) => format!("is not a time ({error}); write it as 500ms, 30s or 2m"),
    };
    faults.push(format!("{flag} `{text}` {fault}"));
    None
}

/// What the result repeats of the settings, for scripts.
pub(super) fn as_json(settings: &Settings) -> BTreeMap<&'static str, serde_json::Value> {
    let (mode, rate, concurrency) = match settings.mode {
        Mode::Open { rate } => ("open", Some(rate), None),
        Mode::Closed { concurrency } => ("closed", None, Some(concurrency)),
    };
    BTreeMap::from([
        ("url", settings.url.to_string().into()),
        ("method", settings.method.as_str().into()),
        ("mode", mode.into()),
        ("offered_per_s", rate.into()),
        ("concurrency", concurrency.into()),
        ("connections", settings.connections.into()),
        ("warm_up_s", settings.phases.warm_up.as_secs_f64().into()),
        ("duration_s", settings.phases.duration.as_secs_f64().into()),
        ("timeout_s", settings.timeout.as_secs_f64().into()),
    ])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn settings_with(line: &[&str], mut stdin: &[u8]) -> Result<Settings, Faults> {
        let line = Line::try_parse_from(["bench"].iter().chain(line)).unwrap();
        Settings::of(&line.args, &mut stdin)
    }

    fn settings(line: &[&str]) -> Result<Settings, Faults> {
        settings_with(line, b"")
    }

    #[test]
    fn a_url_alone_is_enough() {
        let settings = settings(&["http://example:81/x?y=1"]).unwrap();
        assert_eq!((settings.host.as_str(), settings.port), ("example", 81));
        assert_eq!(settings.method, Method::GET);
        assert_eq!(settings.mode, Mode::Open { rate: 200.0 });
        assert_eq!(settings.phases.end(), Duration::from_secs(32));
        assert_eq!(settings.bodies, [Bytes::new()]);
        assert!(settings.headers.is_empty());
    }

    #[test]
    fn a_body_means_post_of_json_unless_said_otherwise() {
        let plain = settings(&["http://[::1]/", "--body", r#"{"a": 1}"#]).unwrap();
        assert_eq!((plain.host.as_str(), plain.port), ("::1", 80));
        assert_eq!(plain.method, Method::POST);
        assert_eq!(plain.headers[CONTENT_TYPE], "application/json");
        let line = ["http://h/", "--body", "[1]", "--header", "Content-Type: text/csv", "--method", "put"];
        let other = settings(&line).unwrap();
        assert_eq!((other.method, other.headers[CONTENT_TYPE].as_bytes()), (Method::PUT, &b"text/csv"[..]));
    }

    #[test]
    fn bodies_come_from_stdin_files_and_lines() {
        let stdin = settings_with(&["http://h/", "--body", "@-"], b"raw").unwrap();
        assert_eq!(stdin.bodies, [Bytes::from("raw")]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bodies.jsonl");
        fs::write(&path, "{\"a\": 1}\n\n [2]\r\n").unwrap();
        for name in [path.display().to_string(), format!("@{}", path.display())] {
            let lines = settings(&["http://h/", "--body", &name]).unwrap();
            assert_eq!(lines.bodies, [Bytes::from("{\"a\": 1}"), Bytes::from("[2]")]);
        }
        fs::write(&path, "{}\n{").unwrap();
        let faults = settings(&["http://h/", "--body", &path.display().to_string()]).unwrap_err();
        assert!(faults[0].contains("line 2: not JSON"), "{faults:?}");
    }

    #[test]
    fn all_faults_come_at_once() {
        let line = [
            "https://h/",
            "--rate=-1",
            "--duration=0s",
            "--warm-up=soon",
            "--timeout=2h",
            "--connections=0",
            "--method=a b",
            "--header=none",
            "--header=host: x",
            "--body={",
        ];
        let faults = settings(&line).unwrap_err();
        assert_eq!(faults.len(), 10, "{faults:#?}");
        for part in
            ["plain http only", "--rate `-1`", "`0s` is nothing", "`soon` is not a time", "more than an hour"]
        {
            assert!(faults.iter().any(|fault| fault.contains(part)), "{part}: {faults:#?}");
        }
    }

    #[test]
    fn modes_exclude_one_another() {
        let faults = settings(&["http://h/", "--rate=1", "--concurrency=1"]).unwrap_err();
        assert!(faults[0].contains("choose one"), "{faults:?}");
        let faults = settings(&["http://h/", "--connections=2", "--concurrency=1"]).unwrap_err();
        assert!(faults[0].contains("leave it out"), "{faults:?}");
        let closed = settings(&["http://h/", "--concurrency=7"]).unwrap();
        assert_eq!((closed.mode, closed.connections), (Mode::Closed { concurrency: 7 }, 7));
        let faults = settings(&["http://h/", "--rate=0.01"]).unwrap_err();
        assert!(faults[0].contains("less than one request"), "{faults:?}");
    }

    #[test]
    fn what_is_no_url_is_told() {
        for url in ["localhost:8000/echo", "/echo", "", "ftp://h/", "http://"] {
            let faults = settings(&[url]).unwrap_err();
            assert_eq!(faults.len(), 1, "{url}: {faults:?}");
            assert!(faults[0].contains("http://"), "{url}: {faults:?}");
        }
    }
}
