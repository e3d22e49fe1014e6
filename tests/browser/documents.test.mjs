// The pages of the ingress: what is here, and what can be called, tried as a person does it.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { openTab, withCluster } from "./browser.mjs";
import { hello } from "./pipelines.mjs";

describe("the ingress shows", () => {
  const on = withCluster((cluster) => cluster.deploy("hello", hello()));

  test("what is here, and a call that works", async () => {
    const { page, errors } = await openTab(on, "light", { baseURL: on.cluster.ingress });
    await page.goto("/");
    await page.getByRole("link", { name: "hello" }).click();
    await page.getByRole("button", { name: "Execute" }).click();
    await page.getByText("Response Status: OK (200)").waitFor();
    await page.goto("/docs");
    await page.getByText("Runs the pipeline hello.").first().waitFor();
    assert.deepEqual(errors, []);
  });
});

describe("an ingress that requires keys shows", () => {
  const on = withCluster((cluster) => cluster.deploy("hello", hello()), ["--require-api-key"]);

  test("nothing until it has one", async () => {
    const { page, errors } = await openTab(on, "light", { baseURL: on.cluster.ingress });
    await page.goto("/docs");
    const [field, button] = [page.getByLabel("API key"), page.getByRole("button", { name: "Show the pipelines" })];
    await field.fill("mk_wrong");
    await button.click();
    await page.getByText("there is no such API key").waitFor();
    const key = (await on.cluster.run("key", "create", "reader")).trim();
    // The ingress hears of it a moment later.
    await page.waitForTimeout(1000);
    await field.fill(key);
    await button.click();
    await page.getByRole("button", { name: "Execute" }).click();
    await page.getByText("Response Status: OK (200)").waitFor();
    assert.deepEqual(
      errors.filter((error) => !/status of 401 .*\/openapi.json/.test(error)),
      [],
    );
  });
});
