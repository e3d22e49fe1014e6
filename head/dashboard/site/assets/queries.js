// What a page has asked the head for. A page names the paths that it needs each time it is drawn; this fetches them,
// repeats them while they are wanted and forgets them when they are not, so that no page has to start or stop anything.

import { ApiError, get, path } from "./api.js";

/** @import { Calls } from "api" */
/** @import { Readable } from "./api.js" */

/**
 * An answer, or why there is none: `absent` is a head that does not have this path.
 * @template T
 * @typedef {object} Loaded
 * @property {"loading" | "ready" | "absent" | "failed"} state
 * @property {T} [data]
 * @property {string} [error]
 */

/**
 * @typedef {object} Query
 * @property {Loaded<any>} loaded
 * @property {string} text  the answer as it came, to see whether a new one differs
 * @property {number} everyMs
 * @property {AbortController} abort
 * @property {ReturnType<typeof setTimeout> | undefined} timer
 * @property {boolean} isWanted
 */

export class Queries {
  /** @type {Map<string, Query>} */
  #queries = new Map();
  #changed;

  /** @param {() => void} changed  called when an answer differs from the last one */
  constructor(changed) {
    this.#changed = changed;
  }

  /**
   * The answer of a path so far. Fetched again every `everyMs`; 0 is once.
   * @template {Readable} P
   * @param {P} template
   * @param {Calls[`GET ${P}`]["values"]} values
   * @param {number} [everyMs]
   * @returns {Loaded<Calls[`GET ${P}`]["answer"]>}
   */
  get(template, values, everyMs = 0) {
    const target = path(template, values);
    let query = this.#queries.get(target);
    if (!query) {
      query = {
        loaded: { state: "loading" },
        text: "",
        everyMs,
        abort: new AbortController(),
        timer: undefined,
        isWanted: true,
      };
      this.#queries.set(target, query);
      void this.#fetch(target, query);
    }
    query.isWanted = true;
    return query.loaded;
  }

  /** Fetches at once what begins with `prefix`, after something was changed. @param {string} prefix */
  refresh(prefix) {
    for (const [target, query] of this.#queries) {
      if (target.startsWith(prefix)) void this.#fetch(target, query);
    }
  }

  /** Draws by `draw`, and stops what it did not ask for. @param {() => void} draw */
  during(draw) {
    for (const query of this.#queries.values()) query.isWanted = false;
    draw();
    for (const [target, query] of this.#queries) {
      if (query.isWanted) continue;
      clearTimeout(query.timer);
      query.abort.abort();
      this.#queries.delete(target);
    }
  }

  get isLoading() {
    return [...this.#queries.values()].some((query) => query.loaded.state === "loading");
  }

  /**
   * @param {string} target
   * @param {Query} query
   */
  async #fetch(target, query) {
    clearTimeout(query.timer);
    if (!document.hidden || query.loaded.state === "loading") {
      const loaded = await load(target, query);
      if (query.abort.signal.aborted) return;
      const text = JSON.stringify(loaded);
      if (text !== query.text) {
        query.text = text;
        query.loaded = loaded;
        this.#changed();
      }
    }
    clearTimeout(query.timer);
    if (query.everyMs > 0 && query.loaded.state !== "absent") {
      query.timer = setTimeout(() => void this.#fetch(target, query), query.everyMs);
    }
  }
}

/**
 * @param {string} target
 * @param {Query} query
 * @returns {Promise<Loaded<any>>}
 */
async function load(target, query) {
  try {
    return { state: "ready", data: await get(target, query.abort.signal) };
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return { state: "absent", error: error.message };
    // What was there stays, as a lost connection has its banner.
    if (query.loaded.data !== undefined) return query.loaded;
    return { state: "failed", error: error instanceof Error ? error.message : String(error) };
  }
}
