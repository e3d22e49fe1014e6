// A real cluster for tests: processes of the `cluster` command on free ports, with a data directory that goes with them.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const BINARY =
  process.env.MILLSTREAM_CLUSTER_BIN ?? fileURLToPath(new URL("../../target/debug/cluster", import.meta.url));
const START_MS = 60_000;
const STOP_MS = 20_000;
const POLL_MS = 50;

/**
 * @typedef {object} Cluster
 * @property {string} url  of the dashboard
 * @property {string} ingress  its URL
 * @property {string} token  the administrator's
 * @property {number} pid  of the process with the head
 * @property {AbortSignal} closing  aborted when the cluster begins to stop
 * @property {(...args: string[]) => Promise<string>} run  a `cluster` command; its stdout
 * @property {(name: string, text: string, ...flags: string[]) => Promise<void>} deploy
 * @property {(path: string) => Promise<any>} get  JSON of the REST API
 * @property {(route: string, body: unknown) => Promise<number>} call  a request to a pipeline; its status
 * @property {(name: string, ...flags: string[]) => Promise<void>} join  one more process, with a worker
 * @property {() => Promise<void>} stop
 */

/**
 * Starts a cluster with two declared GPUs and nothing deployed: one process, which has all parts.
 * @param {string[]} [flags]  of its `cluster up`
 * @param {string} [name]  of its node
 * @returns {Promise<Cluster>}
 */
export async function startCluster(flags = ["--gpus", "2", "--gpu-memory", "24GiB"], name = "one") {
  const directory = await mkdtemp(join(tmpdir(), "millstream-browser-"));
  const [control, dashboard, ingress] = await freePorts(3);
  /** @type {NodeJS.ProcessEnv} */
  const environment = { ...process.env, XDG_RUNTIME_DIR: directory, MILLSTREAM_DATA_DIR: directory };
  delete environment.MILLSTREAM_CLUSTER;
  const closing = new AbortController();
  /** @type {ReturnType<typeof startProcess>[]} */
  const processes = [];
  const start = (/** @type {string} */ node, /** @type {string[]} */ ...more) => {
    const started = startProcess(["up", "--node-name", node, "--drain-timeout", "1s", ...more], environment);
    processes.push(started);
    return started;
  };
  const addresses = ["--control", control, "--dashboard", dashboard, "--ingress", ingress];
  const head = start(name, "--empty", ...addresses, ...flags);
  const url = `http://${dashboard}`;
  const stop = async () => {
    closing.abort();
    await Promise.all(processes.map(({ child }) => end(child)));
    await rm(directory, { recursive: true, force: true });
  };
  try {
    const token = await startedToken(head.child, join(directory, "admin.token"));
    const headers = { authorization: `Bearer ${token}` };
    const get = async (/** @type {string} */ path) => {
      const answer = await fetch(url + path, { headers });
      if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
      return answer.json();
    };
    const isReady = (/** @type {string} */ node) => async () =>
      (await get("/api/summary")).nodes.some((/** @type {any} */ one) => one.name === node && one.state === "ready");
    await until("a ready node", isReady(name), START_MS);
    const run = (/** @type {string[]} */ ...args) => runCommand([...args, "--cluster", control], environment);
    return {
      url,
      ingress: `http://${ingress}`,
      token,
      pid: /** @type {number} */ (head.child.pid),
      closing: closing.signal,
      get,
      stop,
      run,
      deploy: async (name, text, ...more) => {
        const file = join(directory, `${name}.toml`);
        await writeFile(file, text);
        await run("deploy", file, ...more);
      },
      call: async (route, body) => {
        const answer = await fetch(`http://${ingress}${route}`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify(body),
        });
        await answer.arrayBuffer();
        return answer.status;
      },
      join: async (node, ...more) => {
        start(node, "--join", control, "--data-dir", join(directory, node), ...more);
        await until(`node ${node}`, isReady(node), START_MS);
      },
    };
  } catch (error) {
    await stop();
    throw new Error(`the cluster did not start: ${error}\n${head.log()}`);
  }
}

/**
 * @param {string[]} args
 * @param {NodeJS.ProcessEnv} env
 */
function startProcess(args, env) {
  const child = spawn(BINARY, args, { env, stdio: ["ignore", "ignore", "pipe"] });
  let log = "";
  child.stderr.on("data", (data) => {
    log += data;
  });
  return { child, log: () => log };
}

/**
 * The administrator's token, which the head writes when it starts.
 * @param {import("node:child_process").ChildProcess} child
 * @param {string} file
 */
async function startedToken(child, file) {
  const found = await until(
    "the admin token",
    async () => {
      if (child.exitCode !== null) return { ended: child.exitCode };
      return { token: (await readFile(file, "utf8")).trim() };
    },
    START_MS,
  );
  if (found.token === undefined) throw new Error(`it ended with exit code ${found.ended}`);
  return found.token;
}

/** @param {import("node:child_process").ChildProcess} child */
async function end(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
  await exited;
  clearTimeout(timer);
}

/**
 * @param {string[]} args
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<string>}
 */
async function runCommand(args, env) {
  const child = spawn(BINARY, args, { env, stdio: ["ignore", "pipe", "pipe"] });
  let [out, said] = ["", ""];
  child.stdout.on("data", (data) => {
    out += data;
  });
  child.stderr.on("data", (data) => {
    said += data;
  });
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`cluster ${args.join(" ")}: exit code ${code}\n${out}${said}`);
  return out;
}

/** Addresses that were free a moment ago. @param {number} count */
async function freePorts(count) {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const addresses = servers.map(
    (server) => `127.0.0.1:${/** @type {import("node:net").AddressInfo} */ (server.address()).port}`,
  );
  await Promise.all(servers.map((server) => once(server.close(), "close")));
  return addresses;
}

/**
 * Waits for a state: until `check` gives something true. An error is "not yet".
 * @template T
 * @param {string} what
 * @param {() => T | Promise<T>} check
 * @param {number} [timeoutMs]
 * @returns {Promise<NonNullable<T>>}
 */
export async function until(what, check, timeoutMs = 20_000) {
  const deadline = Date.now() + timeoutMs;
  let last = /** @type {unknown} */ ("it was never true");
  while (Date.now() < deadline) {
    try {
      const found = await check();
      if (found) return found;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  throw new Error(`waited ${timeoutMs} ms for ${what}: ${last}`);
}

/**
 * Keeps sending requests until the cluster stops.
 * @param {Cluster} cluster
 * @param {string} route
 * @param {unknown} body
 * @param {{ atOnce?: number, pauseMs?: number }} [how]  as so many clients, which rest after each answer
 */
export function traffic(cluster, route, body, { atOnce = 1, pauseMs = 20 } = {}) {
  const sender = async () => {
    while (!cluster.closing.aborted) {
      await cluster.call(route, body).catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  };
  for (let client = 0; client < atOnce; client += 1) void sender();
}
