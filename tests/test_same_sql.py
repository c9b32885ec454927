"""Which engine answers does not show: names, types and values are SQLite's, whatever the columns are asked."""

from datetime import timedelta

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from aico import Message
from aico import query as routing
from aico.analytics.same_sql import means_the_same
from aico.analytics.tables import TABLES
from aico.testing import FixedClock, temporary_vault
from tests.analytics.conftest import HOUR, NOON

pytest.importorskip("duckdb", reason="the columns need the extra aico[analytics]")

COLUMNS = {table.name: {one.name: one.kind for one in table.columns} for table in TABLES.values() if table.captured}
SPEAKERS = ("Mia", "mia", "5", "05", "", "Ümit", None)
ROWS = 42


@pytest.fixture(scope="module")
def vault():
    """Messages on whole hours by speakers whose names are like numbers, some with questions, and a few facts and marks."""
    with temporary_vault(clock=FixedClock(NOON)) as vault, pytest.MonkeyPatch.context() as patch:
        patch.setattr(routing, "LARGE_ROWS", 1)
        messages = [
            Message(
                "x" * (n % 9 + 1) + "?" * (n % 2),
                conversation=f"c{n % 3}",
                role=("user", "assistant")[n % 2],
                speaker=SPEAKERS[n % len(SPEAKERS)],
                at=NOON + n * HOUR + (n % 4) * timedelta(microseconds=250_001),
            )
            for n in range(ROWS)
        ]
        ids = vault.memory.record_many("mia", messages)
        for n in range(3):
            vault.memory.remember("mia", f"fact {n}", category=("home", "work")[n % 2])
            vault.album.tone("mia", ids[n], "warm")
        for table in COLUMNS:  # twice: then they are loaded
            for _ in range(2):
                vault.query("mia", sql=f"SELECT count(*) FROM {table}")
        yield vault


def answers(vault, sql):
    """What is answered, and what SQLite alone answers."""
    with pytest.MonkeyPatch.context() as patch:
        answer = vault.query("mia", sql=sql)
        patch.setattr(routing, "LARGE_ROWS", 1 << 60)
        return answer, vault.query("mia", sql=sql)


def typed(rows):
    return [[(type(value), value) for value in row] for row in rows]


def agree(vault, sql):
    """Whether the columns answered. Rows whose order the statement leaves open are compared in any order."""
    answer, alone = answers(vault, sql)
    assert answer.columns == alone.columns, sql
    assert sorted(typed(answer.rows), key=repr) == sorted(typed(alone.rows), key=repr), sql
    return answer.explanation.engine == "duckdb"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM messages",
        "SELECT count(*) FROM MESSAGES m",
        "SELECT role, COUNT(*), SUM( characters ), Avg(characters) FROM messages GROUP BY role ORDER BY 2 DESC",
        "SELECT max(role), count(DISTINCT role) FROM messages",
        "SELECT sum(characters) + 1, -min(characters), 2 * max(characters), max(position), 1.5 FROM messages",
        "SELECT min(id), max(said_at), sum(asks), max(asks) FROM messages WHERE NOT asks",
        "SELECT speaker, count(*) n FROM messages GROUP BY speaker HAVING n > 1 ORDER BY speaker LIMIT 3",
        "SELECT count(*) FROM messages WHERE said_at BETWEEN '2026-05-08 13:00:00.000000' AND '2026-05-08 15:00:00.000000'",
        "SELECT sum(CASE WHEN role = 'user' THEN 1 ELSE 0 END), count(*) FILTER (WHERE asks = 1) FROM messages",
        "SELECT m.role, count(f.id) FROM messages m LEFT JOIN facts AS f ON m.said_at >= f.recorded_at GROUP BY m.role",
        "SELECT count(*) FROM messages, facts WHERE speaker IN ('Mia', '5') AND category IS NOT NULL",
        "SELECT tone, count(*) FROM marks GROUP BY tone",
        "SELECT avg(characters) > 4.5, count(*) = 42 FROM messages;",
    ],
)
def test_what_both_read_alike_is_asked_of_the_columns_and_named_as_sqlite_names_it(vault, sql):
    assert agree(vault, sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) AS n FROM messages WHERE said_at = '2026-05-08 15:00:00'",
        "SELECT count(*) AS n FROM messages WHERE said_at >= '2026-05-08T15:00:00'",
        "SELECT count(*) AS n FROM messages WHERE said_at > '2026-05-09'",
        "SELECT count(*) AS n FROM messages WHERE said_at BETWEEN '2026-05-08 12:00' AND '2026-05-08 15:00'",
        "SELECT count(*) AS n FROM messages WHERE said_local IN ('2026-05-08 15:00:00')",
        "SELECT max(said_at) >= '2026-05-09' AS late FROM messages",
        "SELECT count(*) AS n FROM messages WHERE '2026-05-09T00:00:00.000000' < said_at",
        "SELECT count(*) AS n FROM messages WHERE said_at > '2026-05-08 24:00:00.000000'",
        "SELECT sum(characters) * 0.1 AS n FROM messages",
        "SELECT sum(characters) * 1.5 AS n FROM messages",
        "SELECT max(characters, 3) AS n FROM messages",
        "SELECT max(said_at - said_at) AS n FROM messages",
        "SELECT max(said_at + 1) AS n FROM messages",
        "SELECT count(*) AS n FROM messages WHERE characters > '5'",
        "SELECT count(*) AS n FROM messages WHERE speaker = 5",
        "SELECT count(*) AS n FROM messages WHERE speaker",
        "SELECT count(*) AS role FROM messages GROUP BY role HAVING role = 'user'",
        "SELECT count(*) FROM messages semi JOIN facts ON characters > 3",
        "SELECT count(*) FROM messages NATURAL JOIN marks",
        "SELECT count(*), role FROM messages GROUP BY role LIMIT 1",
        "SELECT avg(confidence), count(*) FROM facts",
        "SELECT count(*) FROM messages WHERE id = 'ABCDEF'",
        "SELECT role, max(said_at) FROM messages",
        "SELECT avg(position) FROM messages",
        "SELECT count(*) FROM (SELECT role FROM messages)",
        "SELECT sum(characters * 999999999 * 999999999 * 999999999.0) FROM messages",
        "WITH m AS (SELECT 1) SELECT count(*) FROM m",
    ],
)
def test_what_the_two_would_answer_differently_stays_with_sqlite(vault, sql):
    assert not agree(vault, sql)


def test_an_id_is_found_as_it_is_written_and_in_no_other_spelling(vault):
    [(first,), (second,)] = vault.query("mia", sql="SELECT id FROM messages ORDER BY id LIMIT 2").rows
    for condition in (
        f"= '{first}'",
        f"IN ('{first}', '{second}')",
        f"BETWEEN '{first}' AND '{second}'",
        f"> '{second}'",
    ):
        assert agree(vault, f"SELECT count(*) AS n, min(id) AS least FROM messages WHERE id {condition}"), condition
    for other in (first.upper(), f"{first[:8]}-{first[8:12]}-{first[12:16]}-{first[16:20]}-{first[20:]}"):
        assert not agree(vault, f"SELECT count(*) AS n FROM messages WHERE id = '{other}'")


NUMBERS = st.sampled_from(["characters", "position", "m.characters", "size_bytes", "3", "0", "17", "-2", "4.5", "1.0"])
TEXTS = st.sampled_from(["role", "speaker", "m.speaker", "'user'", "'5'", "''", "'Ümit'", "'it''s'"])
INSTANTS = st.sampled_from(
    ["said_at", "said_local", "m.said_at", "'2026-05-08 15:00:00'", "'2026-05-09'", "'2026-05-08T15:00:00.000000'",
     "'2026-05-08 15:00:00.000000'", "'2026-05-08 13:00:00.250001'", "'2026-05-08 15:00:00.000000Z'"]
)  # fmt: skip
OTHERS = st.sampled_from(["id", "asks", "NULL", "TRUE", "'0'", f"'{'0' * 32}'", f"'{'F' * 32}'"])
LEAVES = NUMBERS | TEXTS | INSTANTS | OTHERS
COMPARES = st.sampled_from(["=", "<>", "<", "<=", ">", ">=", "!="])


def pairs():
    """Two leaves: mostly of one kind, sometimes of any."""
    return st.one_of(*(st.tuples(kind, kind) for kind in (NUMBERS, TEXTS, INSTANTS, OTHERS)), st.tuples(LEAVES, LEAVES))


def conditions():
    simple = st.one_of(
        st.builds(lambda two, sign: f"{two[0]} {sign} {two[1]}", pairs(), COMPARES),
        st.builds(lambda two, low, no: f"{two[0]} {no}BETWEEN {low[0]} AND {two[1]}", pairs(), pairs(), st.sampled_from(["", "NOT "])),
        st.builds(lambda two, more: f"{two[0]} IN ({two[1]}, {more})", pairs(), LEAVES),
        st.builds(lambda two: f"{two[0]} IN ({two[1]})", pairs()),
        st.builds(lambda leaf, no: f"{leaf} IS {no}NULL", LEAVES, st.sampled_from(["", "NOT "])),
        LEAVES,
    )  # fmt: skip
    return st.recursive(
        simple,
        lambda inner: st.one_of(
            st.builds(lambda a, word, b: f"{a} {word} {b}", inner, st.sampled_from(["AND", "OR"]), inner),
            st.builds(lambda a: f"NOT {a}", inner),
            st.builds(lambda a: f"({a})", inner),
        ),
        max_leaves=3,
    )


def aggregates():
    value = st.one_of(
        LEAVES,
        NUMBERS,
        st.builds(lambda two, sign: f"{two[0]} {sign} {two[1]}", pairs(), st.sampled_from(["+", "-", "*", ","])),
        st.builds(lambda when, two: f"CASE WHEN {when} THEN {two[0]} ELSE {two[1]} END", conditions(), pairs()),
    )
    call = st.builds(
        lambda name, distinct, of: f"{name}({distinct}{of})",
        st.sampled_from(["count", "sum", "avg", "min", "max", "MAX"]),
        st.sampled_from(["", "", "DISTINCT "]),
        value,
    )
    return st.one_of(
        st.just("count(*)"),
        call,
        st.builds(lambda one, when: f"{one} FILTER (WHERE {when})", call, conditions()),
        st.builds(lambda one, sign, two: f"{one} {sign} {two}", call, st.sampled_from(["+", "-", "*"]), call | NUMBERS),
        st.builds(lambda one, sign, leaf: f"{one} {sign} {leaf}", call, COMPARES, LEAVES),
    )


@st.composite
def statements(draw):
    grouped = draw(
        st.lists(st.sampled_from(["role", "speaker", "asks", "said_at", "characters"]), max_size=2, unique=True)
    )
    items = [*grouped, *draw(st.lists(aggregates(), min_size=1, max_size=3))]
    if draw(st.booleans()):
        items[-1] += draw(st.sampled_from([" AS n", " n", " AS role", " AS m"]))
    parts = ["SELECT", ", ".join(items), "FROM messages m"]
    if draw(st.booleans()):
        parts += ["WHERE", draw(conditions())]
    if grouped:
        parts += ["GROUP BY", ", ".join(draw(st.sampled_from([grouped, [str(n + 1) for n in range(len(grouped))]])))]
        if draw(st.booleans()):
            parts += [
                "HAVING",
                draw(st.sampled_from(["count(*) > 2", "n > 2", "n = '2'", "max(said_at) > '2026-05-09'"])),
            ]
        if draw(st.booleans()):
            parts += [
                "ORDER BY",
                ", ".join(grouped),
                draw(st.sampled_from(["", "DESC", "LIMIT 2", "LIMIT 2 OFFSET 1"])),
            ]
    return " ".join(parts)


@settings(max_examples=150)
@given(statements())
def test_any_statement_has_one_answer_whichever_engine_gives_it(vault, sql):
    try:
        event("asked of the columns" if agree(vault, sql) else "asked of SQLite")
    except routing.InvalidInput:
        event("no SQL")


@pytest.mark.parametrize(
    "sql", ["", "SELECT", "SELECT count(*)", "FROM messages", "SELECT count(*) FROM messages WHERE ("]
)
def test_what_is_no_statement_is_read_by_neither(sql):
    assert not means_the_same(sql, COLUMNS)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT max(role), 'us'\n'er' FROM messages",
        "SELECT count(*) FROM messages WHERE role = e'user'",
        "SELECT count(*) FROM messages WHERE characters = 0x10",
        "SELECT count(*) FROM messages -- all of them",
        'SELECT count(*) FROM messages WHERE role = "user"',
        "SELECT count(*) FROM messages WHERE (asks = 1) = 1",
        "SELECT count(*) FROM messages WHERE asks IS TRUE",
        "SELECT sum(characters) * 999999999 * 999999999 FROM messages",
        "SELECT sum(characters * 999999999) * 999999999 FROM messages",
        "SELECT sum(characters) OVER () FROM messages",
        "SELECT min(role ORDER BY role) FROM messages",
        "SELECT role, count(*) FROM messages GROUP BY ROLLUP (role)",
        "SELECT DISTINCT count(*) FROM messages",
        "SELECT count(*) FROM messages TABLESAMPLE 1",
        "SELECT count(*) FROM messages JOIN facts USING (id)",
        "SELECT count(*) FROM messages m(a)",
        "SELECT count(*) FROM main.messages",
        "SELECT count(*) FROM messages; SELECT count(*) FROM messages",
        "SELECT count(*) FROM messages WHERE role = '\ud800'",
        "SELECT count(*) FROM messages WHERE " + "NOT " * 5_000 + "asks",
        "SELECT " + " + ".join(["sum(characters)"] * 900) + " FROM messages",
    ],
)
def test_what_has_more_to_it_than_is_known_is_in_doubt(sql):
    assert not means_the_same(sql, COLUMNS)
