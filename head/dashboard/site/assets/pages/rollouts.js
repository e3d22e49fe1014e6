// Revisions that take over: which part of the requests each has, what came of them, and the buttons that decide.

import { send } from "../api.js";
import { confirm } from "../confirm.js";
import { h } from "../dom.js";
import { count, duration, number, percent, perSecond } from "../format.js";
import { button, empty, field, fileName, moment, pipelineLink, section, state, table, whenLoaded } from "../parts.js";

/** @import { ClusterSummary, OutcomeCounts, PipelineSummary, RevisionView, RolloutStatus } from "api" */
/** @import { Context, Page } from "../app.js" */
/** @import { Loaded } from "../queries.js" */

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
    return [h("h1", null, "Rollouts"), section("Under way", underWay(context, summary, typed)), section("Revisions", histories(context, summary, opened))];
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
  if (active.length === 0) return empty("No revision is taking over. To give a tenth of the requests to a changed file:", "cluster deploy changed.toml --canary 10%");
  return active.map((pipeline) => card(context, pipeline, /** @type {RolloutStatus} */ (pipeline.rollout), typed));
}

/**
 * @param {Context} context
 * @param {PipelineSummary} pipeline
 * @param {RolloutStatus} rollout
 * @param {Map<string, string>} typed
 */
function card(context, pipeline, rollout, typed) {
  const next = rollout.next_step && `Next: ${percent(rollout.next_step.traffic_ratio)} in ${duration(rollout.next_step.in_ms)}.`;
  return h("article", { key: pipeline.name, class: "card", "aria-label": `Rollout of ${pipeline.name}` },
    h("div", { class: "heading" }, h("h3", null, pipelineLink(pipeline.name)), state(rollout.phase), h("span", { class: "faint" }, `${rollout.mode}, for ${duration(rollout.phase_ms)}`)),
    parts(rollout),
    rollout.judgement && h("p", null, `${rollout.judgement} ${next ?? ""}`),
    !rollout.judgement && next && h("p", null, next),
    outcomes(rollout),
    hiddenErrors(rollout),
    rollout.mode === "shadow" && h("p", null, `${percent(rollout.shadow_ratio)} of the requests are copied: ${count(rollout.compared, "answer")} compared, ${number(rollout.different)} different, ${number(rollout.shadow_failed)} failed.`),
    context.isAdmin && buttons(context, pipeline.name, rollout, typed));
}

/** @param {RolloutStatus} rollout */
function parts(rollout) {
  const share = (/** @type {number} */ ratio, /** @type {string} */ kind) => h("span", { class: `part ${kind}`, style: { width: `${ratio * 100}%` } });
  const words = `revision ${rollout.revision} answers ${percent(rollout.traffic_ratio)} of the requests, revision ${rollout.baseline} ${percent(1 - rollout.traffic_ratio)}`;
  return [
    h("p", { class: "parts-text" }, `${words[0].toUpperCase()}${words.slice(1)}.`),
    h("div", { class: "device", "aria-hidden": "true" }, share(1 - rollout.traffic_ratio, "hue-1"), share(rollout.traffic_ratio, "hue-2")),
  ];
}

/** @param {RolloutStatus} rollout */
function outcomes(rollout) {
  /** @type {{ name: string, counts: OutcomeCounts }[]} */
  const rows = [
    { name: `revision ${rollout.baseline} (old)`, counts: rollout.old },
    { name: `revision ${rollout.revision} (new)`, counts: rollout.new },
  ];
  return table("Outcomes since the trial began", [
    { name: "revision", cell: (/** @type {{ name: string, counts: OutcomeCounts }} */ { name }) => name },
    { name: "requests answered", kind: "number", cell: ({ counts }) => number(counts.requests_answered) },
    { name: "requests failed", kind: "number", cell: ({ counts }) => number(counts.requests_failed) },
    { name: "calls answered", kind: "number", cell: ({ counts }) => number(counts.calls_answered) },
    { name: "calls failed", kind: "number", cell: ({ counts }) => number(counts.calls_failed) },
    { name: "requests now", kind: "number", cell: ({ counts }) => perSecond(counts.traffic.requests_per_second) },
    { name: "failed now", kind: "number", cell: ({ counts }) => percent(counts.traffic.failed_ratio) },
    { name: "p50", kind: "number", cell: ({ counts }) => duration(counts.traffic.p50_ms) },
    { name: "p95", kind: "number", cell: ({ counts }) => duration(counts.traffic.p95_ms) },
  ], rows, ({ name }) => name);
}

/**
 * Retries on other replicas can hide from clients, and from the numbers of requests, that a revision fails.
 * @param {RolloutStatus} rollout
 */
function hiddenErrors({ revision, new: counts }) {
  if (counts.calls_failed === 0 || counts.requests_failed > 0) return null;
  const { calls_failed: failed, calls_answered: answered } = counts;
  return h("p", null, state("failing", "hidden errors"), `: ${number(failed)} of ${count(failed + answered, "call")} to revision ${revision} failed. Retries hid it: no request failed.`);
}

/**
 * @param {Context} context
 * @param {string} name
 * @param {RolloutStatus} rollout
 * @param {Map<string, string>} typed
 */
function buttons(context, name, rollout, typed) {
  const base = `/api/pipelines/${encodeURIComponent(name)}/rollout`;
  const { revision, baseline, mode } = rollout;
  const ask = async (/** @type {{ title: string, text: string, action: string }} */ question, /** @type {string} */ done, /** @type {string} */ verb) => {
    if (await confirm(question)) await context.act(done, () => send("POST", `${base}/${verb}`, {}));
  };
  const promote = () => ask({ title: `Promote revision ${revision} of ${name}?`, text: `It takes over from revision ${baseline}, with all requests.`, action: "Promote" }, `Revision ${revision} of ${name} takes over.`, "promote");
  const abort = () => ask({ title: `Abort revision ${revision} of ${name}?`, text: `All requests run on revision ${baseline} again.`, action: "Abort" }, `Revision ${revision} of ${name} was aborted.`, "abort");
  const percents = String(Math.round((mode === "shadow" ? rollout.shadow_ratio : rollout.traffic_ratio) * 1000) / 10);
  const set = async (/** @type {Event} */ event) => {
    event.preventDefault();
    const value = Number(typed.get(name) ?? percents);
    if (await context.act(`Revision ${revision} of ${name} gets ${value}% of the requests.`, () => send("PUT", base, { percent: value }))) typed.delete(name);
  };
  const input = h("input", { type: "number", min: "0.1", max: "100", step: "any", required: true, value: typed.get(name) ?? percents, oninput: (/** @type {any} */ event) => void typed.set(name, event.target.value) });
  return h("div", { class: "fields" },
    mode !== "rolling" && button("Promote", () => void promote(), { class: "primary" }),
    button("Abort", () => void abort(), { class: "danger" }),
    mode !== "rolling" && h("form", { class: "fields", onsubmit: set }, field("Percent of the requests", input), h("button", null, "Set the percent")));
}

/**
 * @param {Context} context
 * @param {ClusterSummary} summary
 * @param {Set<string>} opened
 */
function histories(context, summary, opened) {
  if (summary.pipelines.length === 0) return empty("Nothing is deployed yet. Deploy a pipeline's file, here or on a terminal:", "cluster deploy hello.toml");
  return h("ul", { class: "decisions" }, summary.pipelines.map((pipeline) => {
    const isOpen = opened.has(pipeline.name);
    const toggle = () => {
      if (isOpen) opened.delete(pipeline.name);
      else opened.add(pipeline.name);
      context.redraw();
    };
    return h("li", { key: pipeline.name, class: "history" },
      h("button", { type: "button", class: "quiet", "aria-expanded": isOpen, onclick: toggle }, `${pipeline.name}: revision ${pipeline.serving_revision ?? pipeline.revision} of ${pipeline.newest_revision}`),
      (pipeline.verdicts ?? []).slice(0, 1).map((verdict) => h("p", { key: verdict.revision, class: "verdict" }, state(verdict.outcome, `revision ${verdict.revision} ${verdict.outcome.replaceAll("_", " ")}`), `: ${verdict.reason}`)),
      isOpen && history(context, pipeline));
  }));
}

/**
 * @param {Context} context
 * @param {PipelineSummary} pipeline
 */
function history(context, pipeline) {
  const base = `/api/pipelines/${encodeURIComponent(pipeline.name)}`;
  const found = /** @type {Loaded<RevisionView[]>} */ (context.queries.get(`${base}/revisions`, 10_000));
  const undo = async (/** @type {RevisionView} */ one) => {
    const question = { title: `Go back to revision ${one.revision} of ${pipeline.name}?`, text: "Its text is deployed again as a new revision, with a rollout of its own.", action: "Go back" };
    if (await confirm(question)) await context.act(`Revision ${one.revision} of ${pipeline.name} was deployed again.`, () => send("POST", `${base}/rollout/undo`, { to_revision: one.revision }));
  };
  return whenLoaded(found, "a history of revisions", (revisions) => table(`Revisions of ${pipeline.name}`, [
    { name: "revision", cell: (/** @type {RevisionView} */ one) => [String(one.revision), one.revision === pipeline.serving_revision && h("strong", { class: "tag" }, "serves")] },
    { name: "deployed", cell: (one) => moment(one.deployed_at_ms) },
    { name: "by", cell: (one) => one.by ?? "–" },
    { name: "file", cell: (one) => h("span", { title: one.file_name }, fileName(one.file_name)) },
    { name: "length", kind: "number", cell: (one) => (typeof one.lines === "number" ? count(one.lines, "line") : "–") },
    { name: "what became of it", kind: "text", cell: (one) => (one.verdict ? [state(one.verdict.outcome), `: ${one.verdict.reason}`] : "–") },
    ...(context.isAdmin ? [{ name: "undo", cell: (/** @type {RevisionView} */ one) => one.revision !== pipeline.revision && button("Go back to it", () => void undo(one), { class: "quiet" }) }] : []),
  ], revisions.toSorted((a, b) => b.revision - a.revision), (one) => one.revision));
}
