// A list of any length that only has the rows that can be seen in the document, and only fetches those. Rows are of one
// height, so where a row is follows from its number.

import { h } from "./dom.js";

/** @import { Children } from "./dom.js" */

/** Must be the height of `.row` in the style sheet. */
export const ROW_HEIGHT = 32;
const VISIBLE_ROWS = 14;
const PAGE = 100;
/** Rows beyond the edges, so that scrolling a little shows no gaps. */
const MARGIN = 6;

/**
 * Where the list stands; kept by the page between two drawings.
 * @typedef {object} Scroll
 * @property {number} top
 */

/**
 * @template T
 * @typedef {object} ListColumn
 * @property {string} name
 * @property {(row: T) => Children} cell
 */

/**
 * @template T
 * @typedef {object} List
 * @property {string} label
 * @property {number} total
 * @property {ListColumn<T>[]} columns
 * @property {(index: number) => T | undefined} at  undefined: not fetched yet
 * @property {Scroll} scroll
 * @property {() => void} redraw
 */

/** The pages of `PAGE` rows that are needed now, by the offset of each. @param {Scroll} scroll @param {number} total */
export function pagesNeeded(scroll, total) {
  const { first, end } = range(scroll, total);
  const offsets = [];
  for (let offset = Math.floor(first / PAGE) * PAGE; offset === 0 || offset < end; offset += PAGE) offsets.push(offset);
  return { offsets, limit: PAGE };
}

/** @param {Scroll} scroll @param {number} total */
function range(scroll, total) {
  const first = Math.max(0, Math.floor(scroll.top / ROW_HEIGHT) - MARGIN);
  return { first, end: Math.min(total, first + VISIBLE_ROWS + 2 * MARGIN) };
}

/**
 * @template T
 * @param {List<T>} list
 */
export function virtualList({ label, total, columns, at, scroll, redraw }) {
  const { first, end } = range(scroll, total);
  const rows = Array.from({ length: Math.max(0, end - first) }, (_, index) => first + index);
  const onscroll = (/** @type {any} */ event) => {
    scroll.top = event.target.scrollTop;
    redraw();
  };
  const line = (/** @type {number} */ index) => {
    const row = at(index);
    return h(
      "div",
      {
        key: index,
        class: "row",
        role: "row",
        "aria-rowindex": index + 2,
        style: { transform: `translateY(${index * ROW_HEIGHT}px)` },
      },
      columns.map((column) => h("span", { role: "cell" }, row === undefined ? "…" : column.cell(row))),
    );
  };
  return h(
    "div",
    { class: "list", role: "table", "aria-label": label, "aria-rowcount": total + 1 },
    h(
      "div",
      {
        class: "window",
        role: "rowgroup",
        tabindex: "0",
        onscroll,
        style: { height: `${(Math.min(total, VISIBLE_ROWS) + 1) * ROW_HEIGHT}px` },
      },
      h(
        "div",
        { class: "row head", role: "row", "aria-rowindex": 1 },
        columns.map((column) => h("span", { role: "columnheader" }, column.name)),
      ),
      h("div", { class: "rows", role: "presentation", style: { height: `${total * ROW_HEIGHT}px` } }, rows.map(line)),
    ),
  );
}
