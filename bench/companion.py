"""Recall in talk with a companion: five made-up people, two hundred questions in the first person, in five languages.

The talk is our own and lies beside this file (`data/companion/`), so that what helps here was not fitted to LoCoMo. Each question is
asked at a moment, and with `as_of` sees only what had been said until then.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import fmean
from typing import Any

import click
from rich.table import Table

import aico
from aico.settings import Settings
from aico.testing import cheap_settings
from bench._report import Report, figure, folder_option, json_option, progress, scratch_folder, table

DATA = Path(__file__).parent / "data" / "companion"
KINDS = {"fact": "what is so", "when": "a time is asked for, or meant", "who": "what the companion itself said"}
MEASURES = ("any@1", "any@3", "any@10", "all@10", "mrr")
DEPTH = 10
ROLES = {"u": "user", "c": "assistant"}


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody's talk with the companion, and what they ask later."""

    name: str
    language: str
    messages: tuple[aico.Message, ...]  # source_id is the turn's id
    questions: tuple[tuple[datetime, str, frozenset[str], str], ...]


@click.command("companion")
@click.option(
    "--embedder", help="An embedding model's name, or `none` for words alone. Default: what a new vault uses."
)
@folder_option
@json_option
def command(embedder: str | None, folder: Path | None, as_json: bool) -> None:
    """Does a question to a companion find the turn that answers it?"""
    people = load()
    chosen = Settings().embedder if embedder is None else None if embedder == "none" else embedder
    with scratch_folder(folder) as scratch:
        report = Report.begin("companion", folder=scratch, embedder=embedder or "default", people=len(people))
        settings = replace(cheap_settings(), embedder=chosen)
        with aico.open(scratch / "vault", passphrase="only a benchmark", settings=settings) as vault:
            found = ask_all(vault, people)
            model = vault.embeddings.model
    results = {
        "model": model,
        "overall": _means(found),
        "kinds": {kind: _means([one for one in found if one[1] == kind]) for kind in KINDS},
        "languages": {
            person.language: _means([one for one in found if one[0] == person.language]) for person in people
        },
    }
    report.publish(results, [_table(results)], as_json=as_json)


def load() -> list[Person]:
    """Everybody's talk. The turns of an episode are a minute apart."""
    return [_person(json.loads(file.read_text(encoding="utf-8"))) for file in sorted(DATA.glob("*.json"))]


def ask_all(vault: aico.Vault, people: Sequence[Person]) -> list[tuple[str, str, tuple[int, ...], int]]:
    """For each question: language, kind, ranks of its evidence among the first ten, and how many turns that is."""
    turn_of: dict[str, str | None] = {}
    for person in people:
        ids = vault.memory.record_many(person.name, person.messages)
        turn_of |= zip(ids, (message.source_id for message in person.messages), strict=True)
    progress("waiting for vectors")
    vault.views.wait()
    found = []
    for person in people:
        for asked_at, text, evidence, kind in person.questions:
            hits = vault.memory.recall(person.name, text, limit=DEPTH, kinds=("message",), as_of=asked_at)
            ranks = tuple(rank for rank, hit in enumerate(hits, 1) if turn_of[hit.id] in evidence)
            found.append((person.language, kind, ranks, len(evidence)))
    return found


def _person(record: dict[str, Any]) -> Person:
    messages = []
    for episode in record["episodes"]:
        start = datetime.fromisoformat(episode["at"]).replace(tzinfo=UTC)
        messages += [
            aico.Message(
                text,
                role=ROLES[who],
                speaker=record["person"] if who == "u" else record["companion"],
                conversation="talk",
                at=start + timedelta(minutes=minute),
                source_id=turn,
            )
            for minute, (turn, who, text) in enumerate(episode["turns"])
        ]
    questions = tuple(
        (datetime.fromisoformat(asked_at).replace(tzinfo=UTC), text, frozenset(evidence), kind)
        for asked_at, text, evidence, kind in record["questions"]
    )
    return Person(record["person"], record["language"], tuple(messages), questions)


def _means(found: Sequence[tuple[str, str, tuple[int, ...], int]]) -> dict[str, float | int]:
    ranks = [(ranks, count) for _, _, ranks, count in found]
    figures = {f"any@{k}": fmean(any(rank <= k for rank in some) for some, _ in ranks) for k in (1, 3, 10)}
    figures |= {
        "all@10": fmean(len(some) == count for some, count in ranks),
        "mrr": fmean(1 / min(some) if some else 0.0 for some, _ in ranks),
    }
    return {**{name: round(value, 4) for name, value in figures.items()}, "questions": len(found)}


def _table(results: dict[str, Any]) -> Table:
    drawn = table("Talk with a companion: evidence found", "questions", *MEASURES, "questions")
    groups = {
        **{KINDS[kind]: means for kind, means in results["kinds"].items()},
        **results["languages"],
        "all": results["overall"],
    }
    for name, means in groups.items():
        drawn.add_row(name, *(figure(means[measure]) for measure in MEASURES), str(means["questions"]))
    return drawn
