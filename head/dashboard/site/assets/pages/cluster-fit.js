// "What would fit": how many replicas of a size that the reader gives would find room now.

import { fits } from "../capacity.js";
import { h } from "../dom.js";
import { count } from "../format.js";
import { field, table } from "../parts.js";

/** @import { ClusterSummary } from "api" */
/** @import { Context } from "../app.js" */

const GIB = 2 ** 30;
/** Nodes listed below the sentence. */
const MAX_NODES = 10;

/** @param {Context} context */
export function whatWouldFit(context) {
  const size = { cores: 1, gib: 1, gpus: 0 };
  const input = (/** @type {keyof typeof size} */ key, /** @type {string} */ label, /** @type {string} */ step) =>
    field(
      label,
      h("input", {
        type: "number",
        min: "0",
        step,
        inputmode: "decimal",
        value: String(size[key]),
        oninput: (/** @type {any} */ event) => {
          size[key] = Math.max(0, Number(event.target.value) || 0);
          context.redraw();
        },
      }),
    );
  return (/** @type {ClusterSummary} */ summary) => {
    const rows = fits(summary.nodes, { cores: size.cores, memoryBytes: size.gib * GIB, gpus: size.gpus });
    const total = rows.reduce((sum, row) => sum + row.replicas, 0);
    const holding = rows.filter((row) => row.replicas > 0).length;
    return [
      h(
        "form",
        { class: "fields", onsubmit: (/** @type {Event} */ event) => event.preventDefault() },
        input("cores", "Cores", "any"),
        input("gib", "Memory in GiB", "any"),
        input("gpus", "GPUs (0.25 is a quarter)", "any"),
      ),
      h(
        "p",
        { role: "status" },
        h("strong", null, `${count(total, "more replica")} of this size would fit`),
        `, on ${count(holding, "node")}. Labels, accelerators and max_replicas_per_node of a file can allow fewer.`,
      ),
      rows.length > 0 &&
        table(
          "Room by node",
          [
            { name: "node", cell: (row) => row.node },
            { name: "room for", kind: "number", cell: (row) => count(row.replicas, "replica") },
            { name: "runs out first", cell: (row) => row.limit },
          ],
          rows.slice(0, MAX_NODES),
          (row) => row.node,
        ),
    ];
  };
}
