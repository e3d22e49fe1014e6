"""LangChain against an ingress. Run by tests/tests/clients.rs: langchain_client.py http://HOST:PORT"""

import sys

from langchain_openai import ChatOpenAI, OpenAIEmbeddings

where = {"base_url": f"{sys.argv[1]}/v1", "api_key": "unused"}

chat = ChatOpenAI(model="ai/writer", max_tokens=8, **where)
answer = chat.invoke("What needs flour?")
assert answer.content and answer.usage_metadata["output_tokens"] == 8, answer
assert "".join(part.content for part in chat.stream("What needs flour?")) == answer.content

# Without this setting the client sends numbers of tokens in place of texts, of a tokenizer that it downloads.
embeddings = OpenAIEmbeddings(model="ai/embedder", check_embedding_ctx_length=False, **where)
assert [len(row) for row in embeddings.embed_documents(["one", "two"])] == [96, 96]
assert len(embeddings.embed_query("one")) == 96
