"""Choose what fits a token budget: the live conversation, what is true, and what was remembered."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import groupby
from math import ceil

import msgspec

from aico.ai.memory.hits import Hit
from aico.data.conversations import Moment
from aico.data.preferences import Preference

TokenCounter = Callable[[str], int]

RECENT_SHARE = 0.4
"""Of the budget, at most, for the live conversation's last turns."""
FACTS_SHARE = 0.2
"""Of the budget, at most, for facts."""
PREFERENCES_SHARE = 0.1
"""Of the budget, at most, for preferences: a dozen short lines of the default 1,000 tokens."""
HEADINGS = {
    "preference": "What they wish:",
    "fact": "What is true now:",
    "memory": "From earlier:",
    "recent": "This conversation:",
}


def estimate_tokens(text: str) -> int:
    """About how many tokens a language model reads `text` as: four UTF-8 bytes each, a common rule of thumb."""
    return ceil(len(text.encode()) / 4)


@dataclass(frozen=True, slots=True)
class ContextItem:
    """One line of a context and where it comes from: `part` is "preference", "fact", "memory" or "recent"."""

    part: str
    id: str
    text: str = field(repr=False)
    at: datetime
    speaker: str | None = field(repr=False)
    conversation: str | None = field(repr=False)
    score: float | None
    position: int = field(default=0, repr=False)

    def as_line(self) -> str:
        """The item as a prompt shows it, with its speaker in front; `Context.as_text` puts a memory below its day.

        A speaker stays on one line and further lines of a text are set in, so that neither can pass for a heading
        of ours: both may come from a file that somebody else wrote.
        """
        text = "\n    ".join(self.text.splitlines())
        if self.part == "preference":
            return f"- {text}"
        if self.part == "fact":
            return f"- {text} (since {_day(self.at)})"
        return f"{' '.join((self.speaker or '').split())}: {text}"

    @property
    def day(self) -> str | None:
        """The line that a memory stands below, with others of its day; None for all else."""
        return f"[{_day(self.at)}]" if self.part == "memory" else None


@dataclass(frozen=True, slots=True)
class Context:
    """What to put before a language model. `tokens` counts `as_text()` with the counter that chose the items."""

    items: tuple[ContextItem, ...]
    tokens: int

    def as_text(self) -> str:
        """The items as lines under a heading for each part, memories by their days; empty if there are none.

        >>> "Mia lives in Lisbon" in vault.memory.context("mia", "Where do I live?").as_text()
        True
        """
        return _as_text(self.items)


def encode(context: Context) -> bytes:
    """A context as bytes, for keeping it."""
    return msgspec.msgpack.encode(context)


def decode(value: bytes) -> Context:
    """The context that `encode` was given. Raises msgspec.MsgspecError for another release's."""
    return _decode(value)


def assemble(
    *,
    recent: Sequence[Moment],
    facts: Sequence[Hit],
    memories: Sequence[Hit],
    preferences: Sequence[Preference] = (),
    token_budget: int,
    count_tokens: TokenCounter = estimate_tokens,
) -> Context:
    """Fill the budget: the newest turns first, then preferences, facts and memories by rank; shown in time order, nothing twice.

    `recent` is in time order, `facts` and `memories` best first. The text of the result never exceeds the budget.
    """
    chosen = _Budget(token_budget, count_tokens)
    chosen.take((_item_of_moment(moment) for moment in reversed(recent)), up_to=RECENT_SHARE, stop_at_first=True)
    wishes = sorted(preferences, key=lambda preference: preference.updated_at, reverse=True)
    chosen.take(
        (_item_of_preference(wish, text) for wish in wishes if (text := wish.as_text())), up_to=PREFERENCES_SHARE
    )
    chosen.take((_item_of_hit("fact", hit) for hit in facts), up_to=FACTS_SHARE)
    chosen.take((_item_of_hit("memory", hit) for hit in memories), up_to=1.0)
    items = tuple(item for part in HEADINGS for item in sorted(chosen.items(part), key=_in_order))
    return Context(items, count_tokens(_as_text(items)))


_decode = msgspec.msgpack.Decoder(Context).decode


class _Budget:
    """Takes items while their text fits. Each line is counted with its line break, each heading and day once."""

    def __init__(self, tokens: int, count: TokenCounter) -> None:
        self._tokens, self._count, self._spent = tokens, count, 0
        self._items: list[ContextItem] = []
        self._ids: set[str] = set()
        self._texts: set[str] = set()
        self._opened: set[str] = set()
        """The headings and days that are there already."""

    def items(self, part: str) -> list[ContextItem]:
        """What was taken of one part, in the order it was taken."""
        return [item for item in self._items if item.part == part]

    def take(self, items: Iterable[ContextItem], *, up_to: float, stop_at_first: bool = False) -> None:
        """Take what fits into this share of the whole budget and into what is left of it."""
        limit = min(self._spent + self._tokens * up_to, self._tokens)
        for item in items:
            if item.id in self._ids or (item.part != "recent" and item.text in self._texts):
                continue  # a turn of the live conversation may repeat another: "Yes."
            opening = [line for line in (HEADINGS[item.part] + "\n", item.day) if line and line not in self._opened]
            cost = sum(self._count(line + "\n") for line in (item.as_line(), *opening))
            if self._spent + cost <= limit:
                self._spent += cost
                self._opened.update(opening)
                self._items.append(item)
                self._ids.add(item.id)
                self._texts.add(item.text)
            elif stop_at_first:
                return


def _in_order(item: ContextItem) -> tuple[date, datetime, int]:
    """By the days as they were lived, wherever that was; so that each day is one piece."""
    return item.at.date(), item.at, item.position


def _day(at: datetime) -> str:
    """As ISO 8601 has it: no language's, never mistaken for another day, and one word."""
    return at.date().isoformat()


def _as_text(items: Sequence[ContextItem]) -> str:
    parts = []
    for part, heading in HEADINGS.items():
        lines = [heading]
        for day, of_day in groupby((item for item in items if item.part == part), key=lambda item: item.day):
            lines += [*([] if day is None else [day]), *(item.as_line() for item in of_day)]
        if len(lines) > 1:
            parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _item_of_moment(moment: Moment) -> ContextItem:
    return ContextItem(
        "recent",
        moment.id,
        moment.text,
        moment.at,
        moment.speaker or moment.role,
        moment.conversation,
        None,
        moment.position,
    )


def _item_of_preference(preference: Preference, text: str) -> ContextItem:
    return ContextItem("preference", preference.id, text, preference.updated_at, None, None, None)


def _item_of_hit(part: str, hit: Hit) -> ContextItem:
    return ContextItem(
        part, hit.id, hit.text, hit.at, hit.speaker or hit.role, hit.conversation, hit.score, hit.position
    )
