"""Recording and recalling through the one door."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aico import Message
from aico.errors import Forgotten, InvalidInput, NotFound
from aico.testing import FixedClock, temporary_vault

NOON = datetime(2026, 5, 8, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def shared():
    with temporary_vault() as vault:
        yield vault


@pytest.fixture
def memory():
    with temporary_vault(clock=FixedClock(NOON)) as vault:
        yield vault.memory


def test_a_message_is_recalled_as_soon_as_it_is_recorded(memory):
    recorded = memory.record(
        "nell", "The landlord repaired the heating.", conversation="flat", speaker="Nell", source_id="s1"
    )
    [hit] = memory.recall("nell", "heating repairs")
    assert (hit.id, hit.kind, hit.role, hit.speaker, hit.conversation, hit.source_id) == (
        recorded,
        "message",
        "user",
        "Nell",
        "flat",
        "s1",
    )
    assert hit.at == NOON
    assert 0 < hit.score <= 1
    assert "heating" in hit.why


def test_a_message_recorded_by_another_process_is_recalled():
    with temporary_vault() as vault:
        assert vault.memory.recall("nell", "lighthouse") == []
        program = (
            "import sys, aico\nfrom aico.testing import PASSPHRASE, cheap_settings\n"
            "with aico.open(sys.argv[1], passphrase=PASSPHRASE, settings=cheap_settings()) as vault:\n"
            "    print(vault.memory.record('nell', 'We saw the lighthouse.', conversation='trip'))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(vault.folder)], capture_output=True, text=True, check=True
        )
        assert [hit.id for hit in vault.memory.recall("nell", "lighthouse")] == [done.stdout.strip()]


def test_neighbours_bring_the_answer_to_a_question(memory):
    memory.record("nell", "What was the name of that café by the canal?", conversation="c", at=NOON)
    answer = memory.record(
        "nell", "Lakritz, I think.", role="assistant", conversation="c", at=NOON + timedelta(minutes=1)
    )
    found = {hit.id: hit.why for hit in memory.recall("nell", "café canal")}
    assert "beside a message with" in found[answer]


def test_recording_a_source_id_again_gives_the_same_message(memory):
    first = memory.record("nell", "once", conversation="c", source_id="t1")
    assert memory.record("nell", "once more", conversation="c", source_id="t1") == first
    assert memory.record("nell", "elsewhere", conversation="d", source_id="t1") != first
    assert [moment.text for moment in memory.recent("nell", "c")] == ["once"]


def test_many_messages_keep_their_order_and_repeats_their_ids(memory):
    messages = [Message(f"turn {number}", conversation="c", source_id=f"s{number % 3}") for number in range(6)]
    ids = memory.record_many("nell", messages)
    assert ids[:3] == ids[3:]
    assert [moment.text for moment in memory.recent("nell", "c")] == ["turn 0", "turn 1", "turn 2"]


def test_messages_of_one_instant_keep_the_order_they_were_recorded_in(memory):
    memory.record_many("nell", [Message(f"line {number}", conversation="c", at=NOON) for number in range(12)])
    assert [moment.text for moment in memory.recent("nell", "c", limit=3)] == ["line 9", "line 10", "line 11"]


def test_a_message_recorded_late_stands_where_it_was_said(memory):
    memory.record("nell", "second", conversation="c", at=NOON)
    memory.record("nell", "first", conversation="c", at=NOON - timedelta(days=1))
    assert [moment.text for moment in memory.recent("nell", "c")] == ["first", "second"]


def test_one_bad_message_among_many_is_named_and_nothing_is_written(memory):
    messages = [Message("good", conversation="c"), Message(" ", conversation="c")]
    with pytest.raises(InvalidInput, match="message 2: text is empty"):
        memory.record_many("nell", messages)
    assert memory.recent("nell", "c") == []


BAD_MESSAGES = [
    Message(" ", conversation="c"),
    Message("half a \ud800", conversation="c"),
    Message("x", conversation="c", role=""),
    Message("x", conversation="c\0"),
    Message("x", conversation="c", speaker="x" * 5000),
    Message("x", conversation="c", source_id=7),
    Message("x", conversation="c", at=datetime(2026, 5, 8)),
    Message("x", conversation="c", at="today"),
    "x",
]


@pytest.mark.parametrize("bad", BAD_MESSAGES, ids=range(len(BAD_MESSAGES)))
@pytest.mark.parametrize("after_it", [0, 3])
def test_a_bad_message_after_a_kept_batch_has_its_place_in_the_whole_call(memory, monkeypatch, bad, after_it):
    monkeypatch.setattr("aico.ai.memory.manager.BATCH", 5)
    good = [Message(f"turn {number}", conversation="c") for number in range(10)]
    with pytest.raises(InvalidInput) as caught:
        memory.record_many("nell", [*good, bad, *good[:after_it]])
    assert str(caught.value).startswith("message 11: ")
    assert str(caught.value).endswith("; the first 10 messages are kept, none after them")
    assert "nothing was" not in str(caught.value)
    assert len(memory.recent("nell", "c", limit=100)) == 10


def test_what_a_callers_own_transaction_takes_back_is_not_said_to_be_kept(monkeypatch):
    monkeypatch.setattr("aico.ai.memory.manager.BATCH", 1)
    with temporary_vault() as vault:
        messages = [Message(text, conversation="c") for text in ("good", " ")]
        with pytest.raises(InvalidInput, match=r"message 2: .*; nothing was written"), vault.connection.transaction():
            vault.memory.record_many("nell", messages)
        assert vault.memory.recent("nell", "c") == []


def test_whoever_is_deactivated_meanwhile_keeps_the_batches_before(monkeypatch):
    monkeypatch.setattr("aico.ai.memory.manager.BATCH", 2)
    with temporary_vault() as vault:

        def turns():
            for number in range(4):
                if number == 2:
                    vault.users.deactivate(vault.users.find_by_name("nell").id)
                yield Message(f"turn {number}", conversation="c")

        with pytest.raises(InvalidInput, match="deactivated; the first 2 messages are kept, none after them") as caught:
            vault.memory.record_many("nell", turns())
        assert (caught.value.field, caught.value.hint) == ("user", "activate the user first")


def test_progress_is_told_and_ends_with_the_number_of_messages(memory):
    told: list[int] = []
    memory.record_many("nell", [Message(f"turn {n}", conversation="c") for n in range(2500)], on_progress=told.append)
    assert told == [1000, 2000, 2500]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(min_size=1, max_size=300))
def test_any_text_is_kept_to_the_character_or_refused(shared, text):
    try:
        shared.memory.record("nell", text, conversation="texts")
    except InvalidInput:
        assert not text.strip() or any("\ud800" <= letter <= "\udfff" for letter in text)
    else:
        assert shared.memory.recent("nell", "texts", limit=1)[0].text == text


@pytest.mark.parametrize("text", ["with a NUL \0 inside", "a\u0301 and á differ", "👩‍👩‍👧 and 🇵🇹", "x" * 10_000_000])
def test_strange_texts_come_back_to_the_character(memory, text):
    memory.record("nell", text, conversation="c")
    assert memory.recent("nell", "c")[0].text == text


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"text": ""}, "text"),
        ({"text": "half \ud83d"}, "text"),
        ({"text": "y" * (16 * 1024 * 1024 + 1)}, "text"),
        ({"text": b"bytes"}, "text"),
        ({"conversation": ""}, "conversation"),
        ({"conversation": "a\0b"}, "conversation"),
        ({"conversation": "\udc00"}, "conversation"),
        ({"role": ""}, "role"),
        ({"speaker": "\ud800"}, "speaker"),
        ({"user": "\n"}, "user"),
        ({"at": datetime(2026, 5, 8)}, "at"),
        ({"at": "2026-05-08"}, "at"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_field_and_nothing_is_written(memory, given, named):
    call = {"user": "nell", "text": "fine", "conversation": "c", **given}
    with pytest.raises(InvalidInput, match=named) as caught:
        memory.record(call.pop("user"), call.pop("text"), **call)
    assert "half" not in str(caught.value).replace("half of a character", "")
    assert memory.recent("nell", "c") == []


def test_names_that_differ_only_by_normalisation_are_one(memory):
    memory.record("Zoe\u0308", "Bonjour de la mer.", conversation="e\u0301te\u0301")
    assert memory.recall("Zoë", "mer")[0].conversation == "été"
    assert [moment.text for moment in memory.recent("Zoë", "été")] == ["Bonjour de la mer."]


def test_the_authors_clock_is_kept(memory):
    at = datetime(2026, 5, 8, 23, 30, tzinfo=timezone(timedelta(hours=-3)))
    memory.record("nell", "late in São Paulo", conversation="c", at=at)
    kept = memory.recent("nell", "c")[0].at
    assert kept == at
    assert kept.utcoffset() == timedelta(hours=-3)


def test_recall_is_bounded_by_conversation_kind_and_time(memory):
    for day, conversation in ((0, "old"), (1, "old"), (2, "new")):
        memory.record("nell", f"choir practice, day {day}", conversation=conversation, at=NOON + timedelta(days=day))
    memory.remember("nell", "Nell sings in a choir")

    def texts(**where):
        return {hit.text for hit in memory.recall("nell", "choir practice", **where)}

    assert texts(conversation="new") == {"choir practice, day 2"}
    assert texts(kinds=("fact",)) == {"Nell sings in a choir"}
    assert texts(kinds=("message",), since=NOON + timedelta(days=1), until=NOON + timedelta(days=2)) == {
        "choir practice, day 1"
    }
    assert len(memory.recall("nell", "choir", limit=2)) == 2


def test_a_score_bound_leaves_weak_matches_out(memory):
    memory.record("nell", "choir practice moved to Thursday", conversation="a")
    memory.record("nell", "Thursday was long", conversation="b")
    best, *rest = memory.recall("nell", "choir practice Thursday")
    assert rest
    assert memory.recall("nell", "choir practice Thursday", score_min=best.score) == [best]


def test_recall_keeps_to_a_speaker_and_to_the_talk_around_a_message(memory):
    first = memory.record("nell", "The choir sings Bach.", conversation="choir", speaker="Nell", at=NOON)
    answer = memory.record("nell", "Which Bach?", conversation="choir", speaker="Otto", at=NOON + timedelta(minutes=1))
    memory.record("nell", "Bach again.", conversation="choir", speaker="Otto", at=NOON + timedelta(days=1))
    assert {hit.speaker for hit in memory.recall("nell", "Bach", speaker="Otto")} == {"Otto"}
    assert {hit.id for hit in memory.recall("nell", "Bach", episode=first)} == {first, answer}
    assert memory.recall("nell", "Bach", episode="ab" * 16) == []
    with pytest.raises(NotFound):
        memory.recall("nell", "Bach", episode="not an id")


def test_a_superseded_fact_is_believed_only_as_of_its_time():
    clock = FixedClock(NOON)
    with temporary_vault(clock=clock) as vault:
        old = vault.memory.remember("nell", "Nell lives in Lübeck")
        clock.move(timedelta(days=30))
        new = vault.memory.remember("nell", "Nell lives in Lisbon", supersedes=old)
        assert [hit.id for hit in vault.memory.recall("nell", "where does Nell live", kinds=("fact",))] == [new]
        then = vault.memory.recall("nell", "where does Nell live", kinds=("fact",), as_of=NOON + timedelta(days=1))
        assert [hit.id for hit in then] == [old]
        assert vault.memory.recall("nell", "Nell lives", as_of=NOON - timedelta(days=1)) == []


def test_a_fact_can_be_superseded_only_once_and_only_by_its_owner(memory):
    fact = memory.remember("nell", "Nell lives in Lübeck")
    with pytest.raises(NotFound):
        memory.remember("otto", "Otto lives in Lübeck", supersedes=fact)
    memory.remember("nell", "Nell lives in Lisbon", supersedes=fact)
    with pytest.raises(InvalidInput, match="superseded before"):
        memory.remember("nell", "Nell lives in Rome", supersedes=fact)
    assert len(memory.recall("nell", "lives", kinds=("fact",))) == 1


@pytest.mark.parametrize(
    "given", [{"confidence": 1.2}, {"confidence": "high"}, {"valid_from": datetime(2026, 1, 1)}, {"category": "\ud800"}]
)
def test_a_fact_that_cannot_be_kept_is_refused(memory, given):
    with pytest.raises(InvalidInput):
        memory.remember("nell", "Nell lives in Lübeck", **given)
    assert memory.recall("nell", "Lübeck") == []


@pytest.mark.parametrize(
    "given",
    [
        {"limit": 0},
        {"kinds": ("dream",)},
        {"kinds": "message"},
        {"since": datetime(2026, 1, 1)},
        {"query": ""},
        {"query": "\udfff"},
    ],
)
def test_a_question_that_makes_no_sense_is_refused(memory, given):
    memory.record("nell", "something", conversation="c")
    with pytest.raises(InvalidInput):
        memory.recall("nell", given.pop("query", "something"), **given)


def test_nothing_is_found_for_strangers_and_unknown_words(memory):
    memory.record("nell", "something", conversation="c")
    assert memory.recall("nobody", "something") == []
    assert memory.recall("nell", "zeppelin") == []
    assert memory.recent("nobody", "c") == []


def test_a_forgotten_message_is_not_recorded_again_unless_asked(memory):
    message = Message("the embarrassing thing", conversation="c", source_id="t1")
    [recorded] = memory.record_many("nell", [message])
    memory.forget("nell", id=recorded)
    with pytest.raises(Forgotten):
        memory.record("nell", message.text, conversation="c", source_id="t1")
    assert memory.record_many("nell", [message]) == [recorded]
    assert memory.recall("nell", "embarrassing") == []
    assert memory.record_many("nell", [message], return_forgotten=True) == [recorded]
    assert [hit.id for hit in memory.recall("nell", "embarrassing")] == [recorded]


@settings(max_examples=80, deadline=None)
@given(
    at=st.datetimes(),
    offset=st.timedeltas(
        min_value=timedelta(hours=-24) + timedelta(microseconds=1),
        max_value=timedelta(hours=24) - timedelta(microseconds=1),
    ),
)
def test_every_moment_that_is_accepted_can_be_shown_again(shared, at, offset):
    moment = at.replace(tzinfo=timezone(offset))
    try:
        recorded = shared.memory.record("moments", "then", conversation=str(at), at=moment)
    except InvalidInput:
        return
    kept = {one.id: one.at for one in shared.memory.recent("moments", str(at), limit=99)}
    assert kept[recorded] == moment
    assert abs(kept[recorded].utcoffset() - offset) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "call",
    [
        lambda memory: memory.recall("nell", "q", kinds=None),
        lambda memory: memory.recall("nell", "q", score_min="high"),
        lambda memory: memory.recall("nell", "q", score_min=2),
        lambda memory: memory.recall("nell", "q", score_min=float("nan")),
        lambda memory: memory.recall("nell", "q", limit=True),
        lambda memory: memory.recall("nell", "q", since=NOON, until=NOON),
        lambda memory: memory.context("nell", "q", token_budget="many"),
        lambda memory: memory.forget("nell", about=3),
        lambda memory: memory.forget("nell", about="\ud800"),
        lambda memory: memory.record_many("nell", ["text"]),
    ],
)
def test_arguments_of_the_wrong_kind_are_refused(memory, call):
    memory.record("nell", "something", conversation="c")
    with pytest.raises(InvalidInput):
        call(memory)


def test_a_speaker_is_one_however_the_name_is_typed_and_no_name_is_nobodys(memory):
    memory.record("nell", "Bach, once more.", conversation="choir", speaker="Jose\u0301")
    assert [hit.speaker for hit in memory.recall("nell", "Bach", speaker="José")] == ["José"]
    with pytest.raises(InvalidInput, match="speaker is empty"):
        memory.recall("nell", "Bach", speaker="")
