// A node that is drained, cordoned and taken in again from the cluster page.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { loggedIn, show, withCluster } from "./browser.mjs";
import { until } from "./cluster.mjs";
import { hello } from "./pipelines.mjs";

/** @import { NodeStatus } from "api" */

describe("nodes", () => {
  const on = withCluster(async (cluster) => {
    await cluster.join("two");
    await cluster.deploy("hello", hello());
  });

  /** @param {string} name */
  const state = async (name) => {
    /** @type {NodeStatus[]} */
    const nodes = (await on.cluster.get("/api/summary")).nodes;
    return nodes.find((node) => node.name === name)?.state;
  };

  test("drain, which asks first, then uncordon, cordon and uncordon again", async () => {
    const { page, errors } = await loggedIn(on);
    await show(page, "/cluster");
    const card = page.getByRole("listitem").filter({ has: page.getByRole("heading", { name: "two", exact: true }) });
    await card.getByRole("button", { name: "Drain" }).click();
    await page.getByRole("dialog", { name: "Drain node two?" }).waitFor();
    await page.keyboard.press("Escape");
    assert.equal(await state("two"), "ready", "Escape is no");

    await card.getByRole("button", { name: "Drain" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Drain" }).click();
    await page.getByText("Node two is being drained.").waitFor();
    await card.getByText("cordoned", { exact: true }).waitFor();
    await card.getByRole("button", { name: "Uncordon" }).click();
    await page.getByText("Node two takes replicas again.").waitFor();
    await until("a ready node", async () => (await state("two")) === "ready");

    await card.getByRole("button", { name: "Cordon", exact: true }).click();
    await page.getByText("Node two gets nothing new.").waitFor();
    await until("a cordoned node", async () => (await state("two")) === "cordoned");
    await card.getByRole("button", { name: "Uncordon" }).click();
    await until("a ready node", async () => (await state("two")) === "ready");
    assert.deepEqual(errors, []);
  });
});
