"""Chats of another product: from a stream of its conversations to recorded messages, and a report of everything."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, Protocol, TypeVar

import msgspec

from aico.ai.memory.manager import MemoryManager
from aico.clock import EPOCH
from aico.data.conversations import Message, Outcome, checked_message
from aico.data.limits import checked_label
from aico.errors import InvalidInput
from aico.portability.elements import Element, elements
from aico.portability.report import BadRecord, ImportReport

BATCH, BATCH_BYTES = 10_000, 16 * 1024 * 1024
"""Messages, and bytes of the export, recorded in one transaction: what a kill can cost to do again."""
KIND_MAX = 40
_PLACE = re.compile(r"`\$(?:\[\.\.\.\])?\.?([\w.\[\]]*)`")
T = TypeVar("T")


@dataclass(slots=True)
class Chat:
    """One conversation as a product has it, in this project's words."""

    name: str = field(repr=False)
    title: str | None = field(repr=False)
    messages: list[Message] = field(default_factory=list, repr=False)
    left_out: Counter[str] = field(default_factory=Counter)


class Format(Protocol):
    """How one product writes a conversation."""

    def __call__(self, raw: bytes) -> Chat:
        """The chat in one element of the export. Raises msgspec.ValidationError, or ValueError for what has no sense."""
        ...


def import_chats(
    memory: MemoryManager,
    user: str,
    file: BinaryIO,
    decode: Format,
    report: ImportReport,
    *,
    file_name: str = "",
    skip_bad: bool = False,
    return_forgotten: bool = False,
    on_progress: Callable[[int], object] | None = None,
) -> None:
    """Record every conversation of `file`, reading it once, in memory of one conversation and one batch.

    `on_progress` gets the bytes read so far. Raises BadRecord at the first conversation that cannot be taken, unless
    `skip_bad`; those before it are recorded then. Every message has its product's id, so the next run goes on.
    """
    batch = _Batch(memory, user, report, skip_bad, return_forgotten)
    try:
        for element in elements(file):
            bad = BadRecord(element.number, "", "", unit="conversation", file=file_name)
            taken = _decoded(element, decode, bad)
            if isinstance(taken, Chat):
                report.conversations += 1
                report.left_out.update(taken.left_out)
                batch.add(taken, len(element.raw), bad)
            else:
                batch.refuse(taken)
            if on_progress is not None:
                on_progress(element.offset + len(element.raw))
    except (InvalidInput, OSError):  # a file that cannot be read on: what was read is not lost
        batch.flush()
        raise
    batch.flush()


class _Batch:
    """What will be recorded together."""

    def __init__(
        self, memory: MemoryManager, user: str, report: ImportReport, skip_bad: bool, return_forgotten: bool
    ) -> None:
        self._memory, self._user, self._report = memory, user, report
        self._skip_bad, self._return_forgotten = skip_bad, return_forgotten
        self._chats: list[tuple[Chat, BadRecord]] = []
        self._messages = self._size_bytes = 0

    def add(self, chat: Chat, size_bytes: int, place: BadRecord) -> None:
        self._chats.append((chat, place))
        self._messages, self._size_bytes = self._messages + len(chat.messages), self._size_bytes + size_bytes
        if self._messages >= BATCH or self._size_bytes >= BATCH_BYTES:
            self.flush()

    def refuse(self, bad: BadRecord) -> None:
        """Note what cannot be taken; without `skip_bad` record what came before it and raise."""
        if not self._skip_bad:
            self.flush()
            raise bad
        self._report.bad.append(bad)

    def flush(self) -> None:
        chats, self._chats, self._messages, self._size_bytes = self._chats, [], 0, 0
        try:
            self._record([chat for chat, _ in chats])
        except InvalidInput:  # before anything was written: leave out those messages that cannot be kept
            for chat, place in chats:
                chat.messages, refused = _parted(chat.messages, place)
                self._record([chat])
                for bad in refused:
                    self.refuse(bad)

    def _record(self, chats: list[Chat]) -> None:
        messages = [message for chat in chats for message in chat.messages]
        titles = {chat.name: chat.title for chat in chats if chat.title and chat.messages}
        if not messages:
            return
        for one in self._memory.record_chats(
            self._user, messages, titles=titles, return_forgotten=self._return_forgotten
        ):
            self._report.added += one.outcome is Outcome.ADDED
            self._report.repeated += one.outcome is Outcome.REPEATED
            self._report.forgotten += one.outcome is Outcome.FORGOTTEN


def _parted(messages: list[Message], place: BadRecord) -> tuple[list[Message], list[BadRecord]]:
    good, bad = list[Message](), list[BadRecord]()
    for number, message in enumerate(messages, 1):
        try:
            good.append(checked_message(message))
        except InvalidInput as exc:
            problem = f"message {number} of it cannot be kept: {exc}"
            bad.append(BadRecord(place.line, exc.field, problem, unit=place.unit, file=place.file))
    return good, bad


def _decoded(element: Element, decode: Format, place: BadRecord) -> Chat | BadRecord:
    problem, named = element.problem, ""
    if not problem:
        try:
            return decode(element.raw)
        except msgspec.ValidationError as exc:
            problem, _, at = str(exc).partition(" - at ")
            found = _PLACE.fullmatch(at)
            named = found[1] if found else ""
        except RecursionError:
            problem = "it is nested too deeply"
        except (msgspec.DecodeError, UnicodeDecodeError):
            problem = "it is not valid JSON"
        except InvalidInput as exc:
            problem = str(exc)
    return BadRecord(place.line, named, f"{problem} (from byte {element.offset:,})", unit=place.unit, file=place.file)


def decoded_as(kind: type[T], raw: bytes) -> T:
    """Decode JSON into a struct; where a text holds half a character, only that text is to suffer, so it stays in."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            return msgspec.convert(json.loads(raw), kind)
        except ValueError as exc:
            if isinstance(exc, msgspec.ValidationError):
                raise
            raise msgspec.DecodeError from None


def kept_title(title: str | None, left_out: Counter[str]) -> str | None:
    """A title that can be kept, None for a blank one; another is counted as left out."""
    try:
        return checked_label(title.strip() if title else None, field="title")
    except InvalidInput:
        left_out["titles that cannot be kept"] += 1
        return None


def instant(value: object) -> datetime | None:
    """A moment as the products write it: seconds since 1970, or ISO 8601, where no zone means UTC; else None."""
    try:
        if isinstance(value, int | float):
            return EPOCH + timedelta(microseconds=round(value * 1_000_000))
        if isinstance(value, str):
            at = datetime.fromisoformat(value)
            at = at.replace(tzinfo=UTC) if at.utcoffset() is None else at
            at.astimezone(UTC)
            return at
    except (ValueError, OverflowError):
        pass
    return None


def timed(times: Iterator[datetime | None], start: datetime | None) -> Iterator[datetime | None]:
    """Each time, where it is missing that of the nearest earlier message, before the first `start`."""
    for at in times:
        start = at or start
        yield start


def named_kind(prefix: str, name: object) -> str:
    """A kind of content that this release does not know, by the product's own short word for it."""
    word = name if isinstance(name, str) and re.fullmatch(r"[\w.:/-]+", name) else "unknown"
    return f"{prefix} {word[:KIND_MAX]}"
