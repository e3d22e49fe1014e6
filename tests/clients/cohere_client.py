"""Cohere's official client against an ingress. Run by tests/tests/clients.rs: cohere_client.py http://HOST:PORT"""

import base64
import struct
import sys

import cohere
from cohere.errors import BadRequestError, NotFoundError

client = cohere.ClientV2(base_url=sys.argv[1], api_key="unused")
DOCUMENTS = ["Cats purr.", "Bread needs flour, water, salt and yeast.", "Rust is a language."]

ranked = client.rerank(model="ai/reranker", query="What needs flour?", documents=DOCUMENTS, top_n=2)
assert len(ranked.results) == 2, ranked
assert ranked.results[0].relevance_score >= ranked.results[1].relevance_score
assert ranked.results[0].index in range(3) and ranked.id
long = ["Bread needs flour. " * 40, "Cats purr. " * 40]
short = client.rerank(model="ai/reranker", query="What needs flour?", documents=long, max_tokens_per_doc=4)
whole = client.rerank(model="ai/reranker", query="What needs flour?", documents=long)
assert short.meta.tokens.input_tokens < whole.meta.tokens.input_tokens, (short, whole)
try:
    client.rerank(model="ai/reranker", query="x", documents=long, max_tokens_per_doc=0)
except BadRequestError as found:
    assert "max_tokens_per_doc" in found.body["message"], found
else:
    raise AssertionError("documents of no tokens were ranked")
for model, error in [("nobody", NotFoundError), ("ai/writer", BadRequestError)]:
    try:
        client.rerank(model=model, query="x", documents=DOCUMENTS)
    except error as found:
        assert "message" in found.body, found
    else:
        raise AssertionError(f"{model} ranked")

TYPES = ["float", "int8", "ubinary", "base64"]
embedded = client.embed(model="ai/embedder", texts=DOCUMENTS, input_type="search_document", embedding_types=TYPES)
vectors = embedded.embeddings
assert embedded.texts == DOCUMENTS and embedded.meta.billed_units.input_tokens > 3, embedded
width = len(vectors.float_[0])
for row, int8, ubinary, text in zip(vectors.float_, vectors.int8, vectors.ubinary, vectors.base64, strict=True):
    assert len(row) == len(int8) == width and len(ubinary) * 8 == width
    assert all(abs(number * 127 - small) <= 0.5001 for number, small in zip(row, int8, strict=True))
    bits = [byte >> (7 - at) & 1 for byte in ubinary for at in range(8)]
    assert bits == [int(number > 0) for number in row]
    same = struct.unpack(f"<{width}f", base64.b64decode(text))
    assert all(abs(a - b) < 1e-6 for a, b in zip(row, same, strict=True))
short = client.embed(model="ai/embedder", texts=["x"], input_type="search_query", output_dimension=8)
assert len(short.embeddings.float_[0]) == 8 and short.embeddings.int8 is None, short
LONG = "Cats purr. " + "salt " * 2000
end, start = (
    client.embed(model="ai/embedder", texts=[LONG], input_type="search_document", truncate=truncate).embeddings.float_[0]
    for truncate in ("END", "START")
)
assert end != start
try:
    client.embed(model="ai/embedder", texts=["x", LONG], input_type="search_document", truncate="NONE")
except BadRequestError as found:
    assert "`texts[1]` has " in found.body["message"], found
else:
    raise AssertionError("a text that is too long was embedded")
for more in [{"images": ["data:image/png;base64,AA=="]}, {"embedding_types": ["hex"]}]:
    try:
        client.embed(model="ai/embedder", texts=["x"], input_type="search_query", **more)
    except BadRequestError as found:
        assert next(iter(more)) in found.body["message"], found
    else:
        raise AssertionError(f"{more} embedded")

old = cohere.Client(base_url=sys.argv[1], api_key="unused")
floats = old.embed(model="ai/embedder", texts=["x"], input_type="search_query")
assert floats.response_type == "embeddings_floats" and len(floats.embeddings[0]) == width, floats
typed = old.embed(model="ai/embedder", texts=["x"], input_type="search_query", embedding_types=["uint8", "binary"])
assert typed.response_type == "embeddings_by_type" and len(typed.embeddings.uint8[0]) == width, typed
print("ok")
