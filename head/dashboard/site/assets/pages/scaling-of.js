// Why one deployment has as many replicas as it has: its curves, each decision as a mark on them, and what other settings
// would have done.

import { send } from "../api.js";
import { chart, last } from "../charts.js";
import { inputsOf, merged, sentence } from "../decisions.js";
import { h } from "../dom.js";
import { count, number } from "../format.js";
import { memo } from "../memo.js";
import {
  button,
  choice,
  empty,
  field,
  missing,
  moment,
  pipelineLink,
  prose,
  section,
  tile,
  whenLoaded,
} from "../parts.js";
import { range } from "./scaling.js";
import { whatIf } from "./scaling-what-if.js";

/** @import { DeploymentStatus, EventView, Series } from "api" */
/** @import { Context, Page } from "../app.js" */
/** @import { ChartData, Line } from "../charts.js" */

/** @typedef {Extract<EventView, { kind: "scaled" }>} Scaled */

const SPANS = ["10m", "30m", "60m"];
/** About 600 points whatever the span: as many as a screen can show. */
const STEPS = /** @type {Record<string, string>} */ ({ "10m": "1s", "30m": "3s", "60m": "6s" });

/**
 * @param {Context} context
 * @param {string} pipeline
 * @param {string} deployment
 * @returns {Page}
 */
export function page(context, pipeline, deployment) {
  const name = `${pipeline}/${deployment}`;
  const scaledOf = memo((/** @type {EventView[] | undefined} */ fetched, /** @type {EventView[]} */ live) =>
    merged(fetched ?? [], live)
      .filter((event) => event.subject === name)
      .filter((event) => event.kind === "scaled"),
  );
  const dataOf = memo(curves);
  const simulation = whatIf(context, name);
  const bounds = boundsForm(context, pipeline, deployment);
  /** @type {number | string | null} */
  let chosen = null;
  const choose = (/** @type {number | string} */ id) => {
    chosen = chosen === id ? null : id;
    context.redraw();
  };
  const view = () => {
    const one = context.live.summary?.pipelines
      .flatMap((each) => each.deployments)
      .find((each) => each.full_name === name);
    const title = h("h1", null, "Scaling of ", pipelineLink(pipeline), `/${deployment}`);
    if (!context.live.summary) return [title, h("p", { class: "faint" }, "Loading …")];
    if (!one) return [title, empty("There is no such deployment. What is deployed, says", "cluster status")];
    const events = context.queries.get("/api/events", { target: name, limit: 500 }, 15_000);
    const scaled = scaledOf(events.data?.events, context.live.decisions);
    return [
      title,
      numbers(one),
      section(
        "Replicas over time",
        overTime(context, name, (found) => dataOf(found, scaled, chosen, choose)),
        spanChoice(context),
      ),
      section("Decisions", decisions(scaled, chosen, choose)),
      section("What if", simulation(one)),
      context.isAdmin && section("Range", bounds(one)),
    ];
  };
  return { title: `Scaling of ${name}`, view };
}

/** @param {DeploymentStatus} one */
function numbers(one) {
  return h(
    "dl",
    { class: "tiles" },
    tile(
      "ready",
      count(one.ready_replicas, "replica"),
      [
        one.replica_counts.starting > 0 && `${one.replica_counts.starting} starting`,
        missing(one) > 0 && `${missing(one)} without a place`,
      ]
        .filter(Boolean)
        .join(", "),
    ),
    tile("target", count(one.target_replicas, "replica"), "as decided"),
    tile("desired now", count(one.desired_replicas, "replica"), "what the load asks for"),
    tile("range", range(one)),
    tile("ongoing", count(one.ongoing + one.queued, "request"), `${number(one.queued)} of them wait`),
    tile("aims at", count(one.target_ongoing_requests, "request"), "a replica"),
  );
}

/** @param {Context} context */
function spanChoice(context) {
  return choice("last", context.param("since"), SPANS.slice(1), (value) => context.setParam("since", value), SPANS[0]);
}

/**
 * @param {Context} context
 * @param {string} name
 * @param {(found: Series) => ChartData} dataOf
 */
function overTime(context, name, dataOf) {
  const since = SPANS.find((span) => span === context.param("since")) ?? SPANS[0];
  const [pipeline, deployment] = name.split("/");
  const values = { pipeline, deployment, since, step: STEPS[since] };
  return whenLoaded(context.queries.get("/api/series", values, 2000), "series of deployments", (found) => {
    const data = dataOf(found);
    if (data.lines.length === 0) return empty("Nothing has been measured yet.");
    const summary = data.lines.map((line) => `${line.label}: ${number(last(line))} ${line.unit}`).join(", ");
    return chart(`Requests and replicas of ${name}`, summary, data);
  });
}

/** @type {Omit<Line, "values">[]} */
const LINES = [
  { label: "ongoing", unit: "requests", color: 1, scale: "requests" },
  // Broken lines lie on the whole one, so that both are seen where they are equal.
  { label: "ready", unit: "replicas", color: 3, scale: "replicas", width: 3 },
  { label: "desired", unit: "replicas", color: 4, scale: "replicas", dash: [3, 3] },
  { label: "target", unit: "replicas", color: 2, scale: "replicas", dash: [8, 5], width: 2 },
];

/**
 * @param {Series} found
 * @param {Scaled[]} scaled
 * @param {string | number | null} chosen
 * @param {(id: string | number) => void} choose
 * @returns {ChartData}
 */
function curves(found, scaled, chosen, choose) {
  const lines = LINES.flatMap((line) => {
    const series = found.series.find((one) => one.metric === line.label);
    return series ? [{ ...line, values: series.values }] : [];
  });
  const marks = scaled.map((event) => ({
    id: event.sequence,
    atMs: event.at_ms,
    value: event.to,
    label: sentence(event),
  }));
  return { startMs: found.start_unix_ms, stepMs: found.step_ms, lines, marks, chosen, choose };
}

/**
 * Each decision opens its figures, from here or from its mark on the curve.
 * @param {Scaled[]} scaled
 * @param {string | number | null} chosen
 * @param {(id: number) => void} choose
 */
function decisions(scaled, chosen, choose) {
  if (scaled.length === 0)
    return empty("The number of replicas has not changed. Requests change it; so does a range set by hand.");
  return h(
    "ol",
    { class: "decisions" },
    scaled.toReversed().map((event) =>
      h(
        "li",
        { key: event.sequence },
        h(
          "button",
          {
            type: "button",
            class: "quiet",
            "aria-expanded": event.sequence === chosen,
            onclick: () => choose(event.sequence),
          },
          moment(event.at_ms),
          " ",
          prose(sentence(event)),
        ),
        event.sequence === chosen &&
          h(
            "dl",
            { class: "inputs", role: "group", "aria-label": "What it was decided from" },
            inputsOf(event).map(([name, value]) => h("div", { key: name }, h("dt", null, name), h("dd", null, value))),
          ),
      ),
    ),
  );
}

/**
 * @param {Context} context
 * @param {string} pipeline
 * @param {string} deployment
 */
function boundsForm(context, pipeline, deployment) {
  const values = { name: pipeline, deployment };
  /** @type {{ min?: string, max?: string }} */
  const typed = {};
  const input = (/** @type {"min" | "max"} */ key, /** @type {string} */ label, /** @type {number} */ now) =>
    field(
      label,
      h("input", {
        type: "number",
        min: "0",
        max: "10000",
        required: true,
        value: typed[key] ?? String(now),
        oninput: (/** @type {any} */ event) => {
          typed[key] = event.target.value;
        },
      }),
    );
  return (/** @type {DeploymentStatus} */ one) => {
    const set = async (/** @type {Event} */ event) => {
      event.preventDefault();
      const body = {
        min_replicas: Number(typed.min ?? one.min_replicas),
        max_replicas: Number(typed.max ?? one.max_replicas),
      };
      if (
        await context.act(`${one.full_name} now has ${body.min_replicas} to ${body.max_replicas} replicas.`, () =>
          send("PUT /api/pipelines/{name}/deployments/{deployment}/bounds", values, body),
        )
      )
        forget();
    };
    const forget = () => {
      delete typed.min;
      delete typed.max;
    };
    const reset = async () => {
      if (
        await context.act(`${one.full_name} has the range of its file again.`, () =>
          send("DELETE /api/pipelines/{name}/deployments/{deployment}/bounds", values),
        )
      )
        forget();
    };
    return h(
      "form",
      { class: "fields", onsubmit: set },
      input("min", "Fewest replicas", one.min_replicas),
      input("max", "Most replicas", one.max_replicas),
      h("button", { class: "primary" }, "Set the range"),
      one.bounds_by_hand && button("Back to the file's range", () => void reset()),
    );
  };
}
