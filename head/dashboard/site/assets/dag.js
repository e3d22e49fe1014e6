// Where each stage of a pipeline stands in its drawing: columns by how many stages must end before it, rows within a
// column by where its predecessors stand. Plain functions on plain data.

/** @import { Graph } from "api" */

/**
 * @typedef {object} Box
 * @property {string} name
 * @property {number} column
 * @property {number} row
 */

/**
 * @typedef {object} Layout
 * @property {Map<string, Box>} boxes  stages, and `request` and `response` at the ends
 * @property {[string, string][]} edges
 * @property {number} columns
 * @property {number} rows
 */

export const REQUEST = "request";
export const RESPONSE = "response";

/**
 * @param {Graph} graph
 * @returns {Layout}
 */
export function layout(graph) {
  /** @type {Map<string, string[]>} */
  const after = new Map(graph.stages.map((stage) => [stage.name, stage.after.length > 0 ? stage.after : [REQUEST]]));
  after.set(REQUEST, []);
  after.set(RESPONSE, graph.response_after.length > 0 ? graph.response_after : [REQUEST]);
  const columns = columnsOf(after);
  /** @type {Map<string, Box>} */
  const boxes = new Map();
  let rows = 1;
  for (let column = 0; column <= Math.max(...columns.values()); column += 1) {
    const names = [...after.keys()].filter((name) => columns.get(name) === column);
    const height = (/** @type {string} */ name) => mean((after.get(name) ?? []).map((before) => boxes.get(before)?.row ?? 0));
    names.sort((a, b) => height(a) - height(b));
    names.forEach((name, row) => boxes.set(name, { name, column, row }));
    rows = Math.max(rows, names.length);
  }
  const edges = [...after].flatMap(([name, before]) => before.map((from) => /** @type {[string, string]} */ ([from, name])));
  return { boxes, edges, columns: Math.max(...columns.values()) + 1, rows };
}

/**
 * The longest way from the request to each stage. The response comes last.
 * @param {Map<string, string[]>} after
 */
function columnsOf(after) {
  /** @type {Map<string, number>} */
  const columns = new Map();
  /** @type {(name: string) => number} */
  const visit = (name) => {
    const known = columns.get(name);
    if (known !== undefined) return known;
    columns.set(name, 0);
    const column = Math.max(-1, ...(after.get(name) ?? []).map(visit)) + 1;
    columns.set(name, column);
    return column;
  };
  for (const name of after.keys()) visit(name);
  const others = [...columns].filter(([name]) => name !== RESPONSE).map(([, column]) => column);
  columns.set(RESPONSE, Math.max(...others) + 1);
  return columns;
}

/** @param {number[]} values */
function mean(values) {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}
