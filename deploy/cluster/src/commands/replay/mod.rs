//! `cluster replay`: sends captured requests to a revision and compares its answers with those that were captured, so that a
//! new revision is tried on the requests of before.
//!
//! Comparing (`compare`) and counting (`record`) are plain functions; `read` reads files, `send` and `drive` send.

mod compare;
mod drive;
mod read;
mod record;
mod report;
mod send;
mod target;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use millstream_pipelines::parse_duration;

use self::drive::{Pace, Replay};
use self::read::Captures;
use self::report::{End, Report};
use self::send::Sender;
use self::target::Asked;
use crate::commands::bench;
use crate::data_dir::DataDir;
use crate::exit::Failure;
use crate::global::Global;
use crate::output::Output;
use crate::style;

/// Time between two updates of the progress bar.
const TICK: Duration = Duration::from_millis(200);
/// Callers without `--concurrency`.
const CONCURRENCY: usize = 4;
/// The same with `--speed`, so that slow answers do not hold up what is due.
const PACED_CONCURRENCY: usize = 64;

/// Flags of `cluster replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// A file or a folder of captures [default: those of the pipeline in the data directory].
    #[arg(value_name = "CAPTURE")]
    capture: Option<PathBuf>,
    /// Where to send the requests; without a revision to the one that serves.
    #[arg(long, value_name = "PIPELINE[@REVISION]")]
    to: Asked,
    /// So many callers, each of which waits for its answer before it sends again [default: 4; with --speed 64].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    concurrency: Option<u16>,
    /// Keep the times at which the requests came: 1 is as fast as then, 10 ten times as fast. Without it requests are sent as
    /// fast as answers come.
    #[arg(long, value_name = "FACTOR", value_parser = parse_speed)]
    speed: Option<f64>,
    /// How far a number may be off to count as near: relative to the larger one, absolute below 1.
    #[arg(long, value_name = "NUMBER", default_value = "1e-3", value_parser = parse_tolerance)]
    tolerance: f64,
    /// Send only so many, the newest.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// When to give a request up.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = parse_timeout)]
    timeout: Duration,
    /// A header, as 'name: value', such as an API key's; may be given several times.
    #[arg(long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// Where the ingress listens [default: the ingress of the data directory's process, else one that the head knows].
    #[arg(long, value_name = "HOST:PORT")]
    ingress: Option<String>,
}

/// Runs the command.
pub(crate) async fn run(global: &Global, args: &ReplayArgs) -> Result<(), Failure> {
    let headers = bench::parse_headers(&args.headers)?;
    let mut captures = captures(global, args)?;
    let target = target::find(global, &args.to, args.ingress.as_deref()).await?;
    let sender = Sender::new(&target, &headers, args.timeout)?;
    sender.check().await?;
    let replay = Replay::new(std::mem::take(&mut captures.requests), sender, pace(args));
    let progress = tokio::spawn(show_progress(replay.clone()));
    let end = tokio::select! {
        () = replay.carry_out() => End::Planned,
        _ = tokio::signal::ctrl_c() => End::Early,
    };
    replay.stop();
    progress.abort();
    let _ = progress.await;
    let summary = replay.summary();
    let report = Report {
        target: &target,
        summary: &summary,
        num_requests: replay.requests().len(),
        num_redacted: replay.requests().iter().filter(|request| request.is_redacted()).count(),
        left_out: &captures,
        tolerance: args.tolerance,
        end,
    };
    Output::of(global).show(&report.as_json(), || report.as_text())?;
    if summary.bad() > 0 { Err(Failure::said()) } else { Ok(()) }
}

/// The captures that are meant, the newest of them where only some are wanted.
fn captures(global: &Global, args: &ReplayArgs) -> Result<Captures, Failure> {
    let path = match &args.capture {
        Some(path) => path.clone(),
        None => of_pipeline(global, args.to.pipeline.as_str())?,
    };
    let mut captures = read::read(&path).map_err(Failure::usage)?;
    if captures.requests.is_empty() {
        let shown = path.display();
        return Err(Failure::usage(format!("there is no request with its answer in `{shown}`")));
    }
    let limit = args.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let too_many = captures.requests.len().saturating_sub(limit);
    captures.requests.drain(..too_many);
    Ok(captures)
}

/// Where the ingress of this data directory keeps the captures of a pipeline.
fn of_pipeline(global: &Global, pipeline: &str) -> Result<PathBuf, Failure> {
    let path = DataDir::of(global)?.captures().join(pipeline);
    if path.is_dir() {
        return Ok(path);
    }
    Err(Failure::usage(format!(
        "there are no captures of `{pipeline}` in `{}`: a pipeline whose file has `[capture]` keeps them with its ingress; \
         name the file or folder",
        path.display()
    )))
}

fn pace(args: &ReplayArgs) -> Pace {
    let usual = if args.speed.is_some() { PACED_CONCURRENCY } else { CONCURRENCY };
    let concurrency = args.concurrency.map_or(usual, usize::from);
    Pace { concurrency, speed: args.speed, tolerance: args.tolerance }
}

fn parse_speed(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('x').unwrap_or(text).parse::<f64>().ok();
    number
        .filter(|speed| (1e-3..=1e6).contains(speed))
        .ok_or_else(|| "is not a speed; write a number above 0, such as `1` or `10`".to_owned())
}

fn parse_tolerance(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok();
    number
        .filter(|tolerance| (0.0..1.0).contains(tolerance))
        .ok_or_else(|| "is not a tolerance; write a number from 0 to below 1, such as `1e-3`".to_owned())
}

fn parse_timeout(text: &str) -> Result<Duration, &'static str> {
    let timeout = parse_duration(text)?;
    if timeout.is_zero() { Err("is nothing; give a time above 0") } else { Ok(timeout) }
}

/// A bar with the figures so far, where a person watches.
async fn show_progress(replay: Arc<Replay>) {
    if !style::stderr_is_terminal() {
        return;
    }
    let bar = ProgressBar::new(replay.requests().len() as u64).with_style(
        ProgressStyle::with_template("{spinner:.cyan} {bar:30} {pos} of {len}{msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let bar = bench::ClearOnDrop(bar);
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        let (ended, bad) = replay.progress();
        bar.0.set_position(ended as u64);
        bar.0.set_message(format!(", {bad} different or failed"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_and_tolerances_are_numbers_within_reason() {
        for (text, expected) in [("1", Some(1.0)), ("10x", Some(10.0)), ("0.5", Some(0.5))] {
            assert_eq!(parse_speed(text).ok(), expected, "{text}");
        }
        assert!(parse_timeout("0s").is_err() && parse_timeout("5s").is_ok());
        for bad in ["", "0", "-1", "x", "inf", "NaN"] {
            assert!(parse_speed(bad).is_err(), "{bad}");
        }
        for (text, expected) in
            [("1e-3", Some(1e-3)), ("0", Some(0.0)), ("1", None), ("-1", None), ("NaN", None)]
        {
            assert_eq!(parse_tolerance(text).ok(), expected, "{text}");
        }
    }
}
