"""Exports that look like the products' own, of any size, for tests and benchmarks. The same seed gives the same bytes."""

import json
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

WORDS = (
    "garden harbour winter kettle lantern meadow violin orchard tunnel copper saffron ferry ladder pillow market "
    "thunder bicycle chimney walnut rehearsal passport sister doctor recipe mountain letter bakery bridge"
).split()
START = 1_650_000_000.0


def sentence(random: Random, words: int) -> str:
    return " ".join(random.choices(WORDS, k=words)).capitalize() + "."


def chatgpt_node(node: str, parent: str | None, role: str, text: str, at: float | None, **more: Any) -> dict[str, Any]:
    message = {
        "id": node,
        "author": {"role": role, "name": None, "metadata": {}},
        "create_time": at,
        "update_time": None,
        "content": {"content_type": "text", "parts": [text]},
        "status": "finished_successfully",
        "end_turn": True,
        "weight": 1.0,
        "metadata": {"model_slug": "gpt-4o", "finish_details": {"type": "stop", "stop_tokens": [200002]}},
        "recipient": "all",
        "channel": None,
        **more,
    }
    return {"id": node, "message": message, "parent": parent, "children": []}


def chatgpt_conversation(random: Random, number: int, turns: int, *, canary: str = "") -> dict[str, Any]:
    """A chat of `turns` recorded messages, with a hidden system message, a tool call and one abandoned answer."""
    ids = [str(uuid.UUID(int=random.getrandbits(128))) for _ in range(turns + 5)]
    name, root, system, tool, abandoned, *nodes = ids
    at = START + number * 40_000
    mapping: dict[str, Any] = {root: {"id": root, "message": None, "parent": None, "children": [system]}}
    mapping[system] = chatgpt_node(
        system, root, "system", "", None, weight=0.0, metadata={"is_visually_hidden_from_conversation": True}
    )
    parent = system
    for turn, node in enumerate(nodes):
        role = "assistant" if turn % 2 else "user"
        text = sentence(random, 60 if turn % 2 else 20) + (f" {canary}" if canary and turn == 0 else "")
        mapping[node] = chatgpt_node(node, parent, role, text, at + turn * 31.25)
        mapping[parent]["children"].append(node)
        if turn == 1:
            mapping[abandoned] = chatgpt_node(abandoned, parent, role, sentence(random, 40), at + 30)
            mapping[tool] = chatgpt_node(tool, node, "tool", "{}", at + 33)
            node = tool
        parent = node
    return {
        "title": sentence(random, 3),
        "create_time": at,
        "update_time": at + turns * 31.25,
        "mapping": mapping,
        "moderation_results": [],
        "current_node": parent,
        "conversation_id": name,
        "id": name,
        "is_archived": False,
    }


def chatgpt_list(messages: int, *, turns: int = 20, seed: int = 7, canary: str = "") -> Iterator[bytes]:
    """`conversations.json` piece by piece."""
    random, number = Random(seed), 0
    yield b"["
    while messages > 0:
        chat = chatgpt_conversation(random, number, min(turns, messages), canary=canary)
        yield (b", " if number else b"") + json.dumps(chat).encode()
        messages, number = messages - turns, number + 1
    yield b"]"


def write_chatgpt_zip(path: Path, messages: int, **how: Any) -> int:
    """A ZIP file as it is downloaded; the size of its chats in bytes."""
    size = 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("conversations.json", "w", force_zip64=True) as member:
            for piece in chatgpt_list(messages, **how):
                size += member.write(piece)
        archive.writestr("user.json", '{"id": "user-x", "email": "somebody@example.org"}')
        archive.writestr("file-abc.png", b"\x89PNG")
        archive.writestr("chat.html", "<html></html>")
    return size
