"""Builds an ONNX graph of a BERT model from its `config.json` and `model.safetensors`.

Why it exists: the tests compare the ONNX engine with the same reference values as the other engines, on the same
weights. The usual exporters need a deep-learning framework of several GiB; a BERT is small enough to be written down
node by node, with `onnx`, `numpy` and `safetensors` alone.

The graph has the inputs `input_ids`, `attention_mask` and `token_type_ids` (int64 `[batch, sequence]`). An encoder gives
`last_hidden_state` `[batch, sequence, hidden]`; a sequence classifier (by `architectures`) gives `logits` `[batch, labels]`.
Weights become float32. The shape of the graph is the one that ONNX Runtime's own fusions look for.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

OPSET, IR_VERSION = 17, 8
COPIED = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
]


class Graph:
    """Collects nodes and weights; every method returns the name of its result."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}

    def op(self, kind: str, *inputs: str, out: str | None = None, **attributes: object) -> str:
        name = out or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"node_{len(self.nodes)}", **attributes))
        return name

    def constant(self, name: str, value: np.ndarray) -> str:
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.array(value, order="C"), name)
        return name

    def number(self, value: float) -> str:
        return self.constant(f"const_{value!r}", np.array(value, np.float32))

    def ints(self, *values: int) -> str:
        return self.constant("ints_" + "_".join(map(str, values)), np.array(values, np.int64))

    def weight(self, key: str, transpose: bool = False) -> str:
        value = self.weights[key].astype(np.float32)
        return self.constant(key, value.T if transpose else value)

    def linear(self, x: str, key: str) -> str:
        return self.op("Add", self.op("MatMul", x, self.weight(f"{key}.weight", True)), self.weight(f"{key}.bias"))

    def norm(self, x: str, key: str, epsilon: float, out: str | None = None) -> str:
        inputs = (x, self.weight(f"{key}.weight"), self.weight(f"{key}.bias"))
        return self.op("LayerNormalization", *inputs, out=out, axis=-1, epsilon=epsilon)

    def gelu(self, x: str) -> str:
        erf = self.op("Erf", self.op("Div", x, self.number(math.sqrt(2.0))))
        return self.op("Mul", self.op("Mul", x, self.op("Add", erf, self.number(1.0))), self.number(0.5))


def embeddings(g: Graph, prefix: str, config: dict) -> str:
    """Sum of word, position and type vectors, normalised."""
    # Positions 0, 1, 2, …: the beginning of the stored ones, as long as the text.
    length = g.op("Gather", g.op("Shape", "input_ids"), g.constant("one", np.array(1, np.int64)), axis=0)
    stored = g.constant("positions", np.arange(config["max_position_embeddings"], dtype=np.int64)[None])
    positions = g.op("Slice", stored, g.ints(0), g.op("Unsqueeze", length, g.ints(0)), g.ints(1))
    key = f"{prefix}embeddings"
    words = g.op("Gather", g.weight(f"{key}.word_embeddings.weight"), "input_ids", axis=0)
    types = g.op("Gather", g.weight(f"{key}.token_type_embeddings.weight"), "token_type_ids", axis=0)
    places = g.op("Gather", g.weight(f"{key}.position_embeddings.weight"), positions, axis=0)
    total = g.op("Add", g.op("Add", words, types), places)
    return g.norm(total, f"{key}.LayerNorm", config["layer_norm_eps"])


def attention(g: Graph, x: str, mask: str, key: str, heads: int, hidden: int) -> str:
    """Self-attention of one layer, before the residual sum."""
    size = hidden // heads
    shape = g.ints(0, 0, heads, size)
    query = g.op("Transpose", g.op("Reshape", g.linear(x, f"{key}.self.query"), shape), perm=[0, 2, 1, 3])
    keys = g.op("Transpose", g.op("Reshape", g.linear(x, f"{key}.self.key"), shape), perm=[0, 2, 3, 1])
    values = g.op("Transpose", g.op("Reshape", g.linear(x, f"{key}.self.value"), shape), perm=[0, 2, 1, 3])
    scores = g.op("Div", g.op("MatMul", query, keys), g.number(math.sqrt(size)))
    weights = g.op("Softmax", g.op("Add", scores, mask), axis=-1)
    mixed = g.op("Transpose", g.op("MatMul", weights, values), perm=[0, 2, 1, 3])
    return g.linear(g.op("Reshape", mixed, g.ints(0, 0, hidden)), f"{key}.output.dense")


def encoder(g: Graph, prefix: str, config: dict, out: str | None) -> str:
    """All layers."""
    wide = g.op("Unsqueeze", g.op("Unsqueeze", "attention_mask", g.ints(1)), g.ints(2))
    open_places = g.op("Cast", wide, to=TensorProto.FLOAT)
    mask = g.op("Mul", g.op("Sub", g.number(1.0), open_places), g.number(-10000.0))
    x = embeddings(g, prefix, config)
    epsilon, layers = config["layer_norm_eps"], config["num_hidden_layers"]
    for layer in range(layers):
        key = f"{prefix}encoder.layer.{layer}"
        mixed = attention(g, x, mask, f"{key}.attention", config["num_attention_heads"], config["hidden_size"])
        x = g.norm(g.op("Add", mixed, x), f"{key}.attention.output.LayerNorm", epsilon)
        inner = g.gelu(g.linear(x, f"{key}.intermediate.dense"))
        total = g.op("Add", g.linear(inner, f"{key}.output.dense"), x)
        x = g.norm(total, f"{key}.output.LayerNorm", epsilon, out=out if layer == layers - 1 else None)
    return x


def classifier(g: Graph, prefix: str, x: str) -> None:
    """Pooler on the first token, then the head."""
    first = g.op("Gather", x, g.constant("zero", np.array(0, np.int64)), axis=1)
    pooled = g.op("Tanh", g.linear(first, f"{prefix}pooler.dense"))
    head = g.op("MatMul", pooled, g.weight("classifier.weight", True))
    g.op("Add", head, g.weight("classifier.bias"), out="logits")


def build(folder: Path) -> onnx.ModelProto:
    """The model of `folder` as an ONNX graph."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.setdefault("layer_norm_eps", 1e-12)
    if config.get("model_type") != "bert" or config.get("hidden_act", "gelu") != "gelu":
        raise SystemExit(f"{folder}: only BERT with gelu can be exported, not {config.get('model_type')!r}")
    weights = load_file(str(folder / "model.safetensors"))
    prefix = "bert." if any(key.startswith("bert.") for key in weights) else ""
    graph = Graph(weights)
    if any(name.endswith("ForSequenceClassification") for name in config.get("architectures") or []):
        classifier(graph, prefix, encoder(graph, prefix, config, out=None))
        labels = int(weights["classifier.weight"].shape[0])
        output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", labels])
    else:
        encoder(graph, prefix, config, out="last_hidden_state")
        shape = ["batch", "sequence", config["hidden_size"]]
        output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, shape)
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    proto = helper.make_graph(graph.nodes, "bert", inputs, [output], list(graph.initializers.values()))
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="millstream")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model)
    return model


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder with config.json, model.safetensors and tokenizer.json")
    parser.add_argument("out", type=Path, help="folder to write model.onnx to; settings and tokenizer are copied there")
    args = parser.parse_args()
    model = build(args.model)
    for name in COPIED:
        if (args.model / name).is_file():
            (args.out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(args.model / name, args.out / name)
    # Written last and moved into place: an interrupted run leaves no model that looks finished.
    unfinished = args.out / "model.onnx.part"
    onnx.save(model, str(unfinished))
    unfinished.rename(args.out / "model.onnx")


if __name__ == "__main__":
    main()
