"""Triton's client against a model that takes texts as tensors. Run by tests/tests/text_calls.rs: triton_texts.py http://HOST:PORT"""

import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

client = triton.InferenceServerClient(sys.argv[1].removeprefix("http://").rstrip("/"))
WORDS = np.array(["Bread", "flour", "ü", ""], dtype=np.object_)
PAIRS = np.array([["a", "b"], ["c", "é"], ["", "f"], ["g", "h"]], dtype=np.object_)


def tensor(name, array, binary):
    made = triton.InferInput(name, list(array.shape), "BYTES")
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def decoded(array):
    return np.vectorize(lambda item: item.decode() if isinstance(item, bytes) else item, otypes=[object])(array)


# The deployment itself, and the pipeline around it.
for model in ("words/texts", "words"):
    for sent in (True, False):
        for asked in (True, False):
            inputs = [tensor("words", WORDS, sent), tensor("pairs", PAIRS, sent)]
            outputs = [triton.InferRequestedOutput(name, binary_data=asked) for name in ("kind", "known", "same")]
            result = client.infer(model, inputs, outputs=outputs)
            assert decoded(result.as_numpy("kind")).tolist() == ["food", "näher", "", ""], result.get_response()
            known = result.as_numpy("known")
            assert known.dtype == np.int64 and known.tolist() == [1, 2, -1, -1], known
            same = decoded(result.as_numpy("same"))
            assert same.shape == PAIRS.shape and (same == PAIRS).all(), (model, sent, asked, same)

one = client.infer("words/texts", [tensor("words", WORDS[:1], True), tensor("pairs", PAIRS[:1], True)])
assert one.as_numpy("same").shape == (1, 2), one.get_response()

metadata = client.get_model_metadata("words")
assert metadata["inputs"] == [
    {"name": "words", "datatype": "BYTES", "shape": [-1]},
    {"name": "pairs", "datatype": "BYTES", "shape": [-1, -1]},
], metadata

wide = tensor("pairs", np.array([["a", "b", "c"]], dtype=np.object_), True)
raw = tensor("words", np.array([b"\xff"], dtype=np.object_), True)
for inputs, reason in [
    ([tensor("words", WORDS[:1], True), wide], "`text[1,3]`"),
    ([tensor("words", WORDS, True), tensor("pairs", PAIRS[:2], True)], "batch"),
    ([raw, tensor("pairs", PAIRS[:1], True)], "not UTF-8"),
]:
    try:
        client.infer("words/texts", inputs)
    except InferenceServerException as error:
        assert reason in error.message(), error.message()
    else:
        raise AssertionError(reason)
print("ok")
