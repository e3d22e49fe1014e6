// What the pages say is what the API says.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { bytes, count, duration, number, percent, perSecond } from "../../head/dashboard/site/assets/format.js";
import { loggedIn, row, show, withCluster } from "./browser.mjs";
import { traffic, until } from "./cluster.mjs";
import { STAGES } from "./pipelines.mjs";

/** @import { ClusterSummary, DeploymentStatus, PipelineStatus } from "api" */

describe("numbers", () => {
  const on = withCluster(async (cluster) => {
    await cluster.deploy("staged", STAGES);
    traffic(cluster, "/staged", { text: "hi" });
    await until("traffic", async () => (await cluster.get("/api/summary")).requests_per_second > 0);
  });

  /** @returns {Promise<ClusterSummary>} */
  const summary = () => on.cluster.get("/api/summary");

  /**
   * Numbers move while they are read, so what is shown and what the API says must be equal at some moment.
   * @param {string} what
   * @param {() => Promise<[unknown, unknown]>} read  shown and expected
   */
  async function agree(what, read) {
    await until(what, async () => {
      const [shown, expected] = await read();
      assert.deepEqual(shown, expected);
      return true;
    });
  }

  test("the overview", async () => {
    const { page } = await loggedIn(on);
    const tiles = async () =>
      Object.fromEntries(
        await page
          .locator(".tile")
          .evaluateAll((all) =>
            all.map((tile) => [tile.querySelector("dt")?.textContent, tile.querySelector(".value")?.textContent]),
          ),
      );
    await agree("tiles", async () => {
      const now = await summary();
      const found = await tiles();
      return [
        [found["requests a second"], found["failed requests"], found["p50 latency"], found["p99 latency"]],
        [perSecond(now.requests_per_second), percent(now.failed_ratio), duration(now.p50_ms), duration(now.p99_ms)],
      ];
    });
    assert.equal(
      (await page.locator(".health").innerText()).trim().endsWith((await summary()).health.sentence.trim()),
      true,
    );
    await agree("the row of the pipeline", async () => {
      const one = /** @type {PipelineStatus} */ ((await summary()).pipelines[0]);
      const shown = await row(page, "Pipelines and their requests of the last minute", "staged");
      return [
        [shown.requests, shown.failed, shown.p95],
        [perSecond(one.traffic.requests_per_second), percent(one.traffic.failed_ratio), duration(one.traffic.p95_ms)],
      ];
    });
  });

  test("the node, its devices and its replicas", async () => {
    const { page } = await loggedIn(on);
    await show(page, "/cluster");
    await agree("the node", async () => {
      const [node] = (await summary()).nodes;
      const text = await page.locator(".node").innerText();
      const used = node.memory_bytes - node.free_memory_bytes;
      const expected = [
        `${bytes(used)} of ${bytes(node.memory_bytes)}`,
        ...node.gpus.map((gpu) => `${percent(gpu.booked_share)} booked`),
        ...node.gpus.flatMap((gpu) =>
          gpu.holders.map(
            (holder) => `${holder.deployment}: ${percent(holder.share)}, ${count(holder.replicas, "replica")}`,
          ),
        ),
      ];
      return [expected.filter((part) => !text.includes(part)), []];
    });
    await agree("the replicas", async () => {
      const { total, replicas } = await on.cluster.get("/api/replicas?limit=100");
      const ids = await page
        .getByRole("table", { name: "Replicas" })
        .getByRole("row")
        .locator("> span:first-child")
        .allInnerTexts();
      return [
        [await page.locator(".fields .amount").innerText(), ids.slice(1)],
        [count(total, "replica"), replicas.map((/** @type {any} */ one) => one.id)],
      ];
    });
  });

  test("a deployment", async () => {
    const { page } = await loggedIn(on);
    await show(page, "/scaling");
    await agree("the row of the deployment", async () => {
      const one = /** @type {DeploymentStatus} */ (
        (await summary()).pipelines[0].deployments.find((each) => each.name === "slow")
      );
      const shown = await row(page, "Deployments and their numbers of replicas", "staged/slow");
      return [
        [shown.ready, shown.target, shown["desired now"], shown.range, shown["aims at"]],
        [
          count(one.ready_replicas, "replica"),
          count(one.target_replicas, "replica"),
          count(one.desired_replicas, "replica"),
          `${one.min_replicas} to ${one.max_replicas}`,
          `${number(one.target_ongoing_requests)} a replica`,
        ],
      ];
    });
  });

  test("events, all of them and those of a kind", async () => {
    const { page } = await loggedIn(on);
    await show(page, "/events");
    await agree("the number of events", async () => {
      const { events } = await on.cluster.get("/api/events?limit=500");
      return [await page.locator(".fields .amount").innerText(), count(events.length, "event")];
    });
    await page.getByLabel("kind").selectOption("deployed");
    await agree("events of a kind", async () => {
      const { events } = await on.cluster.get("/api/events?limit=500");
      const deployed = events.filter((/** @type {any} */ event) => event.kind === "deployed");
      return [
        await page.locator("tbody tr td:last-child").allInnerTexts(),
        deployed.reverse().map((/** @type {any} */ event) => event.text),
      ];
    });
  });
});
