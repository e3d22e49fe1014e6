"""Millstream beside its peers, on the same models, machine and load: one table of medians.

Installs the peers (pip, into target/peers), builds ours, measures, and writes results.md, results.json and plot.svg
under target/bench. Each single run is kept, so that a second call goes on where the first one ended."""

import argparse
import hashlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import engines
import install
import load
import measure
import plot
import report
import workloads

ROOT = pathlib.Path(__file__).resolve().parents[3]


def arguments():
    names = [workload.name for workload in workloads.WORKLOADS]
    parser = argparse.ArgumentParser(
        prog="tests/bench/run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", metavar="A,B", default=",".join(engines.PEERS),
                        help="which peers, of %(default)s; `none` measures ours and the floors alone")
    parser.add_argument("--workloads", metavar="A,B", default=",".join(names), help="which of %(default)s")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, in turn; the table shows medians [%(default)s]")
    parser.add_argument("--quick", action="store_true", help="short runs: to try it, not to publish")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1,
                        help="threads of a model in every engine [the machine's cores]")
    parser.add_argument("--generator", choices=["auto", "oha", "cluster"], default="auto",
                        help="what sends the load: oha, or `cluster bench` where oha does not build")
    parser.add_argument("--note", default="", help="a sentence about the circumstances, for the results")
    parser.add_argument("--fresh", action="store_true", help="forget the runs that are kept")
    parser.add_argument("--report-only", action="store_true", help="measure nothing, write the results of what is kept")
    chosen = parser.parse_args()
    chosen.peers = [] if chosen.peers == "none" else chosen.peers.split(",")
    chosen.workloads = chosen.workloads.split(",")
    for flag, given, known in (("--peers", chosen.peers, engines.PEERS), ("--workloads", chosen.workloads, names)):
        unknown = [name for name in given if name not in known]
        if unknown:
            parser.error(f"{flag}: there is no {', '.join(unknown)}; there are {', '.join(known)}")
    if chosen.repeats < 1 or chosen.threads < 1:
        parser.error("--repeats and --threads are 1 or more")
    return chosen


def settings_of(chosen):
    """What makes two runs comparable."""
    quick = chosen.quick
    return {
        "quick": quick,
        "threads": chosen.threads,
        "concurrency": [1, 10, 40, 80],
        "rates": {workload.name: workload.rate for workload in workloads.WORKLOADS},
        "timeout": load.TIMEOUT,
        "seconds": 3 if quick else 4,
        "low_seconds": 5 if quick else 8,
        "warm_up": 1 if quick else 2,
        "settle": 1 if quick else 2,
    }


class Kept:
    """Single runs as files, so that nothing is measured twice."""

    def __init__(self, folder, settings):
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
        self.folder = folder / f"runs-{digest}"
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, workload, engine, repeat):
        return self.folder / f"{workload}.{engine}.{repeat}.json"

    def get(self, workload, engine, repeat):
        path = self.path(workload, engine, repeat)
        return json.loads(path.read_text()) if path.exists() else None

    def put(self, workload, engine, repeat, result):
        path = self.path(workload, engine, repeat)
        path.with_suffix(".new").write_text(json.dumps(result))
        path.with_suffix(".new").rename(path)

    def forget(self):
        for path in [*self.folder.glob("*.json"), self.folder / "about"]:
            path.unlink(missing_ok=True)


def prepare(chosen):
    """Models, peers and our binaries; gives the setup, the generator, the engines, and what could not be had."""
    setup = engines.Setup.at(ROOT, install.ours(ROOT), chosen.threads)
    wanted = ["lib", "all-MiniLM-L6-v2-onnx/model.onnx", "mini-reranker-onnx/model.onnx"]
    if not all((setup.models / name).exists() for name in wanted):
        env = {**os.environ, "MILLSTREAM_TEST_MODELS": str(setup.models)}
        subprocess.run([str(ROOT / "tests" / "setup")], check=True, env=env)
    missing, chosen_engines = {}, ["axum", "direct", "millstream"]
    fault = install.peer(setup.peers, "fastapi")  # its environment also runs the models directly
    if fault:
        raise SystemExit(f"tests/bench: {fault}")
    for engine in chosen.peers:
        fault = install.peer(setup.peers, engines.package(engine))
        if fault:
            missing[engine] = fault
            install.say(f"left out: {fault}")
        else:
            chosen_engines.append(engine)
    binary = install.oha(setup.peers) if chosen.generator in ("auto", "oha") else None
    if binary is None and chosen.generator == "oha":
        raise SystemExit("tests/bench: oha is not installed and does not build; see target/peers/oha/install.log")
    generator = load.Oha(binary) if binary else load.ClusterBench(str(setup.release / "cluster"))
    return setup, generator, chosen_engines, missing


def with_what_is_kept(path, about):
    """What is told of a run that goes on. Figures of other versions or another generator must not share its table."""
    if not path.exists():
        return about
    before = json.loads(path.read_text())
    pairs = [(key, before[key], about[key]) for key in ("generator", "build") if key in before]
    pairs += [(name, version, about["versions"].get(name, version)) for name, version in before["versions"].items()]
    changed = [f"{name}: {old}, now {new}" for name, old, new in pairs if old != new]
    if changed:
        raise SystemExit(f"tests/bench: the runs that are kept were made otherwise ({'; '.join(changed)}); --fresh forgets them")
    return {**about, "versions": {**before["versions"], **about["versions"]}}


def measure_all(chosen, settings, setup, generator, chosen_engines, kept):
    """Every engine in turn, then all of it again: a machine that drifts drifts for all, and a run that is cut short
    has fewer repeats rather than fewer workloads."""
    for repeat in range(chosen.repeats):
        for name in chosen.workloads:
            workload = workloads.BY_NAME[name]
            floor = kept.get(name, "direct", repeat)
            if floor is None:
                floor = measure.direct(workload, setup, settings)
                kept.put(name, "direct", repeat, floor)
            for engine in chosen_engines:
                before = kept.get(name, engine, repeat)
                if engine == "direct" or not engines.does(engine, workload) or before and "failed" not in before:
                    continue
                begin = time.monotonic()
                try:
                    result = measure.measure(engine, workload, setup, settings, generator, floor["reference"])
                    told = f"{result['per_s'].get('40', 0):.0f}/s at 40, p50 {result['p50_ms'] or 0:.2f} ms"
                except measure.Failed as failure:
                    result, told = {"failed": str(failure).splitlines()[0][:300]}, f"failed: {failure}"
                kept.put(name, engine, repeat, result)
                install.say(f"{name}, {engine}, {repeat + 1} of {chosen.repeats}: {told} "
                            f"({time.monotonic() - begin:.0f} s)")


def summarise(chosen, kept, all_engines):
    """Medians, lowest and highest of the repeats, by workload and engine."""
    rows = []
    for name in chosen.workloads:
        for engine in all_engines:
            if not engines.does(engine, workloads.BY_NAME[name]):
                continue
            runs = [run for repeat in range(chosen.repeats) if (run := kept.get(name, engine, repeat))]
            good = [run for run in runs if "failed" not in run]
            if not runs:
                continue
            row = {"workload": name, "engine": engine, "runs": len(good),
                   "failed": sorted({run["failed"] for run in runs if "failed" in run})}
            for key in ("cold_start_s", "idle_mib", "p50_ms", "p95_ms", "p99_ms", "cpu_s_per_1000"):
                row[key] = spread([run.get(key) for run in good])
            row["per_s"] = {at: spread([run["per_s"].get(at) for run in good])
                            for at in (good[0]["per_s"] if good else {})}
            row["errors"] = sum(run["errors"] for run in good)
            row["error_texts"] = sorted({str(text)[:80] for run in good for text in run.get("error_texts", [])})[:3]
            rows.append(row)
    return rows


def spread(values):
    values = [value for value in values if value is not None]
    if not values:
        return None
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def main():
    chosen = arguments()
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    out = target / "bench"
    settings = settings_of(chosen)
    kept = Kept(out, settings)
    if chosen.fresh:
        kept.forget()
    about_path = kept.folder / "about"
    if not chosen.report_only:
        setup, generator, chosen_engines, missing = prepare(chosen)
        versions = {name: install.versions(setup.peers, engines.package(name))
                    for name in chosen_engines if name not in ("axum", "direct", "millstream")}
        ours = subprocess.run([setup.release / "cluster", "--version"], capture_output=True, text=True).stdout.strip()
        about = {
            "machine": measure.machine(),
            "python": ".".join(map(str, sys.version_info[:3])),
            "generator": f"{generator.name} {generator.version()}",
            "versions": {"millstream": ours, **versions},
            "build": hashlib.sha256((setup.release / "cluster").read_bytes()).hexdigest()[:12],
            "left_out": missing,
            "note": chosen.note,
        }
        about = with_what_is_kept(about_path, about)
        about_path.write_text(json.dumps(about))
        measure_all(chosen, settings, setup, generator, chosen_engines, kept)
    if not about_path.exists():
        raise SystemExit("tests/bench: nothing is kept of a run with these settings; leave out --report-only")
    about = json.loads(about_path.read_text())
    if chosen.note:
        about["note"] = chosen.note
    rows = summarise(chosen, kept, ["axum", "direct", "millstream", *chosen.peers])
    result = {"about": {**about, "settings": settings, "repeats": chosen.repeats,
                        "date": time.strftime("%Y-%m-%d")}, "rows": rows}
    text = report.markdown(result)
    (out / "results.json").write_text(json.dumps(result, indent=1) + "\n")
    (out / "results.md").write_text(text)
    (out / "plot.svg").write_text(plot.svg(result))
    print(text)
    install.say(f"written: results.md, results.json and plot.svg in {os.path.relpath(out, ROOT)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("tests/bench: interrupted; the same command goes on from here")
