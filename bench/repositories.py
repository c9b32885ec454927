"""A vault that has grown: how fast rows go in, and whether the usual questions take longer among a hundred times as many.

Two vaults are filled, one a hundredth of the other, and asked the same questions in turns, so that whatever else the
machine does slows both alike. Which SQL a question runs is taken down while it runs, and SQLite is asked how it will find
the rows: a table read from end to end fails the question. Growth is the median of the large vault divided by that of the
small one.
"""

import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import click
from rich.table import Table

import aico
from aico.data.libsql import LibSQLConnection
from aico.testing import cheap_settings
from bench._report import (
    Report,
    figure,
    folder_option,
    json_option,
    percentile,
    progress,
    scratch_folder,
    seconds,
    table,
)

USER, PASSPHRASE = "mia", "only a benchmark"
MESSAGES, FACTS, LOGS, FEEDBACK = 1_000_000, 100_000, 1_000_000, 100_000
CONVERSATION_MESSAGES = 100
SMALL = 100
"""The first size is one part in so many of the second."""
GROWTH_MAX = 2.0
REPEATS = 200
BATCH = 10_000
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
PAUSE = timedelta(seconds=30)
"""Between two messages."""
SUBSYSTEMS = ("voice", "memory", "calendar", "network")
CATEGORIES = 20
START = datetime(2016, 1, 1, tzinfo=UTC)
WORDS = [
    "garden",
    "harbour",
    "viola",
    "snow",
    "bread",
    "letter",
    "Lisbon",
    "winter",
    "train",
    "apple",
    "kitchen",
    "brother",
    "window",
    "song",
    "river",
]


@dataclass(slots=True)
class Filled:
    """What the vault holds so far, and some ids to ask for."""

    messages: int = 0
    facts: int = 0
    logs: int = 0
    feedback: int = 0
    message_ids: list[str] = field(default_factory=list)
    fact_ids: list[str] = field(default_factory=list)
    log_ids: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Question:
    """One usual call; `ask` is given the vault and draws what it asks for from what is there."""

    name: str
    ask: Callable[[aico.Vault, Filled, random.Random], object]


def _conversation(number: int) -> str:
    return f"c{number // CONVERSATION_MESSAGES}"


def _any_conversation(filled: Filled, draw: random.Random) -> str:
    return _conversation(draw.randrange(filled.messages))


def _active_conversation(filled: Filled, draw: random.Random) -> str:
    """One of the last hundred, as many as the small vault has: the hot tier keeps those somebody has asked for."""
    return _conversation(filled.messages - 1 - draw.randrange(min(filled.messages, 100 * CONVERSATION_MESSAGES)))


def _category(number: int) -> str:
    return f"category {number % CATEGORIES}"


def _tag(number: int) -> str:
    """Of a thousand facts in a row every twentieth has the same tag: a person tags a few dozen alike."""
    return f"tag {number // 1_000}"


def _month(number: int) -> str:
    """Of ten thousand messages in a row every thousandth has the same tag, so that each tag has as many at any size."""
    return f"month {number // 10_000}"


def _logged(number: int) -> datetime:
    return START + timedelta(seconds=number)


def _any_day(filled: Filled, draw: random.Random) -> datetime:
    return START + draw.randrange(filled.messages) * PAUSE


def _any_log(filled: Filled, draw: random.Random) -> datetime:
    return _logged(draw.randrange(filled.logs))


QUESTIONS = (
    Question("last 20 messages", lambda v, f, d: v.memory.recent(USER, _active_conversation(f, d), limit=20)),
    Question("a page of a conversation", lambda v, f, d: v.conversations.messages(USER, _any_conversation(f, d), limit=50)),
    Question("one conversation", lambda v, f, d: v.conversations.get(USER, _any_conversation(f, d))),
    Question("ten conversations", lambda v, f, d: v.conversations.list(USER, limit=10)),
    Question("a repeated message", lambda v, f, d: _record(v, d.randrange(f.messages))),
    Question("a message by its id", lambda v, f, d: v.album.get(USER, d.choice(f.message_ids))),
    Question("a fact by its id", lambda v, f, d: v.facts.get(USER, d.choice(f.fact_ids))),
    Question("a page of the album", lambda v, f, d: v.album.messages(USER, limit=50)),
    Question("a day of the album", lambda v, f, d: v.album.messages(USER, since=(at := _any_day(f, d)), until=at + DAY)),
    Question("a tag of the album", lambda v, f, d: v.album.messages(USER, tag=_month(d.randrange(f.messages)), limit=50)),
    Question("a conversation of the album", lambda v, f, d: v.album.messages(USER, conversation=_any_conversation(f, d))),
    Question("last 50 facts", lambda v, f, d: v.facts.list(USER, limit=50)),
    Question("ten facts of a category", lambda v, f, d: v.facts.list(USER, category=_category(d.randrange(f.facts)), limit=10)),
    Question("ten facts with a tag", lambda v, f, d: v.facts.list(USER, tag=_tag(d.randrange(f.facts)), limit=10)),
    Question("last 50 log lines", lambda v, f, d: v.logs.query_logs()),
    Question("last 50 errors", lambda v, f, d: v.logs.query_logs(level="ERROR")),
    Question("last 50 lines of a part", lambda v, f, d: v.logs.query_logs(subsystem=d.choice(SUBSYSTEMS))),
    Question("a minute of the log", lambda v, f, d: v.logs.query_logs(since=(at := _any_log(f, d)), until=at + MINUTE)),
    Question("one log entry", lambda v, f, d: v.logs.get_log(d.choice(f.log_ids))),
    Question("last 50 feedback events", lambda v, f, d: v.feedback.list(USER, limit=50)),
    Question("feedback about a message", lambda v, f, d: v.feedback.list(USER, about=d.choice(f.message_ids))),
    Question("a preference", lambda v, f, d: v.preferences.get(USER, "companion.tone")),
    Question("live conversations", lambda v, f, d: v.live_sessions.list_live(USER)),
    Question("tasks that are due", lambda v, f, d: v.tasks.due()),
    Question("edit a message", lambda v, f, d: v.conversations.edit(USER, d.choice(f.message_ids), _text(d))),
    Question("record a message", lambda v, f, d: v.memory.record(USER, _text(d), conversation="today")),
)  # fmt: skip


@click.command("repositories")
@click.option(
    "--scale", type=click.FloatRange(min=0, min_open=True), default=1.0, help="Of a million messages and logs."
)
@click.option("--repeats", type=click.IntRange(min=1), default=REPEATS, help="How often each question is asked.")
@folder_option
@json_option
def command(scale: float, repeats: int, folder: Path | None, as_json: bool) -> None:
    """The usual questions at ten thousand rows and at a million."""
    with scratch_folder(folder) as scratch:
        report = Report.begin("repositories", folder=scratch, scale=scale, repeats=repeats)
        with opened(scratch / "small") as small, opened(scratch / "large") as large:
            part, whole = Filled(), Filled()
            fill(small, part, scale / SMALL)
            rates = fill(large, whole, scale)
            progress(f"asking at {part.messages:,} and {whole.messages:,} messages")
            took = ask_all([(small, part), (large, whole)], repeats)
            scans = {question.name: full_scans(large, whole, question) for question in QUESTIONS}
    results = summarise(rates, *took, scans)
    report.publish(results, _tables(results), as_json=as_json)


def opened(folder: Path) -> aico.Vault:
    """A new vault of a person who prefers something."""
    vault = aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings())
    vault.preferences.set(USER, "companion.tone", "gentle")
    return vault


def fill(vault: aico.Vault, filled: Filled, scale: float) -> dict[str, float]:
    """Bring the vault to this part of the full numbers; rows per second of each kind."""
    draw = random.Random(filled.messages)
    return {
        "messages": _fill(filled, "messages", int(MESSAGES * scale), lambda some: _add_messages(vault, filled, some)),
        "facts": _fill(filled, "facts", int(FACTS * scale), lambda some: _add_facts(vault, filled, some, draw)),
        "logs": _fill(filled, "logs", int(LOGS * scale), lambda some: _add_logs(vault, filled, some, draw)),
        "feedback": _fill(filled, "feedback", int(FEEDBACK * scale), lambda some: _add_feedback(vault, filled, some)),
    }


def ask_all(vaults: Sequence[tuple[aico.Vault, Filled]], repeats: int) -> list[dict[str, list[float]]]:
    """How long each question took in each vault, in milliseconds; all take turns, so that noise falls on all alike."""
    draw = random.Random(7)
    took = [{question.name: list[float]() for question in QUESTIONS} for _ in vaults]
    for turn in range(repeats + 1):
        for question in QUESTIONS:
            for (vault, filled), times in zip(vaults, took, strict=True):
                spent_ms = seconds(question.ask, vault, filled, draw) * 1e3
                if turn:  # the first time prepares statements
                    times[question.name].append(spent_ms)
    return took


def full_scans(vault: aico.Vault, filled: Filled, question: Question) -> list[str]:
    """The tables that the question's SQL would read from end to end, by SQLite's own plan."""
    with noted_statements() as noted:
        question.ask(vault, filled, random.Random(7))
    return sorted({name for sql, values in noted for name in _scanned(vault.connection, sql, values)})


@contextmanager
def noted_statements() -> Iterator[list[tuple[str, Any]]]:
    """Every statement with its values that any connection runs inside the block."""
    noted: list[tuple[str, Any]] = []
    originals = {name: getattr(LibSQLConnection, name) for name in ("execute", "fetch_one", "fetch_all")}

    def noting(original: Callable[..., Any]) -> Callable[..., Any]:
        def note(self: LibSQLConnection, sql: str, parameters: Any = ()) -> Any:
            noted.append((sql, parameters))
            return original(self, sql, parameters)

        return note

    for name, original in originals.items():
        setattr(LibSQLConnection, name, noting(original))
    try:
        yield noted
    finally:
        for name, original in originals.items():
            setattr(LibSQLConnection, name, original)


def summarise(
    rates: Mapping[str, float],
    small: Mapping[str, Sequence[float]],
    large: Mapping[str, Sequence[float]],
    scans: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Figures of each question at both sizes, and what of them misses its mark."""
    questions = {}
    for name in small:
        before, after = percentile(small[name], 50), percentile(large[name], 50)
        questions[name] = {
            "p50_ms_small": round(before, 4),
            "p95_ms_small": round(percentile(small[name], 95), 4),
            "p50_ms": round(after, 4),
            "p95_ms": round(percentile(large[name], 95), 4),
            "growth": round(after / before, 2),
            "full_scans": list(scans[name]),
        }
    return {
        "inserts_per_s": {kind: round(rate) for kind, rate in rates.items()},
        "questions": questions,
        "grow_too_much": [name for name, found in questions.items() if found["growth"] > GROWTH_MAX],
        "without_index": [name for name, found in questions.items() if found["full_scans"]],
    }


# Filling


def _fill(filled: Filled, kind: str, up_to: int, add: Callable[[range], object]) -> float:
    """Add rows of a kind in batches, each one transaction; rows per second."""
    first = getattr(filled, kind)
    progress(f"{kind}: {first:,} to {up_to:,}")
    start = perf_counter()
    for at in range(first, up_to, BATCH):
        add(range(at, min(at + BATCH, up_to)))
    setattr(filled, kind, max(first, up_to))
    return (up_to - first) / (perf_counter() - start) if up_to > first else 0.0


def _add_messages(vault: aico.Vault, filled: Filled, numbers: range) -> None:
    ids = vault.memory.record_many(USER, [_message(number) for number in numbers])
    filled.message_ids += ids[::97]
    with vault.connection.transaction():
        for number, message in list(zip(numbers, ids, strict=True))[::1_000]:
            vault.album.tag(USER, message, _month(number))


def _add_facts(vault: aico.Vault, filled: Filled, numbers: Iterable[int], draw: random.Random) -> None:
    with vault.connection.transaction():
        ids = [vault.memory.remember(USER, f"{_text(draw)} {number}", category=_category(number)) for number in numbers]
        for number, fact in list(zip(numbers, ids, strict=True))[::20]:
            vault.facts.tag(USER, fact, _tag(number))
    filled.fact_ids += ids[::97]


def _add_logs(vault: aico.Vault, filled: Filled, numbers: Iterable[int], draw: random.Random) -> None:
    with vault.connection.transaction():
        ids = [
            vault.logs.insert_log(
                level="INFO" if number % 20 else "ERROR",
                subsystem=SUBSYSTEMS[number % len(SUBSYSTEMS)],
                message="a line of the log",
                timestamp=_logged(number),
            )
            for number in numbers
        ]
    filled.log_ids += ids[::97]


def _add_feedback(vault: aico.Vault, filled: Filled, numbers: Iterable[int]) -> None:
    with vault.connection.transaction():
        for number in numbers:
            about = filled.message_ids[number % len(filled.message_ids)]
            vault.feedback.record(USER, "rating", "message_quality", message=about, value=number % 5)


def _message(number: int) -> aico.Message:
    return aico.Message(
        _text(random.Random(number)),
        role=("user", "assistant")[number % 2],
        conversation=_conversation(number),
        at=START + number * PAUSE,
        source_id=str(number),
    )


def _record(vault: aico.Vault, number: int) -> object:
    return vault.memory.record_many(USER, [_message(number)])


def _text(draw: random.Random) -> str:
    return f"I thought of the {' and the '.join(draw.sample(WORDS, 4))} on the way home."


# Plans


def _scanned(connection: LibSQLConnection, sql: str, values: Any) -> set[str]:
    if sql.lstrip().partition(" ")[0].upper() not in {"SELECT", "INSERT", "UPDATE", "DELETE", "WITH"}:
        return set()
    plan = [row["detail"] for row in connection.fetch_all(f"EXPLAIN QUERY PLAN {sql}", values)]
    made_on_the_way = {found[1] for line in plan if (found := re.fullmatch(r"(?:CO-ROUTINE|MATERIALIZE) (\S+)", line))}
    return {found[1] for line in plan if (found := re.fullmatch(r"SCAN (\w+)", line))} - made_on_the_way - {"CONSTANT"}


def _tables(results: Mapping[str, Any]) -> list[Table]:
    inserts = table("Rows in, batches of 10,000", "kind", "rows/s")
    for kind, rate in results["inserts_per_s"].items():
        inserts.add_row(kind, figure(rate))
    questions = table("Usual questions", "question", "small\np50 ms", "p50 ms", "p95 ms", "growth", "full scans")
    for name, found in results["questions"].items():
        shown = (figure(found[key]) for key in ("p50_ms_small", "p50_ms", "p95_ms", "growth"))
        questions.add_row(name, *shown, ", ".join(found["full_scans"]) or "none")
    return [inserts, questions]
