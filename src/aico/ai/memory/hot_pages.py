"""The last turns of one conversation as they lie in the hot tier: pages of up to eight.

    sequence   1, 2, 3 ...   full pages, never changed
               NEWEST        the page that grows, under a key that needs no looking for

A page that is full moves under its number, and an empty one takes its place. An entry is the exact end of its conversation
or it is dropped; one without a newest page has lost its end.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from aico.clock import from_us, to_us, utc_offset_minutes
from aico.data.conversations import Moment
from aico.data.libsql import Row
from aico.data.lmdb import SEQUENCE_BYTES, SealedTransaction

MESSAGES = "session_memory"
NEWEST = (1 << 8 * SEQUENCE_BYTES) - 1
PAGE_TURNS, PAGE_BYTES = 8, 64 * 1024
"""A page is full when it has as many turns or bytes: each new turn seals its page again."""
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
    number: int
    """Which page of the entry it is, from 1."""
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
    page = read_page(found.get(MESSAGES, _page_key(prefix, NEWEST)))
    if page is None:
        return
    turn = _turn_of_row(change) if change["text"] is not None else None
    if turn is None or len(turn.text) > TURN_BYTES_MAX or not _follows(turn, found, prefix, page):
        drop_entry(found, prefix)
        return
    _put_newest(found, prefix, Page(page.begins, page.number, page.conversation, [*page.turns, turn]), ttl_s)


def _follows(turn: Turn, found: SealedTransaction, prefix: bytes, newest: Page) -> bool:
    """Whether it comes after the last turn there is."""
    page = newest if newest.turns else read_page(found.get(MESSAGES, _page_key(prefix, newest.number - 1)))
    return page is not None and bool(page.turns) and turn.order > page.turns[-1].order


def put_pages(found: SealedTransaction, prefix: bytes, pages: Sequence[Page], ttl_s: float) -> None:
    """Write the pages of an entry that is not there."""
    for page in pages[:-1]:
        found.put(MESSAGES, _page_key(prefix, page.number), _encode(page), ttl_s=ttl_s)
    _put_newest(found, prefix, pages[-1], ttl_s)


def _put_newest(found: SealedTransaction, prefix: bytes, page: Page, ttl_s: float) -> None:
    """Write the newest page. If it is full it moves, an empty one takes its place, and the oldest goes."""
    value = _encode(page)
    if len(page.turns) >= PAGE_TURNS or len(value) >= PAGE_BYTES:
        found.put(MESSAGES, _page_key(prefix, page.number), value, ttl_s=ttl_s)
        if page.number >= PAGES_KEPT:
            found.delete(MESSAGES, _page_key(prefix, page.number + 1 - PAGES_KEPT))
        value = _encode(Page(False, page.number + 1, page.conversation, []))
    found.put(MESSAGES, _page_key(prefix, NEWEST), value, ttl_s=ttl_s)


def last_turns(found: SealedTransaction, prefix: bytes, limit: int) -> LastTurns | None:
    """The last turns of a conversation, None where they do not all lie here."""
    turns: list[Turn] = []
    expected = NEWEST
    for number, value in found.newest_first(MESSAGES, prefix):
        page = read_page(value)
        if page is None or number != expected:
            return None
        turns = page.turns + turns
        if len(turns) >= limit or page.begins:
            return LastTurns(prefix, page.conversation, turns[-limit:])
        expected = page.number - 1
    return None


def paged(moments: Sequence[Moment], *, begins: bool) -> list[Page]:
    """Pages for these turns; none where a turn is too long."""
    turns = [_turn_of(moment) for moment in moments]
    if any(len(turn.text) > TURN_BYTES_MAX for turn in turns):
        return []
    return [
        Page(begins and start == 0, number, moments[0].conversation, turns[start : start + PAGE_TURNS])
        for number, start in enumerate(range(0, len(turns), PAGE_TURNS), start=1)
    ]


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
