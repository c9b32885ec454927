"""What the views cost and give: the hot tier beside its peers, many writers, visibility across processes, the feed.

Four parts of one report. The first two are `hot` and `writers`; the others are below.
"""

import sqlite3
import statistics
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any

import click

import aico
from aico import Message
from aico.data.libsql.feed_triggers import drop_triggers
from aico.testing import cheap_settings
from bench import hot, writers
from bench._report import Report, folder_option, json_option, percentile, progress, scratch_folder, seconds, table

TEXT = hot.TEXT
PASSPHRASE = writers.PASSPHRASE
WRITE_EVERY_S = 0.037
"""Out of step with the 25 ms of who watches, so that every lag occurs."""
ROUNDS = 5
WATCHED = """
import sys, time, aico
from aico.testing import cheap_settings
folder, passphrase, count, every_s = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
with aico.open(folder, passphrase=passphrase, settings=cheap_settings()) as vault:
    for number in range(count):
        time.sleep(every_s)
        vault.memory.record("mia", f"note {number}", conversation="watched")
        print(time.monotonic(), flush=True)     # one clock for all processes of a machine
"""


@click.command("views")
@click.option("--turns", type=click.IntRange(min=100), default=6000, help="Turns to put into each hot tier.")
@click.option("--records", type=click.IntRange(min=50), default=500, help="Single durable records of each kind.")
@click.option("--messages", type=click.IntRange(min=100), default=100_000, help="What the vault holds before them.")
@click.option("--processes", type=click.IntRange(min=1), default=8, help="Writing processes, of four threads each.")
@click.option("--seconds", "duration_s", type=click.FloatRange(min=0.1), default=5.0, help="How long they write.")
@folder_option
@json_option
def command(
    turns: int, records: int, messages: int, processes: int, duration_s: float, folder: Path | None, as_json: bool
) -> None:
    """The hot tier, many writers, visibility across processes, and the price of the change feed."""
    with scratch_folder(folder) as scratch:
        report = Report.begin(
            "views", folder=scratch, turns=turns, records=records, messages=messages, processes=processes,
            seconds=duration_s,
        )  # fmt: skip
        results: dict[str, Any] = {}
        progress("hot tiers")
        engines, missing = hot._engines(scratch)
        results["hot_tiers"], results["missing"] = hot._interleaved(engines, turns, 200), missing
        for engine in engines.values():
            engine.close()
        progress("a record beside a bare commit")
        results["record"] = _record(scratch / "record", records, messages)
        progress(f"{processes} processes of 4 threads")
        results["writers"] = _writers(scratch / "writers", processes, duration_s)
        progress("what another process sees")
        results["seen_by_another_process"] = _seen(scratch / "seen", records)
        progress("the change feed")
        results["change_feed"] = _feed(scratch, records, messages)
    report.publish(
        results, [_drawn(name, part) for name, part in results.items() if name != "missing"], as_json=as_json
    )


def _record(folder: Path, records: int, messages: int) -> dict[str, float]:
    """One durable record through a whole vault, hot tier included, beside one bare commit of Python's sqlite3."""
    took: dict[str, list[float]] = {"record": [], "bare": []}
    with _filled(folder, messages) as vault, closing(_bare(folder.with_suffix(".db"), messages)) as bare:
        vault.memory.recent("mia", "c1")
        for _ in range(records):
            took["bare"].append(seconds(_commit, bare))
            took["record"].append(seconds(_say, vault))
    p50 = {name: percentile(times, 50) * 1e6 for name, times in took.items()}
    figures = {f"{name}_p50_us": round(value, 1) for name, value in p50.items()}
    return {**figures, "times_a_bare_commit": round(p50["record"] / p50["bare"], 3)}


def _writers(folder: Path, processes: int, duration_s: float) -> dict[str, Any]:
    _open(folder).close()
    shares = writers.run_processes(folder, processes=processes, threads=4, duration_s=duration_s)
    return {**writers.summarise(shares), "lost": writers.count_lost(folder, shares)}


def _seen(folder: Path, records: int) -> dict[str, float]:
    """From the moment a record is acknowledged in one process to the moment `watch` tells of it in another."""
    lags = []
    with _open(folder) as vault:
        vault.memory.record("mia", "the first", conversation="watched")
        command = [sys.executable, "-c", WATCHED, str(folder), PASSPHRASE, str(records), str(WRITE_EVERY_S)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writing:
            assert writing.stdout is not None
            counted = 0
            for changes in vault.views.watch(timeout_s=600):
                seen_at = monotonic()
                for _ in range(changes.tables.get("messages", 0)):
                    lags.append(max(0.0, seen_at - float(writing.stdout.readline())))
                    counted += 1
                if counted == records:
                    break
    return {
        "seen": counted,
        **{f"p{percent}_ms": round(percentile(lags, percent) * 1e3, 2) for percent in (50, 95, 100)},
    }


def _feed(scratch: Path, records: int, messages: int) -> dict[str, float]:
    """Two vaults, one without the triggers of the change feed: a durable record in each, then a bulk insert in each."""
    with _filled(scratch / "with", messages) as fed, _filled(scratch / "without", messages) as bare:
        drop_triggers(bare.connection, ["users", "conversations", "messages"])
        single: dict[aico.Vault, list[float]] = {fed: [], bare: []}
        for _ in range(records):
            for vault in (fed, bare):
                single[vault].append(seconds(_insert, vault, 1))
        rounds = [[seconds(_insert, vault, max(100, messages // 5)) for vault in (fed, bare)] for _ in range(ROUNDS)]
        return {
            "single_times_the_time": round(percentile(single[fed], 50) / percentile(single[bare], 50), 3),
            "bulk_times_the_time": round(statistics.median(one / other for one, other in rounds), 3),
        }


def _insert(vault: aico.Vault, count: int) -> None:
    """Messages, in one transaction, as the truth gets them: below the views."""
    user = vault.users.find("mia") or b""
    said = [Message(TEXT, conversation=f"c{number % 50}") for number in range(count)]
    vault.connection.write(lambda: vault._records.messages.add(user, said))


def _say(vault: aico.Vault) -> None:
    vault.memory.record("mia", TEXT, conversation="c1")


def _commit(bare: sqlite3.Connection) -> None:
    bare.execute("BEGIN IMMEDIATE")
    bare.execute("INSERT INTO m (text) VALUES (?)", (TEXT,))
    bare.execute("COMMIT")


def _bare(file: Path, rows: int) -> sqlite3.Connection:
    bare = sqlite3.connect(file, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
        bare.execute(f"PRAGMA {pragma}")
    bare.execute("CREATE TABLE m (id INTEGER PRIMARY KEY, text TEXT)")
    bare.execute("BEGIN")
    bare.executemany("INSERT INTO m (text) VALUES (?)", ((TEXT,) for _ in range(rows)))
    bare.execute("COMMIT")
    return bare


def _filled(folder: Path, messages: int) -> aico.Vault:
    vault = _open(folder)
    vault.memory.record_many("mia", (Message(TEXT, conversation=f"c{number % 50}") for number in range(messages)))
    return vault


def _open(folder: Path) -> aico.Vault:
    return aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings())


def _drawn(title: str, part: dict[str, Any]) -> Any:
    drawn = table(title.replace("_", " "), "what", "figure")
    for name, value in part.items():
        rows = value.items() if isinstance(value, dict) and title == "hot_tiers" else [("", value)]
        for inner, figure in rows:
            drawn.add_row(f"{name} {inner}".replace("_", " ").strip(), str(figure))
    return drawn
