"""The sealed store beside SQLCipher and beside SQLite in the clear: the same rows, the same work, the same settings.

Every round runs every engine once, in a new shuffled order and on a new database, so that whatever else the machine
does falls on all of them alike. Ratios are taken within a round; the median over the rounds is reported.
"""

import random
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any, Protocol

import apsw
import click
from rich.table import Table

from aico.data import EncryptedLibSQLConnection
from aico.data.libsql.opening import connect, create_database
from aico.data.libsql.sealed.page_cipher import SoleKey
from aico.data.libsql.sealed.page_file import PAGE_SIZE
from aico.data.libsql.sealed.vfs import SealedVFS
from aico.security.keys import DatabaseKey
from bench._report import Report, figure, folder_option, json_option, progress, scratch_folder, seconds, table

CACHE_KIB = 64_000
BUSY_WAIT_S = 30.0
SETTINGS = (
    "temp_store = memory",
    "synchronous = full",
    "secure_delete = on",
    f"cache_size = -{CACHE_KIB}",
    "wal_autocheckpoint = 1000",
)
SCHEMA = (
    "CREATE TABLE message (id INTEGER PRIMARY KEY, conversation INTEGER NOT NULL, at INTEGER NOT NULL, text TEXT NOT NULL)",
    "CREATE INDEX message_by_time ON message (conversation, at)",
)
INSERT = "INSERT INTO message (id, conversation, at, text) VALUES (?, ?, ?, ?)"
READ = "SELECT conversation, at, text FROM message WHERE id = ?"
SCAN = "SELECT count(*), sum(length(text)) FROM message"
READ_SCHEMA = "SELECT count(*) FROM sqlite_schema"

POINT_READS = 500
"""Cold, each needs a leaf page that no other needs: at the default 50,000 rows they are 100 rows, or 18 KB, apart."""
TEXT_CHARACTERS = 160
"""With its numbers and SQLite's own bookkeeping a row and its index entry then take some 200 bytes."""

KEY = secrets.token_bytes(32)

Row = tuple[int, int, int, str]


@dataclass(frozen=True, slots=True)
class Sample:
    """What one engine did in one round."""

    bulk_rows_per_s: float  # until the commit is acknowledged
    settled_rows_per_s: float  # until the log has been moved into the database as well
    commit_p50_ms: float
    warm_read_p50_us: float
    cold_read_p50_us: float
    cold_scan_ms: float


LABELS = {
    "bulk_rows_per_s": "bulk\nrows/s",
    "settled_rows_per_s": "settled\nrows/s",
    "commit_p50_ms": "commit\nms",
    "warm_read_p50_us": "warm\nread µs",
    "cold_read_p50_us": "cold\nread µs",
    "cold_scan_ms": "cold\nscan ms",
}


@dataclass(frozen=True, slots=True)
class Work:
    """What every engine is given in every round."""

    rows: Sequence[Row]  # in one transaction
    later: Sequence[Row]  # in one transaction each

    @classmethod
    def draw(cls, *, rows: int, commits: int) -> "Work":
        """The same rows in every run: messages of forty conversations, told apart by their words."""
        draw = random.Random(1)
        letters = "abcdefghijklmnopqrstuvwxyz     "
        made = [
            (number, draw.randrange(40), draw.randrange(2**40), "".join(draw.choices(letters, k=TEXT_CHARACTERS)))
            for number in range(1, rows + commits + 1)
        ]
        return cls(made[:rows], made[rows:])

    def spread_ids(self) -> list[int]:
        """Ids as far apart as they go, shuffled."""
        ids = list(range(1, len(self.rows) + 1, max(1, len(self.rows) // POINT_READS)))
        random.Random(2).shuffle(ids)
        return ids


# Drivers: one connection each, all doing the same with as little between them and the engine as it offers


class Driver(Protocol):
    """One open connection. `query` reads all rows of a statement."""

    def insert_together(self, rows: Sequence[Row]) -> None: ...
    def insert_durably(self, row: Row) -> None: ...
    def query(self, sql: str, parameters: tuple[int, ...] = ()) -> Sequence[Any]: ...
    def define(self, schema: Iterable[str]) -> None: ...
    def clear_log(self) -> None: ...
    def close(self) -> None: ...


class EngineDriver:
    """A connection of `sqlite3`, `sqlcipher3` or APSW, which execute SQL in the same way and cache their statements."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        for setting in SETTINGS:
            connection.execute(f"PRAGMA {setting}").fetchall()

    def insert_together(self, rows: Sequence[Row]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(INSERT, rows)
        self._connection.execute("COMMIT")

    def insert_durably(self, row: Row) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute(INSERT, row)
        self._connection.execute("COMMIT")

    def query(self, sql: str, parameters: tuple[int, ...] = ()) -> Sequence[Any]:
        rows: Sequence[Any] = self._connection.execute(sql, parameters).fetchall()
        return rows

    def define(self, schema: Iterable[str]) -> None:
        for statement in schema:
            self._connection.execute(statement)

    def clear_log(self) -> None:
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        self._connection.close()


class PublicDriver:
    """The class our users hold: thread-safe, fair between processes, its checkpoints in the background."""

    def __init__(self, connection: EncryptedLibSQLConnection) -> None:
        self._connection = connection

    def insert_together(self, rows: Sequence[Row]) -> None:
        self._connection.execute_many(INSERT, rows)

    def insert_durably(self, row: Row) -> None:
        with self._connection.transaction():
            self._connection.execute(INSERT, row)

    def query(self, sql: str, parameters: tuple[int, ...] = ()) -> Sequence[Any]:
        return self._connection.fetch_all(sql, parameters)

    def define(self, schema: Iterable[str]) -> None:
        for statement in schema:
            self._connection.execute(statement)

    def clear_log(self) -> None:
        while not self._connection.clear_log():
            sleep(0.001)  # its background checkpoint is at work

    def close(self) -> None:
        self._connection.close()


# Engines: each opens a database, and makes it if it is not there


def open_sealed(path: Path, page_size: int) -> Driver:
    _make_sealed(path, page_size)
    return EngineDriver(connect(path, _vfs(page_size), wait_s=BUSY_WAIT_S, cache_kib=CACHE_KIB, kind=apsw.Connection))


def open_public(path: Path, page_size: int) -> Driver:
    _make_sealed(path, page_size)
    return PublicDriver(EncryptedLibSQLConnection(db_path=path, encryption_key=KEY, page_cache_kib=CACHE_KIB))


def open_sqlcipher(path: Path, page_size: int) -> Driver:
    connection = import_module("sqlcipher3.dbapi2").connect(str(path), isolation_level=None)
    connection.execute(f"PRAGMA key = \"x'{KEY.hex()}'\"")  # raw: no key derivation in any figure
    connection.execute(f"PRAGMA cipher_page_size = {page_size}")
    return EngineDriver(_in_wal_mode(connection))


def open_sqlite3(path: Path, page_size: int) -> Driver:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA page_size = {page_size}")
    return EngineDriver(_in_wal_mode(connection))


def open_apsw(path: Path, page_size: int) -> Driver:
    connection = apsw.Connection(str(path))
    connection.execute(f"PRAGMA page_size = {page_size}")
    return EngineDriver(_in_wal_mode(connection))


Opener = Callable[[Path, int], Driver]
OURS: dict[str, Opener] = {"sealed": open_sealed, "aico connection": open_public}
CLEAR: dict[str, Opener] = {"sqlite3": open_sqlite3, "apsw": open_apsw}
CIPHERS: dict[str, Opener] = {"sqlcipher3": open_sqlcipher}


def _in_wal_mode(connection: Any) -> Any:
    connection.execute("PRAGMA journal_mode = wal").fetchall()
    return connection


def _make_sealed(path: Path, page_size: int) -> None:
    if not path.exists():
        create_database(path, _vfs(page_size))


@cache
def _vfs(page_size: int) -> SealedVFS:
    return SealedVFS(SoleKey({1: DatabaseKey(KEY)}), page_size=page_size)


# The measurement


@click.command("storage")
@click.option("--rows", type=click.IntRange(min=1), default=50_000, help="Rows of a bulk insert.")
@click.option("--commits", type=click.IntRange(min=1), default=200, help="Durable commits a round, one row each.")
@click.option("--rounds", type=click.IntRange(min=1), default=11, help="Rounds; medians over all of them.")
@click.option(
    "--page-size",
    "page_sizes",
    type=click.Choice(["4096", "8192", "16384", "32768", "65536"]),
    multiple=True,
    default=[str(PAGE_SIZE)],
    help="Bytes; may be given several times. The default is the size we ship.",
)
@folder_option
@json_option
def command(
    rows: int, commits: int, rounds: int, page_sizes: tuple[str, ...], folder: Path | None, as_json: bool
) -> None:
    """The sealed store against SQLCipher and against SQLite in the clear."""
    peers = {name: opener for name, opener in (CIPHERS | CLEAR).items() if find_spec(name)}
    missing = sorted(CIPHERS.keys() - peers.keys())
    work, sizes = Work.draw(rows=rows, commits=commits), [int(size) for size in page_sizes]
    with scratch_folder(folder) as scratch:
        report = Report.begin(
            "storage",
            folder=scratch,
            rows=rows,
            commits=commits,
            rounds=rounds,
            page_sizes=sizes,
            cache_kib=CACHE_KIB,
        )
        samples = measure(OURS | peers, sizes, work, rounds=rounds, scratch=scratch)
    medians, ratios = summarise(samples, peers)
    results = {"medians": medians, "ratios": ratios, "missing": missing}
    report.publish(results, [_median_table(medians, missing), _ratio_table(ratios)], as_json=as_json)


Samples = dict[tuple[int, str], list[Sample]]
"""By page size and engine, one sample a round."""


def measure(
    engines: Mapping[str, Opener], page_sizes: Sequence[int], work: Work, *, rounds: int, scratch: Path
) -> Samples:
    """All rounds: in each every engine once at every page size, in an order of its own."""
    samples: Samples = {(page_size, name): [] for page_size in page_sizes for name in engines}
    shuffle = random.Random(3).shuffle
    for number in range(1, rounds + 1):
        progress(f"round {number} of {rounds}")
        order = list(samples)
        shuffle(order)
        for page_size, name in order:
            with scratch_folder(scratch) as home:
                open_driver = partial(engines[name], home / "bench.db", page_size)
                samples[page_size, name].append(run_round(open_driver, work))
    return samples


def run_round(open_driver: Callable[[], Driver], work: Work) -> Sample:
    """Fill a new database, then read it through fresh connections, whose cache is empty."""
    bulk_s, settled_s, commits_s = _write(open_driver(), work)
    cold_reads_s = _read_cold(open_driver(), work)
    scan_s, warm_reads_s = _scan_then_read(open_driver(), work)
    return Sample(
        bulk_rows_per_s=len(work.rows) / bulk_s,
        settled_rows_per_s=len(work.rows) / settled_s,
        commit_p50_ms=median(commits_s) * 1e3,
        warm_read_p50_us=median(warm_reads_s) * 1e6,
        cold_read_p50_us=median(cold_reads_s) * 1e6,
        cold_scan_ms=scan_s * 1e3,
    )


def _write(driver: Driver, work: Work) -> tuple[float, float, list[float]]:
    driver.define(SCHEMA)
    bulk_s = seconds(driver.insert_together, work.rows)
    settled_s = bulk_s + seconds(driver.clear_log)
    commits_s = [seconds(driver.insert_durably, row) for row in work.later]
    driver.clear_log()
    driver.close()
    return bulk_s, settled_s, commits_s


def _read_cold(driver: Driver, work: Work) -> list[float]:
    driver.query(READ_SCHEMA)
    reads_s = _read_each(driver, work)
    driver.close()
    return reads_s


def _scan_then_read(driver: Driver, work: Work) -> tuple[float, list[float]]:
    """A scan of the table, after which all of it is in SQLite's cache; then reads that find it there."""
    driver.query(READ_SCHEMA)
    start = perf_counter()
    ((count, _),) = driver.query(SCAN)
    scan_s = perf_counter() - start
    if count != len(work.rows) + len(work.later):
        raise RuntimeError(f"{count} rows came back of {len(work.rows) + len(work.later)}")
    _read_each(driver, work)
    reads_s = _read_each(driver, work)
    driver.close()
    return scan_s, reads_s


def _read_each(driver: Driver, work: Work) -> list[float]:
    return [seconds(driver.query, READ, (row_id,)) for row_id in work.spread_ids()]


# The report


def summarise(samples: Samples, peers: Iterable[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Medians of each engine, and the median over rounds of how many times as fast as each peer ours was."""
    medians = [
        {
            "page_size": page_size,
            "engine": name,
            **{measure: round(median(getattr(sample, measure) for sample in rounds), 4) for measure in LABELS},
        }
        for (page_size, name), rounds in samples.items()
    ]
    sizes = dict.fromkeys(page_size for page_size, _ in samples)
    ratios = [
        _ratios(page_size, samples, ours=ours, peer=peer) for page_size in sizes for ours in OURS for peer in peers
    ]
    return medians, ratios


def _ratios(page_size: int, samples: Samples, *, ours: str, peer: str) -> dict[str, Any]:
    rounds = list(zip(samples[page_size, ours], samples[page_size, peer], strict=True))
    faster = {
        measure: median(_speed(our, measure) / _speed(their, measure) for our, their in rounds) for measure in LABELS
    }
    return {
        "page_size": page_size,
        "ours": ours,
        "peer": peer,
        "times_as_fast": {measure: round(ratio, 3) for measure, ratio in faster.items()},
        "times_the_time": {measure: round(1 / ratio, 3) for measure, ratio in faster.items()},
    }


def _speed(sample: Sample, measure: str) -> float:
    value: float = asdict(sample)[measure]
    return value if measure.endswith("_per_s") else 1 / value


def _median_table(medians: Sequence[Mapping[str, Any]], missing: Sequence[str]) -> Table:
    left_out = f" (not installed: {', '.join(missing)})" if missing else ""
    drawn = table(f"Medians over rounds{left_out}", "engine", "page\nbytes", *LABELS.values())
    for row in sorted(medians, key=lambda row: row["page_size"]):
        drawn.add_row(row["engine"], str(row["page_size"]), *(figure(row[measure]) for measure in LABELS))
    return drawn


def _ratio_table(ratios: Sequence[Mapping[str, Any]]) -> Table:
    """Against a cipher, how many times as fast ours is; against the clear, how many times the time it takes."""
    drawn = table("Ours beside each peer, median of the rounds' ratios", "ratio", "page\nbytes", *LABELS.values())
    for row in ratios:
        kind = "times_as_fast" if row["peer"] in CIPHERS else "times_the_time"
        words = "times as fast as" if row["peer"] in CIPHERS else "times the time of"
        figures = (f"{row[kind][measure]:.2f}" for measure in LABELS)
        drawn.add_row(f"{row['ours']}: {words} {row['peer']}", str(row["page_size"]), *figures)
    return drawn
