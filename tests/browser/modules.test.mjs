// The parts of the dashboard that need no browser: plain functions on plain data, and what is shipped.

import assert from "node:assert/strict";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { fits } from "../../head/dashboard/site/assets/capacity.js";
import { layout } from "../../head/dashboard/site/assets/dag.js";
import { concerns } from "../../head/dashboard/site/assets/decisions.js";
import { bytes, cores, count, duration, number, percent, perSecond } from "../../head/dashboard/site/assets/format.js";
import { parser } from "../../head/dashboard/site/assets/live.js";
import { prose } from "../../head/dashboard/site/assets/parts.js";

/** @import { EventView, Graph, NodeStatus } from "api" */

const SITE = fileURLToPath(new URL("../../head/dashboard/site", import.meta.url));
const MAX_BYTES = 300_000;

test("numbers have a unit and no more digits than one reads", () => {
  assert.deepEqual(
    [number(0), number(1234.5), number(12.345), number(1.2345), number(null)],
    ["0", "1,235", "12.3", "1.23", "–"],
  );
  assert.deepEqual(
    [duration(0.3), duration(999), duration(1500), duration(65_000), duration(7_200_000), duration(undefined)],
    ["0.3 ms", "999 ms", "1.5 s", "65 s", "2 h", "–"],
  );
  assert.deepEqual([bytes(512), bytes(1.5 * 2 ** 30), bytes(64 * 2 ** 30)], ["512 B", "1.5 GiB", "64 GiB"]);
  assert.deepEqual([cores(1000), cores(250), cores(16_000)], ["1 core", "0.25 cores", "16 cores"]);
  assert.deepEqual([count(1, "replica"), count(0, "replica"), perSecond(12.34)], ["1 replica", "0 replicas", "12.3/s"]);
});

test("what is not nothing never reads as 0", () => {
  assert.deepEqual([duration(0), duration(0.003), duration(0.006)], ["0 ms", "<0.01 ms", "0.01 ms"]);
  assert.deepEqual(
    [percent(0), percent(0.0001), percent(0.012), percent(0.5), percent(1)],
    ["0%", "<0.1%", "1.2%", "50%", "100%"],
  );
});

test("names in a sentence look like names, and a lone backtick is left as it is", () => {
  const parts = /** @type {any[]} */ (prose("`rag` does not serve"));
  assert.deepEqual(
    [parts[0], parts[1].tag, [...parts[1].children.values()], parts[2]],
    ["", "code", ["rag"], " does not serve"],
  );
  assert.equal(prose("a ` alone"), "a ` alone");
});

test("events of a stream are found however it is cut", () => {
  const text = 'event: summary\ndata: {"a":1}\n\n: still here\n\nevent: decision\r\ndata: one\r\ndata: two\r\n\r\n';
  for (const size of [1, 3, text.length]) {
    /** @type {[string, string][]} */
    const found = [];
    const take = parser((event, data) => found.push([event, data]));
    for (let at = 0; at < text.length; at += size) take(text.slice(at, at + size));
    assert.deepEqual(
      found,
      [
        ["summary", '{"a":1}'],
        ["decision", "one\ntwo"],
      ],
      `in pieces of ${size}`,
    );
  }
});

/** @param {Partial<NodeStatus>} change @returns {NodeStatus} */
function node(change) {
  return {
    name: "one",
    id: "1",
    state: "ready",
    address: "",
    pid: 1,
    cpu_milli: 8000,
    free_cpu_milli: 8000,
    memory_bytes: 2 ** 33,
    free_memory_bytes: 2 ** 33,
    labels: {},
    gpus: [],
    last_seen_ms_ago: 0,
    ...change,
  };
}

/** @param {number} free */
function gpu(free) {
  return { index: 0, model: "", memory_bytes: 1, free_share: free, booked_share: 1 - free, holders: [] };
}

test("room is what runs out first, and only on nodes that take replicas", () => {
  const nodes = [node({ name: "a" }), node({ name: "b", free_cpu_milli: 100 }), node({ name: "c", state: "cordoned" })];
  assert.deepEqual(fits(nodes, { cores: 0.1, memoryBytes: 2 ** 30, gpus: 0 }), [
    { node: "a", replicas: 8, limit: "memory" },
    { node: "b", replicas: 1, limit: "cores" },
  ]);
});

test("a share of a GPU comes from one device, and whole GPUs from free ones", () => {
  const nodes = [node({ gpus: [gpu(0.75), gpu(0.3), gpu(1)] })];
  const replicas = (/** @type {number} */ gpus) => fits(nodes, { cores: 0, memoryBytes: 0, gpus })[0].replicas;
  assert.deepEqual([replicas(0.25), replicas(0.3), replicas(0.5), replicas(1), replicas(2)], [8, 6, 3, 1, 0]);
});

test("a stage stands right of all that it waits for, and no two boxes overlap", () => {
  const isPlain = { when: false, for_each: false };
  /** @type {Graph} */
  const graph = {
    pipeline: "p",
    revision: 1,
    response_after: ["d", "b"],
    stages: [
      { name: "a", kind: "call", after: [], ...isPlain },
      { name: "b", kind: "call", after: ["a"], ...isPlain },
      { name: "c", kind: "operator", after: ["a"], ...isPlain },
      { name: "d", kind: "call", after: ["c", "a"], ...isPlain },
    ],
  };
  const { boxes, edges } = layout(graph);
  const x = Object.fromEntries(boxes.map((box) => [box.name, box.x]));
  assert.ok(x.request < x.a && x.a < x.b && x.b === x.c && x.c < x.d && x.d < x.response);
  for (const [index, one] of boxes.entries()) {
    for (const other of boxes.slice(index + 1)) {
      const isApart =
        one.x + one.width <= other.x ||
        other.x + other.width <= one.x ||
        one.y + one.height <= other.y ||
        other.y + other.height <= one.y;
      assert.ok(isApart, `${one.name} and ${other.name}`);
    }
  }
  assert.deepEqual(edges.map((edge) => [edge.through[0].name, edge.through.at(-1)?.name]).toSorted(), [
    ["a", "b"],
    ["a", "c"],
    ["a", "d"],
    ["b", "response"],
    ["c", "d"],
    ["d", "response"],
    ["request", "a"],
  ]);
});

test("what is about a pipeline or the cluster concerns its parts", () => {
  const event = (/** @type {string} */ subject, kind = "deployed") =>
    /** @type {EventView} */ ({ sequence: 1, at_ms: 0, kind, subject, text: "" });
  assert.ok(
    concerns(event("rag/embedder"), "rag/embedder") &&
      concerns(event("rag"), "rag/embedder") &&
      concerns(event("cluster"), "rag"),
  );
  assert.ok(
    !concerns(event("rag/reranker"), "rag/embedder") &&
      !concerns(event("rag2"), "rag") &&
      !concerns(event("cluster", "key"), "rag") &&
      !concerns(event("cluster", "token"), "rag"),
  );
});

/** @param {string} folder @returns {Promise<string[]>} */
async function filesIn(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

test("the whole site is small, needs nothing from elsewhere, and has no markup made of text", async () => {
  const files = await filesIn(SITE);
  const sizes = await Promise.all(files.map(async (file) => (await stat(file)).size));
  const total = sizes.reduce((sum, size) => sum + size, 0);
  assert.ok(total <= MAX_BYTES, `${total} bytes`);
  for (const file of files.filter((name) => !name.includes("/vendor/"))) {
    const text = await readFile(file, "utf8");
    assert.doesNotMatch(text.replaceAll("http://www.w3.org/", ""), /https?:\/\//, file);
    assert.doesNotMatch(text, /innerHTML|insertAdjacentHTML|document\.write|\seval\(/, file);
    if (file.endsWith(".html")) assert.doesNotMatch(text, / style=|<style| on[a-z]+=|<script(?![^>]*src=)/, file);
  }
});

test("the chart library is the package's own file", async () => {
  for (const [ours, theirs] of [
    ["uPlot.iife.min.js", "dist/uPlot.iife.min.js"],
    ["uPlot.min.css", "dist/uPlot.min.css"],
    ["LICENSE", "LICENSE"],
  ]) {
    const [a, b] = await Promise.all([
      readFile(join(SITE, "assets/vendor/uplot", ours), "utf8"),
      readFile(fileURLToPath(new URL(`node_modules/uplot/${theirs}`, import.meta.url)), "utf8"),
    ]);
    assert.equal(a, b, ours);
  }
});

test("no function is longer than a screen", async () => {
  for (const file of (await filesIn(join(SITE, "assets"))).filter(
    (name) => name.endsWith(".js") && !name.includes("/vendor/"),
  )) {
    const lines = (await readFile(file, "utf8")).split("\n");
    assert.match(lines[0], /^\/\/ /, `${file} does not say why it exists`);
    let start = lines.length;
    lines.forEach((line, index) => {
      if (/^(export )?(async )?function /.test(line)) start = index;
      if (/^(export )?class /.test(line)) start = lines.length;
      if (line === "}") assert.ok(index - start < 60, `${file}:${start + 1}`);
    });
  }
});
