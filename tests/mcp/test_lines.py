"""Every line of a client is answered: half a character is mended, and what cannot be read is refused by the protocol."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("mcp", reason="an MCP server needs the extra aico[mcp]")

from aico.mcp.lines import mended
from tests.mcp.servers import Home

CANARY = "the blue heron sleeps at noon"
ANY_CHARACTERS = st.text(st.characters(exclude_categories=()) | st.sampled_from('\ud83d\ude00\\u"d8'), max_size=12)


@given(ANY_CHARACTERS, st.booleans())
def test_whole_characters_stay_and_each_half_becomes_the_replacement_character(text, upper):
    line = json.dumps({"text": text})
    given = line.replace("\\ud", "\\uD") if upper else line
    whole = json.loads(mended(given))["text"]
    paired = json.loads(given)["text"]  # two halves side by side are one character
    assert whole == "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in paired)
    if whole == paired:
        assert mended(given) == given


def test_half_a_character_reaches_the_tool_and_what_cannot_be_read_is_answered(tmp_path: Path) -> None:
    home = Home(tmp_path)
    parameters = home.parameters("--user", "mia")
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
    said = {"name": "record", "arguments": {"text": "cut \ud83d", "conversation": "c"}}
    lines = [
        json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}),
        json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        "",
        json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": said}),
        f"{CANARY} \\ud83d",
        json.dumps([CANARY]),
        json.dumps({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": said}),
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
        process.stdin.write("".join(f"{line}\n" for line in lines))
        process.stdin.flush()
        answers = [json.loads(process.stdout.readline()) for _ in range(5)]
        process.stdin.close()
        assert (process.stdout.read(), process.wait(60)) == ("", 0)
        assert CANARY not in process.stderr.read() + json.dumps(answers)
    refused = [answer["error"]["code"] for answer in answers if answer["id"] is None]
    assert refused == [-32700, -32600]
    assert all("id" in one["result"]["structuredContent"] for one in answers if one["id"] in (1, 2))
    with home.open() as vault:
        assert [one.text for one in vault.memory.recent("mia", "c")] == ["cut \ufffd"] * 2
