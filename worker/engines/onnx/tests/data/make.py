"""Makes the tiny graphs that the engine's tests run, and the tabular classifier's reference values.

Run it with an environment that has onnx, numpy and onnxruntime:  python make.py
Everything is fixed; running it again changes nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
TABULAR = HERE.parents[4] / "pipelines/models/tabular-classifier/model.onnx"
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def save(name: str, nodes: list, inputs: list, outputs: list, weights: dict[str, np.ndarray] | None = None, domains: tuple = ()) -> None:
    """Writes one graph; inputs and outputs are (name, type, shape), domains those of operators beyond ONNX's own, with versions."""
    infos = [[helper.make_tensor_value_info(*port) for port in ports] for ports in (inputs, outputs)]
    initializers = [numpy_helper.from_array(value, key) for key, value in (weights or {}).items()]
    graph = helper.make_graph(nodes, name, *infos, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(*opset) for opset in (("", 17), *domains)], producer_name="millstream")
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, str(HERE / f"{name}.onnx"))


def graphs() -> None:
    """One graph for each rule of the engine."""
    node = helper.make_node
    # Rows do not depend on one another: calls may run together.
    weights = {"w": np.array([[1, 0], [0, 1], [1, 1]], np.float32), "b": np.array([0.5, -0.5], np.float32)}
    save(
        "linear",
        [node("MatMul", ["x", "w"], ["xw"]), node("Add", ["xw", "b"], ["y"]), node("ArgMax", ["y"], ["best"], axis=1, keepdims=0)],
        [("x", FLOAT, ["batch", 3])],
        [("y", FLOAT, ["batch", 2]), ("best", INT64, ["batch"])],
        weights,
    )
    # The same shapes, but each row is a sum of those before it: calls must not run together.
    save("running_sum", [node("CumSum", ["x", "axis"], ["y"])], [("x", FLOAT, ["batch", 3])], [("y", FLOAT, ["batch", 3])],
         {"axis": np.array(0, np.int64)})
    # A bad index makes the whole run fail.
    save("lookup", [node("Gather", ["table", "ids"], ["rows"])], [("ids", INT64, ["batch", "n"])],
         [("rows", FLOAT, ["batch", "n", 2])], {"table": np.arange(8, dtype=np.float32).reshape(4, 2)})
    # A weight that ONNX Runtime transposes in place, as it takes both transpositions away.
    save(
        "transposed",
        [
            node("Transpose", ["x"], ["turned"], perm=[0, 2, 1]),
            node("Add", ["turned", "bias"], ["moved"]),
            node("Transpose", ["moved"], ["y"], perm=[0, 2, 1]),
        ],
        [("x", FLOAT, ["batch", 64, 32])],
        [("y", FLOAT, ["batch", 64, 32])],
        {"bias": np.arange(2048, dtype=np.float32).reshape(1, 32, 64)},
    )
    # Two inputs whose axes bear the same names.
    save("add", [node("Add", ["a", "b"], ["sum"])], [("a", FLOAT, ["batch", "n"]), ("b", FLOAT, ["batch", "n"])],
         [("sum", FLOAT, ["batch", "n"])])
    # Weights in a file of their own, beside the graph; saving appends to a file that is there.
    (HERE / "external.bin").unlink(missing_ok=True)
    model = onnx.load(str(HERE / "linear.onnx"))
    onnx.save(model, str(HERE / "external.onnx"), save_as_external_data=True, location="external.bin", size_threshold=0)
    # Every element type, there and back.
    types = {
        "bool": TensorProto.BOOL, "u8": TensorProto.UINT8, "u16": TensorProto.UINT16, "u32": TensorProto.UINT32,
        "u64": TensorProto.UINT64, "i8": TensorProto.INT8, "i16": TensorProto.INT16, "i32": TensorProto.INT32,
        "i64": TensorProto.INT64, "f16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16, "f32": FLOAT,
        "f64": TensorProto.DOUBLE,
    }
    save(
        "types",
        [node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in types],
        [(f"in_{name}", kind, ["batch", 2]) for name, kind in types.items()],
        [(f"out_{name}", kind, ["batch", 2]) for name, kind in types.items()],
    )
    # Texts in and out, in one axis and in two, and numbers made of them.
    text = TensorProto.STRING
    save(
        "texts",
        [
            node("LabelEncoder", ["words"], ["kind"], domain="ai.onnx.ml", keys_strings=["Bread", "flour"], values_strings=["food", "näher"], default_string=""),
            node("LabelEncoder", ["words"], ["known"], domain="ai.onnx.ml", keys_strings=["Bread", "flour"], values_int64s=[1, 2], default_int64=-1),
            node("Identity", ["pairs"], ["same"]),
        ],
        [("words", text, ["batch"]), ("pairs", text, ["batch", 2])],
        [("kind", text, ["batch"]), ("known", INT64, ["batch"]), ("same", text, ["batch", 2])],
        domains=(("ai.onnx.ml", 2),),
    )
    # An embedder without token_type_ids whose token vectors are rows of a table.
    table = np.random.default_rng(5).normal(size=(8, 4)).astype(np.float32)
    save(
        "embedder",
        [
            node("Gather", ["table", "input_ids"], ["vectors"]),
            node("Cast", ["attention_mask"], ["mask"], to=FLOAT),
            node("Unsqueeze", ["mask", "last"], ["wide"]),
            node("Mul", ["vectors", "wide"], ["last_hidden_state"]),
        ],
        [("input_ids", INT64, ["batch", "sequence"]), ("attention_mask", TensorProto.INT32, ["batch", "sequence"])],
        [("last_hidden_state", FLOAT, ["batch", "sequence", 4])],
        {"table": table, "last": np.array([2], np.int64)},
    )


def tabular() -> None:
    """What ONNX Runtime's own Python interface gives for the bundled classifier on fixed rows."""
    rows = np.random.default_rng(11).normal(scale=2.0, size=(16, 42)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(TABULAR), providers=["CPUExecutionProvider"])
    label, probabilities = session.run(["label", "probabilities"], {"features": rows})
    values = {
        "features": [[float(value) for value in row] for row in rows],
        "label": [int(value) for value in label],
        "probabilities": [[float(value) for value in row] for row in probabilities],
    }
    (HERE / "tabular.json").write_text(json.dumps(values) + "\n", encoding="utf-8")


if __name__ == "__main__":
    graphs()
    tabular()
