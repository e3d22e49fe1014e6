// OpenAI's official client for Node against an ingress. Run by tests/tests/clients.rs: openai_client.mjs http://HOST:PORT
import assert from "node:assert/strict";
import OpenAI, { BadRequestError, NotFoundError } from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "unused" });
const said = { model: "ai/writer", messages: [{ role: "user", content: "What needs flour?" }], max_tokens: 8 };

const answer = await client.chat.completions.create(said);
assert.ok(answer.choices[0].message.content.length > 0 && answer.usage.completion_tokens === 8);

let text = "";
const stream = await client.chat.completions.create({ ...said, stream: true, stream_options: { include_usage: true } });
let usage;
for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
}
assert.equal(text, answer.choices[0].message.content);
assert.deepEqual(usage.total_tokens, answer.usage.total_tokens);

const helper = client.chat.completions.stream(said);
assert.equal((await helper.finalChatCompletion()).choices[0].message.content, text);

// Embeddings come in base64 and are numbers again in the client.
const vectors = await client.embeddings.create({ model: "ai/embedder", input: ["one", "two"] });
const numbers = await client.embeddings.create({ model: "ai/embedder", input: ["one", "two"], encoding_format: "float" });
assert.equal(vectors.data.length, 2);
vectors.data.forEach(({ embedding }, row) => assert.deepEqual(embedding, numbers.data[row].embedding.map(Math.fround)));

const models = [];
for await (const model of client.models.list()) models.push(model.id);
assert.ok(models.includes("ai/writer"), models);

await assert.rejects(client.chat.completions.create({ ...said, model: "nobody" }), NotFoundError);
await assert.rejects(client.chat.completions.create({ ...said, n: 2 }), (error) =>
    error instanceof BadRequestError && error.param === "n");

// A client that leaves in the middle of a stream.
const left = await client.chat.completions.create({ ...said, max_tokens: 256, stream: true });
for await (const _ of left) break;
