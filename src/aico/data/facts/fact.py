"""What a fact is, as it is read and as a model proposes it."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from aico.clock import from_us
from aico.data.libsql import Row
from aico.data.marks import Marks

FACT_TYPES = ("identity", "preference", "relationship", "event", "plan", "skill", "opinion", "insight", "milestone")
"""The types that a model may give. A person may use any word."""


class Status:
    """How far a fact has come. Only an accepted one is believed."""

    PROPOSED, ACCEPTED, REJECTED = "proposed", "accepted", "rejected"
    ALL = (PROPOSED, ACCEPTED, REJECTED)


class Trust:
    """Who vouches for a fact, most trusted first: the person's words, their yes to a model's words, a model alone."""

    USER, CONFIRMED, EXTRACTED = "user", "confirmed", "extracted"
    ALL = (USER, CONFIRMED, EXTRACTED)


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact. It was believed from `recorded_at` until `superseded_at`, None while it still is.

    A fact that was not accepted is believed at no time; its `recorded_at` is when it was proposed or rejected.
    """

    id: str
    text: str = field(repr=False)
    category: str | None = field(repr=False)
    confidence: float
    source: str | None = field(repr=False)
    valid_from: datetime | None
    valid_until: datetime | None
    recorded_at: datetime
    superseded_at: datetime | None
    supersedes: str | None
    type: str | None = None
    trust: str = Trust.USER
    status: str = Status.ACCEPTED
    proposed_at: datetime | None = None
    model: str | None = None
    """The model that found it, also after a person accepted or edited it."""


@dataclass(frozen=True, slots=True)
class KeptFact(Fact):
    """A fact with the messages it was drawn from and what the person marked it with."""

    sources: tuple[str, ...] = ()
    """The ids of the messages, in the order they were found."""
    marks: Marks = field(default_factory=Marks)


@dataclass(frozen=True, slots=True)
class Change:
    """One step in a fact's life: `change` is 'remembered', 'proposed', 'accepted', 'rejected', 'edited', 'restored',
    'superseded', 'retracted' or 'ended'. `by` is the fact that took its place, or the one whose place it took."""

    fact: str
    change: str
    at: datetime
    by: str | None


@dataclass(frozen=True, slots=True)
class History:
    """All that took one another's place, oldest first, and what happened to each, in the order it happened."""

    facts: tuple[KeptFact, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a model says a message tells. `message` is the message's id."""

    text: str = field(repr=False)
    message: str
    model: str
    type: str | None = None
    category: str | None = field(default=None, repr=False)
    confidence: float = 0.5


class Proposed(Enum):
    """What became of a proposal."""

    WAITING = "waiting"  # in the review queue
    KNOWN = "known"  # proposed, accepted, rejected or remembered before; it stays as it is
    FORGOTTEN = "forgotten"  # it, or the message it was drawn from, was forgotten on purpose and stays so


def fact_of(row: Row) -> Fact:
    """The fact in a row of the table."""
    return Fact(**_values(row))


def kept_fact_of(row: Row, sources: tuple[str, ...], marks: Marks) -> KeptFact:
    """The fact in a row, with what lies beside it."""
    return KeptFact(**_values(row), sources=sources, marks=marks)


def _values(row: Row) -> dict[str, Any]:  # columns as the engine has them
    return {
        "id": row["id"].hex(),
        "text": row["text"],
        "category": row["category"],
        "confidence": row["confidence"],
        "source": row["source"],
        "valid_from": _instant(row["valid_from"]),
        "valid_until": _instant(row["valid_until"]),
        "recorded_at": from_us(row["recorded_at"]),
        "superseded_at": _instant(row["superseded_at"]),
        "supersedes": row["supersedes"].hex() if row["supersedes"] else None,
        "type": row["type"],
        "trust": row["trust"],
        "status": row["status"],
        "proposed_at": _instant(row["proposed_at"]),
        "model": row["model"],
    }


def _instant(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else from_us(microseconds)
