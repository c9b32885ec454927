"""Forgetting: what a wish means, what is left, and what the receipt says."""

import dataclasses
import io
import pickle
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aico
from aico import Message
from aico.ai.memory.traces import Bounds, TraceSearch
from aico.data.libsql import EncryptedLibSQLConnection
from aico.errors import ForgottenInPart, InvalidInput, NotAsShown, NotFound, StorageError
from aico.testing import PASSPHRASE, FixedClock, cheap_settings, temporary_vault

NOON = datetime(2026, 5, 8, 12, 0, tzinfo=UTC)


@pytest.fixture
def vault():
    with temporary_vault(clock=FixedClock(NOON)) as vault:
        yield vault


def test_what_is_about_something_goes_in_every_inflected_form(vault):
    memory = vault.memory
    memory.record("nell", "We visited the castles of Lisbon.", conversation="trip")
    memory.record("nell", "A castle in Lisbon, again.", conversation="later")
    memory.record("nell", "Lisbon has good bread.", conversation="trip")
    memory.remember("nell", "Nell likes the Lisbon castle")
    receipt = memory.forget("nell", about="lisbon castle")
    assert (len(receipt.messages), len(receipt.facts)) == (2, 1)
    assert [hit.text for hit in memory.recall("nell", "castle Lisbon")] == ["Lisbon has good bread."]
    assert receipt.verify()
    assert receipt.log_cleared


def test_a_preview_shows_what_would_go_and_what_is_near_and_removes_nothing(vault):
    memory = vault.memory
    memory.record("nell", "The dentist fixed my crown.", conversation="c")
    memory.record("nell", "The dentist was kind.", conversation="d")
    preview = memory.forget("nell", about="dentist crown", preview=True)
    assert [item.text for item in preview.items] == ["The dentist fixed my crown."]
    assert [hit.text for hit in preview.near] == ["The dentist was kind."]
    assert len(memory.recall("nell", "dentist")) == 2
    with pytest.raises(InvalidInput, match="preview"):
        preview.verify()


def test_a_conversation_goes_with_the_facts_drawn_from_it(vault):
    memory = vault.memory
    message = memory.record("nell", "I moved to Lisbon.", conversation="c")
    memory.remember("nell", "Nell lives in Lisbon", source=message)
    kept = memory.remember("nell", "Nell plays the viola")
    receipt = memory.forget("nell", conversation="c")
    assert receipt.removed == {"messages": 1, "fact_sources": 1, "facts": 1, "fact_history": 1, "conversations": 1}
    assert [hit.id for hit in memory.recall("nell", "Nell")] == [kept]


def test_a_span_of_time_goes_and_its_borders_stay(vault):
    memory = vault.memory
    for day in range(4):
        memory.record("nell", f"diary of day {day}", conversation="c", at=NOON + timedelta(days=day))
    memory.forget("nell", since=NOON + timedelta(days=1), until=NOON + timedelta(days=3))
    assert [moment.text for moment in memory.recent("nell", "c")] == ["diary of day 0", "diary of day 3"]


def test_selectors_narrow_each_other_down(vault):
    memory = vault.memory
    memory.record("nell", "the secret garden", conversation="c")
    memory.record("nell", "the secret garden", conversation="d")
    assert len(memory.forget("nell", about="garden", conversation="d").messages) == 1
    assert len(memory.recall("nell", "garden")) == 1


def test_a_superseded_fact_is_forgotten_too(vault):
    memory = vault.memory
    old = memory.remember("nell", "Nell lived with Otto in Lübeck")
    memory.remember("nell", "Nell lives alone", supersedes=old)
    assert memory.forget("nell", about="Otto").facts == (old,)
    assert memory.recall("nell", "Otto", as_of=NOON) == []


def test_everything_means_everything_but_the_name(vault):
    memory = vault.memory
    memory.record_many("nell", [Message(f"turn {n}", conversation=f"c{n % 3}", source_id=f"s{n}") for n in range(30)])
    memory.remember("nell", "Nell exists")
    memory.record("otto", "turn of another", conversation="c0")
    receipt = memory.forget("nell", everything=True)
    assert receipt.verify()
    assert vault.status().rows == {
        "users": 2,
        "conversations": 1,
        "messages": 1,
        "facts": 0,
        "erasures": 32,
    }  # the fact's words too
    assert memory.recall("otto", "turn")
    assert memory.recall("nell", "turn") == []


def test_an_item_is_found_no_more_by_a_text_that_was_forgotten(vault):
    vault.memory.record("nell", "The clinic called about Thursday.", conversation="c")
    for key, texts in (("n1", ["The clinic called about Thursday."]), ("n2", ["Buy strings for the viola"])):
        vault.items.put("nell", ("app",), key, {"ref": 17}, texts=texts)
    assert vault.memory.forget("nell", about="clinic").verify()
    assert [found.item.key for found in vault.items.search("nell", "clinic called")] == []
    assert [item.key for item in vault.items.list("nell")] == ["n2"]


def test_importing_the_same_again_does_not_bring_it_back(vault):
    messages = [Message(f"turn {n}", conversation="c", source_id=f"s{n}") for n in range(5)]
    ids = vault.memory.record_many("nell", messages)
    vault.memory.forget("nell", everything=True)
    assert vault.memory.record_many("nell", messages) == ids
    assert vault.memory.recent("nell", "c") == []


def test_another_process_index_follows(vault):
    """The index of a second vault on the same folder stands for one of another process: it shares nothing but the disk."""
    with aico.open(vault.folder, passphrase=PASSPHRASE, settings=cheap_settings()) as other:
        recorded = vault.memory.record("nell", "the whale in the harbour", conversation="c")
        assert other.memory.recall("nell", "whale")
        vault.memory.forget("nell", id=recorded)
        assert other.memory.recall("nell", "whale") == []


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"everything": True, "about": "x y"},
        {"id": "00" * 16, "conversation": "c"},
        {"id": "00" * 16, "everything": True},
        {"about": "and the of"},
        {"about": ""},
        {"since": NOON, "until": NOON},
        {"since": datetime(2026, 1, 1)},
    ],
)
def test_a_wish_that_names_nothing_or_contradicts_itself_is_refused(vault, wish):
    vault.memory.record("nell", "something to keep", conversation="c")
    with pytest.raises(InvalidInput):
        vault.memory.forget("nell", **wish)
    assert vault.memory.recall("nell", "keep")


@pytest.mark.parametrize("wish", [{"id": "00" * 16}, {"id": "not an id"}])
def test_an_id_that_is_not_there_is_refused(vault, wish):
    vault.memory.record("nell", "something to keep", conversation="c")
    with pytest.raises(NotFound):
        vault.memory.forget("nell", **wish)
    with pytest.raises(NotFound):
        vault.memory.forget("nobody", everything=True)


def test_nothing_of_it_is_left_in_any_page_for_the_holder_of_the_keys(vault):
    """The attack: open every page, free ones too, and every frame of the log with the vault's own keys."""
    canary = "the parrot knows the combination of the safe"
    for number in range(40):
        vault.memory.record("nell", f"{canary} {number} " + "and more words " * 40, conversation=f"parrot {number % 4}")
        vault.memory.record("nell", f"an ordinary day {number}", conversation="days")
    assert any(b"parrot" in page for page in every_plain_page(vault.connection))
    receipt = vault.memory.forget("nell", about="parrot safe")
    assert len(receipt.messages) == 40
    assert receipt.log_cleared
    assert (vault.folder / "data" / "aico.db-wal").stat().st_size == 0
    assert not any(b"parrot" in page for page in every_plain_page(vault.connection))


def every_plain_page(connection: EncryptedLibSQLConnection) -> list[bytes]:
    """All pages as SQLite sees them, the log's newest versions included, through a serialised copy in memory."""
    with connection._readers.borrow() as reader:
        image = reader.serialize("main")
    return [image[start : start + 4096] for start in range(0, len(image), 4096)]


@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(
        st.lists(st.sampled_from(["whale", "harbour", "bread", "viola", "snow"]), min_size=1, max_size=4), max_size=8
    ),
    about=st.lists(st.sampled_from(["whale", "harbour", "bread"]), min_size=1, max_size=2),
)
def test_about_removes_exactly_the_texts_that_hold_every_word(texts, about):
    with temporary_vault() as vault:
        for words in texts:
            vault.memory.record("nell", " ".join(words), conversation="c")
        vault.memory.record("nell", "bread", conversation="c")
        vault.memory.forget("nell", about=" ".join(about))
        left = [moment.text.split() for moment in vault.memory.recent("nell", "c", limit=99)]
        assert left == [words for words in [*texts, ["bread"]] if not set(about) <= set(words)]


def test_what_a_rolled_back_transaction_recorded_never_enters_the_index(vault):
    """A view that had read it would hold a phantom, and skip the change that takes its number."""
    with pytest.raises(KeyError), vault.connection.transaction():
        vault.memory.record("nell", "a phantom in the attic", conversation="c")
        assert vault.memory.recall("nell", "phantom") == []
        raise KeyError
    vault.memory.record("nell", "a whale in the harbour", conversation="c")
    assert vault.memory.recall("nell", "phantom") == []
    assert len(vault.memory.recall("nell", "whale")) == 1


def test_forgetting_inside_a_transaction_is_refused(vault):
    vault.memory.record("nell", "a whale in the harbour", conversation="c")
    with pytest.raises(StorageError), vault.connection.transaction():
        vault.memory.forget("nell", about="whale")
    assert vault.memory.recall("nell", "whale")


def test_time_means_the_same_for_facts_with_a_subject_and_without(vault):
    fact = vault.memory.remember("nell", "Nell lived in Porto", valid_from=NOON - timedelta(days=4000))
    span = {"since": NOON - timedelta(days=4001), "until": NOON - timedelta(days=3999)}
    assert vault.memory.forget("nell", preview=True, **span).facts == (fact,)
    assert vault.memory.forget("nell", preview=True, about="Porto", **span).facts == (fact,)


def test_a_receipt_is_a_plain_record_and_only_the_original_looks_again(vault):
    vault.memory.record("nell", "a whale in the harbour", conversation="c")
    receipt = vault.memory.forget("nell", about="whale")
    assert receipt.verify()
    copy = pickle.loads(pickle.dumps(receipt))
    assert copy == receipt
    assert dataclasses.asdict(receipt)["removed"] == {"messages": 1, "conversations": 1}
    with pytest.raises(InvalidInput, match="copy"):
        copy.verify()


def test_facts_drawn_from_it_may_stay_and_lose_their_source(vault):
    memory = vault.memory
    message = memory.record("nell", "I moved to Lisbon.", conversation="c")
    drawn = memory.remember("nell", "Nell lives in Portugal", source=message)
    assert memory.forget("nell", conversation="c", preview=True).drawn == (drawn,)
    receipt = memory.forget("nell", conversation="c", keep_facts=True)
    assert (receipt.facts, receipt.drawn) == ((), (drawn,))
    assert receipt.verify()
    assert [hit.id for hit in memory.recall("nell", "Portugal")] == [drawn]
    assert vault.connection.fetch_all("SELECT source_message_id FROM facts")[0][0] is None
    with pytest.raises(InvalidInput):
        memory.forget("nell", everything=True, keep_facts=True)


def test_a_fact_that_stays_no_longer_says_the_id_of_what_it_was_drawn_from(vault):
    memory = vault.memory
    message = memory.record("nell", "I moved to Lisbon.", conversation="c")
    for text, source in (("Nell lives in Portugal", message), ("Nell likes Portugal", message.upper())):
        vault.facts.edit("nell", memory.remember("nell", text, source=source), text=f"{text} now")
    said = memory.remember("nell", "Nell was told of Portugal", source="her neighbour")
    memory.forget("nell", conversation="c", keep_facts=True)
    hits = memory.recall("nell", "Portugal")
    assert {hit.id: hit.source_id for hit in hits if hit.source_id} == {said: "her neighbour"}
    assert {vault.facts.get("nell", hit.id).source for hit in hits} == {None, "her neighbour"}
    assert message.encode() not in exported_facts(vault).lower()


def exported_facts(vault):
    out = io.BytesIO()
    vault.export(out, "nell")
    return b"".join(line for line in out.getvalue().splitlines() if b'"kind":"fact' in line)


def test_a_fact_with_two_sources_names_the_one_that_is_left(vault):
    memory = vault.memory
    first, second = (memory.record("nell", f"I moved to Lisbon in {year}.", conversation=year) for year in ("1", "2"))
    fact = memory.remember("nell", "Nell lives in Lisbon", source=first)
    user = vault.users.find("nell")
    with vault.connection.transaction():
        vault.connection.execute(
            "INSERT INTO fact_sources (id, user_id, fact_id, message_id) VALUES (?, ?, ?, ?)",
            (bytes(16), user, bytes.fromhex(fact), bytes.fromhex(second)),
        )
    receipt = memory.forget("nell", id=first)
    assert (receipt.facts, receipt.verify()) == ((), True)
    assert vault.connection.fetch_all("SELECT source_message_id FROM facts")[0][0] == bytes.fromhex(second)
    assert vault.facts.get("nell", fact).source == second


def carry(vault, text):
    """A text in every place beside messages and facts."""
    kept = vault.memory.record("nell", "an ordinary day", conversation="days")
    vault.album.note("nell", kept, text)
    vault.album.tone("nell", kept, text)
    vault.album.tag("nell", kept, text)
    vault.feedback.record("nell", "survey", "open", payload={"answer": ["so:\n" + text]})
    vault.feedback.record("nell", "survey", "open", payload={"answer": text}, is_sensitive=True)
    vault.preferences.set("nell", "companion.topic", {"now": text})
    vault.logs.insert_log(level="INFO", message=text)
    vault.logs.insert_log(level="INFO", message="heard", extra={"said": text})
    vault.logs.insert_log(level="INFO", message=text, user_id=vault.users.find_by_name("nell").id)
    with vault.connection.transaction():
        vault.connection.execute("UPDATE conversations SET title = ?", (text,))
    return kept


CARRIED = {
    "memory_marks": 2,
    "memory_tags": 1,
    "conversations": 1,
    "preferences": 1,
    "feedback_events": 1,
    "sensitive_feedback": 1,
    "logs": 3,
}


def test_what_else_holds_the_subject_goes_in_every_inflected_form_and_is_shown_before(vault):
    kept = carry(vault, "We saw the castles of Lisbon")
    vault.memory.record("otto", "hello", conversation="c")
    otto = vault.users.find_by_name("otto").id
    vault.logs.insert_log(level="INFO", message="a castle in Lisbon", user_id=otto)
    vault.preferences.set("otto", "companion.topic", "a castle in Lisbon")
    vault.preferences.set("nell", "companion.other", "Lisbon without one")
    preview = vault.memory.forget("nell", about="castle lisbon", preview=True)
    assert len(preview.traces) == sum(CARRIED.values())
    assert all("Lisbon" in trace.text for trace in preview.traces)
    assert "Lisbon" not in repr(preview)
    receipt = vault.memory.forget("nell", about="castle lisbon")
    assert receipt.removed == CARRIED
    assert vault.memory.forget("nell", about="castle lisbon", preview=True).traces == ()
    assert vault.album.get("nell", kept).text == "an ordinary day"
    assert [preference.key for preference in vault.preferences.list("nell")] == ["companion.other"]
    assert [row["user_id"].hex() for row in vault.connection.fetch_all("SELECT user_id FROM logs")] == [otto]
    assert vault.preferences.get("otto", "companion.topic")


def test_what_quotes_a_forgotten_text_in_whole_goes_by_any_selector_and_short_texts_quote_nothing(vault):
    said = "We saw the castles of Lisbon"
    carry(vault, f"she wrote: {said}, and more")
    message = vault.memory.record("nell", said, conversation="c")
    short = vault.memory.record("nell", "and more", conversation="c")
    assert vault.memory.forget("nell", id=short).removed == {"messages": 1}
    removed = vault.memory.forget("nell", id=message).removed
    assert removed.pop("messages") == 1
    assert removed == CARRIED | {"conversations": 2}  # a title emptied, an abandoned conversation gone


def test_narrowed_to_a_conversation_or_a_time_the_subject_is_looked_for_there_alone(vault):
    carry(vault, "Lisbon")
    there = vault.memory.forget("nell", about="Lisbon", conversation="days", preview=True).traces
    assert {trace.table for trace in there} == {"memory_marks", "memory_tags", "conversations"}
    assert vault.memory.forget("nell", about="Lisbon", until=NOON - timedelta(days=1), preview=True).traces == ()


def test_a_receipt_is_found_again_by_its_id_and_looks_again(vault):
    message = vault.memory.record("nell", "a whale in the harbour", conversation="c", source_id="s1")
    vault.memory.remember("nell", "Nell saw a whale", source=message)
    made = vault.memory.forget("nell", id=message)
    with aico.open(vault.folder, passphrase=PASSPHRASE, settings=cheap_settings()) as other:
        found = other.memory.receipt("nell", made.id)
        assert (found.messages, found.facts, found.removed, found.at) == (
            made.messages,
            made.facts,
            made.removed,
            made.at,
        )
        assert found.verify()
        assert other.memory.receipts("nell") == [found]
        vault.memory.record("nell", "a whale in the harbour", conversation="c", source_id="s1", return_forgotten=True)
        assert {remainder.place for remainder in found.remains()} == {"messages", "recall index"}
        assert not made.verify()
        assert other.memory.receipt("nell", made.id).verify()  # brought back on purpose: no longer on it
    with pytest.raises(NotFound):
        vault.memory.receipt("nell", "00" * 16)
    with pytest.raises(NotFound):
        vault.memory.receipt("nobody", made.id)


def test_doctor_finds_what_should_be_gone(vault):
    message = vault.memory.record("nell", "a whale in the harbour", conversation="c")
    vault.memory.forget("nell", id=message)
    found = {finding.name: finding for finding in vault.doctor()}["forgotten"]
    assert (found.ok, found.message[:8]) == (True, "1 memori")
    with vault.connection.transaction():
        vault.connection.execute(
            "INSERT INTO memory_tags (id, user_id, owner_id, tag) VALUES (?, ?, ?, 'whale')",
            (bytes(16), vault.users.find("nell"), bytes.fromhex(message)),
        )
    found = {finding.name: finding for finding in vault.doctor()}["forgotten"]
    assert found.ok is False
    assert "memory_tags" in found.message


def test_a_note_that_goes_with_its_memory_is_counted_once(vault):
    message = vault.memory.record("nell", "a whale in the harbour", conversation="c")
    vault.album.note("nell", message, "the whale")
    assert vault.memory.forget("nell", about="whale").removed == {"messages": 1, "memory_marks": 1, "conversations": 1}


def test_others_may_write_while_the_log_is_searched_and_what_they_wrote_goes_too(vault, monkeypatch):
    """What came between the search and the removal is read again; what no longer carries the subject is left alone."""
    kept = carry(vault, "We saw the castles of Lisbon")
    whole_look, looked = TraceSearch.look, []

    def look(search):
        found = whole_look(search)
        if not looked:
            with aico.open(vault.folder, passphrase=PASSPHRASE, settings=cheap_settings()) as other:
                other.logs.insert_log(level="INFO", message="another castle of Lisbon")
                other.preferences.set("nell", "companion.topic", "Porto")
                other.preferences.set("nell", "companion.other", "a castle, Lisbon")
                other.album.tag("nell", kept, "lisbon castle")
        looked.append(len(found))
        return found

    monkeypatch.setattr(TraceSearch, "look", look)
    receipt = vault.memory.forget("nell", about="castle lisbon")
    assert looked == [sum(CARRIED.values())]  # once, outside of the transaction: the others were not kept waiting
    assert receipt.removed == CARRIED | {"logs": 4, "memory_tags": 2}
    assert vault.preferences.get("nell", "companion.topic") == "Porto"
    assert vault.memory.forget("nell", about="castle lisbon", preview=True).traces == ()


def test_a_line_that_took_a_deleted_ones_number_is_not_overlooked(vault):
    vault.memory.record("nell", "hello", conversation="c")
    last = [vault.logs.insert_log(level="INFO", message=f"line {number}") for number in range(3)][-1]
    nell = vault.users.find("nell")
    search = TraceSearch(
        vault.connection, nell, forgotten=(), holds_subject=lambda text: "castle" in text, bounds=Bounds()
    )
    assert search.look() == []
    vault.connection.execute("DELETE FROM logs WHERE id = ?", (last,))
    assert vault.logs.insert_log(level="INFO", message="a castle") == last
    assert [trace.text for trace in search.look_again()] == ["a castle"]


@pytest.mark.parametrize("breaks", [StorageError("it is away"), RuntimeError("a bug")])
def test_every_view_is_tried_though_one_cannot_let_go_and_the_same_wish_again_finishes(vault, monkeypatch, breaks):
    memory = vault.memory
    memory.record("nell", "The dentist fixed my crown.", conversation="c")
    memory.recent("nell", "c")
    vault.views.wait()
    first, *others = vault.views
    asked = []

    def refuse(user_id, ids):
        raise breaks

    with monkeypatch.context() as broken:
        broken.setattr(type(first), "erase", lambda view, user_id, ids: refuse(user_id, ids))
        for view in others:
            real = type(view).erase
            broken.setattr(
                type(view), "erase", lambda view, user, ids, real=real: (asked.append(view), real(view, user, ids))
            )
        with pytest.raises(ForgottenInPart) as told:
            memory.forget("nell", about="crown")
    assert asked == others
    assert told.value.views == (first.name,)
    assert first.name in str(told.value)
    assert "a bug" not in str(told.value), "what somebody else's error says may quote a memory"
    assert memory.recall("nell", "crown") == []
    memory.forget("nell", about="crown")
    assert memory.receipt("nell", told.value.receipt).verify()


def test_a_wish_again_in_another_process_lets_the_views_go_of_what_the_first_could_not(tmp_path, monkeypatch):
    """Nothing is noted in the process that failed: the record of what was forgotten is what the second goes by."""
    settings = cheap_settings(clock=FixedClock(NOON))
    with aico.open(tmp_path / "vault", passphrase=PASSPHRASE, settings=settings) as vault:
        vault.memory.record("nell", "The dentist fixed my crown.", conversation="c")
        vault.memory.recall("nell", "crown")
        view = next(iter(vault.views))
        with monkeypatch.context() as broken:
            broken.setattr(type(view), "erase", lambda *_: (_ for _ in ()).throw(StorageError("it is away")))
            with pytest.raises(ForgottenInPart):
                vault.memory.forget("nell", about="crown")
        [receipt] = vault.memory.receipts("nell")
    with aico.open(tmp_path / "vault", passphrase=PASSPHRASE, settings=settings) as vault:
        view, given = next(iter(vault.views)), []
        monkeypatch.setattr(type(view), "erase", lambda _, user_id, ids: given.extend(ids))
        vault.memory.forget("nell", about="crown")
    assert [id_.hex() for id_ in given] == list(receipt.messages)


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda v, _: v.memory.record("nell", "Lisbon again", conversation="d"),
        lambda v, _: v.preferences.set("nell", "companion.city", "Lisbon"),
        lambda v, said: v.conversations.edit("nell", said, "I moved to Lisbon, they say"),
        lambda v, said: v.memory.forget("nell", id=said),
    ],
)
def test_what_was_agreed_to_goes_or_nothing_does(vault, meanwhile):
    said = vault.memory.record("nell", "I moved to Lisbon", conversation="c")
    shown = vault.memory.forget("nell", about="Lisbon", preview=True)
    meanwhile(vault, said)
    before = vault.memory.forget("nell", about="Lisbon", preview=True)
    with pytest.raises(NotAsShown, match="nothing was forgotten"):
        vault.memory.forget("nell", about="Lisbon", agreed=shown)
    assert vault.memory.forget("nell", about="Lisbon", preview=True).items == before.items
    assert vault.memory.forget("nell", about="Lisbon", agreed=before).messages == before.messages


def test_traces_outside_of_a_conversation_may_be_left_alone(vault):
    vault.memory.record("nell", "I moved to Lisbon", conversation="c")
    for name in ("c", "d"):
        note = vault.memory.record("nell", "Bread", conversation=name)
        vault.album.note("nell", note, "Lisbon!")
    vault.preferences.set("nell", "companion.city", "Lisbon")
    found = vault.memory.forget("nell", about="Lisbon", traces_within="c")
    assert (len(found.messages), found.removed["memory_marks"], "preferences" in found.removed) == (1, 1, False)
