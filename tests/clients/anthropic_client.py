"""Anthropic's official client against an ingress. Run by tests/tests/clients.rs: anthropic_client.py http://HOST:PORT"""

import asyncio
import sys

import anthropic

URL = sys.argv[1]
client = anthropic.Anthropic(base_url=URL, api_key="unused", max_retries=0)
ASKED = {
    "model": "ai/writer",
    "max_tokens": 12,
    # The client has no such argument any more, the API has the field.
    "extra_body": {"temperature": 0},
    "system": "You are terse.",
    "messages": [{"role": "user", "content": [{"type": "text", "text": "What needs flour?"}]}],
}

whole = client.messages.create(**ASKED)
assert whole.type == "message" and whole.role == "assistant" and whole.model == "ai/writer", whole
assert whole.content[0].type == "text" and whole.stop_reason in ("end_turn", "max_tokens"), whole
assert whole.usage.input_tokens > 3 and 1 <= whole.usage.output_tokens <= 12, whole.usage

with client.messages.stream(**ASKED) as stream:
    text = "".join(stream.text_stream)
    final = stream.get_final_message()
assert text == final.content[0].text == whole.content[0].text, (text, whole)
assert final.stop_reason == whole.stop_reason and final.usage.output_tokens == whole.usage.output_tokens, final

for change, error in [
    ({"model": "nobody"}, anthropic.NotFoundError),
    ({"model": "ai/embedder"}, anthropic.BadRequestError),
    ({"tools": [{"name": "f", "input_schema": {"type": "object"}}]}, anthropic.BadRequestError),
    ({"messages": []}, anthropic.BadRequestError),
]:
    try:
        client.messages.create(**{**ASKED, **change})
    except error as found:
        assert found.body["type"] == "error" and found.body["error"]["message"], found
    else:
        raise AssertionError(f"{change} was taken")


async def leave():
    """A client that leaves in the middle."""
    async with anthropic.AsyncAnthropic(base_url=URL, api_key="unused", max_retries=0) as asynchronous:
        stream = await asynchronous.messages.create(**{**ASKED, "max_tokens": 1000, "extra_body": {"temperature": 1}}, stream=True)
        async for event in stream:
            if event.type == "content_block_delta":
                break
        await stream.close()


asyncio.run(leave())
print("ok")
