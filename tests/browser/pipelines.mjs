// The pipelines that tests deploy. `echo` answers what it gets, so none of them needs a model.

/**
 * One stage, which answers its text.
 * @param {string} name
 * @param {string} keys  of its deployment
 */
export function oneStage(name, keys) {
  return `name = "${name}"
route = "/${name}"

[request]
text = "text"

[deployments.model]
engine = "echo"
${keys}

[stages.out]
use = "model"
inputs = { text = "request.text" }

[response]
text = "out.text"
`;
}

/** @param {{ cpus?: number, extra?: string }} [change] */
export function hello({ cpus = 0.01, extra = "" } = {}) {
  return oneStage("hello", `cpus = ${cpus}\n${extra}`);
}

/** Two stages, of which the second takes long. */
export const STAGES = `name = "staged"
route = "/staged"

[request]
text = "text"

[deployments.quick]
engine = "echo"

[deployments.slow]
engine = "echo"
delay = "150ms"
gpus = 0.25
autoscaling = { min_replicas = 1, max_replicas = 3, target_ongoing_requests = 1 }

[stages.first]
use = "quick"
inputs = { text = "request.text" }

[stages.second]
use = "slow"
inputs = { text = "first.text" }

[response]
text = "second.text"
`;

/** Asks for more than any node has. */
export const TOO_LARGE = oneStage("large", "cpus = 900");

/** Three faults: an unknown key, a value of the wrong kind, a stage that is not there. */
export const FAULTY = `name = "faulty"
route = "/faulty"

[request]
text = "text"

[deployments.model]
engine = "echo"
cpu = 1
delay = "5x"

[stages.out]
use = "model"
inputs = { text = "request.text" }

[response]
text = "nothing.text"
`;
