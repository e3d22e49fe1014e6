"""The floor of the model workloads: the same models called directly, in one process and without HTTP.

Prints one JSON object. For the batched workloads "concurrency" means so many requests in one call of the model."""

import json
import os
import sys
import time

import models
import workloads

MAX_BATCH = 64


def main():
    name, seconds, low_seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    concurrencies = [int(text) for text in sys.argv[4].split(",")]
    workload, start = workloads.BY_NAME[name], time.monotonic()
    model = models.load()
    body = workload.body

    def call(times=1):
        if name == "pipeline":
            return model(body["question"], body["documents"])
        return model(next(iter(body.values())) * times)

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
        done, begin, cpu_begin = 0, time.monotonic(), time.process_time()
        while time.monotonic() < begin + seconds:
            call(batch)
            done += batch
        throughput[str(concurrency)] = done / (time.monotonic() - begin)
        cpu[concurrency] = (time.process_time() - cpu_begin) / done * 1000
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
    os.environ.setdefault("BENCH_WORKLOAD", sys.argv[1])
    main()
