"""Millstream beside its models called directly, in turn and by seconds: on a machine that drifts, figures of different
minutes say little about a distance of some percent. `python3 tests/bench/peers/floor.py embed-1 --callers 80 --batch 64`

Installs nothing: `tests/bench/run --quick --peers fastapi --workloads embed-1` does."""

import argparse
import json
import os
import pathlib
import statistics
import subprocess

import engines
import install
import load
import measure
import workloads
from processes import Tree

ROOT = pathlib.Path(__file__).resolve().parents[3]
# Reads seconds from stdin, line by line, and prints answers per second and CPU milliseconds an answer.
DIRECT = """
import sys, time, models, workloads
batch, model = int(sys.argv[2]), models.load()
inputs = next(iter(workloads.BY_NAME[sys.argv[1]].body.values())) * batch
for _ in range(5):
    model(inputs)
print("ready", flush=True)
for line in sys.stdin:
    done, begin, cpu = 0, time.monotonic(), time.process_time()
    while time.monotonic() < begin + float(line):
        model(inputs)
        done += batch
    print(done / (time.monotonic() - begin), (time.process_time() - cpu) / done * 1e3, flush=True)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [one.name for one in workloads.WORKLOADS if one.path in ("tabular", "embed")]
    parser.add_argument("workload", choices=known)
    parser.add_argument("--callers", type=int, default=40, help="callers of ours [%(default)s]")
    parser.add_argument("--batch", type=int, default=64, help="requests in one direct call of the model [%(default)s]")
    parser.add_argument("--rounds", type=int, default=8, help="[%(default)s]")
    parser.add_argument("--seconds", type=float, default=3, help="of each, in each round [%(default)s]")
    chosen = parser.parse_args()
    workload = workloads.BY_NAME[chosen.workload]
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    models = pathlib.Path(os.environ.get("MILLSTREAM_TEST_MODELS", ROOT / "target" / "test-models"))
    setup = engines.Setup(target / "release", target / "peers", models, ROOT / "pipelines/models/tabular-classifier",
                          target / "bench" / "scratch", os.cpu_count() or 1)
    setup.scratch.mkdir(parents=True, exist_ok=True)
    generator = load.Oha(install.oha(setup.peers))
    python = str(install.venv(setup.peers, "fastapi"))
    direct = subprocess.Popen([python, "-c", DIRECT, workload.name, str(chosen.batch)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True, env={**os.environ, **setup.env(workload)})
    body = json.dumps(workload.body).encode()
    body_file = setup.scratch / "body.json"
    body_file.write_bytes(body)
    start = engines.start("millstream", workload, setup, measure.free_port())
    tree = Tree(start.command, setup.scratch / "floor.log", start.env, engines.HERE)
    try:
        direct.stdout.readline()
        url, _, _ = measure.wait_until_good(tree, start, body)
        generator.run(url, body_file, 1, concurrency=chosen.callers)
        ratios = []
        for _ in range(chosen.rounds):
            direct.stdin.write(f"{chosen.seconds}\n")
            direct.stdin.flush()
            floor, floor_cpu = map(float, direct.stdout.readline().split())
            cpu = tree.cpu_seconds()
            report = generator.run(url, body_file, chosen.seconds, concurrency=chosen.callers)
            cpu = (tree.cpu_seconds() - cpu) / max(1, report["good"]) * 1e3
            ratios.append(report["per_s"] / floor)
            print(f"direct {floor:8,.1f}/s, {floor_cpu:.3f} ms of CPU each; ours {report['per_s']:8,.1f}/s, {cpu:.3f} ms; "
                  f"ours of direct {ratios[-1]:.2f}", flush=True)
        print(f"ours of direct: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")
    finally:
        tree.end()
        direct.kill()


if __name__ == "__main__":
    main()
