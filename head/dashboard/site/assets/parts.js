// Pieces that several pages are made of: states, tables, sections, empty states. All are functions of what they show.

import { h } from "./dom.js";
import { time } from "./format.js";

/** @import { Child, Children, VNode } from "./dom.js" */
/** @import { DeploymentStatus } from "api" */
/** @import { Loaded } from "./queries.js" */

/** Shapes besides colours, for those who cannot tell colours apart: 12 by 12. */
const SHAPES = {
  good: "M6 1.5a4.5 4.5 0 1 0 .01 0z",
  warn: "M6 1 11.5 11h-11z",
  bad: "M6 .5 11.5 6 6 11.5.5 6z",
  calm: "M6 1.5a4.5 4.5 0 1 0 .01 0zm0 2a2.5 2.5 0 1 1-.01 0z",
};

/** @type {Record<string, keyof typeof SHAPES>} */
const TONES = {
  ok: "good",
  ready: "good",
  promoted: "good",
  new: "good",
  served: "good",
  degraded: "warn",
  starting: "warn",
  trial: "warn",
  pending: "warn",
  slow: "warn",
  replaced: "warn",
  moving: "warn",
  cordoned: "warn",
  draining: "warn",
  failing: "bad",
  failed: "bad",
  unreachable: "bad",
  rolled_back: "bad",
  removed: "bad",
};

/**
 * A state by shape, colour and word.
 * @param {string} word
 * @param {string} [text]
 */
export function state(word, text = word.replaceAll("_", " ")) {
  const tone = TONES[word] ?? "calm";
  return h(
    "span",
    { class: `state ${tone}` },
    h("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" }, h("path", { d: SHAPES[tone], "fill-rule": "evenodd" })),
    text,
  );
}

/**
 * A sentence of the head: what stands between backticks is a name, and looks like one.
 * @param {string} text
 * @returns {Children}
 */
export function prose(text) {
  const parts = text.split("`");
  if (parts.length % 2 === 0) return text;
  return parts.map((part, index) => (index % 2 === 1 ? h("code", { key: index }, part) : part));
}

/**
 * A part of a page with its heading.
 * @param {string} title
 * @param {Children} content
 * @param {Child} [aside]  beside the heading
 */
export function section(title, content, aside) {
  const id = `s-${title.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-")}`;
  return h(
    "section",
    { key: id, "aria-labelledby": id },
    h("div", { class: "heading" }, h("h2", { id }, title), aside),
    content,
  );
}

/**
 * A column of a table.
 * @template T
 * @typedef {object} Column
 * @property {string} name
 * @property {(row: T) => Children} cell
 * @property {"number" | "text"} [kind]  text is what people read as sentences
 */

/**
 * A table that scrolls inside itself when it is wider than the page.
 * @template T
 * @param {string} caption  read by screen readers
 * @param {Column<T>[]} columns  the first one names the row
 * @param {T[]} rows
 * @param {(row: T) => string | number} key
 */
export function table(caption, columns, rows, key) {
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "group", "aria-label": caption },
    h(
      "table",
      null,
      h("caption", { class: "unseen" }, caption),
      h(
        "thead",
        null,
        h(
          "tr",
          null,
          columns.map((column) => h("th", { scope: "col", class: column.kind }, column.name)),
        ),
      ),
      h(
        "tbody",
        null,
        rows.map((row) =>
          h(
            "tr",
            { key: key(row) },
            columns.map((column, index) =>
              index === 0
                ? h("th", { scope: "row", class: column.kind }, column.cell(row))
                : h("td", { class: column.kind }, column.cell(row)),
            ),
          ),
        ),
      ),
    ),
  );
}

/**
 * What a query has given, or a sentence in its place.
 * @template T
 * @param {Loaded<T>} loaded
 * @param {string} what  such as `requests`: "this head has no …"
 * @param {(data: T) => Children} view
 * @returns {Children}
 */
export function whenLoaded(loaded, what, view) {
  if (loaded.data !== undefined) return view(loaded.data);
  if (loaded.state === "loading") return h("p", { class: "faint" }, "Loading …");
  if (loaded.state === "absent") return h("p", { class: "faint" }, `This head does not have ${what}.`);
  return h("p", { class: "fault" }, loaded.error ?? "");
}

/**
 * Nothing to show, and what to do about it.
 * @param {string} text
 * @param {string} [command]  to paste
 */
export function empty(text, command) {
  return h(
    "div",
    { class: "empty" },
    h("p", null, text),
    command && h("pre", { class: "command" }, h("code", null, command)),
  );
}

/**
 * One number with its name.
 * @param {string} name
 * @param {string} value
 * @param {Child} [note]
 */
export function tile(name, value, note) {
  return h(
    "div",
    { class: "tile" },
    h("dt", null, name),
    h("dd", null, h("span", { class: "value" }, value), note && h("span", { class: "faint" }, note)),
  );
}

/** @param {number} atMs */
export function moment(atMs) {
  const at = new Date(atMs);
  return h("time", { datetime: at.toISOString(), title: at.toString() }, time(atMs));
}

/**
 * A field with its label.
 * @param {string} label
 * @param {VNode} control
 */
export function field(label, control) {
  return h("label", { class: "field" }, h("span", null, label), control);
}

/** More options than this are typed, not chosen: a list of a thousand is slow to draw and to read. */
const MAX_OPTIONS = 200;

/**
 * A choice among words; "" is all of them.
 * @param {string} label
 * @param {string} value
 * @param {string[]} options
 * @param {(value: string) => void} choose
 * @param {string} [all]
 */
export function choice(label, value, options, choose, all = "all") {
  const onchange = (/** @type {any} */ event) => choose(event.target.value.trim());
  if (options.length > MAX_OPTIONS) return field(label, h("input", { value, placeholder: all, onchange }));
  const known = value && !options.includes(value) ? [...options, value] : options;
  return field(
    label,
    h(
      "select",
      { onchange, value },
      h("option", { value: "" }, all),
      known.map((option) => h("option", { key: option, value: option }, option)),
    ),
  );
}

/**
 * @param {string} label
 * @param {() => void} onclick
 * @param {Record<string, unknown>} [attributes]
 */
export function button(label, onclick, attributes = {}) {
  return h("button", { type: "button", onclick, ...attributes }, label);
}

/** The name without the folders, which are those of the machine that deployed it. @param {string} path */
export function fileName(path) {
  return path.split("/").at(-1) ?? path;
}

/**
 * How many replicas of a deployment have no place.
 * @param {DeploymentStatus} one
 */
export function missing(one) {
  if (one.pending.length === 0) return 0;
  const { ready, starting, failed } = one.replica_counts;
  return Math.max(1, one.target_replicas - ready - starting - failed);
}

/** @param {string} fullName  `pipeline/deployment` */
export function scalingLink(fullName) {
  return h("a", { href: `/scaling/${fullName.split("/").map(encodeURIComponent).join("/")}` }, fullName);
}

/** @param {string} name */
export function pipelineLink(name) {
  return h("a", { href: `/pipelines/${encodeURIComponent(name)}` }, name);
}
