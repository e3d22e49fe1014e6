"""Cohere's official client against an ingress. Run by tests/tests/clients.rs: cohere_client.py http://HOST:PORT"""

import sys

import cohere
from cohere.errors import BadRequestError, NotFoundError

client = cohere.ClientV2(base_url=sys.argv[1], api_key="unused")
DOCUMENTS = ["Cats purr.", "Bread needs flour, water, salt and yeast.", "Rust is a language."]

ranked = client.rerank(model="ai/reranker", query="What needs flour?", documents=DOCUMENTS, top_n=2)
assert len(ranked.results) == 2, ranked
assert ranked.results[0].relevance_score >= ranked.results[1].relevance_score
assert ranked.results[0].index in range(3) and ranked.id
for model, error in [("nobody", NotFoundError), ("ai/writer", BadRequestError)]:
    try:
        client.rerank(model=model, query="x", documents=DOCUMENTS)
    except error as found:
        assert "message" in found.body, found
    else:
        raise AssertionError(f"{model} ranked")
print("ok")
