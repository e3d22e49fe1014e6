// Curves over time, drawn by uPlot, with what uPlot lacks: colours that follow the theme, decisions as buttons on the
// curve, and the same values as a table for those who do not see the curve.

import { h } from "./dom.js";
import { number, time } from "./format.js";
import { table } from "./parts.js";

/** @import uPlot from "uplot" */
/** @import { OneSeries } from "api" */
/** @import { Widget } from "./dom.js" */

/**
 * @typedef {object} Line
 * @property {string} label
 * @property {string} unit
 * @property {(number | null)[]} values
 * @property {1 | 2 | 3 | 4 | 5 | 6 | 7 | 8} color  a custom property `--line-N` of the style sheet
 * @property {"requests" | "replicas"} scale  requests on the left, replicas on the right
 * @property {number[]} [dash]
 * @property {number} [width]
 */

/**
 * Something that happened at a moment.
 * @typedef {object} Mark
 * @property {string | number} id
 * @property {number} atMs
 * @property {number} value  its height, on the scale of replicas
 * @property {string} label
 */

/**
 * @typedef {object} ChartData
 * @property {number} startMs
 * @property {number} stepMs
 * @property {Line[]} lines
 * @property {Mark[]} [marks]
 * @property {string | number | null} [chosen]  the mark that is open
 * @property {(id: string | number) => void} [choose]
 */

const HEIGHT = 260;
/** Between the marks of an axis that counts things: there is no half a replica. */
const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];
const FOLDER = "/assets/vendor/uplot/";
/** @type {Promise<void> | null} */
let library = null;

/** Fetches uPlot when the first chart is shown: pages without one do not wait for it. */
function loadLibrary() {
  library ??= new Promise((resolve, reject) => {
    const style = Object.assign(document.createElement("link"), { rel: "stylesheet", href: `${FOLDER}uPlot.min.css` });
    const script = Object.assign(document.createElement("script"), { src: `${FOLDER}uPlot.iife.min.js` });
    script.onload = () => resolve();
    script.onerror = () => reject(new Error("the chart library did not load"));
    document.head.append(style, script);
  });
  return library;
}

/** @returns {typeof uPlot} */
function constructor() {
  return /** @type {any} */ (globalThis).uPlot;
}

/**
 * A chart with its table.
 * @param {string} title
 * @param {string} summary  what the curve says now, for those who do not see it
 * @param {ChartData} data
 */
export function chart(title, summary, data) {
  return h(
    "figure",
    { class: "chart", "aria-label": title },
    h("div", { widget: lines, data, class: "plot", role: "group", "aria-label": `${title}. ${summary}` }),
    h(
      "details",
      null,
      h("summary", null, "The last values as a table"),
      table(
        `${title}: the last values`,
        [
          { name: "time", cell: (/** @type {number} */ index) => time(data.startMs + index * data.stepMs) },
          ...data.lines.map((line) => ({
            name: `${line.label} (${line.unit})`,
            kind: /** @type {const} */ ("number"),
            cell: (/** @type {number} */ index) => number(line.values[index]),
          })),
        ],
        lastSteps(data),
        (index) => data.startMs + index * data.stepMs,
      ),
    ),
  );
}

/** Twelve moments, evenly over what is shown, the newest first. @param {ChartData} data */
function lastSteps(data) {
  const length = Math.max(0, ...data.lines.map((line) => line.values.length));
  const stride = Math.max(1, Math.floor(length / 12));
  return Array.from({ length: Math.min(12, length) }, (_, index) => length - 1 - index * stride);
}

/** @type {Widget<ChartData>} */
const lines = {
  create(element, first) {
    let data = first;
    let shape = "";
    /** @type {uPlot | null} */
    let plot = null;
    const draw = () => {
      const newShape = shapeOf(data);
      if (plot && newShape === shape) return plot.setData(points(data));
      plot?.destroy();
      shape = newShape;
      plot = new (constructor())(
        options(element, () => data),
        points(data),
        element,
      );
    };
    const resized = new ResizeObserver(() => plot?.setSize({ width: element.clientWidth, height: HEIGHT }));
    void loadLibrary().then(
      () => {
        if (!element.isConnected) return;
        draw();
        resized.observe(element);
      },
      () => element.append("The chart could not be drawn. The table has its values."),
    );
    return {
      update(next) {
        const isSame = next.lines === data.lines && next.marks === data.marks && next.chosen === data.chosen;
        data = next;
        if (constructor() && (!isSame || shapeOf(data) !== shape)) draw();
      },
      destroy() {
        resized.disconnect();
        plot?.destroy();
      },
    };
  },
};

/** What cannot be changed without a new chart: its lines, and the colours of the theme. @param {ChartData} data */
function shapeOf(data) {
  const theme = getComputedStyle(document.documentElement).colorScheme;
  const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
  return [theme, isDark, ...data.lines.map((line) => `${line.label}${line.color}`)].join();
}

/** @param {ChartData} data */
function points(data) {
  const length = Math.max(0, ...data.lines.map((line) => line.values.length));
  const times = Array.from({ length }, (_, index) => (data.startMs + index * data.stepMs) / 1000);
  return /** @type {uPlot.AlignedData} */ ([times, ...data.lines.map((line) => line.values)]);
}

/**
 * @param {HTMLElement} element
 * @param {() => ChartData} current
 * @returns {uPlot.Options}
 */
function options(element, current) {
  const data = current();
  const color = colors(element);
  const range = (/** @type {unknown} */ _, /** @type {number} */ __, /** @type {number} */ most) =>
    /** @type {[number, number]} */ ([0, Math.max(1, most * 1.15 || 1)]);
  return {
    width: element.clientWidth,
    height: HEIGHT,
    cursor: { drag: { x: false, y: false } },
    scales: { x: { time: true }, requests: { range }, replicas: { range } },
    axes: axes(data, color),
    series: [
      { label: "time", value: (_, at) => (at ? time(at * 1000) : "now") },
      ...data.lines.map((line) => ({
        label: line.label,
        scale: line.scale,
        stroke: color(`--line-${line.color}`),
        width: line.width ?? 1.5,
        dash: line.dash,
        points: { show: false },
        paths: line.scale === "replicas" ? constructor().paths.stepped?.({ align: 1 }) : undefined,
        // Without a pointer over the chart, the legend has the last values.
        value: (
          /** @type {uPlot} */ plot,
          /** @type {number | null} */ value,
          /** @type {number} */ at,
          /** @type {number | null} */ index,
        ) => `${number(index === null ? lastOf(plot.data[at]) : value)} ${line.unit}`,
      })),
    ],
    hooks: { draw: [(plot) => placeMarks(plot, current())] },
  };
}

/**
 * Time below, requests on the left, replicas on the right.
 * @param {ChartData} data
 * @param {(name: string) => string} color
 * @returns {uPlot.Axis[]}
 */
function axes(data, color) {
  const unit = data.lines.find((line) => line.scale === "requests")?.unit;
  const has = (/** @type {Line["scale"]} */ scale) => data.lines.some((line) => line.scale === scale);
  const axis = {
    stroke: color("--faint"),
    grid: { stroke: color("--line"), width: 1 },
    ticks: { stroke: color("--line"), width: 1 },
  };
  return [
    { ...axis, space: 80, values: (_, splits) => splits.map((at) => time(at * 1000)) },
    {
      ...axis,
      scale: "requests",
      show: has("requests"),
      size: 56,
      label: unit,
      labelSize: 18,
      ...(unit === "requests" ? { incrs: WHOLE } : {}),
    },
    {
      ...axis,
      scale: "replicas",
      show: has("replicas"),
      side: 1,
      size: 44,
      label: "replicas",
      labelSize: 18,
      grid: { show: !has("requests"), ...axis.grid },
      incrs: WHOLE,
    },
  ];
}

/**
 * Colours of the style sheet, as the canvas needs them: resolved for the theme that is shown.
 * @param {HTMLElement} element
 */
function colors(element) {
  const probe = element.appendChild(document.createElement("span"));
  return (/** @type {string} */ name) => {
    probe.hidden = true;
    element.append(probe);
    probe.style.color = `var(${name})`;
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  };
}

/**
 * Puts a button for each mark where its moment is. Buttons stay the same elements, so that focus stays where it is.
 * @param {uPlot} plot
 * @param {ChartData} data
 */
function placeMarks(plot, data) {
  const marks = (data.marks ?? []).filter((mark) => {
    const at = mark.atMs / 1000;
    return at >= (plot.scales.x.min ?? Infinity) && at <= (plot.scales.x.max ?? -Infinity);
  });
  const old = new Map([...plot.over.querySelectorAll("button")].map((button) => [button.dataset.mark, button]));
  for (const mark of marks) {
    const button = old.get(String(mark.id)) ?? newMark(plot, mark, data);
    old.delete(String(mark.id));
    button.setAttribute("aria-pressed", String(mark.id === data.chosen));
    button.style.left = `${plot.valToPos(mark.atMs / 1000, "x")}px`;
    button.style.top = `${Math.max(0, plot.valToPos(mark.value, "replicas"))}px`;
  }
  for (const button of old.values()) button.remove();
}

/**
 * @param {uPlot} plot
 * @param {Mark} mark
 * @param {ChartData} data
 */
function newMark(plot, mark, data) {
  const button = document.createElement("button");
  Object.assign(button, {
    type: "button",
    className: "mark",
    title: mark.label,
    onclick: () => data.choose?.(mark.id),
  });
  button.dataset.mark = String(mark.id);
  button.setAttribute("aria-label", mark.label);
  button.addEventListener("mousedown", (event) => event.stopPropagation());
  plot.over.append(button);
  return button;
}

/**
 * The last value that is known.
 * @param {Pick<OneSeries, "values"> | undefined} series
 */
export function last(series) {
  return lastOf(series?.values ?? []);
}

/** @param {ArrayLike<number | null | undefined>} values */
function lastOf(values) {
  return Array.from(values).findLast((value) => value !== null);
}
