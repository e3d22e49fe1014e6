//! `cluster bench`: a load test of one URL. It keeps its rate whatever the server does and counts each latency from when
//! the request was due, so that a server that stalls cannot hide it.
//!
//! What is due when (`pace`) and what is counted (`record`) are plain functions; `http` and `drive` do the I/O.

mod drive;
mod http;
mod pace;
mod record;
mod report;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use hyper::HeaderMap;
use indicatif::{ProgressBar, ProgressStyle};

use self::drive::Run;
use self::http::Client;
use self::report::End;
use self::settings::Settings;
use crate::exit::Failure;
use crate::global::Global;
use crate::output::Output;
use crate::style;

/// Time between two updates of the progress bar.
const TICK: Duration = Duration::from_millis(200);

/// Flags of `cluster bench`. Values are checked together (`settings`), so that all faults come at once.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// What to call, such as http://127.0.0.1:8000/rag.
    #[arg(value_name = "URL")]
    url: String,
    /// Requests per second, sent whether or not earlier ones have been answered [default: 200].
    #[arg(long, value_name = "PER_SECOND", allow_hyphen_values = true)]
    rate: Option<String>,
    /// So many callers instead, each of which waits for its answer before it sends again.
    #[arg(long, value_name = "N")]
    concurrency: Option<String>,
    /// How long requests are sent and counted.
    #[arg(long, value_name = "TIME", default_value = "30s")]
    duration: String,
    /// How long requests are sent without being counted, before that.
    #[arg(long, value_name = "TIME", default_value = "2s")]
    warm_up: String,
    /// JSON, or a file (FILE, @FILE; @- is stdin); the lines of a .jsonl file are bodies taken in turn.
    #[arg(long, value_name = "JSON|FILE")]
    body: Option<String>,
    /// A header, as 'name: value'; may be given several times.
    #[arg(long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// HTTP method [default: POST with a body, else GET].
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// When to give a request up, counted from when it was due.
    #[arg(long, value_name = "TIME", default_value = "10s")]
    timeout: String,
    /// Exit with 1 when some request got no answer with a status below 400.
    #[arg(long)]
    fail: bool,
    /// Most connections; requests that find none free wait [default: 256; with --concurrency one for each caller].
    #[arg(long, value_name = "N")]
    connections: Option<String>,
}

/// Runs the command.
pub(crate) async fn run(global: &Global, args: &BenchArgs) -> Result<(), Failure> {
    let settings = Settings::of(args, &mut std::io::stdin().lock()).map_err(|faults| usage(&faults))?;
    let timeout = settings.timeout;
    let client = tokio::time::timeout(timeout, Client::connect(settings)).await;
    let client = client.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map_err(|error| {
        Failure::unreachable(format!(
            "cannot connect to `{}`: {error}; check the address, and that the server runs",
            args.url
        ))
    })?;
    let run = Run::new(client);
    let progress = tokio::spawn(show_progress(run.clone()));
    let end = tokio::select! {
        () = run.carry_out() => End::Planned,
        _ = tokio::signal::ctrl_c() => End::Early,
    };
    run.stop();
    progress.abort();
    let _ = progress.await;
    let (settings, summary) = (run.settings(), run.summary(Some(end)));
    Output::of(global)
        .show(&report::as_json(settings, &summary, end), || report::as_text(settings, &summary, end))?;
    if args.fail && summary.bad() > 0 {
        return Err(Failure::said());
    }
    Ok(())
}

/// Headers as they are given on a command line.
pub(crate) fn parse_headers(lines: &[String]) -> Result<HeaderMap, Failure> {
    let mut faults = Vec::new();
    let headers = settings::given_headers(lines, &mut faults);
    if faults.is_empty() { Ok(headers) } else { Err(usage(&faults)) }
}

fn usage(faults: &[String]) -> Failure {
    match faults {
        [fault] => Failure::usage(fault),
        _ => Failure::usage(format!("{} arguments are wrong\n  {}", faults.len(), faults.join("\n  "))),
    }
}

/// A bar with the figures so far, where a person watches.
async fn show_progress(run: Arc<Run>) {
    if !style::stderr_is_terminal() {
        return;
    }
    let total = u64::try_from(run.settings().phases.end().as_millis()).unwrap_or(u64::MAX);
    let bar = ProgressBar::new(total).with_style(
        ProgressStyle::with_template("{spinner:.cyan} {bar:30} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let bar = ClearOnDrop(bar);
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        let elapsed = run.elapsed();
        bar.0.set_position(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).min(total));
        let seconds = elapsed.as_secs_f64();
        bar.0.set_message(if elapsed < run.settings().phases.warm_up {
            format!("{seconds:.0} s, warming up")
        } else {
            let summary = run.summary(None);
            let p99 =
                summary.latency.map_or_else(|| "-".to_owned(), |latency| format!("{:.1} ms", latency.p99));
            let rate = summary.achieved_per_s;
            format!("{seconds:.0} s, {rate:.0} good answers/s, p99 {p99}, {} bad", summary.bad())
        });
    }
}

/// Takes the bar off the screen, however the task ends.
pub(crate) struct ClearOnDrop(pub(crate) ProgressBar);

impl Drop for ClearOnDrop {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
