"""The official clients of OpenAI and Anthropic against a simulated model. Run by tests/tests/sim.rs: sim_client.py http://HOST:PORT"""

import asyncio
import sys
import time

import anthropic
import openai

URL = sys.argv[1]
MODEL = "talk/writer"
MESSAGES = [{"role": "user", "content": "Tell me about the mill."}]
client = openai.OpenAI(base_url=URL + "/v1", api_key="unused", max_retries=0)
claude = anthropic.Anthropic(base_url=URL, api_key="unused", max_retries=0)


def chat():
    whole = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=12)
    choice = whole.choices[0]
    assert choice.finish_reason == "length" and len(choice.message.content.split(" ")) == 12, whole
    # "user: Tell me about the mill.\n" has 30 bytes.
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (8, 12), whole.usage
    begin = time.monotonic()
    chunks = list(client.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=12, stream=True, stream_options={"include_usage": True}))
    took = time.monotonic() - begin
    parts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert len(parts) == 12 and "".join(parts) == choice.message.content, (parts, choice)
    assert chunks[-1].usage == whole.usage
    # 20 ms to the first token and 10 ms to each of the others.
    assert took >= 0.02 + 11 * 0.01, took
    other = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=12, seed=7)
    assert other.choices[0].message.content != choice.message.content
    stop = choice.message.content.split(" ")[6]
    stopped = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=12, stop=[stop])
    assert stopped.choices[0].finish_reason == "stop" and stop not in stopped.choices[0].message.content, stopped


def completions():
    whole = client.completions.create(model=MODEL, prompt="The mill", max_tokens=6)
    chunks = list(client.completions.create(model=MODEL, prompt="The mill", max_tokens=6, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert whole.usage.prompt_tokens == 2 and whole.usage.completion_tokens == 6, whole.usage


def messages():
    whole = claude.messages.create(model=MODEL, messages=MESSAGES, max_tokens=9)
    with claude.messages.stream(model=MODEL, messages=MESSAGES, max_tokens=9) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text and final.usage.output_tokens == whole.usage.output_tokens == 9, final
    assert whole.stop_reason == final.stop_reason == "max_tokens"


def errors():
    try:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x" * 8000}])
    except openai.UnprocessableEntityError as error:
        assert "the model holds 2000" in str(error), error
    except openai.BadRequestError as error:
        assert "the model holds 2000" in str(error), error
    else:
        raise AssertionError("a prompt beyond the cache was taken")


async def many():
    """More streams than the model takes at a time, and a client that leaves."""
    async with openai.AsyncOpenAI(base_url=URL + "/v1", api_key="unused", max_retries=0) as asynchronous:
        async def one(number):
            stream = await asynchronous.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": f"call {number}"}], max_tokens=5, stream=True)
            return [chunk.choices[0].delta.content async for chunk in stream if chunk.choices and chunk.choices[0].delta.content]

        for parts in await asyncio.gather(*(one(number) for number in range(40))):
            assert len(parts) == 5, parts
        stream = await asynchronous.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=1500, stream=True)
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                break
        await stream.close()


for check in (chat, completions, messages, errors):
    check()
asyncio.run(many())
print("ok")
