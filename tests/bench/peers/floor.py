"""Millstream beside its models called directly, in turn and by seconds: on a machine that drifts, figures of different
minutes say little about a distance of some percent. `python3 tests/bench/peers/floor.py embed-1 --callers 80 --batch 64`

Installs no peer: `tests/bench/run --quick --peers fastapi --workloads embed-1` does."""

import argparse
import dataclasses
import os
import pathlib
import statistics
import subprocess

import engines
import install
import load
import measure
import workloads

ROOT = pathlib.Path(__file__).resolve().parents[3]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [one.name for one in workloads.WORKLOADS if one.path in ("tabular", "embed")]
    parser.add_argument("workload", choices=known)
    parser.add_argument("--callers", type=int, default=40, help="callers of ours [%(default)s]")
    parser.add_argument("--batch", type=int, default=64, help="requests in one direct call of the model [%(default)s]")
    parser.add_argument("--times", type=int, default=1,
                        help="a request has so many times the workload's rows or texts [%(default)s]")
    parser.add_argument("--replicas", type=int, default=1,
                        help="replicas of ours, which share the cores that the direct call has alone [%(default)s]")
    parser.add_argument("--rounds", type=int, default=8, help="[%(default)s]")
    parser.add_argument("--seconds", type=float, default=3, help="of each, in each round [%(default)s]")
    return parser.parse_args()


def main():
    chosen = arguments()
    workload, times = workloads.BY_NAME[chosen.workload], chosen.times
    body = {name: inputs * times for name, inputs in workload.body.items()}
    workload = dataclasses.replace(workload, body=body, rows=workload.rows * times)
    setup = engines.Setup.at(ROOT, install.ours(ROOT), os.cpu_count() or 1, chosen.replicas)
    python = install.venv(setup.peers, "fastapi")
    binary = install.oha(setup.peers)
    if not python.exists() or binary is None:
        raise SystemExit("floor.py: FastAPI's environment or oha is missing; "
                         f"run `tests/bench/run --quick --peers fastapi --workloads {workload.name}` once")
    generator = load.Oha(binary)
    command = [str(part) for part in (python, engines.HERE / "direct.py", workload.name, "turns", chosen.batch * times)]
    direct = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                              env={**os.environ, **setup.env(workload)})

    def floor(seconds):
        direct.stdin.write(f"{seconds}\n")
        direct.stdin.flush()
        per_s, cpu = map(float, direct.stdout.readline().split())
        return per_s / times, cpu * times

    try:
        with measure.serving("millstream", workload, setup) as served:
            floor(1)
            measure.throughput_of(served, generator, 1, chosen.callers)
            ratios = []
            for _ in range(chosen.rounds):
                floor_per_s, floor_cpu = floor(chosen.seconds)
                report, cpu = measure.throughput_of(served, generator, chosen.seconds, chosen.callers)
                ratios.append(report["per_s"] / floor_per_s)
                print(f"direct {floor_per_s:8,.1f}/s, {floor_cpu:.3f} CPU s per 1,000; ours {report['per_s']:8,.1f}/s, "
                      f"{cpu or 0:.3f}; ours of direct {ratios[-1]:.2f}", flush=True)
            print(f"ours of direct: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")
    except measure.Failed as failure:
        raise SystemExit(f"floor.py: {failure}") from failure
    finally:
        direct.kill()


if __name__ == "__main__":
    main()
