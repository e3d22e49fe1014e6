//! Carries out a run: sends what is due, hands times and outcomes to the recorder, ends early when it is told to.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::http::Client;
use super::pace::{self, Mode};
use super::record::{ErrorKind, Outcome, Recorder, Summary};
use super::report::End;
use super::settings::Settings;

/// Longest sleep of the thread that keeps the pace, so that it notices that the run was ended.
const MAX_SLEEP: Duration = Duration::from_millis(50);

/// A run under way.
pub(super) struct Run {
    client: Client,
    recorder: Mutex<Recorder>,
    start: Instant,
    stopped: AtomicBool,
    next: AtomicU64,
}

/// Lives as long as some request is under way.
type UnderWay = mpsc::Sender<Infallible>;

impl Run {
    /// Starts the clock.
    pub(super) fn new(client: Client) -> Arc<Self> {
        let recorder = Mutex::new(Recorder::new(client.settings().phases));
        Arc::new(Self {
            client,
            recorder,
            start: millstream_clock::now(),
            stopped: AtomicBool::new(false),
            next: AtomicU64::new(0),
        })
    }

    /// Sends everything and waits for the answers.
    pub(super) async fn carry_out(self: &Arc<Self>) {
        let (under_way, mut ended) = mpsc::channel(1);
        match self.settings().mode {
            Mode::Open { rate } => {
                let run = self.clone();
                let runtime = tokio::runtime::Handle::current();
                // A thread of its own: the runtime's timers only know whole milliseconds.
                std::thread::spawn(move || run.keep_pace(rate, &runtime, &under_way));
            }
            Mode::Closed { concurrency } => {
                for _ in 0..concurrency {
                    tokio::spawn(self.clone().caller(under_way.clone()));
                }
                drop(under_way);
            }
        }
        while ended.recv().await.is_some() {}
    }

    /// Sends nothing more.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// The time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        millstream_clock::since(self.start)
    }

    /// What was asked for.
    pub(super) fn settings(&self) -> &Settings {
        self.client.settings()
    }

    /// What is known so far, or at the end when all has been sent as planned.
    pub(super) fn summary(&self, end: Option<End>) -> Summary {
        let planned = self.settings().phases.end();
        // The last request is due a little before the planned end, which is part of the time all the same.
        let sending_ended = if end == Some(End::Planned) { planned } else { self.elapsed().min(planned) };
        self.recorder(|recorder| recorder.summary(sending_ended))
    }

    /// Open loop: spawns each request when it is due.
    fn keep_pace(self: &Arc<Self>, rate: f64, runtime: &tokio::runtime::Handle, under_way: &UnderWay) {
        precise_sleep();
        for number in 0.. {
            let Some(due) = pace::due(number, rate, &self.settings().phases) else {
                return;
            };
            while let Some(wait) = due.checked_sub(self.elapsed()).filter(|wait| !wait.is_zero()) {
                if self.stopped.load(Ordering::Relaxed) {
                    return;
                }
                #[expect(clippy::disallowed_methods, reason = "a thread of its own; see `carry_out`")]
                std::thread::sleep(wait.min(MAX_SLEEP));
            }
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            let (run, under_way) = (self.clone(), under_way.clone());
            runtime.spawn(async move {
                run.request(number, due).await;
                drop(under_way);
            });
        }
    }

    /// Closed loop: one caller, whose next request is due when the last one has ended.
    async fn caller(self: Arc<Self>, under_way: UnderWay) {
        loop {
            let due = self.elapsed();
            if due >= self.settings().phases.end() || self.stopped.load(Ordering::Relaxed) {
                break;
            }
            self.request(self.next.fetch_add(1, Ordering::Relaxed), due).await;
        }
        drop(under_way);
    }

    /// One request, given up when it has no answer so long after it was due.
    async fn request(&self, number: u64, due: Duration) {
        let bytes = self.client.body(number).len() as u64;
        self.recorder(|recorder| recorder.sent(due, bytes));
        let timeout = self.settings().timeout;
        let deadline = tokio::time::Instant::from_std(self.start + due + timeout);
        let outcome = match tokio::time::timeout_at(deadline, self.client.call(number)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let timeout = humantime::format_duration(timeout);
                Outcome::Failed { kind: ErrorKind::Timeout, text: format!("no answer within {timeout}") }
            }
        };
        let now = self.elapsed();
        self.recorder(|recorder| recorder.ended(due, now, outcome));
    }

    fn recorder<T>(&self, with: impl FnOnce(&mut Recorder) -> T) -> T {
        with(&mut self.recorder.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Lets this thread's sleeps end on time: Linux adds 50 µs otherwise.
fn precise_sleep() {
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}
