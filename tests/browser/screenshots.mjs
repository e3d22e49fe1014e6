// Makes the pictures of docs/dashboard.md and README.md from a real cluster: three nodes, five pipelines under load, a canary under way and
// a demand that fits nowhere. `npm run screenshots`, about two minutes.

import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { loggedIn, show, SHOWN, startBrowser } from "./browser.mjs";
import { startCluster, traffic, until } from "./cluster.mjs";
import { FAULTY, hello, oneStage, STAGES } from "./pipelines.mjs";

/** @import { Page } from "playwright-core" */
/** @import { Cluster } from "./cluster.mjs" */

const ROOT = new URL("../../", import.meta.url);
const FOLDER = process.argv[2] ?? fileURLToPath(new URL("docs/images", ROOT));
const DEVICES = ["--gpus", "2", "--gpu-memory", "80GiB"];
const LOAD_MS = 75_000;
const QUALITY = 80;

/**
 * @typedef {object} Shot
 * @property {string} name  of the file
 * @property {string} path  of the page
 * @property {keyof typeof SHOWN} [shown]
 * @property {number} [height]  of the part from the top that is shown
 * @property {(page: Page) => Promise<unknown>} [prepare]
 */

/** @type {Shot[]} */
const SHOTS = [
  { name: "overview", path: "/", height: 868 },
  { name: "overview-dark", path: "/", shown: "dark", height: 868 },
  { name: "overview-phone", path: "/", shown: "phone", height: 844 },
  { name: "cluster", path: "/cluster", height: 908 },
  { name: "pipelines", path: "/pipelines", height: 288 },
  { name: "pipeline", path: "/pipelines/rag", height: 780 },
  { name: "stages", path: "/pipelines/rag", height: 498 },
  { name: "scaling", path: "/scaling", height: 420 },
  { name: "scaling-of", path: "/scaling/staged/slow", height: 800, prepare: openDecision },
  { name: "requests", path: "/requests?status=slow", height: 404 },
  { name: "request", path: "/requests", height: 790, prepare: openRequest },
  { name: "rollouts", path: "/rollouts", height: 648 },
  { name: "events", path: "/events", height: 554 },
  { name: "deploy", path: "/deploy", height: 980, prepare: checkFaulty },
];

/** @param {Page} page */
async function openDecision(page) {
  await page.locator(".uplot").waitFor();
  await page.locator(".decisions button").last().click();
}

/** The newest request of the pipeline with the most stages. @param {Page} page */
async function openRequest(page) {
  await page.getByLabel("pipeline").selectOption("rag");
  await page.locator("tbody a").first().click();
  await page.getByRole("table", { name: "Spans" }).waitFor();
}

/** @param {Page} page */
async function checkFaulty(page) {
  await page.getByLabel("File name").fill("faulty.toml");
  await page.getByRole("textbox", { name: "Text of faulty.toml" }).fill(FAULTY);
  await page.getByRole("button", { name: "Check and show the plan" }).click();
  await page.locator(".excerpt").first().waitFor();
}

/** @param {string} name  of an example */
function example(name) {
  return readFile(new URL(`pipelines/examples/${name}.toml`, ROOT), "utf8");
}

/** @param {Cluster} cluster */
async function fill(cluster) {
  await cluster.join("b", ...DEVICES);
  await cluster.join("c", ...DEVICES);
  for (const name of ["rag", "embedder"]) await cluster.deploy(name, await example(name));
  await cluster.deploy("staged", STAGES);
  await cluster.deploy("hello", hello());
  await cluster.deploy("hello", hello({ cpus: 0.02 }), "--canary", "20%");
  await cluster.deploy("large", oneStage("large", "gpus = 4\nreplicas = 2"), "--no-wait");
  await until("a pending demand", async () =>
    (await cluster.get("/api/summary")).pipelines.some(
      (/** @type {any} */ one) => one.name === "large" && one.deployments[0].pending.length > 0,
    ),
  );
}

/** @param {Cluster} cluster */
async function load(cluster) {
  const question = {
    question: "What does bread need?",
    documents: ["The ingress answers HTTP calls.", "Bread needs flour, water, salt and yeast."],
    top_k: 1,
  };
  traffic(cluster, "/rag", question, { atOnce: 2, pauseMs: 200 });
  traffic(cluster, "/embed-texts", { texts: ["hello", "good morning"] }, { pauseMs: 150 });
  traffic(cluster, "/hello", { text: "hi" }, { atOnce: 2, pauseMs: 100 });
  traffic(cluster, "/staged", { text: "hi" });
  await pause(LOAD_MS / 2);
  traffic(cluster, "/staged", { text: "hi" }, { atOnce: 3 });
  await pause(LOAD_MS / 2);
}

/** @param {number} ms */
function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/**
 * WebP of the browser's own, a third of a PNG.
 * @param {Page} page
 * @param {Shot} shot
 */
async function take(page, { name, path, shown = "light", height, prepare }) {
  await page.setViewportSize(SHOWN[shown].viewport);
  await show(page, path);
  await prepare?.(page);
  // Nothing looks as if a pointer were over it.
  await page.mouse.move(0, 0);
  // Curves are drawn when their library is there.
  await pause(1500);
  const { width } = SHOWN[shown].viewport;
  const full = await page.evaluate(() => document.documentElement.scrollHeight);
  await page.setViewportSize({ width, height: Math.min(height ?? full, full) });
  const session = await page.context().newCDPSession(page);
  const { data } = await session.send("Page.captureScreenshot", { format: "webp", quality: QUALITY });
  const bytes = Buffer.from(data, "base64");
  await writeFile(join(FOLDER, `${name}.webp`), bytes);
  console.log(`${name}.webp: ${Math.ceil(bytes.length / 1000)} kB`);
}

const browser = await startBrowser();
const cluster = await startCluster(DEVICES, "a");
try {
  await mkdir(FOLDER, { recursive: true });
  await fill(cluster);
  // Before the load: a browser that starts takes so much of the machine that the curves would show it.
  const [light, dark, phone] = await Promise.all(
    /** @type {const} */ (["light", "dark", "phone"]).map((shown) => loggedIn({ cluster, browser }, shown)),
  );
  const tabs = { light, dark, phone };
  await load(cluster);
  for (const shot of SHOTS) await take(tabs[shot.shown ?? "light"].page, shot);
} finally {
  await browser.close();
  await cluster.stop();
}
