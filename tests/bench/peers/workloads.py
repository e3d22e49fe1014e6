"""What is asked of every engine: paths, bodies, the models behind them, and what a right answer is."""

import json
import math
from dataclasses import dataclass

FEATURES = [index * 0.5 for index in range(42)]
QUESTION = "How long may a replica take to drain before it is stopped?"
# 33 tokens of all-MiniLM-L6-v2 each.
TEXTS = [
    f"A replica that drains number {index} finishes its ongoing requests and takes no new ones, for at most thirty "
    "seconds, after which the worker stops it for good."
    for index in range(16)
]


@dataclass(frozen=True)
class Workload:
    """One kind of request."""

    name: str
    title: str
    body: dict
    rate: int  # requests per second of the latency figures: low for every engine
    batching: bool = False  # requests run together
    rows: int = 1  # inputs in one request that may run together
    apart: bool = False  # server and load generator on a half of the cores each, else both on all

    @property
    def service(self):
        """What a server serves for it."""
        return next(one for one in ("tabular-batched", "tabular", "echo", "embed", "pipeline") if self.name.startswith(one))

    @property
    def path(self):
        """Where a server answers it."""
        return self.service.removesuffix("-batched")


WORKLOADS = [
    Workload("echo", "echo of 42 floats", {"features": FEATURES}, 50),
    Workload("echo-apart", "the same, server and load generator on a half of the cores each", {"features": FEATURES}, 50, apart=True),
    Workload("tabular", "tabular ONNX, one row, batching off", {"features": [FEATURES]}, 50),
    Workload("tabular-batched", "tabular ONNX, one row, batching on", {"features": [FEATURES]}, 50, batching=True),
    Workload("tabular-64", "tabular ONNX, 64 rows", {"features": [FEATURES] * 64}, 50, rows=64),
    Workload("embed-1", "all-MiniLM-L6-v2, 1 text", {"texts": TEXTS[:1]}, 10, batching=True),
    Workload("embed-8", "all-MiniLM-L6-v2, 8 texts", {"texts": TEXTS[:8]}, 4, batching=True),
    Workload("pipeline", "embed 17, top 8, rerank 8, keep 3", {"question": QUESTION, "documents": TEXTS}, 2),
]
BY_NAME = {workload.name: workload for workload in WORKLOADS}


def cpu_at(concurrencies):
    """At how many callers CPU seconds are counted: about 40."""
    return min(concurrencies, key=lambda concurrency: abs(concurrency - 40))


def kserve(body):
    """The same request in the KServe v2 form that Triton takes."""
    inputs = []
    for name, value in body.items():
        if name == "features":
            rows = value if isinstance(value[0], list) else [value]
            data = [number for row in rows for number in row]
            inputs.append({"name": name, "datatype": "FP32", "shape": [len(rows), 42], "data": data})
        else:
            texts = [value] if isinstance(value, str) else value
            inputs.append({"name": name, "datatype": "BYTES", "shape": [1, len(texts)], "data": texts})
    return {"inputs": inputs}


def from_kserve(answer):
    """The named outputs of a KServe v2 answer."""
    return {output["name"]: output["data"] for output in answer["outputs"]}


def flat(value):
    """All leaves of nested lists."""
    if isinstance(value, list):
        return [leaf for item in value for leaf in flat(item)]
    return [value]


def fault(workload, text, reference):
    """Why the answer is wrong, compared with what the models give when called directly; None when it is right."""
    try:
        answer = json.loads(text)
    except ValueError:
        return "it is not JSON"
    if isinstance(answer, dict) and "outputs" in answer:
        answer = from_kserve(answer)
    if workload.name == "pipeline":
        sources = answer if isinstance(answer, list) else answer.get("sources")
        return None if sources == reference else f"sources are {str(sources)[:200]}"
    if isinstance(answer, dict):
        answer = next((answer[key] for key in ("features", "probabilities", "vectors") if key in answer), [])
    numbers, expected = flat(answer), flat(reference)
    if len(numbers) != len(expected):
        return f"{len(numbers)} numbers, not {len(expected)}"
    far = max((abs(a - b) for a, b in zip(numbers, expected)), default=math.inf)
    return None if far < 2e-3 else f"a number is off by {far:.3g}"
