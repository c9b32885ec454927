"""The audit log is only ever added to, and whoever changes it behind our back is found out."""

import errno
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aico.data.audit_log import Action, AuditLog, Head
from aico.data.libsql.registry import SchemaRegistry
from aico.errors import AicoError, DiskFull, InvalidInput, NotFound
from aico.security.keys import ChainKey
from aico.testing import FixedClock, temporary_vault
from tests.data.libsql.cases import sealed

USER, SUBJECT = b"\1" * 16, b"\2" * 16
GUARDS = ("audit_log_keeps_entries", "audit_log_keeps_rows", "audit_log_goes_on")


@pytest.fixture
def connection(tmp_path):
    with sealed(tmp_path / "aico.db") as connection:
        SchemaRegistry.apply_core_schemas(connection)
        yield connection


@pytest.fixture
def log(connection):
    made = AuditLog(connection, key=ChainKey(bytes(32)), clock=FixedClock())
    for number in range(5):
        made.append(Action.LOGIN, user_id=USER if number % 2 else None, subject_id=SUBJECT, counts={"number": number})
    return made


def test_entries_come_back_in_order_whole_or_of_one_person_or_kind(log):
    assert [entry.id for entry in log.entries()] == [1, 2, 3, 4, 5]
    assert [entry.id for entry in log.entries(user_id=USER.hex())] == [2, 4]
    assert [entry.id for entry in log.entries(after=2, limit=2)] == [3, 4]
    assert log.entries(action=Action.FORGOTTEN) == []
    entry = log.entries()[1]
    assert (entry.action, entry.user_id, entry.subject_id, entry.counts) == (
        "login",
        USER.hex(),
        SUBJECT.hex(),
        {"number": 1},
    )


def test_what_could_hold_content_is_refused(log):
    for bad in (
        {"action": "I moved to Lisbon"},
        {"action": Action.LOGIN, "counts": {"text": "Lisbon"}},
        {"action": Action.LOGIN, "counts": {"moved to Lisbon": 1}},
        {"action": Action.LOGIN, "subject_id": "Lisbon"},
        {"action": Action.LOGIN, "subject_id": b"x" * 65},
    ):
        with pytest.raises(InvalidInput) as caught:
            log.append(**bad)
        assert "Lisbon" not in str(caught.value)
    assert log.head().count == 5
    with pytest.raises(NotFound):
        log.entries(user_id="mia")


def test_an_entry_stands_or_falls_with_the_transaction_it_records(log, connection):
    with pytest.raises(KeyError), connection.transaction():
        log.append(Action.FORGOTTEN)
        raise KeyError
    assert log.head().count == 5
    with connection.transaction():
        log.append(Action.FORGOTTEN)
        log.append(Action.LOGIN)
    assert log.verify().intact
    assert log.head().count == 7


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit_log SET action = 'x' WHERE id = 2",
        "UPDATE audit_log SET id = 9 WHERE id = 5",
        "DELETE FROM audit_log WHERE id = 5",
        "DELETE FROM audit_log",
        "INSERT OR REPLACE INTO audit_log SELECT 2, at, action, user_id, subject_id, counts, seal FROM audit_log WHERE id = 3",
        "REPLACE INTO audit_log SELECT 1, at, 'x', user_id, subject_id, counts, seal FROM audit_log WHERE id = 3",
        "INSERT INTO audit_log SELECT 9, at, action, user_id, subject_id, counts, seal FROM audit_log WHERE id = 3",
        "INSERT INTO audit_log SELECT -1, at, action, user_id, subject_id, counts, seal FROM audit_log WHERE id = 3",
    ],
)
def test_sql_that_changes_entries_is_refused_by_the_database_itself(log, connection, sql):
    before = connection.fetch_all("SELECT * FROM audit_log")
    with pytest.raises(AicoError):
        connection.execute(sql)
    assert connection.fetch_all("SELECT * FROM audit_log") == before
    assert log.verify().intact


# Attacks by somebody who may run any SQL: the guards are dropped first, and put back afterwards.

ATTACKS = {
    "an action is changed": ("UPDATE audit_log SET action = 'logout' WHERE id = 3", 3),
    "a time is changed": ("UPDATE audit_log SET at = at + 1 WHERE id = 3", 3),
    "a person is taken out": ("UPDATE audit_log SET user_id = NULL WHERE id = 4", 4),
    "a person is put in": ("UPDATE audit_log SET user_id = x'00' WHERE id = 3", 3),
    "nobody becomes an empty name": ("UPDATE audit_log SET user_id = '' WHERE id = 3", 3),
    "a subject becomes text": ("UPDATE audit_log SET subject_id = CAST(subject_id AS TEXT) WHERE id = 3", 3),
    "a count is changed": ("""UPDATE audit_log SET counts = '{"number":9}' WHERE id = 3""", 3),
    "a seal is changed": ("UPDATE audit_log SET seal = zeroblob(32) WHERE id = 3", 3),
    "a middle entry is removed": ("DELETE FROM audit_log WHERE id = 3", 3),
    "the first entry is removed": ("DELETE FROM audit_log WHERE id = 1", 1),
    "a middle entry is removed and the gap is closed": (
        "DELETE FROM audit_log WHERE id = 3; UPDATE audit_log SET id = 3 WHERE id = 4; UPDATE audit_log SET id = 4 WHERE id = 5",
        3,
    ),
    "two entries change places": (
        "UPDATE audit_log SET id = 99 WHERE id = 2; UPDATE audit_log SET id = 2 WHERE id = 3; UPDATE audit_log SET id = 3 WHERE id = 99",
        2,
    ),
    "an entry is repeated at the end": (
        "INSERT INTO audit_log SELECT 6, at, action, user_id, subject_id, counts, seal FROM audit_log WHERE id = 5",
        6,
    ),
    "an entry is put before the first": (
        "INSERT INTO audit_log SELECT 0, at, action, user_id, subject_id, counts, seal FROM audit_log WHERE id = 5",
        1,
    ),
}


def tamper(connection, sql: str) -> None:
    guards = [connection.fetch_one("SELECT sql FROM sqlite_schema WHERE name = ?", (name,))[0] for name in GUARDS]
    with connection.transaction():
        for name in GUARDS:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute_script(sql)
        for guard in guards:
            connection.execute(guard)


@pytest.mark.parametrize("attack", ATTACKS)
def test_tampering_by_raw_sql_is_found_at_its_place(log, connection, attack):
    assert log.verify().intact
    sql, place = ATTACKS[attack]
    tamper(connection, sql)
    verdict = log.verify()
    assert (verdict.intact, verdict.broken_at) == (False, place)
    assert verdict.reason


def test_a_missing_end_is_found_with_a_head_kept_elsewhere_and_only_then(log, connection):
    known = Head.parsed(str(log.head()))
    tamper(connection, "DELETE FROM audit_log WHERE id = 5")
    assert log.verify().intact  # said plainly in docs/decisions/0020
    assert not log.verify(known).intact
    log.append(Action.LOGIN)  # another fifth entry, properly sealed
    assert log.verify().intact
    assert not log.verify(known).intact


def test_a_known_head_is_met_however_much_was_added_since(log):
    nothing, now = Head(0, bytes(32)), log.head()
    log.append(Action.LOGIN)
    assert log.verify(nothing).intact
    assert log.verify(now).intact
    assert log.verify(log.head()).head == log.head()


@pytest.mark.parametrize("text", ["", "5", "5:", "5:zz", "-1:" + "00" * 32, "x:" + "00" * 32])
def test_a_head_that_is_none_is_refused(text):
    with pytest.raises(InvalidInput):
        Head.parsed(text)


def test_guards_that_are_gone_are_told(log, connection):
    connection.execute("DROP TRIGGER audit_log_keeps_rows")
    verdict = log.verify()
    assert (verdict.intact, verdict.broken_at) == (False, None)


def test_without_the_chains_key_nobody_can_go_on(log, connection):
    forger = AuditLog(connection, key=ChainKey(b"\1" * 32), clock=FixedClock())
    forger.append(Action.LOGIN)
    assert log.verify().broken_at == 6


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(Action),
            st.sampled_from([USER, SUBJECT, None]),
            st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 9)),
        )
    ),
    st.data(),
)
def test_any_chain_verifies_and_any_change_of_it_does_not(entries, data):
    with temporary_vault() as vault:
        log = vault.audit_log
        for action, user_id, counts in entries:
            log.append(action, user_id=user_id, counts=counts)
        assert log.verify().head.count == len(entries)
        if entries:
            place = data.draw(st.integers(1, len(entries)))
            tamper(vault.connection, f"UPDATE audit_log SET at = at - 1 WHERE id = {place}")
            assert log.verify().broken_at == place


# What is recorded


def actions(vault) -> list[str]:
    return [entry.action for entry in vault.audit_log.entries()]


def test_a_new_keyslot_is_recorded_with_its_id_and_a_failed_one_is_not(monkeypatch):
    with temporary_vault() as vault:
        vault.keys.add_recovery_phrase()
        (entry,) = vault.audit_log.entries()
        assert (entry.action, len(entry.subject_id)) == ("recovery phrase made", 16)

        def no_room(*_):
            raise OSError(errno.ENOSPC, "no room")

        monkeypatch.setattr(Path, "replace", no_room)
        with pytest.raises(DiskFull):
            vault.keys.add_recovery_phrase()
        assert actions(vault) == ["recovery phrase made"]


def test_forgetting_is_recorded_by_ids_and_counts_and_the_record_outlives_everything():
    with temporary_vault() as vault:
        vault.memory.record("mia", "I moved to Lisbon.", conversation="c1")
        receipt = vault.memory.forget("mia", about="Lisbon")
        vault.memory.forget("mia", everything=True)
        entry, _ = vault.audit_log.entries(action=Action.FORGOTTEN)
        assert (entry.subject_id, entry.counts["messages"]) == (receipt.id, 1)
        rows = vault.connection.fetch_all("SELECT * FROM audit_log")
        assert not any("Lisbon" in str(value) or "mia" in str(value) for row in rows for value in row)
        assert vault.audit_log.verify().intact


def test_a_forget_that_fails_leaves_no_entry():
    with temporary_vault() as vault:
        vault.memory.record("mia", "I moved to Lisbon.", conversation="c1")
        with pytest.raises(NotFound):
            vault.memory.forget("mia", id="00" * 16)
        assert actions(vault) == []


def test_the_chain_goes_on_after_reopening(tmp_path):
    import aico
    from aico.testing import PASSPHRASE, cheap_settings

    for expected in (1, 2, 3):
        with aico.open(tmp_path / "vault", passphrase=PASSPHRASE, settings=cheap_settings()) as vault:
            vault.audit_log.append(Action.EXPORTED, counts={"messages": 2})
            assert vault.audit_log.verify().head.count == expected
