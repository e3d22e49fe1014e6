"""Triton's client over gRPC against an ingress. Run by tests/tests/clients.rs: triton_grpc_client.py http://HOST:PORT"""

import asyncio
import queue
import sys
import time

import grpc
import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

ADDRESS = sys.argv[1].removeprefix("http://").rstrip("/")
client = triton.InferenceServerClient(ADDRESS)
stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(ADDRESS))
TEXTS = ["one text", "é, another"]


def tensor(name, datatype, array):
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def texts(name, items):
    return tensor(name, "BYTES", np.array([item.encode() for item in items], dtype=np.object_))


def pages():
    assert client.is_server_live() and client.is_server_ready()
    server = client.get_server_metadata(as_json=True)
    assert server["name"] == "millstream" and "statistics" in server["extensions"], server
    for model in ("ai/embedder", "ai", "shapes"):
        assert client.is_model_ready(model) and client.is_model_ready(model, "1"), model
    assert not client.is_model_ready("ai/embedder", "99") and not client.is_model_ready("nobody")
    embedder = client.get_model_metadata("ai/embedder")
    assert (embedder.name, list(embedder.versions)) == ("ai/embedder", ["1"]), embedder
    assert embedder.inputs[0].name == "texts" and list(embedder.outputs[0].shape) == [-1, -1], embedder
    index = {(entry.name, entry.version): entry.state for entry in client.get_model_repository_index().models}
    assert index["ai/embedder", "1"] == index["ai", "1"] == "READY", index
    config = client.get_model_config("shapes").config
    assert config.input[0].data_type == 11 and list(config.input[0].dims) == [-1, 300], config
    assert config.max_batch_size == 0 and config.input[1].optional, config
    assert client.get_model_config("ai/embedder").config.HasField("dynamic_batching")


def statistics():
    def counted(model):
        found = client.get_inference_statistics(model).model_stats
        assert [(it.name, it.version) for it in found] == [(model, "1")], found
        return found[0].inference_stats

    before = {model: counted(model) for model in ("ai", "ai/embedder")}
    client.infer("ai", [texts("prompt", ["Once upon a time"])])
    for model, old in before.items():
        new = counted(model)
        assert new.success.count == old.success.count + 1 and new.success.ns > old.success.ns, (model, old, new)
        assert new.compute_infer.ns > old.compute_infer.ns
    names = {it.name for it in client.get_inference_statistics().model_stats}
    assert {"ai", "ai/embedder", "shapes/mirror"} <= names, names


def infer():
    result = client.infer("ai/embedder", [texts("texts", TEXTS)], request_id="my-1")
    vectors = result.as_numpy("embeddings")
    assert vectors.dtype == np.float32 and vectors.shape[0] == 2, vectors
    head = result.get_response()
    assert (head.id, head.model_name, head.model_version) == ("my-1", "ai/embedder", "1"), head
    result = client.infer("ai", [texts("prompt", ["Once upon a time"])], "1")
    assert result.as_numpy("text").dtype == np.object_ and result.as_numpy("vectors").shape[0] == 1
    only = client.infer("ai", [texts("prompt", ["x"])], outputs=[triton.InferRequestedOutput("text")])
    assert [output.name for output in only.get_response().outputs] == ["text"]
    headers = {"x-request-timeout": "30s", "x-priority": "low", "x-request-id": "mine-1"}
    client.infer("ai/embedder", [texts("texts", TEXTS)], headers=headers, client_timeout=30)


def every_type():
    arrays = {
        "BOOL": np.array([[True, False]]), "UINT8": np.array([[1, 255]], np.uint8), "INT16": np.array([[-1, 2]], np.int16),
        "INT32": np.array([[-1, 2**31 - 1]], np.int32), "INT64": np.array([[-1, 2**63 - 1]], np.int64),
        "UINT64": np.array([[0, 2**64 - 1]], np.uint64), "FP16": np.array([[0.5, -2]], np.float16),
        "FP32": np.array([[0.5, -2]], np.float32), "FP64": np.array([[0.1, -2]], np.float64),
    }
    fields = {"BOOL": "bool_contents", "UINT8": "uint_contents", "INT16": "int_contents", "INT32": "int_contents",
              "INT64": "int64_contents", "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents"}
    for datatype, array in arrays.items():
        found = client.infer("shapes/mirror", [tensor("x", datatype, array)]).as_numpy("x")
        assert found.dtype == array.dtype and np.array_equal(found, array), (datatype, found)
        if datatype in fields:
            # The client sends raw contents alone; others send lists.
            contents = service_pb2.InferTensorContents(**{fields[datatype]: array.reshape(-1).tolist()})
            sent = service_pb2.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=array.shape, contents=contents)
            answer = stub.ModelInfer(service_pb2.ModelInferRequest(model_name="shapes/mirror", inputs=[sent]))
            assert answer.raw_output_contents[0] == array.tobytes(), datatype
    big = np.arange(300_000, dtype=np.float32).reshape(1000, 300)
    rows = client.infer("shapes", [tensor("rows", "FP32", big), tensor("count", "INT64", np.array([3]))])
    assert np.array_equal(rows.as_numpy("rows"), big) and rows.as_numpy("count").tolist() == [3]
    empty = client.infer("shapes", [tensor("rows", "FP32", np.zeros((0, 300), np.float32))])
    assert empty.as_numpy("rows").shape == (0, 300)


def refused(code, reason, call):
    try:
        call()
    except InferenceServerException as error:
        assert error.status() == f"StatusCode.{code}" and reason in error.message(), (error.status(), error.message())
    else:
        raise AssertionError(f"not refused: {reason}")


def errors():
    prompt = texts("prompt", ["x"])
    refused("NOT_FOUND", "`nobody`", lambda: client.infer("nobody", [prompt]))
    refused("NOT_FOUND", "revision", lambda: client.infer("ai", [prompt], "99"))
    refused("NOT_FOUND", "`newest`", lambda: client.infer("ai", [prompt], "newest"))
    refused("NOT_FOUND", "`nobody`", lambda: client.get_model_metadata("nobody"))
    refused("INVALID_ARGUMENT", "`prompt`: the field is missing", lambda: client.infer("ai", []))
    number = tensor("prompt", "INT64", np.array([1]))
    refused("INVALID_ARGUMENT", "takes no tensor", lambda: client.infer("ai", [number]))
    wanted = [triton.InferRequestedOutput("nobody")]
    refused("INVALID_ARGUMENT", "there is no output `nobody`", lambda: client.infer("ai", [prompt], outputs=wanted))
    few = tensor("rows", "FP32", np.zeros((2, 2), np.float32))
    refused("INVALID_ARGUMENT", "found `f32[2,2]`", lambda: client.infer("shapes", [few]))
    refused("UNIMPLEMENTED", "`RepositoryModelLoad`", lambda: client.load_model("ai"))
    zeros = tensor("rows", "FP32", np.zeros((100, 300), np.float32))
    refused("UNIMPLEMENTED", "compressed", lambda: client.infer("shapes", [zeros], compression_algorithm="gzip"))
    late = {"x-request-timeout": "1ms"}
    refused("DEADLINE_EXCEEDED", "deadline", lambda: client.infer("ai/writer", [texts("prompt", ["x" * 400])], headers=late))
    huge = tensor("rows", "FP32", np.zeros((8000, 300), np.float32))
    assert client.infer("shapes", [huge]).as_numpy("rows").shape == (8000, 300), "its file allows that"
    refused("RESOURCE_EXHAUSTED", "larger than", lambda: client.infer("shapes/mirror", [huge]))


def lies():
    def message(**more):
        sent = service_pb2.ModelInferRequest.InferInputTensor(name="rows", datatype="FP32", shape=[1, 300])
        return service_pb2.ModelInferRequest(**{"model_name": "shapes", "inputs": [sent], **more})

    channel = grpc.insecure_channel(ADDRESS)
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", lambda it: it, lambda it: it)
    good = message(raw_input_contents=[bytes(1200)]).SerializeToString()
    assert call(good)
    for reason, body in [
        ("do not make a tensor", message(raw_input_contents=[bytes(1199)]).SerializeToString()),
        ("for 1 inputs", message(raw_input_contents=[bytes(1200), b""]).SerializeToString()),
        ("not protobuf", good[:-1]), ("not protobuf", b"\x0b" * 1000), ("not UTF-8", b"\x0a\x02\xff\xfe"),
        ("more than 65536 items", b"\x2a\x00" * 1_000_000), ("more than 65536 items", b"\x3a\x00" * 1_000_000),
    ]:
        try:
            call(body)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT and reason in error.details(), error
        else:
            raise AssertionError(reason)


def stream():
    """One stream: a writer in parts, whole models, and errors that do not end it."""
    answers = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    prompt = [texts("prompt", ["Once upon a time"]), tensor("max_tokens", "INT64", np.array([8]))]
    client.async_stream_infer("ai/writer", prompt, request_id="a", enable_empty_final_response=True)
    parts, last = [], False
    while not last:
        result, error = answers.get(timeout=30)
        assert error is None and result.get_response().id == "a", error
        last = result.get_response().parameters["triton_final_response"].bool_param
        if not last:
            parts.append(result.as_numpy("text")[0].decode())
    assert len(parts) > 1 and result.as_numpy("text") is None, parts
    whole = client.infer("ai/writer", prompt + [tensor("temperature", "FP64", np.array([0.0]))])
    assert isinstance(whole.as_numpy("text")[0], bytes)
    for number in range(20):
        client.async_stream_infer("shapes/mirror", [tensor("x", "INT64", np.array([number]))], request_id=str(number))
    client.async_stream_infer("nobody", [tensor("x", "INT64", np.array([1]))], request_id="bad")
    client.async_stream_infer("shapes/mirror", [tensor("x", "INT64", np.array([99]))])
    for number in range(20):
        result, error = answers.get(timeout=30)
        assert error is None and result.as_numpy("x").tolist() == [number], (number, error)
    result, error = answers.get(timeout=30)
    assert result is None and "`nobody`" in error.message(), error
    result, error = answers.get(timeout=30)
    assert error is None and result.as_numpy("x").tolist() == [99]
    client.stop_stream()


def leaves():
    """A client that leaves in the middle of a stream frees its replica: the test looks at the metrics."""
    answers = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    prompt = [texts("prompt", ["Once upon a time"]), tensor("max_tokens", "INT64", np.array([400]))]
    client.async_stream_infer("ai/writer", prompt)
    answers.get(timeout=30)
    client.stop_stream(cancel_requests=True)
    # A call that is given up, too.
    call = client.async_infer("ai/writer", prompt, callback=lambda result, error: answers.put((result, error)))
    time.sleep(0.05)
    call.cancel()


async def asynchronously():
    async with triton_aio.InferenceServerClient(ADDRESS) as asynchronous:
        assert await asynchronous.is_model_ready("ai/embedder")
        results = await asyncio.gather(*(asynchronous.infer("ai/embedder", [texts("texts", TEXTS)]) for _ in range(16)))
        found = [result.as_numpy("embeddings") for result in results]
        assert all(np.allclose(found[0], other, atol=1e-5) for other in found)

        async def requests():
            for number in range(3):
                yield {"model_name": "shapes/mirror", "inputs": [tensor("x", "INT64", np.array([number]))]}

        seen = []
        async for result, error in asynchronous.stream_infer(requests()):
            assert error is None, error
            seen.append(result.as_numpy("x").tolist())
        assert seen == [[0], [1], [2]], seen


for check in (pages, infer, statistics, every_type, errors, lies, stream, leaves):
    check()
client.close()
asyncio.run(asynchronously())
print("ok")
