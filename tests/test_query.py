"""One way to ask: the engine that fits is chosen, the answer is the truth's, and nobody's SQL reads past its person."""

import unicodedata
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aico
from aico import Message
from aico import query as routing
from aico.data.libsql import personal_sql
from aico.data.personal_tables import _instant
from aico.errors import AicoError, Busy, InvalidInput, NotFound
from aico.testing import PASSPHRASE, FixedClock, HashEmbedder, cheap_settings, temporary_vault

NOON = datetime(2026, 5, 8, 12, 0, tzinfo=UTC)
SECRET = "otto keeps the key under the third flowerpot"


@pytest.fixture(scope="module")
def vault():
    with temporary_vault(clock=FixedClock(NOON)) as vault:
        for number, text in enumerate(("I moved to Lisbon in May.", "The tram is yellow.", "Is it far?")):
            at = NOON + timedelta(minutes=number)
            vault.memory.record("mia", text, conversation="c1", at=at, role="user" if number < 2 else "assistant")
        vault.memory.remember("mia", "Mia lives in Lisbon", category="personal")
        vault.preferences.set("mia", "companion.tone", "dry")
        vault.memory.record("otto", SECRET, conversation="c1", at=NOON)
        vault.memory.remember("otto", SECRET)
        yield vault


def engine(answer):
    return answer.explanation.engine


def test_each_request_goes_where_it_is_answered_best(vault):
    recent = vault.query("mia", recent="c1", limit=2)
    assert (engine(recent), [item.text for item in recent.items]) == ("hot tier", ["The tram is yellow.", "Is it far?"])
    found = vault.query("mia", "where is Lisbon?")
    assert engine(found) == "recall"
    assert list(found.items) == vault.memory.recall("mia", "where is Lisbon?", limit=20)
    [hit] = vault.query("mia", found.items[0].id).items
    assert (engine(vault.query("mia", id=hit.id)), hit.text) == ("sql", found.items[0].text)
    counted = vault.query("mia", "SELECT role, count(*) AS n FROM messages GROUP BY role ORDER BY role")
    assert (engine(counted), counted.rows) == ("sql", [("assistant", 1), ("user", 2)])
    assert counted.explanation.rows == 2
    assert counted.explanation.rows_estimated == 4, "the newest row's number: at most so many, of all people"
    assert counted.explanation.took_ms > 0


def test_meaning_is_named_only_where_a_model_is_chosen(vault):
    assert vault.query("mia", "where is Lisbon?").explanation.why.endswith("by words alone, as no model is chosen")
    with temporary_vault(embedder=HashEmbedder()) as other:
        other.memory.record("mia", "I moved to Lisbon in May.", conversation="c1")
        assert other.query("mia", "where is Lisbon?").explanation.why.endswith("by words and meaning")


def test_what_begins_like_sql_and_is_none_is_a_question(vault):
    for request in ("select a tram for me", "With whom did I talk about the yellow tram?", "values of Lisbon"):
        assert engine(vault.query("mia", request)) == "recall"


def test_sql_with_a_column_that_is_not_there_is_told_so_and_not_answered_in_words(vault):
    for request in ("SELECT * FROM messages WHERE user_id <> 1", "SELECT nope FROM facts"):
        with pytest.raises(InvalidInput, match="no such column"):
            vault.query("mia", request)
    for request in ("select good restaurants from the trip", "select tram"):
        assert engine(vault.query("mia", request)) == "recall"


def test_memories_are_chosen_by_their_columns(vault):
    def texts(**where):
        return [row["text"] for row in vault.query("mia", **where).records()]

    assert texts(role="assistant") == ["Is it far?"]
    assert texts(conversation="c1", since=NOON + timedelta(minutes=1)) == ["Is it far?", "The tram is yellow."]
    assert texts(until=NOON + timedelta(minutes=1), kinds=("message",)) == ["I moved to Lisbon in May."]
    assert texts(kinds=("fact",)) == ["Mia lives in Lisbon"]
    assert len(texts()) == 4
    cut = vault.query("mia", limit=2)
    assert (len(cut.rows), cut.cut) == (2, True)
    assert not vault.query("mia", limit=4).cut
    with pytest.raises(InvalidInput, match="conversation"):
        vault.query("mia", kinds=("fact",), role="user")


@pytest.mark.parametrize("bound", ["since", "until"])
@pytest.mark.parametrize(
    "at",
    [
        datetime(2026, 5, 8, 14),
        "2026-05-08",
        20260508,
        datetime.min.replace(tzinfo=timezone(timedelta(hours=5))),
        datetime.max.replace(tzinfo=timezone(-timedelta(hours=5))),
    ],
)
def test_a_bound_that_names_no_instant_is_refused_with_and_without_a_question(vault, bound, at):
    for asked in ({}, {"request": "Lisbon"}):
        with pytest.raises(InvalidInput) as refused:
            vault.query("mia", **asked, **{bound: at})
        assert refused.value.field == bound


def test_a_bound_may_be_in_any_time_zone(vault):
    at = (NOON + timedelta(minutes=1)).astimezone(timezone(-timedelta(hours=7)))
    assert len(vault.query("mia", since=at, kinds=("message",)).rows) == 2


def test_a_conversation_is_found_however_its_name_is_spelled():
    with temporary_vault() as vault:
        vault.memory.record("mia", "dear diary", conversation="Tagebücher")
        for form in ("NFC", "NFD"):
            name = unicodedata.normalize(form, "Tagebücher")
            for asked in ({"conversation": name}, {"recent": name}, {"request": "diary", "conversation": name}):
                assert [item["text"] for item in vault.query("mia", **asked).records()] == ["dear diary"], asked


def test_every_personal_table_reads_and_shows_what_it_says(vault):
    for table, columns in vault.query.tables().items():
        assert vault.query("mia", sql=f"SELECT * FROM {table}").columns == tuple(columns)
    [(said,)] = vault.query("mia", sql="SELECT said_at FROM messages WHERE text LIKE ?", parameters=("%tram%",)).rows
    assert said == "2026-05-08 12:01:00.000000"


@given(st.integers(-(10**15), 10**16))
def test_instants_read_as_python_writes_them(vault, us):
    [(text,)] = vault.connection.fetch_all(f"SELECT {_instant('?1')}", (us,))
    assert text == routing._as_text(datetime(1970, 1, 1) + timedelta(microseconds=us))


ATTACKS = (
    "SELECT * FROM main.messages",
    "SELECT count(*) FROM main.messages",
    "SELECT 1 WHERE EXISTS (SELECT 1 FROM main.messages)",
    "WITH messages AS (SELECT * FROM main.messages) SELECT * FROM messages",
    "WITH rows_0 AS (SELECT text FROM main.messages) SELECT * FROM rows_0",
    "SELECT * FROM (SELECT text FROM main.facts) AS messages",
    "SELECT m.role, (SELECT group_concat(text) FROM main.facts) FROM messages m",
    "SELECT * FROM messages UNION ALL SELECT * FROM main.messages",
    "SELECT * FROM messages JOIN main.users",
    "SELECT * FROM users",
    "SELECT * FROM logs",
    "SELECT vector FROM embeddings",
    "SELECT * FROM change_feed",
    "SELECT * FROM sqlite_schema",
    "SELECT * FROM sqlite_master",
    "SELECT name FROM temp.sqlite_schema",
    "SELECT * FROM sqlite_temp_master",
    "SELECT * FROM sqlite_stat1",
    "SELECT * FROM pragma_table_info('messages')",
    "SELECT * FROM pragma_database_list",
    "SELECT * FROM dbstat",
    "SELECT count(*) FROM dbstat",
    "SELECT count(*) FROM USERS",
    "SELECT count(*) FROM sqlite_master",
    "SELECT count(*) FROM pragma_table_info('messages')",
    "WITH n(i) AS (SELECT 1 FROM users) SELECT count(*) FROM n a, n b",
    "SELECT * FROM sqlite_dbpage",
    "SELECT load_extension('/tmp/x.so')",
    "PRAGMA database_list",
    "PRAGMA query_only = 0",
    "ATTACH DATABASE '/tmp/stolen.db' AS stolen",
    "VACUUM INTO '/tmp/stolen.db'",
    "EXPLAIN SELECT * FROM messages",
    "DELETE FROM messages",
    "INSERT INTO messages (id) VALUES (1)",
    "WITH x AS (SELECT 1) DELETE FROM main.messages",
    "WITH x AS (SELECT 1) INSERT INTO main.facts SELECT * FROM main.facts",
    "WITH x AS (SELECT 1) UPDATE main.messages SET text = ''",
    "CREATE TEMP TABLE mine AS SELECT * FROM messages",
    "CREATE TEMP VIEW theirs AS SELECT * FROM main.messages",
    "DROP VIEW temp.messages",
    "BEGIN",
    "COMMIT",
    "SELECT 1; SELECT * FROM main.messages",
    "SELECT 1; DROP VIEW messages",
    "",
    "-- nothing",
    "SELECT zeroblob(1000000000)",
    "SELECT group_concat(zeroblob(30000000)) FROM messages",
    "SELECT * FROM nowhere",
)


@pytest.mark.parametrize("sql", ATTACKS)
def test_sql_that_reaches_past_the_person_is_refused_and_changes_nothing(vault, sql):
    before = vault.connection.fetch_all("SELECT count(*), max(number) FROM change_feed")
    with pytest.raises(InvalidInput) as refused:
        vault.query("mia", sql=sql)
    assert "flowerpot" not in f"{refused.value} {refused.value.hint}"
    assert vault.connection.fetch_all("SELECT count(*), max(number) FROM change_feed") == before
    assert vault.query("mia", sql="SELECT count(*) FROM messages").rows == [(3,)]
    assert vault.connection.fetch_all("SELECT count(*) FROM sqlite_temp_schema")[0][0] == 0


QUOTING = (
    "SELECT json_extract('{}', text) FROM messages",
    "SELECT role, json_extract('{}', text) FROM messages ORDER BY 1",
    "SELECT json_extract('{}', CASE WHEN role = 'user' THEN '$' ELSE text END) FROM messages ORDER BY role DESC",
    "SELECT * FROM messages, json_each('{}', text)",
    "SELECT json_set('{}', text, 1) FROM facts",
    "SELECT count(*) FROM messages WHERE text -> ('$.' || text || '[') IS NOT NULL",
)


@pytest.mark.parametrize("sql", QUOTING)
@pytest.mark.parametrize("engine", ["sqlite", "libsql"])
def test_an_error_while_a_statement_runs_says_nothing_of_its_rows(engine, sql, tmp_path):
    if engine == "libsql":
        pytest.importorskip("libsql", reason="the engine libsql needs the extra aico[libsql]")
    settings = replace(cheap_settings(), engine=engine)
    with aico.open(tmp_path / "vault", passphrase=PASSPHRASE, settings=settings) as vault:
        for role in ("user", "assistant"):
            vault.memory.record("otto", SECRET, conversation="c1", role=role)
        vault.memory.remember("otto", SECRET)
        with pytest.raises(InvalidInput) as refused:
            vault.query("otto", sql=sql)
    assert "flowerpot" not in f"{refused.value} {refused.value.hint} {refused.value.__cause__}"


PIECES = st.sampled_from(
    [
        "SELECT", "*", "text", "count(*)", "FROM", "messages", "main.messages", "main.facts", "facts", "WHERE", "1",
        "UNION ALL", "WITH messages AS", "(", ")", "SELECT text FROM main.messages", ",", "AS", "x", "JOIN", "ON", "IN",
        "GROUP BY", "rows_0", "temp.messages", "EXISTS", "NOT", "ORDER BY", "LIMIT", "max(text)", "NULL", ";", "--", "\n",
    ]
)  # fmt: skip


@given(st.lists(PIECES, max_size=14).map(" ".join))
def test_no_statement_of_any_shape_shows_another_persons_words(vault, sql):
    try:
        answer = vault.query("mia", sql=f"SELECT {sql}", seconds_max=5)
    except AicoError as error:
        assert "flowerpot" not in str(error)
    else:
        assert "flowerpot" not in repr(answer.rows)


@pytest.mark.parametrize(
    "sql",
    [
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n ORDER BY i DESC",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000) SELECT count(*) FROM n a, n b, n c",
    ],
)
def test_a_statement_that_would_never_end_is_stopped_and_the_connection_goes_on(vault, sql):
    with pytest.raises(Busy, match="stopped"):
        vault.query("mia", sql=sql, seconds_max=0.2)
    assert vault.query("mia", sql="SELECT count(*) FROM messages").rows == [(3,)]


N = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)"
LONG = "hex(zeroblob(520000))"  # nearly a mebibyte, the longest that a value may be
SLOW = (
    f"{N} SELECT sum(length(hex(randomblob(500000)))) FROM n",
    f"{N} SELECT sum({LONG} || i LIKE '%{'0' * 190}1') FROM n",
    f"{N} SELECT sum({LONG} || i GLOB '*{'0' * 190}1') FROM n",
    f"{N} SELECT sum(length(replace({LONG} || i, '{'0' * 500}1', ''))) FROM n",
    f"{N} SELECT sum(instr({LONG} || i, '{'0' * 900}1')) FROM n",
    f"{N} SELECT sum(length(trim(hex(zeroblob(5000)) || i, '{'1' * 9000}0'))) FROM n",
    f"{N} SELECT count(json_valid('[' || replace({LONG}, '00', '1,') || i || ']')) FROM n",
    f"{N} SELECT i || {LONG} AS t FROM n ORDER BY t",
)


@pytest.mark.parametrize("sql", SLOW)
def test_functions_at_work_on_long_values_are_stopped_too(vault, sql):
    with pytest.raises(Busy, match="stopped"):  # to the end it would take hours
        vault.query("mia", sql=sql, seconds_max=0.3)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT instr(zeroblob(1600000), zeroblob(800000) || x'01')",
        "SELECT instr(zeroblob(500000), zeroblob(250000) || x'01')",
        "SELECT replace(hex(zeroblob(200000)), hex(zeroblob(100000)) || '1', '')",
        "SELECT trim(hex(zeroblob(200000)), hex(zeroblob(100000)))",
        "SELECT rtrim(hex(zeroblob(200000)), '1' || hex(zeroblob(100000)))",
        "SELECT unhex(hex(zeroblob(200000)), '1' || hex(zeroblob(100000)))",
        f"SELECT text LIKE '{'%a' * 20_000}' FROM messages",
        "SELECT json_patch('{}', '{}')",
        "SELECT min(" + ", ".join("1" for _ in range(200)) + ")",
    ],
)
def test_a_call_that_nothing_could_stop_is_refused(vault, sql):
    with pytest.raises(InvalidInput):
        vault.query("mia", sql=sql, seconds_max=60)
    assert vault.query("mia", sql="SELECT count(*) FROM messages WHERE instr(text, 'tram')").rows == [(1,)]


def test_a_statement_that_is_asked_again_is_held_to_the_same_bounds(vault):
    for _ in range(3):
        with pytest.raises(InvalidInput, match="unhex"):
            vault.query("mia", sql="SELECT unhex(hex(zeroblob(200000)), '1' || hex(zeroblob(100000)))", seconds_max=60)


def test_the_bounded_functions_give_what_sqlite_gives(vault):
    values = [
        "'tram'",
        "''",
        "NULL",
        "x'c3a4'",
        "'äöüz'",
        "12345",
        "1.5",
        "-0.0",
        "1e300",
        "'3'",
        "'a1b1'",
        "' '",
        "x''",
    ]
    calls = [
        f"{name}({a}, {b})" for name in ("instr", "trim", "ltrim", "rtrim", "unhex") for a in values for b in values
    ]
    calls += [f"replace({a}, {b}, '-')" for a in values for b in values]
    for call in calls:
        asked = f"SELECT {call} AS x, typeof({call}) AS y"
        assert vault.query("mia", sql=asked).rows == [tuple(vault.connection.fetch_all(asked)[0])], call


def test_a_person_with_long_texts_is_answered_and_one_without_makes_none(vault):
    long = "x" * 3_000_000
    with temporary_vault() as other:
        other.memory.record("mia", f"{long} tram", conversation="c1")
        other.memory.record("mia", "short", conversation="c1")
        rows = other.query("mia", sql="SELECT length(text), instr(text, 'tram') FROM messages ORDER BY text").rows
        assert rows == [(5, 0), (3_000_005, 3_000_002)]
        assert other.query("mia", sql="SELECT count(*) FROM messages WHERE text = ?", parameters=[long]).rows == [(0,)]
        with pytest.raises(InvalidInput, match="grew"):
            other.query("mia", sql="SELECT a.text || b.text || a.text FROM messages a, messages b")
    with pytest.raises(InvalidInput, match="grew"):
        vault.query("mia", sql="SELECT length(hex(zeroblob(600000)))")


def test_what_was_done_to_a_connection_does_not_stay_on_it(vault):
    vault.query("mia", sql="SELECT replace(text, 'tram', 'bus'), trim(text, '.') FROM messages")
    [(size,)] = vault.connection.fetch_all(
        "SELECT length(replace(hex(zeroblob(50000)), hex(zeroblob(20000)) || '1', ''))"
    )
    assert size == 100_000


def test_an_answer_that_came_too_late_is_busy(vault, monkeypatch):
    monkeypatch.setattr(personal_sql, "STEPS_BETWEEN_LOOKS", 1_000_000_000)
    with pytest.raises(Busy):
        vault.query("mia", sql=f"{N} SELECT sum(i) FROM n", seconds_max=0.01)


def test_an_answer_is_cut_at_its_rows_and_bounded_in_bytes(vault, monkeypatch):
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
    monkeypatch.setattr(routing, "ROWS_MAX", 7)
    answer = vault.query("mia", sql=endless)
    assert (answer.rows, answer.cut) == ([(number,) for number in range(1, 8)], True)
    assert not vault.query("mia", sql=f"{endless} LIMIT 7").cut
    monkeypatch.setattr(personal_sql, "ANSWER_MAX_BYTES", 10_000)
    with pytest.raises(InvalidInput, match="bytes"):
        vault.query("mia", sql="SELECT zeroblob(6000) FROM messages")


def test_requests_that_contradict_or_name_nobody_are_refused(vault):
    for wrong in ({"recent": "c1", "id": "0" * 32}, {"limit": 0}, {"kinds": ()}, {"kinds": "fact"}):
        with pytest.raises(InvalidInput):
            vault.query("mia", **wrong)
    with pytest.raises(InvalidInput, match="role"):
        vault.query("mia", "where?", role="user")
    for wrong in (("nobody", "where?"), ("mia", "0" * 32)):
        with pytest.raises(NotFound):
            vault.query(*wrong)
    otto = vault.query("otto", recent="c1").items[0]
    with pytest.raises(NotFound):
        vault.query("mia", otto.id)


AGGREGATE = "SELECT role, count(*) AS n, max(said_at) AS last, sum(asks) AS asked, min(id) AS first, avg(characters) AS mean FROM messages GROUP BY role ORDER BY role"


def test_aggregations_over_large_tables_go_to_the_columns_and_say_the_same(tmp_path: Path, monkeypatch):
    pytest.importorskip("duckdb", reason="the columns need the extra aico[analytics]")
    monkeypatch.setattr(routing, "LARGE_ROWS", 50)
    with temporary_vault(clock=FixedClock(NOON)) as vault:
        vault.memory.record_many("mia", [Message(f"turn {n}{'?' * (n % 2)}", conversation="c") for n in range(60)])
        first = vault.query("mia", sql=AGGREGATE)
        assert (engine(first), "not loaded" in first.explanation.why) == ("sql", True)
        second = vault.query("mia", sql=AGGREGATE)
        assert engine(second) == "duckdb", second.explanation
        assert (second.columns, second.rows) == (first.columns, first.rows)
        vault.memory.record("mia", "one more", conversation="c")
        third = vault.query("mia", sql=AGGREGATE)
        assert (engine(third), third.rows[0][1]) == ("duckdb", 61)
        vault.memory.record("mia", "and more", conversation="c")
        late = vault.query("mia", sql=AGGREGATE, max_lag=0)
        assert (engine(late), late.rows[0][1], "behind" in late.explanation.why) == ("sql", 62, True)
        for stays in (
            "SELECT count(*) / 7 FROM messages",
            "SELECT count(*) FROM messages WHERE text LIKE '%turn%'",
            "SELECT conversation, count(*) FROM messages GROUP BY conversation",
            "SELECT substr(role, 1, 1), count(*) FROM messages GROUP BY 1",
            "SELECT id FROM messages",
        ):
            assert engine(vault.query("mia", sql=stays)) == "sql", stays
        with pytest.raises(InvalidInput):
            vault.query("mia", sql="SELECT count(*) FROM main.messages")


def test_many_threads_ask_in_sql_at_once(vault):
    from concurrent.futures import ThreadPoolExecutor

    def ask(number: int) -> object:
        user = ("mia", "otto")[number % 2]
        return user, vault.query(user, sql="SELECT count(*), max(text) FROM messages").rows

    with ThreadPoolExecutor(8) as pool:
        found = set(map(repr, pool.map(ask, range(80))))
    assert found == {repr(("mia", [(3, "The tram is yellow.")])), repr(("otto", [(1, SECRET)]))}


def test_a_vault_says_which_names_sql_may_use(vault: aico.Vault):
    assert "text" in vault.query.tables()["messages"]
