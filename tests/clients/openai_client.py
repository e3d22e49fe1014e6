"""OpenAI's official client against an ingress. Run by tests/tests/clients.rs: openai_client.py http://HOST:PORT"""

import asyncio
import math
import sys

import openai

URL = sys.argv[1] + "/v1"
client = openai.OpenAI(base_url=URL, api_key="unused", max_retries=0)
MESSAGES = [
    {"role": "system", "content": "You are terse."},
    {"role": "user", "content": [{"type": "text", "text": "What needs flour?"}]},
]


def models():
    listed = [model.id for model in client.models.list()]
    assert listed == ["ai/embedder", "ai/reranker", "ai/writer"], listed
    assert client.models.retrieve("ai/writer").id == "ai/writer"
    try:
        client.models.retrieve("nobody")
    except openai.NotFoundError as error:
        assert error.code == "model_not_found", error
    else:
        raise AssertionError("a model that is not there was found")


def chat():
    whole = client.chat.completions.create(model="ai/writer", messages=MESSAGES, max_tokens=12, temperature=0, seed=1)
    assert whole.object == "chat.completion" and whole.model == "ai/writer"
    choice = whole.choices[0]
    assert choice.message.role == "assistant" and choice.finish_reason in ("stop", "length")
    usage = whole.usage
    assert usage.prompt_tokens > 3 and 1 <= usage.completion_tokens <= 12, usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    stream = client.chat.completions.create(
        model="ai/writer", messages=MESSAGES, max_completion_tokens=12, temperature=0, seed=1, stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({chunk.id for chunk in chunks}) == 1
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == choice.message.content, (text, choice.message.content)
    ends = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
    assert ends == [choice.finish_reason], ends
    assert chunks[-1].usage == usage, (chunks[-1].usage, usage)


def completions():
    whole = client.completions.create(model="ai/writer", prompt="Once upon a time", max_tokens=6, temperature=0)
    chunks = list(client.completions.create(model="ai/writer", prompt="Once upon a time", max_tokens=6, temperature=0, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert whole.usage.completion_tokens <= 6


def embeddings():
    # The client asks for base64 unless told otherwise.
    packed = client.embeddings.create(model="ai/embedder", input=["one text", "another"])
    plain = client.embeddings.create(model="ai/embedder", input=["one text", "another"], encoding_format="float")
    assert [item.index for item in packed.data] == [0, 1]
    for a, b in zip(packed.data, plain.data):
        assert all(abs(x - y) < 1e-6 for x, y in zip(a.embedding, b.embedding, strict=True))
    assert packed.usage.prompt_tokens == packed.usage.total_tokens > 0
    short = client.embeddings.create(model="ai/embedder", input="one text", dimensions=16).data[0].embedding
    assert len(short) == 16 and abs(math.fsum(x * x for x in short) - 1) < 1e-5


def errors():
    try:
        client.chat.completions.create(model="ai/writer", messages=MESSAGES, tools=[{"type": "function", "function": {"name": "f"}}])
    except openai.BadRequestError as error:
        assert error.param == "tools", error
    else:
        raise AssertionError("tools were taken")


async def concurrently():
    async with openai.AsyncOpenAI(base_url=URL, api_key="unused", max_retries=0) as asynchronous:
        async def one(number):
            stream = await asynchronous.chat.completions.create(
                model="ai/writer", messages=MESSAGES, max_tokens=4 + number, temperature=0, stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

        texts = await asyncio.gather(*(one(number) for number in range(8)))
        assert all(texts), texts
        # A client that leaves in the middle.
        stream = await asynchronous.chat.completions.create(
            model="ai/writer", messages=MESSAGES, max_tokens=1000, temperature=1, stream=True
        )
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                break
        await stream.close()


for check in (models, chat, completions, embeddings, errors):
    check()
asyncio.run(concurrently())
print("ok")
