// Every decision that the head remembers, by whom it is about and of which kind.

import { concerns, inputsOf, merged, sentence, subjectLink } from "../decisions.js";
import { h } from "../dom.js";
import { count } from "../format.js";
import { memo } from "../memo.js";
import { choice, empty, moment, prose, table, whenLoaded } from "../parts.js";

/** @import { EventView } from "api" */
/** @import { Context, Page } from "../app.js" */

const LIMIT = 500;
/** Rows drawn at first: more at once take longer than a frame. */
const AT_ONCE = 100;

/**
 * @param {Context} context
 * @returns {Page}
 */
export function page(context) {
  let shown = AT_ONCE;
  const selected = memo(select);
  const view = () => {
    const target = context.param("target");
    const kind = context.param("kind");
    const found = context.queries.get("/api/events", { target, limit: LIMIT }, 10_000);
    return [
      h("h1", null, "Events"),
      whenLoaded(found, "a record of its decisions", ({ events }) => {
        const { ofTarget, ofKind } = selected(events, context.live.decisions, target, kind);
        const kinds = [...new Set(ofTarget.map((event) => event.kind))].sort();
        const more = () => {
          shown += AT_ONCE;
          context.redraw();
        };
        return [
          h(
            "div",
            { class: "fields" },
            choice("about", target, targets(context), (value) => context.setParam("target", value)),
            choice("kind", kind, kinds, (value) => context.setParam("kind", value)),
            h("p", { class: "amount" }, count(ofKind.length, "event")),
          ),
          ofKind.length === 0
            ? empty("Nothing like this has been decided. The same on a terminal:", "cluster explain --since 1h")
            : list(ofKind.slice(0, shown)),
          ofKind.length > shown &&
            h(
              "p",
              null,
              h("button", { type: "button", onclick: more }, `Show ${Math.min(AT_ONCE, ofKind.length - shown)} more`),
            ),
        ];
      }),
    ];
  };
  return { title: "Events", view };
}

/**
 * The newest first.
 * @param {EventView[]} fetched
 * @param {EventView[]} live
 * @param {string} target
 * @param {string} kind
 */
function select(fetched, live, target, kind) {
  const ofTarget = merged(fetched, live)
    .filter((event) => concerns(event, target))
    .reverse();
  return { ofTarget, ofKind: ofTarget.filter((event) => kind === "" || event.kind === kind) };
}

/** @param {Context} context */
function targets(context) {
  const pipelines = context.live.summary?.pipelines ?? [];
  return pipelines.flatMap((pipeline) => [pipeline.name, ...pipeline.deployments.map((one) => one.full_name)]);
}

/** @param {EventView[]} events */
function list(events) {
  return table(
    "Events, the newest first",
    [
      { name: "at", cell: (/** @type {EventView} */ event) => moment(event.at_ms) },
      { name: "about", cell: (event) => subjectLink(event) },
      { name: "kind", cell: (event) => event.kind.replaceAll("_", " ") },
      { name: "what", kind: "text", cell: (event) => what(event) },
    ],
    events,
    (event) => event.sequence,
  );
}

/** @param {EventView} event */
function what(event) {
  const inputs = inputsOf(event);
  if (inputs.length === 0) return prose(sentence(event));
  return h(
    "details",
    null,
    h("summary", null, prose(sentence(event))),
    h(
      "dl",
      { class: "inputs" },
      inputs.map(([name, value]) => h("div", { key: name }, h("dt", null, name), h("dd", null, value))),
    ),
  );
}
