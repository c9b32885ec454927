"""Reading on costs what has changed, never what there is."""

from datetime import UTC, datetime

from aico.testing import FixedClock, HashEmbedder, temporary_vault

NOON = datetime(2026, 5, 8, 12, 0, tzinfo=UTC)
OF_A_WHOLE_PERSON = ("embeddings_of_user", "facts_of_user", "conversations_of_user", "messages_of_user")


def test_what_changed_is_found_without_reading_all_of_a_person(monkeypatch):
    with temporary_vault(clock=FixedClock(NOON), embedder=HashEmbedder()) as vault:
        for number in range(30):
            vault.memory.record("mia", f"turn {number}", conversation="c1")
            vault.memory.remember("mia", f"fact {number}")
        vault.views.wait()
        user_id = vault.users.find("mia")
        vault.indexes.current(user_id)
        vault.memory.record("mia", "one more turn", conversation="c1")
        vault.memory.remember("mia", "one more fact")
        vault.embeddings.catch_up()
        ways, fetch = list[str](), vault.connection.fetch_committed

        def explained(sql, parameters=()):
            ways.extend(row["detail"] for row in fetch(f"EXPLAIN QUERY PLAN {sql}", parameters))
            return fetch(sql, parameters)

        monkeypatch.setattr(vault.connection, "fetch_committed", explained)
        vault.indexes.current(user_id)
        assert ways
        for way in ways:
            assert not any(index in way for index in OF_A_WHOLE_PERSON), way
            assert not way.startswith(("SCAN messages", "SCAN facts", "SCAN embeddings", "SCAN m", "SCAN x", "SCAN e"))
