// Single requests that were kept: the failed, the slow, and a sample of the rest.

import { h } from "../dom.js";
import { duration } from "../format.js";
import { choice, empty, moment, pipelineLink, state, table, whenLoaded } from "../parts.js";

/** @import { TracedRequest } from "api" */
/** @import { Context, Page } from "../app.js" */

const KEPT = ["failed", "slow", "sample"];

/**
 * @param {Context} context
 * @returns {Page}
 */
export function page(context) {
  const view = () => {
    const query = { pipeline: context.param("pipeline"), status: context.param("status"), limit: 100 };
    const found = context.queries.get("/api/requests", query, 3000);
    const pipelines = context.live.summary?.pipelines.map((one) => one.name) ?? [];
    return [
      h("h1", null, "Requests"),
      h(
        "div",
        { class: "fields" },
        choice("pipeline", query.pipeline, pipelines, (value) => context.setParam("pipeline", value)),
        choice("kept because", query.status, KEPT, (value) => context.setParam("status", value)),
      ),
      whenLoaded(found, "a record of single requests", ({ requests }) => list(requests)),
    ];
  };
  return { title: "Requests", view };
}

/** @param {TracedRequest[]} requests */
function list(requests) {
  if (requests.length === 0)
    return empty(
      "No request was kept. Requests are kept when they fail, when they are slow, and now and then as a sample.",
    );
  return table(
    "Requests that were kept",
    [
      {
        name: "request",
        cell: (/** @type {TracedRequest} */ one) =>
          h("a", { href: `/requests/${encodeURIComponent(one.request_id)}` }, h("code", null, one.request_id)),
      },
      { name: "at", cell: (one) => moment(one.at_ms) },
      { name: "pipeline", cell: (one) => pipelineLink(one.pipeline) },
      { name: "revision", kind: "number", cell: (one) => String(one.revision) },
      { name: "HTTP status", kind: "number", cell: (one) => String(one.status) },
      { name: "took", kind: "number", cell: (one) => duration(one.duration_ms) },
      { name: "kept because", cell: (one) => state(one.kept) },
    ],
    requests,
    (one) => one.request_id,
  );
}
