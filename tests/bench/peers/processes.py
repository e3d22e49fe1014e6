"""Servers as trees of processes: started with a mark in their environment, found by it, measured and ended by id."""

import os
import pathlib
import signal
import subprocess
import time
import uuid

MARK = "MILLSTREAM_BENCH_RUN"
TICKS = os.sysconf("SC_CLK_TCK")


def pinned(command, cores):
    """The command on these cores; on all without any."""
    return ["taskset", "--cpu-list", ",".join(map(str, cores)), *command] if cores else command


class Tree:
    """A server and every process that it started, however they are related by now."""

    def __init__(self, command, log, env=None, cwd=None, cores=None):
        self.mark = uuid.uuid4().hex
        self.started = time.monotonic()
        self.log = log
        with open(log, "wb") as out:
            self.process = subprocess.Popen(
                [str(part) for part in pinned(command, cores)],
                env={**os.environ, **(env or {}), MARK: self.mark},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def alive(self):
        return self.process.poll() is None

    def pids(self):
        """All of them, by the mark."""
        wanted = f"{MARK}={self.mark}".encode()
        found = []
        for folder in pathlib.Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    if wanted in (folder / "environ").read_bytes().split(b"\0"):
                        found.append(int(folder.name))
                except OSError:
                    pass
        return found

    def pss_mib(self):
        """Memory of its own, shared pages by their part."""
        total = 0
        for pid in self.pids():
            try:
                for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1])
            except OSError:
                pass
        return total / 1024

    def cpu_seconds(self):
        """User and system time so far, ended children included."""
        total = 0
        for pid in self.pids():
            try:
                fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                total += sum(int(field) for field in fields[11:15])
            except OSError:
                pass
        return total / TICKS

    def tail(self, lines=15):
        """The end of what it printed."""
        text = pathlib.Path(self.log).read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def end(self):
        """Asks the first process to stop, then kills whatever is left."""
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(8)
            except subprocess.TimeoutExpired:
                pass
        for _ in range(50):
            left = self.pids()
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
            if self.process.poll() is not None and not left:
                return
            time.sleep(0.1)
