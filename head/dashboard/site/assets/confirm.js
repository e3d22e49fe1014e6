// Asks before something that cannot simply be taken back.

import { h, render } from "./dom.js";

/** @typedef {{ title: string, text: string, action: string }} Question */

/**
 * Whether people said yes. The dialog is modal, so nothing else can be pressed meanwhile; Escape is no.
 * @param {Question} question
 * @returns {Promise<boolean>}
 */
export function confirm({ title, text, action }) {
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "confirm-title");
  document.body.append(dialog);
  return new Promise((resolve) => {
    const close = (/** @type {boolean} */ answer) => {
      resolve(answer);
      dialog.close();
      dialog.remove();
    };
    render(dialog, [
      h("h2", { id: "confirm-title" }, title),
      h("p", null, text),
      h(
        "div",
        { class: "buttons" },
        h("button", { type: "button", autofocus: true, onclick: () => close(false) }, "Cancel"),
        h("button", { type: "button", class: "danger", onclick: () => close(true) }, action),
      ),
    ]);
    dialog.addEventListener("cancel", () => close(false));
    dialog.showModal();
  });
}
