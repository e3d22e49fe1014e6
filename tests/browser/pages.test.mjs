// Every page beside a real cluster, in light, in dark and on a phone: it has what it is for, no error, nothing that keeps
// people out, and does not scroll sideways.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  assertNoSideScroll,
  findings,
  loggedIn,
  openTab,
  ready,
  show,
  SHOWN,
  withCluster,
  withoutAbsent,
} from "./browser.mjs";
import { traffic, until } from "./cluster.mjs";
import { hello, STAGES, TOO_LARGE } from "./pipelines.mjs";

/** Each page's address, and what must be on it. */
const PAGES = /** @type {const} */ ([
  ["/", "Overview", ["Pipelines", "What changed lately"]],
  ["/cluster", "Cluster", ["Nodes", "Pending demands", "What would fit", "Replicas", "Ingresses"]],
  ["/pipelines", "Pipelines", []],
  ["/pipelines/staged", "staged", ["Stages", "Deployments", "File"]],
  ["/scaling", "Scaling", []],
  ["/scaling/staged/slow", "Scaling of staged/slow", ["Replicas over time", "Decisions", "What if", "Range"]],
  ["/requests", "Requests", []],
  ["/rollouts", "Rollouts", ["Under way", "Revisions"]],
  ["/events", "Events", []],
  ["/deploy", "Deploy", []],
]);

describe("pages", () => {
  const on = withCluster(async (cluster) => {
    await cluster.deploy("hello", hello());
    await cluster.deploy("staged", STAGES);
    await cluster.deploy("large", TOO_LARGE, "--no-wait");
    await cluster.deploy("hello", hello({ cpus: 0.02 }), "--canary", "10%");
    traffic(cluster, "/staged", { text: "hi" }, { atOnce: 4 });
    await until("a pending demand", async () =>
      (await cluster.get("/api/summary")).pipelines.some(
        (/** @type {any} */ one) => one.name === "large" && one.deployments[0].pending.length > 0,
      ),
    );
    await until("a decision to scale", async () =>
      (await cluster.get("/api/events?target=staged/slow")).events.some(
        (/** @type {any} */ event) => event.kind === "scaled",
      ),
    );
  });

  for (const shown of /** @type {(keyof typeof SHOWN)[]} */ (Object.keys(SHOWN))) {
    test(`all pages: ${shown}`, async (t) => {
      const { page, errors } = await loggedIn(on, shown);
      for (const [path, title, sections] of PAGES) {
        await t.test(path, async () => {
          errors.length = 0;
          await show(page, path);
          assert.equal(await page.getByRole("heading", { level: 1 }).innerText(), title);
          for (const section of sections) await page.getByRole("region", { name: section, exact: true }).waitFor();
          await assertNoSideScroll(page);
          assert.deepEqual(await findings(page), []);
          assert.deepEqual(withoutAbsent(errors), []);
        });
      }
    });
  }

  test("links change the page without loading it again, and back goes back", async () => {
    const { page } = await loggedIn(on);
    await page.evaluate(() => {
      Object.assign(globalThis, { isSame: true });
    });
    await page.getByRole("link", { name: "cluster", exact: true }).first().click();
    await page.getByRole("heading", { level: 1, name: "Cluster" }).waitFor();
    assert.equal(
      await page.getByRole("link", { name: "cluster", exact: true }).first().getAttribute("aria-current"),
      "page",
    );
    assert.equal(await page.evaluate(() => document.activeElement?.id), "main");
    await page.goBack();
    await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
    assert.ok(await page.evaluate(() => /** @type {any} */ (globalThis).isSame));
  });

  test("by keyboard: the skip link comes first, and every control can be reached and seen", async () => {
    const { page } = await loggedIn(on);
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement?.textContent), "Skip to the content");
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement?.id), "main");
    await page.keyboard.press("Tab");
    const { outline, isInside } = await page.evaluate(() => ({
      outline: getComputedStyle(/** @type {Element} */ (document.activeElement)).outlineStyle,
      isInside: document.getElementById("main")?.contains(document.activeElement),
    }));
    assert.ok(isInside);
    assert.equal(outline, "solid");
  });

  test("the colours that people choose stay", async () => {
    const { page } = await loggedIn(on);
    const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const light = await background();
    const button = page.getByRole("button", { name: /^Colors/ });
    await button.click();
    await button.click();
    assert.equal(await button.innerText(), "Colors: dark");
    const dark = await background();
    assert.notEqual(dark, light);
    await page.reload();
    await ready(page);
    assert.equal(await background(), dark);
  });

  test("an address without a page says so", async () => {
    const { page } = await loggedIn(on);
    await show(page, "/pipelines/nothing");
    await page.getByText("This pipeline is not deployed.").waitFor();
  });

  test("the login page has nothing that keeps people out", async () => {
    const { page, errors } = await openTab(on, "phone");
    await page.goto("/");
    await page.getByLabel("Token").waitFor();
    await assertNoSideScroll(page);
    assert.deepEqual(await findings(page), []);
    assert.deepEqual(errors, []);
  });
});
