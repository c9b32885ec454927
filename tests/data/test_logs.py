"""The log: every filter against a plain list, every query by an index, and a handler that never holds anybody up."""

import logging
import os
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import aico
from aico.data.libsql.registry import SchemaRegistry
from aico.data.log_handler import VaultLogHandler
from aico.data.logs import LEVELS, LogLine, LogRepository, Retention, _source, _where
from aico.errors import InvalidInput, NotFound
from aico.testing import PASSPHRASE, FixedClock, cheap_settings, temporary_vault
from tests.data.libsql.cases import sealed

START = datetime(2026, 5, 8, 12, tzinfo=UTC)
USERS = [b"\1" * 16, b"\2" * 16]
TRICKY = "Größe\0 in the Café\u2028%_\\"


@pytest.fixture
def connection(tmp_path):
    with sealed(tmp_path / "aico.db") as connection:
        SchemaRegistry.apply_core_schemas(connection)
        yield connection


@pytest.fixture
def logs(connection):
    return LogRepository(connection, clock=FixedClock(START))


@pytest.fixture
def logger():
    made = logging.Logger("companion.voice")
    yield made
    for handler in made.handlers:
        handler.close()


# Entries


def test_every_column_comes_back_as_it_was_given(logs):
    given = {
        "level": "WARNING",
        "message": TRICKY,
        "subsystem": "voice",
        "module": "mic",
        "function_name": "listen",
        "file_path": "/app/mic.py",
        "line_number": 12,
        "topic": "audio",
        "user_id": USERS[0].hex(),
        "session_id": "s1",
        "trace_id": "t1",
        "extra": {"db": -3, "who": ["é", None]},
        "timestamp": START - timedelta(microseconds=7),
    }
    entry = logs.get_log(logs.insert_log(**given))
    assert {name: getattr(entry, name) for name in given} == given


def test_a_short_entry_has_the_clocks_time_and_nothing_else(logs):
    entry = logs.get_log(logs.add_log("info", "started"))
    assert (entry.level, entry.timestamp, entry.user_id, entry.extra) == ("INFO", START, None, {})


@pytest.mark.parametrize(
    "bad",
    [
        {"level": "LOUD"},
        {"level": None},
        {"message": ""},
        {"message": "half \ud800"},
        {"timestamp": datetime(2026, 1, 1)},
        {"extra": {"x": object()}},
        {"extra": {"x": "\ud800"}},
        {"subsystem": "x" * 5000},
    ],
)
def test_what_cannot_be_kept_is_refused_before_anything_is_written(logs, bad):
    with pytest.raises(InvalidInput) as caught:
        logs.insert_log(**{"level": "INFO", "message": "x", **bad})
    assert "object at" not in str(caught.value)
    assert logs.count_logs() == 0


def test_a_missing_entry_is_not_found(logs):
    with pytest.raises(NotFound):
        logs.get_log(1)


def test_an_entry_written_by_sql_alone_can_be_read(logs, connection):
    connection.execute(
        "INSERT INTO logs (timestamp, level, message, extra) VALUES (?, 'NOTICE', 'x', 'no json')", (1.5e9,)
    )
    (entry,) = logs.query_logs()
    assert (entry.level, entry.extra) == ("NOTICE", {"text": "no json"})


def test_no_text_of_an_entry_shows_in_its_repr(logs):
    entry = logs.get_log(logs.insert_log(level="INFO", message="a secret", extra={"k": "a secret"}))
    assert "secret" not in repr(entry)


# Queries


@pytest.mark.parametrize(
    "bad", [{"limit": -1}, {"limit": "5"}, {"offset": -1}, {"order": "best"}, {"level": "x"}, {"user": "mia"}]
)
def test_a_question_that_makes_no_sense_is_refused(logs, bad):
    with pytest.raises(InvalidInput):
        logs.query_logs(**bad)


def test_following_the_log_gives_what_was_written_since_in_order_of_writing(logs):
    first = logs.insert_log(level="INFO", message="a")
    logs.insert_log(level="INFO", message="late", timestamp=START - timedelta(days=1))
    logs.insert_log(level="DEBUG", message="b")
    assert [entry.message for entry in logs.logs_after(first)] == ["late", "b"]
    assert [entry.message for entry in logs.logs_after(first, level="info")] == ["late"]


QUERIES = [
    {},
    {"level": "DEBUG"},
    {"level": "INFO"},
    {"level": "WARNING"},
    {"level": "ERROR"},
    {"level": "CRITICAL"},
    {"subsystem": "s1"},
    {"module": "m1"},
    {"topic": "t1"},
    {"user_id": USERS[0].hex()},
    {"session_id": "s1"},
    {"trace_id": "t1"},
    {"since": START},
    {"until": START},
    {"level": "ERROR", "since": START},
    {"level": "WARNING", "subsystem": "s1"},
    {"text": "x"},
]


@pytest.mark.parametrize("analysed", [False, True])
@pytest.mark.parametrize("filters", QUERIES, ids=lambda filters: " ".join(filters) or "all")
def test_every_listing_reads_an_index_in_order_and_sorts_nothing(tmp_path_factory, many, filters, analysed):
    if analysed:
        many.execute("ANALYZE")
    where, values = _where(filters)
    for way in ("ASC", "DESC"):
        plan = many.fetch_all(
            f"EXPLAIN QUERY PLAN SELECT * FROM {_source(filters)} {where} ORDER BY timestamp {way}, id {way} LIMIT 50",
            values,
        )
        details = " ".join(row["detail"] for row in plan)
        assert "USING INDEX" in details, details
        assert "TEMP B-TREE" not in details, details


def test_counting_and_statistics_read_an_index_alone(many):
    for filters in QUERIES[:-1]:
        where, values = _where(filters)
        (plan,) = many.fetch_all(f"EXPLAIN QUERY PLAN SELECT count(*) FROM logs {where}", values)
        assert "INDEX" in plan["detail"]
    (plan,) = many.fetch_all("EXPLAIN QUERY PLAN SELECT level, count(*) FROM logs GROUP BY level")
    assert "COVERING INDEX" in plan["detail"]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A log of 20,000 entries, most of them INFO."""
    with sealed(tmp_path_factory.mktemp("many") / "aico.db") as connection:
        SchemaRegistry.apply_core_schemas(connection)
        LogRepository(connection).insert_lines(
            [
                LogLine(
                    1_700_000_000_000_000 + number,
                    LEVELS[min(number % 40, 4)] if number % 40 < 5 else "INFO",
                    "x" * 50,
                    subsystem=f"s{number % 7}",
                    module=f"m{number % 50}",
                    user_id=USERS[number % 2] if number % 3 else None,
                    trace_id=f"t{number // 10}",
                )
                for number in range(20_000)
            ]
        )
        yield connection


# Purging and retention


def test_purging_without_a_filter_is_refused(logs):
    logs.insert_log(level="INFO", message="x")
    with pytest.raises(InvalidInput):
        logs.purge()
    assert logs.count_logs() == 1


def test_retention_lets_the_oldest_go_by_age_number_and_size(logs):
    for days in range(10):
        logs.insert_log(level="INFO", message=f"{days:04}" + "x" * 996, timestamp=START - timedelta(days=days))
    plenty = {"age_max": timedelta(days=99), "rows_max": 99, "size_max_bytes": 10**9}
    assert logs.apply_retention(Retention(**plenty)) == 0
    assert logs.apply_retention(Retention(**{**plenty, "age_max": timedelta(days=7)})) == 2
    assert logs.apply_retention(Retention(**{**plenty, "rows_max": 5})) == 3
    assert logs.apply_retention(Retention(**{**plenty, "size_max_bytes": 3700})) == 2
    assert [entry.message[:4] for entry in logs.query_logs()] == ["0000", "0001", "0002"]


def test_the_vaults_retention_comes_from_its_settings_however_large(tmp_path):
    chosen = replace(cheap_settings(clock=FixedClock(START)), log_keep_days=2**31 - 1, log_rows_max=2)
    with aico.open(tmp_path / "vault", passphrase=PASSPHRASE, settings=chosen) as vault:
        for number in range(4):
            vault.logs.insert_log(level="INFO", message=str(number))
        assert vault.logs.apply_retention() == 2
    with pytest.raises(InvalidInput):
        replace(chosen, log_keep_days=0)


# A random history against a plain list

TEXTS = st.sampled_from(["ready", "Ready to speak", "größe", "GRÖSSE", TRICKY, "100 %"])
SOME = st.sampled_from(["a", "b", None])
MOMENTS = st.integers(0, 5).map(lambda number: START + timedelta(minutes=number))


class LogHistory(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self._opened = temporary_vault(clock=FixedClock(START))
        self.logs = self._opened.__enter__().logs
        self.kept: dict[int, dict] = {}

    @rule(
        level=st.sampled_from(LEVELS),
        message=TEXTS,
        subsystem=SOME,
        topic=SOME,
        trace=SOME,
        at=MOMENTS,
        user=st.sampled_from([*USERS, None]),
    )
    def insert(self, level, message, subsystem, topic, trace, at, user):
        entry = {
            "level": level,
            "message": message,
            "subsystem": subsystem,
            "topic": topic,
            "trace_id": trace,
            "timestamp": at,
            "user_id": None if user is None else user.hex(),
        }
        self.kept[self.logs.insert_log(**entry)] = entry

    @rule(data=st.data())
    def ask(self, data):
        filters = data.draw(FILTERS)
        limit, offset = data.draw(st.sampled_from([None, 1, 3])), data.draw(st.integers(0, 2))
        order = data.draw(st.sampled_from(["newest", "oldest"]))
        wanted = sorted(
            self.meant(filters), key=lambda id_: (self.kept[id_]["timestamp"], id_), reverse=order == "newest"
        )
        found = self.logs.query_logs(limit=limit, offset=offset, order=order, **filters)
        assert [entry.id for entry in found] == wanted[offset:][:limit]
        assert self.logs.count_logs(**filters) == len(wanted)

    @rule(data=st.data())
    def purge(self, data):
        filters = data.draw(FILTERS.filter(bool))
        gone = self.meant(filters)
        assert self.logs.purge(**filters) == len(gone)
        self.kept = {id_: entry for id_, entry in self.kept.items() if id_ not in gone}

    @invariant()
    def the_numbers_agree(self):
        stats = self.logs.get_log_stats()
        levels = [entry["level"] for entry in self.kept.values()]
        assert stats.by_level == {level: levels.count(level) for level in set(levels)}
        assert stats.total == len(self.kept)
        assert stats.newest == max((entry["timestamp"] for entry in self.kept.values()), default=None)

    def meant(self, filters) -> set[int]:
        return {id_ for id_, entry in self.kept.items() if all(passes(entry, *one) for one in filters.items())}

    def teardown(self):
        self._opened.__exit__(None, None, None)


def passes(entry, name, value) -> bool:
    if name == "level":
        return LEVELS.index(entry["level"]) >= LEVELS.index(value)
    if name == "text":
        return ascii_lower(value) in ascii_lower(entry["message"])
    if name == "since":
        return entry["timestamp"] >= value
    return entry["timestamp"] < value if name == "until" else entry[name] == value


def ascii_lower(text: str) -> str:
    return text.encode().lower().decode()


FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "level": st.sampled_from(LEVELS),
        "subsystem": st.sampled_from("ab"),
        "topic": st.sampled_from("ab"),
        "trace_id": st.sampled_from("ab"),
        "user_id": st.sampled_from([user.hex() for user in USERS]),
        "text": st.sampled_from(["READY", "ö", "%", "_\\", "\0", "é"]),
        "since": MOMENTS,
        "until": MOMENTS,
    },
)

TestLogHistory = LogHistory.TestCase
TestLogHistory.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)


# The handler


def test_records_arrive_with_all_they_carry(logs, logger):
    logger.addHandler(logs.handler())
    try:
        raise KeyError("inside")
    except KeyError:
        logger.exception("failed %d times", 3, extra={"topic": "audio", "user_id": USERS[0].hex(), "device": "mic"})
    logs.close()
    (entry,) = logs.query_logs()
    assert (entry.level, entry.message, entry.subsystem, entry.topic) == (
        "ERROR",
        "failed 3 times",
        "companion.voice",
        "audio",
    )
    assert (entry.user_id, entry.function_name) == (USERS[0].hex(), "test_records_arrive_with_all_they_carry")
    assert entry.extra["device"] == "mic"
    assert "KeyError" in entry.extra["exception"]


def test_an_entry_belongs_to_nobody_unless_a_whole_id_is_given(logs, logger):
    logger.addHandler(logs.handler())
    logger.info("a", extra={"user_id": "mia"})
    logger.info("b")
    logs.close()
    assert [entry.user_id for entry in logs.query_logs()] == [None, None]


class Unprintable:
    def __str__(self):
        raise RuntimeError("a secret")


def test_odd_records_are_kept_and_never_raise(logs, logger, capsys):
    handler = logs.handler()
    logger.addHandler(handler)
    logger.info("")
    logger.info("half \ud800")
    logger.log(25, "between two levels")
    logger.log(1000, "above all")
    logger.info("x" * 100_000, extra={"thing": object()})
    logger.info("wants %s", Unprintable())
    logger.info("wants %d", "no number")
    logger.info("wants %d and %d", 1)
    logger.info(Unprintable())
    handler.flush()
    entries = logs.query_logs(order="oldest")
    assert [entry.message for entry in entries if len(entry.message) < 100] == [
        "(no text)", "half ?", "between two levels", "above all", "wants %s", "wants %d", "wants %d and %d", "(Unprintable)",
    ]  # fmt: skip
    assert {entry.level for entry in entries} == {"INFO", "CRITICAL"}
    assert max(len(entry.message) for entry in entries) == 64 * 1024
    assert (logs.count_logs(), handler.lost) == (9, 0)
    assert capsys.readouterr().err == ""


def circle():
    found = {"name": "a circle"}
    found["itself"] = found
    return found


def deep():
    found = []
    for _ in range(100_000):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("half \ud800", "half ?"),
        ({"half \ud800": ["\ud800"]}, "{'half \\ud800': ['\\ud800']}"),
        (circle(), "{'name': 'a circle', 'itself': {...}}"),
        (Unprintable(), "(Unprintable)"),
        ({(1, 2): 3}, {"(1, 2)": 3}),
        ({Unprintable(): 1}, None),
        (float("nan"), None),
        (1 << 80, 1 << 80),
        (b"\xff", "/w=="),
        (deep(), None),
        ("\0", "\0"),
    ],
)
def test_what_cannot_be_kept_of_extra_is_text_and_the_rest_stays(logs, logger, value, kept):
    handler = logs.handler()
    logger.addHandler(handler)
    logger.info("odd", extra={"odd": value, "fine": {"n": 1}, "topic": value if isinstance(value, str) else "t"})
    handler.flush()
    (entry,) = logs.query_logs()
    assert (entry.message, entry.extra["fine"], handler.lost) == ("odd", {"n": 1}, 0)
    if kept is not None:
        assert entry.extra["odd"] == kept


@pytest.mark.parametrize("created", [1e30, -1e10, 0.0, 253402300800.0, float("nan"), float("inf"), None])
def test_a_record_of_an_impossible_time_is_of_now_and_takes_no_other_line_with_it(logs, logger, created):
    handler = logs.handler()
    logger.addHandler(handler)
    logger.info("before")
    record = logging.LogRecord("companion", logging.INFO, __file__, 1 << 70, "odd", (), None)
    record.created = created
    logger.handle(record)
    logger.info("after")
    handler.flush()
    assert {entry.message for entry in logs.query_logs(since=datetime(2020, 1, 1, tzinfo=UTC))} == {
        "before",
        "odd",
        "after",
    }
    assert handler.lost == 0


def test_a_caller_never_waits_for_a_store_that_is_kept_by_another(logs, connection, logger):
    handler = VaultLogHandler(logs, queue_max=100)
    logger.addHandler(handler)
    with connection.transaction():  # the writer cannot come in while this lasts, and neither does it stop us
        for number in range(1000):
            logger.info("line %d", number)
        assert handler.lost > 0
        lost = handler.lost
    handler.close()
    written = logs.query_logs(limit=None, order="oldest")
    told = [entry for entry in written if "were lost" in entry.message]
    assert len(written) - len(told) == 1000 - lost
    assert [entry.message for entry in written if entry not in told][:3] == ["line 0", "line 1", "line 2"]
    assert sum(int(entry.message.split()[0].replace(",", "")) for entry in told) + handler.lost == lost


def test_what_the_store_itself_logs_does_not_come_back(logs, logger):
    logger.addHandler(logs.handler())
    for name in ("aico.data", "aico.data.libsql.connection", "aico.vault"):
        logger.handle(logging.LogRecord(name, logging.ERROR, __file__, 1, "again", (), None))
    logger.handle(logging.LogRecord("aico.database", logging.ERROR, __file__, 1, "once", (), None))
    logs.close()
    assert [entry.message for entry in logs.query_logs()] == ["once"]


def test_the_writers_own_records_are_not_taken(connection, logger):
    class Talkative(LogRepository):
        def insert_lines(self, lines):
            logger.error("I am writing")
            super().insert_lines(lines)

    logs = Talkative(connection)
    logger.addHandler(logs.handler())
    logger.info("one")
    logs.close()
    assert [entry.message for entry in logs.query_logs()] == ["one"]


def test_a_closed_vault_is_survived_and_closing_twice_is_fine(tmp_path, logger):
    with sealed(tmp_path / "aico.db") as connection:
        SchemaRegistry.apply_core_schemas(connection)
        handler = LogRepository(connection).handler()
        logger.addHandler(handler)
    logger.info("into the void")
    handler.flush()
    assert handler.lost == 1
    handler.close()
    handler.close()
    logger.info("after the end")
    assert handler.lost == 2


def test_closing_the_vault_writes_what_is_left(tmp_path):
    with temporary_vault() as vault:
        logger, folder = logging.Logger("companion"), vault.folder
        logger.addHandler(vault.logs.handler())
        for number in range(1500):
            logger.info("line %d", number)
        vault.logs.close()
        assert vault.logs.count_logs() == 1500
        assert folder.exists()


def test_many_threads_lose_nothing(logs, logger):
    logger.addHandler(logs.handler())
    threads = [threading.Thread(target=lambda: [logger.info("x") for _ in range(200)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    logs.close()
    assert logs.count_logs() == 1600


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # what newer Pythons say of it beside threads
def test_a_forked_child_neither_waits_nor_writes(logs, logger):
    handler = logs.handler()
    logger.addHandler(handler)
    logger.info("parent")
    child = os.fork()
    if child == 0:
        logger.info("child")
        handler.flush()
        handler.close()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    logs.close()
    assert [entry.message for entry in logs.query_logs()] == ["parent"]


def test_the_writer_applies_the_vaults_retention(connection, logger):
    logs = LogRepository(
        connection, retention=Retention(age_max=timedelta(days=9999), rows_max=3, size_max_bytes=10**9)
    )
    logs.insert_lines([LogLine(1_700_000_000_000_000 + number, "INFO", str(number)) for number in range(9)])
    logger.addHandler(logs.handler())
    logger.info("new")
    logs.close()
    assert {entry.message for entry in logs.query_logs()} == {"new", "8", "7"}
