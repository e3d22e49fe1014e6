// Parts of pages whose answers a head may not have yet: what it would say is put in the place of its answers.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { findings, loggedIn, openTab, logIn, ready, show, withCluster } from "./browser.mjs";
import { STAGES } from "./pipelines.mjs";

/** @import { RequestTrace, StageTraffic, WhatIf } from "api" */

/** @type {StageTraffic[]} */
const TRAFFIC = [
  { stage: "first", calls_per_second: 10, failed_per_second: 2, p50_ms: 1.5, p99_ms: 3 },
  { stage: "second", calls_per_second: 10, failed_per_second: 0, p50_ms: 152, p99_ms: 180 },
];

/** @type {RequestTrace} */
const REQUEST = {
  request_id: "7f3a",
  trace_id: "4bf9",
  pipeline: "staged",
  revision: 1,
  at_ms: Date.now(),
  duration_ms: 200,
  status: 502,
  ingress: "ingress-0",
  kept: "failed",
  spans: [
    { span_id: "b", parent_id: "a", name: "first", kind: "stage", start_us: 1000, duration_us: 9000, attributes: {} },
    { span_id: "a", name: "POST", kind: "request", start_us: 0, duration_us: 200_000, attributes: { tokens: 5 } },
    {
      span_id: "c",
      parent_id: "a",
      name: "second",
      kind: "stage",
      start_us: 20_000,
      duration_us: 150_000,
      attributes: {},
      error: "it ended",
    },
    {
      span_id: "d",
      parent_id: "c",
      name: "wait",
      kind: "queue",
      start_us: 20_000,
      duration_us: 50_000,
      attributes: {},
    },
  ],
};

/** @type {WhatIf} */
const SIMULATED = {
  deployment: "staged/slow",
  actual: { replica_seconds: 3600, max_ready: 3, waited_ratio: 0.02 },
  simulated: {
    replica_seconds: 1800,
    max_ready: 2,
    waited_ratio: 0.3,
    start_unix_ms: Date.now() - 3000,
    step_ms: 1000,
    ready: [1, 2, 2],
    queued: [0, 3, 1],
  },
};

describe("what comes later", () => {
  const on = withCluster(async (cluster) => {
    await cluster.deploy("staged", STAGES);
  });

  test("the slowest stage is marked, and calls that failed without a failed request are hidden errors", async () => {
    const { page } = await loggedIn(on);
    await page.route("**/api/pipelines/staged/stages", (route) => route.fulfill({ json: TRAFFIC }));
    await show(page, "/pipelines/staged");
    assert.match(await page.getByRole("row").filter({ hasText: "slowest" }).innerText(), /^second/);
    const first = page.getByRole("row").filter({ has: page.getByRole("rowheader", { name: "first" }) });
    assert.equal(await first.locator("td").last().innerText(), "2/s");
  });

  test("a request is a waterfall: each span below the one that it is a part of, and its error beside it", async () => {
    const { page, errors } = await loggedIn(on);
    await page.route("**/api/requests?*", (route) => route.fulfill({ json: { requests: [REQUEST] } }));
    await page.route("**/api/requests/7f3a", (route) => route.fulfill({ json: REQUEST }));
    await show(page, "/requests");
    assert.deepEqual(await findings(page), []);
    await page.getByRole("link", { name: "7f3a" }).click();
    const spans = page.getByRole("table", { name: "Spans" });
    await spans.waitFor();
    assert.deepEqual(await spans.getByRole("rowheader").allInnerTexts(), [
      "POST request",
      "first stage",
      "second stage",
      "wait queue",
    ]);
    assert.match(await spans.getByRole("row").filter({ hasText: "second" }).innerText(), /20 ms\s+150 ms\s+it ended/);
    const place = await spans
      .locator(".span")
      .nth(2)
      .evaluate((bar) => {
        const [own, all] = [
          bar.getBoundingClientRect(),
          /** @type {Element} */ (bar.parentElement).getBoundingClientRect(),
        ];
        return [(own.left - all.left) / all.width, own.width / all.width].map((part) => Math.round(part * 100));
      });
    assert.deepEqual(place, [10, 75]);
    assert.deepEqual(await findings(page), []);
    assert.deepEqual(errors, []);
  });

  test("what if: what it cost and what it would have cost, side by side", async () => {
    const { page, errors } = await loggedIn(on);
    /** @type {unknown} */
    let asked;
    await page.route("**/api/simulate", (route) => {
      asked = route.request().postDataJSON();
      return route.fulfill({ json: SIMULATED });
    });
    await show(page, "/scaling/staged/slow");
    await page.getByRole("region", { name: "What if" }).getByLabel("Most replicas").fill("2");
    await page.getByRole("button", { name: "Simulate" }).click();
    await page.getByRole("row").filter({ hasText: "with these settings" }).getByText("1,800 replica-seconds").waitFor();
    assert.deepEqual(asked, {
      deployment: "staged/slow",
      min_replicas: 1,
      max_replicas: 2,
      target_ongoing_requests: 1,
      since_s: 3600,
    });
    assert.deepEqual(await findings(page), []);
    assert.deepEqual(errors, []);
  });

  test("a head without an answer is told in a sentence", async () => {
    const { page } = await openTab(on);
    await page.route(/\/api\/(requests|defrag|series|simulate)/, (route) =>
      route.fulfill({ status: 404, json: { title: "Not Found", status: 404 } }),
    );
    await logIn(page, on.cluster.token);
    await ready(page);
    await page.getByText("This head does not have series of requests.").waitFor();
    await show(page, "/requests");
    await page.getByText("This head does not have a record of single requests.").waitFor();
    await show(page, "/cluster");
    await page.getByText("This head does not have a plan of such moves.").waitFor();
    await show(page, "/scaling/staged/slow");
    await page.getByRole("button", { name: "Simulate" }).click();
    await page.getByText("This head does not have simulation.").waitFor();
  });
});
