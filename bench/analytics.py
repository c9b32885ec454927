"""Reports over columns beside the same questions put to the sealed SQLite store.

One vault of one person is filled; five questions are asked of DuckDB through `vault.analytics`, and in SQL of the same
meaning of the store itself, in turn. Before a time counts, both must give the same rows.
"""

import random
import resource
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import click
from rich.table import Table

import aico
from aico.data.conversations import Message
from aico.testing import cheap_settings
from bench._report import Report, figure, folder_option, json_option, progress, scratch_folder, table

USER, PASSPHRASE = "mia", "only a benchmark"
START = datetime(2016, 1, 1, tzinfo=UTC)
ROUNDS, ADDED = 5, 1_000
CONVERSATION_MESSAGES = 600

QUESTIONS: Mapping[str, tuple[str, str]] = {
    "messages by day and role": (
        "SELECT CAST(date_trunc('day', said_at) AS DATE)::VARCHAR, role, count(*) FROM messages GROUP BY ALL ORDER BY 1, 2",
        "SELECT date(at / 1000000, 'unixepoch'), role, count(*) FROM messages WHERE user_id = :user GROUP BY 1, 2 ORDER BY 1, 2",
    ),
    "count and mean length by speaker": (
        "SELECT speaker, count(*), round(avg(characters), 3) FROM messages GROUP BY 1 ORDER BY 1",
        "SELECT speaker, count(*), round(avg(length(text)), 3) FROM messages WHERE user_id = :user GROUP BY 1 ORDER BY 1",
    ),
    "hour of the week": (
        "SELECT dayofweek(said_at), hour(said_at), count(*) FROM messages GROUP BY ALL ORDER BY 1, 2",
        "SELECT CAST(strftime('%w', at / 1000000, 'unixepoch') AS INT), CAST(strftime('%H', at / 1000000, 'unixepoch') AS INT), "
        "count(*) FROM messages WHERE user_id = :user GROUP BY 1, 2 ORDER BY 1, 2",
    ),
    "longest conversations": (
        "SELECT count(*), epoch_us(max(said_at)) - epoch_us(min(said_at)) AS long FROM messages GROUP BY conversation "
        "ORDER BY long DESC, 1 LIMIT 50",
        "SELECT count(*), max(at) - min(at) AS long FROM messages WHERE user_id = :user GROUP BY conversation_id "
        "ORDER BY long DESC, 1 LIMIT 50",
    ),
    "mean pause within a conversation": (
        "SELECT CAST(round(avg(pause)) AS BIGINT) FROM (SELECT epoch_us(said_at) - lag(epoch_us(said_at)) OVER "
        "(PARTITION BY conversation ORDER BY said_at, position) AS pause FROM messages)",
        "SELECT CAST(round(avg(pause)) AS INT) FROM (SELECT at - lag(at) OVER (PARTITION BY conversation_id ORDER BY at, position) "
        "AS pause FROM messages WHERE user_id = :user)",
    ),
}  # fmt: skip
"""Each question as DuckDB and as SQLite hears it."""


@click.command("analytics")
@click.option("--messages", type=click.IntRange(min=2000), default=1_000_000, help="How many the person has.")
@folder_option
@json_option
def command(messages: int, folder: Path | None, as_json: bool) -> None:
    """Reports in DuckDB against the same SQL in the sealed SQLite store."""
    settings = cheap_settings()
    with scratch_folder(folder) as scratch:
        report = Report.begin("analytics", folder=scratch, messages=messages, rounds=ROUNDS)
        place = scratch / "vault"
        with aico.open(place, passphrase=PASSPHRASE, settings=settings) as vault:
            progress(f"recording {messages:,} messages")
            vault.memory.record_many(USER, _talk(messages))
            times: dict[str, Any] = {"load_s": _timed(lambda: _count(vault))}
            questions = {name: _compared(vault, *asked) for name, asked in QUESTIONS.items()}
            vault.memory.record_many(USER, _talk(ADDED, seed=2))
            times["refresh_ms"] = _timed(lambda: _count(vault)) * 1e3
        with aico.open(place, passphrase=PASSPHRASE, settings=settings) as vault:
            times["open_s"] = _timed(lambda: _count(vault))
        ratios = [asked["ratio"] for asked in questions.values()]
        results = {
            "questions": questions,
            "ratio_least": min(ratios),
            "ratio_median": median(ratios),
            **times,
            "snapshot_bytes": sum(file.stat().st_size for file in (place / "data" / "duckdb").glob("*")),
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        report.publish(results, _tables(results), as_json=as_json)


def _talk(count: int, *, seed: int = 1) -> Iterator[Message]:
    chosen, at = random.Random(seed), START
    for number in range(count):
        at += timedelta(seconds=chosen.choice((20, 45, 90, 200, 900, 30_000)) / 10)
        yield Message(
            "word " * chosen.randrange(1, 40),
            role=("user", "assistant")[number & 1],
            speaker=("Mia", "Companion", "Tom")[number % 3],
            conversation=f"{seed}.{number // CONVERSATION_MESSAGES}",
            at=at,
        )


def _count(vault: aico.Vault) -> int:
    [(count,)] = vault.analytics.sql(USER, "SELECT count(*) FROM messages").rows
    return int(count)


def _compared(vault: aico.Vault, columns_sql: str, rows_sql: str) -> dict[str, float]:
    """Medians of both, in turn, once both gave the same rows."""
    progress(columns_sql[:60])
    user = {"user": vault.users.find(USER)}
    columns, rows = [], []
    for _ in range(ROUNDS):
        start = perf_counter()
        in_columns = vault.analytics.sql(USER, columns_sql).rows
        columns.append(perf_counter() - start)
        start = perf_counter()
        in_rows = [tuple(row) for row in vault.connection.fetch_all(rows_sql, user)]
        rows.append(perf_counter() - start)
        if in_columns != in_rows:
            raise click.ClickException("DuckDB and SQLite do not give the same rows")
    return {
        "duckdb_ms": median(columns) * 1e3,
        "sqlite_ms": median(rows) * 1e3,
        "ratio": median(rows) / median(columns),
    }


def _timed(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def _tables(results: Mapping[str, Any]) -> list[Table]:
    asked = table("Medians, the whole call", "question", "SQLite, sealed: ms", "DuckDB: ms", "times as fast")
    for name, found in results["questions"].items():
        asked.add_row(name, figure(found["sqlite_ms"]), figure(found["duckdb_ms"]), figure(found["ratio"]))
    rest = table("The columns", "what", "figure")
    for name in ("load_s", "refresh_ms", "open_s", "snapshot_bytes", "peak_memory_mb"):
        rest.add_row(name.replace("_", " "), figure(results[name]))
    return [asked, rest]
