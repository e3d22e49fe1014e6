"""OpenAI's official client: responses, moderations and models by aliases. Run by tests/tests/responses.rs with the ingress's URL; the
ingress keeps responses, `gpt-4o-mini` and `talk` write text, `omni-moderation-latest` classifies."""

import asyncio
import sys

import openai

URL = sys.argv[1] + "/v1"
client = openai.OpenAI(base_url=URL, api_key="unused", max_retries=0)
SAID = [
    {"role": "developer", "content": "You are terse."},
    {"role": "user", "content": [{"type": "input_text", "text": "What needs flour?"}]},
]
ASK = dict(model="gpt-4o-mini", input=SAID, max_output_tokens=12, temperature=0)


def refused(error, call, **said):
    try:
        call()
    except error as refusal:
        for name, value in said.items():
            assert getattr(refusal, name) == value, (name, refusal.body)
        return refusal
    raise AssertionError(f"nothing was refused: {said}")


def aliases():
    listed = {model.id for model in client.models.list()}
    assert {"gpt-4o-mini", "ai/writer", "talk", "rag-chat", "omni-moderation-latest"} <= listed, listed
    assert client.models.retrieve("gpt-4o-mini").id == "gpt-4o-mini"
    for model in ("gpt-4o-mini", "rag-chat"):
        answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}], max_tokens=3)
        assert answer.model == model and answer.choices[0].message.content


def counted():
    count = client.responses.input_tokens.count
    response = client.responses.create(**ASK, instructions="Answer in prose.")
    told = count(model="gpt-4o-mini", input=SAID, instructions="Answer in prose.")
    assert told.object == "response.input_tokens" and told.input_tokens == response.usage.input_tokens, (told, response.usage)
    more = dict(model="gpt-4o-mini", input="And then?", previous_response_id=response.id)
    follows = client.responses.create(**more, max_output_tokens=4)
    assert count(**more).input_tokens == follows.usage.input_tokens > told.input_tokens
    assert count(model="gpt-4o-mini", input="hi").input_tokens < told.input_tokens
    assert refused(openai.BadRequestError, lambda: count(model="gpt-4o-mini", input="x", tools=[{"type": "web_search"}]), param="tools")
    assert refused(openai.BadRequestError, lambda: count(model="gpt-4o-mini"), param="input")
    refused(openai.NotFoundError, lambda: count(model="nobody", input="x"))


def whole():
    response = client.responses.create(**ASK, instructions="Answer in prose.", metadata={"for": "a test"}, user="u-1", top_p=1)
    assert response.object == "response" and response.status in ("completed", "incomplete"), response
    assert response.output_text and response.output[0].role == "assistant"
    assert response.metadata == {"for": "a test"} and response.instructions == "Answer in prose." and response.user == "u-1"
    usage = response.usage
    assert usage.input_tokens > 3 and 1 <= usage.output_tokens <= 12, usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert response.service_tier == "default" and response.store is True
    if response.status == "incomplete":
        assert response.incomplete_details.reason == "max_output_tokens"
    plain = client.responses.create(model="gpt-4o-mini", input="What needs flour?", max_output_tokens=4, service_tier="flex", store=False)
    assert plain.service_tier == "flex" and plain.store is False
    refused(openai.NotFoundError, lambda: client.responses.retrieve(plain.id))
    return response


def plain_text():
    return client.responses.create(**ASK).output_text


def stream(same):
    events = list(client.responses.create(**ASK, instructions="Answer in prose.", top_p=1, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
    ], kinds
    assert kinds[-4:-1] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done",
    ], kinds
    assert set(kinds[4:-4]) == {"response.output_text.delta"}, kinds
    last = events[-1]
    assert last.type == f"response.{same.status}" and last.response.status == same.status
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-4].text == last.response.output_text == same.output_text
    assert last.response.usage == same.usage
    assert events[0].response.status == "in_progress" and events[0].response.id == last.response.id
    assert events[2].item.id == events[4].item_id == last.response.output[0].id
    assert client.responses.retrieve(last.response.id).output_text == text
    with client.responses.stream(**ASK) as helper:
        # Its snapshots grow by each part.
        assert [event.snapshot for event in helper if event.type == "response.output_text.delta"][-1] == plain_text()


def conversation(first):
    second = client.responses.create(model="gpt-4o-mini", input="And then?", previous_response_id=first.id, max_output_tokens=4, temperature=0)
    assert second.previous_response_id == first.id and second.usage.input_tokens > first.usage.output_tokens + 3
    # The same as to say it all again, without the instructions of before.
    again = SAID + [{"role": "assistant", "content": first.output_text}, {"role": "user", "content": "And then?"}]
    said = client.responses.create(model="gpt-4o-mini", input=again, max_output_tokens=4, temperature=0)
    assert (said.output_text, said.usage) == (second.output_text, second.usage)
    # What a response has said can be sent back as it came.
    client.responses.create(model="gpt-4o-mini", input=SAID + [item.to_dict() for item in first.output], max_output_tokens=2)
    items = list(client.responses.input_items.list(second.id, order="asc"))
    assert [item.role for item in items] == ["developer", "user", "assistant", "user"], items
    assert items[2].content[0].text == first.output_text and items[3].content[0].text == "And then?"
    paged = list(client.responses.input_items.list(second.id, limit=1))
    assert [item.id for item in paged] == [item.id for item in reversed(items)]
    client.responses.delete(second.id)
    refused(openai.NotFoundError, lambda: client.responses.retrieve(second.id), param="response_id", code="not-found")
    refused(openai.NotFoundError, lambda: client.responses.input_items.list(second.id))
    refused(openai.NotFoundError, lambda: client.responses.delete(second.id))
    gone = lambda: client.responses.create(**ASK, previous_response_id=second.id)
    refused(openai.BadRequestError, gone, param="previous_response_id")


def pipeline():
    response = client.responses.create(model="talk", input="Once upon a time", max_output_tokens=6)
    assert response.output_text
    events = list(client.responses.create(model="talk", input="Once upon a time", max_output_tokens=6, stream=True))
    assert events[-1].response.output_text == response.output_text and len(events) > 10
    refused(openai.BadRequestError, lambda: client.responses.create(model="talk", input="x", max_output_tokens=99), param="max_output_tokens")
    refused(openai.BadRequestError, lambda: client.responses.create(model="talk", input="x" * 200), param="input")
    refused(openai.BadRequestError, lambda: client.responses.create(model="talk", input="x", temperature=0.5), param="temperature")


def errors(first):
    create = client.responses.create
    for field, value in {
        "tools": [{"type": "web_search"}], "text": {"format": {"type": "json_object"}}, "reasoning": {"effort": "high"},
        "truncation": "auto", "include": ["message.output_text.logprobs"], "conversation": "conv_1",
    }.items():
        refusal = refused(openai.BadRequestError, lambda: create(**ASK, **{field: value}))
        assert refusal.param.startswith(field), refusal
    refused(openai.BadRequestError, lambda: create(model="gpt-4o-mini", input=[]), param="input")
    image = [{"role": "user", "content": [{"type": "input_image", "image_url": "data:x"}]}]
    refused(openai.BadRequestError, lambda: create(model="gpt-4o-mini", input=image), param="input[0].content[0].type")
    refused(openai.BadRequestError, lambda: create(**ASK, metadata={"k": "v" * 513}), param="metadata")
    refused(openai.BadRequestError, lambda: create(**ASK, stream=True, background=True), param="background")
    refused(openai.BadRequestError, lambda: create(**ASK, store=False, background=True), param="store")
    refused(openai.NotFoundError, lambda: create(model="nobody", input="x"), code="model_not_found")
    refused(openai.BadRequestError, lambda: create(model="omni-moderation-latest", input="x"), param="model")
    refused(openai.BadRequestError, lambda: client.responses.cancel(first.id), param="response_id")
    refused(openai.NotFoundError, lambda: client.responses.cancel("resp_nothing"))
    refused(openai.BadRequestError, lambda: client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}], store=True), param="store")
    chat = client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}], max_tokens=2, store=False, metadata={"a": "b"},
        parallel_tool_calls=False, user="u-1", safety_identifier="s-1", service_tier="priority", verbosity="medium",
    )
    assert chat.service_tier == "priority", chat


def moderations():
    answer = client.moderations.create(input=["I am fine.", "You are not."])
    assert answer.model == "omni-moderation-latest" and len(answer.results) == 2
    for result in answer.results:
        scores, categories = result.category_scores.to_dict(), result.categories.to_dict()
        assert scores.keys() == categories.keys() and scores, result
        assert result.flagged == any(categories.values())
    one = client.moderations.create(model="moods/mood", input=[{"type": "text", "text": "I am fine."}])
    assert one.results[0].category_scores == answer.results[0].category_scores
    refused(openai.BadRequestError, lambda: client.moderations.create(model="gpt-4o-mini", input="x"), param="model")
    refused(openai.BadRequestError, lambda: client.moderations.create(input=[]), param="input")


async def concurrently():
    async with openai.AsyncOpenAI(base_url=URL, api_key="unused", max_retries=0) as asynchronous:
        async def one(number):
            events = await asynchronous.responses.create(model="gpt-4o-mini", input="Once upon a time", max_output_tokens=4 + number, stream=True)
            return [event.type async for event in events]

        for kinds in await asyncio.gather(*(one(number) for number in range(6))):
            assert kinds[0] == "response.created" and kinds[-1] in ("response.completed", "response.incomplete"), kinds
        # In the background: asked for until it is there, and what it has said can be gone on from.
        later = await asynchronous.responses.create(**ASK, background=True)
        assert later.status == "in_progress" and later.background and not later.output
        for _ in range(600):
            now = await asynchronous.responses.retrieve(later.id)
            if now.status != "in_progress":
                break
            await asyncio.sleep(0.05)
        assert now.status in ("completed", "incomplete") and now.output_text and now.usage.output_tokens > 0, now
        assert (await asynchronous.responses.cancel(later.id)).status == now.status
        # One that is stopped.
        long = await asynchronous.responses.create(model="gpt-4o-mini", input="Once upon a time", max_output_tokens=2000, background=True)
        refused_now = await asynchronous.responses.create(model="gpt-4o-mini", input="x", max_output_tokens=2)
        assert refused_now.output_text is not None
        stopped = await asynchronous.responses.cancel(long.id)
        assert stopped.status in ("cancelled", "incomplete", "completed"), stopped
        assert (await asynchronous.responses.retrieve(long.id)).status == stopped.status
        # A client that leaves in the middle.
        events = await asynchronous.responses.create(model="gpt-4o-mini", input="x", max_output_tokens=2000, temperature=1, stream=True)
        async for event in events:
            if event.type == "response.output_text.delta":
                break
        await events.close()


aliases()
counted()
first = whole()
stream(first)
conversation(first)
pipeline()
errors(first)
moderations()
asyncio.run(concurrently())
print("ok")
