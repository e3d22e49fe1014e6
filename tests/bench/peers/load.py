"""Load on a URL: oha where there is one, else `cluster bench`. Both measure from when a request was due."""

import json
import subprocess

TIMEOUT = "10s"


class Oha:
    """https://github.com/hatoo/oha"""

    name = "oha"

    def __init__(self, binary):
        self.binary = binary

    def version(self):
        return subprocess.run([self.binary, "--version"], capture_output=True, text=True).stdout.split()[-1]

    def run(self, url, body_file, seconds, rate=None, concurrency=None):
        command = [self.binary, "--no-tui", "--output-format", "json", "-z", f"{seconds}s", "-t", TIMEOUT]
        command += ["-w", "--stats-success-breakdown", "-m", "POST", "-T", "application/json", "-D", body_file, "-c", str(concurrency or 50)]
        if rate:
            command += ["-q", str(rate), "--latency-correction"]
        output = subprocess.run([str(part) for part in [*command, url]], capture_output=True, text=True)
        if output.returncode != 0:
            raise RuntimeError(f"oha failed: {output.stderr.strip()[-500:]}")
        report = json.loads(output.stdout)
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

    def run(self, url, body_file, seconds, rate=None, concurrency=None):
        command = [self.binary, "bench", url, "--json", "--body", body_file, "--duration", f"{seconds}s"]
        command += ["--warm-up", "0s", "--timeout", TIMEOUT]
        command += ["--rate", str(rate)] if rate else ["--concurrency", str(concurrency)]
        output = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if output.returncode != 0:
            raise RuntimeError(f"cluster bench failed: {output.stderr.strip()[-500:]}")
        report = json.loads(output.stdout)
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
