//! The calls of a replica whose parts wait or run, as plain state that its lanes share: what runs next, what is dropped, what is
//! complete.
//!
//! Calls take turns within a priority: one whose parts have had a batch goes behind the others with the rest of them, so that
//! nobody waits for the whole of a large call (deficit round robin, Shreedhar and Varghese, 1995, with a batch as the quantum).

use std::sync::Arc;
use std::time::Instant;

use millstream_engine::{MAX_MATES, Priority, Reply, SpanRef};
use millstream_pipelines::Batch;
use millstream_values::{CallError, ErrorClass};
use slab::Slab;

use crate::decide::{Limits, Next, Waiting, next};
use crate::engine::{Company, Shape, TOO_LATE};
use crate::learn::Learned;

/// A call under way.
pub(crate) struct Open<C> {
    pub(crate) call: C,
    pub(crate) reply: Reply,
    pub(crate) deadline: Option<Instant>,
    pub(crate) priority: Priority,
    pub(crate) arrived: Instant,
    /// Whether its caller wants to know where the time went.
    pub(crate) is_timed: bool,
    /// Its span, where it is traced.
    pub(crate) span: Option<SpanRef>,
    /// When a part of it was first run.
    pub(crate) started: Option<Instant>,
    /// What its first parts ran in.
    pub(crate) first_batch: FirstBatch,
    /// Tokens of its inputs.
    pub(crate) num_tokens: usize,
    /// Parts not yet filled in.
    pub(crate) left: usize,
}

/// What ran together with the first parts of a call.
#[derive(Default)]
pub(crate) struct FirstBatch {
    /// Its inputs.
    pub(crate) size: usize,
    /// Its calls, where there are several: [`Timing::mates`](millstream_engine::Timing::mates).
    pub(crate) mates: Option<Arc<[SpanRef]>>,
}

/// A part that waits or runs.
pub(crate) struct Queued<P> {
    pub(crate) waiting: Waiting,
    priority: Priority,
    pub(crate) part: P,
}

/// What a lane does next.
pub(crate) enum Work<P> {
    /// Runs these, and says when it has.
    Run { parts: Vec<Queued<P>>, company: Company },
    /// Waits for company, or for a deadline.
    WaitUntil(Instant),
    /// There is nothing.
    Nothing,
}

/// A call that ends without an answer, and why.
pub(crate) type Ended = (Reply, CallError);

/// See the module.
pub(crate) struct WaitingCalls<C, P> {
    pub(crate) batch: Batch,
    pub(crate) learned: Learned,
    /// Tokens in one batch where the settings say nothing.
    default_max_tokens: usize,
    calls: Slab<Open<C>>,
    /// By priority, then in turn; the parts of a call stand together.
    queue: Vec<Queued<P>>,
    /// Lanes that run something.
    num_running: usize,
}

impl<C, P> WaitingCalls<C, P> {
    pub(crate) fn new(batch: Batch, default_max_tokens: usize) -> Self {
        let (calls, queue) = (Slab::new(), Vec::new());
        Self { batch, learned: Learned::default(), default_max_tokens, calls, queue, num_running: 0 }
    }

    /// Whether parts wait.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether there is nothing at all.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.queue.is_empty() && self.num_running == 0
    }

    /// Adds a call with its parts, at least one.
    pub(crate) fn add(&mut self, open: Open<C>, parts: Vec<(P, Shape)>, now: Instant) {
        let (priority, since) = (open.priority, open.arrived.min(now));
        let num_tokens = parts.iter().map(|(_, shape)| shape.inputs.saturating_mul(shape.tokens));
        let num_tokens = num_tokens.fold(0, usize::saturating_add);
        let call = self.calls.insert(Open { left: parts.len(), num_tokens, ..open });
        let place = self.queue.partition_point(|queued| queued.priority <= priority);
        let mut num_inputs = 0;
        let parts = parts.into_iter().map(|(part, Shape { inputs, tokens, group })| {
            num_inputs += inputs;
            Queued { priority, waiting: Waiting { call, inputs, tokens, group, since, due: false }, part }
        });
        self.queue.splice(place..place, parts).for_each(drop);
        self.learned.came(num_inputs, now);
    }

    /// Takes out calls that nobody waits for or that are too late.
    pub(crate) fn drop_dead(&mut self, now: Instant) -> Vec<Ended> {
        let is_dead = |open: &Open<C>| {
            open.reply.is_cancelled() || open.deadline.is_some_and(|deadline| deadline <= now)
        };
        let dead: Vec<usize> = self.calls.iter().filter(|(_, it)| is_dead(it)).map(|(id, _)| id).collect();
        let mut ended = Vec::with_capacity(dead.len());
        for id in dead {
            let class = ErrorClass::DeadlineExceeded;
            if let Some(open) = self.remove(id) {
                let error = match open.started {
                    Some(_) => CallError::started(class, TOO_LATE),
                    None => CallError::not_started(class, TOO_LATE),
                };
                ended.push((open.reply, error));
            }
        }
        ended
    }

    /// Takes a call out, and those of its parts that wait.
    pub(crate) fn remove(&mut self, id: usize) -> Option<Open<C>> {
        let open = self.calls.try_remove(id)?;
        self.queue.retain(|queued| queued.waiting.call != id);
        Some(open)
    }

    /// What a lane that has nothing to do does now.
    pub(crate) fn next(&mut self, now: Instant) -> Work<P> {
        match self.decide(now) {
            None => Work::Nothing,
            Some(Next::WaitUntil(until)) => {
                let deadline = self.calls.iter().filter_map(|(_, open)| open.deadline).min();
                Work::WaitUntil(deadline.map_or(until, |deadline| deadline.min(until)))
            }
            Some(Next::Run { parts, due }) => {
                let parts = self.take(&parts, &due, now);
                let is_alone = self.num_running == 0 && self.queue.is_empty();
                let company = if is_alone { Company::Alone } else { Company::Others };
                self.num_running += 1;
                Work::Run { parts, company }
            }
        }
    }

    fn decide(&self, now: Instant) -> Option<Next> {
        let max_size = self.batch.max_size.max(1) as usize;
        let max_tokens = self.batch.max_tokens.map_or(self.default_max_tokens, |max| max as usize);
        let mut limits = Limits {
            max_size,
            max_tokens,
            max_wait: self.batch.max_wait,
            preferred_sizes: &self.batch.preferred_sizes,
        };
        if let Some(target) = self.batch.target_latency {
            let oldest = self.queue.iter().map(|queued| queued.waiting.since).min()?;
            let num_inputs = self.queue.iter().map(|queued| queued.waiting.inputs).sum();
            let advice = self.learned.advise(target, max_size, (num_inputs, oldest), now);
            limits.max_size = advice.max_size;
            limits.max_wait = advice.max_wait;
        }
        next(&self.queue, |queued| &queued.waiting, &limits, now)
    }

    /// Takes parts out of the queue; the rest of their calls goes behind the others.
    fn take(&mut self, places: &[usize], due: &[usize], now: Instant) -> Vec<Queued<P>> {
        due.iter().for_each(|&place| self.queue[place].waiting.due = true);
        let mut place = 0;
        let taken: Vec<Queued<P>> = self
            .queue
            .extract_if(.., |_| {
                place += 1;
                places.binary_search(&(place - 1)).is_ok()
            })
            .collect();
        let mut calls: Vec<usize> = taken.iter().map(|queued| queued.waiting.call).collect();
        calls.dedup();
        let size = taken.iter().map(|queued| queued.waiting.inputs).sum();
        let mates = self.mates(&calls);
        for id in calls {
            let Some(open) = self.calls.get_mut(id) else { continue };
            if open.started.is_none() {
                open.started = Some(now);
                open.first_batch = FirstBatch { size, mates: mates.clone() };
            }
            let priority = open.priority;
            if taken.iter().filter(|queued| queued.waiting.call == id).count() >= open.left {
                continue;
            }
            let rest: Vec<Queued<P>> =
                self.queue.extract_if(.., |queued| queued.waiting.call == id).collect();
            let end = self.queue.partition_point(|queued| queued.priority <= priority);
            // A call that has begun is not to wait for company with its rest.
            let rest = rest.into_iter().map(|mut queued| {
                queued.waiting.due = true;
                queued
            });
            self.queue.splice(end..end, rest).for_each(drop);
        }
        taken
    }

    /// The spans of calls that run together, for those that are timed.
    fn mates(&self, calls: &[usize]) -> Option<Arc<[SpanRef]>> {
        let opens = || calls.iter().filter_map(|&id| self.calls.get(id));
        if calls.len() < 2 || !opens().any(|open| open.is_timed) {
            return None;
        }
        let spans: Vec<_> = opens().filter_map(|open| open.span).take(MAX_MATES).collect();
        (!spans.is_empty()).then(|| spans.into())
    }

    /// A lane's run is over, whatever came of it.
    pub(crate) fn ran(&mut self) {
        self.num_running -= 1;
    }

    /// Fills parts into their calls; returns those calls that are complete.
    pub(crate) fn fill(
        &mut self,
        parts: &[Queued<P>],
        mut fill: impl FnMut(&mut C, &P, usize),
    ) -> Vec<Open<C>> {
        let mut complete = Vec::new();
        for (at, queued) in parts.iter().enumerate() {
            let id = queued.waiting.call;
            let Some(open) = self.calls.get_mut(id) else { continue };
            fill(&mut open.call, &queued.part, at);
            open.left -= 1;
            if open.left == 0 {
                complete.extend(self.calls.try_remove(id));
            }
        }
        complete
    }

    /// The end of the replica: all calls.
    pub(crate) fn drain(&mut self) -> Vec<Open<C>> {
        self.queue.clear();
        self.calls.drain().collect()
    }
}
