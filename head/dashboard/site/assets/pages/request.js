// One request as a waterfall: where its time went, span by span.

import { h } from "../dom.js";
import { duration } from "../format.js";
import { moment, pipelineLink, section, state, table, whenLoaded } from "../parts.js";

/** @import { RequestTrace, TraceSpan } from "api" */
/** @import { Context, Page } from "../app.js" */

/** More than these are folded away. */
const MAX_ATTRIBUTES = 3;

/** @typedef {{ span: TraceSpan, depth: number }} Line */

/**
 * @param {Context} context
 * @param {string} id
 * @returns {Page}
 */
export function page(context, id) {
  const view = () => {
    const found = context.queries.get("/api/requests/{id}", { id });
    return [
      h("h1", null, "Request ", h("code", null, id)),
      whenLoaded(found, "this request, or it was kept too long ago", detail),
    ];
  };
  return { title: `Request ${id}`, view };
}

/** @param {RequestTrace} request */
function detail(request) {
  const lines = inOrder(request.spans);
  return [
    h(
      "p",
      null,
      moment(request.at_ms),
      " · ",
      pipelineLink(request.pipeline),
      ` · revision ${request.revision} · status ${request.status} · took ${duration(request.duration_ms)} · `,
      state(request.kept),
      " · trace ",
      h("code", null, request.trace_id),
    ),
    section(
      "Where its time went",
      waterfall(lines, Math.max(1, ...request.spans.map((span) => span.start_us + span.duration_us))),
    ),
  ];
}

/**
 * Each span below the one that it is a part of, by when it began.
 * @param {TraceSpan[]} spans
 * @returns {Line[]}
 */
export function inOrder(spans) {
  const known = new Set(spans.map((span) => span.span_id));
  const parent = (/** @type {TraceSpan} */ span) => (span.parent_id && known.has(span.parent_id) ? span.parent_id : "");
  const byParent = Map.groupBy(spans, parent);
  /** @type {(id: string, depth: number) => Line[]} */
  const below = (id, depth) =>
    (byParent.get(id) ?? [])
      .toSorted((a, b) => a.start_us - b.start_us)
      .flatMap((span) => [{ span, depth }, ...below(span.span_id, depth + 1)]);
  return below("", 0);
}

/**
 * @param {Line[]} lines
 * @param {number} allUs
 */
function waterfall(lines, allUs) {
  const bar = (/** @type {TraceSpan} */ span) =>
    h(
      "div",
      { class: "track", "aria-hidden": "true" },
      h("div", {
        class: `span ${span.kind} ${span.error ? "bad" : ""}`,
        style: { "margin-left": `${(span.start_us / allUs) * 100}%`, width: `${(span.duration_us / allUs) * 100}%` },
      }),
    );
  return h(
    "div",
    { class: "waterfall" },
    table(
      "Spans",
      [
        {
          name: "span",
          cell: (/** @type {Line} */ { span, depth }) =>
            h(
              "span",
              { style: { "padding-left": `${depth * 14}px` } },
              `${span.name} `,
              span.name === span.kind ? null : h("span", { class: "faint" }, span.kind),
            ),
        },
        { name: "when", cell: ({ span }) => bar(span) },
        { name: "began after", kind: "number", cell: ({ span }) => duration(span.start_us / 1000) },
        { name: "took", kind: "number", cell: ({ span }) => duration(span.duration_us / 1000) },
        {
          name: "more",
          kind: "text",
          cell: ({ span }) => [span.error && h("span", { class: "fault" }, `${span.error} `), more(span)],
        },
      ],
      lines,
      ({ span }) => span.span_id,
    ),
  );
}

/** Attributes of our own without their prefix; many of them only when asked for. @param {TraceSpan} span */
function more(span) {
  const attributes = Object.entries(span.attributes ?? {});
  const text = attributes
    .map(
      ([name, value]) =>
        `${name.replace(/^millstream\./, "")}: ${typeof value === "object" ? JSON.stringify(value) : value}`,
    )
    .join(", ");
  if (attributes.length <= MAX_ATTRIBUTES) return text;
  return h("details", null, h("summary", null, `${attributes.length} attributes`), text);
}
