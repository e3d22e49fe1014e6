// The only place that talks to the head: JSON in, JSON out, and one kind of error that says what went wrong in words.

/** @import { Problem, ProblemFault } from "api" */

/** An answer that is not what was asked for. */
export class ApiError extends Error {
  /**
   * @param {number} status  0 when there was no answer
   * @param {string} message
   * @param {ProblemFault[]} [faults]
   */
  constructor(status, message, faults = []) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.faults = faults;
  }
}

/**
 * @template T
 * @param {string} path
 * @param {AbortSignal} [signal]
 * @returns {Promise<T>}
 */
export function get(path, signal) {
  return call("GET", path, undefined, signal);
}

/**
 * @template T
 * @param {"POST" | "PUT" | "PATCH" | "DELETE"} method
 * @param {string} path
 * @param {unknown} [body]
 * @returns {Promise<T>}
 */
export function send(method, path, body) {
  return call(method, path, body);
}

/**
 * A path with its query; what is empty is left out.
 * @param {string} base
 * @param {Record<string, string | number | null | undefined>} query
 */
export function path(base, query) {
  const set = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const text = new URLSearchParams(set.map(([key, value]) => [key, String(value)])).toString();
  return text ? `${base}?${text}` : base;
}

/**
 * @param {string} method
 * @param {string} target
 * @param {unknown} [body]
 * @param {AbortSignal} [signal]
 */
async function call(method, target, body, signal) {
  const init = { method, signal, headers: { accept: "application/json" } };
  if (body !== undefined) {
    Object.assign(init, { body: JSON.stringify(body) });
    Object.assign(init.headers, { "content-type": "application/json" });
  }
  const answer = await fetch(target, init).catch((error) => {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "The head does not answer.");
  });
  if (!answer.ok) throw await problem(answer);
  const text = await answer.text();
  return text === "" ? null : JSON.parse(text);
}

/** @param {Response} answer */
async function problem(answer) {
  /** @type {Partial<Problem>} */
  const body = await answer.json().catch(() => ({}));
  const said = body.detail || body.title || `The head answered with status ${answer.status}.`;
  return new ApiError(answer.status, said, body.errors ?? []);
}
