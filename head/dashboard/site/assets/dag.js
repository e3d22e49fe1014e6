// Where each stage of a pipeline stands in its drawing: columns by how many stages must end before it. An edge that skips
// columns gets a waypoint in each, so that it passes between the boxes and not behind them. Plain functions on plain data.

/** @import { Graph } from "api" */

/**
 * @typedef {object} Box
 * @property {string} name
 * @property {number} x
 * @property {number} y
 * @property {number} width
 * @property {number} height
 */

/**
 * @typedef {object} Layout
 * @property {Box[]} boxes  stages, and `request` and `response` at the ends
 * @property {{ name: string, through: Box[] }[]} edges
 * @property {number} width
 * @property {number} height
 */

export const REQUEST = "request";
export const RESPONSE = "response";

const STAGE = { width: 172, height: 92 };
const END = { width: 72, height: 36 };
const WAYPOINT_HEIGHT = 4;
const GAP_X = 28;
const GAP_Y = 20;

/**
 * @param {Graph} graph
 * @returns {Layout}
 */
export function layout(graph) {
  /** @type {Map<string, string[]>} */
  const after = new Map([[REQUEST, []]]);
  for (const stage of graph.stages) after.set(stage.name, stage.after.length > 0 ? stage.after : [REQUEST]);
  after.set(RESPONSE, graph.response_after.length > 0 ? graph.response_after : [REQUEST]);
  const columns = columnsOf(after);
  const edges = withWaypoints(after, columns);
  const boxes = place(columns, edges);
  const all = [...boxes.values()];
  return {
    boxes: [...after.keys()].map((name) => /** @type {Box} */ (boxes.get(name))),
    edges: edges.map((path) => ({
      name: path.join(">"),
      through: path.map((name) => /** @type {Box} */ (boxes.get(name))),
    })),
    width: Math.max(...all.map((box) => box.x + box.width)),
    height: Math.max(...all.map((box) => box.y + box.height)),
  };
}

/**
 * The length of the longest way from the request to each stage. The response comes last.
 * @param {Map<string, string[]>} after
 */
function columnsOf(after) {
  /** @type {Map<string, number>} */
  const columns = new Map();
  /** @type {(name: string) => number} */
  const visit = (name) => {
    const known = columns.get(name);
    if (known !== undefined) return known;
    const column = Math.max(-1, ...(after.get(name) ?? []).map(visit)) + 1;
    columns.set(name, column);
    return column;
  };
  for (const name of after.keys()) visit(name);
  columns.delete(RESPONSE);
  columns.set(RESPONSE, Math.max(...columns.values()) + 1);
  return columns;
}

/**
 * Each edge as the names that it passes; waypoints are added to `columns`.
 * @param {Map<string, string[]>} after
 * @param {Map<string, number>} columns
 */
function withWaypoints(after, columns) {
  const edges = [...after].flatMap(([to, before]) => before.map((from) => ({ from, to })));
  return edges.map(({ from, to }) => {
    const path = [from];
    const end = columns.get(to) ?? 0;
    for (let column = (columns.get(from) ?? 0) + 1; column < end; column += 1) {
      const waypoint = `${from}>${to}@${column}`;
      columns.set(waypoint, column);
      path.push(waypoint);
    }
    return [...path, to];
  });
}

/**
 * @param {Map<string, number>} columns
 * @param {string[][]} edges
 */
function place(columns, edges) {
  /** @type {Map<string, Box>} */
  const boxes = new Map();
  const lastColumn = Math.max(...columns.values());
  const before = (/** @type {string} */ name) =>
    edges.flatMap((path) => (path.indexOf(name) > 0 ? [path[path.indexOf(name) - 1]] : []));
  let x = 0;
  for (let column = 0; column <= lastColumn; column += 1) {
    const size = column === 0 || column === lastColumn ? END : STAGE;
    const names = [...columns].filter(([, at]) => at === column).map(([name]) => name);
    const middle = new Map(names.map((name) => [name, mean(before(name).map((one) => center(boxes.get(one))))]));
    names.sort((a, b) => (middle.get(a) ?? 0) - (middle.get(b) ?? 0));
    const heights = names.map((name) => (name.includes(">") ? WAYPOINT_HEIGHT : size.height));
    let y = -(heights.reduce((sum, height) => sum + height, 0) + GAP_Y * (names.length - 1)) / 2;
    names.forEach((name, index) => {
      boxes.set(name, { name, x, y, width: size.width, height: heights[index] });
      y += heights[index] + GAP_Y;
    });
    x += size.width + GAP_X;
  }
  // Columns are centred on 0 so far.
  const top = Math.min(...[...boxes.values()].map((box) => box.y));
  for (const box of boxes.values()) box.y -= top;
  return boxes;
}

/** @param {Box | undefined} box */
function center(box) {
  return box ? box.y + box.height / 2 : 0;
}

/** @param {number[]} values */
function mean(values) {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}
