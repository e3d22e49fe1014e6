"""Measures one engine with one workload, once."""

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

import engines
import install
import workloads
from processes import Tree

START_LIMIT_S = 120


class Failed(Exception):
    """An engine that does not start, or answers wrongly."""


def halves():
    """Cores for a server and cores for its load, no core in both."""
    cores = sorted(os.sched_getaffinity(0))
    middle = len(cores) // 2
    if not middle:
        raise Failed("the machine has a single core")
    return cores[:middle], cores[middle:]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def post(url, body):
    """Status and text of one request; None while nothing answers."""
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(url, body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except (OSError, ValueError):
        return None


def wait_until_good(tree, start, body):
    """The URL and text of the first good answer, and the seconds it took from the start of the process."""
    last = "nothing answers"
    while time.monotonic() - tree.started < START_LIMIT_S:
        if not tree.alive():
            raise Failed(f"it ended by itself:\n{tree.tail()}")
        url = start.url
        if start.address_file is not None:
            address = start.address_file.read_text().strip() if start.address_file.exists() else ""
            url = url.format(address=address) if address else None
        answer = url and post(url, body)
        if answer and answer[0] == 200:
            return url, answer[1], time.monotonic() - tree.started
        if answer:
            last = f"{answer[0]} {answer[1][:300]}"
        time.sleep(0.005)
    raise Failed(f"no good answer within {START_LIMIT_S} s ({last}):\n{tree.tail()}")


def direct(workload, setup, settings):
    """The floor; also gives what right answers are."""
    if workload.service == "echo":
        return {"reference": workloads.FEATURES}
    python = install.venv(setup.peers, "fastapi")
    command = [python, engines.HERE / "direct.py", workload.name, settings["seconds"], settings["low_seconds"],
               ",".join(map(str, settings["concurrency"]))]
    output = subprocess.run([str(part) for part in command], env={**setup.env(workload)}, capture_output=True, text=True)
    if output.returncode != 0:
        raise Failed(f"calling the model directly failed:\n{output.stderr[-2000:]}")
    return json.loads(output.stdout.splitlines()[-1])


@dataclass(frozen=True)
class Served:
    """A server that answers."""

    tree: Tree
    url: str
    text: str  # its first good answer
    cold_start_s: float
    body_file: pathlib.Path


@contextlib.contextmanager
def serving(engine, workload, setup, cores=None):
    """The engine while it serves the workload, on some cores or all."""
    body = workloads.kserve(workload.body) if engine == "triton" else workload.body
    body = json.dumps(body).encode()
    setup.scratch.mkdir(parents=True, exist_ok=True)
    body_file = setup.scratch / "body.json"
    body_file.write_bytes(body)
    start = engines.start(engine, workload, setup, free_port())
    log = setup.scratch / f"{engine}-{workload.name}.log"
    tree = Tree(start.command, log, start.env, engines.HERE, cores)
    try:
        url, text, cold_start_s = wait_until_good(tree, start, body)
        yield Served(tree, url, text, cold_start_s, body_file)
    except Failed:
        raise
    except Exception as error:
        raise Failed(f"{type(error).__name__}: {error}\n{tree.tail()}") from error
    finally:
        tree.end()
        if "BENCH_RAY_DIR" in start.env:
            shutil.rmtree(start.env["BENCH_RAY_DIR"], ignore_errors=True)


def throughput_of(served, generator, seconds, concurrency, cores=None):
    """The generator's report, and CPU seconds for 1,000 good answers; None without any."""
    cpu = served.tree.cpu_seconds()
    report = generator.run(served.url, served.body_file, seconds, concurrency=concurrency, cores=cores)
    cpu = served.tree.cpu_seconds() - cpu
    return report, cpu / report["good"] * 1000 if report["good"] else None


def measure(engine, workload, setup, settings, generator, reference):
    """One run: cold start, memory, latency at a low rate, throughput, CPU."""
    server_cores, cores = halves() if workload.apart else (None, None)
    with serving(engine, workload, setup, server_cores) as served:
        fault = workloads.fault(workload, served.text, reference)
        if fault:
            raise Failed(f"a wrong answer: {fault}")
        time.sleep(settings["settle"])
        result = {"cold_start_s": served.cold_start_s, "idle_mib": served.tree.pss_mib(), "per_s": {}, "errors": 0,
                  "error_texts": []}
        generator.run(served.url, served.body_file, settings["warm_up"], concurrency=4, cores=cores)
        low = generator.run(served.url, served.body_file, settings["low_seconds"], rate=workload.rate, cores=cores)
        result |= {key: low[key] for key in ("p50_ms", "p95_ms", "p99_ms")}
        reports = [low]
        for concurrency in settings["concurrency"]:
            report, cpu = throughput_of(served, generator, settings["seconds"], concurrency, cores)
            result["per_s"][str(concurrency)] = report["per_s"]
            if concurrency == workloads.cpu_at(settings["concurrency"]) and cpu is not None:
                result["cpu_s_per_1000"] = cpu
            reports.append(report)
        for report in reports:
            result["errors"] += report["errors"]
            result["error_texts"] += [text for text in report["error_texts"] if text not in result["error_texts"]]
        return result


def machine():
    """What of the machine matters, and nothing that names it."""
    memory = next(line for line in pathlib.Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line)
    return {"cores": len(os.sched_getaffinity(0)), "memory_gib": round(int(memory.split()[1]) / 2**20)}
