"""Speed of recall by words and meaning together, the question's vector given, and the memory it takes."""

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import numpy.typing as npt
from rich.table import Table

import aico
from aico.ai.embedding import Embedder
from aico.ai.memory.index import Filter, Meaning
from aico.ai.memory.index.vectors import fixed_point
from aico.ai.memory.semantic import SemanticMemoryStore
from aico.testing import cheap_settings
from bench import _chroma
from bench._report import (
    Report,
    figure,
    folder_option,
    json_option,
    percentile,
    progress,
    resident_mb,
    scratch_folder,
    seconds,
    table,
)

USER, PASSPHRASE = "mia", "only a benchmark"
DIMENSION, SUBJECTS, COMMON_PART = 384, 400, 0.85
LIMIT, SITTING, STATEMENT_WORDS = 10, 20, 25
WRITERS, WRITES_PER_S, WORDS_MADE = 2, 50, 20_000
START = datetime(2023, 5, 8, 9, 0, tzinfo=UTC)
FUNCTION_WORDS = ["the", "a", "and", "to", "of", "in", "it", "is", "was", "that", "for", "on", "with", "my"]
SYLLABLES = [first + last for first in "bdfgklmnprstv" for last in ("a", "e", "i", "o", "u", "an", "er", "il")]


class StandIn:
    """Unit vectors as a model would give them: a large part common to all, a subject, and something of their own."""

    id, dimension, window, query_prefix, passage_prefix = "stand-in", DIMENSION, 512, "", ""

    def __init__(self) -> None:
        draws = np.random.default_rng(0)
        self._common = _unit(draws.standard_normal(DIMENSION))
        self._subjects = _unit(draws.standard_normal((SUBJECTS, DIMENSION)))

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.array([self._vector(text) for text in texts], np.float32)

    def _vector(self, text: str) -> npt.NDArray[np.floating]:
        seed = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
        own = _unit(np.random.default_rng(seed).standard_normal(DIMENSION))
        apart = _unit(self._subjects[seed % SUBJECTS] + own)
        vector: npt.NDArray[np.floating] = _unit(COMMON_PART * self._common + np.sqrt(1 - COMMON_PART**2) * apart)
        return vector


@click.command("recall")
@click.option(
    "--n",
    "counts",
    type=click.IntRange(min=100),
    multiple=True,
    default=(100_000,),
    help="Messages of one person; may be given several times.",
)
@click.option("--questions", type=click.IntRange(min=1), default=300, help="Questions asked.")
@click.option(
    "--arrivals",
    type=click.IntRange(min=1),
    default=100,
    help="Messages whose way from one process to another is timed.",
)
@click.option("--peer-most", type=int, default=100_000, help="Chroma is measured up to this size.")
@folder_option
@json_option
def command(
    counts: tuple[int, ...], questions: int, arrivals: int, peer_most: int, folder: Path | None, as_json: bool
) -> None:
    """How fast is a hybrid recall, and what does its index take?"""
    with scratch_folder(folder) as scratch:
        report = Report.begin(
            "recall", folder=scratch, n=list(counts), questions=questions, dimension=DIMENSION, limit=LIMIT
        )
        sizes = [_one_size(scratch / str(count), count, questions, arrivals, peer_most) for count in counts]
    missing = [] if _chroma.is_installed() else ["chromadb"]
    report.publish({"sizes": sizes, "missing": missing}, [_table(sizes)], as_json=as_json)


def _one_size(place: Path, count: int, questions: int, arrivals: int, peer_most: int) -> dict[str, Any]:
    vault_folder = place / "vault"
    results: dict[str, Any] = {"n": count, **fill(vault_folder, count)}
    for name, work in (("built", build), ("opened", open_again)):
        progress(f"{count:,}: {name}")
        results[name] = _alone(work, vault_folder)
    progress(f"{count:,}: asking, nobody writes")
    results |= _alone(measure, vault_folder, questions)
    progress(f"{count:,}: asking, {WRITERS} processes write")
    with _writers(vault_folder):
        results["while written"] = _alone(measure, vault_folder, questions, words=False)["hybrid"]
    progress(f"{count:,}: from one process to another")
    results["arrival"] = _alone(arrive, vault_folder, arrivals)
    if _chroma.is_installed() and count <= peer_most:
        progress(f"{count:,}: Chroma")
        results["chroma"] = _alone(_ask_chroma, vault_folder, place / "chroma", questions)
    return results


def fill(vault_folder: Path, count: int) -> dict[str, Any]:
    """Record everything and make its vectors."""
    with _open(vault_folder) as vault:
        progress(f"recording {count:,} messages")
        made, record_s = messages(count), 0.0
        for first in range(0, count, 10_000):
            some = [next(made) for _ in range(min(10_000, count - first))]
            record_s += seconds(vault.memory.record_many, USER, some)
        progress("making vectors")
        embed_s = seconds(vault.embeddings.catch_up)
    return {"recorded_per_s": round(count / record_s), "embedded_per_s": round(count / embed_s)}


def build(vault_folder: Path) -> dict[str, float]:
    """The first recall ever, the codes, and the snapshot."""
    with _open(vault_folder) as vault:
        user_id = _user_of(vault)
        first_s = seconds(vault.indexes.current, user_id)
        code_s = seconds(vault.indexes.current(user_id).code_vectors)
        keep_s = seconds(vault.indexes.sweep, [user_id])
        snapshot = vault.indexes.files.path(user_id)
        size_mb = snapshot.stat().st_size / 1e6 if snapshot.exists() else 0.0
    return {
        "build_s": round(first_s, 3), "code_s": round(code_s, 3), "keep_s": round(keep_s, 3), "snapshot_mb": round(size_mb, 1)
    }  # fmt: skip


def open_again(vault_folder: Path) -> dict[str, float]:
    """From a vault just opened to its first answer, in a process that has imported what it needs; and memory after it."""
    model = StandIn()
    with _open(vault_folder) as vault:
        asked = asked_of(vault, 1)[0]
        meaning = _meaning(model, asked)
        _import_all(meaning)
        before = resident_mb()
        user_id, start = _user_of(vault), time.perf_counter()
        index = vault.indexes.current(user_id)
        opened_s = time.perf_counter() - start
        vault.memory._semantic.search(user_id, asked, limit=LIMIT, where=Filter(), meaning=meaning)
        first_s = time.perf_counter() - start
        return {
            "index_ms": round(opened_s * 1000, 1), "first_recall_ms": round(first_s * 1000, 1),
            "memory_mb": round(resident_mb() - before, 1), "codes": index.coded_count,
        }  # fmt: skip


def measure(vault_folder: Path, questions: int, *, words: bool = True) -> dict[str, Any]:
    """Times of the whole recall and of the index alone, by words and meaning and by words; and how exact it is."""
    model = StandIn()
    with _open(vault_folder) as vault:
        user_id, store = _user_of(vault), vault.memory._semantic  # below the door: only here a vector is given
        index = vault.indexes.current(user_id)
        index.code_vectors()
        asked = [(question, _meaning(model, question)) for question in asked_of(vault, questions)]
        results: dict[str, Any] = {"hybrid": _times(store, user_id, asked)}
        if words:
            by_words = [seconds(lambda q=question: index.search(q, limit=LIMIT)) * 1000 for question, _ in asked]
            results["words"] = {f"index_p{p}_ms": round(percentile(by_words, p), 3) for p in (50, 95)}
            results["recall@10"] = round(_exactness(index, [meaning for _, meaning in asked]), 4)
    return results


def arrive(vault_folder: Path, count: int) -> dict[str, float]:
    """How long from the call of `record` in another process until a recall in this one finds the message."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    writer = multiprocessing.get_context("spawn").Process(target=_record_when_told, args=(vault_folder, theirs))
    writer.start()
    took_ms = []
    with _open(vault_folder) as vault:
        user_id, store = _user_of(vault), vault.memory._semantic
        vault.indexes.current(user_id)
        ours.recv()  # it has opened the vault
        for number in range(count):
            marker = f"marker{number}x{int(time.time())}"
            ours.send(marker)
            while True:
                hits = store.search(user_id, marker, limit=1, where=Filter(), meaning=None)
                if hits and marker in hits[0].text:
                    break
            found = time.monotonic()
            took_ms.append((found - ours.recv()) * 1000)
            time.sleep(0.02)
        ours.send(None)
    writer.join()
    return {"p50_ms": round(percentile(took_ms, 50), 2), "p95_ms": round(percentile(took_ms, 95), 2)}


def _record_when_told(vault_folder: Path, pipe: Connection) -> None:
    with _open(vault_folder) as vault:
        pipe.send("ready")
        while (marker := pipe.recv()) is not None:
            began = time.monotonic()  # one clock for all processes of a machine
            vault.memory.record(USER, f"Remember {marker}.", conversation="arrivals")
            pipe.send(began)


def _times(store: SemanticMemoryStore, user_id: bytes, asked: Sequence[tuple[str, Meaning]]) -> dict[str, float]:
    recall_ms, index_ms = list[float](), list[float]()
    for question, meaning in asked:
        start = time.perf_counter()
        store.search(user_id, question, limit=LIMIT, where=Filter(), meaning=meaning)
        between = time.perf_counter()
        index = store.indexes.current(user_id)
        ready = time.perf_counter()
        index.search(question, limit=LIMIT, meaning=meaning)
        recall_ms.append((between - start) * 1000)
        index_ms.append((time.perf_counter() - ready) * 1000)
    named = (("recall", recall_ms), ("index", index_ms))
    return {f"{name}_p{p}_ms": round(percentile(ms, p), 3) for name, ms in named for p in (50, 95)}


def _exactness(index: Any, meanings: Sequence[Meaning]) -> float:
    """How many of the exact ten nearest are among the ten nearest that the codes and rows find."""
    table = index._vectors
    found, codes = [_ten(table, meaning) for meaning in meanings], table._codes
    table._codes = None  # every row is compared then
    exact = [_ten(table, meaning) for meaning in meanings]
    table._codes = codes
    return float(np.mean([len(a & b) / LIMIT for a, b in zip(found, exact, strict=True)]))


def _ten(table: Any, meaning: Meaning) -> set[int]:
    documents, cosines = table.nearest(meaning.question, 100, None)
    return set(documents[np.argsort(-cosines)[:LIMIT]].tolist())


@contextmanager
def _writers(vault_folder: Path) -> Iterator[None]:
    """Some processes that record, each at a steady pace, until the block ends."""
    context = multiprocessing.get_context("spawn")
    ended = context.Event()
    processes = [context.Process(target=_write_until, args=(vault_folder, ended, number)) for number in range(WRITERS)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        ended.set()
        for process in processes:
            process.join()


def _write_until(vault_folder: Path, ended: Any, number: int) -> None:
    with _open(vault_folder) as vault:
        made = messages(1_000_000)
        while not ended.wait(1 / WRITES_PER_S):
            vault.memory.record(USER, next(made).text, conversation=f"writer {number}")


def _ask_chroma(vault_folder: Path, folder: Path, questions: int) -> dict[str, Any]:
    model = StandIn()
    with _open(vault_folder) as vault:
        asked = asked_of(vault, questions)
        rows = vault.connection.fetch_all("SELECT vector FROM embeddings WHERE dimension > 0 ORDER BY row_id")
        vectors = (
            np.frombuffer(b"".join(row["vector"] for row in rows), "<f2").reshape(-1, DIMENSION).astype(np.float32)
        )
    asked_vectors = model.embed(asked)
    whole = fixed_point(vectors).astype(np.float32)
    exact = [np.argsort(-(whole @ question))[:LIMIT].tolist() for question in asked_vectors]
    return _chroma.measure(folder, vectors, asked_vectors, exact)


def messages(count: int) -> Iterator[aico.Message]:
    """Made-up turns of two people, the same for every run."""
    draws = np.random.default_rng(1)
    words = np.array(["".join(draws.choice(SYLLABLES, draws.integers(2, 4))) for _ in range(WORDS_MADE)])
    weights = 1 / np.arange(1, len(words) + 1)
    weights /= weights.sum()
    half = STATEMENT_WORDS // 2
    for sitting in range(-(-count // SITTING)):
        content = draws.choice(words, (SITTING, half), p=weights).tolist()
        function = draws.choice(FUNCTION_WORDS, (SITTING, half)).tolist()
        for turn in range(min(SITTING, count - sitting * SITTING)):
            pairs = zip(function[turn], content[turn], strict=True)
            yield aico.Message(
                " ".join(word for pair in pairs for word in pair).capitalize() + ".",
                role="assistant" if turn % 2 else "user",
                conversation=f"c{sitting // 10}",
                speaker="Bo" if turn % 2 else "Mia",
                at=START + timedelta(hours=5 * sitting, minutes=turn),
            )


def asked_of(vault: aico.Vault, count: int) -> list[str]:
    """Questions: five content words of a message each."""
    rows = vault.connection.fetch_all("SELECT text FROM messages ORDER BY id LIMIT ?", (count,))
    return [f"What about {' '.join(row['text'].lower().strip('.').split()[1:11:2])}?" for row in rows]


def _meaning(model: StandIn, question: str) -> Meaning:
    vector, *strangers = model.embed([question, "a", "b", "c"])
    return Meaning.of(vector, np.array(strangers))


def _import_all(meaning: Meaning) -> None:
    """Have the libraries loaded and NumPy's lazy parts touched: what importing costs is not asked here."""
    from aico.ai.memory.index import Document, RecallIndex
    from aico.ai.memory.index.codes import can_code

    can_code(dimension=DIMENSION)
    tiny = RecallIndex()
    tiny.add([Document(row=1, id=b"i" * 16, kind="fact", text="a word", at_us=0)])
    tiny.search("a word", meaning=meaning)


def _alone(work: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
    """What `work` returns, run in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return cast(dict[str, Any], pool.submit(work, *arguments, **options).result())


def _user_of(vault: aico.Vault) -> bytes:
    user_id = vault.users.find(USER)
    assert user_id is not None
    return user_id


def _open(vault_folder: Path) -> aico.Vault:
    model: Embedder = StandIn()
    return aico.open(vault_folder, passphrase=PASSPHRASE, settings=replace(cheap_settings(), embedder=model))


def _unit(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def _table(sizes: Sequence[dict[str, Any]]) -> Table:
    drawn = table("Recall, the question's vector given", "figure", *(f"{size['n']:,} messages" for size in sizes))
    groups = ("hybrid", "words", "while written", "opened", "built", "arrival", "chroma")
    flat = [
        {name: value for name, value in size.items() if not isinstance(value, dict)}
        | {f"{group}: {name}": value for group in groups for name, value in size.get(group, {}).items()}
        for size in sizes
    ]
    for name in dict.fromkeys(name for size in flat for name in size if name != "n"):
        drawn.add_row(name, *(figure(size.get(name)) for size in flat))
    return drawn
