"""The server on the other end of real pipes: the SDK's own client talks to `aico mcp`, several at once, some killed."""

import asyncio
import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("mcp", reason="an MCP server needs the extra aico[mcp]")

from mcp import MCPError

from tests.mcp.servers import PASSPHRASE, Home, call

SCHEMAS_MAX_BYTES = 4096
"""Of all tools together: they stand in every prompt."""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_what_is_recorded_by_one_client_is_recalled_by_another_with_source_and_date(home: Home) -> None:
    async def day() -> None:
        async with home.client("--user", "mia") as desktop, home.client("--user", "mia") as editor:
            said = await call(desktop, "record", text="I moved to Lisbon in May.", conversation="c1", speaker="Mia")
            fact = await call(desktop, "remember", text="Mia lives in Lisbon", source=said["id"], category="home")
            found = await call(editor, "recall", query="who lives in Lisbon?")
            by_kind = {memory["kind"]: memory for memory in found["memories"]}
            assert (by_kind["message"]["id"], by_kind["fact"]["id"]) == (said["id"], fact["id"])
            assert by_kind["message"]["source"] == {"conversation": "c1", "role": "user", "speaker": "Mia"}
            assert by_kind["fact"]["source"] == {"source_id": said["id"]}
            assert all(memory["at"].endswith("+00:00") for memory in found["memories"])
            assert [turn["text"] for turn in (await call(editor, "recent", conversation="c1"))["messages"]] == [
                "I moved to Lisbon in May."
            ]
            context = await call(editor, "context", query="Lisbon", conversation="c1", token_budget=200)
            assert "Mia lives in Lisbon" in context["text"]
            assert {item["part"] for item in context["items"]} == {"fact", "recent"}

    asyncio.run(day())


def test_forgetting_needs_the_code_of_a_preview_of_exactly_this(home: Home) -> None:
    async def day() -> None:
        async with home.client("--user", "mia") as client:
            for text in ("I moved to Lisbon.", "I was born in Porto."):
                await call(client, "record", text=text, conversation="c1")
            wished = await call(client, "forget", about="Lisbon")
            assert (wished["preview"], [item["text"] for item in wished["items"]]) == (True, ["I moved to Lisbon."])
            assert (await call(client, "forget", about="Porto", confirm=wished["confirm"]))["error"] == "InvalidInput"
            await call(client, "record", text="Lisbon is sunny.", conversation="c1")
            assert (await call(client, "forget", about="Lisbon", confirm=wished["confirm"]))["error"] == "InvalidInput"
            again = await call(client, "forget", about="Lisbon")
            gone = await call(client, "forget", about="Lisbon", confirm=again["confirm"])
            assert (gone["messages"], gone["verified"]) == (2, True)
            assert (await call(client, "forget"))["error"] == "InvalidInput"
            assert (await call(client, "forget", id="00" * 16))["error"] == "NotFound"

    asyncio.run(day())
    with home.open() as vault:
        assert [moment.text for moment in vault.memory.recent("mia", "c1")] == ["I was born in Porto."]


def test_the_tools_are_few_small_and_say_what_they_change(home: Home) -> None:
    async def day() -> None:
        async with home.client("--user", "mia") as client, home.client("--user", "mia", "--read-only") as reader:
            tools = (await client.list_tools()).tools
            assert {tool.name for tool in tools} == {"recall", "context", "recent", "remember", "record", "forget"}
            schemas = [json.dumps([tool.description, tool.input_schema]) for tool in tools]
            assert sum(map(len, schemas)) < SCHEMAS_MAX_BYTES
            hints = {tool.name: tool.annotations for tool in tools}
            assert [name for name, hint in hints.items() if hint and hint.destructive_hint] == ["forget"]
            assert {tool.name for tool in (await reader.list_tools()).tools} == {"recall", "context", "recent"}
            for tool in ("record", "remember", "forget", "no such"):
                with pytest.raises(MCPError, match="no such tool"):
                    await reader.call_tool(tool, {"text": "x", "conversation": "c"})

    asyncio.run(day())
    with home.open() as vault:
        assert vault.users.list_profiles() == []


def test_nobody_reaches_the_memory_of_another_user(home: Home) -> None:
    with home.open() as vault:
        message = vault.memory.record("otto", "The key lies under the blue pot.", conversation="c1")
        fact = vault.memory.remember("otto", "Otto hides his key")

    async def day() -> None:
        async with home.client("--user", "mia") as client:
            assert (await call(client, "recall", query="the key under the blue pot"))["memories"] == []
            assert (await call(client, "recent", conversation="c1"))["messages"] == []
            assert (await call(client, "context", query="key pot", conversation="c1"))["items"] == []
            for id_ in (message, fact):
                assert (await call(client, "forget", id=id_))["error"] == "NotFound"
            assert (await call(client, "remember", text="x", supersedes=fact))["error"] == "NotFound"
            for argument in ({"user": "otto"}, {"user_id": "otto"}):
                assert (await call(client, "recall", query="key", **argument))["error"] == "InvalidInput"
            for uri in ("aico://profile", "aico://recent"):
                shown = (await client.read_resource(uri)).contents[0].text  # type: ignore[union-attr]
                assert "key" not in shown

    asyncio.run(day())
    with home.open() as vault:
        assert len(vault.memory.recall("otto", "key", limit=9)) == 2


def test_a_client_held_to_one_conversation_sees_nothing_else(home: Home) -> None:
    with home.open() as vault:
        other = vault.memory.record("mia", "The doctor said it is the knee.", conversation="doctor")
        vault.memory.remember("mia", "Mia's knee hurts")

    async def day() -> None:
        async with home.client("--user", "mia", "--conversation", "work") as client:
            own = await call(client, "record", text="The report about the knee brace is due.", conversation="work")
            assert {tool.name for tool in (await client.list_tools()).tools} == {"recall", "recent", "record", "forget"}
            found = (await call(client, "recall", query="knee"))["memories"]
            assert [memory["id"] for memory in found] == [own["id"]]
            for tool in ("recent", "record", "recall"):
                given = {"query": "knee"} if tool == "recall" else {"text": "x"} if tool == "record" else {}
                assert (await call(client, tool, conversation="doctor", **given))["error"] == "NotFound"
            assert (await call(client, "forget", id=other))["error"] == "NotFound"
            assert (await call(client, "forget", about="knee"))["messages"] == 1
            resources = [str(resource.uri) for resource in (await client.list_resources()).resources]
            assert resources == ["aico://recent"]
            shown = (await client.read_resource("aico://recent")).contents[0].text  # type: ignore[union-attr]
            assert "doctor" not in shown

    asyncio.run(day())


def test_resources_show_the_profile_and_the_latest_messages(home: Home) -> None:
    with home.open() as vault:
        vault.users.create_user("mia", full_name="Mia Silva")
        vault.preferences.set("mia", "companion.tone", "gentle")
        vault.memory.remember("mia", "Mia plays the viola")
        vault.memory.record("mia", "Good morning!", conversation="a")
        vault.memory.record("mia", "Good night!", conversation="b")

    async def day() -> None:
        async with home.client() as client:  # the only user
            profile = json.loads((await client.read_resource("aico://profile")).contents[0].text)  # type: ignore[union-attr]
            assert (profile["full_name"], profile["preferences"]) == ("Mia Silva", ["tone: gentle"])
            assert [fact["text"] for fact in profile["facts"]] == ["Mia plays the viola"]
            recent = json.loads((await client.read_resource("aico://recent")).contents[0].text)  # type: ignore[union-attr]
            assert [turn["text"] for turn in recent["messages"]] == ["Good night!", "Good morning!"]
            with pytest.raises(MCPError, match="no such resource"):
                await client.read_resource("aico://users")

    asyncio.run(day())


def test_a_vault_that_cannot_be_unlocked_is_a_tool_error_until_it_can(home: Home) -> None:
    secret = home.passphrase_file.read_text()
    home.passphrase_file.write_text("not the passphrase")

    async def day() -> None:
        async with home.client("--user", "mia") as client:
            refused = await call(client, "recall", query="anything")
            assert (refused["error"], "aico keys keyring" in refused["hint"]) == ("WrongPassphrase", True)
            with pytest.raises(MCPError, match="does not open any keyslot"):
                await client.read_resource("aico://recent")
            home.passphrase_file.write_text(secret)
            assert (await call(client, "recall", query="anything"))["memories"] == []

    asyncio.run(day())


def test_several_users_and_none_named_is_a_tool_error(home: Home) -> None:
    with home.open() as vault:
        for name in ("mia", "otto"):
            vault.users.create_user(name)

    async def day() -> None:
        async with home.client() as client:
            assert (await call(client, "recall", query="anything"))["error"] == "InvalidInput"

    asyncio.run(day())


def test_killed_in_the_middle_nothing_acknowledged_is_lost_and_others_go_on(home: Home, tmp_path: Path) -> None:
    acknowledged: list[str] = []

    async def write(number: int) -> None:
        pid_file = tmp_path / f"pid{number}"
        with suppress(MCPError, OSError, asyncio.TimeoutError, BaseExceptionGroup):
            async with home.client("--user", "mia", pid_file=pid_file) as client, asyncio.timeout(60):
                for turn in range(60):
                    if number and turn == 20:
                        asyncio.get_running_loop().call_later(
                            0.002 * number, os.kill, int(pid_file.read_text()), signal.SIGKILL
                        )
                    made = await call(client, "record", text=f"turn {turn} of {number}", conversation=f"c{number}")
                    acknowledged.append(made["id"])

    async def day() -> None:
        await asyncio.gather(*(write(number) for number in range(3)))

    asyncio.run(day())
    with home.open() as vault:
        there = {m.id for number in range(3) for m in vault.memory.recent("mia", f"c{number}", limit=99)}
        assert set(acknowledged) <= there
        assert len(vault.memory.recent("mia", "c0", limit=99)) == 60
        assert all(20 <= len(vault.memory.recent("mia", f"c{number}", limit=99)) < 60 for number in (1, 2))
        assert [finding.name for finding in vault.doctor() if finding.ok is False] == []


def test_nothing_but_the_protocol_leaves_by_standard_output_and_no_content_by_standard_error(home: Home) -> None:
    parameters = home.parameters("--user", "mia")
    canary = "the blue heron sleeps at noon"
    calls = [
        {"name": "record", "arguments": {"text": canary, "conversation": canary}},
        {"name": "record", "arguments": {"text": canary, "role": canary, canary: canary}},
        {"name": canary, "arguments": {}},
        {"name": "recall", "arguments": [canary]},
        {"name": "forget", "arguments": {"id": canary}},
    ]
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
    lines = [
        {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        *({"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": one} for n, one in enumerate(calls, 1)),
        {"jsonrpc": "2.0", "id": 99, "method": canary},
    ]
    with subprocess.Popen(
        [parameters.command, *parameters.args],
        env={**os.environ, **(parameters.env or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write("".join(json.dumps(line) + "\n" for line in lines) + f"{canary}\n{{{{\n")
        process.stdin.flush()
        answers = {}
        while not {line["id"] for line in lines if "id" in line} <= answers.keys():
            answer = json.loads(process.stdout.readline())
            assert answer["jsonrpc"] == "2.0"
            answers[answer.get("id")] = answer
        process.stdin.close()
        rest = process.stdout.read().splitlines()
        assert all(json.loads(line)["jsonrpc"] == "2.0" for line in rest)
        assert process.wait(60) == 0
        complaints = process.stderr.read()
    assert canary not in complaints, complaints
    assert "id" in answers[1]["result"]["structuredContent"]
    assert answers[2]["result"]["isError"] is True
    assert canary not in json.dumps([answers[n] for n in (2, 3, 5)])


def test_no_passphrase_and_no_content_is_readable_in_any_file(home: Home, tmp_path: Path) -> None:
    canary = "the copper kettle sings before dawn"
    control = tmp_path / "control"
    control.write_text(canary)

    async def day() -> None:
        async with home.client("--user", "mia") as client:
            await call(client, "record", text=canary, conversation=f"about {canary}")
            await call(client, "remember", text=canary, category=canary)
            await call(client, "recall", query=canary)
            await call(client, "recall", query=canary, limit=canary)
            found = await call(client, "forget", id=canary)
            assert found["error"] == "NotFound"
            assert searched(tmp_path, canary) == [control]

    asyncio.run(day())
    assert searched(tmp_path, canary) == [control]
    assert searched(tmp_path, PASSPHRASE) == [home.passphrase_file]


def searched(folder: Path, text: str) -> list[Path]:
    """The files that hold the text or a quarter of it."""
    pieces = [text.encode(), text[len(text) // 4 : len(text) // 2 + 4].encode()]
    return [file for file in folder.rglob("*") if file.is_file() and any(p in file.read_bytes() for p in pieces)]
