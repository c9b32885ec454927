"""Claude's export: what is recorded and what is counted."""

import json

import pytest

from aico.portability.claude import decode_chat
from aico.testing import temporary_vault

ROOT = "00000000-0000-4000-8000-000000000000"


def said(uuid, text, *, sender="human", **more):
    block = {"start_timestamp": None, "stop_timestamp": None, "type": "text", "text": text, "citations": []}
    return {
        "uuid": uuid,
        "text": text,
        "content": [block],
        "sender": sender,
        "created_at": "2026-01-16T09:00:00.100010Z",
        "updated_at": "2026-01-16T09:00:00.100010Z",
        "attachments": [],
        "files": [],
        **more,
    }


def chat(*messages, **more):
    return {
        "uuid": "conv-1",
        "name": "Bread",
        "summary": "",
        "created_at": "2026-01-16T08:59:00Z",
        "account": {"uuid": "x"},
        "chat_messages": list(messages),
        **more,
    }


def decoded(conversation):
    return decode_chat(json.dumps(conversation).encode())


def test_messages_are_recorded_with_their_times_and_offsets(tmp_path):
    path = tmp_path / "conversations.json"
    answer = said("m2", "Feed it.", sender="assistant", created_at="2026-01-16T10:00:05+02:00")
    path.write_text(json.dumps([chat(said("m1", "My sourdough sleeps."), answer)]))
    with temporary_vault() as vault:
        report = vault.import_(path, "mia")
        assert (report.format, report.added, report.left_out) == ("claude", 2, {})
        moments = {moment.source_id: moment for moment in vault.memory.recent("mia", "conv-1")}
        assert (moments["m1"].role, moments["m2"].role) == ("user", "assistant")
        assert moments["m1"].at.isoformat() == "2026-01-16T09:00:00.100010+00:00"
        assert moments["m2"].at.isoformat() == "2026-01-16T10:00:05+02:00"
        assert vault.connection.fetch_one("SELECT title FROM conversations")["title"] == "Bread"
        assert vault.import_(path, "mia").repeated == 2


def test_blocks_are_the_message_where_there_are_some_and_others_are_counted():
    blocks = [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "First."},
        {"type": "tool_use", "name": "web", "input": {"chat_messages": 1}},
        {"type": "tool_result", "content": []},
        {"type": "token_budget"},
        {"type": "text", "text": "Second."},
    ]
    found = decoded(chat(said("m", "First.\n```\nThis block is not supported\n```\nSecond.", content=blocks)))
    assert [message.text for message in found.messages] == ["First.\nSecond."]
    assert found.left_out == {
        "reasoning": 1,
        "tool calls": 1,
        "tool messages": 1,
        "blocks of the type token_budget": 1,
    }


def test_older_exports_have_only_the_text():
    message = said("m", "plain")
    del message["content"]
    assert decoded(chat(message)).messages[0].text == "plain"


def test_attachments_files_and_summaries_are_counted():
    attached = {"file_name": "a.txt", "file_type": "txt", "file_size": 3, "extracted_content": "a whole book"}
    found = decoded(chat(said("m", "read this", attachments=[attached], files=[{"file_name": "b.png"}]), summary="s"))
    assert [message.text for message in found.messages] == ["read this"]
    assert found.left_out == {
        "attachments (their text is in the export)": 1,
        "files (only their names are in the export)": 1,
        "summaries written by Claude": 1,
    }


def test_alternatives_to_the_last_branch_are_counted():
    found = decoded(
        chat(
            said("q", "Question", parent_message_uuid=ROOT),
            said("a1", "First try", sender="assistant", parent_message_uuid="q"),
            said("f", "Follow-up to the first", parent_message_uuid="a1"),
            said("a2", "Second try", sender="assistant", parent_message_uuid="q"),
            said("g", "Thanks", parent_message_uuid="a2"),
        )
    )
    assert [message.text for message in found.messages] == ["Question", "Second try", "Thanks"]
    assert found.left_out == {"messages of other branches": 2}


def test_a_parent_that_is_not_in_the_file_costs_nothing():
    found = decoded(chat(said("a", "one", parent_message_uuid="gone"), said("b", "two", parent_message_uuid="lost")))
    assert [message.text for message in found.messages] == ["one", "two"]


@pytest.mark.parametrize("created_at", [None, "yesterday", 17])
def test_a_message_without_a_time_takes_its_neighbours(created_at):
    found = decoded(chat(said("a", "one"), said("b", "two", created_at=created_at if created_at != 17 else "")))
    assert found.messages[1].at == found.messages[0].at


def test_a_naive_time_is_utc_and_an_unknown_sender_is_counted():
    found = decoded(chat(said("a", "one", created_at="2026-01-16T09:00:00"), said("b", "two", sender="robot")))
    assert found.messages[0].at.isoformat() == "2026-01-16T09:00:00+00:00"
    assert found.left_out == {"messages of the sender robot": 1}
