// A file is pasted or dropped: its faults are shown where they are, its plan before the button, and then it serves.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { loggedIn, show, withCluster } from "./browser.mjs";
import { until } from "./cluster.mjs";
import { FAULTY, hello } from "./pipelines.mjs";

describe("deploy", () => {
  const on = withCluster();

  test("a faulty file: all faults in place, and no button to deploy", async () => {
    const { page } = await loggedIn(on);
    await show(page, "/deploy");
    await page.getByLabel("File name").fill("faulty.toml");
    await page.getByRole("textbox", { name: "Text of faulty.toml" }).fill(FAULTY);
    await page.getByRole("button", { name: "Check and show the plan" }).click();
    await page.getByText(/faults?; nothing was deployed/).waitFor();
    const places = await page.locator(".excerpt button").allInnerTexts();
    assert.ok(
      places.some((place) => place.startsWith("faulty.toml:10:")),
      places.join(),
    );
    assert.ok(
      places.some((place) => place.startsWith("faulty.toml:17:")),
      places.join(),
    );
    const marked = await page.locator(".gutter .bad").allInnerTexts();
    assert.deepEqual(new Set(marked), new Set(places.map((place) => place.split(":")[1])));
    assert.equal(await page.getByRole("button", { name: /^Deploy/ }).count(), 0);
    const place = places.find((one) => one.startsWith("faulty.toml:10:")) ?? "";
    await page.getByRole("button", { name: place }).click();
    const before = await page.evaluate(() => {
      const field = /** @type {HTMLTextAreaElement} */ (document.activeElement);
      return field.value.slice(0, field.selectionStart).split("\n").length;
    });
    assert.equal(before, 10, "the caret is in the faulty line");
  });

  test("a good file: the plan comes before the button, a change of the text takes it away, and then it serves", async () => {
    const { page, errors } = await loggedIn(on);
    await show(page, "/deploy");
    await page.getByLabel("File name").fill("hello.toml");
    const text = page.getByRole("textbox", { name: "Text of hello.toml" });
    const check = page.getByRole("button", { name: "Check and show the plan" });
    await text.fill(hello());
    assert.equal(await page.getByRole("button", { name: /^Deploy/ }).count(), 0);
    await check.click();
    await page.getByRole("article", { name: "Plan for hello" }).getByText("1 replica on one").waitFor();
    await text.press("End");
    await text.pressSequentially(" ");
    await page.getByRole("button", { name: /^Deploy/ }).waitFor({ state: "detached" });
    await check.click();
    await page.getByRole("button", { name: "Deploy hello, revision 1" }).click();
    await page.getByText("hello, revision 1.").waitFor();
    await until("the pipeline to serve", async () => (await on.cluster.call("/hello", { text: "hi" })) === 200);
    assert.deepEqual(errors, []);
  });

  test("a file that is dropped is read", async () => {
    const { page } = await loggedIn(on);
    await show(page, "/deploy");
    const transfer = await page.evaluateHandle((source) => {
      const found = new DataTransfer();
      found.items.add(new File([source], "dropped.toml"));
      return found;
    }, hello());
    await page.dispatchEvent(".drop", "drop", { dataTransfer: transfer });
    assert.equal(await page.getByRole("textbox", { name: "Text of dropped.toml" }).inputValue(), hello());
  });
});
