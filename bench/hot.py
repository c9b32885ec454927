"""The hot tier beside diskcache and Redis: how long does it take to keep one more turn, and to read the last twenty?

All keep the same sealed bytes for the same turns, in the same minutes: a put to each, a read from
each. Then the same two steps through a whole vault, where the hot tier must be in step with the
truth before it answers.
"""

import hashlib
import os
import shutil
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import sleep
from typing import Any

import click
import msgspec
from rich.table import Table

import aico
from aico.clock import SystemClock
from aico.data.lmdb import SealedStore, SealedTransaction
from aico.security.envelope import Sealer
from aico.security.keys import ValueKey
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

TEXT = "On the way home we talked about the garden, and which of the old apple trees should stay. "
PAGE, RECENT, TTL_S = 8, 20, 86_400.0
TABLE, NEWEST = "bench", b"\xff" * 8
Turn = tuple[bytes, str, str, int, str]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Turn]).decode
_decode_page = msgspec.msgpack.Decoder(tuple[int, list[Turn]]).decode


@click.command("hot")
@click.option("--turns", type=click.IntRange(min=100), default=6000, help="Turns to put, with one read each.")
@click.option("--conversations", type=click.IntRange(min=1), default=200, help="Conversations that share them.")
@click.option("--records", type=click.IntRange(min=50), default=1000, help="Messages recorded into a whole vault.")
@folder_option
@json_option
def command(turns: int, conversations: int, records: int, folder: Path | None, as_json: bool) -> None:
    """Puts and reads of the last 20 turns, sealed, beside diskcache."""
    with scratch_folder(folder) as scratch:
        report = Report.begin("hot", folder=scratch, turns=turns, conversations=conversations, records=records)
        progress("the hot tier's store and diskcache, interleaved")
        engines, missing = _engines(scratch)
        results: dict[str, Any] = {"engines": _interleaved(engines, turns, conversations), "missing": missing}
        for engine in engines.values():
            engine.close()
        progress("a whole vault")
        results["vault"] = _vault(scratch / "vault", records)
    report.publish(results, [_drawn("Store", results["engines"]), _drawn("Vault", results["vault"])], as_json=as_json)


class HotTier:
    """Pages of eight turns in our sealed store, as working memory keeps them."""

    def __init__(self, folder: Path) -> None:
        key = ValueKey(os.urandom(32))
        self._store = SealedStore(
            folder, lambda: {1: key}, newest=lambda: 1, tables=(TABLE,), clock=SystemClock(), size_limit_bytes=1 << 28
        )

    def put(self, conversation: str, turn: Turn) -> None:
        def work(found: SealedTransaction) -> None:
            prefix = found.prefix((conversation,))
            value = found.get(TABLE, prefix + NEWEST)
            number, page = _decode_page(value) if value is not None else (1, [])
            if len(page) >= PAGE:
                found.put(TABLE, prefix + number.to_bytes(8, "big"), _encode((number, page)), ttl_s=TTL_S)
                number, page = number + 1, []
            found.put(TABLE, prefix + NEWEST, _encode((number, [*page, turn])), ttl_s=TTL_S)

        self._store.write(work)

    def recent(self, conversation: str) -> list[Turn]:
        def work(found: SealedTransaction) -> list[Turn]:
            turns: list[Turn] = []
            prefix = found.prefix((conversation,))
            for _, value in found.newest_first(TABLE, prefix):
                turns = (_decode_page(value)[1] if value is not None else []) + turns
                if len(turns) >= RECENT:
                    break
            return turns[-RECENT:]

        return self._store.read(work)

    def close(self) -> None:
        self._store.close()


class DiskCache:
    """The last twenty turns of a conversation as one sealed value: the fewest calls it can be done with."""

    def __init__(self, folder: Path) -> None:
        from diskcache import Cache

        self._cache, self._sealer = Cache(str(folder)), Sealer({1: ValueKey(os.urandom(32))})
        self._names = os.urandom(32)

    def put(self, conversation: str, turn: Turn) -> None:
        key = self._key(conversation)
        with self._cache.transact():
            turns = [*self._opened(key), turn][-RECENT:]
            self._cache.set(key, self._sealer.seal(_encode(turns), bound_to=(TABLE, key)), expire=TTL_S)

    def recent(self, conversation: str) -> list[Turn]:
        return self._opened(self._key(conversation))

    def close(self) -> None:
        self._cache.close()

    def _key(self, conversation: str) -> bytes:
        return hashlib.blake2b(conversation.encode(), digest_size=16, key=self._names).digest()

    def _opened(self, key: bytes) -> list[Turn]:
        sealed = self._cache.get(key)
        return [] if sealed is None else _decode(self._sealer.open(sealed, bound_to=(TABLE, key)))


class Redis:
    """The last twenty turns of a conversation as a list of sealed values, on a server of its own behind a local socket."""

    def __init__(self, folder: Path) -> None:
        import redis

        folder.mkdir()
        server = shutil.which("redis-server")
        if server is None:
            raise ImportError("there is no redis-server")
        place = str(folder / "socket")
        command = [server, "--port", "0", "--unixsocket", place, "--save", "", "--dir", str(folder)]
        self._server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self._redis = redis.Redis(unix_socket_path=place)
        for _ in range(200):
            with suppress(redis.ConnectionError):
                self._redis.ping()
                break
            sleep(0.05)
        self._sealer, self._names = Sealer({1: ValueKey(os.urandom(32))}), os.urandom(32)

    def put(self, conversation: str, turn: Turn) -> None:
        key = self._key(conversation)
        steps = self._redis.pipeline(transaction=True)
        steps.rpush(key, self._sealer.seal(_encode([turn]), bound_to=(TABLE, key)))
        steps.ltrim(key, -RECENT, -1)
        steps.expire(key, int(TTL_S))
        steps.execute()

    def recent(self, conversation: str) -> list[Turn]:
        key = self._key(conversation)
        return [_decode(self._sealer.open(one, bound_to=(TABLE, key)))[0] for one in self._redis.lrange(key, 0, -1)]

    def close(self) -> None:
        self._redis.close()
        self._server.terminate()
        self._server.wait()

    def _key(self, conversation: str) -> bytes:
        return hashlib.blake2b(conversation.encode(), digest_size=16, key=self._names).digest()


def _engines(scratch: Path) -> tuple[dict[str, Any], list[str]]:
    engines: dict[str, Any] = {"hot tier": HotTier(scratch / "lmdb")}
    missing = []
    for name, engine in (("diskcache", DiskCache), ("redis", Redis)):
        try:
            engines[name] = engine(scratch / name)
        except ImportError:
            missing.append(name)
    return engines, missing


def _interleaved(engines: dict[str, Any], turns: int, conversations: int) -> dict[str, dict[str, float]]:
    took: dict[tuple[str, str], list[float]] = {(name, what): [] for name in engines for what in ("put", "recent")}
    for number in range(turns):
        conversation = f"conversation {number % conversations}"
        turn = (os.urandom(16), "user", "Mia", number, TEXT)
        for name, engine in engines.items():
            took[name, "put"].append(seconds(engine.put, conversation, turn))
        for name, engine in engines.items():
            took[name, "recent"].append(seconds(engine.recent, conversation))
        answers = [engine.recent(conversation) for engine in engines.values()]
        if any(answer != answers[0] or answer[-1] != turn for answer in answers):
            raise click.ClickException("an engine gave back other turns than were put")
    return {name: _figures({what: took[name, what] for what in ("put", "recent")}) for name in engines}


def _vault(folder: Path, records: int) -> dict[str, dict[str, float]]:
    """`memory.record` with and without the background step that keeps the hot tier warm; `recent` from it and from the truth."""
    took: dict[str, list[float]] = {"record": [], "record, cold": [], "recent": [], "recent, truth": []}
    with aico.open(folder, passphrase="only a benchmark", settings=cheap_settings()) as vault:
        memory, follow = vault.memory, vault.working.follow
        for number in range(records):
            conversation = f"conversation {number % 20}"
            at = datetime.now(UTC)
            for name, step in (("record, cold", _nothing), ("record", follow)):
                vault.working.follow = step  # type: ignore[method-assign]
                took[name].append(seconds(partial(memory.record, conversation=conversation, at=at), "mia", TEXT))
            memory.recent("mia", conversation)
            took["recent"].append(seconds(memory.recent, "mia", conversation))
            took["recent, truth"].append(seconds(_from_the_truth, vault, conversation))
    return {name: _figures({"": times}) for name, times in took.items()}


def _nothing() -> None:
    """In the place of catching up."""


def _from_the_truth(vault: aico.Vault, conversation: str) -> None:
    vault.working._conversations.recent(vault.users.find("mia") or b"", conversation, limit=RECENT)


def _figures(took: dict[str, list[float]]) -> dict[str, float]:
    return {
        f"{what}_p{percent}_us".lstrip("_"): round(percentile(times, percent) * 1e6, 1)
        for what, times in took.items()
        for percent in (50, 99)
    }


def _drawn(title: str, rows: dict[str, dict[str, float]]) -> Table:
    columns = next(iter(rows.values()))
    drawn = table(title, "what", *(column.replace("_", " ") for column in columns))
    for name, figures in rows.items():
        drawn.add_row(name, *map(figure, figures.values()))
    return drawn
