"""Reads an export of `aico export` back: identically into an empty vault, without duplicates into any other.

An empty vault takes over the naming key of the export, so every id is kept, the same `source_id` is the same message,
and what was forgotten stays forgotten. In a vault with another naming key, and under another user's name, the rows
that somebody named get the ids they would have had there, and references to them follow.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

import msgspec

from aico.data.libsql import LibSQLConnection, Value
from aico.data.limits import checked_name
from aico.data.row_ids import NaturalIds
from aico.data.user import UserService
from aico.errors import FormatTooNew, InvalidInput
from aico.portability.export import PROGRESS_EVERY, VERSION
from aico.portability.jsonl import LINE_MAX_BYTES
from aico.portability.records import KINDS, USER, Kind, Record, RowValues, Table
from aico.portability.report import BadRecord, ImportReport
from aico.security.keys import NaturalKey

BATCH, BATCH_BYTES = 10_000, 16 * 1024 * 1024


class Header(msgspec.Struct):
    """The first line of an export."""

    aico_export: int
    user: str
    naming_key: str


class NamingKeys(Protocol):
    """Takes over a naming key."""

    def adopt(self, key: NaturalKey) -> None:
        """Make it the vault's own if the vault is empty; otherwise nothing happens."""
        ...


def read_header(line: bytes) -> Header:
    """The header of an export. Raises BadRecord, or FormatTooNew for an export of a newer release."""
    try:
        header = msgspec.json.decode(line, type=Header)
        NaturalKey(bytes.fromhex(header.naming_key))
        checked_name(header.user, field="user")
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise BadRecord(1, "", "it is not the first line of an aico export") from None
    if header.aico_export > VERSION:
        raise FormatTooNew(
            f"the export has version {header.aico_export}, this release reads up to {VERSION}; nothing was imported",
            hint="update aico",
        )
    return header


def import_export(
    connection: LibSQLConnection,
    file: BinaryIO,
    report: ImportReport,
    *,
    users: UserService,
    natural_ids: NaturalIds,
    naming_keys: NamingKeys,
    user: str | None = None,
    skip_bad: bool = False,
    return_forgotten: bool = False,
    on_progress: Callable[[int], object] | None = None,
) -> None:
    """Restore every record, for the export's own user or the one named.

    Raises BadRecord at the first line that cannot be taken, unless `skip_bad`, and for a file that is not whole; what
    came before is restored then, and importing the whole file adds the rest.
    """
    header = read_header(file.readline(LINE_MAX_BYTES))
    naming_keys.adopt(NaturalKey(bytes.fromhex(header.naming_key)))
    restoring = Restoring(
        connection,
        users,
        natural_ids,
        user or header.user,
        renaming=user not in (None, header.user),
        report=report,
        skip_bad=skip_bad,
        return_forgotten=return_forgotten,
    )
    batch, began_at = list[tuple[int, Record]](), 0
    try:
        for number, bytes_read, taken in _lines(file, on_progress):
            if isinstance(taken, BadRecord):
                restoring.refuse(taken)
            else:
                batch.append((number, taken))
            if len(batch) == BATCH or bytes_read - began_at > BATCH_BYTES:
                full, batch, began_at = batch, [], bytes_read
                restoring.run(full)
    except (InvalidInput, OSError):  # a file that cannot be read on: what was read is not lost
        restoring.run(batch)
        raise
    restoring.run(batch)
    restoring.check_whole()


def _lines(
    file: BinaryIO, on_progress: Callable[[int], object] | None
) -> Iterator[tuple[int, int, Record | BadRecord]]:
    """(line number, bytes read, what the line holds)."""
    number, bytes_read = 1, 0
    while raw := file.readline(LINE_MAX_BYTES + 1):
        number, bytes_read = number + 1, bytes_read + len(raw)
        if len(raw) > LINE_MAX_BYTES:
            yield number, bytes_read, BadRecord(number, "", f"it is longer than {LINE_MAX_BYTES:,} bytes")
            return
        if raw.strip():
            try:
                yield number, bytes_read, msgspec.json.decode(raw, type=dict)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                yield number, bytes_read, BadRecord(number, "", "it is not valid JSON")
        if on_progress is not None and number % PROGRESS_EVERY == 0:
            on_progress(bytes_read)
    if on_progress is not None:
        on_progress(bytes_read)


@dataclass
class Restoring:
    """One run: which user it is for, and which ids became others. `unit` is what the input is counted in."""

    connection: LibSQLConnection
    users: UserService
    natural_ids: NaturalIds
    user: str
    renaming: bool
    report: ImportReport
    skip_bad: bool
    return_forgotten: bool
    kinds: Sequence[Kind] = KINDS
    unit: str = "line"
    user_id: bytes = b""
    same_ids: bool = False
    renamed: dict[bytes, bytes] = field(default_factory=dict)
    led: dict[Value, bytes] = field(default_factory=dict)
    """What was merged in this vault, and into what."""
    records: int = 0
    promised: int | None = None

    def __post_init__(self) -> None:
        self.tables = {kind.name: Table(kind, self.connection) for kind in self.kinds}

    def run(self, batch: list[tuple[int, Record]]) -> None:
        """Restore some lines in one transaction; a bad one ends it, those before it are kept."""
        refused: BadRecord | None = None
        bad = list[BadRecord]()
        with self.connection.transaction():
            for number, record in batch:
                try:
                    self._restore(record)
                except InvalidInput as exc:
                    problem = BadRecord(number, exc.field, str(exc), unit=self.unit)
                    if not self.skip_bad:
                        refused = problem
                        break
                    bad.append(problem)
        self.report.bad += bad
        if refused is not None:
            raise refused

    def refuse(self, bad: BadRecord) -> None:
        """Note a line that cannot be taken, or raise."""
        if not self.skip_bad:
            raise bad
        self.report.bad.append(bad)

    def check_whole(self) -> None:
        """The last line says how many records there are: a cut file is noticed."""
        if self.promised != self.records:
            missing = "its last line is missing" if self.promised is None else f"it had {self.promised:,}"
            self.refuse(BadRecord(self.records + 2, "", f"the export is not whole: {missing}"))

    def _restore(self, record: Record) -> None:
        name = record.get("kind")
        if name == "end":
            promised = record.get("records")
            self.promised = promised if isinstance(promised, int) else None
            return
        self.records += 1
        table = self.tables.get(name) if isinstance(name, str) else None
        if table is None:
            self.report.left_out["records of a kind this release does not know"] += 1
            return
        self.report.ignored_fields.update(table.unknown_keys(record))
        row = table.values(record)
        if table.kind is USER:
            self._settle_user(row)
        elif not self.user_id:
            raise InvalidInput("the user's own record must come first")
        self._rename(table.kind, row)
        self._follow_leads(table.kind, row)
        if self._is_forgotten(table.kind, row):
            self.report.forgotten += 1
        elif self._contradicts(table.kind, row):
            self.report.repeated += 1
        elif self._names_anothers(table.kind, row):
            self.report.left_out["records about another person's memory"] += 1
        else:
            added = self.connection.execute(table.insert, table.parameters(row, self.user_id)).rowcount
            self.report.added += added
            if added:
                self.report.by_kind[table.kind.name] += 1
            elif self._is_anothers(table.kind, row):
                self.report.left_out["records under the id of another person's memory"] += 1
            else:
                self.report.repeated += 1

    def _settle_user(self, row: RowValues) -> None:
        """An export may claim any id: it is believed only where this vault gives that very id to the name it is for.

        Whoever has an export knows the naming key, and with it the id of anybody else in the vault.
        """
        generation = row["generation"]
        named = isinstance(generation, int) and self.natural_ids.user(str(row["name"]), generation) == row["id"]
        self.same_ids = named and row["name"] == checked_name(self.user, field="user") and not self.renaming
        known = self.users.find(self.user)
        if self.same_ids and (known is None or known == row["id"]):
            self.user_id = bytes(row["id"]) if isinstance(row["id"], bytes) else b""
        else:
            self.same_ids = False
            self.user_id = self.users.ensure(self.user)
            if known is None:
                self.connection.execute(
                    "UPDATE users SET full_name = ?, nickname = ?, time_zone = ? WHERE id = ?",
                    (row["full_name"], row["nickname"], row["time_zone"], self.user_id),
                )
        row["id"] = self.user_id

    def _rename(self, kind: Kind, row: RowValues) -> None:
        if self.same_ids:
            return
        before = row["id"]
        for name, value in row.items():
            if isinstance(value, bytes) and name != "id":
                row[name] = self.renamed.get(value, value)
        after = kind.natural(self.natural_ids, self.user_id, row) if kind.natural else None
        if after is not None and isinstance(before, bytes):
            row["id"] = self.renamed[before] = after

    def _follow_leads(self, kind: Kind, row: RowValues) -> None:
        """What was merged stays merged: it is not restored, and what hung on it hangs on what it was merged into."""
        if kind.name in ("message", "conversation"):
            into = self.connection.fetch_one(_LED_TO.format(table=kind.table), (row["id"], self.user_id))
            if into is not None:
                self.led[row["id"]] = bytes(into["into_id"])
        columns = [name for name in kind.refers_to if name != "id" and row[name] in self.led]
        for name in columns:
            row[name] = self.led[row[name]]
        if columns and kind.natural and kind.name not in ("message", "fact"):
            row["id"] = kind.natural(self.natural_ids, self.user_id, row) or row["id"]

    def _is_forgotten(self, kind: Kind, row: RowValues) -> bool:
        for column in kind.forgotten_by:
            if row[column] is None:
                continue
            named = (self.led.get(row[column], row[column]), self.user_id)
            if self.return_forgotten:
                self.connection.execute("DELETE FROM erasures WHERE id = ? AND user_id = ?", named)
            elif self.connection.fetch_one("SELECT 1 FROM erasures WHERE id = ? AND user_id = ?", named):
                return True
        return False

    def _contradicts(self, kind: Kind, row: RowValues) -> bool:
        """What this vault holds was neither forgotten nor merged here, nor what it merged apart, whatever the export says."""
        if kind.name in ("message", "conversation"):
            found = f"SELECT 1 FROM {kind.table} WHERE id = ?"
            return row["id"] in self.led and self.connection.fetch_one(found, (self.led[row["id"]],)) is not None
        if kind.name not in ("erasure", "merged"):
            return False
        return any(
            self.connection.fetch_one(f"SELECT 1 FROM {table} WHERE id = ? AND user_id = ?", (row["id"], self.user_id))
            for table in kind.refers_to["id"]
        )

    def _is_anothers(self, kind: Kind, row: RowValues) -> bool:
        """Whether the id of a row that was not added is somebody else's. It is told apart from a repetition."""
        sql = f"SELECT 1 FROM {kind.table} WHERE id = ? AND {kind.owner} <> ?"
        return self.connection.fetch_one(sql, (row["id"], self.user_id)) is not None

    def _names_anothers(self, kind: Kind, row: RowValues) -> bool:
        """Whether the row hangs on what is somebody else's. Nobody would ever see it, and it would go with theirs."""
        return any(
            row[column] is not None
            and self.connection.fetch_one(
                f"SELECT 1 FROM {table} WHERE id = ? AND user_id <> ?", (row[column], self.user_id)
            )
            for column, tables in kind.refers_to.items()
            for table in tables
        )


_LED_TO = """SELECT r.into_id FROM merged_rows r WHERE r.id = ? AND r.user_id = ? AND (
    EXISTS (SELECT 1 FROM {table} t WHERE t.id = r.into_id AND t.user_id = r.user_id)
    OR EXISTS (SELECT 1 FROM erasures e WHERE e.id = r.into_id AND e.user_id = r.user_id))"""
"""Of a person's row that was merged: what it became, there or forgotten since. One that leads nowhere begins anew."""
