"""The last turns of one conversation as they lie in the hot tier: pages of up to eight, the newest never closed.

A page that is full is closed and an empty one follows it, so an entry whose newest page is closed has lost its end. An
entry is the exact end of its conversation or it is dropped.
"""

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import msgspec

from aico.clock import from_us, to_us, utc_offset_minutes
from aico.data.conversations import Moment
from aico.data.libsql import Row
from aico.data.lmdb import SEQUENCE_BYTES, SealedTransaction

MESSAGES = "session_memory"
PAGE_TURNS, PAGE_BYTES = 8, 64 * 1024
"""A page is closed when it has as many turns or bytes: each new turn seals its page again."""
PAGES_KEPT = 8
TURN_BYTES_MAX = 256 * 1024
"""A conversation with a longer message among its last turns is left to the truth."""
NOT_OURS = (msgspec.MsgspecError, UnicodeDecodeError)
"""What reading an entry of another release raises."""


class Turn(msgspec.Struct, array_like=True, frozen=True):
    """One message, but for its conversation."""

    id: bytes
    role: str
    speaker: str | None
    text: str
    at_us: int
    utc_offset_min: int
    source_id: str | None
    position: int

    @property
    def order(self) -> tuple[int, int]:
        return self.at_us, self.position


class Page(msgspec.Struct, array_like=True, frozen=True):
    """Some turns of a conversation, one after the other."""

    begins: bool
    """Whether its first turn is the conversation's first."""
    closed: bool
    """Whether another page follows; an entry whose newest page is closed has lost its end."""
    conversation: str
    turns: list[Turn]


class LastTurns(NamedTuple):
    """The end of a conversation, and under which prefix it lies."""

    prefix: bytes
    conversation: str
    turns: list[Turn]


_encode = msgspec.msgpack.Encoder().encode
_decode_page = msgspec.msgpack.Decoder(Page).decode


def append(found: SealedTransaction, prefix: bytes, change: Row, ttl_s: float) -> None:
    """Add a new message to its conversation's entry, or drop the entry where that would not be its exact end."""
    newest = [(number, read_page(value)) for number, value in islice(found.newest_first(MESSAGES, prefix), 2)]
    if not newest:
        return
    number, page = newest[0]
    turn = _turn_of_row(change) if change["text"] is not None else None
    pages = [page for _, page in newest]
    if turn is None or page is None or page.closed or len(turn.text) > TURN_BYTES_MAX or not _follows(turn, pages):
        drop_entry(found, prefix)
        return
    put_page(found, prefix, number, Page(page.begins, False, page.conversation, [*page.turns, turn]), ttl_s)


def _follows(turn: Turn, pages: Sequence[Page | None]) -> bool:
    """Whether it comes after the last turn there is; `pages` are the two newest, newest first."""
    turns = [last for page in pages if page is not None for last in page.turns[-1:]]
    return bool(turns) and turn.order > turns[0].order


def put_page(found: SealedTransaction, prefix: bytes, number: int, page: Page, ttl_s: float) -> None:
    """Write the newest page. If it is full now it is closed, an empty one follows it, and the oldest goes."""
    value = _encode(page)
    if not page.closed and (len(page.turns) >= PAGE_TURNS or len(value) >= PAGE_BYTES):
        value = _encode(Page(page.begins, True, page.conversation, page.turns))
        following = _encode(Page(False, False, page.conversation, []))
        found.put(MESSAGES, _page_key(prefix, number + 1), following, ttl_s=ttl_s)
        if number >= PAGES_KEPT:
            found.delete(MESSAGES, _page_key(prefix, number + 1 - PAGES_KEPT))
    found.put(MESSAGES, _page_key(prefix, number), value, ttl_s=ttl_s)


def last_turns(found: SealedTransaction, prefix: bytes, limit: int) -> LastTurns | None:
    """The last turns of a conversation, None where they do not all lie here."""
    turns: list[Turn] = []
    expected: int | None = None
    for number, value in found.newest_first(MESSAGES, prefix):
        page = read_page(value)
        lost_the_end = page is not None and expected is None and page.closed
        if page is None or lost_the_end or expected not in (None, number):
            return None
        turns = page.turns + turns
        if len(turns) >= limit or page.begins:
            return LastTurns(prefix, page.conversation, turns[-limit:])
        expected = number - 1
    return None


def paged(moments: Sequence[Moment], *, begins: bool) -> list[Page]:
    """Pages for these turns, the last one open; none where a turn is too long."""
    turns = [_turn_of(moment) for moment in moments]
    if any(len(turn.text) > TURN_BYTES_MAX for turn in turns):
        return []
    pages = [
        Page(begins and start == 0, True, moments[0].conversation, turns[start : start + PAGE_TURNS])
        for start in range(0, len(turns), PAGE_TURNS)
    ]
    last = pages.pop()
    return [*pages, Page(last.begins, False, last.conversation, last.turns)]


def drop_entry(found: SealedTransaction, prefix: bytes) -> None:
    """Delete all pages of a conversation."""
    for number in [number for number, _ in found.newest_first(MESSAGES, prefix)]:
        found.delete(MESSAGES, _page_key(prefix, number))


def _page_key(prefix: bytes, number: int) -> bytes:
    return prefix + number.to_bytes(SEQUENCE_BYTES, "big")


def read_page(value: bytes | None) -> Page | None:
    """A page from its bytes; None where there are none, or they are of another release."""
    try:
        return None if value is None else _decode_page(value)
    except NOT_OURS:
        return None


def _turn_of_row(row: Row) -> Turn:
    return Turn(
        row["key"],
        row["role"],
        row["speaker"],
        row["text"],
        row["at"],
        row["utc_offset_min"],
        row["source_id"],
        row["position"],
    )


def _turn_of(moment: Moment) -> Turn:
    return Turn(
        bytes.fromhex(moment.id),
        moment.role,
        moment.speaker,
        moment.text,
        to_us(moment.at),
        utc_offset_minutes(moment.at),
        moment.source_id,
        moment.position,
    )


def moment_of(turn: Turn, conversation: str) -> Moment:
    """The message as the truth has it."""
    return Moment(
        id=turn.id.hex(),
        text=turn.text,
        role=turn.role,
        conversation=conversation,
        speaker=turn.speaker,
        at=from_us(turn.at_us, utc_offset_min=turn.utc_offset_min),
        source_id=turn.source_id,
        position=turn.position,
    )
