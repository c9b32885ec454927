"""The columns are what the truth is, whatever became of it, and nobody else's."""

from datetime import timedelta, timezone
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aico
from aico.analytics import view as view_module
from aico.analytics.snapshots import Snapshots
from aico.data.conversations import Message
from aico.errors import InvalidInput, NotFound
from aico.testing import PASSPHRASE, FixedClock, cheap_settings, temporary_vault
from tests.analytics.conftest import DAY, HOUR, NOON

pytest.importorskip("duckdb", reason="analytics needs the extra aico[analytics]")
pa = pytest.importorskip("pyarrow", reason="analytics needs the extra aico[analytics]")

ALL = "SELECT id, conversation, role, speaker, said_at, characters, asks FROM messages ORDER BY id"
TRUTH = """SELECT id, conversation_id, role, speaker, at, length(text), substr(rtrim(text), -1) = '?' AS asks
    FROM messages WHERE user_id = ? ORDER BY id"""


def columns(vault, user="mia"):
    rows = vault.analytics.sql(user, ALL).rows
    return [(id_.bytes, chat, role, speaker, at, length, asks) for id_, chat, role, speaker, at, length, asks in rows]


def truth(vault, user="mia"):
    rows = vault.connection.fetch_all(TRUTH, (vault.users.find(user),))
    return [
        (
            row["id"],
            int.from_bytes(row["conversation_id"][:8], "big", signed=True),
            row["role"],
            row["speaker"],
            NOON.replace(tzinfo=None) + timedelta(microseconds=row["at"] - int(NOON.timestamp() * 1e6)),
            row[5],
            bool(row[6]),
        )
        for row in rows
    ]


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["record", "many", "edit", "forget", "look", "chat"]), st.integers(0, 5)), max_size=14
    )
)
def test_after_any_history_the_columns_hold_what_the_truth_holds(steps):
    with temporary_vault(clock=FixedClock(NOON)) as vault:
        ids = [vault.memory.record("mia", "the first?", conversation="c0")]
        for number, (step, chosen) in enumerate(steps):
            if step == "record":
                speaker = (None, "Mia", 'a "b"\x1f', "")[chosen % 4] or None
                ids.append(vault.memory.record("mia", f"text {number}", conversation=f"c{chosen}", speaker=speaker))
            elif step == "many":
                some = [Message(f"t{number}.{i}", conversation="c1", at=NOON + i * HOUR) for i in range(chosen)]
                ids += vault.memory.record_many("mia", some)
            elif step == "edit" and ids:
                vault.conversations.edit("mia", ids[chosen % len(ids)], f"edited {number}?")
            elif step == "forget" and ids:
                vault.memory.forget("mia", id=ids.pop(chosen % len(ids)))
            elif step == "chat":
                vault.memory.record("nell", "not hers", conversation="c1")
            elif step == "look":
                assert columns(vault) == truth(vault)
        assert columns(vault) == truth(vault)


CHANGED = {  # by table: a column of the columns, and the same in the truth
    "messages": ("speaker", "speaker"),
    "conversations": ("title", "title"),
    "facts": ("category", "category"),
    "marks": ("tone", "tone"),
    "feedback": ("category", "category"),
}


def test_every_captured_table_follows_an_update_and_a_delete_after_it_was_loaded(vault):
    tables = {name: table for name, table in view_module.TABLES.items() if table.captured}
    assert CHANGED.keys() == tables.keys()
    for number in range(2):
        vault.memory.record("mia", f"text {number}", conversation=f"c{number}", speaker="Mia")
        fact = vault.memory.remember("mia", f"fact {number}", category="personal")
        vault.album.favourite("mia", fact)
        vault.feedback.record("mia", "rating", "quality", value=number)
    for name, (shown, column) in CHANGED.items():
        source = tables[name].source

        def held(shown=shown, name=name):
            return sorted(str(row[0]) for row in vault.analytics.sql("mia", f"SELECT {shown} FROM {name}").rows)

        assert len(held()) == 2, name
        [(one,), (other,)] = vault.connection.fetch_all(f"SELECT id FROM {source}")
        tone = "happy" if name == "marks" else "changed"
        vault.connection.execute(f"UPDATE {source} SET {column} = ? WHERE id = ?", (tone, one))
        assert (len(held()), held().count(tone)) == (2, 1), name
    for name, (_, _) in reversed(CHANGED.items()):
        [(one,), (other,)] = vault.connection.fetch_all(f"SELECT id FROM {tables[name].source}")
        vault.connection.execute(f"DELETE FROM {tables[name].source} WHERE id = ?", (other,))
        count = vault.connection.fetch_one(f"SELECT count(*) FROM {tables[name].source}")[0]
        assert vault.analytics.sql("mia", f"SELECT count(*) FROM {name}").rows == [(count,)], name


def test_a_conversation_that_is_recorded_and_forgotten_after_loading_comes_and_goes(vault):
    vault.memory.record("mia", "one", conversation="c1")
    assert vault.analytics.sql("mia", "SELECT name FROM conversations").rows == [("c1",)]
    vault.memory.record("mia", "two", conversation="c2")
    assert vault.analytics.sql("mia", "SELECT name FROM conversations ORDER BY 1").rows == [("c1",), ("c2",)]
    assert vault.memory.forget("mia", conversation="c2").verify()
    assert vault.analytics.sql("mia", "SELECT name FROM conversations").rows == [("c1",)]


def test_what_another_process_wrote_is_in_the_next_answer(vault):
    vault.memory.record("mia", "one", conversation="c1")
    assert vault.analytics.sql("mia", "SELECT count(*) FROM messages").rows == [(1,)]
    with aico.open(vault.folder, passphrase=PASSPHRASE, settings=cheap_settings()) as other:
        other.memory.record("mia", "two", conversation="c1")
        assert vault.analytics.sql("mia", "SELECT count(*) FROM messages").rows == [(2,)]
        other.memory.forget("mia", conversation="c1")
    assert vault.analytics.sql("mia", "SELECT count(*) FROM messages").rows == [(0,)]


def test_no_question_reaches_a_row_of_somebody_else(vault):
    for user in ("mia", "nell"):
        vault.memory.record(user, f"I am {user}", conversation=f"chat of {user}", speaker=user)
        vault.memory.remember(user, f"{user} likes figs", category=f"category of {user}")
        vault.feedback.record(user, "rating", f"rated by {user}", value=4)
        vault.memory.recall(user, f"what does {user} like?")
        with vault.connection.transaction():
            vault.logs.insert_log(
                level="INFO", message="x", subsystem=f"log of {user}", user_id=vault.users.find(user).hex()
            )
    for table in vault.analytics.tables():
        for row in vault.analytics.sql("mia", f"FROM {table}").rows:
            assert not any("nell" in str(value) for value in row)
    assert vault.analytics.sql("mia", "SELECT speaker FROM messages").rows == [("mia",)]
    with pytest.raises(NotFound):
        vault.analytics.sql("nobody", "SELECT 1")
    with pytest.raises(InvalidInput):
        vault.analytics.sql("mia", "SELECT * FROM users")


def test_no_answer_shows_its_rows_in_a_repr(vault):
    vault.memory.record("mia", "hello", conversation="the diary", speaker="Mia")
    vault.memory.recall("mia", "where are my letters?")
    vault.memory.remember("mia", "Mia likes figs", category="the diary")
    shown = [
        vault.analytics.unanswered("mia"),
        vault.analytics.sql("mia", "SELECT name, speaker FROM conversations, messages"),
    ]
    assert "letters" in str(shown[0].answer.rows) and "diary" in str(shown[1].rows)
    assert not any(word in repr(shown) for word in ("letters", "diary", "Mia"))


def test_sensitive_feedback_and_texts_are_in_no_column(vault):
    vault.memory.record("mia", "the parrot", conversation="c1")
    vault.feedback.record("mia", "survey", "parrot", is_sensitive=True)
    for table in vault.analytics.tables():
        assert not any("parrot" in str(row) for row in vault.analytics.sql("mia", f"FROM {table}").rows)


def test_local_times_are_those_of_the_authors_clock_and_of_the_profile(vault):
    vault.memory.record("mia", "late", conversation="c1", at=NOON.astimezone(timezone(timedelta(hours=-9))))
    vault.memory.remember("mia", "Mia likes figs")
    [(said_at, said_local)] = vault.analytics.sql("mia", "SELECT said_at, said_local FROM messages").rows
    assert said_at - said_local == timedelta(hours=9)
    with vault.connection.transaction():
        vault.connection.execute("UPDATE users SET time_zone = 'Asia/Tokyo' WHERE name = 'mia'")
    [(recorded_at, local)] = vault.analytics.sql("mia", "SELECT recorded_at, recorded_local FROM facts").rows
    assert local - recorded_at == timedelta(hours=9)


def test_log_lines_come_and_go_with_the_log(vault):
    for number in range(5):
        vault.logs.insert_log(level="INFO", message="x", subsystem=f"s{number}")
    vault.memory.record("mia", "one", conversation="c1")
    assert vault.analytics.sql("mia", "SELECT count(*) FROM logs").rows == [(5,)]
    vault.logs.insert_log(level="INFO", message="x", subsystem="s5")
    assert vault.analytics.sql("mia", "SELECT count(*) FROM logs").rows == [(6,)]
    vault.logs.purge(subsystem="s2")
    assert vault.analytics.sql("mia", "SELECT subsystem FROM logs ORDER BY 1").rows == [
        (f"s{n}",) for n in (0, 1, 3, 4, 5)
    ]


# Snapshots


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Opens the same vault again and again; a snapshot is worth writing after the first change."""
    monkeypatch.setattr(view_module, "SNAPSHOT_EVERY", 1)

    seeds = count()

    def opened():
        clock = FixedClock(NOON, seed=next(seeds))
        return aico.open(tmp_path / "vault", passphrase=PASSPHRASE, settings=cheap_settings(clock=clock))

    with opened() as vault:
        vault.memory.record_many("mia", [Message(f"turn {n}", conversation="c1", at=NOON + n * DAY) for n in range(20)])
        vault.memory.record("nell", "hers", conversation="c1")
        columns(vault)
        columns(vault, "nell")
    return opened


def snapshots(vault):
    return sorted((vault.folder / "data" / "duckdb").iterdir())


def test_a_snapshot_is_read_on_from(kept):
    with kept() as vault:
        assert len(snapshots(vault)) == 2
        vault.memory.record("mia", "one more", conversation="c1")
        assert columns(vault) == truth(vault)
    with kept() as vault:
        assert columns(vault) == truth(vault)


def test_a_changed_moved_or_cut_snapshot_is_loaded_anew(kept):
    with kept() as vault:
        first, second = snapshots(vault)
        whole = first.read_bytes()
    for bad in (
        whole[:-1],
        b"",
        whole[:200],
        second.read_bytes(),
        *(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in (3, 9, 60, len(whole) // 2, len(whole) - 1)),
    ):
        first.write_bytes(bad)
        with kept() as vault:
            assert columns(vault) == truth(vault)
            assert columns(vault, "nell") == truth(vault, "nell")


def test_forgetting_reaches_the_snapshot_and_the_columns_of_other_processes(kept):
    with kept() as vault, kept() as other:
        columns(other)
        receipt = vault.memory.forget("mia", conversation="c1")
        assert receipt.verify()
        assert len(snapshots(vault)) == 1
        assert columns(other) == []
    with kept() as vault:
        assert vault.memory.receipt("mia", receipt.id).verify()
        assert columns(vault) == []


def test_a_process_that_lags_puts_nothing_forgotten_back_on_the_disk(kept):
    with kept() as vault:
        other = kept()
        other.memory.record("mia", "newer", conversation="c1")
        columns(other)
        vault.memory.forget("mia", conversation="c1")
        hers = snapshots(vault)
        other.close()  # what it holds is older than the forgetting
        assert snapshots(vault) == hers
        assert len(hers) == 1


@pytest.fixture
def telling(kept, monkeypatch):
    """Opens a vault whose title and category tell what will be forgotten, while their rows stay."""
    monkeypatch.setattr(view_module, "SNAPSHOT_EVERY", 0)
    with kept() as vault:
        vault.conversations.set_title("mia", "c1", "Clinic in Lisbon")
        vault.memory.remember("mia", "Mia went somewhere", category="clinic")
    return kept


def load_all(vault):
    for name, table in view_module.TABLES.items():
        if table.captured:
            vault.analytics.sql("mia", f"SELECT count(*) FROM {name}")


def words_on_the_disk(vault):
    """Every text in the snapshots, as whoever holds the keys reads it."""
    view, found = vault.analytics._view, set()
    for user in ("mia", "nell"):
        _, tables = view._snapshots.read(view.user_id(user)) or (None, {})
        for stream in tables.values():
            rows = pa.ipc.open_stream(stream).read_all()
            found |= {value for row in rows.to_pylist() for value in row.values() if isinstance(value, str)}
    return found


def test_a_forgotten_title_and_category_are_not_written_again(telling):
    with telling() as vault:
        load_all(vault)
        assert {"Clinic in Lisbon", "clinic"} <= words_on_the_disk(vault)
        vault.memory.forget("mia", about="clinic")
        assert not {"Clinic in Lisbon", "clinic"} & words_on_the_disk(vault)
    with telling() as vault:
        assert not {"Clinic in Lisbon", "clinic"} & words_on_the_disk(vault)
        load_all(vault)
        assert not {"Clinic in Lisbon", "clinic"} & words_on_the_disk(vault)
        assert "c1" in words_on_the_disk(vault)


def test_a_process_that_lags_puts_no_forgotten_title_back_on_the_disk(telling):
    with telling() as vault:
        other = telling()
        for name in ("conversations", "facts"):
            other.analytics.sql("mia", f"SELECT count(*) FROM {name}")
        vault.memory.forget("mia", about="clinic")
        other.memory.record("mia", "newer", conversation="c1")
        other.analytics.sql("mia", "SELECT count(*) FROM feedback")  # loads anew, and would keep all that is loaded
        assert not {"Clinic in Lisbon", "clinic"} & words_on_the_disk(vault)
        other.close()
        assert not {"Clinic in Lisbon", "clinic"} & words_on_the_disk(vault)


def test_forgetting_deletes_what_a_killed_process_left_of_writing_a_snapshot(telling):
    with telling() as vault:
        with pytest.MonkeyPatch.context() as killed:
            killed.setattr(Snapshots, "put", lambda *_: None)  # a kill before the snapshot has its name
            load_all(vault)
        assert [file.suffix for file in snapshots(vault)].count(".part") == 1
        vault.memory.forget("mia", about="clinic")
        assert [file.suffix for file in snapshots(vault)] == [".columns"], "of nell"


def test_a_snapshot_is_not_written_where_the_feed_no_longer_tells_what_was_taken_away(kept):
    with kept() as vault:
        feed = vault.analytics._view._feed
        newest = feed.newest()
        assert feed.only_adds("messages", after=newest)
        assert not feed.only_adds("messages", after=newest + 1), "the truth was put back"
        feed.prune(keep=1)
        assert feed.only_adds("messages", after=newest - 1)
        assert not feed.only_adds("messages", after=newest - 2)


def test_deleting_the_folder_costs_time_alone(kept):
    with kept() as vault:
        for file in snapshots(vault):
            file.unlink()
        (vault.folder / "data" / "duckdb").rmdir()
        assert columns(vault) == truth(vault)


def test_nothing_readable_is_written_anywhere(vault, tmp_path, monkeypatch):
    monkeypatch.setattr(view_module, "SNAPSHOT_EVERY", 1)
    name = "a conversation about parrots"
    vault.memory.record_many(
        "mia",
        [
            Message("the parrot knows the safe", conversation=name, speaker="Nell Hagedorn", at=NOON + n * HOUR)
            for n in range(300)
        ],
    )
    for table in vault.analytics.tables():
        vault.analytics.sql("mia", f"FROM {table}")
    with pytest.raises(aico.errors.StorageError):
        vault.analytics.sql(
            "mia", "SELECT list(a.speaker || b.speaker || c.speaker) FROM messages a, messages b, messages c"
        )
    report = vault.audit(["the parrot knows the safe", name, "Nell Hagedorn"])
    assert report.leaks == ()
    assert any(file.suffix == ".columns" for file in snapshots(vault))


@pytest.mark.parametrize("name", ["messages", "facts"])
def test_few_changed_rows_of_very_many_are_looked_up_by_their_ids(name):
    table, asked = view_module.TABLES[name], []

    def rows(sql, parameters):
        asked.append((sql, parameters))
        yield 0, 0

    where = "x.id IN (SELECT key FROM change_feed WHERE number > ? AND number <= ? AND table_name = ?)"
    assert list(table.batches(rows, (b"p", 1, 2, table.source), where=where, by_where=True)) == []
    with temporary_vault() as vault:
        plan = [row["detail"] for row in vault.connection.fetch_all(f"EXPLAIN QUERY PLAN {asked[0][0]}", asked[0][1])]
    assert any(step.startswith("SEARCH x") and "(id=?)" in step for step in plan), plan
