//! Which of the nodes that can take a replica gets it. The lowest score wins; what the score weighs, and in which
//! order, is all there is to a policy.

use std::cmp::Reverse;

use super::{Request, Strategy};

/// A node that a replica fits, with what there is to weigh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// How much the GPU grows that the workload could not use, and what others could use alone; in fixed point.
    pub growth: i64,
    /// Replicas of the deployment there.
    pub num_like: u32,
    /// Replicas of all deployments there.
    pub num_replicas: u32,
    /// What stays free on the devices that it takes, in thousandths.
    pub left_on_devices_milli: u32,
    /// What is free on all its devices before.
    pub free_gpu_milli: u64,
    /// Cores that are free before.
    pub free_cpu_milli: u64,
}

/// Lower is better, the first part that differs decides.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Score {
    /// Spread: replicas of this deployment on the node.
    like: u32,
    /// How much the GPU grows that the workload could not use.
    growth: i64,
    /// Pack: an idle node is used last.
    idle: bool,
    /// What stays free on the devices that are used, then all that is free: GPU work fills, other work keeps away.
    free_gpu: (u32, u64),
    /// Spread: replicas of all deployments.
    crowd: u32,
    /// Spread: most free cores first.
    room: Reverse<u64>,
    /// Pack: fewest free cores first.
    left_over: u64,
}

pub(super) fn score(request: &Request, candidate: &Candidate) -> Score {
    let base = Score {
        like: 0,
        growth: candidate.growth,
        idle: false,
        free_gpu: (candidate.left_on_devices_milli, candidate.free_gpu_milli),
        crowd: 0,
        room: Reverse(0),
        left_over: 0,
    };
    match request.strategy {
        Strategy::Spread => Score {
            like: candidate.num_like,
            crowd: candidate.num_replicas,
            room: Reverse(candidate.free_cpu_milli),
            ..base
        },
        Strategy::Pack => {
            Score { idle: candidate.num_replicas == 0, left_over: candidate.free_cpu_milli, ..base }
        }
    }
}
