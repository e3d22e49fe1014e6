// The revisions of each pipeline: when they came, what became of them, and the way back to one.

import { send } from "../api.js";
import { confirm } from "../confirm.js";
import { h } from "../dom.js";
import { count } from "../format.js";
import { button, empty, fileName, moment, prose, state, table, whenLoaded } from "../parts.js";

/** @import { ClusterSummary, PipelineStatus, RevisionEntry } from "api" */
/** @import { Context } from "../app.js" */

/**
 * @param {Context} context
 * @param {ClusterSummary} summary
 * @param {Set<string>} opened
 */
export function histories(context, summary, opened) {
  if (summary.pipelines.length === 0)
    return empty(
      "Nothing is deployed yet. Deploy a pipeline's file, here or on a terminal:",
      "cluster deploy hello.toml",
    );
  return h(
    "ul",
    { class: "decisions" },
    summary.pipelines.map((pipeline) => {
      const isOpen = opened.has(pipeline.name);
      const toggle = () => {
        if (isOpen) opened.delete(pipeline.name);
        else opened.add(pipeline.name);
        context.redraw();
      };
      return h(
        "li",
        { key: pipeline.name, class: "history" },
        h(
          "button",
          { type: "button", class: "quiet", "aria-expanded": isOpen, onclick: toggle },
          `${pipeline.name}: revision ${pipeline.serving_revision ?? pipeline.revision} of ${pipeline.newest_revision}`,
        ),
        (pipeline.verdicts ?? [])
          .slice(0, 1)
          .map((verdict) =>
            h(
              "p",
              { key: verdict.revision, class: "verdict" },
              state(verdict.outcome, `revision ${verdict.revision} ${verdict.outcome.replaceAll("_", " ")}`),
              ": ",
              prose(verdict.reason),
            ),
          ),
        isOpen && history(context, pipeline),
      );
    }),
  );
}

/**
 * @param {Context} context
 * @param {PipelineStatus} pipeline
 */
function history(context, pipeline) {
  const { name } = pipeline;
  const found = context.queries.get("/api/pipelines/{name}/revisions", { name }, 10_000);
  const undo = async (/** @type {RevisionEntry} */ one) => {
    const question = {
      title: `Go back to revision ${one.revision} of ${pipeline.name}?`,
      text: "Its text is deployed again as a new revision, with a rollout of its own.",
      action: "Go back",
    };
    if (await confirm(question))
      await context.act(`Revision ${one.revision} of ${pipeline.name} was deployed again.`, () =>
        send("POST /api/pipelines/{name}/rollout/undo", { name }, { to_revision: one.revision }),
      );
  };
  return whenLoaded(found, "a history of revisions", (revisions) =>
    table(
      `Revisions of ${pipeline.name}`,
      [
        {
          name: "revision",
          cell: (/** @type {RevisionEntry} */ one) => [
            String(one.revision),
            one.revision === pipeline.serving_revision && h("strong", { class: "tag" }, "serves"),
          ],
        },
        { name: "deployed", cell: (one) => moment(one.deployed_at_ms) },
        { name: "by", cell: (one) => one.by },
        { name: "file", cell: (one) => h("span", { title: one.file_name }, fileName(one.file_name)) },
        {
          name: "length",
          kind: "number",
          cell: (one) => count(one.lines, "line"),
        },
        {
          name: "what became of it",
          kind: "text",
          cell: (one) => (one.verdict ? [state(one.verdict.outcome), ": ", prose(one.verdict.reason)] : "–"),
        },
        ...(context.isAdmin
          ? [
              {
                name: "undo",
                cell: (/** @type {RevisionEntry} */ one) =>
                  one.revision !== pipeline.revision &&
                  button("Go back to it", () => void undo(one), { class: "quiet" }),
              },
            ]
          : []),
      ],
      revisions.toSorted((a, b) => b.revision - a.revision),
      (one) => one.revision,
    ),
  );
}
