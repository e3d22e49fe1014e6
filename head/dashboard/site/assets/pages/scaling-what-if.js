// "What if": replays the recorded requests with other settings, by the code that decides in the cluster.

import { ApiError, send } from "../api.js";
import { chart } from "../charts.js";
import { h } from "../dom.js";
import { count, number, percent } from "../format.js";
import { choice, field, table } from "../parts.js";

/** @import { DeploymentStatus, Replicas, WhatIf, WhatIfRequest } from "api" */
/** @import { Context } from "../app.js" */
/** @import { ChartData } from "../charts.js" */

/** How far back requests can be replayed, in seconds. @type {Record<string, number>} */
const SPANS = { "10m": 600, "30m": 1800, "1h": 3600 };

/**
 * @typedef {{ state: "none" } | { state: "running" } | { state: "failed", text: string }
 *   | { state: "done", answer: WhatIf, data: ChartData }} Outcome
 */

/**
 * @param {Context} context
 * @param {string} deployment
 */
export function whatIf(context, deployment) {
  /** @type {Record<string, string>} */
  const typed = { since: "1h" };
  /** @type {Outcome} */
  let outcome = { state: "none" };
  const input = (
    /** @type {string} */ key,
    /** @type {string} */ label,
    /** @type {number} */ now,
    /** @type {string} */ step,
  ) =>
    field(
      label,
      h("input", {
        type: "number",
        min: "0",
        step,
        value: typed[key] ?? String(now),
        oninput: (/** @type {any} */ event) => {
          typed[key] = event.target.value;
        },
      }),
    );
  return (/** @type {DeploymentStatus} */ one) => {
    const run = async (/** @type {Event} */ event) => {
      event.preventDefault();
      outcome = { state: "running" };
      context.redraw();
      outcome = await simulate({
        deployment,
        min_replicas: Number(typed.min ?? one.min_replicas),
        max_replicas: Number(typed.max ?? one.max_replicas),
        target_ongoing_requests: Number(typed.target ?? one.target_ongoing_requests),
        since_s: SPANS[typed.since],
      });
      context.redraw();
    };
    const span = (/** @type {string} */ value) => {
      typed.since = value || "1h";
      context.redraw();
    };
    return [
      h(
        "form",
        { class: "fields", onsubmit: run },
        input("min", "Fewest replicas", one.min_replicas, "1"),
        input("max", "Most replicas", one.max_replicas, "1"),
        input("target", "Ongoing requests a replica", one.target_ongoing_requests, "any"),
        choice("Requests of the last", typed.since === "1h" ? "" : typed.since, ["10m", "30m"], span, "1h"),
        h("button", { disabled: outcome.state === "running" }, "Simulate"),
      ),
      h("p", { class: "faint" }, "This replays the recorded requests and changes nothing."),
      h("div", { role: "status", class: "stack" }, result(outcome)),
    ];
  };
}

/**
 * @param {WhatIfRequest} request
 * @returns {Promise<Outcome>}
 */
async function simulate(request) {
  try {
    const answer = await send("POST /api/simulate", {}, request);
    const { start_unix_ms: startMs, step_ms: stepMs, ready, queued } = answer.simulated;
    return {
      state: "done",
      answer,
      data: {
        startMs,
        stepMs,
        lines: [
          { label: "waiting", unit: "requests", color: 1, scale: "requests", values: queued },
          { label: "ready", unit: "replicas", color: 3, scale: "replicas", width: 2, values: ready },
        ],
      },
    };
  } catch (error) {
    if (error instanceof ApiError && error.status === 404)
      return { state: "failed", text: "This head does not have simulation." };
    const faults = error instanceof ApiError ? error.faults.map((fault) => fault.message) : [];
    return { state: "failed", text: [error instanceof Error ? error.message : String(error), ...faults].join(" ") };
  }
}

/** @param {Outcome} outcome */
function result(outcome) {
  if (outcome.state === "none") return null;
  if (outcome.state === "running") return h("p", null, "Simulating …");
  if (outcome.state === "failed") return h("p", { class: "fault" }, outcome.text);
  const { actual, simulated } = outcome.answer;
  /** @type {[string, Replicas][]} */
  const rows = [
    ["as it was", actual],
    ["with these settings", simulated],
  ];
  return [
    table(
      "As it was, and as it would have been",
      [
        { name: "settings", cell: ([name]) => name },
        { name: "cost", kind: "number", cell: ([, cost]) => `${number(cost.replica_seconds)} replica-seconds` },
        { name: "at most", kind: "number", cell: ([, cost]) => count(cost.max_ready, "replica") },
        { name: "requests that waited", kind: "number", cell: ([, cost]) => percent(cost.waited_ratio) },
      ],
      rows,
      ([name]) => name,
    ),
    chart(
      "Simulated requests that wait, and replicas",
      `at most ${count(simulated.max_ready, "replica")}`,
      outcome.data,
    ),
  ];
}
