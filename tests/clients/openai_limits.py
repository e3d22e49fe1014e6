"""OpenAI's official client with an API key that has limits. Run by tests/tests/usage.rs: openai_limits.py http://HOST:PORT KEY

The key may call `ai/writer` alone, and use 200 tokens a minute.
"""

import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key=sys.argv[2], max_retries=0)
MESSAGES = [{"role": "user", "content": "What needs flour?"}]


def allowance(headers):
    return [int(headers[f"x-ratelimit-{what}-tokens"]) for what in ("limit", "remaining")]


def models():
    assert [model.id for model in client.models.list()] == ["ai/writer"]
    for call in (
        lambda: client.embeddings.create(model="ai/embedder", input="flour"),
        lambda: client.models.retrieve("ai/embedder"),
    ):
        try:
            call()
        except openai.NotFoundError as error:
            assert error.code == "model_not_found", error
        else:
            raise AssertionError("a model was called that the key is not for")


def tokens():
    answer = client.chat.completions.with_raw_response.create(
        model="ai/writer", messages=MESSAGES, max_tokens=8, temperature=0
    )
    limit, remaining = allowance(answer.headers)
    assert limit == 200 and 100 < remaining < 200, (limit, remaining)
    assert answer.headers["x-ratelimit-reset-tokens"].endswith("ms")
    used = answer.parse().usage.total_tokens
    assert 0 < used < 100, used
    for stream in (False, True):
        try:
            client.chat.completions.create(model="ai/writer", messages=MESSAGES, max_tokens=4000, stream=stream)
        except openai.RateLimitError as error:
            headers = error.response.headers
            assert headers["x-millstream-refused"] == "quota", headers
            assert int(headers["retry-after"]) >= 1 and int(headers["retry-after-ms"]) >= 1000, headers
            assert 100 < allowance(headers)[1] <= 200, headers
            assert error.code == "rate_limit_exceeded" and "tokens a minute" in str(error), error
        else:
            raise AssertionError("more tokens than the key may use")
    # Settled by what was used: there is room again for a small one.
    client.chat.completions.create(model="ai/writer", messages=MESSAGES, max_tokens=8, temperature=0)


models()
tokens()
print("the key's limits are told as clients of OpenAI expect them")
