// Machines: what each node and device has, who holds which part, what finds no room, and what would.

import { send } from "../api.js";
import { confirm } from "../confirm.js";
import { h } from "../dom.js";
import { ago, bytes, cores, count, percent } from "../format.js";
import { button, empty, missing, prose, section, state, table, whenLoaded, scalingLink } from "../parts.js";
import { replicaSection } from "./cluster-replicas.js";
import { whatWouldFit } from "./cluster-fit.js";

/** @import { ClusterSummary, DeploymentStatus, GpuStatus, IngressStatus, NodeStatus } from "api" */
/** @import { Context, Page } from "../app.js" */

/** More nodes than this are shown a part at a time. */
const NODES_AT_ONCE = 12;

/**
 * @param {Context} context
 * @returns {Page}
 */
export function page(context) {
  const replicas = replicaSection(context);
  const fit = whatWouldFit(context);
  const view = () => {
    const { summary } = context.live;
    if (!summary) return [h("h1", null, "Cluster"), h("p", { class: "faint" }, "Loading …")];
    return [
      h("h1", null, "Cluster"),
      section("Nodes", nodes(context, summary), h("span", { class: "faint" }, "booked, not enforced")),
      section("Pending demands", pending(summary)),
      section("What would fit", fit(summary)),
      section("Replicas", replicas(summary)),
      section("Ingresses", ingresses(summary)),
      section("Moves that would free whole GPUs", defrag(context)),
    ];
  };
  return { title: "Cluster", view };
}

/**
 * @param {Context} context
 * @param {ClusterSummary} summary
 */
function nodes(context, summary) {
  if (summary.nodes.length === 0)
    return empty(
      "No worker has joined yet. Start one on another machine:",
      "cluster up --join HEAD:7400 --token-file join.token --node-name two",
    );
  const from = Math.min(Number(context.param("from")) || 0, summary.nodes.length - 1);
  const shown = summary.nodes.slice(from, from + NODES_AT_ONCE);
  const largest = Math.max(1, ...summary.nodes.flatMap((node) => node.gpus.map((gpu) => gpu.memory_bytes)));
  return [
    h(
      "p",
      { class: "faint" },
      "Replicas book cores, memory and parts of devices. Booking is bookkeeping: a replica that uses more than it booked is not stopped. The width of a device is its memory.",
    ),
    h(
      "ul",
      { class: "nodes" },
      shown.map((node) => nodeCard(context, node, largest)),
    ),
    summary.nodes.length > NODES_AT_ONCE && pager(context, from, summary.nodes.length),
  ];
}

/**
 * @param {Context} context
 * @param {number} from
 * @param {number} total
 */
function pager(context, from, total) {
  const to = (/** @type {number} */ start) => () => context.setParam("from", start > 0 ? String(start) : "");
  return h(
    "p",
    { class: "pager" },
    button("Previous", to(from - NODES_AT_ONCE), { disabled: from === 0 }),
    ` nodes ${from + 1} to ${Math.min(from + NODES_AT_ONCE, total)} of ${total} `,
    button("Next", to(from + NODES_AT_ONCE), { disabled: from + NODES_AT_ONCE >= total }),
  );
}

/**
 * @param {Context} context
 * @param {NodeStatus} node
 * @param {number} largest
 */
function nodeCard(context, node, largest) {
  const isGone = node.state === "unreachable" || node.state === "left";
  const labels = Object.entries(node.labels).map(([name, value]) => `${name}=${value}`);
  return h(
    "li",
    { class: "node", key: node.name },
    h(
      "div",
      { class: "heading" },
      h("h3", null, node.name),
      state(node.state),
      context.isAdmin && actions(context, node, isGone),
    ),
    h(
      "p",
      { class: "faint" },
      [`${node.address}, pid ${node.pid}`, ...labels, isGone && `last heard ${ago(Date.now() - node.last_seen_ms_ago)}`]
        .filter(Boolean)
        .join(" · "),
    ),
    meter("cores booked", node.cpu_milli - node.free_cpu_milli, node.cpu_milli, cores),
    meter("memory booked", node.memory_bytes - node.free_memory_bytes, node.memory_bytes, bytes),
    node.gpus.length === 0
      ? h("p", { class: "faint" }, "no GPU")
      : h(
          "ul",
          { class: "devices" },
          node.gpus.map((gpu) => device(gpu, largest)),
        ),
  );
}

/**
 * @param {string} name
 * @param {number} used
 * @param {number} all
 * @param {(value: number) => string} format
 */
function meter(name, used, all, format) {
  const ratio = all > 0 ? used / all : 0;
  return h(
    "div",
    { class: "meter" },
    h("span", null, name),
    h("span", { class: "amount" }, `${format(used)} of ${format(all)}, ${percent(ratio)}`),
    h(
      "div",
      { class: "track", "aria-hidden": "true" },
      h("div", { class: "fill", style: { width: `${ratio * 100}%` } }),
    ),
  );
}

/**
 * A device, as wide as its memory is, with the parts that are held.
 * @param {GpuStatus} gpu
 * @param {number} largest
 */
function device(gpu, largest) {
  const holders = gpu.holders.map((holder) => ({
    ...holder,
    text: `${holder.deployment}: ${percent(holder.share)}, ${count(holder.replicas, "replica")}`,
  }));
  return h(
    "li",
    { key: gpu.index },
    h(
      "span",
      { class: "device-name" },
      `GPU ${gpu.index} · ${gpu.model} · ${bytes(gpu.memory_bytes)} · ${percent(gpu.booked_share)} booked`,
    ),
    h(
      "div",
      { class: "device", "aria-hidden": "true", style: { width: `${(gpu.memory_bytes / largest) * 100}%` } },
      holders.map((holder) =>
        h(
          "span",
          {
            key: holder.deployment,
            class: `part ${hue(holder.deployment)}`,
            title: holder.text,
            style: { width: `${holder.share * 100}%` },
          },
          holder.deployment,
        ),
      ),
    ),
    h(
      "ul",
      { class: "holders" },
      holders.map((holder) =>
        h(
          "li",
          { key: holder.deployment },
          h("i", { class: `swatch ${hue(holder.deployment)}` }),
          scalingLink(holder.deployment),
          holder.text.slice(holder.deployment.length),
        ),
      ),
      h("li", { key: "" }, `free: ${percent(gpu.free_share)}`),
    ),
  );
}

/** The same colour for the same deployment everywhere. @param {string} name */
function hue(name) {
  let sum = 7;
  for (const letter of name) sum = (sum * 31 + letter.charCodeAt(0)) % 65_521;
  return `hue-${(sum % 8) + 1}`;
}

/** @param {ClusterSummary} summary */
function pending(summary) {
  const waiting = summary.pipelines.flatMap((pipeline) => pipeline.deployments).filter((one) => one.pending.length > 0);
  if (waiting.length === 0) return h("p", { class: "faint" }, "Every wanted replica has a place.");
  return table(
    "Deployments with replicas that fit nowhere",
    [
      { name: "deployment", cell: (/** @type {DeploymentStatus} */ one) => scalingLink(one.full_name) },
      { name: "without a place", kind: "number", cell: (one) => count(missing(one), "replica") },
      {
        name: "why",
        kind: "text",
        cell: (one) =>
          h(
            "ul",
            { class: "plain" },
            one.pending.map((reason) => h("li", { key: reason }, prose(reason))),
          ),
      },
    ],
    waiting,
    (one) => one.full_name,
  );
}

/** @param {ClusterSummary} summary */
function ingresses(summary) {
  if (summary.ingresses.length === 0)
    return empty(
      "No ingress is connected, so no request can be answered. Start one:",
      "cluster up --join HEAD:7400 --roles ingress",
    );
  return table(
    "Ingresses",
    [
      { name: "ingress", cell: (/** @type {IngressStatus} */ one) => one.name },
      { name: "address", cell: (one) => `${one.scheme ?? "http"}://${one.address}` },
      {
        name: "accepted risks",
        cell: (one) => (one.accepted_risks ?? []).map((risk) => risk.replace("_", " ")).join(", ") || "none",
      },
      {
        name: "route table confirmed",
        cell: (one) => (one.routes_version ? `number ${one.routes_version}` : "none yet"),
      },
    ],
    summary.ingresses,
    (one) => `${one.name} ${one.address}`,
  );
}

/** @param {Context} context */
function defrag(context) {
  return whenLoaded(context.queries.get("/api/defrag", {}, 30_000), "a plan of such moves", (found) => {
    if (found.moves.length === 0) return h("p", { class: "faint" }, "No move would free a whole GPU.");
    return [
      h(
        "p",
        null,
        `${count(found.moves.length, "move")} would free ${found.freed.map((one) => `GPU ${one.index} of ${one.node}`).join(", ")}.`,
      ),
      table(
        "Moves, to be made in this order",
        [
          { name: "replica", cell: (move) => move.replica },
          { name: "deployment", cell: (move) => scalingLink(move.deployment) },
          { name: "share", kind: "number", cell: (move) => percent(move.share) },
          { name: "from", cell: (move) => `${move.from.node}, GPU ${move.from.index}` },
          { name: "to", cell: (move) => `${move.to.node}, GPU ${move.to.index}` },
        ],
        found.moves,
        (move) => move.replica,
      ),
    ];
  });
}

/**
 * What can be done about a node.
 * @param {Context} context
 * @param {NodeStatus} node
 * @param {boolean} isGone
 */
function actions(context, { name, state: now }, isGone) {
  const quiet = { class: "quiet" };
  if (isGone) return button("Remove", () => void remove(context, name), quiet);
  const isKept = now === "cordoned" || now === "draining";
  return [
    now !== "draining" && button("Drain", () => void drain(context, name), quiet),
    now === "ready" && button("Cordon", () => void cordon(context, name), quiet),
    isKept && button("Uncordon", () => void uncordon(context, name), quiet),
  ];
}

/**
 * @param {Context} context
 * @param {string} name
 */
async function drain(context, name) {
  const question = {
    title: `Drain node ${name}?`,
    text: "What runs there moves to other nodes: each replica stops once another is ready in its place. The node gets nothing new until it is uncordoned.",
    action: "Drain",
  };
  if (await confirm(question))
    await context.act(`Node ${name} is being drained.`, () => send("POST /api/nodes/{name}/drain", { name }));
}

/**
 * @param {Context} context
 * @param {string} name
 */
async function cordon(context, name) {
  await context.act(`Node ${name} gets nothing new.`, () => send("POST /api/nodes/{name}/cordon", { name }));
}

/**
 * @param {Context} context
 * @param {string} name
 */
async function uncordon(context, name) {
  await context.act(`Node ${name} takes replicas again.`, () => send("POST /api/nodes/{name}/uncordon", { name }));
}

/**
 * @param {Context} context
 * @param {string} name
 */
async function remove(context, name) {
  const question = {
    title: `Remove node ${name}?`,
    text: "The head forgets the node. If its worker comes back, it joins anew.",
    action: "Remove",
  };
  if (await confirm(question))
    await context.act(`Node ${name} was removed.`, () => send("DELETE /api/nodes/{name}", { name }));
}
