// A canary from the rollouts page: another percent, abort, and going back.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { loggedIn, show, withCluster } from "./browser.mjs";
import { until } from "./cluster.mjs";
import { hello } from "./pipelines.mjs";

/** @import { PipelineStatus } from "api" */

describe("rollouts", () => {
  const on = withCluster(async (cluster) => {
    await cluster.deploy("hello", hello());
    await cluster.deploy("hello", hello({ cpus: 0.02 }), "--canary", "10%");
  });

  /** @returns {Promise<PipelineStatus>} */
  const pipeline = async () => (await on.cluster.get("/api/summary")).pipelines[0];

  test("another percent, then abort, which asks first, then back to the aborted text, then promote", async () => {
    const { page, errors } = await loggedIn(on);
    await show(page, "/rollouts");
    const card = page.getByRole("article", { name: "Rollout of hello" });
    await card.getByText("Revision 2 answers 10% of the requests, revision 1 90%.").waitFor();

    await card.getByLabel("Percent of the requests").fill("40");
    await card.getByRole("button", { name: "Set the percent" }).click();
    await card.getByText("Revision 2 answers 40% of the requests, revision 1 60%.").waitFor();
    assert.equal((await pipeline()).rollout?.traffic_ratio, 0.4);

    await card.getByRole("button", { name: "Abort" }).click();
    await page.getByRole("dialog", { name: "Abort revision 2 of hello?" }).waitFor();
    await page.keyboard.press("Escape");
    assert.equal((await pipeline()).rollout?.revision, 2, "Escape is no");

    await card.getByRole("button", { name: "Abort" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Abort" }).click();
    await page.getByText("Revision 2 of hello was aborted.").waitFor();
    await page.getByText("revision 2 aborted").waitFor();
    await until("the abort", async () => (await pipeline()).revision === 1 && !(await pipeline()).rollout);

    await page.getByRole("button", { name: "hello: revision 1 of 2" }).click();
    await page
      .getByRole("row")
      .filter({ has: page.getByRole("rowheader", { name: "2" }) })
      .getByRole("button", { name: "Go back to it" })
      .click();
    await page.getByRole("dialog").getByRole("button", { name: "Go back" }).click();
    await page.getByText("Revision 2 of hello was deployed again.").waitFor();
    await until("a third revision", async () => (await pipeline()).newest_revision === 3);
    assert.deepEqual(errors, []);
  });
});
