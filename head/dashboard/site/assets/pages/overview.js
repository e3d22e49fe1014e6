// The first page: whether the cluster is well, in one line, what its traffic is, and what changed lately.

import { chart, last } from "../charts.js";
import { decisionList, merged } from "../decisions.js";
import { h } from "../dom.js";
import { count, duration, percent, perSecond } from "../format.js";
import { memo } from "../memo.js";
import { empty, pipelineLink, prose, section, state, table, tile, whenLoaded } from "../parts.js";

/** @import { ClusterSummary, PipelineStatus, Series } from "api" */
/** @import { Context, Page } from "../app.js" */
/** @import { ChartData, Line } from "../charts.js" */

const MAX_LINES = 8;
const MAX_EVENTS = 12;
const FIRST_DEPLOY = "cluster deploy hello.toml";

/**
 * @param {Context} context
 * @returns {Page}
 */
export function page(context) {
  const chartData = memo(requestLines);
  const view = () => {
    const { summary } = context.live;
    if (!summary) return [h("h1", null, "Overview"), h("p", { class: "faint" }, "Loading …")];
    return [
      h("h1", null, "Overview"),
      h("p", { class: "health" }, state(summary.health.state), " ", prose(summary.health.sentence)),
      tiles(summary),
      section("Pipelines", pipelines(summary)),
      summary.pipelines.length > 0 &&
        section("Requests a second", traffic(context, chartData), h("span", { class: "faint" }, "last 10 minutes")),
      section("What changed lately", changes(context), h("a", { href: "/events" }, "all events")),
    ];
  };
  return { title: "Overview", view };
}

/** @param {ClusterSummary} summary */
function tiles(summary) {
  const ready = summary.nodes.filter((node) => node.state === "ready").length;
  return h(
    "dl",
    { class: "tiles" },
    tile("requests a second", perSecond(summary.requests_per_second)),
    tile("failed requests", percent(summary.failed_ratio)),
    tile("p50 latency", duration(summary.p50_ms)),
    tile("p99 latency", duration(summary.p99_ms)),
    tile("nodes ready", `${ready} of ${count(summary.nodes.length, "node")}`),
    tile("leading head", summary.leader, `epoch ${summary.epoch}`),
  );
}

/** @param {ClusterSummary} summary */
function pipelines(summary) {
  if (summary.pipelines.length === 0)
    return empty("Nothing is deployed yet. Deploy a pipeline's file, here or on a terminal:", FIRST_DEPLOY);
  const replicas = (/** @type {PipelineStatus} */ pipeline, /** @type {"ready_replicas" | "target_replicas"} */ key) =>
    pipeline.deployments.reduce((sum, deployment) => sum + deployment[key], 0);
  return table(
    "Pipelines and their requests of the last minute",
    [
      { name: "pipeline", cell: (/** @type {PipelineStatus} */ one) => pipelineLink(one.name) },
      { name: "state", cell: (one) => state(one.state) },
      {
        name: "revision",
        cell: (one) =>
          one.rollout
            ? h("a", { href: "/rollouts" }, `${one.rollout.baseline} → ${one.rollout.revision} (${one.rollout.mode})`)
            : String(one.serving_revision ?? one.revision),
      },
      { name: "requests", kind: "number", cell: (one) => perSecond(one.traffic.requests_per_second) },
      { name: "failed", kind: "number", cell: (one) => percent(one.traffic.failed_ratio) },
      { name: "p50", kind: "number", cell: (one) => duration(one.traffic.p50_ms) },
      { name: "p95", kind: "number", cell: (one) => duration(one.traffic.p95_ms) },
      {
        name: "ready replicas",
        kind: "number",
        cell: (one) => `${replicas(one, "ready_replicas")} of ${replicas(one, "target_replicas")}`,
      },
    ],
    summary.pipelines,
    (one) => one.name,
  );
}

/**
 * @param {Context} context
 * @param {(page: Series) => ChartData} chartData
 */
function traffic(context, chartData) {
  const values = { metric: "requests_per_second", since: "10m", step: "5s" };
  return whenLoaded(context.queries.get("/api/series", values, 5000), "series of requests", (found) => {
    const data = chartData(found);
    const summary = data.lines.map((line) => `${line.label}: ${perSecond(last(line))}`).join(", ");
    return chart("Requests a second, by pipeline", summary, data);
  });
}

/**
 * The busiest pipelines; the rest are in the table.
 * @param {Series} found
 * @returns {ChartData}
 */
function requestLines(found) {
  const busiest = found.series.toSorted((a, b) => (last(b) ?? 0) - (last(a) ?? 0)).slice(0, MAX_LINES);
  busiest.sort((a, b) => (a.pipeline ?? "").localeCompare(b.pipeline ?? ""));
  const lines = busiest.map(
    (series, index) =>
      /** @type {Line} */ ({
        label: series.pipeline ?? series.metric,
        unit: "requests/s",
        values: series.values,
        color: index + 1,
        scale: "requests",
      }),
  );
  return { startMs: found.start_unix_ms, stepMs: found.step_ms, lines };
}

/** @param {Context} context */
function changes(context) {
  const events = context.queries.get("/api/events", { limit: 50 }, 30_000);
  return whenLoaded(events, "a record of its decisions", (found) => {
    const all = merged(found.events, context.live.decisions).filter(
      (event) => event.kind !== "placed" && event.kind !== "retired",
    );
    return all.length > 0
      ? decisionList(all.slice(-MAX_EVENTS))
      : empty("Nothing has been decided since this head started.");
  });
}
