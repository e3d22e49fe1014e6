"""The official client of the Model Context Protocol against an ingress. Run by tests/tests/mcp.rs: mcp_client.py http://HOST:PORT [KEY]"""

import asyncio
import sys

import httpx2
from mcp import Client, ClientSession, MCPError
from mcp.client.streamable_http import streamable_http_client

URL = sys.argv[1].rstrip("/") + "/mcp"
KEY = sys.argv[2] if len(sys.argv) > 2 else None


def transport(key=KEY, **headers):
    headers |= {"authorization": f"Bearer {key}"} if key else {}
    return streamable_http_client(URL, http_client=httpx2.AsyncClient(headers=headers, timeout=60))


async def tools_work(session):
    tools = {tool.name: tool for tool in (await session.list_tools()).tools}
    assert set(tools) == {"ai", "slow", "ai__embedder", "ai__reranker"}, tools
    assert tools["ai"].description == "Continues a text."
    assert tools["ai"].input_schema["required"] == ["prompt"], tools["ai"]
    assert tools["ai"].annotations.read_only_hint

    # The client itself checks what it gets against the output schemas.
    answer = await session.call_tool("ai", {"prompt": "Once upon a time"})
    assert not answer.is_error and answer.structured_content["text"], answer
    assert answer.content[0].text.startswith("{"), answer
    embedded = await session.call_tool("ai__embedder", {"texts": ["one", "two"]})
    assert len(embedded.structured_content["embeddings"]) == 2, embedded
    documents = ["Cats purr.", "Bread needs flour."]
    ranked = await session.call_tool("ai__reranker", {"query": "flour", "documents": documents, "keep": 1})
    assert len(ranked.structured_content["items"]) == 1, ranked

    # What a model can mend is told to it, and what its host did wrong to the host.
    for arguments, word in [({}, "prompt"), ({"prompt": 1}, "prompt"), ({"prompt": "x", "nobody": 1}, "nobody")]:
        bad = await session.call_tool("ai", arguments)
        assert bad.is_error and word in bad.content[0].text, bad
    for name in ["nobody", "ai__writer", "ai/embedder/x"]:
        try:
            await session.call_tool(name, {})
        except MCPError as error:
            assert error.error.code == -32602 and name in error.error.message, error
        else:
            raise AssertionError(f"{name} was called")

    parts = []

    async def heard(progress, total, message):
        parts.append((progress, message))

    told = await session.call_tool("ai", {"prompt": "Once upon a time"}, progress_callback=heard)
    assert len(parts) > 2 and [number for number, _ in parts] == list(range(1, len(parts) + 1)), parts
    assert "".join(text for _, text in parts) == told.structured_content["text"], (parts, told)


async def with_handshake():
    async with transport() as (read, write), ClientSession(read, write) as session:
        hello = await session.initialize()
        assert (hello.server_info.name, hello.protocol_version) == ("millstream", "2025-11-25"), hello
        await session.send_ping()
        await tools_work(session)


async def alone():
    async with Client(transport(), mode="2026-07-28") as client:
        await tools_work(client)
    async with Client(transport()) as client:
        assert client.protocol_version == "2026-07-28", client.protocol_version
        # The client leaves: the call ends, as the test sees.
        try:
            await asyncio.wait_for(client.call_tool("slow", {"text": "left"}), 0.5)
        except TimeoutError:
            pass
        else:
            raise AssertionError("the call was not left")


async def refused():
    for key, headers, status in [("mk_nobody", {}, 401), (KEY, {"origin": "https://evil.example"}, 403)]:
        heads = {"authorization": f"Bearer {key}"} if key else {}
        async with httpx2.AsyncClient(headers=heads | headers) as http:
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
            answer = await http.post(URL, json=body)
            assert answer.status_code == status and answer.json()["error"]["message"], answer.text
            assert status != 401 or answer.headers["www-authenticate"] == "Bearer"
        async with transport(key, **headers) as (read, write), ClientSession(read, write) as session:
            try:
                await session.initialize()
            except MCPError as error:
                assert error.error.message, error
            else:
                raise AssertionError(f"{status} did not come")


for work in (with_handshake, alone, refused):
    asyncio.run(work())
print("ok")
