"""How each engine is started for a workload, and where it then answers."""

import json
import os
import pathlib
import shutil
from dataclasses import dataclass

import install

HERE = pathlib.Path(__file__).parent
TITLES = {
    "axum": "bare axum (floor)",
    "direct": "ONNX Runtime, called directly (floor)",
    "millstream": "Millstream",
    "fastapi": "FastAPI",
    "triton": "Triton, Python backend",
    "bentoml": "BentoML",
    "ray": "Ray Serve",
    "ray-fast": "Ray Serve, throughput switches and HAProxy",
}
PEERS = ["fastapi", "triton", "bentoml", "ray", "ray-fast"]


@dataclass(frozen=True)
class Setup:
    """What all engines of a run share."""

    release: pathlib.Path
    peers: pathlib.Path
    models: pathlib.Path
    tabular: pathlib.Path
    scratch: pathlib.Path
    threads: int
    # Of ours: each gets a part of the threads.
    replicas: int = 1

    @classmethod
    def at(cls, root, release, threads, replicas=1):
        """As `tests/bench/run` lays things out under the project's folder."""
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
        models = pathlib.Path(os.environ.get("MILLSTREAM_TEST_MODELS", root / "target" / "test-models"))
        tabular = root / "pipelines" / "models" / "tabular-classifier"
        return cls(release, target / "peers", models, tabular, target / "bench" / "scratch", threads, replicas)

    def env(self, workload):
        return {
            "BENCH_WORKLOAD": workload.service,
            "BENCH_BATCHING": str(int(workload.batching)),
            "BENCH_THREADS": str(self.threads),
            "BENCH_TABULAR": str(self.tabular),
            "BENCH_EMBEDDER": str(self.models / "all-MiniLM-L6-v2-onnx"),
            "BENCH_RERANKER": str(self.models / "mini-reranker-onnx"),
            "OMP_NUM_THREADS": str(self.threads),
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONPATH": str(HERE),
            "PYTHONDONTWRITEBYTECODE": "1",
        }


@dataclass(frozen=True)
class Start:
    """A command, and the URL that answers once it is up; an address file where the server picks its port."""

    command: list
    url: str
    env: dict
    address_file: pathlib.Path | None = None


def package(engine):
    """The environment that an engine runs in."""
    return "ray" if engine == "ray-fast" else engine


def does(engine, workload):
    """Whether an engine has what the workload asks for."""
    if engine == "axum":
        return workload.service == "echo"
    if engine == "direct":
        return workload.service != "echo"
    # FastAPI has no batching; what it does without is in the other row.
    return not (engine == "fastapi" and workload.name == "tabular-batched")


def start(engine, workload, setup, port):
    """How to start it."""
    env = setup.env(workload)
    path = workload.path
    if engine == "millstream" and path == "embed":
        path = "vectors"  # /embed is its own
    url = f"http://127.0.0.1:{port}/{path}"
    python = install.venv(setup.peers, package(engine))
    if engine == "axum":
        file = setup.scratch / "address"
        file.unlink(missing_ok=True)
        return Start([setup.release / "bench-axum-echo", file], "http://{address}/echo", env, file)
    if engine == "millstream":
        return Start(ours(workload, setup, port), url, env)
    if engine == "fastapi":
        return Start([python, "-m", "uvicorn", "serve_fastapi:app", "--port", port, "--no-access-log",
                      "--log-level", "warning"], url, env)
    if engine == "bentoml":
        env |= {"BENTOML_HOME": str(setup.scratch / "bentoml"), "BENTOML_DO_NOT_TRACK": "True",
                "PROMETHEUS_MULTIPROC_DIR": str(setup.scratch / "prometheus")}
        (setup.scratch / "prometheus").mkdir(parents=True, exist_ok=True)
        return Start([python, "-m", "bentoml", "serve", "serve_bentoml:Service", "--host", "127.0.0.1", "--port", port,
                      "--working-dir", HERE], url, env)
    if engine in ("ray", "ray-fast"):
        # Ray's sockets need a short path.
        env |= {"BENCH_RAY_DIR": f"/tmp/bench-ray-{os.getpid()}", "RAY_USAGE_STATS_ENABLED": "0",
                "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
        if engine == "ray-fast":
            env |= {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_HA_PROXY": "1"}
        return Start([python, HERE / "serve_ray.py", port], url, env)
    assert engine == "triton", engine
    url = f"http://127.0.0.1:{port}/v2/models/bench/infer"
    return Start([python, HERE / "serve_triton.py", port, setup.scratch / "triton"], url, env)


def ours(workload, setup, port):
    """`cluster up` with one pipeline file, everything in one process."""
    folder = setup.scratch / "millstream"
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data"
    shutil.rmtree(data, ignore_errors=True)
    file = folder / f"{workload.name}.toml"
    file.write_text(pipeline(workload, setup))
    return [
        setup.release / "cluster", "up", file, "--data-dir", data, "--log", "warn",
        "--ingress", f"127.0.0.1:{port}", "--control", "127.0.0.1:0", "--dashboard", "127.0.0.1:0",
        "--onnxruntime", next((setup.models / "lib").glob("libonnxruntime.so*")),
    ]


def pipeline(workload, setup):
    """The pipeline file."""
    text = json.dumps  # JSON's strings are TOML's
    # A deployment that books whole cores gets as many threads; one that books none gets as many as there are cores.
    deployments = 2 if workload.service == "pipeline" else 1
    threads = max(1, setup.threads // setup.replicas)
    cpus = f"cpus = {threads}" if deployments * setup.replicas * threads <= (os.cpu_count() or 1) else ""
    if setup.replicas > 1:
        cpus += f"\nautoscaling = {{ min_replicas = {setup.replicas}, max_replicas = {setup.replicas} }}"
    minilm = text(f"file:{setup.models / 'all-MiniLM-L6-v2-onnx'}")
    if workload.service == "echo":
        return (HERE.parents[2] / "pipelines/examples/echo.toml").read_text()
    if workload.path == "tabular":
        size = 64 if workload.batching else workload.rows
        return f"""
name = "tabular"
route = "/tabular"
[request]
features = "f32[?,42]"
[deployments.tabular]
task = "tensor"
engine = "onnx"
model = {text(f"file:{setup.tabular}")}
batch = {{ max_size = {size} }}
max_ongoing_requests = 128
{cpus}
signature = {{ inputs = {{ features = "f32[?,42]" }} }}
[stages.scored]
use = "tabular"
inputs = {{ features = "request.features" }}
[response]
probabilities = "scored.probabilities"
"""
    if workload.path == "embed":
        return f"""
name = "embed"
route = "/vectors"
[request]
texts = "text[]"
[deployments.embedder]
task = "embed"
engine = "onnx"
model = {minilm}
batch = {{ max_size = 64 }}
max_ongoing_requests = 128
{cpus}
[stages.embedded]
use = "embedder"
inputs = {{ texts = "request.texts" }}
[response]
vectors = "embedded"
"""
    return f"""
name = "pipeline"
route = "/pipeline"
[request]
question = "text"
documents = "text[]"
[deployments.embedder]
task = "embed"
engine = "onnx"
model = {minilm}
{cpus}
[deployments.reranker]
task = "rerank"
engine = "onnx"
{cpus}
model = {text(f"file:{setup.models / 'mini-reranker-onnx'}")}
[stages.vectors]
use = "embedder"
inputs = {{ texts = "[request.question] + request.documents" }}
[stages.shortlist]
use = "op:similarity"
inputs = {{ query = "vectors[0]", items = "request.documents", vectors = "vectors[1:]", keep = 8 }}
[stages.ranked]
use = "reranker"
inputs = {{ query = "request.question", documents = "shortlist.items", keep = 3 }}
[response]
sources = "ranked.items"
"""

