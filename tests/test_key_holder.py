"""After a forget, the holder of the keys finds nothing: not in free pages, log frames, the hot tier, backups or exports."""

import io
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import aico
from aico.testing import PASSPHRASE, FixedClock, HashEmbedder, cheap_settings
from tests.independent import decryptor

NOON = datetime(2026, 5, 8, 12, 0, tzinfo=UTC)
CANARY = "the parrot knows the combination of the safe"
NEEDLE = b"parrot"


@pytest.fixture
def open_again(tmp_path, monkeypatch):
    for name in (
        "ai.memory.indexes.SNAPSHOT_FROM",
        "ai.memory.indexes.SNAPSHOT_EVERY",
        "analytics.view.SNAPSHOT_EVERY",
    ):
        monkeypatch.setattr(f"aico.{name}", 1)

    def opened():
        settings = cheap_settings(clock=FixedClock(NOON), embedder=HashEmbedder())
        return aico.open(tmp_path / "vault", passphrase=PASSPHRASE, settings=settings)

    return opened


def fill(vault) -> str:
    """The canary in every place where content may lie, among memories that stay; the id of its message."""
    memory = vault.memory
    kept = memory.record("nell", "an ordinary day in May", conversation="days", at=NOON - timedelta(days=9))
    canary = memory.record("nell", CANARY, conversation="secret", at=NOON, source_id="s1")
    memory.record("nell", "and what did it say", conversation="secret", at=NOON + timedelta(hours=1))
    memory.remember("nell", CANARY + ", says Nell", source=canary, valid_from=NOON)
    vault.album.note("nell", canary, f"note: {CANARY}")
    vault.album.note("nell", kept, f"elsewhere: {CANARY}")
    vault.album.tag("nell", canary, "parrot")
    vault.feedback.record("nell", "rating", "quality", message=canary, payload={"why": CANARY})
    vault.feedback.record("nell", "survey", "open", payload={"answer": f'"{CANARY}"\n'}, is_sensitive=True)
    vault.preferences.set("nell", "companion.topic", CANARY)
    vault.items.put("nell", ("app",), "goes with it", {"mood": "curious"}, texts=[CANARY], memory=canary)
    vault.items.put(
        "nell", ("app", "notes"), "quotes it", {"said": [f"He said {CANARY}."]}, texts=[f"He said {CANARY}."]
    )
    assert len(vault.items.search("nell", "parrot")) == 2
    with vault.connection.transaction():
        vault.connection.execute("UPDATE conversations SET title = ? WHERE name = 'days'", (f"Of how {CANARY}",))
    vault.logs.insert_log(level="INFO", message=f"heard: {CANARY}", extra={"said": CANARY})
    memory.recent("nell", "secret")
    assert NEEDLE.decode() in memory.context("nell", "the combination of the safe", conversation="secret").as_text()
    vault.views.wait()
    keep_index(vault)
    keep_columns(vault)
    return canary


def keep_columns(vault) -> None:
    """Have analytics read all tables and keep them."""
    if find_spec("duckdb"):
        counts = ", ".join(f"(SELECT count(*) FROM {table})" for table in vault.analytics.tables())
        vault.analytics.sql("nell", f"SELECT {counts}")


def keep_index(vault) -> None:
    """Have the recall index written down, as the background does when nobody waits."""
    user_id = vault.users.find("nell")
    vault.indexes.current(user_id)
    vault.indexes.sweep([user_id])


def places_holding_it(folder: Path, needles: list[bytes], vectors: list[bytes]) -> set[str]:
    """Where the canary or a vector made of it lies in a closed vault, every page opened with its keys."""
    found = set()

    def look(place: str, content: bytes) -> None:
        found.update({place} if any(needle in content for needle in needles) else ())
        found.update({f"{place}: vector"} if any(vector in content for vector in vectors) else ())

    look("pages", decryptor.open_vault(folder, PASSPHRASE).serialize())
    for values in decryptor.hot_tier(folder, PASSPHRASE).values():
        for _, content in values:
            look("hot tier", content)
    [user_id] = decryptor.open_vault(folder, PASSPHRASE).execute("SELECT id FROM users").fetchone()
    for path in (folder / "data" / "index").iterdir():
        look("snapshot", decryptor.snapshot(folder, PASSPHRASE, user_id, path.read_bytes()))
    for path in (folder / "data" / "duckdb").glob("*"):
        look("columns", arrow_rows(decryptor.columns(folder, PASSPHRASE, user_id, path.read_bytes())))
    for path in (path for path in folder.rglob("*") if path.is_file()):
        look(f"file {path.name}", path.read_bytes())
    return found


def arrow_rows(kept: bytes) -> bytes:
    """All values of the tables in a file of columns, their bytes as they are."""
    import pyarrow

    at, values = 4 + int.from_bytes(kept[:4], "big"), list[object]()
    for size in json.loads(kept[4:at])["sizes"].values():
        for row in pyarrow.ipc.open_stream(kept[at : at + size]).read_all().to_pylist():
            values += row.values()
        at += size
    return b"|".join(one if isinstance(one, bytes) else str(one).encode() for one in values)


def copies(vault, folder: Path) -> Iterator[tuple[str, bytes]]:
    """The frames of the log as they lie on the disk now, a new backup and a new export."""
    shutil.copytree(vault.folder, folder)
    for _, page in decryptor.log_frames(folder, PASSPHRASE):
        yield "log frame", page
    made = vault.backups.create(folder / "elsewhere", full=True)
    yield "backup", decryptor.full_backup(made.path.read_bytes(), PASSPHRASE)[1].serialize()
    export = io.BytesIO()
    vault.export(export, "nell")
    yield "export", export.getvalue()


def vectors_telling_of_it(vault) -> list[bytes]:
    """The canary's vectors, and those of its neighbour, which was embedded with the turn before it."""
    kept = [row["id"] for row in vault.connection.fetch_all("SELECT id FROM messages WHERE text LIKE 'an ordinary%'")]
    rows = vault.connection.fetch_all("SELECT owner_id, vector FROM embeddings")
    return [row["vector"] for row in rows if row["owner_id"] not in kept and len(row["vector"])]


@pytest.mark.parametrize(
    "selector",
    [
        {"id": "the canary's"},
        {"about": "parrots safe"},
        {"conversation": "secret"},
        {"since": NOON - timedelta(hours=1), "until": NOON + timedelta(hours=1)},
        {"everything": True},
    ],
    ids=lambda selector: next(iter(selector)),
)
def test_the_holder_of_the_keys_finds_the_canary_before_and_nothing_after(open_again, tmp_path, selector):
    with open_again() as vault:
        canary = fill(vault)
        vectors = vectors_telling_of_it(vault)
        assert len(vectors) == 3  # the message, its fact, the turn that follows
        vectors += [row["vector"] for row in vault.connection.fetch_all("SELECT vector FROM item_vectors")]
        assert len(vectors) == 5
        before = {place for place, content in copies(vault, tmp_path / "before") if NEEDLE in content}
    assert before == {"log frame", "backup", "export"}
    assert places_holding_it(tmp_path / "vault", [NEEDLE], vectors) == {
        "pages",
        "pages: vector",
        "hot tier",
        "snapshot",
        *(("columns",) if find_spec("duckdb") else ()),
    }

    with open_again() as vault:
        wish = {"id": canary} if "id" in selector else selector
        # What hangs from the chosen memories or quotes them goes by any selector.
        receipt = vault.memory.forget("nell", **wish)
        assert receipt.log_cleared
        assert receipt.verify()
        assert [finding.ok for finding in vault.doctor() if finding.name == "forgotten"] == [True]
        keep_index(vault)
        keep_columns(vault)
        for number, (place, content) in enumerate(copies(vault, tmp_path / "after")):
            assert NEEDLE not in content, (number, place)
            assert not any(vector in content for vector in vectors), (number, place)
    assert places_holding_it(tmp_path / "vault", [NEEDLE], vectors) == set()


def test_the_vectors_are_the_half_precision_floats_that_were_made(open_again):
    with open_again() as vault:
        fill(vault)
        fact = HashEmbedder().embed([CANARY + ", says Nell"])[0].astype(np.float16).tobytes()
        assert fact in vectors_telling_of_it(vault)
