"""The model of Triton's Python backend; copied into the model repository as model.py."""

import os
import sys

# The backend's interpreter heeds no PYTHONPATH.
sys.path[:0] = os.environ["BENCH_PATH"].split(os.pathsep)

import models
import numpy as np
import triton_python_backend_utils as pb

NAME = os.environ["BENCH_WORKLOAD"]


def texts_of(request, name):
    return [text.decode() for text in pb.get_input_tensor_by_name(request, name).as_numpy().reshape(-1)]


def answer(name, array):
    return pb.InferenceResponse(output_tensors=[pb.Tensor(name, array)])


class TritonPythonModel:
    def initialize(self, args):
        self.model = models.load()

    def execute(self, requests):
        if NAME == "pipeline":
            return [self.pipeline(request) for request in requests]
        if NAME == "embed":
            parts = [texts_of(request, "texts") for request in requests]
            vectors = self.model([text for part in parts for text in part]).astype(np.float32)
            ends = np.cumsum([len(part) for part in parts])[:-1]
            return [answer("vectors", rows[None]) for rows in np.split(vectors, ends)]
        rows = [pb.get_input_tensor_by_name(request, "features").as_numpy() for request in requests]
        if NAME == "echo":
            return [answer("features", array) for array in rows]
        scores = self.model(np.concatenate(rows))
        ends = np.cumsum([len(array) for array in rows])[:-1]
        return [answer("probabilities", part) for part in np.split(scores, ends)]

    def pipeline(self, request):
        [question] = texts_of(request, "question")
        sources = self.model(question, texts_of(request, "documents"))
        return answer("sources", np.array([[text.encode() for text in sources]], dtype=np.object_))
