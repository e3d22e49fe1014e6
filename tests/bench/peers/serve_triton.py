"""Writes a model repository and becomes the tritonserver that nvidia-pytriton carries. `python serve_triton.py PORT DIR`"""

import importlib.util
import os
import pathlib
import shutil
import sys

NAME = os.environ["BENCH_WORKLOAD"]
INPUTS = {"echo": [("features", "FP32", "42")], "pipeline": [("question", "STRING", "-1"), ("documents", "STRING", "-1")]}
OUTPUTS = {"echo": ("features", "FP32", "42"), "pipeline": ("sources", "STRING", "-1")}
if NAME.startswith("tabular"):
    INPUTS[NAME], OUTPUTS[NAME] = [("features", "FP32", "42")], ("probabilities", "FP32", "2")
if NAME == "embed":
    INPUTS[NAME], OUTPUTS[NAME] = [("texts", "STRING", "-1")], ("vectors", "FP32", "-1, 384")


def tensor(name, kind, dims):
    return f'{{ name: "{name}" data_type: TYPE_{kind} dims: [ {dims} ] }}'


def main():
    port, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    here = pathlib.Path(__file__).parent
    package = pathlib.Path(importlib.util.find_spec("pytriton").origin).parent
    server = package / "tritonserver"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "repository" / "bench" / "1").mkdir(parents=True)
    shutil.copy(here / "triton_model.py", folder / "repository" / "bench" / "1" / "model.py")
    # The Python backend's stub is built for one minor version of Python: the one that runs this file.
    backends = folder / "backends"
    shutil.copytree(server / "backends", backends)
    stub = server / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}" / "triton_python_backend_stub"
    if stub.exists():
        shutil.copy(stub, backends / "python" / "triton_python_backend_stub")
    batching = os.environ.get("BENCH_BATCHING") == "1"
    config = [
        'name: "bench"',
        'backend: "python"',
        "max_batch_size: 64",
        "input [ " + ", ".join(tensor(*one) for one in INPUTS[NAME]) + " ]",
        f"output [ {tensor(*OUTPUTS[NAME])} ]",
        "instance_group [ { count: 1 kind: KIND_CPU } ]",
    ]
    if batching:
        config.append("dynamic_batching { max_queue_delay_microseconds: 2000 }")
    (folder / "repository" / "bench" / "config.pbtxt").write_text("\n".join(config) + "\n")
    site = package.parent
    env = dict(os.environ)
    env["BENCH_PATH"] = os.pathsep.join([str(here), str(site)])
    libraries = [site / "nvidia_pytriton.libs", pathlib.Path(sys.base_prefix) / "lib"]
    env["LD_LIBRARY_PATH"] = os.pathsep.join(map(str, libraries))
    binary = str(server / "bin" / "tritonserver")
    arguments = [
        f"--model-repository={folder / 'repository'}",
        f"--backend-directory={backends}",
        "--http-address=127.0.0.1",
        f"--http-port={port}",
        "--allow-grpc=false",
        "--allow-metrics=false",
        "--log-verbose=0",
    ]
    os.execve(binary, [binary, *arguments], env)


if __name__ == "__main__":
    main()
