"""Load on a URL: oha where there is one, else `cluster bench`. Both measure from when a request was due."""

import json
import subprocess

from processes import pinned

# Long enough for 80 callers of the heaviest workload: an error then says something about the server.
TIMEOUT = "30s"
# A generator that takes so much longer than its run hangs.
SLACK_S = 120


def report_of(command, seconds, cores):
    """The JSON that a generator prints."""
    command = [str(part) for part in pinned(command, cores)]
    output = subprocess.run(command, capture_output=True, text=True, timeout=seconds + SLACK_S)
    if output.returncode != 0:
        raise RuntimeError(f"{command[0].rsplit('/', 1)[-1]} failed: {output.stderr.strip()[-500:]}")
    return json.loads(output.stdout)


class Oha:
    """https://github.com/hatoo/oha"""

    name = "oha"

    def __init__(self, binary):
        self.binary = binary

    def version(self):
        return subprocess.run([self.binary, "--version"], capture_output=True, text=True).stdout.split()[-1]

    def run(self, url, body_file, seconds, rate=None, concurrency=None, cores=None):
        command = [self.binary, "--no-tui", "--output-format", "json", "-z", f"{seconds}s", "-t", TIMEOUT]
        command += ["-w", "--stats-success-breakdown", "-m", "POST", "-T", "application/json", "-D", body_file]
        command += ["-c", str(concurrency or 50)]
        if rate:
            command += ["-q", str(rate), "--latency-correction"]
        report = report_of([*command, url], seconds, cores)
        statuses = report.get("statusCodeDistribution") or {}
        errors = {key: count for key, count in (report.get("errorDistribution") or {}).items() if "deadline" not in key}
        good = statuses.get("200", 0)
        refused = sum(statuses.values()) - good
        total = report["summary"]["total"]
        at = {key: value and value * 1e3 for key, value in (report.get("latencyPercentilesSuccessful") or {}).items()}
        return {
            "good": good,
            "errors": refused + sum(errors.values()),
            "error_texts": sorted(errors)[:3] + sorted(code for code in statuses if code != "200")[:3],
            "per_s": good / total if total else 0.0,
            "p50_ms": at.get("p50"),
            "p95_ms": at.get("p95"),
            "p99_ms": at.get("p99"),
        }


class ClusterBench:
    """Our own `cluster bench`."""

    name = "cluster bench"

    def __init__(self, binary):
        self.binary = binary

    def version(self):
        return subprocess.run([self.binary, "--version"], capture_output=True, text=True).stdout.split()[-1]

    def run(self, url, body_file, seconds, rate=None, concurrency=None, cores=None):
        command = [self.binary, "bench", url, "--json", "--body", body_file, "--duration", f"{seconds}s"]
        command += ["--warm-up", "0s", "--timeout", TIMEOUT]
        command += ["--rate", str(rate)] if rate else ["--concurrency", str(concurrency)]
        report = report_of(command, seconds, cores)
        latency = report["latency_ms"] or {}
        good = report["status"]["2xx"]
        bad_statuses = [key for key, count in report["status"].items() if count and key != "2xx"]
        return {
            "good": good,
            "errors": report["sent"] - good,
            "error_texts": bad_statuses + [key for key, count in report["errors"].items() if count],
            "per_s": report["achieved_per_s"],
            "p50_ms": latency.get("p50"),
            "p95_ms": latency.get("p95"),
            "p99_ms": latency.get("p99"),
        }
