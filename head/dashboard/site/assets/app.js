// The start of the app: which page belongs to the address, when it is drawn, and the frame around it. Pages are in
// `pages/`, each a function that gives what it looks like now.

import { h, render } from "./dom.js";
import { ApiError, send } from "./api.js";
import { ago, time } from "./format.js";
import { emptyLive, follow } from "./live.js";
import { Queries } from "./queries.js";
import { startTheme } from "./theme-button.js";

/** @import { Children } from "./dom.js" */
/** @import { Live } from "./live.js" */

/**
 * What a page may use.
 * @typedef {object} Context
 * @property {Live} live
 * @property {Queries} queries
 * @property {boolean} isAdmin  a viewer sees no button that changes anything
 * @property {() => void} redraw  draws the page in the next frame
 * @property {(name: string) => string} param  a value of the address's query, or ""
 * @property {(name: string, value: string) => void} setParam
 * @property {(done: string, action: () => Promise<object>) => Promise<boolean>} act  does something and says what came of it
 */

/**
 * @typedef {object} Page
 * @property {string} title
 * @property {() => Children} view  what the page looks like now; called for each frame in which something changed
 */

/** @typedef {(context: Context, ...parts: string[]) => Page} PageOf */

/** @type {[RegExp, () => Promise<{ page: PageOf }>][]} */
const ROUTES = [
  [/^\/$/, () => import("./pages/overview.js")],
  [/^\/cluster$/, () => import("./pages/cluster.js")],
  [/^\/pipelines$/, () => import("./pages/pipelines.js")],
  [/^\/pipelines\/([^/]+)$/, () => import("./pages/pipeline.js")],
  [/^\/scaling$/, () => import("./pages/scaling.js")],
  [/^\/scaling\/([^/]+)\/([^/]+)$/, () => import("./pages/scaling-of.js")],
  [/^\/requests$/, () => import("./pages/requests.js")],
  [/^\/requests\/([^/]+)$/, () => import("./pages/request.js")],
  [/^\/rollouts$/, () => import("./pages/rollouts.js")],
  [/^\/events$/, () => import("./pages/events.js")],
  [/^\/deploy$/, () => import("./pages/deploy.js")],
];

const main = element("main");
const live = emptyLive();
const queries = new Queries(redraw);
/** @type {Page | null} */
let shown = null;
let isFrameAsked = false;
/** What was done last, or why it was not. @type {{ text: string, isError: boolean } | null} */
let notice = null;

/** @type {Context} */
const context = {
  live,
  queries,
  get isAdmin() {
    return live.me?.role === "admin";
  },
  redraw,
  param: (name) => new URLSearchParams(location.search).get(name) ?? "",
  setParam,
  act,
};

/** @param {string} id */
function element(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

/** Draws at most once a frame, however many things changed. */
function redraw() {
  if (isFrameAsked) return;
  isFrameAsked = true;
  requestAnimationFrame(() => {
    isFrameAsked = false;
    draw();
  });
}

function draw() {
  render(element("banner"), banner());
  render(element("notice"), noticeView());
  render(element("who"), who());
  const page = shown;
  if (!page) return;
  queries.during(() => render(main, page.view()));
  main.setAttribute("aria-busy", String(queries.isLoading || live.connection === "connecting"));
}

/** @returns {Children} */
function who() {
  return live.me && [h("strong", null, live.me.role), ` · version ${live.me.version}`];
}

/** @returns {Children} */
function banner() {
  if (live.connection === "refused") {
    return h(
      "p",
      { class: "banner" },
      "This head does not know you any more. ",
      h("a", { href: location.pathname, "data-reload": "" }, "Log in again"),
    );
  }
  if (live.connection !== "lost") return null;
  const age = live.receivedAtMs
    ? `What you see is of ${time(live.receivedAtMs)}, ${ago(live.receivedAtMs)}.`
    : "Nothing has been received yet.";
  return h("p", { class: "banner" }, h("strong", null, "No connection to the head."), ` ${age} Trying again.`);
}

/** @returns {Children} */
function noticeView() {
  if (!notice) return null;
  const close = () => {
    notice = null;
    redraw();
  };
  return h(
    "p",
    { class: notice.isError ? "notice bad" : "notice" },
    notice.text,
    " ",
    h("button", { type: "button", class: "quiet", onclick: close }, "Close"),
  );
}

/** @type {Context["act"]} */
async function act(done, action) {
  let isDone = true;
  try {
    const answer = await action();
    const warning = "warning" in answer && answer.warning;
    notice = { text: warning ? `${done} ${warning}` : done, isError: false };
  } catch (error) {
    isDone = false;
    const faults = error instanceof ApiError ? error.faults.map((fault) => fault.message) : [];
    const said = error instanceof Error ? error.message : String(error);
    notice = { text: [said, ...faults].join(" "), isError: true };
  }
  queries.refresh("/api/");
  redraw();
  return isDone;
}

/**
 * @param {string} name
 * @param {string} value
 */
function setParam(name, value) {
  const query = new URLSearchParams(location.search);
  if (value) query.set(name, value);
  else query.delete(name);
  const text = query.toString();
  history.replaceState(null, "", text ? `?${text}` : location.pathname);
  redraw();
}

/** Shows the page of the address. @param {boolean} isFirst */
async function open(isFirst) {
  const path = location.pathname;
  const found = ROUTES.map(([pattern, load]) => ({ parts: pattern.exec(path), load })).find(({ parts }) => parts);
  const page = found
    ? (await found.load()).page(context, ...(found.parts ?? []).slice(1).map(decodeURIComponent))
    : {
        title: "Not found",
        view: () => [h("h1", null, "Not found"), h("p", null, "There is no page at this address.")],
      };
  if (location.pathname !== path) return;
  shown = page;
  notice = null;
  document.title = `${page.title} – Millstream`;
  markNav(path);
  // Another page starts from nothing: keeping elements of the last one would keep its focus and its scroll positions.
  render(main, null);
  draw();
  if (isFirst) return;
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
}

/** @param {string} path */
function markNav(path) {
  for (const link of document.querySelectorAll("nav a")) {
    const target = link.getAttribute("href") ?? "";
    const isHere = target === "/" ? path === "/" : path === target || path.startsWith(`${target}/`);
    if (isHere) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

/** Follows links between pages without loading the document again. @param {MouseEvent} event */
function onClick(event) {
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  const isPlain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
  if (!link || !isPlain || event.defaultPrevented || link.origin !== location.origin || link.target) return;
  if (link.hasAttribute("data-reload") || !ROUTES.some(([pattern]) => pattern.test(link.pathname))) return;
  if (link.hash && link.pathname === location.pathname) return;
  event.preventDefault();
  history.pushState(null, "", link.href);
  void open(false);
}

function start() {
  document.addEventListener("click", onClick);
  addEventListener("popstate", () => void open(false));
  startTheme(element("theme"), redraw);
  // The age of what is shown grows by itself; everything else changes only when something arrives.
  setInterval(() => live.connection === "lost" && redraw(), 1000);
  void open(true);
  void send("GET /api/me", {}).then(
    (me) => {
      live.me = me;
      redraw();
    },
    () => {},
  );
  void follow(live, redraw);
}

start();
