"""What a recall answers with."""

from dataclasses import dataclass, field
from datetime import datetime

from aico.ai.memory.importance import Liking
from aico.ai.memory.index import Scored
from aico.data.conversations import Moment
from aico.data.facts import Fact

_MEANING_SHOWN = 0.1


@dataclass(frozen=True, slots=True)
class Hit:
    """One remembered message or fact, and why it was found.

    `score` is how likely it is to be what was asked for, 0 to 1 (docs/decisions/0049), by its words and, where a model is
    chosen, its meaning, neighbours included, and by what its person thinks of it.
    Where a reranker is chosen, it is the mean of this and of how likely that model finds the text to be an answer.
    `role`, `speaker`, `conversation` and `source_id` are None for a fact, except that its `source_id` is its source.
    """

    id: str
    kind: str
    text: str = field(repr=False)
    score: float
    why: str = field(repr=False)
    at: datetime
    role: str | None = None
    speaker: str | None = field(default=None, repr=False)
    conversation: str | None = field(default=None, repr=False)
    source_id: str | None = field(default=None, repr=False)
    position: int = field(default=0, repr=False)
    """Orders messages of one instant."""
    until: datetime | None = None
    """Of a fact: until when it is true, as far as that is known."""


def hit_of_message(moment: Moment, scored: Scored, liking: Liking | None = None) -> Hit:
    """A message that was found."""
    return Hit(
        moment.id,
        "message",
        moment.text,
        scored.score,
        _why(scored, moment.speaker or moment.role, liking),
        moment.at,
        moment.role,
        moment.speaker,
        moment.conversation,
        moment.source_id,
        moment.position,
    )


def hit_of_fact(fact: Fact, scored: Scored, liking: Liking | None = None) -> Hit:
    """A fact that was found; its moment is when it became true, as far as that is known."""
    return Hit(
        fact.id,
        "fact",
        fact.text,
        scored.score,
        _why(scored, None, liking),
        fact.valid_from or fact.recorded_at,
        source_id=fact.source,
        until=fact.valid_until,
    )


def _why(scored: Scored, said_by: str | None, liking: Liking | None) -> str:
    """The reasons in words a person understands: "words: lisbon, moved; meaning .71; beside a message with: flat; said by Mia"."""
    reasons = []
    if scored.words:
        reasons.append(f"words: {', '.join(scored.words)}")
    if scored.meaning >= _MEANING_SHOWN:
        reasons.append(f"meaning {scored.meaning:.2f}".replace("0.", "."))
    reasons += [f"beside a message with: {', '.join(words)}" for _, words in scored.neighbours if words]
    if scored.same_speaker and said_by is not None:
        reasons.append(f"said by {said_by}")
    if scored.when:
        reasons.append(f"from the time asked about: {scored.when}")
    if liking is not None:
        reasons += liking.reasons
    return "; ".join(reasons) or "in the same episode as other hits"
