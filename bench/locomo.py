"""Recall quality on LoCoMo: of the turns that an answer rests on, how many come back, and how far up?

Records each conversation through the public interface as its people would have, asks each question, and compares
ids. Nothing here knows how recall works.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any

import click
from rich.table import Table

import aico
from aico.settings import Settings
from aico.testing import cheap_settings
from bench._report import Report, figure, folder_option, json_option, percentile, progress, scratch_folder, table

DEPTH = 50
CONTEXT_WORDS = (150, 300, 600, 1000)
"""Words that a context may have, dates, speakers and its heading included."""
CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open domain", 4: "single-hop"}
ADVERSARIAL = 5
MEASURES = ("any@10", "all@10", "any@50", "all@50", "recall@10", "mrr")


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    category: int
    evidence: frozenset[str]  # ids of the turns that the answer rests on


@dataclass(frozen=True, slots=True)
class Conversation:
    user: str
    messages: tuple[aico.Message, ...]  # source_id is the turn's id
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where one question's evidence came back: ranks counted from 1, those within DEPTH."""

    category: int
    evidence_count: int
    ranks: tuple[int, ...]
    carried: tuple[float, ...]
    """The share of the evidence inside a context of so many words each; empty for an adversarial question."""

    def recall(self, k: int) -> float:
        """The share of the evidence that is among the first k."""
        return sum(rank <= k for rank in self.ranks) / self.evidence_count

    @property
    def reciprocal_rank(self) -> float:
        return 1 / min(self.ranks) if self.ranks else 0.0


@dataclass(slots=True)
class Times:
    """Wall time of each step. A user's first recall builds that user's index and is kept apart."""

    open_s: float = 0.0
    record_s: float = 0.0
    catch_up_s: float = 0.0
    first_recall_ms: dict[str, float] = field(default_factory=dict)
    recall_ms: list[float] = field(default_factory=list)
    context_ms: list[float] = field(default_factory=list)

    def add_recall(self, user: str, took_ms: float) -> None:
        if user in self.first_recall_ms:
            self.recall_ms.append(took_ms)
        else:
            self.first_recall_ms[user] = took_ms

    def summary(self, *, message_count: int) -> dict[str, float]:
        figures = {
            "open_s": self.open_s,
            "record_s": self.record_s,
            "record_per_s": message_count / self.record_s,
            "catch_up_s": self.catch_up_s,
            "first_recall_p50_ms": percentile([*self.first_recall_ms.values()], 50),
            "recall_p50_ms": percentile(self.recall_ms, 50),
            "recall_p95_ms": percentile(self.recall_ms, 95),
            "context_p50_ms": percentile(self.context_ms, 50),
        }
        return {name: round(value, 3) for name, value in figures.items()}


@click.command("locomo")
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Conversations and questions, in the shape that README.md describes.",
)
@click.option("--limit-conversations", type=click.IntRange(min=1), help="Only the first N conversations.")
@click.option(
    "--embedder", help="An embedding model's name, or `none` for words alone. Default: what a new vault uses."
)
@click.option("--one-store", is_flag=True, help="One user who lived all conversations, instead of one user for each.")
@folder_option
@json_option
def command(
    data: Path,
    limit_conversations: int | None,
    embedder: str | None,
    one_store: bool,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Does a question find the turns that its answer rests on?

    With a model, its vectors are made first: that takes seconds to minutes, and is in the time to catch up.
    """
    conversations = load(data, one_store=one_store)[:limit_conversations]
    message_count = sum(len(conversation.messages) for conversation in conversations)
    with scratch_folder(folder) as scratch:
        report = Report.begin(
            "locomo",
            folder=scratch,
            data=data.name,
            conversations=len(conversations),
            messages=message_count,
            embedder=embedder or "default",
            one_store=one_store,
            depth=DEPTH,
        )
        outcomes, times, model = measure(conversations, scratch / "vault", embedder=embedder)
    results = {"model": model, **score(outcomes), "times": times.summary(message_count=message_count)}
    tables = [_quality_table(results), _context_table(results), _time_table(results["times"])]
    report.publish(results, tables, as_json=as_json)


def load(path: Path, *, one_store: bool) -> list[Conversation]:
    """Read all conversations; questions without evidence are left out.

    In one store the turn ids of different conversations would collide, so each is prefixed with its conversation's.
    """
    return [
        _conversation(record, user="everyone", prefix=f"{record['id']}/")
        if one_store
        else _conversation(record, user=record["id"], prefix="")
        for record in json.loads(path.read_text(encoding="utf-8"))
    ]


def measure(
    conversations: Sequence[Conversation], vault_folder: Path, *, embedder: str | None = None
) -> tuple[list[Outcome], Times, str | None]:
    """Record everything, wait until views and vectors have caught up, then ask everything. Names the model, too."""
    times = Times()
    chosen = Settings().embedder if embedder is None else None if embedder == "none" else embedder
    settings = replace(cheap_settings(), embedder=chosen)
    start = perf_counter()
    with aico.open(vault_folder, passphrase="only a benchmark", settings=settings) as vault:
        opened = perf_counter()
        source_ids: dict[str, str | None] = {}
        for number, conversation in enumerate(conversations, 1):
            progress(f"recording conversation {number} of {len(conversations)}")
            ids = vault.memory.record_many(conversation.user, conversation.messages)
            source_ids |= zip(ids, (message.source_id for message in conversation.messages), strict=True)
        recorded = perf_counter()
        vault.views.wait()
        caught_up = perf_counter()
        times.open_s, times.record_s, times.catch_up_s = opened - start, recorded - opened, caught_up - recorded
        outcomes = []
        for number, conversation in enumerate(conversations, 1):
            progress(f"asking {len(conversation.questions)} questions, conversation {number} of {len(conversations)}")
            for question in conversation.questions:
                outcomes.append(_ask(vault, conversation.user, question, source_ids, times))
        model = vault.embeddings.model
    return outcomes, times, model


def score(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Means over all answerable questions together, for each of their categories, and over the adversarial ones."""
    groups = {category: [found for found in outcomes if found.category == category] for category in CATEGORIES}
    return {
        "overall": _means([found for group in groups.values() for found in group]),
        "categories": {
            str(category): {"name": CATEGORIES[category], **_means(groups[category])} for category in groups
        },
        "adversarial": _means([found for found in outcomes if found.category == ADVERSARIAL]),
    }


def _conversation(record: Mapping[str, Any], *, user: str, prefix: str) -> Conversation:
    questions = (
        Question(asked["question"], asked["category"], frozenset(prefix + turn_id for turn_id in asked["evidence"]))
        for asked in record["questions"]
        if asked["evidence"]
    )
    return Conversation(user, tuple(_messages(record, prefix)), tuple(questions))


def _messages(record: Mapping[str, Any], prefix: str) -> Iterator[aico.Message]:
    """The turns as messages, one second apart from the start of their session; the first speaker is the user."""
    for session_time, turns in groupby(record["turns"], key=lambda turn: turn["session_time"]):
        start = datetime.strptime(session_time, "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)
        for seconds_in, turn in enumerate(turns):
            photo = f" [photo: {turn['photo_caption']}]" if turn.get("photo_caption") else ""
            yield aico.Message(
                turn["text"] + photo,
                role="user" if turn["speaker"] == record["speakers"][0] else "assistant",
                conversation=record["id"],
                speaker=turn["speaker"],
                at=start + timedelta(seconds=seconds_in),
                source_id=prefix + turn["id"],
            )


def _ask(
    vault: aico.Vault, user: str, question: Question, source_ids: Mapping[str, str | None], times: Times
) -> Outcome:
    start = perf_counter()
    hits = vault.memory.recall(user, question.text, limit=DEPTH, kinds=("message",))
    times.add_recall(user, (perf_counter() - start) * 1000)
    ranks = (rank for rank, hit in enumerate(hits, 1) if source_ids[hit.id] in question.evidence)
    carried = () if question.category == ADVERSARIAL else _carried(vault, user, question, source_ids, times)
    return Outcome(question.category, len(question.evidence), tuple(ranks), carried)


def _carried(
    vault: aico.Vault, user: str, question: Question, source_ids: Mapping[str, str | None], times: Times
) -> tuple[float, ...]:
    """What a context of each size holds of the evidence, through the call that a companion makes before it answers."""
    shares = []
    for words in CONTEXT_WORDS:
        start = perf_counter()
        context = vault.memory.context(user, question.text, token_budget=words, count_tokens=_words)
        times.context_ms.append((perf_counter() - start) * 1000)
        shares.append(len({source_ids[item.id] for item in context.items} & question.evidence) / len(question.evidence))
    return tuple(shares)


def _words(text: str) -> int:
    return len(text.split())


def _means(outcomes: Sequence[Outcome]) -> dict[str, float | int | None]:
    """Each measure's mean over the questions, and how many those are; None where there are none."""
    if not outcomes:
        return {**dict.fromkeys(MEASURES), **dict.fromkeys(_carried_names()), "questions": 0}
    figures = {
        "any@10": fmean(found.recall(10) > 0 for found in outcomes),
        "all@10": fmean(found.recall(10) == 1 for found in outcomes),
        "any@50": fmean(found.recall(50) > 0 for found in outcomes),
        "all@50": fmean(found.recall(50) == 1 for found in outcomes),
        "recall@10": fmean(found.recall(10) for found in outcomes),
        "mrr": fmean(found.reciprocal_rank for found in outcomes),
        **_carried_means(outcomes),
    }
    return {**{name: round(value, 4) for name, value in figures.items()}, "questions": len(outcomes)}


def _carried_names() -> list[str]:
    return [f"context@{words}" for words in CONTEXT_WORDS]


def _carried_means(outcomes: Sequence[Outcome]) -> dict[str, float]:
    shares = [found.carried for found in outcomes if found.carried]
    return {name: fmean(of_size) for name, of_size in zip(_carried_names(), zip(*shares, strict=True), strict=False)}


def _quality_table(results: Mapping[str, Any]) -> Table:
    drawn = table("LoCoMo: evidence turns found", "questions of kind", *MEASURES, "questions")
    rows = [(f"{number} {group['name']}", group) for number, group in results["categories"].items()]
    for name, group in (*rows, ("1-4 together", results["overall"]), ("5 adversarial", results["adversarial"])):
        drawn.add_row(name, *(figure(group[measure]) for measure in MEASURES), str(group["questions"]))
    return drawn


def _context_table(results: Mapping[str, Any]) -> Table:
    drawn = table("LoCoMo: the share of the evidence inside a context", "questions of kind", *_carried_names())
    rows = [(f"{number} {group['name']}", group) for number, group in results["categories"].items()]
    for name, group in (*rows, ("1-4 together", results["overall"])):
        drawn.add_row(name, *(figure(group[measure]) for measure in _carried_names()))
    return drawn


def _time_table(times: Mapping[str, float]) -> Table:
    drawn = table("Wall time", "step", "figure")
    for name, value in times.items():
        drawn.add_row(name, figure(value))
    return drawn
