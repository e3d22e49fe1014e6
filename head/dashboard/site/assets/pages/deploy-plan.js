// What a deploy would do, before it is done: which replicas start and stop where, and what callers would lose.

import { h } from "../dom.js";
import { count } from "../format.js";
import { state, table } from "../parts.js";

/** @import { DeploymentPlan, DeployPlan, PlannedReplica } from "api" */

/** @type {Record<DeploymentPlan["change"], string>} */
const CHANGES = {
  new: "new",
  replaced: "gets new replicas",
  in_place: "goes on with new settings",
  unchanged: "unchanged",
  removed: "goes",
};

/** @param {DeployPlan[]} plans */
export function planView(plans) {
  return plans.map((plan) =>
    h(
      "article",
      { key: plan.pipeline, class: "card plan", "aria-label": `Plan for ${plan.pipeline}` },
      h(
        "h2",
        null,
        plan.changed
          ? `${plan.pipeline} becomes revision ${plan.revision}`
          : `${plan.pipeline} is this already, as revision ${plan.revision}`,
      ),
      plan.breaking.length > 0 &&
        h(
          "div",
          { class: "fault" },
          h("p", null, "Callers lose something:"),
          h(
            "ul",
            null,
            plan.breaking.map((text) => h("li", { key: text }, text)),
          ),
        ),
      plan.captures != null && h("p", null, `Captures ${plan.captures}.`),
      plan.deployments.length > 0 &&
        table(
          `Deployments of ${plan.pipeline}`,
          [
            { name: "deployment", cell: (/** @type {DeploymentPlan} */ one) => one.full_name },
            { name: "what becomes of it", cell: (one) => state(one.change, CHANGES[one.change]) },
            { name: "start", cell: (one) => byNode(one.starts) },
            { name: "stop", cell: (one) => byNode(one.stops) },
            { name: "go on", cell: (one) => byNode(one.updates) },
            { name: "without a place", kind: "text", cell: (one) => one.pending.join("; ") || "–" },
          ],
          plan.deployments,
          (one) => one.full_name,
        ),
      plan.is_cut_off &&
        h("p", { class: "faint" }, "The cluster is too large for the whole plan: there is more than this shows."),
    ),
  );
}

/** @param {PlannedReplica[]} replicas */
function byNode(replicas) {
  if (replicas.length === 0) return "–";
  const nodes = Map.groupBy(replicas, (replica) => replica.node);
  return [...nodes].map(([node, list]) => `${count(list.length, "replica")} on ${node}`).join(", ");
}
