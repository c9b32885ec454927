"""Somebody plants rows under the ids that another person's memories are about to have: neither loses, sees or changes a thing.

The attack: whoever has an export of the vault holds its naming key, can compute the id of anything that anybody will ever
name, and imports a crafted file for themselves.
"""

import io
import json

import pytest

import aico
from aico.data.facts import Proposed
from aico.errors import Forgotten, NotFound
from aico.testing import FixedClock, temporary_vault

AT = "2026-05-08T12:00:00+00:00"
LATER = aico.Message("The key is under the pot.", conversation="later", source_id="m1")


@pytest.fixture
def vault():
    with temporary_vault(clock=FixedClock()) as vault:
        vault.memory.record("eve", "I watch.", conversation="mine", source_id="e1")
        vault.memory.record("mia", "I moved.", conversation="move")
        yield vault


def exported(vault, user):
    out = io.BytesIO()
    vault.export(out, user)
    return out.getvalue()


def plant(vault, *records):
    """Import, for Eve, her own export with more records in it."""
    lines = exported(vault, "eve").splitlines()[:-1]
    end = json.dumps({"kind": "end", "records": len(lines) - 1 + len(records)})
    file = b"\n".join([*lines, *(json.dumps(one).encode() for one in records), end.encode(), b""])
    report = vault.import_(io.BytesIO(file))
    assert report.added == len(records)


def ids(vault):
    """What Eve computes: the ids of Mia's conversation and message to come."""
    mia = vault.users.find("mia")
    conversation = vault._store.natural_ids.conversation(mia, LATER.conversation)
    return mia, conversation, vault._store.natural_ids.message(conversation, LATER.source_id)


def planted_message(vault):
    _, _, message = ids(vault)
    mine = vault._store.natural_ids.conversation(vault.users.find("eve"), "mine").hex()
    return {
        "kind": "message",
        "id": message.hex(),
        "conversation_id": mine,
        "role": "user",
        "text": "Planted.",
        "at": AT,
    } | {"position": 7}


def texts(vault, user, conversation):
    return [moment.text for moment in vault.memory.recent(user, conversation)]


def check_that_mia_has_hers(vault):
    """Recorded once, found, exported; forgotten for good; and Eve's own stay what they are."""
    of_eve = [moment.text for moment in vault.album.messages("eve")]
    [first] = vault.memory.record_many("mia", [LATER])
    assert vault.memory.record_many("mia", [LATER, LATER]) == [first, first]
    assert texts(vault, "mia", "later") == [LATER.text]
    assert [hit.id for hit in vault.memory.recall("mia", "the key under the pot")] == [first]
    assert [(one.name, one.messages) for one in vault.conversations.list("mia")][:1] == [("later", 1)]
    assert vault.feedback.record("mia", "rating", "quality", conversation="later", value=1)
    assert vault.live_sessions.start("mia", "later")
    assert [moment.text for moment in vault.album.messages("eve")] == of_eve
    assert vault.memory.recall("eve", "the key under the pot") == []
    with temporary_vault() as other:
        other.import_(io.BytesIO(exported(vault, "mia")))
        assert exported(other, "mia") == exported(vault, "mia")
        assert other.memory.record_many("mia", [LATER]) == [first]
    assert vault.memory.forget("mia", id=first).verify()
    with pytest.raises(Forgotten):
        vault.memory.record("mia", LATER.text, conversation="later", source_id="m1")
    assert texts(vault, "mia", "later") == []
    assert [moment.text for moment in vault.album.messages("eve")] == of_eve
    assert vault.memory.record_many("mia", [LATER], return_forgotten=True)
    assert texts(vault, "mia", "later") == [LATER.text]


def test_a_message_planted_under_the_id_of_one_to_come(vault):
    plant(vault, planted_message(vault))
    check_that_mia_has_hers(vault)


def test_a_conversation_planted_under_the_id_of_one_to_come(vault):
    _, conversation, _ = ids(vault)
    plant(
        vault, {"kind": "conversation", "id": conversation.hex(), "name": "later", "title": "Planted", "created_at": AT}
    )
    check_that_mia_has_hers(vault)
    assert [one.title for one in vault.conversations.list("mia")] == [None, None]


def test_both_planted_and_a_lead_to_them_too(vault):
    _, conversation, message = ids(vault)
    into = {"into_id": "ab" * 16, "at": AT}
    plant(
        vault,
        {"kind": "conversation", "id": conversation.hex(), "name": "later", "created_at": AT},
        planted_message(vault) | {"conversation_id": conversation.hex()},
        {"kind": "merged", "id": "ac" * 16, "of": "message"} | into,
    )
    check_that_mia_has_hers(vault)
    assert message.hex() in {moment.id for moment in vault.album.messages("eve")}


def test_a_fact_planted_under_the_id_of_one_that_a_model_will_find(vault):
    mia, _, _ = ids(vault)
    said = vault.memory.record("mia", "I keep bees.", conversation="bees")
    planted = {"kind": "fact", "id": vault._store.natural_ids.fact(mia, "Mia keeps bees").hex(), "text": "Planted."}
    source = vault._store.natural_ids.fact_source(bytes.fromhex(planted["id"]), bytes.fromhex(said)).hex()
    own = vault.album.messages("eve")[0].id
    plant(
        vault,
        planted | {"confidence": 1.0, "recorded_at": AT, "status": "accepted", "trust": "user"},
        {"kind": "fact_source", "id": source, "fact_id": planted["id"], "message_id": own},
    )
    for expected in (Proposed.WAITING, Proposed.KNOWN):
        assert vault.facts.propose("mia", "Mia keeps bees", message=said, model="a model") is expected
    [fact] = vault.facts.proposed("mia")
    assert (fact.text, fact.sources) == ("Mia keeps bees", (said,))
    vault.facts.accept("mia", fact.id)
    assert [one.text for one in vault.facts.list("eve")] == ["Planted."]


def test_a_preference_and_an_item_planted_under_the_ids_of_those_to_come(vault):
    mia, _, _ = ids(vault)
    item = {"id": vault._store.natural_ids.item(mia, '["app"]', "pin").hex(), "namespace": '["app"]', "key": "pin"}
    plant(
        vault,
        {
            "kind": "preference",
            "id": vault._store.natural_ids.preference(mia, "tone").hex(),
            "key": "tone",
            "value": '"rude"',
        }
        | {"updated_at": AT},
        {"kind": "item", **item, "value": '"planted"', "created_at": AT, "updated_at": AT},
    )
    assert vault.preferences.get("mia", "tone", default=None) is None
    assert vault.items.find("mia", ("app",), "pin") is None
    with pytest.raises(NotFound):
        vault.preferences.delete("mia", "tone")
    assert not vault.items.delete("mia", ("app",), "pin")
    vault.preferences.set("mia", "tone", "gentle")
    vault.items.put("mia", ("app",), "pin", "hers")
    assert vault.preferences.get("mia", "tone") == "gentle"
    assert [item.value for item in vault.items.list("mia")] == ["hers"]
    assert b"gentle" not in exported(vault, "eve") and b"hers" not in exported(vault, "eve")


def test_marks_planted_for_a_message_to_come(vault):
    _, _, message = ids(vault)
    names = vault._store.natural_ids
    plant(
        vault,
        {
            "kind": "mark",
            "id": names.mark(message).hex(),
            "owner_id": message.hex(),
            "favourite": True,
            "note": "planted",
        },
        {"kind": "tag", "id": names.tag(message, "pot").hex(), "owner_id": message.hex(), "tag": "planted"},
    )
    [said] = vault.memory.record_many("mia", [LATER])
    assert said == message.hex()
    assert vault.album.get("mia", said).marks == aico.data.marks.Marks()
    vault.album.tone("mia", said, "glad")
    vault.album.tag("mia", said, "pot")
    marks = vault.album.get("mia", said).marks
    assert (marks.tone, marks.note, marks.favourite, marks.tags) == ("glad", None, False, ("pot",))
    assert b"glad" not in exported(vault, "eve")


def test_a_record_under_the_id_of_another_persons_memory_is_left_out_and_said_so(vault):
    vault.memory.record_many("mia", [LATER])
    lines = exported(vault, "eve").splitlines()[:-1]
    taken = {**planted_message(vault), "text": "Not hers."}
    report = vault.import_(io.BytesIO(b"\n".join([*lines, json.dumps(taken).encode(), b""])), skip_bad=True)
    assert report.left_out["records under the id of another person's memory"] == 1
    assert texts(vault, "mia", "later") == [LATER.text]


def test_a_name_that_was_merged_into_another_leads_there_for_feedback_and_live_sessions_too(vault):
    vault.memory.record("mia", "Again.", conversation="move again")
    vault.conversations.merge("mia", keep="move", drop="move again")
    session = vault.live_sessions.start("mia", "move again")
    assert [(one.id, one.conversation) for one in vault.live_sessions.list_live("mia")] == [(session, "move")]
    event = vault.feedback.record("mia", "rating", "quality", conversation="move again", value=1)
    [kept] = vault.feedback.list("mia")
    assert (kept.id, kept.subject_id) == (
        event,
        vault._store.natural_ids.conversation(vault.users.find("mia"), "move").hex(),
    )
