// The state that all pages share: the newest summary, the decisions since the page was opened, and how fresh they are.
// Reads the head's stream by `fetch` and not by EventSource, because that hides the comment lines that prove the head is
// still there, and the status of an answer that refuses.

/** @import { ClusterSummary, EventView, Me } from "api" */

/** Comments come every 15 s: twice that without a byte is a lost connection. */
const SILENCE_MS = 32_000;
const RETRY_MS = [500, 1000, 2000, 4000, 8000];
const MAX_DECISIONS = 500;

/**
 * @typedef {object} Live
 * @property {Me | null} me
 * @property {ClusterSummary | null} summary
 * @property {number} receivedAtMs  when the summary came, by this machine's clock
 * @property {EventView[]} decisions  oldest first
 * @property {"connecting" | "open" | "lost" | "refused"} connection
 */

/** @returns {Live} */
export function emptyLive() {
  return { me: null, summary: null, receivedAtMs: 0, decisions: [], connection: "connecting" };
}

/**
 * Keeps `live` up to date for as long as the page is open.
 * @param {Live} live
 * @param {() => void} changed
 */
export async function follow(live, changed) {
  for (let tries = 0; ; tries += 1) {
    const wasOpened = await readOnce(live, changed).catch(() => false);
    if (wasOpened) tries = 0;
    if (live.connection === "refused") return changed();
    live.connection = "lost";
    changed();
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS[Math.min(tries, RETRY_MS.length - 1)]));
  }
}

/**
 * Reads until the stream ends. Whether it had begun.
 * @param {Live} live
 * @param {() => void} changed
 */
async function readOnce(live, changed) {
  const abort = new AbortController();
  let timer = setTimeout(() => abort.abort(), SILENCE_MS);
  let hasBegun = false;
  try {
    const answer = await fetch("/api/live", { headers: { accept: "text/event-stream" }, signal: abort.signal });
    if (answer.status === 401) live.connection = "refused";
    if (!answer.ok || !answer.body) return false;
    const parse = parser((event, data) => {
      hasBegun = true;
      take(live, event, data);
      changed();
    });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return hasBegun;
      clearTimeout(timer);
      timer = setTimeout(() => abort.abort(), SILENCE_MS);
      parse(value);
    }
  } catch {
    return hasBegun;
  } finally {
    clearTimeout(timer);
  }
}

/**
 * @param {Live} live
 * @param {string} event
 * @param {string} data
 */
function take(live, event, data) {
  live.connection = "open";
  if (event === "summary") {
    live.summary = JSON.parse(data);
    live.receivedAtMs = Date.now();
  } else if (event === "decision") {
    live.decisions = [...live.decisions, JSON.parse(data)].slice(-MAX_DECISIONS);
  }
}

/**
 * Splits a stream of server-sent events; the function that it returns takes the text as it comes, in any pieces.
 * @param {(event: string, data: string) => void} found
 */
export function parser(found) {
  let rest = "";
  return (/** @type {string} */ text) => {
    const blocks = (rest + text).replaceAll("\r\n", "\n").split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) {
      let event = "message";
      /** @type {string[]} */
      const data = [];
      for (const line of block.split("\n")) {
        if (line.startsWith("event:")) event = line.slice(6).trim();
        else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
      }
      if (data.length > 0) found(event, data.join("\n"));
    }
  };
}
