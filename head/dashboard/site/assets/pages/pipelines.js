// All pipelines, with the numbers by which one finds the one to look into.

import { h } from "../dom.js";
import { count, duration, percent, perSecond } from "../format.js";
import { empty, pipelineLink, state, table } from "../parts.js";

/** @import { PipelineStatus } from "api" */
/** @import { Context, Page } from "../app.js" */

/**
 * @param {Context} context
 * @returns {Page}
 */
export function page(context) {
  const view = () => {
    const { summary } = context.live;
    return [h("h1", null, "Pipelines"), summary ? list(summary.pipelines) : h("p", { class: "faint" }, "Loading …")];
  };
  return { title: "Pipelines", view };
}

/** @param {PipelineStatus[]} pipelines */
function list(pipelines) {
  if (pipelines.length === 0)
    return empty(
      "Nothing is deployed yet. Deploy a pipeline's file, here or on a terminal:",
      "cluster deploy hello.toml",
    );
  const sum = (/** @type {PipelineStatus} */ one, /** @type {"ongoing" | "queued"} */ key) =>
    one.deployments.reduce((total, deployment) => total + deployment[key], 0);
  return table(
    "Pipelines",
    [
      { name: "pipeline", cell: (/** @type {PipelineStatus} */ one) => pipelineLink(one.name) },
      { name: "state", cell: (one) => state(one.state) },
      { name: "route", cell: (one) => h("code", null, one.route ?? "–") },
      { name: "revision", cell: (one) => String(one.serving_revision ?? one.revision) },
      { name: "requests", kind: "number", cell: (one) => perSecond(one.traffic.requests_per_second) },
      { name: "failed", kind: "number", cell: (one) => percent(one.traffic.failed_ratio) },
      { name: "p50", kind: "number", cell: (one) => duration(one.traffic.p50_ms) },
      { name: "p95", kind: "number", cell: (one) => duration(one.traffic.p95_ms) },
      { name: "at replicas", kind: "number", cell: (one) => count(sum(one, "ongoing"), "request") },
      { name: "waiting", kind: "number", cell: (one) => count(sum(one, "queued"), "request") },
    ],
    pipelines,
    (one) => one.name,
  );
}
