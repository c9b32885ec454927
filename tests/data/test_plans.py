"""How SQLite finds the rows of a person who has many: by their ids, or from the end of an index, never all of them."""

import pytest

from aico.testing import temporary_vault
from bench.repositories import noted_statements

MANY = 60
CALLS = {
    "a page of the album": lambda v, _: v.album.messages("mia", limit=MANY),
    "messages by id": lambda v, ids: v.album.list_of("mia", ids),
    "a page of facts": lambda v, _: v.facts.list("mia", limit=MANY),
    "what recall brings": lambda v, _: v.memory.recall("mia", "tram", limit=MANY),
}
OF_ALL = (
    "messages_of_user (user_id=?)",
    "facts_of_user (user_id=?)",
    "marks_of_user (user_id=?)",
    "tags_of_user (user_id=?)",
)


@pytest.mark.parametrize("name", CALLS)
def test_many_ids_are_looked_up_and_not_sought_among_all_that_the_person_has(name):
    with temporary_vault() as vault:
        ids = [vault.memory.record("mia", f"tram {number}", conversation="c") for number in range(MANY)]
        for number in range(MANY):
            vault.memory.remember("mia", f"tram line {number}")
        vault.memory.recall("mia", "tram")  # the index in memory is read in before
        with noted_statements() as noted:
            assert len(CALLS[name](vault, ids)) == MANY
        by_id = [(sql, values) for sql, values in noted if " IN (?" in sql]
        assert by_id
        for sql, values in by_id:
            plan = [row["detail"] for row in vault.connection.fetch_all(f"EXPLAIN QUERY PLAN {sql}", values)]
            assert not [line for line in plan if line.endswith(OF_ALL) or line.startswith("SCAN m")], sql


def test_a_page_of_the_album_takes_its_messages_by_place_and_not_by_id():
    """Ids lie all over their index; the messages of a day lie side by side."""
    with temporary_vault() as vault:
        for number in range(MANY):
            vault.memory.record("mia", f"tram {number}", conversation="c")
        with noted_statements() as noted:
            vault.album.messages("mia", limit=MANY)
        [(sql, values)] = [(sql, values) for sql, values in noted if "FROM messages m" in sql]
        plan = [row["detail"] for row in vault.connection.fetch_all(f"EXPLAIN QUERY PLAN {sql}", values)]
        assert "SEARCH m USING INTEGER PRIMARY KEY (rowid=?)" in plan
        assert not [line for line in plan if line.startswith("SCAN m") or ("(id=?)" in line and " m " in line)]


@pytest.mark.parametrize(
    ("asked", "index"),
    [
        ({"tag": "kept"}, "sqlite_autoindex_messages_1 (id=?)"),
        ({"favourite": True}, "sqlite_autoindex_messages_1 (id=?)"),
        ({"noted": True, "conversation": "c"}, "sqlite_autoindex_messages_1 (id=?)"),
        ({"conversation": "c"}, "messages_in_order (conversation_id=?"),
        ({"favourite": False}, "messages_of_user (user_id=? AND at>? AND at<?)"),
    ],
    ids=str,
)
def test_a_filter_of_the_album_is_looked_up_by_what_few_messages_have(asked, index):
    with temporary_vault() as vault:
        vault.album.tag("mia", vault.memory.record("mia", "tram", conversation="c"), "kept")
        with noted_statements() as noted:
            vault.album.messages("mia", **asked)
        [(sql, values)] = [(sql, values) for sql, values in noted if "m.row_id IN" in sql]
        plan = [row["detail"] for row in vault.connection.fetch_all(f"EXPLAIN QUERY PLAN {sql}", values)]
        assert [line for line in plan if line.startswith("SEARCH m USING") and index in line], plan
