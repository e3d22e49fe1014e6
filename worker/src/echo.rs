//! The engine that answers its inputs: for tests, for faults made on purpose, and for measuring everything around an
//! engine. With a `signature` it is a tensor model whose outputs bear the names of its inputs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millstream_engine::{CallRequest, ConcurrentEngine, Engine, EngineFactory, LoadArgs, LoadError, Reply};
use millstream_pipelines::Echo;
use millstream_values::{CallError, ErrorClass, Value};

/// Makes echo engines.
pub(crate) struct EchoFactory;

impl EngineFactory for EchoFactory {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn accepts(&self, _: &LoadArgs<'_>) -> Result<(), LoadError> {
        Err(LoadError::Unsupported("runs no model; it is chosen by `engine = \"echo\"` only".to_owned()))
    }

    fn load(&self, args: &LoadArgs<'_>) -> Result<Engine, LoadError> {
        let settings = args.spec.echo().cloned().unwrap_or(Echo {
            delay: Duration::ZERO,
            fail_ratio: 0.0,
            crash_on: None,
        });
        Ok(Engine::Concurrent(Arc::new(EchoEngine { settings, num_calls: AtomicU64::new(0) })))
    }
}

struct EchoEngine {
    settings: Echo,
    num_calls: AtomicU64,
}

impl EchoEngine {
    /// Whether this call is one of those that fail. The failing ones are spread evenly, so that `fail_ratio` is met
    /// exactly and a test sees the same twice.
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 calls")]
    fn fails(&self) -> bool {
        if self.settings.fail_ratio <= 0.0 {
            return false;
        }
        let before = self.num_calls.fetch_add(1, Ordering::Relaxed) as f64;
        ((before + 1.0) * self.settings.fail_ratio).floor() > (before * self.settings.fail_ratio).floor()
    }

    fn crash_if_told(&self, inputs: &Value) {
        if let Some(text) = &self.settings.crash_on
            && contains(inputs, text)
        {
            panic!("an input holds the text of `crash_on`");
        }
    }
}

impl ConcurrentEngine for EchoEngine {
    fn call(&self, request: CallRequest, reply: Reply) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let CallRequest { context, inputs, .. } = request;
        let deadline = context.deadline;
        self.crash_if_told(&inputs);
        let fails = self.fails();
        let delay = self.settings.delay;
        Box::pin(async move {
            if !delay.is_zero() && !wait(delay, deadline).await {
                reply.finish(Err(CallError::started(ErrorClass::DeadlineExceeded, "the deadline passed")));
            } else if fails {
                let text = "echo fails this call, as its `fail_ratio` asks";
                reply.finish(Err(CallError::started(ErrorClass::Internal, text)));
            } else {
                reply.finish(Ok(inputs));
            }
        })
    }
}

/// Waits for `delay`, or until the deadline when that comes first; says whether the whole delay has passed.
async fn wait(delay: Duration, deadline: Option<Instant>) -> bool {
    let sleep = tokio::time::sleep(delay);
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline.into(), sleep).await.is_ok(),
        None => {
            sleep.await;
            true
        }
    }
}

fn contains(value: &Value, text: &str) -> bool {
    match value {
        Value::Text(value) => value.contains(text),
        Value::List(values) => values.iter().any(|value| contains(value, text)),
        Value::Map(map) => map.values().any(|value| contains(value, text)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use millstream_proto::RequestId;
    use millstream_proto::call::{self, CallEvent};

    use super::*;

    fn echo(delay: Duration, fail_ratio: f64) -> EchoEngine {
        EchoEngine {
            settings: Echo { delay, fail_ratio, crash_on: Some("boom".into()) },
            num_calls: AtomicU64::new(0),
        }
    }

    async fn ask(engine: &EchoEngine, deadline: Option<Instant>) -> CallEvent {
        let (reply, mut pending) = call::channel(call::Parts::Unwanted);
        let request = CallRequest::new(RequestId::new("r"), Value::from("hello")).until(deadline);
        engine.call(request, reply).await;
        pending.next().await
    }

    #[tokio::test]
    async fn inputs_come_back_after_the_delay() {
        let start = millstream_clock::now();
        assert_eq!(
            ask(&echo(Duration::from_millis(20), 0.0), None).await,
            CallEvent::Done(Value::from("hello"))
        );
        assert!(start.elapsed() >= Duration::from_millis(20));
    }

    #[tokio::test]
    async fn exactly_the_asked_part_fails() {
        let engine = echo(Duration::ZERO, 0.3);
        let mut failed = 0;
        for _ in 0..100 {
            failed += usize::from(matches!(ask(&engine, None).await, CallEvent::Failed(_)));
        }
        assert_eq!(failed, 30);
    }

    #[tokio::test]
    async fn a_deadline_before_the_delay_ends_the_call() {
        let start = millstream_clock::now();
        let deadline = start + Duration::from_millis(10);
        let event = ask(&echo(Duration::from_secs(60), 0.0), Some(deadline)).await;
        let CallEvent::Failed(error) = event else { panic!("expected a failure, got {event:?}") };
        assert_eq!(error.class, ErrorClass::DeadlineExceeded);
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn the_crash_text_is_found_anywhere() {
        let nested = Value::map([("a", Value::list([Value::Int(1), Value::from("a boom b")]))]);
        assert!(contains(&nested, "boom"));
        assert!(!contains(&nested, "bang"));
    }
}
