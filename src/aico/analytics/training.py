"""What leaves for training a model: only what its person agreed to, without names and contacts, told in the audit log.

A person agrees with the preference `training.consent` set to true; the conversations named in the list
`training.excluded` stay out. So does every message that feedback marked as sensitive is about, and every such
conversation. What is written is readable by whoever gets it.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, Literal

import msgspec

from aico.analytics.redaction import Redactor
from aico.data.audit_log import Action, AuditLog
from aico.data.conversations import ConversationRepository
from aico.data.libsql import LibSQLConnection
from aico.data.limits import checked_name
from aico.data.preferences import PreferenceRepository
from aico.data.user import UserService
from aico.errors import InvalidInput, NotFound
from aico.portability.export import new_file

CONSENT, EXCLUDED = "training.consent", "training.excluded"

_MESSAGES = """SELECT m.conversation_id, m.role, m.text,
    (SELECT avg(value) FROM feedback_events f WHERE f.subject_id = m.id AND f.user_id = m.user_id AND f.kind = 'rating') AS rating
    FROM messages m JOIN conversations c ON c.id = m.conversation_id
    WHERE m.user_id = ?1 AND m.id NOT IN (SELECT subject_id FROM sensitive_feedback WHERE user_id = ?1 AND subject_id IS NOT NULL)
        AND m.conversation_id NOT IN (SELECT subject_id FROM sensitive_feedback WHERE user_id = ?1 AND subject_id IS NOT NULL)
    ORDER BY m.conversation_id, m.at, m.position"""
_NAMES = """SELECT name FROM users WHERE id = ?1 UNION SELECT full_name FROM users WHERE id = ?1
    UNION SELECT nickname FROM users WHERE id = ?1 UNION SELECT DISTINCT speaker FROM messages WHERE user_id = ?1
    UNION SELECT u.name FROM user_relationships r JOIN users u ON u.id = r.related_user_id WHERE r.user_id = ?1
    UNION SELECT u.full_name FROM user_relationships r JOIN users u ON u.id = r.related_user_id WHERE r.user_id = ?1"""


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What was written."""

    conversations: int
    messages: int
    left_out: int
    """Messages of conversations that the person keeps out, or that are marked as sensitive."""
    redacted: bool


class TrainingExport:
    """Writes one person's conversations for training. Any thread may use it."""

    def __init__(
        self,
        connection: LibSQLConnection,
        *,
        users: UserService,
        conversations: ConversationRepository,
        preferences: PreferenceRepository,
        audit_log: AuditLog,
    ) -> None:
        self._connection, self._users, self._preferences = connection, users, preferences
        self._audit_log, self._conversation_names = audit_log, conversations

    def write(self, user: str, file: Path, *, format: Literal["jsonl", "parquet"], redact: bool) -> TrainingReport:
        """Write a new file: a conversation a line, or in Parquet a message a row, in the order they were said.

        A message has its role, its content and the mean of its ratings, if there are some; no id, name or time. The
        audit log says so before the first byte. Raises InvalidInput where the person did not agree, where they keep out
        a conversation that they do not have, or where the file exists, NotFound for a user, DiskFull or StorageError.
        """
        if format not in ("jsonl", "parquet"):
            raise InvalidInput('format is "jsonl" or "parquet"; nothing was written', field="format")
        user_id = self._users.find(user)
        if user_id is None:
            raise NotFound("there is no user of this name; nothing was written")
        if self._preferences.get(user, CONSENT, default=False) is not True:
            raise InvalidInput(
                "this person did not agree that their conversations train a model; nothing was written",
                hint=f"they agree with `aico prefs set {CONSENT} true`",
            )
        names = [name for [name] in self._connection.fetch_all(_NAMES, (user_id,)) if name]
        clean: Callable[[str], str] = Redactor(names).redact if redact else str
        excluded = self._excluded(user, user_id)
        with new_file(file) as opened:
            self._audit_log.append(Action.EXPORTED, user_id=user_id)
            counts = Counter[str]()
            conversations = self._conversations(user_id, excluded, clean, counts)
            (_write_lines if format == "jsonl" else _write_parquet)(conversations, opened)
        [(all_of_them,)] = self._connection.fetch_all("SELECT count(*) FROM messages WHERE user_id = ?", (user_id,))
        left_out = max(0, all_of_them - counts["messages"])
        return TrainingReport(counts["conversations"], counts["messages"], left_out, redact)

    def _excluded(self, user: str, user_id: bytes) -> set[bytes]:
        """The ids of the conversations that stay out, those they were merged into too. A name that is none is refused:
        with a slip of the pen the diary would leave."""
        excluded = {
            self._conversation_names.conversation_id(user_id, checked_name(name, field=EXCLUDED))
            for name in _strings(self._preferences.get(user, EXCLUDED, default=[]))
        }
        known = {
            id_ for [id_] in self._connection.fetch_all("SELECT id FROM conversations WHERE user_id = ?", (user_id,))
        }
        if excluded - known:
            raise InvalidInput(
                f"the preference {EXCLUDED} names a conversation that this person does not have; nothing was written",
                hint="`aico conversations ls` shows their names; take out those that are gone",
                field=EXCLUDED,
            )
        return excluded

    def _conversations(
        self, user_id: bytes, excluded: set[bytes], clean: Callable[[str], str], counts: Counter[str]
    ) -> Iterator[list[dict[str, Any]]]:
        """Each conversation's messages."""
        with self._connection.snapshot() as rows:
            for conversation_id, found in groupby(rows(_MESSAGES, (user_id,)), key=lambda row: row["conversation_id"]):
                if conversation_id in excluded:
                    continue
                messages = [_message(row, clean) for row in found]
                counts.update(conversations=1, messages=len(messages))
                yield messages


def _message(row: Any, clean: Callable[[str], str]) -> dict[str, Any]:
    told = {"role": row["role"], "content": clean(row["text"])}
    return told if row["rating"] is None else {**told, "rating": row["rating"]}


def _strings(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise InvalidInput(
            f"the preference {EXCLUDED} is not a list of conversations' names; nothing was written",
            hint=f"for example `aico prefs set {EXCLUDED} '[\"diary\"]'`",
        )
    return value


def _write_lines(conversations: Iterator[list[dict[str, Any]]], file: BinaryIO) -> None:
    for messages in conversations:
        file.write(msgspec.json.encode({"messages": messages}) + b"\n")


def _write_parquet(conversations: Iterator[list[dict[str, Any]]], file: BinaryIO) -> None:
    from aico.data.duckdb.parquet import ParquetWriter

    with ParquetWriter(file, {"conversation": int, "role": str, "content": str, "rating": float}) as writer:
        for number, messages in enumerate(conversations):
            writer.add([{"conversation": number, **message} for message in messages])
