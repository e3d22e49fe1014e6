"""Triton's client against an ingress. Run by tests/tests/clients.rs: triton_client.py http://HOST:PORT"""

import asyncio
import sys

import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

ADDRESS = sys.argv[1].removeprefix("http://").rstrip("/")
client = triton.InferenceServerClient(ADDRESS, concurrency=4)
TEXTS = ["one text", "é, another"]


def tensor(name, datatype, array, binary=True):
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def texts(name, items, binary=True):
    return tensor(name, "BYTES", np.array([item.encode() for item in items], dtype=np.object_), binary)


def pages():
    assert client.is_server_live() and client.is_server_ready()
    server = client.get_server_metadata()
    assert server["name"] == "millstream" and "binary_tensor_data" in server["extensions"], server
    for model in ("ai/embedder", "ai", "shapes"):
        assert client.is_model_ready(model), model
        assert client.is_model_ready(model, "1"), model
    assert not client.is_model_ready("ai/embedder", "99") and not client.is_model_ready("nobody")
    embedder = client.get_model_metadata("ai/embedder")
    assert embedder["name"] == "ai/embedder" and embedder["versions"] == ["1"], embedder
    assert embedder["inputs"][0] == {"name": "texts", "datatype": "BYTES", "shape": [-1]}, embedder
    assert "prompt_name" in {tensor["name"] for tensor in embedder["inputs"]}, embedder
    assert embedder["outputs"] == [{"name": "embeddings", "datatype": "FP32", "shape": [-1, -1]}], embedder
    pipeline = client.get_model_metadata("ai", "1")
    assert [output["name"] for output in pipeline["outputs"]] == ["text", "vectors"], pipeline
    config = client.get_model_config("shapes")
    assert config["input"][0]["data_type"] == "TYPE_FP32" and config["input"][0]["dims"] == [-1, 300], config
    assert "dynamic_batching" in client.get_model_config("ai/embedder", "1")
    counted = client.get_inference_statistics("ai/embedder")["model_stats"][0]
    assert counted["name"] == "ai/embedder" and counted["inference_stats"]["success"]["count"] >= 0, counted
    assert {"ai", "shapes/mirror"} <= {it["name"] for it in client.get_inference_statistics()["model_stats"]}
    index = {(entry["name"], entry["version"]): entry["state"] for entry in client.get_model_repository_index()}
    assert index["ai/embedder", "1"] == index["ai", "1"] == "READY", index


def embedder():
    binary = client.infer("ai/embedder", [texts("texts", TEXTS)], request_id="my-1")
    vectors = binary.as_numpy("embeddings")
    assert vectors.dtype == np.float32 and vectors.shape[0] == 2, vectors
    head = binary.get_response()
    assert (head["id"], head["model_name"], head["model_version"]) == ("my-1", "ai/embedder", "1"), head
    wanted = [triton.InferRequestedOutput("embeddings", binary_data=False)]
    plain = client.infer("ai/embedder", [texts("texts", TEXTS, binary=False)], "1", outputs=wanted)
    assert "data" in plain.get_output("embeddings")
    assert np.allclose(plain.as_numpy("embeddings"), vectors, atol=1e-6)


def pipeline():
    result = client.infer("ai", [texts("prompt", ["Once upon a time"])])
    assert result.as_numpy("text").dtype == np.object_ and result.as_numpy("text").shape == (1,)
    assert result.as_numpy("vectors").shape[0] == 1
    only = client.infer("ai", [texts("prompt", ["x"])], outputs=[triton.InferRequestedOutput("text")])
    assert [output["name"] for output in only.get_response()["outputs"]] == ["text"]
    ranked = client.infer("ai/reranker", [texts("query", ["flour"]), texts("documents", ["Cats purr.", "Bread needs flour."])])
    assert ranked.as_numpy("indices").dtype == np.int64 and ranked.as_numpy("scores").dtype == np.float64


def every_type():
    arrays = {
        "BOOL": np.array([[True, False]]), "UINT8": np.array([[1, 255]], np.uint8), "INT16": np.array([[-1, 2]], np.int16),
        "INT32": np.array([[-1, 2**31 - 1]], np.int32), "INT64": np.array([[-1, 2**63 - 1]], np.int64),
        "UINT64": np.array([[0, 2**64 - 1]], np.uint64), "FP16": np.array([[0.5, -2]], np.float16),
        "FP32": np.array([[0.5, -2]], np.float32), "FP64": np.array([[0.1, -2]], np.float64),
    }
    for datatype, array in arrays.items():
        for binary in (True, False) if datatype != "FP16" else (True,):
            sent = [tensor("x", datatype, array, binary)]
            # As it was asked for: in binary, and as JSON.
            for wanted in (None, [triton.InferRequestedOutput("x", binary_data=False)]):
                found = client.infer("shapes/mirror", sent, outputs=wanted).as_numpy("x")
                assert found.dtype == array.dtype and np.array_equal(found, array), (datatype, binary, found)
    big = np.arange(300_000, dtype=np.float32).reshape(1000, 300)
    rows = client.infer("shapes", [tensor("rows", "FP32", big), tensor("count", "INT64", np.array([3]))])
    assert np.array_equal(rows.as_numpy("rows"), big) and rows.as_numpy("count").tolist() == [3]
    empty = client.infer("shapes", [tensor("rows", "FP32", np.zeros((0, 300), np.float32))])
    assert empty.as_numpy("rows").shape == (0, 300)


def refused(status, reason, model, inputs, **more):
    try:
        client.infer(model, inputs, **more)
    except InferenceServerException as error:
        assert error.status() == str(status) and reason in error.message(), (error.status(), error.message())
    else:
        raise AssertionError(f"{model} answered")


def errors():
    prompt = texts("prompt", ["x"])
    refused(404, "`nobody`", "nobody", [prompt])
    refused(404, "revision", "ai", [prompt], model_version="99")
    refused(404, "`newest`", "ai", [prompt], model_version="newest")
    refused(400, "`prompt`: the field is missing", "ai", [])
    refused(400, "input `prompt`: a field of type `text` takes no tensor", "ai", [tensor("prompt", "INT64", np.array([1]))])
    refused(400, "there is no output `nobody`", "ai", [prompt], outputs=[triton.InferRequestedOutput("nobody")])
    refused(400, "there is no output `y`", "shapes/mirror", [tensor("x", "INT64", np.array([1]))], outputs=[triton.InferRequestedOutput("y")])
    refused(400, "found `f32[2,2]`", "shapes", [tensor("rows", "FP32", np.zeros((2, 2), np.float32))])
    try:
        client.get_model_metadata("nobody")
    except InferenceServerException as error:
        assert "`nobody`" in error.message(), error
    else:
        raise AssertionError("there is a model `nobody`")


async def concurrently():
    async with triton_aio.InferenceServerClient(ADDRESS) as asynchronous:
        assert await asynchronous.is_model_ready("ai/embedder")

        async def one(number):
            wanted = [triton_aio.InferRequestedOutput("embeddings", binary_data=number % 2 == 0)]
            inputs = [texts("texts", TEXTS, binary=number % 4 < 2)]
            return (await asynchronous.infer("ai/embedder", inputs, outputs=wanted)).as_numpy("embeddings")

        found = await asyncio.gather(*(one(number) for number in range(16)))
        assert all(np.allclose(found[0], other, atol=1e-5) for other in found)


for check in (pages, embedder, pipeline, every_type, errors):
    check()
client.close()
asyncio.run(concurrently())
print("ok")
