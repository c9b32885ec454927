"""Speed of recall by words and meaning together, the question's vector given, and the memory it takes."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from rich.table import Table

import aico
from aico.ai.embedding import Embedder
from aico.ai.memory.index import Filter, Meaning
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
DIMENSION, SUBJECTS, COMMON_PART = 384, 400, 0.85
LIMIT, SITTING, STATEMENT_WORDS = 10, 20, 25
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
@click.option("--n", "count", type=click.IntRange(min=100), default=100_000, help="Messages of one person.")
@click.option("--questions", type=click.IntRange(min=1), default=300, help="Questions asked.")
@folder_option
@json_option
def command(count: int, questions: int, folder: Path | None, as_json: bool) -> None:
    """How fast is a hybrid recall, and what does its index take?"""
    with scratch_folder(folder) as scratch:
        report = Report.begin("recall", folder=scratch, n=count, questions=questions, dimension=DIMENSION, limit=LIMIT)
        vault_folder = scratch / "vault"
        results = fill(vault_folder, count)
        progress("asking, in a process of its own")
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            results |= pool.submit(measure, vault_folder, questions, meaning=True).result()
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            results |= pool.submit(measure, vault_folder, questions, meaning=False).result()
    report.publish(results, [_table(results)], as_json=as_json)


def fill(vault_folder: Path, count: int) -> dict[str, Any]:
    """Record everything and make its vectors."""
    with _open(vault_folder, StandIn()) as vault:
        progress(f"recording {count:,} messages")
        record_s = seconds(vault.memory.record_many, USER, messages(count))
        progress("making vectors")
        embed_s = seconds(vault.embeddings.catch_up)
    return {"recorded_per_s": round(count / record_s), "embedded_per_s": round(count / embed_s)}


def measure(vault_folder: Path, questions: int, *, meaning: bool) -> dict[str, Any]:
    """Times of the whole recall and of the index alone, and what it takes in memory."""
    model, before = StandIn(), _resident_mb()
    with _open(vault_folder, model if meaning else None) as vault:
        user_id, store = vault.users.find(USER), vault.memory._semantic  # below the door: only here a vector is given
        assert user_id is not None
        start = perf_counter()
        store.catch_up()
        asked = [(question, _meaning(model, question) if meaning else None) for question in asked_of(vault, questions)]
        store.search(user_id, asked[0][0], limit=LIMIT, where=Filter(), meaning=asked[0][1])
        first_s, memory_mb = perf_counter() - start, _resident_mb() - before
        index = store.indexes.current(user_id)
        recall_ms, index_ms = list[float](), list[float]()
        for question, meant in asked:
            recall_ms.append(
                seconds(lambda q, m: store.search(user_id, q, limit=LIMIT, where=Filter(), meaning=m), question, meant)
                * 1000
            )
            index_ms.append(seconds(lambda q, m: index.search(q, limit=LIMIT, meaning=m), question, meant) * 1000)
    name = "hybrid" if meaning else "words"
    return {
        name: {
            "recall_p50_ms": round(percentile(recall_ms, 50), 3),
            "recall_p95_ms": round(percentile(recall_ms, 95), 3),
            "index_p50_ms": round(percentile(index_ms, 50), 3),
            "index_p95_ms": round(percentile(index_ms, 95), 3),
            "first_recall_s": round(first_s, 3),
            "index_mb": round(memory_mb, 1),
        }
    }


def messages(count: int) -> Iterator[aico.Message]:
    """Made-up turns of two people, the same for every run."""
    draws = np.random.default_rng(1)
    words = np.array(["".join(draws.choice(SYLLABLES, draws.integers(2, 4))) for _ in range(20_000)])
    weights = 1 / np.arange(1, len(words) + 1)
    weights /= weights.sum()
    for number in range(count):
        content = draws.choice(words, STATEMENT_WORDS // 2, p=weights).tolist()
        function = draws.choice(FUNCTION_WORDS, STATEMENT_WORDS // 2).tolist()
        text = " ".join(word for pair in zip(function, content, strict=True) for word in pair)
        sitting, turn = divmod(number, SITTING)
        yield aico.Message(
            text.capitalize() + ".",
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


def _open(vault_folder: Path, embedder: Embedder | None) -> aico.Vault:
    return aico.open(vault_folder, passphrase=PASSPHRASE, settings=replace(cheap_settings(), embedder=embedder))


def _unit(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def _resident_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _table(results: dict[str, Any]) -> Table:
    drawn = table("Recall, the question's vector given", "figure", "words and meaning", "words")
    for name in results["hybrid"]:
        drawn.add_row(name, figure(results["hybrid"][name]), figure(results["words"][name]))
    drawn.add_row("embedded per s", figure(results["embedded_per_s"]), "–")
    return drawn
