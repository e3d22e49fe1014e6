//! Callers that go on for as long as a test or a benchmark does something to the cluster, and what became of their calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use serde_json::Value;

use crate::Cluster;

/// Failures whose text is kept.
const MAX_KEPT: usize = 20;

/// Callers under way: each sends its next call when the last one has ended.
pub struct Load {
    shared: Arc<Shared>,
    callers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
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

impl Load {
    /// Starts so many callers, which post this body and take an answer for good when `expected` says so.
    ///
    /// # Panics
    /// When no HTTP client can be made.
    #[must_use]
    pub fn start(
        cluster: &Cluster,
        path: &str,
        body: &Value,
        callers: usize,
        expected: fn(&Value) -> bool,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let callers = (0..callers).map(|_| {
            let (shared, url, body) = (shared.clone(), cluster.url(path), body.clone());
            let http = reqwest::blocking::Client::builder().timeout(std::time::Duration::from_secs(60));
            let http = http.build().unwrap();
            std::thread::spawn(move || {
                while !shared.stop.load(Ordering::Relaxed) {
                    shared.call(&http, &url, &body, expected);
                }
            })
        });
        Self { callers: callers.collect(), shared }
    }

    /// Calls answered so far.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Ends the callers after their calls under way.
    ///
    /// # Panics
    /// When a caller panicked.
    #[must_use]
    pub fn stop(self) -> Ended {
        self.shared.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.join().unwrap();
        }
        let shared = &self.shared;
        Ended {
            answered: shared.answered.load(Ordering::Relaxed),
            shed: shared.shed.load(Ordering::Relaxed),
            failed: shared.failed.load(Ordering::Relaxed),
            texts: shared.texts.lock().clone(),
        }
    }
}

impl Shared {
    fn call(&self, http: &reqwest::blocking::Client, url: &str, body: &Value, expected: fn(&Value) -> bool) {
        let what = match http.post(url).json(body).send() {
            Err(error) => format!("{error:?}"),
            Ok(answer) => {
                let status = answer.status().as_u16();
                let polite = answer.headers().contains_key("retry-after");
                let text = answer.text().unwrap_or_default();
                if status == 200 && serde_json::from_str(&text).is_ok_and(|value| expected(&value)) {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                if matches!(status, 429 | 503) && polite {
                    self.shed.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                format!("{status} {text}")
            }
        };
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut texts = self.texts.lock();
        if texts.len() < MAX_KEPT {
            texts.push(what);
        }
    }
}
