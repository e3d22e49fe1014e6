// The stages of a pipeline as a drawing: boxes in the order of the work, with what each does now.

import { layout, REQUEST, RESPONSE } from "../dag.js";
import { h } from "../dom.js";
import { duration, perSecond } from "../format.js";

/** @import { Graph } from "api" */
/** @import { Box } from "../dag.js" */
/** @import { StageRow } from "./pipeline.js" */

const BOX = { width: 190, height: 92, gapX: 44, gapY: 20 };
const END = { width: 84, height: 36 };

/**
 * @param {Graph} graph
 * @param {StageRow[]} rows
 */
export function drawing(graph, rows) {
  const { boxes, edges, columns, rows: height } = layout(graph);
  const size = { width: 2 * (END.width + BOX.gapX) + (columns - 2) * (BOX.width + BOX.gapX) - BOX.gapX, height: height * (BOX.height + BOX.gapY) - BOX.gapY };
  const byName = new Map(rows.map((row) => [row.stage.name, row]));
  const place = (/** @type {string} */ name) => placed(/** @type {Box} */ (boxes.get(name)), columns, size.height);
  return h("div", { class: "scroll dag", tabindex: "0", role: "group", "aria-label": "Drawing of the stages" },
    h("svg", { width: size.width, height: size.height + 2, viewBox: `-1 -1 ${size.width + 2} ${size.height + 2}`, role: "img", "aria-label": inWords(graph) },
      edges.map(([from, to]) => h("path", { key: `${from}>${to}`, class: "edge", d: curve(place(from), place(to)) })),
      [...boxes.keys()].map((name) => box(name, place(name), byName.get(name)))));
}

/** @param {Graph} graph */
function inWords(graph) {
  const stages = graph.stages.map((stage) => `${stage.name} after ${stage.after.join(" and ") || "the request"}`);
  return `${stages.join("; ")}; response after ${graph.response_after.join(" and ") || "the request"}`;
}

/**
 * @typedef {{ x: number, y: number, width: number, height: number }} Place
 * @param {Box} box
 * @param {number} columns
 * @param {number} height
 * @returns {Place}
 */
function placed(box, columns, height) {
  if (box.column === 0 || box.column === columns - 1) {
    const x = box.column === 0 ? 0 : END.width + BOX.gapX + (columns - 2) * (BOX.width + BOX.gapX);
    return { x, y: (height - END.height) / 2, ...END };
  }
  const x = END.width + BOX.gapX + (box.column - 1) * (BOX.width + BOX.gapX);
  return { x, y: box.row * (BOX.height + BOX.gapY), width: BOX.width, height: BOX.height };
}

/**
 * @param {Place} from
 * @param {Place} to
 */
function curve(from, to) {
  const start = { x: from.x + from.width, y: from.y + from.height / 2 };
  const end = { x: to.x, y: to.y + to.height / 2 };
  const bend = Math.max(20, (end.x - start.x) / 2);
  return `M${start.x} ${start.y}C${start.x + bend} ${start.y} ${end.x - bend} ${end.y} ${end.x} ${end.y}`;
}

/**
 * @param {string} name
 * @param {Place} at
 * @param {StageRow | undefined} row
 */
function box(name, at, row) {
  const frame = h("rect", { x: at.x, y: at.y, width: at.width, height: at.height, rx: 6 });
  if (!row) {
    const text = h("text", { x: at.x + at.width / 2, y: at.y + at.height / 2 + 4, "text-anchor": "middle" }, name);
    return h("g", { key: name, class: name === REQUEST || name === RESPONSE ? "end" : "stage" }, frame, text);
  }
  const line = (/** @type {number} */ number, /** @type {string} */ words, /** @type {string} */ kind) =>
    h("text", { x: at.x + 10, y: at.y + 19 + number * 16, class: kind }, words.length > 30 ? `${words.slice(0, 29)}…` : words);
  const { deployment, traffic, stage } = row;
  return h("g", { key: name, class: `stage ${row.isSlowest ? "slowest" : ""} ${stage.kind}` }, frame,
    line(0, name, "name"),
    line(1, [stage.deployment?.split("/")[1] ?? `op:${stage.operator ?? ""}`, stage.when && "when", stage.for_each && "for each"].filter(Boolean).join(" · "), "faint"),
    line(2, `${perSecond(traffic?.calls_per_second)} calls · p50 ${duration(traffic?.p50_ms)}`, ""),
    deployment && line(3, `${deployment.ready_replicas} of ${deployment.target_replicas} replicas ready`, ""),
    deployment && line(4, `${deployment.ongoing} ongoing · ${deployment.queued} waiting`, ""));
}
