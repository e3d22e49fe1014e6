"""BentoML 1.4: one service, three for the pipeline. `bentoml serve serve_bentoml:Service`"""

import os

import bentoml
import models

NAME = os.environ["BENCH_WORKLOAD"]
SETTINGS = {"workers": 1, "traffic": {"timeout": 60}}
# A short budget makes it refuse most requests under load; this one is the best of those tried.
BATCH = {"batchable": True, "max_batch_size": 64, "max_latency_ms": 10_000}

if NAME == "echo":

    @bentoml.service(**SETTINGS)
    class Service:
        @bentoml.api(route="/echo")
        def echo(self, features: list[float]) -> dict:
            return {"features": features}

elif NAME == "tabular":

    @bentoml.service(**SETTINGS)
    class Service:
        def __init__(self):
            self.model = models.load()

        @bentoml.api(route="/tabular")
        def tabular(self, features: list[list[float]]) -> dict:
            return {"probabilities": self.model(features).tolist()}

elif NAME == "tabular-batched":

    @bentoml.service(**SETTINGS)
    class Service:
        def __init__(self):
            self.model = models.load()

        @bentoml.api(route="/tabular", **BATCH)
        def tabular(self, features: models.np.ndarray) -> models.np.ndarray:
            return self.model(features)

elif NAME == "embed":

    @bentoml.service(**SETTINGS)
    class Service:
        def __init__(self):
            self.model = models.load()

        @bentoml.api(route="/embed", **BATCH)
        def embed(self, texts: list[str]) -> models.np.ndarray:
            return self.model(texts)

else:

    @bentoml.service(**SETTINGS)
    class Embed:
        def __init__(self):
            self.model = models.Embedder()

        @bentoml.api
        def embed(self, texts: list[str]) -> models.np.ndarray:
            return self.model(texts)

    @bentoml.service(**SETTINGS)
    class Rerank:
        def __init__(self):
            self.model = models.Reranker()

        @bentoml.api
        def rerank(self, question: str, documents: list[str]) -> models.np.ndarray:
            return self.model(question, documents)

    @bentoml.service(**SETTINGS)
    class Service:
        embedder = bentoml.depends(Embed)
        reranker = bentoml.depends(Rerank)

        @bentoml.api(route="/pipeline")
        async def pipeline(self, question: str, documents: list[str]) -> dict:
            vectors = await self.embedder.to_async.embed(texts=[question] + documents)
            shortlist = models.nearest(vectors, documents)
            scores = await self.reranker.to_async.rerank(question=question, documents=shortlist)
            return {"sources": models.best(scores, shortlist)}
