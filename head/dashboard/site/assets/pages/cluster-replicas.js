// The replicas of the cluster, any number of them: only those in view are fetched and drawn.

import { h } from "../dom.js";
import { count, duration } from "../format.js";
import { choice, empty, state, whenLoaded } from "../parts.js";
import { pagesNeeded, virtualList } from "../virtual-list.js";

/** @import { ClusterSummary, ReplicaView } from "api" */
/** @import { Context } from "../app.js" */
/** @import { Loaded } from "../queries.js" */

const STATES = ["starting", "ready", "draining", "failed", "stopped"];
const EVERY_MS = 2000;

/** @param {Context} context */
export function replicaSection(context) {
  const scroll = { top: 0 };
  /** What is known of the length until the next answer: a list that collapses while it loads loses its place. */
  let total = 0;
  const filter = (/** @type {string} */ name, /** @type {string[]} */ options) =>
    choice(name, context.param(name), options, (value) => context.setParam(name, value));
  return (/** @type {ClusterSummary} */ summary) => {
    const query = {
      deployment: context.param("deployment"),
      node: context.param("node"),
      state: context.param("state"),
    };
    const { offsets, limit } = pagesNeeded(scroll, total);
    const pages = new Map(
      offsets.map((offset) => [offset, context.queries.get("/api/replicas", { ...query, offset, limit }, EVERY_MS)]),
    );
    /** @type {Loaded<unknown> | undefined} */
    const first = pages.get(offsets[0]);
    total = [...pages.values()].find((one) => one.data)?.data?.total ?? total;
    const at = (/** @type {number} */ index) =>
      pages.get(Math.floor(index / limit) * limit)?.data?.replicas[index % limit];
    const deployments = summary.pipelines.flatMap((pipeline) => pipeline.deployments.map((one) => one.full_name));
    return [
      h(
        "div",
        { class: "fields" },
        filter("deployment", deployments),
        filter(
          "node",
          summary.nodes.map((node) => node.name),
        ),
        filter("state", STATES),
        h("p", { class: "amount" }, count(total, "replica")),
      ),
      whenLoaded(
        first && !(total > 0 && first.state === "loading") ? first : { state: "ready", data: total },
        "a list of replicas",
        () =>
          total === 0
            ? empty("No replica is like this.")
            : virtualList({ label: "Replicas", total, columns: COLUMNS, at, scroll, redraw: context.redraw }),
      ),
    ];
  };
}

/** @type {import("../virtual-list.js").ListColumn<ReplicaView>[]} */
const COLUMNS = [
  { name: "replica", cell: (one) => one.id },
  { name: "state", cell: (one) => state(one.state) },
  { name: "node", cell: (one) => one.node },
  { name: "revision", cell: (one) => String(one.revision) },
  { name: "ongoing", cell: (one) => count(one.ongoing, "request") },
  { name: "age", cell: (one) => duration(one.age_ms) },
  { name: "restarts", cell: (one) => count(one.restarts, "restart") },
  { name: "error or what it does", cell: (one) => said(one) },
];

/** @param {ReplicaView} one */
function said(one) {
  const text = one.error || one.doing || (one.last_error ? `ended before: ${one.last_error}` : "");
  return h("span", { title: text }, text || "–");
}
