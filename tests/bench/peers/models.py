"""The models as plain Python on ONNX Runtime: what every Python engine serves, and the floor when called directly.

Settings come from the environment: BENCH_WORKLOAD, BENCH_THREADS, BENCH_TABULAR, BENCH_EMBEDDER, BENCH_RERANKER."""

import os

# The echo needs neither: its engines start and weigh what they are alone.
if os.environ.get("BENCH_WORKLOAD") != "echo":
    import numpy as np
    import onnxruntime as ort

TOP, KEEP = 8, 3


def session(path):
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("BENCH_THREADS", "1"))
    options.inter_op_num_threads = 1
    # As in ours: a thread that spins takes the core from the server beside it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class Tabular:
    """Rows of 42 numbers to probabilities."""

    def __init__(self):
        self.session = session(os.environ["BENCH_TABULAR"] + "/model.onnx")

    def __call__(self, rows):
        """[n, 42] to [n, 2]"""
        rows = np.asarray(rows, dtype=np.float32)
        return self.session.run(["probabilities"], {"features": rows})[0]


class Encoder:
    """Tokenizer and session of a BERT."""

    def __init__(self, folder):
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(folder + "/tokenizer.json")
        self.tokenizer.enable_truncation(256)
        self.tokenizer.enable_padding()
        self.session = session(folder + "/model.onnx")

    def run(self, items):
        encoded = self.tokenizer.encode_batch(items)
        mask = np.array([one.attention_mask for one in encoded], dtype=np.int64)
        feeds = {
            "input_ids": np.array([one.ids for one in encoded], dtype=np.int64),
            "attention_mask": mask,
            "token_type_ids": np.array([one.type_ids for one in encoded], dtype=np.int64),
        }
        return self.session.run(None, feeds)[0], mask


class Embedder(Encoder):
    """Texts to vectors of length 1."""

    def __init__(self):
        super().__init__(os.environ["BENCH_EMBEDDER"])

    def __call__(self, texts):
        """n texts to [n, 384]"""
        hidden, mask = self.run(list(texts))
        weights = mask[:, :, None].astype(np.float32)
        vectors = (hidden * weights).sum(1) / weights.sum(1)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Reranker(Encoder):
    """A question and passages to scores."""

    def __init__(self):
        super().__init__(os.environ["BENCH_RERANKER"])

    def __call__(self, question, documents):
        logits, _ = self.run([(question, document) for document in documents])
        return logits[:, 0]


def nearest(vectors, documents):
    """The documents whose vectors are closest to the first one, best first."""
    order = np.argsort(-(vectors[1:] @ vectors[0]), kind="stable")[:TOP]
    return [documents[index] for index in order]


def best(scores, documents):
    """The documents with the highest scores, best first."""
    order = np.argsort(-scores, kind="stable")[:KEEP]
    return [documents[index] for index in order]


class Pipeline:
    """The three stages in one process."""

    def __init__(self):
        self.embedder, self.reranker = Embedder(), Reranker()

    def __call__(self, question, documents):
        shortlist = nearest(self.embedder([question] + documents), documents)
        return best(self.reranker(question, shortlist), shortlist)


def load():
    """What the workload needs; None for the echo."""
    name = os.environ["BENCH_WORKLOAD"]
    if name.startswith("tabular"):
        return Tabular()
    if name == "embed":
        return Embedder()
    return Pipeline() if name == "pipeline" else None
