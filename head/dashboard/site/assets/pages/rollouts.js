// Revisions that take over: which part of the requests each has, what came of them, and the buttons that decide.

import { send } from "../api.js";
import { confirm } from "../confirm.js";
import { h } from "../dom.js";
import { count, duration, number, percent, perSecond } from "../format.js";
import { button, empty, field, pipelineLink, prose, section, state, table } from "../parts.js";
import { histories } from "./rollouts-history.js";

/** @import { ClusterSummary, OutcomeCounts, PipelineStatus, RolloutStatus } from "api" */
/** @import { Context, Page } from "../app.js" */

/**
 * @param {Context} context
 * @returns {Page}
 */
export function page(context) {
  /** Percents that are being typed, by pipeline. @type {Map<string, string>} */
  const typed = new Map();
  /** Pipelines whose history is open. @type {Set<string>} */
  const opened = new Set();
  const view = () => {
    const { summary } = context.live;
    if (!summary) return [h("h1", null, "Rollouts"), h("p", { class: "faint" }, "Loading …")];
    return [
      h("h1", null, "Rollouts"),
      section("Under way", underWay(context, summary, typed)),
      section("Revisions", histories(context, summary, opened)),
    ];
  };
  return { title: "Rollouts", view };
}

/**
 * @param {Context} context
 * @param {ClusterSummary} summary
 * @param {Map<string, string>} typed
 */
function underWay(context, summary, typed) {
  const active = summary.pipelines.filter((pipeline) => pipeline.rollout);
  if (active.length === 0)
    return empty(
      "No revision is taking over. To give a tenth of the requests to a changed file:",
      "cluster deploy changed.toml --canary 10%",
    );
  return active.map((pipeline) => card(context, pipeline, /** @type {RolloutStatus} */ (pipeline.rollout), typed));
}

/**
 * @param {Context} context
 * @param {PipelineStatus} pipeline
 * @param {RolloutStatus} rollout
 * @param {Map<string, string>} typed
 */
function card(context, pipeline, rollout, typed) {
  const next =
    rollout.next_step && `Next: ${percent(rollout.next_step.traffic_ratio)} in ${duration(rollout.next_step.in_ms)}.`;
  return h(
    "article",
    { key: pipeline.name, class: "card", "aria-label": `Rollout of ${pipeline.name}` },
    h(
      "div",
      { class: "heading" },
      h("h3", null, pipelineLink(pipeline.name)),
      state(rollout.phase),
      h("span", { class: "faint" }, `${rollout.mode}, for ${duration(rollout.phase_ms)}`),
    ),
    parts(rollout),
    rollout.judgement && h("p", null, "So far: ", prose(rollout.judgement), ".", next && ` ${next}`),
    !rollout.judgement && next && h("p", null, next),
    outcomes(rollout),
    hiddenErrors(rollout),
    rollout.mode === "shadow" &&
      h(
        "p",
        null,
        `${percent(rollout.shadow_ratio)} of the requests are copied: ${count(rollout.compared, "answer")} compared, ${number(rollout.different)} different, ${number(rollout.shadow_failed)} failed.`,
      ),
    context.isAdmin && buttons(context, pipeline.name, rollout, typed),
  );
}

/** @param {RolloutStatus} rollout */
function parts(rollout) {
  const share = (/** @type {number} */ ratio, /** @type {string} */ kind) =>
    h("span", { class: `part ${kind}`, style: { width: `${ratio * 100}%` } });
  const fresh = `Revision ${rollout.revision} answers ${percent(rollout.traffic_ratio)} of the requests`;
  const old = `revision ${rollout.baseline} ${percent(1 - rollout.traffic_ratio)}`;
  return [
    h("p", null, `${fresh}, ${old}.`),
    h(
      "div",
      { class: "device", "aria-hidden": "true" },
      share(1 - rollout.traffic_ratio, "hue-1"),
      share(rollout.traffic_ratio, "hue-2"),
    ),
  ];
}

/** @param {RolloutStatus} rollout */
function outcomes(rollout) {
  /** @type {{ name: string, counts: OutcomeCounts }[]} */
  const rows = [
    { name: `revision ${rollout.baseline} (old)`, counts: rollout.old },
    { name: `revision ${rollout.revision} (new)`, counts: rollout.new },
  ];
  return table(
    "Outcomes since the trial began",
    [
      { name: "revision", cell: (/** @type {{ name: string, counts: OutcomeCounts }} */ { name }) => name },
      { name: "requests answered", kind: "number", cell: ({ counts }) => number(counts.requests_answered) },
      { name: "requests failed", kind: "number", cell: ({ counts }) => number(counts.requests_failed) },
      { name: "calls answered", kind: "number", cell: ({ counts }) => number(counts.calls_answered) },
      { name: "calls failed", kind: "number", cell: ({ counts }) => number(counts.calls_failed) },
      { name: "requests now", kind: "number", cell: ({ counts }) => perSecond(counts.traffic.requests_per_second) },
      { name: "failed now", kind: "number", cell: ({ counts }) => percent(counts.traffic.failed_ratio) },
      { name: "p50", kind: "number", cell: ({ counts }) => duration(counts.traffic.p50_ms) },
      { name: "p95", kind: "number", cell: ({ counts }) => duration(counts.traffic.p95_ms) },
    ],
    rows,
    ({ name }) => name,
  );
}

/**
 * Retries on other replicas can hide from clients, and from the numbers of requests, that a revision fails.
 * @param {RolloutStatus} rollout
 */
function hiddenErrors({ revision, new: counts }) {
  if (counts.calls_failed === 0 || counts.requests_failed > 0) return null;
  const { calls_failed: failed, calls_answered: answered } = counts;
  return h(
    "p",
    null,
    state("failing", "hidden errors"),
    `: ${number(failed)} of ${count(failed + answered, "call")} to revision ${revision} failed. Retries hid it: no request failed.`,
  );
}

/**
 * @param {Context} context
 * @param {string} name
 * @param {RolloutStatus} rollout
 * @param {Map<string, string>} typed
 */
function buttons(context, name, rollout, typed) {
  const { revision, baseline, mode } = rollout;
  const ask = async (
    /** @type {import("../confirm.js").Question} */ question,
    /** @type {"promote" | "abort"} */ what,
    /** @type {string} */ done,
  ) => {
    if (await confirm(question))
      await context.act(done, () => send(`POST /api/pipelines/{name}/rollout/${what}`, { name }));
  };
  const promoting = {
    title: `Promote revision ${revision} of ${name}?`,
    text: `It takes over from revision ${baseline}, with all requests.`,
    action: "Promote",
  };
  const aborting = {
    title: `Abort revision ${revision} of ${name}?`,
    text: `All requests run on revision ${baseline} again.`,
    action: "Abort",
  };
  const promote = () => void ask(promoting, "promote", `Revision ${revision} of ${name} takes over.`);
  const abort = () => void ask(aborting, "abort", `Revision ${revision} of ${name} was aborted.`);
  const isByPeople = mode !== "rolling";
  return h(
    "div",
    { class: "fields" },
    isByPeople && button("Promote", promote, { class: "primary" }),
    button("Abort", abort, { class: "danger" }),
    isByPeople && percentForm(context, name, rollout, typed),
  );
}

/**
 * @param {Context} context
 * @param {string} name
 * @param {RolloutStatus} rollout
 * @param {Map<string, string>} typed
 */
function percentForm(context, name, rollout, typed) {
  const ratio = rollout.mode === "shadow" ? rollout.shadow_ratio : rollout.traffic_ratio;
  const shown = typed.get(name) ?? String(Math.round(ratio * 1000) / 10);
  const set = async (/** @type {Event} */ event) => {
    event.preventDefault();
    const body = { percent: Number(shown) };
    const done = `Revision ${rollout.revision} of ${name} gets ${shown}% of the requests.`;
    if (await context.act(done, () => send("PUT /api/pipelines/{name}/rollout", { name }, body))) typed.delete(name);
  };
  const oninput = (/** @type {any} */ event) => {
    typed.set(name, event.target.value);
    context.redraw();
  };
  return h(
    "form",
    { class: "fields", onsubmit: set },
    field(
      "Percent of the requests",
      h("input", { type: "number", min: "0.1", max: "100", step: "any", required: true, value: shown, oninput }),
    ),
    h("button", null, "Set the percent"),
  );
}
