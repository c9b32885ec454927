"""Brings an upstream AICO installation over: its people, what was said, what it knows, and what they thought of it.

A message is named by its conversation, role and text and how often that was said, because upstream has it under two
unrelated ids in two stores, and in one of them again each night. All else keeps upstream's id as its source.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from aico.ai.memory.manager import MemoryManager
from aico.data.conversations import ConversationRepository, Message, Outcome, checked_message
from aico.data.libsql import LibSQLConnection
from aico.data.row_ids import NaturalIds
from aico.data.user import UserService
from aico.errors import InvalidInput
from aico.portability.records import KINDS, Record
from aico.portability.report import BadRecord, ImportReport
from aico.portability.restore import Restoring
from aico.portability.upstream_folder import Installation, OldMessage, opened_installation
from aico.portability.upstream_rows import FACT_TABLES, FEEDBACK_TABLES, LEFT_OUT, TAKEN, fact_records, feedback_record
from aico.security.keys import Passphrase

BATCH = 1000
STRANGERS = "entries of people who are not in its database, or were removed there"
_SENSITIVE = [replace(kind, name="sensitive", table="sensitive_feedback") for kind in KINDS if kind.name == "feedback"]
_KINDS = (*KINDS, *_SENSITIVE)
"""Sensitive feedback never leaves a vault, so no export has it; here it comes in."""


@dataclass
class UpstreamImport:
    """One run. Killed at any moment, the next one goes on: what was brought over is recognised."""

    connection: LibSQLConnection
    memory: MemoryManager
    users: UserService
    conversations: ConversationRepository
    natural_ids: NaturalIds
    report: ImportReport
    user: str | None
    skip_bad: bool
    return_forgotten: bool
    on_progress: Callable[[int], object] | None = None
    names: dict[str, str] = field(default_factory=dict)
    """Upstream's id of a person to the name here."""
    messages: dict[tuple[str, str], bytes] = field(default_factory=dict)
    """(person, upstream's id) of a message to its id here."""
    talks: dict[str, set[str]] = field(default_factory=dict)
    """The names of each person's conversations."""
    cut: set[tuple[str, str]] = field(default_factory=set)
    """(person, conversation) of those in which something was forgotten here."""

    def run(self, place: Path, secret: Passphrase) -> None:
        """Import the installation in `place`. Raises as `opened_installation`, BadRecord or as `record`."""
        with opened_installation(place, secret) as old:
            self._settle_people(old)
            self._record_messages(old)
            self._restore_rows(old)
            self._count_the_rest(old)
        self.report.conversations = sum(map(len, self.talks.values()))

    def _settle_people(self, old: Installation) -> None:
        people = [row for row in old.database.rows("users") if row.get("is_active")]
        if self.user is not None and len(people) > 1:
            raise InvalidInput(
                f"the old installation has {len(people)} people, and one user was named; nothing was imported",
                hint="leave --user out: each becomes a user of their own name",
            )
        for row in people:
            name = self.user or _free_name(row, set(self.names.values()))
            self.names[row["uuid"]] = name
            if self.users.find(name) is None:
                self.users.create_user(name, full_name=row.get("full_name"), nickname=row.get("nickname"))
        self._relate(old)

    def _relate(self, old: Installation) -> None:
        if "user_relationships" not in old.database.tables():
            return
        for row in old.database.rows("user_relationships"):
            pair = [self.names.get(row[key]) for key in ("user_uuid", "related_user_uuid")]
            ids = [self.users.find(name) for name in pair if name is not None]
            if len(ids) == 2 and ids[0] and ids[1] and ids[0] != ids[1] and row.get("is_active"):
                self.users.add_relationship(ids[0].hex(), ids[1].hex(), str(row["relationship_type"]))
            else:
                self.report.left_out["relationships with people who are not there"] += 1

    # Messages

    def _record_messages(self, old: Installation) -> None:
        said: Counter[str] = Counter()
        with closing(old.working_messages()) as working:
            self._record_all(self._named(working, said, "message of its working memory", once=False))
        self._record_all(self._named(old.semantic_messages(), said, "message of its vector store", once=True))

    def _record_all(self, messages: Iterator[tuple[OldMessage, Message]]) -> None:
        while some := list(islice(messages, BATCH)):
            for uuid in dict.fromkeys(message.user for message, _ in some):
                self._record(uuid, [pair for pair in some if pair[0].user == uuid])

    def _named(
        self, found: Iterable[OldMessage | None], said: Counter[str], unit: str, *, once: bool
    ) -> Iterator[tuple[OldMessage, Message]]:
        for number, old in enumerate(found, 1):
            if old is not None and old.user not in self.names:
                self.report.left_out[STRANGERS] += 1
                continue
            try:
                if old is None:
                    raise InvalidInput("it is not what upstream writes")
                if old.at is None:
                    raise InvalidInput("it does not say when it was said", field="timestamp")
                digest = hashlib.sha256(repr((old.user, old.conversation, old.role, old.text)).encode()).hexdigest()[
                    :32
                ]
                if once and said[digest]:
                    self.report.left_out["further copies of messages in its vector store"] += 1
                    continue
                said[digest] += 1
                message = Message(
                    old.text,
                    role=old.role,
                    conversation=old.conversation,
                    at=old.at,
                    source_id=f"aico-upstream:{digest}:{said[digest]}",
                )
                yield old, checked_message(message)
            except InvalidInput as exc:
                self._refuse(BadRecord(number, exc.field, str(exc), unit=unit))

    def _record(self, uuid: str, pairs: list[tuple[OldMessage, Message]]) -> None:
        outcomes = self.memory.record_outcomes(
            self.names[uuid], [message for _, message in pairs], return_forgotten=self.return_forgotten
        )
        for (old, _), one in zip(pairs, outcomes, strict=True):
            if old.id:
                self.messages[uuid, old.id] = one.id
            self.talks.setdefault(uuid, set()).add(old.conversation)
            if one.outcome is Outcome.FORGOTTEN:
                self.cut.add((uuid, old.conversation))
            self.report.added += one.outcome is Outcome.ADDED
            self.report.by_kind["message"] += one.outcome is Outcome.ADDED
            self.report.repeated += one.outcome is Outcome.REPEATED
            self.report.forgotten += one.outcome is Outcome.FORGOTTEN
        self._tell()

    # Rows of the database

    def _restore_rows(self, old: Installation) -> None:
        for uuid, name in self.names.items():
            restoring = Restoring(
                self.connection,
                self.users,
                self.natural_ids,
                name,
                renaming=True,
                report=self.report,
                skip_bad=self.skip_bad,
                return_forgotten=self.return_forgotten,
                kinds=_KINDS,
                unit="row",
            )
            with self.connection.transaction():
                restoring.user_id = self.users.ensure(name)
            records = self._records(old, uuid, restoring.user_id)
            while some := list(islice(records, BATCH)):
                restoring.run(some)
                self._tell()

    def _records(self, old: Installation, uuid: str, user_id: bytes) -> Iterator[tuple[int, Record]]:
        tables = set(old.database.tables())

        def new_id(kind: str, source: str) -> str:
            return self.natural_ids.brought(user_id, kind, source).hex()

        def message(source: str) -> str | None:
            found = self.messages.get((uuid, source))
            return found.hex() if found else None

        for table in FACT_TABLES:
            for number, row in self._rows(old, table, tables, uuid, "user_id"):
                for record in fact_records(row, new_id, message, self.report.left_out):
                    yield number, record
        for table in FEEDBACK_TABLES:
            for number, row in self._rows(old, table, tables, uuid, "user_uuid"):
                conversation = str(row.get("conversation_id") or "")
                if (uuid, conversation) in self.cut and message(str(row.get("message_id") or "")) is None:
                    self.report.forgotten += 1  # it may be about what was forgotten: upstream can no longer tell
                    continue
                known = conversation in self.talks.get(uuid, ())
                there = self.conversations.conversation_id(user_id, conversation) if known else None
                yield number, feedback_record(row, new_id, message, there)

    def _rows(
        self, old: Installation, table: str, tables: set[str], uuid: str, owner: str
    ) -> Iterator[tuple[int, dict[str, Any]]]:  # whatever the database holds
        if table in tables:
            for number, row in enumerate(old.database.rows(table), 1):
                if row.get(owner) == uuid:
                    yield number, row

    def _count_the_rest(self, old: Installation) -> None:
        """What has no place here is counted by what it is, a table that nobody described by its name."""
        tables = old.database.tables()
        for table in tables:
            if table not in TAKEN:
                self.report.left_out[LEFT_OUT.get(table, f"rows of its table {table}")] += old.database.count(table)
        for table in {*FACT_TABLES, *FEEDBACK_TABLES} & set(tables):
            owner = "user_id" if table in FACT_TABLES else "user_uuid"
            strangers = sum(row.get(owner) not in self.names for row in old.database.rows(table))
            self.report.left_out[STRANGERS] += strangers
        removed = sum(not row.get("is_active") for row in old.database.rows("users"))
        self.report.left_out["people who were removed there"] += removed
        self.report.left_out, self.report.by_kind = +self.report.left_out, +self.report.by_kind

    def _refuse(self, bad: BadRecord) -> None:
        if not self.skip_bad:
            raise bad
        self.report.bad.append(bad)

    def _tell(self) -> None:
        if self.on_progress is not None:
            self.on_progress(self.report.added + self.report.repeated + self.report.forgotten)


def _free_name(row: dict[str, Any], taken: set[str]) -> str:
    """A person's short name: what they are called, else their full name, else their id."""
    names = [str(row.get(key) or "").strip() for key in ("nickname", "full_name")]
    return next((name for name in names if name and name not in taken), str(row["uuid"]))
