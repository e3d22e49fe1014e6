//! Callers that go on for as long as a test or a benchmark does something to the cluster, and what became of their calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::blocking::Client;
use serde_json::{Value, json};

use crate::Cluster;

/// Failures whose text is kept.
const MAX_KEPT: usize = 20;
/// How long a caller that was turned away waits before its next call: one that came back at once would measure nothing
/// but how fast it is turned away.
const AFTER_SHED: Duration = Duration::from_millis(200);

/// Calls to be made: `Load::on(&cluster, "/p").start(4)`.
pub struct Load {
    url: String,
    headers: Vec<(String, String)>,
    body: Box<dyn Fn(usize) -> Value + Send + Sync>,
    expected: Expected,
}

/// Whether an answer is right for what was sent.
type Expected = Box<dyn Fn(&Value, &Value) -> bool + Send + Sync>;

impl Load {
    /// Calls of a path. Each caller sends a text of its own, and a good answer has the text that was sent.
    #[must_use]
    pub fn on(cluster: &Cluster, path: &str) -> Self {
        Self {
            url: cluster.url(path),
            headers: Vec::new(),
            body: Box::new(|caller| json!({ "text": format!("caller {caller}") })),
            expected: Box::new(|sent, answer| answer["text"] == sent["text"]),
        }
    }

    /// Adds a header to all calls.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends this instead; the argument is the caller's number.
    #[must_use]
    pub fn body(mut self, body: impl Fn(usize) -> Value + Send + Sync + 'static) -> Self {
        self.body = Box::new(body);
        self
    }

    /// Takes an answer for good when this says so of what was sent and what came.
    #[must_use]
    pub fn expecting(mut self, expected: impl Fn(&Value, &Value) -> bool + Send + Sync + 'static) -> Self {
        self.expected = Box::new(expected);
        self
    }

    /// Starts so many callers. Each sends its next call when the last one has ended.
    ///
    /// # Panics
    /// When no HTTP client can be made.
    #[must_use]
    pub fn start(self, callers: usize) -> Callers {
        let shared = Arc::new(Shared { load: self, stop: AtomicBool::new(false), counts: Counts::default() });
        let start = |caller| {
            let shared = shared.clone();
            let http = Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
            std::thread::spawn(move || shared.call_until_stopped(&http, caller))
        };
        Callers { threads: (0..callers).map(start).collect(), shared }
    }
}

/// Callers under way; they go on until [`Callers::stop`], or until dropped.
pub struct Callers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    load: Load,
    stop: AtomicBool,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    shed: AtomicU64,
    failed: AtomicU64,
    texts: Mutex<Vec<String>>,
}

/// What became of the calls.
#[derive(Debug)]
pub struct Ended {
    /// Answered with 200 and what was expected.
    pub answered: u64,
    /// Turned away with 429 or 503 and a `Retry-After`.
    pub shed: u64,
    /// Anything else.
    pub failed: u64,
    /// The first failures.
    pub texts: Vec<String>,
}

impl Callers {
    /// Calls answered so far.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.shared.counts.answered.load(Ordering::Relaxed)
    }

    /// Calls turned away so far.
    #[must_use]
    pub fn shed(&self) -> u64 {
        self.shared.counts.shed.load(Ordering::Relaxed)
    }

    /// Waits until so many more calls than now are answered.
    pub fn until_answered(&self, more: u64) {
        let before = self.answered();
        crate::eventually("calls go on", || (self.answered() >= before + more).then_some(()));
    }

    /// Ends the callers after their calls under way.
    ///
    /// # Panics
    /// When a caller panicked.
    #[must_use]
    pub fn stop(mut self) -> Ended {
        self.shared.stop.store(true, Ordering::Relaxed);
        for caller in self.threads.drain(..) {
            caller.join().unwrap();
        }
        let counts = &self.shared.counts;
        Ended {
            answered: counts.answered.load(Ordering::Relaxed),
            shed: counts.shed.load(Ordering::Relaxed),
            failed: counts.failed.load(Ordering::Relaxed),
            texts: counts.texts.lock().clone(),
        }
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// How a call ended.
enum Outcome {
    Answered,
    Shed,
    Failed(String),
}

impl Shared {
    fn call_until_stopped(&self, http: &Client, caller: usize) {
        let body = (self.load.body)(caller);
        while !self.stop.load(Ordering::Relaxed) {
            match self.load.call(http, &body) {
                Outcome::Answered => _ = self.counts.answered.fetch_add(1, Ordering::Relaxed),
                Outcome::Shed => {
                    self.counts.shed.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(AFTER_SHED);
                }
                Outcome::Failed(text) => {
                    self.counts.failed.fetch_add(1, Ordering::Relaxed);
                    let mut texts = self.counts.texts.lock();
                    if texts.len() < MAX_KEPT {
                        texts.push(text);
                    }
                }
            }
        }
    }
}

impl Load {
    fn call(&self, http: &Client, body: &Value) -> Outcome {
        let mut request = http.post(&self.url).json(body);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let answer = match request.send() {
            Err(error) => return Outcome::Failed(format!("{error:?}")),
            Ok(answer) => answer,
        };
        let status = answer.status().as_u16();
        let says_when = answer.headers().contains_key("retry-after");
        let text = answer.text().unwrap_or_default();
        let is_good = || serde_json::from_str(&text).is_ok_and(|value| (self.expected)(body, &value));
        match status {
            200 if is_good() => Outcome::Answered,
            429 | 503 if says_when => Outcome::Shed,
            _ => Outcome::Failed(format!("{status} {text}")),
        }
    }
}
