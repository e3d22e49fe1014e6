// What open dashboards cost the head: its CPU time with none, ten and fifty of them. `npm run cost`, about two minutes; a page's
// path after `--` measures another page than the overview.
//
// A dashboard is the site's own code without the drawing: its stream, and each query of its page as often as the page asks.

import { readFile } from "node:fs/promises";
import { Queries } from "../../head/dashboard/site/assets/queries.js";
import { emptyLive, follow } from "../../head/dashboard/site/assets/live.js";
import { BINARY, startCluster, traffic, until } from "./cluster.mjs";
import { hello, oneStage, STAGES } from "./pipelines.mjs";

/** @import { Context, PageOf } from "../../head/dashboard/site/assets/app.js" */
/** @import { Cluster } from "./cluster.mjs" */

const SITE = "../../head/dashboard/site/assets/pages";
/** @type {Record<string, [string, ...string[]]>} */
const PAGES = {
  "/": ["overview"],
  "/cluster": ["cluster"],
  "/pipelines/staged": ["pipeline", "staged"],
  "/scaling/staged/slow": ["scaling-of", "staged", "slow"],
  "/requests": ["requests"],
};
const COUNTS = [0, 10, 50];
const MEASURED_MS = 30_000;
const SETTLE_MS = 5000;
/** What starts with the cluster is over by then. */
const WARM_UP_MS = 20_000;
/** Of Linux: how many a second `/proc/PID/stat` counts in. */
const TICKS = 100;

const path = process.argv[2] ?? "/";
const [file, ...parts] = PAGES[path] ?? [];
if (!file) throw new Error(`${path} is none of ${Object.keys(PAGES).join(", ")}`);

/** Lets the site's code run here: addresses are those of the head, and whoever asks is logged in. @param {Cluster} cluster */
async function actAsBrowser(cluster) {
  const ask = globalThis.fetch;
  const answer = await ask(`${cluster.url}/login`, {
    method: "POST",
    redirect: "manual",
    headers: { origin: cluster.url },
    body: new URLSearchParams({ token: cluster.token }),
  });
  const [cookie] = answer.headers.getSetCookie().map((one) => one.split(";")[0]);
  if (!cookie) throw new Error(`no session: ${answer.status} ${await answer.text()}`);
  globalThis.fetch = (target, init) =>
    typeof target === "string" && target.startsWith("/")
      ? ask(cluster.url + target, { ...init, headers: { ...init?.headers, cookie } })
      : ask(target, init);
  Object.assign(globalThis, { document: { hidden: false } });
}

/**
 * Opens one dashboard. It stays open until the cluster stops.
 * @param {PageOf} pageOf
 */
function openDashboard(pageOf) {
  const live = emptyLive();
  let isAsked = false;
  const redraw = () => {
    if (isAsked) return;
    isAsked = true;
    setImmediate(() => {
      isAsked = false;
      queries.during(() => void page.view());
    });
  };
  const queries = new Queries(redraw);
  /** @type {Context} */
  const context = {
    live,
    queries,
    isAdmin: true,
    redraw,
    param: () => "",
    setParam: () => {},
    act: async () => true,
  };
  const page = pageOf(context, ...parts);
  redraw();
  void follow(live, redraw);
  return live;
}

/** CPU time of a process so far. @param {number} pid */
async function cpuSeconds(pid) {
  const text = await readFile(`/proc/${pid}/stat`, "utf8");
  // The second field is a name in brackets, which may have spaces.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}

/** @param {number} ms */
function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** @param {Cluster} cluster */
async function fill(cluster) {
  await cluster.deploy("staged", STAGES);
  await cluster.deploy("hello", hello());
  for (const name of ["one", "two", "three"]) await cluster.deploy(name, oneStage(name, "replicas = 2"));
  for (const route of ["/staged", "/hello", "/one", "/two", "/three"])
    traffic(cluster, route, { text: "hi" }, { pauseMs: 200 });
  await until("traffic", async () => (await cluster.get("/api/summary")).requests_per_second > 0);
}

const { page } = await import(`${SITE}/${file}.js`);
const cluster = await startCluster();
try {
  await fill(cluster);
  await actAsBrowser(cluster);
  await pause(WARM_UP_MS);
  if (BINARY.includes("/debug/")) console.log("This is a debug build; a release build takes a fraction of it.");
  console.log(
    `dashboards at ${path} | CPU seconds of its process in ${MEASURED_MS / 1000} s | of a core | more than none`,
  );
  /** @type {ReturnType<typeof openDashboard>[]} */
  const open = [];
  let none = 0;
  for (const count of COUNTS) {
    while (open.length < count) open.push(openDashboard(page));
    await pause(SETTLE_MS);
    const before = await cpuSeconds(cluster.pid);
    const start = performance.now();
    await pause(MEASURED_MS);
    const seconds = (await cpuSeconds(cluster.pid)) - before;
    const silent = open.filter((live) => Date.now() - live.receivedAtMs > SETTLE_MS);
    if (silent.length > 0) throw new Error(`${silent.length} dashboards hear nothing`);
    const part = (seconds * 1000) / (performance.now() - start);
    if (count === 0) none = part;
    const cells = [
      String(count),
      seconds.toFixed(2),
      `${(part * 100).toFixed(1)}%`,
      `${((part - none) * 100).toFixed(1)}%`,
    ];
    console.log(cells.join(" | "));
  }
} finally {
  await cluster.stop();
}
// The streams try again for as long as the process lives.
process.exit();
