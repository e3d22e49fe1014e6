"""LiteLLM against an ingress, through four of its providers. Run by tests/tests/clients.rs: litellm_client.py http://HOST:PORT"""

import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # It would download prices.
import litellm

URL = sys.argv[1]
litellm.suppress_debug_info = True
SAID = [{"role": "user", "content": "What needs flour?"}]
DOCUMENTS = ["Cats purr.", "Bread needs flour."]
openai = {"api_base": f"{URL}/v1", "api_key": "unused"}
plain = {"api_base": URL, "api_key": "unused"}

answer = litellm.completion(model="openai/ai/writer", messages=SAID, max_tokens=8, **openai)
text = answer.choices[0].message.content
assert text and answer.usage.completion_tokens == 8, answer
parts = litellm.completion(model="openai/ai/writer", messages=SAID, max_tokens=8, stream=True, **openai)
assert "".join(part.choices[0].delta.content or "" for part in parts) == text
message = litellm.completion(model="anthropic/ai/writer", messages=SAID, max_tokens=8, **plain)
assert message.choices[0].message.content == text and message.usage.completion_tokens == 8, message

vectors = litellm.embedding(model="openai/ai/embedder", input=["one", "two"], **openai)
assert [len(row["embedding"]) for row in vectors.data] == [96, 96]
for provider in ["cohere", "hosted_vllm"]:
    ranked = litellm.rerank(
        model=f"{provider}/ai/reranker", query="What needs flour?", documents=DOCUMENTS, top_n=1, **plain
    )
    assert [row["index"] for row in ranked.results] == [1], ranked

for more, error in [({"model": "openai/nobody"}, litellm.NotFoundError), ({"n": 2}, litellm.BadRequestError)]:
    try:
        litellm.completion(**{"model": "openai/ai/writer", "messages": SAID, **openai, **more})
    except error:
        pass
    else:
        raise AssertionError(f"answered {more}")
