// The only place that talks to the head: JSON in, JSON out, and one kind of error that says what went wrong in words.

/** @import { Calls, Problem, ProblemFault, Value } from "api" */
/** @typedef {keyof Calls extends infer C ? (C extends `GET ${infer P}` ? P : never) : never} Readable  a path that GET reads */

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
 * @param {string} path
 * @param {AbortSignal} [signal]
 * @returns {Promise<unknown>}
 */
export function get(path, signal) {
  return call("GET", path, undefined, signal);
}

/**
 * @template {keyof Calls} C
 * @param {C} what  the method and the path, such as `DELETE /api/nodes/{name}`
 * @param {Calls[C]["values"]} values
 * @param {Calls[C]["body"] extends undefined ? [] : [Calls[C]["body"]]} body
 * @returns {Promise<Calls[C]["answer"]>}
 */
export function send(what, values, ...body) {
  const [method, template] = what.split(" ");
  return call(method, path(template, values), body[0]);
}

/**
 * A path with its values: each `{name}` becomes its value, and the rest is the query; what is empty is left out.
 * @param {string} template
 * @param {Record<string, Value>} values
 */
export function path(template, values) {
  const query = new URLSearchParams();
  let filled = template;
  for (const [name, value] of Object.entries(values)) {
    if (template.includes(`{${name}}`)) filled = filled.replace(`{${name}}`, () => encodeURIComponent(String(value)));
    else if (value !== null && value !== undefined && value !== "") query.set(name, String(value));
  }
  return query.size > 0 ? `${filled}?${query}` : filled;
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
