"""A thief with the raw disk: nothing readable in any block, deleted ones too, whatever spilled when the process was killed.

On an ext4 disk of its own, as a file, where the machine lets us mount one; elsewhere in every file that is left. The
control writes the same rows in the clear, to the same disk, and must be found.
"""

import mmap
import os
import random
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from aico.data.libsql.sealed import temporary
from tests.children import started
from tests.data.libsql.cases import CANARY, sealed

ROWS, TEXT = 4000, CANARY + " and what follows it " + "x" * 700
NEEDLES = [CANARY.encode(coding) for coding in ("utf-8", "utf-16-le", "utf-16-be")]
WORK = {
    "a sort": "SELECT count(*) FROM (SELECT text FROM rows ORDER BY text || 'y' DESC LIMIT -1 OFFSET 1)",
    "an index": "CREATE INDEX by_text ON rows (text)",
    "VACUUM": "VACUUM",
    "a statement's journal": "UPDATE rows SET text = text || '!', number = number + 1000000",
    "a temporary table": "CREATE TEMP TABLE aside AS SELECT text || 'z' FROM rows",
}


@contextmanager
def disk_of_its_own(folder: Path, size_mib: int) -> Iterator[tuple[Path, Path | None]]:
    """(an empty folder, the raw image of the disk below it); the image is None where nothing can be mounted."""
    image, place = folder / "disk.img", folder / "disk"
    place.mkdir()
    image.touch()
    os.truncate(image, size_mib * 1024 * 1024)
    mounted = os.geteuid() == 0 and all(
        subprocess.run(command, capture_output=True, check=False).returncode == 0
        for command in (["mkfs.ext4", "-q", str(image)], ["mount", "-o", "loop", str(image), str(place)])
    )
    try:
        yield place, image if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(place)], check=True)


def hits(place: Path, image: Path | None) -> int:
    """How often the canary can be read, in the raw image or else in the files."""
    os.sync()
    files = [image] if image else [path for path in place.rglob("*") if path.is_file() and path.stat().st_size]
    found = 0
    for path in files:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for needle in NEEDLES:
                at = content.find(needle)
                while at >= 0:
                    found, at = found + 1, content.find(needle, at + 1)
    return found


def spill(path: str, what: str, after: int) -> None:
    """For a child: work that outgrows cache and memory, killed by kill -9 after so many calls of the progress handler."""
    temporary.MEMORY_MAX_BYTES = 16 * temporary.BLOCK_BYTES
    tempfile.tempdir = str(Path(path).parent)
    connection, calls = sealed(path, page_cache_kib=64), 0
    writer = connection._writing.connection

    def count() -> bool:
        nonlocal calls
        calls += 1
        if calls == after:
            os.kill(os.getpid(), 9)
        return False

    if what == "a statement's journal":
        writer.execute("BEGIN IMMEDIATE; UPDATE rows SET text = text || '?' WHERE number = 0")
    writer.set_progress_handler(count, 1000)
    writer.execute(WORK[what]).fetchall()
    print(calls, flush=True)
    os.kill(os.getpid(), 9)


def fill(path: Path) -> None:
    with sealed(path) as connection:
        connection.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, text TEXT)")
        connection.execute_many(
            "INSERT INTO rows VALUES (?, ?)", ((n, f"{n * 7919 % ROWS:05} {TEXT}") for n in range(ROWS))
        )


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nothing_readable_is_on_the_raw_disk_after_kills_in_the_middle_of_everything_that_spills(tmp_path):
    chance, kills = random.Random(1), 0
    with disk_of_its_own(tmp_path, 200) as (place, image):
        path = place / "aico.db"
        fill(path)
        for what in WORK:
            with started(spill, str(path), what, 0) as child:
                calls = int(child.line())
                child.process.wait()
            for _ in range(4):
                with started(spill, str(path), what, chance.randrange(1, calls + 1)) as child:
                    child.process.wait()
                kills += 1
        with sealed(path) as connection:
            connection.verify()
        assert hits(place, image) == 0
        clear = apsw.Connection(str(place / "control.db"))
        clear.execute("CREATE TABLE rows (text TEXT)")
        clear.executemany("INSERT INTO rows VALUES (?)", ((TEXT,) for _ in range(100)))
        clear.close()
        (place / "control.db").unlink()
        assert hits(place, image) >= 100 or image is None  # deleted, and still in the image's blocks
    print(f"\n{kills} kills, searched {'the raw image' if image else 'the files alone: nothing can be mounted here'}")
