//! `cluster simulate placement`: tasks arrive in random order at a cluster of GPU nodes and never leave; how much of its
//! GPU gets work?
//!
//! The list of tasks is sampled again, each time in another random order, until what it asks for reaches a ratio of the
//! cluster's GPU capacity. Cores and GPUs are limits, memory is not; a task that fits nowhere is dropped. Placing is
//! [`scheduler::Cluster`](millstream_core::scheduler::Cluster), as in production, with the list as the workload.

mod bound;
mod csv;
mod run;

use std::time::Duration;

use serde::Serialize;

pub use csv::{NodeRow, Nodes, Task, Tasks};
pub use run::{request, simulate, world};

/// How places are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// As in production: where the GPU that the workload cannot use grows least.
    Fragmentation,
    /// The node that is left with least.
    BestFit,
    /// Any that fits.
    Random,
}

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    /// The cluster.
    pub nodes: &'a Nodes,
    /// The list of tasks that arrivals are drawn from.
    pub tasks: &'a Tasks,
    /// How places are chosen.
    pub policy: Policy,
    /// GPU asked for at the end, in parts of the capacity; 1 or more.
    pub ratio: f64,
}

/// What one seed gave.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// GPU with work when tasks had asked for all of the capacity, in percent of it.
    pub allocated_pct_at_100: f64,
    /// The same at the end of the arrivals.
    pub allocated_pct_at_end: f64,
    /// No policy can have more at that time: see `bound`.
    pub bound_pct_at_100: f64,
    /// The same at the end of the arrivals.
    pub bound_pct_at_end: f64,
    /// Tasks that arrived.
    pub num_tasks: usize,
    /// Tasks that fitted nowhere.
    pub num_failed: usize,
    /// How long each decision took.
    #[serde(skip)]
    pub decisions: Vec<Duration>,
}

/// Means and totals over seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// How places were chosen.
    pub policy: Policy,
    /// GPU asked for at the end, in parts of the capacity.
    pub ratio: f64,
    /// The seeds, in the order given.
    pub seeds: Vec<u64>,
    /// Mean GPU with work when tasks had asked for all of the capacity, in percent of it.
    pub allocated_pct_at_100: f64,
    /// The same at the end of the arrivals, when tasks had asked for `ratio` times the capacity.
    pub allocated_pct_at_end: f64,
    /// Mean of what no policy can exceed at 100%.
    pub upper_bound_pct_at_100: f64,
    /// The same at the end of the arrivals.
    pub upper_bound_pct_at_end: f64,
    /// Mean number of tasks that arrived.
    pub tasks: f64,
    /// Mean number of tasks that fitted nowhere.
    pub failed_tasks: f64,
    /// Median time of a decision, in microseconds.
    pub decision_us_p50: f64,
    /// 99th percentile of it.
    pub decision_us_p99: f64,
    /// Each seed by itself.
    pub outcomes: Vec<Outcome>,
}

impl Summary {
    /// Sums up what the seeds gave; `None` without any.
    #[must_use]
    pub fn of(policy: Policy, ratio: f64, outcomes: Vec<Outcome>) -> Option<Self> {
        if outcomes.is_empty() {
            return None;
        }
        let mean = |part: fn(&Outcome) -> f64| {
            #[expect(clippy::cast_precision_loss, reason = "seeds are few")]
            let count = outcomes.len() as f64;
            outcomes.iter().map(part).sum::<f64>() / count
        };
        let mut times: Vec<Duration> = outcomes.iter().flat_map(|o| o.decisions.iter().copied()).collect();
        times.sort_unstable();
        let percentile = |percent: usize| {
            let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
            times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e6)
        };
        #[expect(clippy::cast_precision_loss, reason = "tasks are far fewer than 2^52")]
        let summary = Self {
            policy,
            ratio,
            seeds: outcomes.iter().map(|outcome| outcome.seed).collect(),
            allocated_pct_at_100: mean(|o| o.allocated_pct_at_100),
            allocated_pct_at_end: mean(|o| o.allocated_pct_at_end),
            upper_bound_pct_at_100: mean(|o| o.bound_pct_at_100),
            upper_bound_pct_at_end: mean(|o| o.bound_pct_at_end),
            tasks: mean(|o| o.num_tasks as f64),
            failed_tasks: mean(|o| o.num_failed as f64),
            decision_us_p50: percentile(50),
            decision_us_p99: percentile(99),
            outcomes,
        };
        Some(summary)
    }
}

#[cfg(test)]
mod tests;
