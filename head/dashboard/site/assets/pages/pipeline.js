// One pipeline: its stages drawn with what each does now, its deployments and their bounds, and its text.

import { path, send } from "../api.js";
import { confirm } from "../confirm.js";
import { h } from "../dom.js";
import { count, duration, percent, perSecond } from "../format.js";
import { button, empty, fileName, missing, moment, scalingLink, section, state, table, whenLoaded } from "../parts.js";
import { drawing } from "./pipeline-drawing.js";
import { range } from "./scaling.js";

/** @import { DeploymentStatus, GraphStage, PipelineStatus, StageTraffic } from "api" */
/** @import { Context, Page } from "../app.js" */

/**
 * @param {Context} context
 * @param {string} name
 * @returns {Page}
 */
export function page(context, name) {
  const view = () => {
    const { summary } = context.live;
    if (!summary) return [h("h1", null, name), h("p", { class: "faint" }, "Loading …")];
    const pipeline = summary.pipelines.find((one) => one.name === name);
    if (!pipeline)
      return [
        h("h1", null, name),
        empty(
          "This pipeline is not deployed. To bring back one that was deleted within the last hour:",
          `cluster rollout undo ${name}`,
        ),
      ];
    return [
      h(
        "div",
        { class: "heading" },
        h("h1", null, name),
        state(pipeline.state),
        context.isAdmin && button("Delete", () => void remove(context, name), { class: "danger quiet" }),
      ),
      facts(pipeline),
      pipeline.mismatch && h("pre", { class: "fault" }, pipeline.mismatch),
      section("Stages", stages(context, pipeline)),
      section("Deployments", deployments(pipeline)),
      section("File", text(context, pipeline)),
    ];
  };
  return { title: name, view };
}

/** @param {PipelineStatus} one */
function facts(one) {
  return h(
    "p",
    null,
    one.route ? [h("code", null, `POST ${one.route}`), " · "] : "no route of its own · ",
    `revision ${one.serving_revision ?? one.revision}, deployed `,
    moment(one.deployed_at_ms),
    " · ",
    `requests ${perSecond(one.traffic.requests_per_second)}, failed ${percent(one.traffic.failed_ratio)}, p50 ${duration(one.traffic.p50_ms)}, p95 ${duration(one.traffic.p95_ms)}`,
    one.rollout && [
      " · ",
      h("a", { href: "/rollouts" }, `revision ${one.rollout.revision} takes over (${one.rollout.phase})`),
    ],
  );
}

/**
 * @param {Context} context
 * @param {PipelineStatus} pipeline
 */
function stages(context, pipeline) {
  const { name } = pipeline;
  const graph = context.queries.get("/api/pipelines/{name}/graph", { name }, 15_000);
  const traffic = context.queries.get("/api/pipelines/{name}/stages", { name }, 2000);
  return whenLoaded(graph, "a drawing of the stages", (found) => {
    const rows = found.stages.map((stage) => row(stage, pipeline, traffic.data));
    return [
      drawing(found, rows),
      traffic.state === "absent" &&
        h(
          "p",
          { class: "faint" },
          "This head does not measure stages: rate, latency and hidden errors of a stage are not known.",
        ),
      stageTable(rows, pipeline.traffic.failed_ratio * pipeline.traffic.requests_per_second),
    ];
  });
}

/**
 * A stage with all that is known of it now.
 * @typedef {object} StageRow
 * @property {GraphStage} stage
 * @property {DeploymentStatus | undefined} deployment
 * @property {StageTraffic | undefined} traffic
 * @property {boolean} isSlowest
 */

/**
 * @param {GraphStage} stage
 * @param {PipelineStatus} pipeline
 * @param {StageTraffic[] | undefined} traffic
 * @returns {StageRow}
 */
function row(stage, pipeline, traffic) {
  const measured = (traffic ?? []).map((one) => one.p50_ms ?? 0);
  const slowest = Math.max(0, ...measured);
  const own = traffic?.find((one) => one.stage === stage.name);
  return {
    stage,
    deployment: pipeline.deployments.find((one) => one.full_name === stage.deployment),
    traffic: own,
    // Of one stage there is nothing to say.
    isSlowest: measured.length > 1 && slowest > 0 && own?.p50_ms === slowest,
  };
}

/**
 * @param {StageRow[]} rows
 * @param {number} failedRequests  a second; what failed beyond that was hidden from clients
 */
function stageTable(rows, failedRequests) {
  return table(
    "Stages: calls of the last minute",
    [
      {
        name: "stage",
        cell: (/** @type {StageRow} */ { stage, isSlowest }) => [
          stage.name,
          isSlowest && h("strong", { class: "tag" }, "slowest"),
        ],
      },
      {
        name: "runs",
        cell: ({ stage }) => [
          stage.deployment ? scalingLink(stage.deployment) : h("code", null, `op:${stage.operator ?? ""}`),
          stage.on_error && h("div", { class: "faint" }, onError(stage.on_error)),
        ],
      },
      { name: "calls", kind: "number", cell: ({ traffic }) => perSecond(traffic?.calls_per_second) },
      { name: "p50", kind: "number", cell: ({ traffic }) => duration(traffic?.p50_ms) },
      { name: "p99", kind: "number", cell: ({ traffic }) => duration(traffic?.p99_ms) },
      {
        name: "at replicas",
        kind: "number",
        cell: ({ deployment }) => (deployment ? count(deployment.ongoing, "request") : "–"),
      },
      {
        name: "waiting",
        kind: "number",
        cell: ({ deployment }) => (deployment ? count(deployment.queued, "request") : "–"),
      },
      {
        name: "ready replicas",
        kind: "number",
        cell: ({ deployment }) => (deployment ? `${deployment.ready_replicas} of ${deployment.target_replicas}` : "–"),
      },
      { name: "failed calls", kind: "number", cell: ({ traffic }) => perSecond(traffic?.failed_per_second) },
      {
        name: "hidden errors",
        kind: "number",
        cell: ({ traffic }) => (traffic ? perSecond(Math.max(0, traffic.failed_per_second - failedRequests)) : "–"),
      },
    ],
    rows,
    ({ stage }) => stage.name,
  );
}

/** @param {string} rule */
function onError(rule) {
  return rule === "skip" ? "if it fails, goes on without it" : `if it fails, uses ${rule.replace("use:", "")}`;
}

/** @param {PipelineStatus} pipeline */
function deployments(pipeline) {
  if (pipeline.deployments.length === 0) return empty("This pipeline has no deployment of its own.");
  return table(
    "Deployments",
    [
      { name: "deployment", cell: (/** @type {DeploymentStatus} */ one) => scalingLink(one.full_name) },
      { name: "model", cell: (one) => one.model ?? "none" },
      { name: "ready replicas", kind: "number", cell: (one) => `${one.ready_replicas} of ${one.target_replicas}` },
      { name: "range", cell: (one) => range(one) },
      { name: "replicas by state", cell: (one) => byState(one, pipeline) },
    ],
    pipeline.deployments,
    (one) => one.full_name,
  );
}

/**
 * @param {DeploymentStatus} one
 * @param {PipelineStatus} pipeline
 */
function byState(one, pipeline) {
  const link = (/** @type {string} */ word, /** @type {string} */ text, /** @type {string} */ href) =>
    h("a", { key: word, class: "with-gap", href }, state(word, text));
  const counts = Object.entries(one.replica_counts).filter(([, amount]) => amount > 0);
  return [
    counts.map(([word, amount]) => {
      // "Ready of target" counts the new revision alone.
      const isOfBoth = word === "ready" && pipeline.rollout && one.ready_replicas > 0 && amount > one.ready_replicas;
      return link(
        word,
        `${amount} ${word}${isOfBoth ? ", of both revisions" : ""}`,
        path("/cluster", { deployment: one.full_name, state: word }),
      );
    }),
    one.pending.length > 0 && link("pending", `${missing(one)} without a place`, "/cluster"),
    counts.length === 0 && one.pending.length === 0 && "–",
  ];
}

/**
 * @param {Context} context
 * @param {PipelineStatus} pipeline
 */
function text(context, pipeline) {
  return whenLoaded(
    context.queries.get("/api/pipelines/{name}", { name: pipeline.name }, 15_000),
    "the pipeline's file",
    (found) =>
      h(
        "details",
        null,
        h(
          "summary",
          { title: found.file_name },
          `${fileName(found.file_name)}, revision ${found.revision}`,
          found.revision === pipeline.rollout?.revision && ", which takes over",
        ),
        h("pre", { class: "source", tabindex: "0", role: "group", "aria-label": found.file_name }, found.source),
      ),
  );
}

/**
 * @param {Context} context
 * @param {string} name
 */
async function remove(context, name) {
  const question = {
    title: `Delete pipeline ${name}?`,
    text: "Its replicas stop and its route ends. `cluster rollout undo` brings it back within an hour.",
    action: "Delete",
  };
  if (await confirm(question))
    await context.act(`Pipeline ${name} was deleted.`, () => send("DELETE /api/pipelines/{name}", { name }));
}
