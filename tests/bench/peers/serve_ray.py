"""Ray Serve: one deployment, three for the pipeline. `python serve_ray.py PORT`"""

import os
import sys
import threading

import models
import ray
from ray import serve
from starlette.requests import Request

NAME = os.environ["BENCH_WORKLOAD"]
# Its default of 5 ongoing requests would measure the limit.
SETTINGS = {"num_replicas": 1, "max_ongoing_requests": 100, "ray_actor_options": {"num_cpus": 0.1}}


@serve.deployment(**SETTINGS)
class Echo:
    async def __call__(self, request: Request):
        return {"features": (await request.json())["features"]}


@serve.deployment(**SETTINGS)
class Tabular:
    def __init__(self):
        self.model = models.Tabular()

    async def __call__(self, request: Request):
        return {"probabilities": self.model((await request.json())["features"]).tolist()}


@serve.deployment(**SETTINGS)
class TabularBatched:
    def __init__(self):
        self.model = models.Tabular()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.002)
    async def batch(self, rows):
        return list(self.model(models.np.concatenate(rows)))

    async def __call__(self, request: Request):
        rows = models.np.asarray((await request.json())["features"], dtype=models.np.float32)
        return {"probabilities": [(await self.batch(rows)).tolist()]}


@serve.deployment(**SETTINGS)
class Embed:
    def __init__(self):
        self.model = models.Embedder()

    async def __call__(self, request: Request):
        return {"vectors": self.model((await request.json())["texts"]).tolist()}

    def embed(self, texts):
        return self.model(texts)


@serve.deployment(**SETTINGS)
class Rerank:
    def __init__(self):
        self.model = models.Reranker()

    def rerank(self, question, documents):
        return self.model(question, documents)


@serve.deployment(**SETTINGS)
class Pipeline:
    def __init__(self, embedder, reranker):
        self.embedder, self.reranker = embedder, reranker

    async def __call__(self, request: Request):
        body = await request.json()
        question, documents = body["question"], body["documents"]
        vectors = await self.embedder.embed.remote([question] + documents)
        shortlist = models.nearest(vectors, documents)
        scores = await self.reranker.rerank.remote(question, shortlist)
        return {"sources": models.best(scores, shortlist)}


APPS = {
    "echo": lambda: Echo.bind(),
    "tabular": lambda: Tabular.bind(),
    "tabular-batched": lambda: TabularBatched.bind(),
    "embed": lambda: Embed.bind(),
    "pipeline": lambda: Pipeline.bind(Embed.bind(), Rerank.bind()),
}

if __name__ == "__main__":
    ray.init(
        num_cpus=max(4, os.cpu_count() or 4),
        include_dashboard=False,
        object_store_memory=128 << 20,
        _temp_dir=os.environ["BENCH_RAY_DIR"],
        log_to_driver=False,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(APPS[NAME](), name="bench", route_prefix="/")
    threading.Event().wait()
