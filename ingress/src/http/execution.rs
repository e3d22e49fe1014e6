//! A request on its way through its plan: run, counted, compared by its copy and captured.

use std::sync::Arc;
use std::time::Instant;

use millstream_proto::Value;

use super::shadow::Copy;
use crate::capture::PipelineCapture;
use crate::execute::{Context, PartSender, execute};
use crate::model::Failure;
use crate::protocol::problem::kind_of;
use crate::routes::{DeadlineOf, Pipeline};

/// A request that is about to run.
pub(super) struct Execution {
    pub(super) fields: Value,
    pub(super) context: Context,
    pub(super) by: DeadlineOf,
    /// When it came.
    pub(super) started: Instant,
    pub(super) copy: Option<Copy>,
    pub(super) capture: Option<Arc<PipelineCapture>>,
}

impl Execution {
    /// Executes the request, counts how it ended, and lets a copy compare.
    pub(super) async fn run(self, pipeline: &Pipeline) -> Result<Value, Failure> {
        let result = execute(pipeline, &self.fields, &self.context).await;
        match &result {
            Ok(answer) => {
                let now = millstream_clock::now();
                pipeline.counts.answered(now.saturating_duration_since(self.started));
                if let Some(copy) = self.copy {
                    copy.compare(answer);
                }
            }
            Err(failure) => pipeline.counts.failed(failure.class, self.by),
        }
        if let Some(capture) = self.capture {
            let elapsed = millstream_clock::now().saturating_duration_since(self.started);
            let outcome = match &result {
                Ok(answer) => Ok(answer.clone()),
                Err(failure) => Err(kind_of(failure.class)),
            };
            capture.capture(self.context.call.request_id, self.fields, outcome, elapsed);
        }
        result
    }

    /// The same, with parts of the answer on the way.
    pub(super) async fn run_in(
        mut self,
        pipeline: Arc<Pipeline>,
        parts: PartSender,
    ) -> Result<Value, Failure> {
        self.context.parts = Some(parts);
        self.run(&pipeline).await
    }
}
