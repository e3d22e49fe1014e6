// The head's decisions as lists and as details: shared by the pages that show what was decided and why.

import { h } from "./dom.js";
import { count } from "./format.js";
import { moment, pipelineLink, prose, scalingLink } from "./parts.js";

/** @import { EventView } from "api" */

/**
 * Two lists of decisions as one, oldest first, none twice.
 * @param {EventView[]} fetched
 * @param {EventView[]} live
 */
export function merged(fetched, live) {
  const bySequence = new Map([...fetched, ...live].map((event) => [event.sequence, event]));
  return [...bySequence.values()].sort((a, b) => a.sequence - b.sequence);
}

/**
 * Whether a decision concerns `rag/embedder` or `rag`, by the rule of `cluster explain`: what is about a whole pipeline or
 * the cluster concerns its parts.
 * @param {EventView} event
 * @param {string} target
 */
export function concerns(event, target) {
  if (target === "" || event.subject === target) return true;
  if (event.subject === "cluster") return event.kind !== "key" && event.kind !== "token";
  return target.startsWith(`${event.subject}/`) || event.subject.startsWith(`${target}/`);
}

/** The sentence without the line of figures below it. @param {EventView} event */
export function sentence(event) {
  return event.text.split("\n")[0];
}

/** @param {EventView} event */
export function subjectLink(event) {
  if (event.subject === "cluster") return h("a", { href: "/cluster" }, "cluster");
  return event.subject.includes("/") ? scalingLink(event.subject) : pipelineLink(event.subject);
}

/**
 * A list of decisions, the newest first.
 * @param {EventView[]} events  oldest first
 */
export function decisionList(events) {
  return h(
    "ol",
    { class: "events" },
    events
      .toReversed()
      .map((event) =>
        h(
          "li",
          { key: event.sequence },
          moment(event.at_ms),
          " ",
          subjectLink(event),
          " ",
          h("span", null, prose(sentence(event))),
        ),
      ),
  );
}

/**
 * What each figure of a decision to scale is called, and its unit.
 * @type {Record<string, [string, string]>}
 */
const INPUTS = {
  ongoing: ["ongoing on average, with those that wait", "request"],
  queued: ["waiting at that moment", "request"],
  ready: ["ready", "replica"],
  starting: ["starting", "replica"],
  target_ongoing_requests: ["aimed at for each replica", "request"],
  wanted: ["asked for by the load, within the range", "replica"],
};

/**
 * What a decision was made of, as name and value.
 * @param {EventView} event
 * @returns {[string, string][]}
 */
export function inputsOf(event) {
  return Object.entries("inputs" in event ? event.inputs : {})
    .filter(([, value]) => value !== null)
    .map(([key, value]) => {
      const [name, unit] = INPUTS[key] ?? [key.replaceAll("_", " "), ""];
      return [name, unit && typeof value === "number" ? count(value, unit) : String(value)];
    });
}
