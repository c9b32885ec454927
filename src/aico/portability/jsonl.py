"""JSON Lines: one message a line, with the API's own keys.

    {"text": "I moved to Lisbon.", "conversation": "c1", "at": "2026-05-08T19:30:00+02:00", "role": "user",
     "speaker": "Mia", "source_id": "t17"}

`text`, `conversation` and `at` (with its time zone) must be there. A line without `source_id` gets one from its own
content and how often that content came before in the file, so importing a file again adds nothing.
"""

import codecs
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Annotated, BinaryIO

import msgspec

from aico.ai.memory.manager import MemoryManager
from aico.data.conversations import Message, Outcome, checked_message
from aico.data.limits import TEXT_MAX_BYTES
from aico.errors import InvalidInput
from aico.portability.report import BadRecord, ImportReport

BATCH, BATCH_BYTES = 1000, 16 * 1024 * 1024
"""Lines, and characters of their texts, recorded in one transaction: what a kill can cost to do again."""
LINE_MAX_BYTES = 6 * TEXT_MAX_BYTES + 65_536  # JSON may write one byte of text as \u00XX
_FIELD = re.compile(r"`\$\.(\w+)|field `(\w+)`")


class _Line(msgspec.Struct):
    text: str
    conversation: str
    at: Annotated[datetime, msgspec.Meta(tz=True)]
    role: str = "user"
    speaker: str | None = None
    source_id: str | None = None


def import_jsonl(
    memory: MemoryManager,
    user: str,
    file: BinaryIO,
    *,
    report: ImportReport | None = None,
    skip_bad: bool = False,
    return_forgotten: bool = False,
    on_progress: Callable[[int], object] | None = None,
) -> ImportReport:
    """Record every line of `file` for `user`, reading it once, in memory of one batch and 16 bytes a line.

    Counts are added to `report` where one is given. `on_progress` gets the number of bytes read so far. Killed at any moment, the next run goes on: what was recorded
    is recognised. Raises BadRecord at the first line that is not a message, unless `skip_bad`; the lines before it
    are recorded then, and importing the mended file adds only the rest.
    """
    report, batch, size = ImportReport() if report is None else report, list[Message](), 0
    try:
        for record in _records(file, report.ignored_fields, on_progress):
            if isinstance(record, Message):
                batch.append(record)
                size += len(record.text)
            elif skip_bad:
                report.bad.append(record)
            else:
                raise record
            if len(batch) == BATCH or size > BATCH_BYTES:
                full, batch, size = batch, [], 0
                _record(memory, user, full, report, return_forgotten)
    except (InvalidInput, OSError):  # a bad line, or a file that cannot be read on: what was read is not lost
        _record(memory, user, batch, report, return_forgotten)
        raise
    _record(memory, user, batch, report, return_forgotten)
    return report


def _record(
    memory: MemoryManager, user: str, batch: list[Message], report: ImportReport, return_forgotten: bool
) -> None:
    if not batch:
        return
    for one in memory.record_outcomes(user, batch, return_forgotten=return_forgotten):
        report.added += one.outcome is Outcome.ADDED
        report.repeated += one.outcome is Outcome.REPEATED
        report.forgotten += one.outcome is Outcome.FORGOTTEN


def _records(
    file: BinaryIO, ignored_fields: Counter[str], on_progress: Callable[[int], object] | None
) -> Iterator[Message | BadRecord]:
    occurrences: Counter[bytes] = Counter()
    number, bytes_read = 0, 0
    while raw := file.readline(LINE_MAX_BYTES + 1):
        number, bytes_read = number + 1, bytes_read + len(raw)
        if number == 1:
            raw = raw.removeprefix(codecs.BOM_UTF8)
        if len(raw) > LINE_MAX_BYTES:
            raise BadRecord(number, "", f"it is longer than {LINE_MAX_BYTES:,} bytes; is this JSON Lines?")
        if raw.strip():
            yield _record_of(raw, number, ignored_fields, occurrences)
        if on_progress is not None and number % BATCH == 0:
            on_progress(bytes_read)
    if on_progress is not None:
        on_progress(bytes_read)


def _record_of(
    raw: bytes, number: int, ignored_fields: Counter[str], occurrences: Counter[bytes]
) -> Message | BadRecord:
    try:
        line = msgspec.json.decode(raw, type=_Line)
        ignored_fields.update(
            msgspec.json.decode(raw, type=dict[str, msgspec.Raw]).keys() - set(_Line.__struct_fields__)
        )
        source_id = line.source_id or _own_source_id(line, occurrences)
        return checked_message(
            Message(
                line.text,
                role=line.role,
                conversation=line.conversation,
                speaker=line.speaker,
                at=line.at,
                source_id=source_id,
            )
        )
    except msgspec.ValidationError as exc:
        named = _FIELD.search(str(exc))
        return BadRecord(number, (named[1] or named[2]) if named else "", str(exc).partition(" - at ")[0])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return BadRecord(number, "", "it is not valid JSON, or a text in it is not whole")
    except InvalidInput as exc:
        return BadRecord(number, exc.field, str(exc))


def _own_source_id(line: _Line, occurrences: Counter[bytes]) -> str:
    """From the line's content, however it is spaced and ordered, and its occurrence number in the file."""
    digest = hashlib.sha256(msgspec.json.encode(line)).digest()[:16]
    occurrences[digest] += 1
    return f"line:{digest.hex()}:{occurrences[digest]}"
