"""Installs what is compared with: each peer into an environment of its own under target/peers, once."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

# The same ONNX Runtime in every engine; tests/setup gives ours this version.
COMMON = ["onnxruntime==1.31.1", "tokenizers", "numpy"]
PEERS = {
    "fastapi": ["fastapi", "uvicorn[standard]"],
    "bentoml": ["bentoml>=1.4,<1.5"],
    "ray": ["ray[serve]"],
    "triton": ["nvidia-pytriton"],
    "smg": ["smg==1.13.0"],
    "vllm-router": ["vllm-router==0.1.17"],
}
# Those that run no model, and pass requests on.
ROUTERS = ["smg", "vllm-router"]
# Whose versions a result names.
TOLD = {
    "fastapi": ["fastapi", "uvicorn"],
    "bentoml": ["bentoml"],
    "ray": ["ray"],
    "triton": ["nvidia-pytriton"],
    "smg": ["smg"],
    "vllm-router": ["vllm-router"],
}


def say(text):
    print(f"tests/bench: {text}", file=sys.stderr, flush=True)


def venv(folder, name):
    """The Python of a peer's environment."""
    return folder / name / "venv" / "bin" / "python"


def peer(folder, name):
    """Installs a peer when it is not there; says why not when it cannot."""
    python = venv(folder, name)
    packages = PEERS[name] + ([] if name in ROUTERS else COMMON)
    stamp = folder / name / "ready.json"
    if stamp.exists() and json.loads(stamp.read_text()) == packages and python.exists():
        return None
    say(f"installing {' '.join(packages)} into {folder.name}/{name}")
    (folder / name).mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    log = folder / name / "install.log"
    with open(log, "w") as out:
        for command in (
            [sys.executable, "-m", "venv", folder / name / "venv"],
            [python, "-m", "pip", "install", "--quiet", *packages],
        ):
            done = subprocess.run([str(part) for part in command], env=env, stdout=out, stderr=subprocess.STDOUT)
            if done.returncode != 0:
                last = log.read_text(errors="replace").strip().splitlines()[-1:]
                return f"`{name}` does not install: {' '.join(last)[:200]}"
    stamp.write_text(json.dumps(packages))
    return None


def versions(folder, name):
    """What is installed of a peer."""
    code = "import importlib.metadata as m, sys; print(*[f'{n} {m.version(n)}' for n in sys.argv[1:]], sep=', ')"
    command = [str(venv(folder, name)), "-c", code, *TOLD[name], *([] if name in ROUTERS else ["onnxruntime"])]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def oha(folder):
    """The load generator: on the PATH, or installed here; None when it does not build."""
    local = folder / "oha" / "bin" / "oha"
    if local.exists():
        return str(local)
    found = shutil.which("oha")
    if found:
        return found
    if not shutil.which("cargo"):
        return None
    say("installing oha with cargo (some minutes)")
    (folder / "oha").mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "CARGO_PROFILE_RELEASE_LTO": "false", "CARGO_TARGET_DIR": str(folder / "oha" / "build")}
    command = ["cargo", "install", "oha", "--locked", "--root", str(folder / "oha")]
    with open(folder / "oha" / "install.log", "w") as out:
        subprocess.run(command, env=env, stdout=out, stderr=subprocess.STDOUT)
    return str(local) if local.exists() else None


def ours(root, wanted=(("millstream", "cluster"), ("millstream-tests", "bench-axum-echo"))):
    """Builds ours as published binaries are built."""
    binaries = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target")) / "dist"
    for package, binary in wanted:
        say(f"building {binary}")
        subprocess.run(["cargo", "build", "--profile", "dist", "-p", package, "--bin", binary], cwd=root, check=True)
    return binaries
