// How many replicas of a given size would find room now, from what nodes have free. Plain functions on plain data.

/** @import { NodeStatus } from "api" */

/**
 * What one replica needs.
 * @typedef {object} Demand
 * @property {number} cores
 * @property {number} memoryBytes
 * @property {number} gpus  a part of one device below 1, whole devices from 1 on
 */

/**
 * @typedef {object} Fit
 * @property {string} node
 * @property {number} replicas
 * @property {string} limit  what runs out first
 */

/** Shares are booked in thousandths, so sums of them are exact only as whole numbers. */
const UNITS = 1000;

/**
 * Room on each node that takes replicas, most room first.
 * @param {NodeStatus[]} nodes
 * @param {Demand} demand
 * @returns {Fit[]}
 */
export function fits(nodes, demand) {
  return nodes
    .filter((node) => node.state === "ready")
    .map((node) => fitOn(node, demand))
    .sort((a, b) => b.replicas - a.replicas || a.node.localeCompare(b.node));
}

/**
 * @param {NodeStatus} node
 * @param {Demand} demand
 * @returns {Fit}
 */
function fitOn(node, demand) {
  /** @type {[string, number][]} */
  const limits = [
    ["cores", demand.cores > 0 ? Math.floor(node.free_cpu_milli / Math.round(demand.cores * UNITS)) : Infinity],
    ["memory", demand.memoryBytes > 0 ? Math.floor(node.free_memory_bytes / demand.memoryBytes) : Infinity],
    ["GPUs", demand.gpus > 0 ? onGpus(node, Math.round(demand.gpus * UNITS)) : Infinity],
  ];
  const [limit, replicas] = limits.reduce((least, one) => (one[1] < least[1] ? one : least));
  return { node: node.name, replicas: Number.isFinite(replicas) ? replicas : 0, limit };
}

/**
 * @param {NodeStatus} node
 * @param {number} units
 */
function onGpus(node, units) {
  const free = node.gpus.map((gpu) => Math.round(gpu.free_share * UNITS));
  if (units < UNITS) return free.reduce((sum, share) => sum + Math.floor(share / units), 0);
  return Math.floor(free.filter((share) => share === UNITS).length / Math.ceil(units / UNITS));
}
