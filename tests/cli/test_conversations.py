"""Conversations at the command line."""

from pathlib import Path

import pytest

from tests.cli.conftest import run, run_json


@pytest.fixture
def chats(home: Path) -> str:
    """Two conversations, and the id of a message in the first."""
    made: str = run_json("record", "I moved to Lisbon.", "--conversation", "c1", "--at", "2026-05-01T12:00Z")["id"]
    run("record", "I moved to Lisbon.", "--conversation", "c2", "--at", "2026-05-01T12:00Z")
    run("record", "I was born in Porto.", "--conversation", "c2", "--at", "2026-05-02T12:00Z")
    return made


def test_conversations_are_listed_the_last_active_first(chats: str) -> None:
    run("conversations", "title", "c2", "Portugal")
    found = run_json("conversations", "ls")["conversations"]
    assert [(c["name"], c["title"], c["messages"]) for c in found] == [("c2", "Portugal", 2), ("c1", None, 1)]
    shown = run("conversations", "ls").stdout
    assert "Portugal" in shown and "2 messages" in shown
    run("conversations", "title", "c2", "")
    assert run_json("conversations", "ls")["conversations"][0]["title"] is None


def test_a_conversation_is_read_from_its_beginning(chats: str) -> None:
    first, second = run_json("conversations", "show", "c2")["messages"]
    assert (first["text"], second["text"]) == ("I moved to Lisbon.", "I was born in Porto.")
    assert run_json("conversations", "show", "c2", "--after", first["id"])["messages"] == [second]
    assert "Porto" in run("conversations", "show", "c2").stdout
    assert run_json("conversations", "show", "c9", exit_code=6)["error"] == "NotFound"


def test_a_message_is_edited_also_from_standard_input(chats: str) -> None:
    assert run_json("conversations", "edit", chats, "-", input="I moved to Oslo.\n")["log_cleared"] is True
    assert [hit["text"] for hit in run_json("recall", "Oslo")["hits"]][:1] == ["I moved to Oslo."]
    assert "new text" in run("conversations", "edit", chats, "I moved to Rome.").stdout


def test_duplicates_are_found_and_merged_only_when_confirmed(chats: str) -> None:
    found = run_json("conversations", "duplicates")
    assert found["conversations"] == [{"keep": "c2", "drop": "c1", "shared": 1, "of": 1}]
    assert "c1: 1 of its 1 message" in run("conversations", "duplicates").stdout
    assert "--yes" in run_json("conversations", "merge", "c2", "c1", exit_code=2)["hint"]
    assert run_json("conversations", "merge", "c2", "c1", "--yes") == {"moved": 0, "repeated": 1}
    assert len(run_json("conversations", "show", "c1")["messages"]) == 2
    assert "Nothing seems" in run("conversations", "duplicates").stdout


def test_two_messages_are_merged_by_their_ids(home: Path) -> None:
    ids = [
        run_json("record", "Hello.", "--conversation", "c", "--at", "2026-05-01T12:00Z", *source)["id"]
        for source in ((), ("--source-id", "1"))
    ]
    [twins] = run_json("conversations", "duplicates")["messages"]
    assert (twins["drop"], twins["keep"]) == tuple(ids)
    run("conversations", "duplicates")
    run("conversations", "merge", "--messages", "--yes", twins["keep"], twins["drop"])
    assert [m["id"] for m in run_json("conversations", "show", "c")["messages"]] == [ids[1]]


def test_a_group_shows_its_help_and_refuses_what_it_does_not_know(home: Path) -> None:
    for group in ("conversations", "prefs", "tasks"):
        assert "Commands:" in run(group).stdout
        assert run_json(group, "juggle", exit_code=2)["error"] == "UsageError"
