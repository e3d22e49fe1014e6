//! Copies of requests for a revision that answers nobody: run beside the request, their answers compared with the
//! client's and dropped. A copy never changes the answer and costs the client no time; when too many run, some requests
//! are not copied.

use std::sync::Arc;
use std::time::Instant;

use millstream_pipelines::Plan;
use millstream_proto::call::{CallContext, Priority};
use millstream_proto::{RequestId, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::dispatch::QueueClass;
use crate::execute::{Caching, Context, Guards, Progress, execute};
use crate::model::Tenant;
use crate::routes::Pipeline;

/// Copies under way at one time in an ingress.
const MAX_COPIES: usize = 64;

/// Runs copies.
pub(crate) struct Shadows {
    places: Arc<Semaphore>,
    /// Retries of copies take nothing from those of requests.
    guards: Arc<Guards>,
}

impl Default for Shadows {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_COPIES)), guards: Arc::default() }
    }
}

/// A copy under way; it ends when this is dropped without an answer.
pub(crate) struct Copy {
    answer: oneshot::Sender<Value>,
}

impl Copy {
    /// The client's answer, to compare with.
    pub(crate) fn compare(self, answer: &Value) {
        // The copy may have failed before.
        let _ = self.answer.send(answer.clone());
    }
}

/// A request as the copy sees it.
pub(crate) struct Original<'a> {
    pub(crate) request_id: &'a RequestId,
    pub(crate) deadline: Instant,
    pub(crate) draw: u16,
}

impl Shadows {
    /// Begins a copy on this revision; `None` when too many run, or what the request has are no `fields` of the revision's.
    pub(crate) fn begin(
        &self,
        pipeline: &Arc<Pipeline>,
        original: &Original<'_>,
        fields: impl FnOnce(&Plan) -> Option<Value>,
    ) -> Option<Copy> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        let fields = fields(&pipeline.plan)?;
        let context = Context {
            call: CallContext { priority: Priority::Low, ..CallContext::new(original.request_id.clone()) },
            deadline: original.deadline,
            guards: self.guards.clone(),
            draw: original.draw,
            // Copies go after all that somebody waits for.
            claim: QueueClass { priority: Priority::Low, ..QueueClass::default() },
            // A copy shows what its revision does, and costs what its calls cost.
            tenant: Tenant::ANONYMOUS,
            caching: Caching::Bypassed,
            parts: None,
            trace: None,
            progress: Progress::default(),
        };
        let (answer, original) = oneshot::channel();
        tokio::spawn(run(pipeline.clone(), fields, context, original, place));
        Some(Copy { answer })
    }
}

async fn run(
    pipeline: Arc<Pipeline>,
    fields: Value,
    context: Context,
    mut original: oneshot::Receiver<Value>,
    _place: OwnedSemaphorePermit,
) {
    let work = execute(&pipeline, &fields, &context);
    tokio::pin!(work);
    let (copy, answer) = tokio::select! {
        copy = &mut work => (copy, original.await),
        answer = &mut original => match answer {
            Ok(answer) => (work.await, Ok(answer)),
            // The request had no answer: there is nothing to compare with.
            Err(_) => return,
        },
    };
    if let Ok(answer) = answer {
        pipeline.counts.compared(copy.ok().map(|copy| copy == answer));
    }
}
