"""Databases for the tests of this folder, and how the same answer is told from a wrong one."""

import os
from collections.abc import Callable
from pathlib import Path

import apsw

from aico.data.libsql import EncryptedLibSQLConnection

KEY, OTHER_KEY = bytes(range(32)), b"another key of thirty-two bytes!"
CANARY = "canary-in-the-coal-mine-0123456789"


def sealed(path: Path | str, key: bytes = KEY, **options) -> EncryptedLibSQLConnection:
    """A sealed database."""
    return EncryptedLibSQLConnection(path, key, **options)


def text_of(number: int) -> str:
    """The text that row `number` always has."""
    return f"{number}: {CANARY} " + chr(ord("a") + number % 26) * (number * 37 % 700)


def add_rows(connection: EncryptedLibSQLConnection, numbers: range) -> None:
    """One commit for each row."""
    for number in numbers:
        connection.execute("INSERT INTO rows (number, text) VALUES (?, ?)", (number, text_of(number)))


def make(path: Path | str, rows: int, key: bytes = KEY) -> None:
    """A database with rows 0 … `rows` - 1, closed cleanly."""
    with sealed(path, key) as connection:
        connection.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, text TEXT NOT NULL)")
        connection.execute("CREATE INDEX rows_by_text ON rows (text)")
        connection.execute_many("INSERT INTO rows VALUES (?, ?)", ((number, text_of(number)) for number in range(rows)))


def killed_while_open(path: str, first: int, last: int) -> None:
    """For a child: add rows, then die by kill -9 with all of them in the WAL. Prints the WAL's size after each commit."""
    connection = sealed(path)
    for number in range(first, last):
        add_rows(connection, range(number, number + 1))
        print(os.stat(f"{path}-wal").st_size, flush=True)
    os.kill(os.getpid(), 9)


def count_if_right(connection: EncryptedLibSQLConnection) -> int:
    """How many rows there are; AssertionError unless they are exactly the first ones, by table and by index."""
    rows = [tuple(row) for row in connection.fetch_all("SELECT number, text FROM rows ORDER BY number")]
    assert rows == [(number, text_of(number)) for number in range(len(rows))], "a wrong value"
    by_index = connection.fetch_all("SELECT number FROM rows INDEXED BY rows_by_text WHERE text > '' ORDER BY text")
    assert sorted(number for (number,) in by_index) == list(range(len(rows))), "a wrong index"
    return len(rows)


def copy_beside_a_reader(
    connection: EncryptedLibSQLConnection, tell: Callable[[int], object] = lambda count: None
) -> None:
    """A checkpoint that ends before the log does, because a reader still needs the older pages.

    A row more for a while; `tell` gets the count of rows after each commit.
    """
    with connection._readers.borrow() as reader:
        cursor = reader.execute("SELECT number FROM rows")
        next(cursor)
        number = connection.fetch_all("SELECT count(*) FROM rows")[0][0]
        add_rows(connection, range(number, number + 1))
        tell(number + 1)
        frames, copied = connection._writing.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        assert 0 < copied < frames
        cursor.close()
    connection.execute("DELETE FROM rows WHERE number = ?", (number,))
    tell(number)


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, byte for byte. Only while nothing has them open."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def put_back(folder: Path, files: dict[str, bytes]) -> None:
    """Make the folder's files exactly these."""
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if str(path.relative_to(folder)) not in files:
            path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)
