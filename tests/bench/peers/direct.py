"""The floor of the model workloads: the same models called directly, in one process and without HTTP.

Prints one JSON object. For the batched workloads "concurrency" means so many requests in one call of the model.
As `direct.py WORKLOAD turns BATCH` it reads seconds, a line a turn, and prints for each answers per second and CPU
seconds for 1,000."""

import functools
import json
import sys
import time

import models
import workloads

MAX_BATCH = 64


def loaded(workload):
    """A call of the workload's model, on so many requests at once."""
    model, body = models.load(), workload.body
    if workload.name == "pipeline":
        return lambda times=1: model(body["question"], body["documents"])

    @functools.cache
    def inputs(times):
        """Numbers as the model takes them: making them of lists costs as much as running them."""
        repeated = next(iter(body.values())) * times
        return models.np.asarray(repeated, dtype=models.np.float32) if workload.path == "tabular" else repeated

    return lambda times=1: model(inputs(times))


def throughput_of(call, batch, seconds):
    """Answers per second, and CPU seconds for 1,000."""
    done, begin, cpu = 0, time.monotonic(), time.process_time()
    while time.monotonic() < begin + seconds:
        call(batch)
        done += batch
    return done / (time.monotonic() - begin), (time.process_time() - cpu) / done * 1000


def turns():
    call, batch = loaded(workloads.BY_NAME[sys.argv[1]]), int(sys.argv[3])
    for line in sys.stdin:
        print(*throughput_of(call, batch, float(line)), flush=True)


def main():
    name, seconds, low_seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    concurrencies = [int(text) for text in sys.argv[4].split(",")]
    workload, start = workloads.BY_NAME[name], time.monotonic()
    call = loaded(workload)
    reference = call()
    cold = time.monotonic() - start
    pss = next(line for line in open("/proc/self/smaps_rollup") if line.startswith("Pss:"))
    for _ in range(10):
        call()
    # At the rate at which the servers are asked: a core that was idle is slower than one that is busy.
    times, due = [], time.perf_counter()
    end = due + low_seconds
    while due < end:
        time.sleep(max(0.0, due - time.perf_counter()))
        call()
        times.append(time.perf_counter() - due)
        due += 1 / workload.rate
    times.sort()
    at = lambda part: times[min(len(times) - 1, int(len(times) * part))] * 1e3
    throughput, cpu = {}, {}
    for concurrency in concurrencies:
        batch = min(concurrency, MAX_BATCH) if workload.batching else 1
        throughput[str(concurrency)], cpu[concurrency] = throughput_of(call, batch, seconds)
    print(json.dumps({
        "reference": reference if isinstance(reference, list) else reference.tolist(),
        "cold_start_s": cold,
        "idle_mib": int(pss.split()[1]) / 1024,
        "p50_ms": at(0.5),
        "p95_ms": at(0.95),
        "p99_ms": at(0.99),
        "per_s": throughput,
        "cpu_s_per_1000": cpu[workloads.cpu_at(concurrencies)],
        "errors": 0,
    }))


if __name__ == "__main__":
    turns() if sys.argv[2] == "turns" else main()
