// Numbers, times and sizes as people read them. Every number leaves here with its unit, and what is not known is "–".

const NONE = "–";

/** @typedef {number | null | undefined} Maybe */

/**
 * At most three significant digits below 1000, whole numbers above.
 * @param {Maybe} value
 */
export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  const size = Math.abs(value);
  const digits = size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : 2;
  return rounded(value, digits);
}

/**
 * With commas between thousands and without zeros at the end. By hand, because the first `Intl.NumberFormat` of a page takes
 * longer than a frame.
 * @param {number} value
 * @param {number} digits  at most, after the point
 */
function rounded(value, digits) {
  const [whole, part = ""] = value.toFixed(digits).split(".");
  const rest = part.replace(/0+$/, "");
  return whole.replace(/\B(?=(\d{3})+$)/g, ",") + (rest && `.${rest}`);
}

/**
 * `3 replicas`, `1 replica`.
 * @param {Maybe} value
 * @param {string} one
 * @param {string} [many]
 */
export function count(value, one, many = `${one}s`) {
  return `${number(value)} ${value === 1 ? one : many}`;
}

/** @param {Maybe} value */
export function perSecond(value) {
  return value === null || value === undefined ? NONE : `${number(value)}/s`;
}

/**
 * A part of one as percent. What is not nothing never reads as 0%.
 * @param {Maybe} ratio
 */
export function percent(ratio) {
  if (ratio === null || ratio === undefined || !Number.isFinite(ratio)) return NONE;
  const value = ratio * 100;
  if (value > 0 && value < 0.1) return "<0.1%";
  return `${rounded(value, value < 10 ? 1 : 0)}%`;
}

/**
 * A duration. What is not nothing never reads as 0 ms.
 * @param {Maybe} ms
 */
export function duration(ms) {
  if (ms === null || ms === undefined || !Number.isFinite(ms)) return NONE;
  if (ms > 0 && ms < 0.005) return "<0.01 ms";
  if (ms < 1000) return `${number(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 120) return `${rounded(seconds, seconds < 10 ? 1 : 0)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}

/** @param {Maybe} value */
export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let amount = value;
  let unit = 0;
  while (amount >= 1024 && unit < units.length - 1) {
    amount /= 1024;
    unit += 1;
  }
  return `${rounded(amount, amount < 10 ? 1 : 0)} ${units[unit]}`;
}

/**
 * Thousandths of cores.
 * @param {Maybe} milli
 */
export function cores(milli) {
  if (milli === null || milli === undefined) return NONE;
  return count(Math.round(milli / 10) / 100, "core");
}

/**
 * Time of day with seconds, and the date too if it is not today.
 * @param {number} atMs
 */
export function time(atMs) {
  const at = new Date(atMs);
  const clock = [at.getHours(), at.getMinutes(), at.getSeconds()].map(twoDigits).join(":");
  if (at.toDateString() === new Date().toDateString()) return clock;
  return `${at.getFullYear()}-${twoDigits(at.getMonth() + 1)}-${twoDigits(at.getDate())} ${clock}`;
}

/** @param {number} part */
function twoDigits(part) {
  return String(part).padStart(2, "0");
}

/**
 * How long ago, such as `12 s ago`.
 * @param {number} atMs
 * @param {number} [nowMs]
 */
export function ago(atMs, nowMs = Date.now()) {
  const passed = Math.max(0, nowMs - atMs);
  return passed < 1000 ? "now" : `${duration(Math.floor(passed / 1000) * 1000)} ago`;
}
