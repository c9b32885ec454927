"""ChatGPT's export: what is recorded, what is counted, and that nothing is lost in silence."""

import json
from collections import Counter
from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aico.errors import InvalidInput
from aico.portability.chatgpt import decode_chat
from aico.portability.report import BadRecord
from aico.testing import temporary_vault
from tests.portability.synthetic import START, chatgpt_conversation, chatgpt_node


@pytest.fixture
def vault():
    with temporary_vault() as vault:
        yield vault


def written(tmp_path, *conversations, name="conversations.json"):
    path = tmp_path / name
    path.write_text(json.dumps(list(conversations)), encoding="utf-8")
    return path


def chat(*nodes, current=None, **more):
    mapping = {"root": {"id": "root", "message": None, "parent": None, "children": []}}
    mapping |= {node["id"]: node for node in nodes}
    return {
        "title": "Lisbon plans",
        "create_time": START,
        "mapping": mapping,
        "current_node": current or (nodes[-1]["id"] if nodes else "root"),
        "conversation_id": "conv-1",
        **more,
    }


def said(node, parent, text, at=START, role="user", **more):
    return chatgpt_node(node, parent, role, text, at, **more)


def decoded(conversation):
    return decode_chat(json.dumps(conversation).encode())


def test_the_current_branch_is_recorded_with_times_roles_ids_and_title(vault, tmp_path):
    file = written(
        tmp_path,
        chat(
            said("u1", "root", "Where shall I go?", START + 0.25),
            said("old", "u1", "Paris.", START + 1, role="assistant"),
            said("new", "u1", "Lisbon.", START + 2, role="assistant"),
            said("u2", "new", "Why?", START + 3),
        ),
    )
    report = vault.import_(file, "mia")
    assert (report.format, report.added, report.conversations, report.bad) == ("chatgpt", 3, 1, [])
    assert report.left_out == {"messages of other branches": 1}
    moments = vault.memory.recent("mia", "conv-1")
    assert [(m.text, m.role, m.source_id) for m in moments] == [
        ("Where shall I go?", "user", "u1"),
        ("Lisbon.", "assistant", "new"),
        ("Why?", "user", "u2"),
    ]
    assert moments[0].at == datetime.fromtimestamp(START + 0.25, UTC)
    assert vault.connection.fetch_one("SELECT title FROM conversations")["title"] == "Lisbon plans"


def test_what_is_not_words_of_the_two_is_counted_by_kind():
    image = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-1"}
    voice = {"content_type": "audio_transcription", "text": "spoken words", "direction": "in"}
    sound = {"content_type": "real_time_user_audio_video_asset_pointer"}

    def content(kind, *parts):
        return {"content": {"content_type": kind, "parts": list(parts)}}

    found = decoded(
        chat(
            said("s", "root", "", None, role="system"),
            said("c", "s", "", **content("user_editable_context")),
            said("h", "c", "hidden", metadata={"is_visually_hidden_from_conversation": True}),
            said("w", "h", "weightless", weight=0),
            said("i", "w", "", **content("multimodal_text", image, "look at this")),
            said("j", "i", "", **content("multimodal_text", image)),
            said("v", "j", "", **content("multimodal_text", voice, sound)),
            said("t", "v", "{}", role="tool"),
            said("d", "t", "search()", role="assistant", recipient="browser"),
            said("k", "d", "", role="assistant", **content("code")),
            said("r", "k", "", role="assistant", **content("thoughts")),
            said("q", "r", "", role="assistant", **content("hologram", "x")),
            said("e", "q", "", role="assistant"),
            said(
                "f", "e", "see the file", metadata={"attachments": [{"name": "a.pdf", "mime_type": "application/pdf"}]}
            ),
        )
    )
    assert [message.text for message in found.messages] == ["look at this", "spoken words", "see the file"]
    assert found.left_out == {
        "system messages": 1,
        "custom instructions": 1,
        "hidden messages": 2,
        "images": 2,
        "audio recordings": 1,
        "messages without words": 2,
        "tool messages": 1,
        "tool calls": 1,
        "code the assistant ran": 1,
        "reasoning": 1,
        "content of the type hologram": 1,
        "attached files": 1,
    }


def test_a_missing_time_is_that_of_the_message_before_or_of_the_conversation():
    found = decoded(
        chat(said("a", "root", "one", None), said("b", "a", "two", START + 9), said("c", "b", "three", None))
    )
    assert [message.at.timestamp() - START for message in found.messages] == [0, 9, 9]
    lost = decoded(chat(said("a", "root", "one", None), create_time=None))
    assert (lost.messages, lost.left_out) == ([], {"messages without a time": 1})
    assert decoded(chat(said("a", "root", "one", 1e300))).messages[0].at.timestamp() == START


def test_an_export_without_children_lists_or_with_a_lost_end_is_read():
    nodes = [said("a", "root", "one"), said("b", "a", "two", START + 1), said("x", "a", "older", START)]
    slim = chat(*nodes, current="no such node")
    for node in slim["mapping"].values():
        del node["children"]
    assert [message.text for message in decoded(slim).messages] == ["one", "two"]


def test_a_ring_of_parents_ends():
    assert [m.text for m in decoded(chat(said("a", "b", "one"), said("b", "a", "two"))).messages] == ["one", "two"]


@st.composite
def trees(draw):
    """(parent of each node, whether it is spoken), node 0 is the root."""
    size = draw(st.integers(1, 12))
    parents = [None] + [draw(st.integers(0, n - 1)) for n in range(1, size)]
    spoken = [False] + [draw(st.booleans()) for _ in range(1, size)]
    return parents, spoken, draw(st.integers(0, size - 1))


@given(tree=trees(), seed=st.integers(0, 99))
def test_any_tree_gives_the_path_to_its_current_node_and_counts_the_rest(tree, seed):
    parents, spoken, current = tree
    nodes = []
    for number in range(1, len(parents)):
        role = "user" if spoken[number] else "tool"
        nodes.append(
            said(f"n{number}", f"n{parents[number]}" if parents[number] else "root", f"text {number}", role=role)
        )
    Random(seed).shuffle(nodes)
    found = decoded(chat(*nodes, current=f"n{current}" if current else "root"))
    path = []  # the oracle: up from the end
    while current:
        path.insert(0, current)
        current = parents[current]
    assert [message.source_id for message in found.messages] == [f"n{n}" for n in path if spoken[n]]
    expected = Counter({"messages of other branches": len(parents) - 1 - len(path), "tool messages": 0})
    expected["tool messages"] = sum(not spoken[n] for n in path)
    assert found.left_out == +expected


def test_a_newer_export_adds_only_what_is_new_and_keeps_a_persons_title(vault, tmp_path):
    first = chat(said("a", "root", "one"))
    vault.import_(written(tmp_path, first), "mia")
    vault.connection.execute("UPDATE conversations SET title = 'Mine'")
    newer = chat(said("a", "root", "one"), said("b", "a", "two", START + 1))
    report = vault.import_(written(tmp_path, newer, chat(said("z", "root", "new"), conversation_id="conv-2")), "mia")
    assert (report.added, report.repeated) == (2, 1)
    titles = dict(vault.connection.fetch_all("SELECT name, title FROM conversations"))
    assert titles == {"conv-1": "Mine", "conv-2": "Lisbon plans"}


def test_what_was_forgotten_stays_forgotten_and_so_does_its_title(vault, tmp_path):
    file = written(tmp_path, chat(said("a", "root", "one"), said("b", "a", "two")))
    vault.import_(file, "mia")
    vault.memory.forget("mia", conversation="conv-1")
    report = vault.import_(file, "mia")
    assert (report.added, report.forgotten) == (0, 2)
    assert vault.connection.fetch_all("SELECT 1 FROM conversations WHERE title IS NOT NULL") == []
    assert vault.import_(file, "mia", return_forgotten=True).added == 2


BROKEN = [
    {"mapping": {}, "title": "no id"},
    {"mapping": {"a": 7}, "conversation_id": "x"},
    {"mapping": "not a tree", "conversation_id": "x"},
]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_bad_conversation_is_named_by_its_place_and_left_out_when_asked(vault, tmp_path, broken):
    file = written(
        tmp_path, chat(said("a", "root", "one")), broken, chat(said("z", "root", "two"), conversation_id="c2")
    )
    with pytest.raises(BadRecord, match=r"conversations\.json, conversation 2") as caught:
        vault.import_(file, "mia")
    assert "from byte" in str(caught.value)
    report = vault.import_(file, "mia", skip_bad=True)
    assert (report.added, report.repeated, report.conversations, len(report.bad)) == (1, 1, 2, 1)


def test_half_a_character_costs_one_message_and_not_its_conversation(vault, tmp_path):
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps([chat(said("a", "root", "cut \ud83d"), said("b", "a", "whole"), title="\ud83d")]))
    with pytest.raises(BadRecord, match="message 1 of it"):
        vault.import_(path, "mia")
    report = vault.import_(path, "mia", skip_bad=True)
    assert ([bad.line for bad in report.bad], report.added + report.repeated) == ([1], 1)
    assert report.left_out["titles that cannot be kept"] == 1


def test_a_file_nested_too_deeply_or_cut_is_a_report(vault, tmp_path):
    path = tmp_path / "conversations.json"
    good = json.dumps(chat(said("a", "root", "one")))
    path.write_text(f'[{good}, {{"mapping": {"[" * 100_000}{"]" * 100_000}}}, {good[:300]}')
    report = vault.import_(path, "mia", skip_bad=True)
    assert (report.added, len(report.bad)) == (1, 2)
    with pytest.raises(InvalidInput):
        vault.import_(path, "mia")


def test_no_report_repeats_what_a_message_says(vault, tmp_path):
    secret = "the secret word is marmalade"
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps([chat(said("a", "root", secret), mapping={"x": {"message": {"author": secret}}})]))
    report = vault.import_(path, "mia", skip_bad=True)
    assert len(report.bad) == 1
    assert "marmalade" not in str(report) + str(report.bad[0])


@given(seed=st.integers(0, 10_000), turns=st.integers(1, 12))
def test_what_looks_like_the_real_thing_is_recorded_whole(seed, turns):
    found = decoded(chatgpt_conversation(Random(seed), 0, turns))
    assert len(found.messages) == turns
    assert found.left_out["system messages"] == 1
