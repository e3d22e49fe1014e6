"""Chat streams of a simulated model, beside SMG and vllm-router in front of a plain server that streams at the same pace. Installs the
routers (pip, into target/peers), builds ours, and runs `bench-streams`, which measures all of them in turn and prints a table.

    python3 tests/bench/peers/streams.py [ROUNDS] [--quick]"""

import os
import pathlib
import subprocess
import sys

import install

ROOT = pathlib.Path(__file__).resolve().parents[3]


def main():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    command = [install.ours(ROOT, [("millstream", "cluster"), ("millstream-tests", "bench-streams")]) / "bench-streams"]
    command += sys.argv[1:]
    for name in install.ROUTERS:
        fault = install.peer(target / "peers", name)
        if fault:
            install.say(f"left out: {fault}")
        else:
            command += [f"--{name}", install.venv(target / "peers", name).parent / name]
            install.say(install.versions(target / "peers", name))
    return subprocess.run([str(part) for part in command], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
