// The stages of a pipeline as a drawing: boxes in the order of the work, with what each does now.

import { layout } from "../dag.js";
import { h } from "../dom.js";
import { duration, perSecond } from "../format.js";

/** @import { Graph } from "api" */
/** @import { Box } from "../dag.js" */
/** @import { StageRow } from "./pipeline.js" */

const MAX_LETTERS = 27;

/**
 * @param {Graph} graph
 * @param {StageRow[]} rows
 */
export function drawing(graph, rows) {
  const { boxes, edges, width, height } = layout(graph);
  const byName = new Map(rows.map((row) => [row.stage.name, row]));
  return h(
    "div",
    { class: "scroll dag", tabindex: "0", role: "group", "aria-label": "Drawing of the stages" },
    h(
      "svg",
      {
        width: width + 2,
        height: height + 2,
        viewBox: `-1 -1 ${width + 2} ${height + 2}`,
        role: "img",
        "aria-label": inWords(graph),
      },
      edges.map(({ name, through }) => h("path", { key: name, class: "edge", d: curve(through) })),
      boxes.map((box) => boxView(box, byName.get(box.name))),
    ),
  );
}

/** @param {Graph} graph */
function inWords(graph) {
  const stages = graph.stages.map((stage) => `${stage.name} after ${stage.after.join(" and ") || "the request"}`);
  return `${stages.join("; ")}; response after ${graph.response_after.join(" and ") || "the request"}`;
}

/** @param {Box[]} through  from box to box, straight across the waypoints between */
function curve(through) {
  return through
    .slice(1)
    .map((to, index) => {
      const from = through[index];
      const start = { x: from.x + from.width, y: from.y + from.height / 2 };
      const end = { x: to.x, y: to.y + to.height / 2 };
      const bend = (start.x + end.x) / 2;
      const isLast = index === through.length - 2;
      return `${index === 0 ? "M" : "L"}${start.x} ${start.y}C${bend} ${start.y} ${bend} ${end.y} ${end.x} ${end.y}${isLast ? "" : `L${to.x + to.width} ${end.y}`}`;
    })
    .join("");
}

/**
 * @param {Box} box
 * @param {StageRow | undefined} row  undefined for the ends
 */
function boxView(box, row) {
  const frame = h("rect", { x: box.x, y: box.y, width: box.width, height: box.height, rx: 6 });
  if (!row) {
    return h(
      "g",
      { key: box.name, class: "end" },
      frame,
      h("text", { x: box.x + box.width / 2, y: box.y + box.height / 2 + 4, "text-anchor": "middle" }, box.name),
    );
  }
  const { deployment, traffic, stage } = row;
  const line = (/** @type {number} */ number, /** @type {string} */ words, /** @type {string} */ kind = "") =>
    h(
      "text",
      { x: box.x + 10, y: box.y + 19 + number * 16, class: kind },
      words.length > MAX_LETTERS ? `${words.slice(0, MAX_LETTERS - 1)}…` : words,
    );
  const runs = stage.deployment?.split("/")[1] ?? `op:${stage.operator ?? ""}`;
  return h(
    "g",
    { key: box.name, class: `stage ${stage.kind} ${row.isSlowest ? "slowest" : ""}` },
    frame,
    line(0, box.name, "name"),
    line(1, [runs, stage.when && "when", stage.for_each && "for each"].filter(Boolean).join(" · "), "faint"),
    [
      traffic && `${perSecond(traffic.calls_per_second)} · p50 ${duration(traffic.p50_ms)}`,
      deployment && `${deployment.ready_replicas} of ${deployment.target_replicas} replicas ready`,
      deployment && `${deployment.ongoing} ongoing · ${deployment.queued} waiting`,
    ]
      .filter((words) => words !== undefined)
      .map((words, index) => line(index + 2, words)),
  );
}
