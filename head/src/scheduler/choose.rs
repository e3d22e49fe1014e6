//! Which of the nodes that can take a replica gets it. The lowest score wins; what the score weighs, and in which
//! order, is all there is to a policy, so a better one replaces [`score`] alone.

use std::cmp::Reverse;

use super::fit::{Mode, try_fit};
use super::{Node, Request, Share, Strategy};

/// The best node's index and the device parts there; `None` when no node can take the request.
pub(super) fn best(nodes: &[Node], request: &Request) -> Option<(usize, Vec<Share>)> {
    Mode::accepted(request).iter().find_map(|&mode| {
        nodes
            .iter()
            .enumerate()
            .filter_map(|(index, node)| Some((index, node, try_fit(node, request, mode)?)))
            .min_by_key(|(index, node, gpus)| (score(node, request, gpus), *index))
            .map(|(index, _, gpus)| (index, gpus))
    })
}

/// Lower is better, the first part that differs decides.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    /// Spread: replicas of this deployment on the node.
    like: u32,
    /// Pack: an idle node is used last.
    idle: bool,
    /// What stays free on the devices that are used, then on all of them: GPU work fills, other work keeps away.
    free_gpu: (u32, u32),
    /// Spread: replicas of all deployments.
    crowd: u32,
    /// Spread: most free cores first.
    room: Reverse<u64>,
    /// Pack: fewest free cores first.
    left_over: u64,
}

fn score(node: &Node, request: &Request, gpus: &[Share]) -> Score {
    let all_free: u32 = node.devices.iter().map(|device| device.free_milli).sum();
    let used = |index: u32| gpus.iter().any(|share| share.index == index);
    let used_free: u32 =
        node.devices.iter().filter(|device| used(device.index)).map(|device| device.free_milli).sum();
    let like = node.replicas.get(&request.deployment).copied().unwrap_or(0);
    match request.strategy {
        Strategy::Spread => Score {
            like,
            idle: false,
            free_gpu: (used_free, all_free),
            crowd: node.num_replicas(),
            room: Reverse(node.free_cpu_milli),
            left_over: 0,
        },
        Strategy::Pack => Score {
            like: 0,
            idle: node.replicas.is_empty(),
            free_gpu: (used_free, all_free),
            crowd: 0,
            room: Reverse(0),
            left_over: node.free_cpu_milli,
        },
    }
}
