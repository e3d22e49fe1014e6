// Who gets in, what a viewer may do, and what is shown when the head is gone.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { logIn, loggedIn, openTab, ready, show, withCluster } from "./browser.mjs";
import { hello } from "./pipelines.mjs";

describe("login", () => {
  const on = withCluster(async (cluster) => {
    await cluster.deploy("hello", hello());
    await cluster.deploy("hello", hello({ cpus: 0.02 }), "--canary", "10%");
  });

  test("a wrong token is refused with a sentence, the right one opens the page that was asked for", async () => {
    const { page } = await openTab(on);
    await logIn(page, "wrong");
    await page.getByLabel("Token").waitFor();
    const words = await page.locator("form").innerText();
    assert.match(words, /token/i);
    assert.notEqual(words, "");
    await logIn(page, on.cluster.token, "/cluster?state=ready");
    await ready(page);
    assert.equal(await page.getByRole("heading", { level: 1 }).innerText(), "Cluster");
    assert.equal(new URL(page.url()).search, "?state=ready");
    await page.getByText("admin", { exact: true }).waitFor();
  });

  test("the form works without scripts", async () => {
    const { page } = await openTab(on, "light", { javaScriptEnabled: false });
    await logIn(page, on.cluster.token);
    await page.getByRole("link", { name: "rollouts" }).waitFor();
  });

  test("after logging out nothing is shown", async () => {
    const { page } = await loggedIn(on);
    await page.getByRole("button", { name: "Log out" }).click();
    await page.getByLabel("Token").waitFor();
    await page.goto("/cluster");
    await page.getByLabel("Token").waitFor();
  });

  test("a viewer sees everything and no button that changes anything", async () => {
    const printed = await on.cluster.run("token", "create", "--role", "viewer", "--json");
    const token = JSON.parse(printed).token ?? JSON.parse(printed).secret;
    const { page } = await openTab(on);
    await logIn(page, token);
    await ready(page);
    await page.getByText("viewer", { exact: true }).waitFor();
    for (const path of ["/rollouts", "/pipelines/hello", "/scaling/hello/model", "/cluster", "/deploy"]) {
      await show(page, path);
      const names = await page.getByRole("main").getByRole("button").allInnerTexts();
      const forbidden = names.filter((name) => /promote|abort|delete|remove|set the|deploy|go back|check/i.test(name));
      assert.deepEqual(forbidden, [], path);
    }
  });

  test("the banner goes when the head is back", async () => {
    const { page } = await openTab(on);
    await page.route("**/api/live", (route) => route.abort());
    await logIn(page, on.cluster.token);
    await page.getByText("Nothing has been received yet.").waitFor();
    await page.unroute("**/api/live");
    await page.locator(".health").waitFor();
    await page.locator(".banner").waitFor({ state: "detached" });
  });

  test("when the head is gone one banner says how old the data is", async () => {
    const { page } = await loggedIn(on);
    await page.context().setOffline(true);
    await page.route("**/api/**", (route) => route.abort());
    await on.cluster.stop();
    const banner = page.getByText("No connection to the head.");
    await banner.waitFor();
    assert.match(await page.locator(".banner").innerText(), /What you see is of \d\d:\d\d:\d\d, .*Trying again/);
    assert.equal(await page.getByRole("heading", { level: 1 }).innerText(), "Overview");
  });
});
