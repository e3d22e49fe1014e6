// A text field that shows faults where they are: numbered lines, faulty ones marked, and each fault with its line below.

import { h } from "../dom.js";
import { prose } from "../parts.js";

/** @import { ProblemFault } from "api" */

/** Must be the height of a line of `.editor` in the style sheet. */
const LINE_HEIGHT = 20;

/**
 * @typedef {object} Editor
 * @property {string} id
 * @property {string} label
 * @property {string} source
 * @property {ProblemFault[]} faults
 * @property {(source: string) => void} change
 */

/** @param {Editor} editor */
export function editor({ id, label, source, faults, change }) {
  const lines = Math.max(12, source.split("\n").length + 1);
  const isFaulty = new Set(faults.map((fault) => fault.line));
  const height = { height: `${lines * LINE_HEIGHT}px` };
  return h(
    "div",
    { class: "editor" },
    h(
      "ol",
      { class: "gutter", "aria-hidden": "true" },
      Array.from({ length: lines }, (_, index) =>
        h("li", { key: index, class: isFaulty.has(index + 1) ? "bad" : undefined }, String(index + 1)),
      ),
    ),
    h(
      "div",
      { class: "marks", "aria-hidden": "true" },
      faults
        .filter((fault) => fault.line)
        .map((fault, index) => h("span", { key: index, style: { top: `${((fault.line ?? 1) - 1) * LINE_HEIGHT}px` } })),
    ),
    h("textarea", {
      id,
      "aria-label": label,
      "aria-invalid": faults.length > 0,
      spellcheck: "false",
      autocapitalize: "off",
      autocomplete: "off",
      wrap: "off",
      style: height,
      value: source,
      placeholder: 'name = "hello"',
      oninput: (/** @type {any} */ event) => change(event.target.value),
    }),
  );
}

/**
 * A fault with the line that it is in and a caret below its column, as a compiler prints it. Its button goes there.
 * @param {ProblemFault} fault
 * @param {{ file_name: string, source: string }[]} files
 * @param {number} key
 */
export function excerpt(fault, files, key) {
  const index = files.findIndex((file) => file.file_name === fault.path);
  const text = fault.line ? files[index]?.source.split("\n")[fault.line - 1] : undefined;
  const place = fault.line ? `${fault.path}:${fault.line}:${fault.column ?? 1}` : fault.path;
  return h(
    "div",
    { key, class: "excerpt" },
    h(
      "p",
      null,
      fault.line && index >= 0
        ? h("button", { type: "button", class: "quiet", onclick: () => goTo(`file-${index}`, fault) }, place)
        : h("strong", null, place),
      " ",
      prose(fault.message),
    ),
    text !== undefined &&
      h(
        "pre",
        { tabindex: "0", role: "group", "aria-label": `Line ${fault.line}` },
        `${text}\n${" ".repeat(Math.max(0, (fault.column ?? 1) - 1))}^`,
      ),
    fault.help && h("p", { class: "faint" }, prose(fault.help)),
  );
}

/**
 * Puts the caret where the fault is.
 * @param {string} id
 * @param {ProblemFault} fault
 */
function goTo(id, fault) {
  const field = /** @type {HTMLTextAreaElement | null} */ (document.getElementById(id));
  const before = field?.value.split("\n").slice(0, (fault.line ?? 1) - 1) ?? [];
  const at = before.reduce((sum, line) => sum + line.length + 1, 0) + (fault.column ?? 1) - 1;
  field?.focus();
  field?.setSelectionRange(at, at);
}
