// All deployments: how many replicas each has, wants and may have, and why the number changed last.

import { merged, sentence } from "../decisions.js";
import { h } from "../dom.js";
import { count, number } from "../format.js";
import { memo } from "../memo.js";
import { empty, missing, moment, prose, scalingLink, state, table } from "../parts.js";

/** @import { DeploymentStatus, EventView } from "api" */
/** @import { Context, Page } from "../app.js" */

/**
 * @param {Context} context
 * @returns {Page}
 */
export function page(context) {
  const lastOf = memo(lastScaled);
  const view = () => {
    const { summary, decisions } = context.live;
    if (!summary) return [h("h1", null, "Scaling"), h("p", { class: "faint" }, "Loading …")];
    const deployments = summary.pipelines.flatMap((pipeline) => pipeline.deployments);
    if (deployments.length === 0)
      return [
        h("h1", null, "Scaling"),
        empty("Nothing is deployed yet. Deploy a pipeline's file, here or on a terminal:", "cluster deploy hello.toml"),
      ];
    const events = context.queries.get("/api/events", { limit: 500 }, 30_000);
    return [h("h1", null, "Scaling"), list(deployments, lastOf(events.data?.events, decisions))];
  };
  return { title: "Scaling", view };
}

/**
 * The newest `scaled` decision of each deployment.
 * @param {EventView[] | undefined} fetched
 * @param {EventView[]} live
 */
function lastScaled(fetched, live) {
  const scaled = merged(fetched ?? [], live).filter((event) => event.kind === "scaled");
  return new Map(scaled.map((event) => [event.subject, event]));
}

/**
 * @param {DeploymentStatus[]} deployments
 * @param {Map<string, EventView>} last
 */
function list(deployments, last) {
  return table(
    "Deployments and their numbers of replicas",
    [
      { name: "deployment", cell: (/** @type {DeploymentStatus} */ one) => scalingLink(one.full_name) },
      { name: "ready", kind: "number", cell: (one) => count(one.ready_replicas, "replica") },
      { name: "target", kind: "number", cell: (one) => count(one.target_replicas, "replica") },
      { name: "desired now", kind: "number", cell: (one) => count(one.desired_replicas, "replica") },
      { name: "range", cell: (one) => range(one) },
      { name: "ongoing", kind: "number", cell: (one) => count(one.ongoing + one.queued, "request") },
      { name: "aims at", kind: "number", cell: (one) => `${number(one.target_ongoing_requests)} a replica` },
      { name: "why it changed last", kind: "text", cell: (one) => [waiting(one), why(last.get(one.full_name))] },
    ],
    deployments,
    (one) => one.full_name,
  );
}

/** @param {DeploymentStatus} one */
export function range(one) {
  const hand = one.bounds_by_hand ? ", set by hand" : "";
  return one.min_replicas === one.max_replicas
    ? `fixed at ${one.min_replicas}${hand}`
    : `${one.min_replicas} to ${one.max_replicas}${hand}`;
}

/** Why there are fewer than the target. @param {DeploymentStatus} one */
function waiting(one) {
  if (one.pending.length === 0) return null;
  return h("div", null, h("a", { href: "/cluster" }, state("pending", `${missing(one)} without a place`)));
}

/** @param {EventView | undefined} event */
function why(event) {
  return event ? [moment(event.at_ms), " ", prose(sentence(event))] : "It has not changed.";
}
