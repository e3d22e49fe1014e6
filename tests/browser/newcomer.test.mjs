// The questions of docs/dashboard.md, answered by the steps that it gives.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { loggedIn, ready, row, show, withCluster } from "./browser.mjs";
import { traffic, until } from "./cluster.mjs";
import { hello, STAGES, TOO_LARGE } from "./pipelines.mjs";

describe("a newcomer finds out", () => {
  const on = withCluster(async (cluster) => {
    await cluster.deploy("staged", STAGES);
    await cluster.deploy("hello", hello());
    await cluster.deploy("hello", hello({ extra: "fail_ratio = 1" }), "--canary", "50%");
    await cluster.deploy("large", TOO_LARGE, "--no-wait");
    traffic(cluster, "/staged", { text: "hi" }, { atOnce: 6 });
    traffic(cluster, "/hello", { text: "hi" }, { atOnce: 2 });
  });

  test("why there are that many replicas", async () => {
    await until("a decision to scale", async () =>
      (await on.cluster.get("/api/events?target=staged/slow")).events.some(
        (/** @type {any} */ event) => event.kind === "scaled",
      ),
    );
    const { page } = await loggedIn(on);
    await page.getByRole("link", { name: "scaling", exact: true }).click();
    await page.getByRole("link", { name: "staged/slow" }).click();
    const mark = page.getByRole("button", { name: /^scaled up from 1 to/ }).first();
    await mark.waitFor();
    await page.locator(".mark").last().click();
    const inputs = page.getByRole("group", { name: "What it was decided from" });
    await inputs.waitFor();
    assert.match(await inputs.innerText(), /ongoing/);
  });

  test("what other settings would have done", async () => {
    const { page } = await loggedIn(on);
    await show(page, "/scaling/staged/slow");
    const whatIf = page.getByRole("region", { name: "What if" });
    await whatIf.getByLabel("Most replicas").fill("1");
    await whatIf.getByRole("button", { name: "Simulate" }).click();
    await whatIf.getByRole("table", { name: "As it was, and as it would have been" }).waitFor();
    const shown = await row(page, "As it was, and as it would have been", "with these settings");
    assert.equal(shown["at most"], "1 replica");
  });

  test("which node is full, and what finds no place", async () => {
    const { page } = await loggedIn(on);
    await page.getByRole("link", { name: "cluster", exact: true }).first().click();
    await ready(page);
    await page.getByText(/cores booked/).waitFor();
    const shown = await row(page, "Deployments with replicas that fit nowhere", "large/model");
    const [reason] = (await on.cluster.get("/api/summary")).pipelines.find(
      (/** @type {any} */ one) => one.name === "large",
    ).deployments[0].pending;
    assert.equal(shown.why, reason);
    await page.getByLabel("Cores").fill("900");
    await page.getByText("0 more replicas of this size would fit").waitFor();
    await show(page, "/pipelines/large");
    await page.getByRole("link", { name: "1 without a place" }).waitFor();
  });

  test("which revision fails, also where retries hide it", async () => {
    const { page } = await loggedIn(on);
    await page.getByRole("link", { name: "rollouts", exact: true }).click();
    const card = page.getByRole("article", { name: "Rollout of hello" });
    await card.getByText("hidden errors").waitFor();
    const [old, fresh] = [
      await row(page, "Outcomes since the trial began", "revision 1 (old)"),
      await row(page, "Outcomes since the trial began", "revision 2 (new)"),
    ];
    assert.equal(old["calls failed"], "0");
    assert.ok(Number(fresh["calls failed"]) > 0, JSON.stringify(fresh));
  });

  test("which stage is slow", async (t) => {
    const { page } = await loggedIn(on);
    await show(page, "/pipelines/staged");
    await page
      .getByRole("img", { name: "first after the request; second after first; response after second" })
      .waitFor();
    const isMeasured = await on.cluster.get("/api/pipelines/staged/stages").then(
      () => true,
      () => false,
    );
    if (!isMeasured) {
      await page.getByText("This head does not measure stages").waitFor();
      return t.skip("this head does not measure stages yet");
    }
    await page.getByRole("row").filter({ hasText: "slowest" }).getByText("second").waitFor();
  });
});
