// Deploys files: their text with its faults in place, then the plan, and only then the button.

import { ApiError, send } from "../api.js";
import { h } from "../dom.js";
import { count } from "../format.js";
import { button, empty, field, state } from "../parts.js";
import { editor, excerpt } from "./deploy-editor.js";
import { planView } from "./deploy-plan.js";

/** @import { DeployBody, DeployedView, DeployPlan, ProblemFault } from "api" */
/** @import { Context, Page } from "../app.js" */

/**
 * What is on the page. `plans` hold for the text as it is now: every change of it takes them away.
 * @typedef {object} Draft
 * @property {{ file_name: string, source: string }[]} files
 * @property {"all" | "canary" | "shadow"} how
 * @property {string} percent
 * @property {ProblemFault[]} faults
 * @property {string} error
 * @property {DeployPlan[] | null} plans
 * @property {DeployedView[] | null} deployed
 * @property {boolean} isBusy
 */

const NEW_FILE = "pipeline.toml";

/**
 * @param {Context} context
 * @returns {Page}
 */
export function page(context) {
  /** @type {Draft} */
  const draft = {
    files: [{ file_name: NEW_FILE, source: "" }],
    how: "all",
    percent: "10",
    faults: [],
    error: "",
    plans: null,
    deployed: null,
    isBusy: false,
  };
  const change = (/** @type {Partial<Draft>} */ part) => {
    Object.assign(draft, { faults: [], error: "", plans: null, deployed: null }, part);
    context.redraw();
  };
  const view = () => {
    if (context.live.me && !context.isAdmin)
      return [
        h("h1", null, "Deploy"),
        empty(
          "You are logged in as a viewer, who changes nothing. An administrator deploys here, or on a terminal:",
          "cluster deploy hello.toml",
        ),
      ];
    return [
      h("h1", null, "Deploy"),
      h(
        "div",
        {
          class: "drop",
          ondragover: allowDrop,
          ondrop: (/** @type {DragEvent} */ event) => void take(event, event.dataTransfer?.files, draft, change),
        },
        h("p", null, "Paste a pipeline's TOML, drop files here, or ", chooser(draft, change)),
        draft.files.map((file, index) => fileView(draft, file, index, change)),
      ),
      howView(draft, change),
      h(
        "div",
        { class: "fields" },
        button("Check and show the plan", () => void plan(context, draft), {
          disabled: draft.isBusy,
          class: draft.plans ? "" : "primary",
        }),
        draft.plans?.some((one) => one.changed) &&
          button(deployLabel(draft.plans), () => void deploy(context, draft), {
            disabled: draft.isBusy,
            class: "primary",
          }),
      ),
      h("div", { role: "status", class: "stack" }, outcome(draft)),
    ];
  };
  return { title: "Deploy", view };
}

/** @param {DragEvent} event */
function allowDrop(event) {
  event.preventDefault();
}

/**
 * @param {Draft} draft
 * @param {(part: Partial<Draft>) => void} change
 */
function chooser(draft, change) {
  return h(
    "label",
    { class: "file" },
    "choose files",
    h("input", {
      type: "file",
      multiple: true,
      accept: ".toml",
      onchange: (/** @type {any} */ event) => void take(event, event.target.files, draft, change),
    }),
  );
}

/**
 * @param {Event} event
 * @param {FileList | undefined} list
 * @param {Draft} draft
 * @param {(part: Partial<Draft>) => void} change
 */
async function take(event, list, draft, change) {
  event.preventDefault();
  const read = await Promise.all(
    [...(list ?? [])].map(async (file) => ({ file_name: file.name, source: await file.text() })),
  );
  if (read.length === 0) return;
  const others = draft.files.filter(
    (file) => file.source.trim() !== "" && !read.some((one) => one.file_name === file.file_name),
  );
  change({ files: [...others, ...read] });
}

/**
 * @param {Draft} draft
 * @param {{ file_name: string, source: string }} file
 * @param {number} index
 * @param {(part: Partial<Draft>) => void} change
 */
function fileView(draft, file, index, change) {
  const put = (/** @type {Partial<typeof file>} */ part) =>
    change({ files: draft.files.map((one, at) => (at === index ? { ...one, ...part } : one)) });
  const faults = draft.faults.filter((fault) => fault.path === file.file_name);
  const leave = () => change({ files: draft.files.filter((_, at) => at !== index) });
  return h(
    "div",
    { key: index, class: "card" },
    h(
      "div",
      { class: "fields" },
      field(
        "File name",
        h("input", {
          value: file.file_name,
          oninput: (/** @type {any} */ event) => put({ file_name: event.target.value }),
        }),
      ),
      draft.files.length > 1 && button("Leave it out", leave, { class: "quiet" }),
    ),
    editor({
      id: `file-${index}`,
      label: `Text of ${file.file_name}`,
      source: file.source,
      faults,
      change: (source) => put({ source }),
    }),
  );
}

/**
 * @param {Draft} draft
 * @param {(part: Partial<Draft>) => void} change
 */
function howView(draft, change) {
  const option = (/** @type {Draft["how"]} */ how, /** @type {string} */ label) =>
    h(
      "label",
      null,
      h("input", { type: "radio", name: "how", checked: draft.how === how, onchange: () => change({ how }) }),
      ` ${label}`,
    );
  return h(
    "fieldset",
    { class: "fields" },
    h("legend", null, "How it takes over"),
    option("all", "by itself, after a trial"),
    option("canary", "as a canary"),
    option("shadow", "as a shadow"),
    draft.how !== "all" &&
      field(
        "Percent of the requests",
        h("input", {
          type: "number",
          min: "0.1",
          max: "100",
          step: "any",
          value: draft.percent,
          oninput: (/** @type {any} */ event) => change({ percent: event.target.value }),
        }),
      ),
  );
}

/** @param {DeployPlan[]} plans */
function deployLabel(plans) {
  return `Deploy ${plans
    .filter((one) => one.changed)
    .map((one) => `${one.pipeline}, revision ${one.revision}`)
    .join(" and ")}`;
}

/** @param {Draft} draft @returns {DeployBody} */
function body(draft) {
  const percent = Number(draft.percent);
  return {
    files: draft.files,
    ...(draft.how === "canary" && { canary_percent: percent }),
    ...(draft.how === "shadow" && { shadow_percent: percent }),
  };
}

/**
 * @param {Context} context
 * @param {Draft} draft
 */
async function plan(context, draft) {
  await attempt(context, draft, async () => {
    draft.plans = await send("POST /api/plan", {}, body(draft));
  });
}

/**
 * @param {Context} context
 * @param {Draft} draft
 */
async function deploy(context, draft) {
  await attempt(context, draft, async () => {
    draft.deployed = await send("POST /api/deploy", {}, body(draft));
    draft.plans = null;
  });
}

/**
 * @param {Context} context
 * @param {Draft} draft
 * @param {() => Promise<void>} action
 */
async function attempt(context, draft, action) {
  Object.assign(draft, { isBusy: true, faults: [], error: "", deployed: null });
  context.redraw();
  try {
    await action();
  } catch (error) {
    draft.plans = null;
    draft.faults = error instanceof ApiError ? error.faults : [];
    draft.error = error instanceof Error ? error.message : String(error);
  }
  draft.isBusy = false;
  context.redraw();
}

/** @param {Draft} draft */
function outcome(draft) {
  if (draft.isBusy) return h("p", null, "Asking the head …");
  if (draft.deployed)
    return draft.deployed.map((one) =>
      h(
        "p",
        { key: one.name },
        state(one.changed ? "ok" : "unchanged", one.changed ? "deployed" : "unchanged"),
        ` ${one.name}, revision ${one.revision}. `,
        h("a", { href: "/rollouts" }, "See how it takes over"),
      ),
    );
  if (draft.error)
    return [
      h(
        "p",
        { class: "fault" },
        draft.faults.length > 0 ? `${count(draft.faults.length, "fault")}; nothing was deployed.` : draft.error,
      ),
      draft.faults.map((fault, index) => excerpt(fault, draft.files, index)),
    ];
  return draft.plans && planView(draft.plans);
}
