"""Working memory: whatever happened, `recent` says what the truth says."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aico
from aico import Message
from aico.ai.memory import hot_pages, working
from aico.errors import InvalidInput, StorageError
from aico.testing import PASSPHRASE, FixedClock, cheap_settings, temporary_vault
from tests import children

NOON = datetime(2026, 5, 8, 12, 0, tzinfo=UTC)
CONVERSATIONS = ("breakfast", "the long way home")


@pytest.fixture
def clock():
    return FixedClock(NOON)


@pytest.fixture
def vault(clock):
    with temporary_vault(clock=clock) as vault:
        yield vault


@contextmanager
def truth_must_stay_unread(vault):
    """Inside, `recent` has nothing but the hot tier to answer from."""

    def refuse(*_arguments, **_named):
        raise AssertionError("the truth was asked")

    real = vault.working._conversations
    vault.working._conversations = type("Closed", (), {"recent": refuse, "conversation_id": real.conversation_id})()
    try:
        yield
    finally:
        vault.working._conversations = real


def texts(vault, conversation="c", *, limit=20):
    return [moment.text for moment in vault.memory.recent("mia", conversation, limit=limit)]


def in_truth(vault, conversation, limit):
    user = vault.users.find("mia")
    return [] if user is None else vault.working._conversations.recent(user, conversation, limit=limit)


def forget_all(vault, conversation):
    if in_truth(vault, conversation, 1):
        vault.memory.forget("mia", conversation=conversation)


def forget_one(vault, conversation, number):
    found = in_truth(vault, conversation, 50)
    if found:
        vault.memory.forget("mia", id=found[number % len(found)].id)


def change_by_hand(vault, conversation, number, column):
    found = in_truth(vault, conversation, 50)
    if found:
        new = {"text": "changed by hand", "at": 1_000_000 * number, "role": "assistant"}[column]
        chosen = bytes.fromhex(found[number % len(found)].id)
        vault.connection.execute(f"UPDATE messages SET {column} = ? WHERE id = ?", (new, chosen))


def say(vault, conversation, seconds):
    at = None if seconds is None else NOON + timedelta(seconds=seconds)
    vault.memory.record("mia", f"said at {seconds}", conversation=conversation, at=at)


def say_many(vault, conversation, count, seconds):
    at = NOON + timedelta(seconds=seconds)
    vault.memory.record_many("mia", [Message(f"{number}", conversation=conversation, at=at) for number in range(count)])


def rename(vault, conversation, number):
    vault.connection.execute("UPDATE conversations SET name = ? WHERE name = ?", (f"renamed {number}", conversation))


named = st.sampled_from(CONVERSATIONS)
SECONDS = st.integers(-20, 20)
STEPS = st.one_of(
    st.tuples(st.just(say), named, st.none() | SECONDS),
    st.tuples(st.just(say), named, st.none()),
    st.tuples(st.just(say_many), named, st.integers(1, 80), SECONDS),
    st.tuples(st.just(forget_one), named, st.integers(0, 60)),
    st.tuples(st.just(forget_all), named),
    st.tuples(st.just(change_by_hand), named, st.integers(0, 60), st.sampled_from(["text", "at", "role"])),
    st.tuples(st.just(rename), named, st.integers(0, 3)),
    st.tuples(st.just("wait"), st.sampled_from([-7200, 1, 3600, 90_000])),
    st.tuples(st.just("look"), named, st.integers(1, 100)),
    st.tuples(st.just("look"), named, st.integers(1, 100)),
)


@settings(max_examples=15)
@given(st.lists(st.tuples(st.booleans(), STEPS), max_size=30))
def test_a_random_history_reads_as_the_truth(history):
    """Two vaults on one folder stand for two processes that share nothing but the files (but for the map itself)."""
    clock = FixedClock(NOON)
    with (
        temporary_vault(clock=clock) as first,
        aico.open(first.folder, passphrase=PASSPHRASE, settings=cheap_settings(clock=clock)) as second,
    ):
        for by_second, (step, *arguments) in history:
            vault = second if by_second else first
            if step == "wait":
                clock.move(timedelta(seconds=arguments[0]))
            elif step != "look":
                step(vault, *arguments)
            limit = arguments[1] if step == "look" else 20
            for conversation in CONVERSATIONS:
                for reader in (first, second, first):
                    assert reader.memory.recent("mia", conversation, limit=limit) == in_truth(
                        reader, conversation, limit
                    )


def test_what_was_read_once_is_followed_without_the_truth(vault):
    vault.memory.record("mia", "number 0", conversation="c")
    assert texts(vault) == ["number 0"]
    for number in range(1, 100):
        vault.memory.record("mia", f"number {number}", conversation="c")
    with truth_must_stay_unread(vault):
        assert texts(vault, limit=50) == [f"number {number}" for number in range(50, 100)]
        with pytest.raises(AssertionError, match="the truth was asked"):
            texts(vault, limit=90)
    assert len(texts(vault, limit=90)) == 90


def test_who_only_writes_follows_nobody(tmp_path):
    """Many processes that write would each take in what all of them write; who reads reads on by itself."""
    with aico.open(tmp_path / "v", passphrase=PASSPHRASE, settings=cheap_settings()) as writing:
        say(writing, "c", 1)
        say_many(writing, "c", 3, 2)
        assert writing.working._background._thread is None
        assert not (tmp_path / "v/data/lmdb/data.mdb").exists()
        assert len(texts(writing)) == 4
        say(writing, "c", 9)
        assert writing.working._background._thread is not None


def test_a_short_conversation_is_whole_whatever_the_limit(vault):
    vault.memory.record_many("mia", [Message(f"{number}", conversation="c") for number in range(5)])
    assert len(texts(vault)) == 5
    with truth_must_stay_unread(vault):
        assert len(texts(vault, limit=1000)) == 5


def test_a_conversation_cools_down_and_is_warmed_again(vault, clock):
    vault.memory.record("mia", "I like figs.", conversation="c")
    assert texts(vault) == ["I like figs."]
    clock.move(timedelta(hours=25))
    with truth_must_stay_unread(vault), pytest.raises(AssertionError):
        texts(vault)
    assert texts(vault) == ["I like figs."]
    with truth_must_stay_unread(vault):
        assert texts(vault) == ["I like figs."]


def test_a_caller_may_say_how_long_it_stays_warm(vault, clock):
    vault.memory.record("mia", "I like figs.", conversation="c")
    vault.working.recent(vault.users.find("mia"), "c", limit=20, ttl_s=60)
    clock.move(timedelta(seconds=61))
    with truth_must_stay_unread(vault), pytest.raises(AssertionError):
        texts(vault)


def test_expired_entries_are_swept(vault, clock):
    for number in range(30):
        vault.memory.record("mia", "I like figs.", conversation=f"c{number}")
        texts(vault, f"c{number}")
    clock.move(timedelta(hours=25))
    for _ in range(3):
        vault.working.sweep()
    clock.move(timedelta(hours=-25))  # they would be seen again if they were there
    assert vault.working._store.read(lambda found: list(working._pages(found))) == []


def test_inside_a_transaction_it_sees_what_is_not_committed(vault):
    vault.memory.record("mia", "before", conversation="c")
    assert texts(vault) == ["before"]
    with pytest.raises(ZeroDivisionError), vault.connection.transaction():
        vault.memory.record("mia", "never committed", conversation="c")
        assert texts(vault) == ["before", "never committed"]
        raise ZeroDivisionError
    assert texts(vault) == ["before"]


def test_a_long_message_is_left_to_the_truth(vault):
    vault.memory.record("mia", "short", conversation="c")
    assert texts(vault) == ["short"]
    vault.memory.record("mia", "x" * (hot_pages.TURN_BYTES_MAX + 1), conversation="c")
    assert [len(text) for text in texts(vault)] == [5, hot_pages.TURN_BYTES_MAX + 1]


def test_after_forget_no_page_holds_it_with_the_keys(vault):
    message = vault.memory.record("mia", "I like figs.", conversation="c")
    vault.memory.record("mia", "I like plums.", conversation="c")
    texts(vault)
    user = vault.users.find("mia")
    assert vault.working.holds_any(user, [bytes.fromhex(message)])
    before = (vault.folder / "data" / "lmdb" / "data.mdb").stat().st_ino
    keeper = os.open(vault.folder / "data" / "lmdb" / "seal", os.O_RDONLY)  # keeps an inode from being given out again
    receipt = vault.memory.forget("mia", id=message)
    assert not vault.working.holds_any(user, [bytes.fromhex(message)])
    assert receipt.verify()
    assert texts(vault) == ["I like plums."]
    os.close(keeper)
    assert before  # the file itself was deleted: see tests/data/lmdb


def test_another_process_writes_and_forgets(vault):
    vault.memory.record("mia", "mine", conversation="c")
    assert texts(vault) == ["mine"]
    assert children.run(record_elsewhere, vault.folder).error is None
    assert texts(vault) == ["mine", "of the other"]
    assert children.run(forget_elsewhere, vault.folder).error is None
    assert texts(vault) == ["of the other"]


def record_elsewhere(folder):
    with aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings(clock=FixedClock(NOON, seed=1))) as vault:
        vault.memory.record("mia", "of the other", conversation="c", at=NOON + timedelta(minutes=1))


def forget_elsewhere(folder):
    with aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings(clock=FixedClock(NOON))) as vault:
        [found] = [moment for moment in vault.memory.recent("mia", "c") if moment.text == "mine"]
        assert vault.memory.forget("mia", id=found.id).verify()


def test_warmth_outlives_the_process(tmp_path, clock):
    chosen = cheap_settings(clock=clock)
    with aico.open(tmp_path / "v", passphrase=PASSPHRASE, settings=chosen) as vault:
        vault.memory.record("mia", "I like figs.", conversation="c")
        texts(vault)
    with (
        aico.open(tmp_path / "v", passphrase=PASSPHRASE, settings=chosen) as vault,
        truth_must_stay_unread(vault),
    ):
        assert texts(vault) == ["I like figs."]


def test_an_older_database_put_back_is_noticed(tmp_path, clock):
    chosen = cheap_settings(clock=clock)
    truth = [tmp_path / "v" / "data" / name for name in ("aico.db", "aico.db-map")]  # the map tells an older page alone

    def session(*said):
        with aico.open(tmp_path / "v", passphrase=PASSPHRASE, settings=chosen) as vault:
            for text in said:
                vault.memory.record("mia", text, conversation="c")
            return texts(vault)

    session("one")
    older = [file.read_bytes() for file in truth]
    assert session("two") == ["one", "two"]
    for file, content in zip(truth, older, strict=True):
        file.write_bytes(content)
    with aico.open(tmp_path / "v", passphrase=PASSPHRASE, settings=chosen) as vault:
        vault.connection.execute("UPDATE messages SET text = 'another history'")  # as many changes as before
        assert texts(vault) == ["another history"]


def test_the_truth_answers_where_lmdb_cannot_be_used(tmp_path, clock):
    with aico.open(tmp_path / "v", passphrase=PASSPHRASE, settings=cheap_settings(clock=clock)) as vault:
        (tmp_path / "v" / "data" / "lmdb").write_text("a file stands in the way")
        vault.memory.record("mia", "I like figs.", conversation="c")
        assert texts(vault) == ["I like figs."]
        assert "lmdb cannot be used" in vault.working.trouble
        [finding] = [one for one in vault.doctor() if one.name == "hot tier"]
        assert finding.ok is None and "the truth answers" in finding.message
        assert vault.memory.forget("mia", conversation="c").verify()


def test_the_state_of_a_session_is_kept_until_it_expires(vault, clock):
    user = b"u" * 16
    vault.working.set_state(user, "s", {"mood": "calm", "turns": [1, 2]}, ttl_s=60)
    assert vault.working.find_state(user, "s") == {"mood": "calm", "turns": [1, 2]}
    assert vault.working.find_state(b"v" * 16, "s") is None
    clock.move(timedelta(seconds=60))
    assert vault.working.find_state(user, "s") is None
    with pytest.raises(InvalidInput, match="cannot be kept"):
        vault.working.set_state(user, "s", {"clock": object()})


def test_a_session_finds_its_state_again_and_nobody_elses(vault, clock):
    memory = vault.memory
    memory.set_state("mia", "phone", {"draft": "Dear Otto,"}, ttl_s=60)
    memory.set_state("otto", "phone", {"draft": "Dear Mia,"})
    assert memory.find_state("mia", "phone") == {"draft": "Dear Otto,"}
    assert memory.find_state("mia", "kitchen") is None
    assert memory.find_state("nobody", "phone") is None
    memory.set_state("mia", "phone", {"mood": ["calm", None, 1.5]}, ttl_s=60)
    assert memory.find_state("mia", "phone") == {"mood": ["calm", None, 1.5]}, "the whole is replaced"
    clock.move(timedelta(seconds=60))
    assert memory.find_state("mia", "phone") is None
    assert memory.delete_state("otto", "phone")
    assert not memory.delete_state("otto", "phone")
    assert memory.find_state("otto", "phone") is None
    assert vault.working.dump("session_state", limit=9) == []


def test_a_deletion_far_behind_deletes_the_file_too(vault):
    """Who forgot may have been killed before the views were told: freed pages would keep what is gone."""
    gone = bytes.fromhex(vault.memory.record("mia", "I loathe figs.", conversation="c"))
    texts(vault)
    user = vault.users.find("mia")
    vault.working.set_state(user, "phone", {"draft": "Dear Otto"})
    vault.working._background.stop()
    say_many(vault, "d", working.CHANGES_AT_ONCE + 50, 0)
    texts(vault)
    assert vault.working.find_state(user, "phone"), "an import leaves it"
    say_many(vault, "e", working.CHANGES_AT_ONCE + 50, 0)
    vault.connection.execute("DELETE FROM messages WHERE id = ?", (gone,))
    texts(vault)
    assert vault.working.find_state(user, "phone") is None, "the file is another"


def test_a_sessions_state_is_seen_changed_and_deleted_by_other_processes(tmp_path, clock):
    folder = tmp_path / "v"
    program = (
        "import sys, aico; from aico.testing import PASSPHRASE, cheap_settings\n"
        "with aico.open(sys.argv[1], passphrase=PASSPHRASE, settings=cheap_settings()) as vault:\n"
        "    print(vault.memory.find_state('mia', 'phone'))\n"
        "    vault.memory.set_state('mia', 'phone', {'draft': 'two'}); print(vault.memory.delete_state('mia', 'tablet'))"
    )
    with aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings()) as vault:
        vault.memory.set_state("mia", "phone", {"draft": "one"})
        vault.memory.set_state("mia", "tablet", {})
        done = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True)
        assert done.stdout.split("\n")[:2] == ["{'draft': 'one'}", "True"]
        assert vault.memory.find_state("mia", "phone") == {"draft": "two"}
        assert vault.memory.find_state("mia", "tablet") is None
    with aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings()) as vault:
        assert vault.memory.find_state("mia", "phone") == {"draft": "two"}, "it outlives whoever had it open"


def test_an_import_or_a_correction_costs_no_session_its_state_but_forgetting_does(vault):
    memory = vault.memory
    memory.record("mia", "I like fgis.", conversation="c", source_id="1")
    texts(vault)
    memory.set_state("mia", "phone", {"draft": "a"})
    memory.record_many("mia", [aico.Message(f"turn {number}", conversation="d") for number in range(1000)])
    assert texts(vault, "d") == [f"turn {number}" for number in range(980, 1000)]
    [turn] = memory.recent("mia", "c")
    vault.conversations.edit("mia", turn.id, "I like figs.")
    assert texts(vault) == ["I like figs."]
    assert memory.find_state("mia", "phone") == {"draft": "a"}
    memory.forget("mia", id=turn.id)
    assert memory.find_state("mia", "phone") is None


@pytest.mark.parametrize("state", [{1: "a"}, {"a": float("nan")}, {"a": (1, 2)}, {"a": b"b"}, {"a": "x" * 70_000}])
def test_a_state_that_would_not_come_back_as_it_was_is_refused(vault, state):
    vault.memory.set_state("mia", "phone", {"draft": "a"})
    with pytest.raises(InvalidInput):
        vault.memory.set_state("mia", "phone", state)
    for wrong in ({"ttl_s": 0}, {"ttl_s": -1}, {"ttl_s": float("nan")}):
        with pytest.raises(InvalidInput):
            vault.memory.set_state("mia", "phone", {}, **wrong)
    with pytest.raises(InvalidInput):
        vault.memory.set_state("mia", "", {})
    assert vault.memory.find_state("mia", "phone") == {"draft": "a"}


@pytest.mark.parametrize("state", ["abc", [1], [("a", 1)], None, 7, {"a": ...}], ids=repr)
def test_a_state_that_is_no_dictionary_is_refused_and_makes_nobody(vault, state):
    with pytest.raises(InvalidInput) as caught:
        vault.memory.set_state("mia", "phone", state)
    assert caught.value.field == "state"
    assert vault.users.list_profiles() == []


def test_nothing_new_is_kept_of_somebody_who_was_deactivated(vault):
    vault.memory.record("mia", "I like figs.", conversation="c")
    vault.users.deactivate(vault.users.find_by_name("mia").id)
    with pytest.raises(InvalidInput, match="deactivated"):
        vault.memory.set_state("mia", "phone", {})


def test_a_stranger_reads_nothing_in_the_folder(tmp_path, clock):
    chosen = replace(cheap_settings(clock=clock), working_ttl_s=60)
    with aico.open(tmp_path / "v", passphrase=PASSPHRASE, settings=chosen) as vault:
        for number in range(40):
            vault.memory.record("mia", f"a canary that sings {number}", conversation="the aviary", speaker="Papageno")
            texts(vault, "the aviary")
        vault.working.set_state(b"u" * 16, "the session's name", {"draft": "a canary that drafts"})
        assert (Path(vault.folder) / "data" / "lmdb" / "data.mdb").stat().st_size > 8192
        needles = ["a canary that sings", "the aviary", "Papageno", "session_mem!", "the session's name", "that drafts"]
        assert vault.audit(needles).leaks == ()
    assert "the aviary" not in repr(vault.working)


def test_a_closed_or_forked_vault_raises(vault):
    vault.memory.record("mia", "I like figs.", conversation="c")
    texts(vault)
    child = os.fork()
    if child == 0:  # must not touch the parent's map
        try:
            vault.working.find_state(b"u" * 16, "s")
            os._exit(1)
        except StorageError:
            vault.close()
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert texts(vault) == ["I like figs."]


@contextmanager
def nothing_may_be_recalled(vault):
    def refuse(*_arguments, **_named):
        raise AssertionError("recall was asked")

    vault.memory._semantic.search, real = refuse, vault.memory._semantic.search
    try:
        yield
    finally:
        vault.memory._semantic.search = real


def context_of(vault, query="what does she like?"):
    return vault.memory.context("mia", query, conversation="c")


def test_a_context_that_was_assembled_once_is_there_until_anything_is_written(vault):
    vault.memory.record("mia", "I like figs.", conversation="c")
    fact = vault.memory.remember("mia", "Mia likes figs")
    vault.preferences.set("mia", "companion.tone", "dry")
    before = context_of(vault)
    with nothing_may_be_recalled(vault):
        assert context_of(vault) == before
    assert context_of(vault, "something else").items
    for write in (
        lambda: vault.memory.record("otto", "somebody else's", conversation="c"),
        lambda: vault.preferences.set("mia", "companion.tone", "warm"),
        lambda: vault.memory.remember("mia", "Mia likes plums", supersedes=fact),
        lambda: vault.memory.record("mia", "And plums.", conversation="c"),
    ):
        write()
        with pytest.raises(AssertionError, match="recall was asked"), nothing_may_be_recalled(vault):
            context_of(vault)
        context_of(vault)
    assert "plums" in context_of(vault).as_text()


def test_a_context_is_never_stale_after_another_process_wrote_or_forgot(vault):
    vault.memory.record("mia", "mine", conversation="c")
    assert "mine" in context_of(vault).as_text()
    assert children.run(record_elsewhere, vault.folder).error is None
    assert "of the other" in context_of(vault).as_text()
    assert children.run(forget_elsewhere, vault.folder).error is None
    said = context_of(vault).as_text()
    assert "of the other" in said
    assert "mine" not in said


def test_forget_reaches_the_contexts_that_quote_it(vault):
    fact = vault.memory.remember("mia", "Mia likes figs")
    context_of(vault)
    user = vault.users.find("mia")
    assert vault.working.holds_any(user, [bytes.fromhex(fact)])
    vault.memory.forget("mia", id=fact)
    assert not vault.working.holds_any(user, [bytes.fromhex(fact)])
    assert "figs" not in context_of(vault).as_text()


def test_a_context_is_assembled_anew_when_a_fact_comes_true(vault, clock):
    vault.memory.remember("mia", "Mia lives in Lisbon", valid_from=NOON + timedelta(hours=1))
    assert "Lisbon" not in context_of(vault, "Lisbon").as_text()
    clock.move(timedelta(hours=2))
    assert "Lisbon" in context_of(vault, "Lisbon").as_text()


def test_a_context_is_assembled_anew_when_a_fact_ends(vault, clock):
    fact = vault.memory.remember("mia", "Mia lives in Lisbon")
    vault.facts.edit("mia", fact, valid_until=NOON + timedelta(hours=1))
    assert "Lisbon" in context_of(vault, "Lisbon").as_text()
    clock.move(timedelta(hours=2))
    assert "Lisbon" not in context_of(vault, "Lisbon").as_text()


def test_nobody_gets_the_context_of_another(vault):
    for name in ("mia", "otto"):
        vault.memory.record(name, f"{name} was here", conversation="c")
    for name in ("mia", "otto", "mia"):
        said = vault.memory.context(name, "who was here?", conversation="c").as_text()
        assert f"{name} was here" in said
        assert ("otto" in said) is (name == "otto")


def test_what_this_process_commits_is_taken_in_soon_without_being_asked_for(vault):
    vault.memory.record("mia", "one", conversation="c")
    texts(vault)
    vault.memory.record("mia", "two", conversation="c")
    deadline = time.monotonic() + 60
    while vault.working.lag():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    with truth_must_stay_unread(vault):
        assert texts(vault) == ["one", "two"]
