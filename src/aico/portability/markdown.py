"""One person's whole memory as one Markdown page, for people: facts first, then every conversation in its order.

What was said is set as a quotation, so that no text can pass for a heading of ours. Nothing reads it back.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import BinaryIO

from aico.clock import from_us
from aico.data.libsql import LibSQLConnection, Row
from aico.portability.export import PROGRESS_EVERY, ExportReport

_FACTS = "SELECT * FROM facts WHERE user_id = ? ORDER BY recorded_at, row_id"
_CONVERSATIONS = """SELECT c.id, c.name, c.title FROM conversations c WHERE c.user_id = ?
    ORDER BY (SELECT min(m.at) FROM messages m WHERE m.conversation_id = c.id), c.row_id"""
_MESSAGES = """SELECT text, role, speaker, at, utc_offset_min FROM messages
    WHERE conversation_id = ? AND user_id = ? ORDER BY at, position"""


def export_markdown(
    connection: LibSQLConnection,
    user_id: bytes,
    file: BinaryIO,
    *,
    on_progress: Callable[[int], object] | None = None,
) -> ExportReport:
    """Write everything that can be read, as it is at this moment; others may go on writing meanwhile."""
    written, size_bytes = Counter[str](), 0
    with connection.snapshot() as rows:
        for kind, lines in _blocks(rows, user_id):
            size_bytes += file.write(lines.encode())
            written[kind] += 1
            if on_progress is not None and written.total() % PROGRESS_EVERY == 0:
                on_progress(written.total())
    del written["heading"]
    return ExportReport(written, size_bytes)


def _blocks(rows: Callable[..., Iterator[Row]], user_id: bytes) -> Iterator[tuple[str, str]]:
    """(kind, Markdown) of each piece."""
    [user] = rows("SELECT name FROM users WHERE id = ?", (user_id,))
    yield "heading", f"# The memory of {_line(user['name'])}\n"
    for number, fact in enumerate(rows(_FACTS, (user_id,))):
        if number == 0:
            yield "heading", "\n## Facts\n\n"
        yield "fact", _fact(fact)
    for conversation in rows(_CONVERSATIONS, (user_id,)):
        yield "conversation", f"\n## {_line(conversation['title'] or conversation['name'])}\n"
        for message in rows(_MESSAGES, (conversation["id"], user_id)):
            yield "message", _message(message)


def _fact(fact: Row) -> str:
    told = f"since {from_us(fact['recorded_at']):%Y-%m-%d}"
    if fact["superseded_at"] is not None:
        told += f", no longer believed since {from_us(fact['superseded_at']):%Y-%m-%d}"
    return f"- {_line(fact['text'])} *({told})*\n"


def _message(message: Row) -> str:
    at = from_us(message["at"], utc_offset_min=message["utc_offset_min"])
    quoted = "".join(f"> {line}\n" for line in message["text"].splitlines())
    return f"\n**{_line(message['speaker'] or message['role'])}**, {at:%Y-%m-%d %H:%M} {at:%z}\n\n{quoted}"


def _line(text: str) -> str:
    """A text that must stay on its line and mean nothing to Markdown."""
    plain = " ".join(text.split())
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>#|" else letter for letter in plain)
