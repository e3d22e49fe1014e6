// Chromium for tests: pages that remember what went wrong in them, and the checks that every page must pass.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { startCluster } from "./cluster.mjs";

/** @import { Browser, Page } from "playwright-core" */
/** @import { Cluster } from "./cluster.mjs" */

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const SITE = fileURLToPath(new URL("../../head/dashboard/site", import.meta.url));
const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const TIMEOUT_MS = 15_000;

/** What a page may be shown as. */
export const SHOWN = /** @type {const} */ ({
  light: { colorScheme: "light", viewport: { width: 1280, height: 900 } },
  dark: { colorScheme: "dark", viewport: { width: 1280, height: 900 } },
  phone: { colorScheme: "light", viewport: { width: 390, height: 844 } },
});

/** @returns {Promise<Browser>} */
export function startBrowser() {
  return chromium.launch({ executablePath: process.env.CHROMIUM_BIN ?? "/usr/bin/chromium", args: FLAGS });
}

/** @typedef {{ cluster: Cluster, browser: Browser }} Started */

/**
 * A cluster and a browser for the tests of a `describe`: there before the first one, gone after the last one.
 * @param {(cluster: Cluster) => Promise<void>} [prepare]  what the tests find there
 * @param {string[]} [flags]  of its `cluster up`
 */
export function withCluster(prepare, flags) {
  const started = /** @type {Started} */ ({});
  before(async () => {
    started.browser = await startBrowser();
    started.cluster = await startCluster(flags);
    await prepare?.(started.cluster);
  });
  after(async () => {
    await started.browser?.close();
    await started.cluster?.stop();
  });
  return started;
}

/**
 * @typedef {object} Tab
 * @property {Page} page
 * @property {string[]} errors  of the console and of scripts
 */

/**
 * A tab of its own, without cookies.
 * @param {Started} on
 * @param {keyof typeof SHOWN} [shown]
 * @param {import("playwright-core").BrowserContextOptions} [options]
 * @returns {Promise<Tab>}
 */
export async function openTab({ browser, cluster }, shown = "light", options = {}) {
  const context = await browser.newContext({
    ...SHOWN[shown],
    baseURL: cluster.url,
    reducedMotion: "reduce",
    ...options,
  });
  context.setDefaultTimeout(TIMEOUT_MS);
  // The files as they stand, in the place of those that the last build put into the binary.
  if (process.env.MILLSTREAM_SITE === "files")
    await context.route("**/assets/**", (route) =>
      route.fulfill({ path: SITE + new URL(route.request().url()).pathname }),
    );
  const page = await context.newPage();
  /** @type {string[]} */
  const errors = [];
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning")
      errors.push(`${message.text()} ${message.location().url}`);
  });
  page.on("pageerror", (error) => errors.push(String(error)));
  return { page, errors };
}

/**
 * Logs in by the form, as a person does.
 * @param {Page} page
 * @param {string} token
 * @param {string} [path]  the page that is asked for
 */
export async function logIn(page, token, path = "/") {
  await page.goto(path);
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Log in" }).click();
}

/**
 * @param {Started} on
 * @param {keyof typeof SHOWN} [shown]
 */
export async function loggedIn(on, shown) {
  const tab = await openTab(on, shown);
  await logIn(tab.page, on.cluster.token);
  await ready(tab.page);
  return tab;
}

/** Waits until the page has all that it asked for. @param {Page} page */
export async function ready(page) {
  await page.locator('main[aria-busy="false"] h1').waitFor();
}

/**
 * @param {Page} page
 * @param {string} path
 */
export async function show(page, path) {
  await page.goto(path);
  await ready(page);
}

/** A path that the head does not have yet is answered with 404, which browsers log. @param {string[]} errors */
export function withoutAbsent(errors) {
  return errors.filter((error) => !/status of 404 .*\/api\//.test(error));
}

/**
 * Serious and critical findings of axe-core.
 * @param {Page} page
 */
export async function findings(page) {
  // In the page's own world, where the content security policy does not apply to what the test brings.
  await page.evaluate(await readFile(AXE, "utf8"));
  const { violations } = await page.evaluate(() => /** @type {any} */ (globalThis).axe.run());
  return violations
    .filter((/** @type {any} */ one) => one.impact === "serious" || one.impact === "critical")
    .map((/** @type {any} */ one) => `${one.id}: ${one.nodes.map((/** @type {any} */ node) => node.html).join(" ")}`);
}

/** The page itself does not scroll sideways; tables do so inside themselves. @param {Page} page */
export async function assertNoSideScroll(page) {
  const { content, window } = await page.evaluate(() => ({
    content: document.documentElement.scrollWidth,
    window: innerWidth,
  }));
  assert.ok(content <= window, `${page.url()} is ${content} px wide in a window of ${window} px`);
}

/**
 * The cells of the table row that begins with `name`, by the names of their columns.
 * @param {Page} page
 * @param {string} caption
 * @param {string} name
 * @returns {Promise<Record<string, string>>}
 */
export async function row(page, caption, name) {
  const table = page.getByRole("table", { name: caption });
  const names = await table.getByRole("columnheader").allInnerTexts();
  const line = table.getByRole("row").filter({ has: page.getByRole("rowheader", { name, exact: true }) });
  const cells = await line.locator("th, td").allInnerTexts();
  return Object.fromEntries(names.map((column, index) => [column, cells[index]]));
}
