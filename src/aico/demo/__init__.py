"""The sample conversation, and a proof on this very machine: a vault that answers, and that nobody else can read."""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from aico.ai.memory.manager import MemoryManager
from aico.audit import NEEDLE_MIN_BYTES, AuditReport, search_for_leaks
from aico.data.conversations import Moment
from aico.portability.jsonl import import_jsonl
from aico.vault import open_vault

USER = "nell"
RANK_MAX = 3
"""A question counts as answered when the expected message is among so many first hits."""
ANSWERED_MIN = 10
NEEDLES_MAX, NEEDLE_CHARACTERS = 120, 24
LIMIT = 10


@dataclass(frozen=True, slots=True)
class Answer:
    """One question, and what the memory said: `text`, `at` and `score` are the first hit's, None without one."""

    question: str
    expected: str
    rank: int | None
    """The place of the expected message among the hits, from 1; None if it is not there."""
    text: str | None = field(repr=False)
    at: datetime | None
    score: float | None
    latency_ms: float
    expected_text: str = field(repr=False)

    @property
    def hit(self) -> bool:
        """Whether the expected message is among the first three."""
        return self.rank is not None and self.rank <= RANK_MAX


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What the demo did and found. `leaks` counts places where the vault's files show text; `control_hits` those
    where the same search found it in a copy in the clear."""

    embedder: str
    messages: int
    questions: tuple[Answer, ...]
    control_hits: int
    searched_bytes: int
    leaks: int
    seconds: float

    @property
    def answered(self) -> int:
        """How many questions were answered."""
        return sum(answer.hit for answer in self.questions)

    @property
    def passed(self) -> bool:
        """Whether the memory answered, and the search proved itself and found nothing."""
        return self.answered >= ANSWERED_MIN and self.leaks == 0 and self.control_hits > 0


class _Line(msgspec.Struct, frozen=True):
    conversation: str


class _Question(msgspec.Struct, frozen=True):
    question: str
    expected: str


def run_demo(*, on_step: Callable[[str], object] = lambda _: None) -> DemoReport:
    """Import the sample into a vault in a temporary folder, ask, search its files for the text, delete it.

    The vault is a real one: default key derivation, a random passphrase. `on_step` is told what comes next. Takes a
    few seconds, most of them the searches.
    """
    started = time.perf_counter()
    with TemporaryDirectory(prefix="aico-demo-", ignore_cleanup_errors=True) as folder:
        home = Path(folder) / "vault"
        with open_vault(home, passphrase=secrets.token_urlsafe(24)) as vault:
            on_step("importing a conversation")
            moments = _import(vault.memory)
            texts = [moment.text for moment in moments]
            on_step("learning what it means")
            vault.views.wait()
            embedder = vault.embeddings.model or "none"
            on_step("asking questions")
            answers = _ask(vault.memory, moments)
            on_step("searching every file of the open vault")
            needles = needles_of(texts)
            open_vault_search = search_for_leaks([home], needles)
        on_step("searching every file of the closed vault")
        closed_vault_search = search_for_leaks([home], needles)
    on_step("searching a copy in the clear, to see that the search works")
    control = _search_in_the_clear(texts, needles)
    searches = (open_vault_search, closed_vault_search)
    return DemoReport(
        embedder=embedder,
        messages=len(moments),
        questions=answers,
        control_hits=len(control.leaks),
        searched_bytes=sum(search.searched_bytes for search in searches),
        leaks=sum(len(search.leaks) for search in searches),
        seconds=time.perf_counter() - started,
    )


def needles_of(texts: Sequence[str]) -> list[str]:
    """The middle of each text, cut to 24 characters: at most 120, spread evenly, the same for the same texts."""
    pieces = [
        text[start : start + NEEDLE_CHARACTERS]
        for text in texts
        for start in [max(0, (len(text) - NEEDLE_CHARACTERS) // 2)]
    ]
    long_enough = list(dict.fromkeys(piece for piece in pieces if len(piece.encode()) >= NEEDLE_MIN_BYTES))
    return long_enough[:: -(-len(long_enough) // NEEDLES_MAX) or 1]


def _import(memory: MemoryManager) -> list[Moment]:
    """Record the sample conversation, and return it as the memory has it now."""
    sample = (files(__name__) / "conversation.jsonl").read_bytes()
    lines = msgspec.json.Decoder(_Line).decode_lines(sample)
    import_jsonl(memory, USER, BytesIO(sample))
    conversations = dict.fromkeys(line.conversation for line in lines)
    return [moment for name in conversations for moment in memory.recent(USER, name, limit=len(lines))]


def _ask(memory: MemoryManager, moments: Sequence[Moment]) -> tuple[Answer, ...]:
    """Ask every question, once the index is in memory: as a companion that is running asks."""
    asked = msgspec.json.decode((files(__name__) / "questions.json").read_bytes(), type=list[_Question])
    said = {moment.source_id: moment for moment in moments}
    memory.recall(USER, asked[0].question, limit=1)
    return tuple(_answer(memory, one.question, expected=said[one.expected]) for one in asked)


def _answer(memory: MemoryManager, question: str, *, expected: Moment) -> Answer:
    asked = time.perf_counter()
    hits = memory.recall(USER, question, limit=LIMIT)
    latency_ms = (time.perf_counter() - asked) * 1000
    rank = next((place for place, hit in enumerate(hits, start=1) if hit.id == expected.id), None)
    first = hits[0] if hits else None
    return Answer(
        question,
        expected.id,
        rank,
        text=first.text if first else None,
        at=first.at if first else None,
        score=first.score if first else None,
        latency_ms=latency_ms,
        expected_text=expected.text,
    )


def _search_in_the_clear(texts: Sequence[str], needles: Sequence[str]) -> AuditReport:
    """The same search over a copy that anyone could read, deleted at once. Leak audits pass such folders over."""
    with TemporaryDirectory(prefix="aico-audit-") as folder:
        (Path(folder) / "conversation.txt").write_text("\n".join(texts), encoding="utf-8")
        return search_for_leaks([Path(folder)], needles)
