"""LlamaIndex against an ingress. Run by tests/tests/clients.rs: llama_index_client.py http://HOST:PORT"""

import sys

from llama_index.core.llms import ChatMessage
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike

where = {"api_base": f"{sys.argv[1]}/v1", "api_key": "unused"}
SAID = [ChatMessage(role="user", content="What needs flour?")]

writer = OpenAILike(model="ai/writer", is_chat_model=True, temperature=0.0, max_tokens=8, **where)
answer = writer.chat(SAID).message.content
assert answer
assert "".join(part.delta for part in writer.stream_chat(SAID)) == answer
assert writer.complete("What needs flour?").text

embedder = OpenAILikeEmbedding(model_name="ai/embedder", **where)
assert [len(row) for row in embedder.get_text_embedding_batch(["one", "two"])] == [96, 96]
