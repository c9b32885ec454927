"""The facts of the truth. Nothing is overwritten: whatever takes a fact's place closes it, and its history stays."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from aico.clock import IdSource, from_us, to_us
from aico.data.facts.fact import (
    Change,
    Fact,
    History,
    KeptFact,
    Proposal,
    Proposed,
    Status,
    Trust,
    fact_of,
    kept_fact_of,
)
from aico.data.libsql import LibSQLConnection, Row, Value
from aico.data.limits import checked_label, checked_name, checked_text, checked_word
from aico.data.marks import MarkRepository, Marks
from aico.data.row_ids import NaturalIds, parsed_id, rows_by_id
from aico.errors import InvalidInput, NotFound

EDITABLE = ("text", "category", "type", "confidence", "valid_from", "valid_until")

_LINE = """SELECT * FROM facts WHERE id IN (
    WITH RECURSIVE
        before(id, supersedes) AS (
            SELECT id, supersedes FROM facts WHERE id = :fact AND user_id = :user
            UNION SELECT f.id, f.supersedes FROM before b JOIN facts f ON f.id = b.supersedes WHERE +f.user_id = :user),
        line(id) AS (
            SELECT id FROM before
            UNION SELECT f.id FROM line l JOIN facts f ON f.supersedes = l.id WHERE +f.user_id = :user)
    SELECT id FROM line) ORDER BY recorded_at, row_id"""
"""A fact with all before and after it. The plus keeps a person's whole book from being read at each step."""


class FactRepository:
    """Facts by the ids of their users. Writes belong inside a transaction. Any thread may use it."""

    def __init__(
        self, connection: LibSQLConnection, *, natural_ids: NaturalIds, ids: IdSource, marks: MarkRepository
    ) -> None:
        self._connection, self._natural_ids, self._ids, self._marks = connection, natural_ids, ids, marks

    # What a person says

    def add(
        self,
        user_id: bytes,
        text: str,
        *,
        category: str | None = None,
        type: str | None = None,
        confidence: float = 1.0,
        source: str | None = None,
        valid_from: datetime | None = None,
        supersedes: str | None = None,
    ) -> bytes:
        """Record a fact, closing the one it supersedes; its id.

        A `source` that is the id of one of the user's messages ties the fact to it: they are forgotten together.
        Raises InvalidInput, or NotFound if `supersedes` is not a fact this user holds.
        """
        source = checked_label(source, field="source")
        message_id, now = self._message_named(user_id, source), self._ids.now_us()
        since = None if valid_from is None else to_us(valid_from, field="valid_from")
        values = {
            "text": text,
            "category": category,
            "type": type,
            "confidence": confidence,
            "trust": Trust.USER,
            "source": source,
            "source_message_id": message_id,
            "valid_from": since,
            "recorded_at": now,
        }
        older = None if supersedes is None else self._believed(user_id, supersedes)
        fact_id = self._insert(user_id, self._ids.new_id(), values, older)
        if message_id is not None:
            self._add_source(user_id, fact_id, message_id)
        self._note(user_id, fact_id, "remembered", by=None if older is None else older["id"], at=now)
        if older is not None:
            self._hand_over(user_id, older, fact_id, at=now, until=now if since is None else since)
        return fact_id

    def edit(self, user_id: bytes, fact: str, changes: dict[str, Value]) -> bytes:
        """Put a corrected fact in the place of one that is believed; the new one's id, or the same if nothing differs.

        The correction is drawn from the same messages. Raises InvalidInput, or NotFound.
        """
        older = self._believed(user_id, fact)
        if all(older[name] == value for name, value in changes.items()):
            return bytes(older["id"])
        return self._replace(user_id, older, changes, "edited")

    def retract(self, user_id: bytes, fact: str, *, until: int | None) -> None:
        """Believe a fact no longer: it was wrong, or was true `until` then. Raises InvalidInput, or NotFound."""
        row, now = self._believed(user_id, fact), self._ids.now_us()
        _check_ends_later(row["valid_from"], until, field="until")
        self._close(row, at=now, until=until)
        self._note(user_id, row["id"], "retracted" if until is None else "ended", by=None, at=now)

    def restore(self, user_id: bytes, fact: str) -> bytes:
        """Believe a retracted fact again from now on, as a fact in its place; its id. Raises InvalidInput, NotFound."""
        row = self._row(user_id, fact)
        if row["superseded_at"] is None:
            raise InvalidInput("the fact was not retracted; nothing was written")
        if self._connection.fetch_one("SELECT 1 FROM facts WHERE supersedes = ? AND user_id = ?", (row["id"], user_id)):
            raise InvalidInput("another fact took its place; nothing was written", hint="edit that one")
        return self._replace(user_id, row, {"valid_until": None}, "restored")

    # What a model says

    def propose(self, user_id: bytes, proposal: Proposal) -> Proposed:
        """Put a model's finding in the review queue, unless it was there before or was forgotten.

        Its id is a hash of the user and the normalised text, so the same finding twice, or on two devices, is one
        fact; a further message that says so becomes a further source. What the person said keeps the sources that the
        person gave, with which it is forgotten. Raises InvalidInput.
        """
        values = {
            "text": proposal.text,
            "category": proposal.category,
            "type": proposal.type,
            "confidence": proposal.confidence,
            "model": checked_name(proposal.model, field="model"),
            "trust": Trust.EXTRACTED,
            "status": Status.PROPOSED,
        }
        self.ensure_content_keys(user_id)
        key = self._natural_ids.fact(user_id, checked_text(proposal.text))
        message_id = self._message_named(user_id, proposal.message)
        if message_id is None:
            return Proposed.FORGOTTEN
        known = self._connection.fetch_one(
            "SELECT id, status, trust FROM facts WHERE content_key = ? AND user_id = ? "
            "ORDER BY status = 'rejected', superseded_at IS NOT NULL",
            (key, user_id),
        )
        if known is not None:
            if known["status"] != Status.REJECTED and known["trust"] != Trust.USER:
                self._add_source(user_id, known["id"], message_id)
            return Proposed.KNOWN
        if self._connection.fetch_one("SELECT 1 FROM erasures WHERE id = ? AND user_id = ?", (key, user_id)):
            return Proposed.FORGOTTEN
        planted = self._connection.fetch_one("SELECT 1 FROM facts WHERE id = ?", (key,))  # by somebody else
        now, fact_id = self._ids.now_us(), self._ids.new_id() if planted else key
        self._insert(user_id, fact_id, {**values, "recorded_at": now, "proposed_at": now}, None)
        self._add_source(user_id, fact_id, message_id)
        self._note(user_id, fact_id, "proposed", by=None, at=now)
        return Proposed.WAITING

    def accept(self, user_id: bytes, fact: str) -> None:
        """Believe what a model found, from now on. Accepting twice is accepting once. Raises NotFound."""
        self._decide(user_id, fact, Status.ACCEPTED, Trust.CONFIRMED)

    def reject(self, user_id: bytes, fact: str) -> None:
        """Keep a proposal from being believed, and from being proposed again.

        Raises NotFound, or InvalidInput for a fact that is believed.
        """
        self._decide(user_id, fact, Status.REJECTED, Trust.EXTRACTED)

    # What is read

    def facts(self, user_id: bytes, ids: Iterable[bytes]) -> dict[bytes, Fact]:
        """The facts with these ids that belong to this user, by id."""
        rows = rows_by_id(self._connection, "SELECT * FROM facts WHERE id IN ({ids}) AND +user_id = ?", ids, user_id)
        return {row["id"]: fact_of(row) for row in rows}

    def kept(self, user_id: bytes, rows: Sequence[Row]) -> list[KeptFact]:
        """The facts in these rows with their sources and marks."""
        ids = [row["id"] for row in rows]
        marks, sources = self._marks.of(user_id, ids), dict[bytes, tuple[str, ...]]()
        sql = "SELECT fact_id, message_id FROM fact_sources WHERE fact_id IN ({ids}) AND +user_id = ? ORDER BY row_id"
        for fact_id, message_id in rows_by_id(self._connection, sql, ids, user_id):
            sources[fact_id] = (*sources.get(fact_id, ()), message_id.hex())
        return [kept_fact_of(row, sources.get(row["id"], ()), marks.get(row["id"], Marks())) for row in rows]

    def get(self, user_id: bytes, fact: str) -> KeptFact:
        """One fact, whatever became of it. Raises NotFound."""
        return self.kept(user_id, [self._row(user_id, fact)])[0]

    def history(self, user_id: bytes, fact: str) -> History:
        """The fact, all that it took the place of and all that took its place. Raises NotFound."""
        fact_id = self._row(user_id, fact)["id"]
        rows = self._connection.fetch_all(_LINE, {"fact": fact_id, "user": user_id})
        sql = "SELECT * FROM fact_history WHERE fact_id IN ({ids}) AND +user_id = ? ORDER BY row_id"
        changes = rows_by_id(self._connection, sql, [row["id"] for row in rows], user_id)
        in_order = sorted(map(_change, changes), key=lambda change: change.at)
        return History(tuple(self.kept(user_id, rows)), tuple(in_order))

    def as_of(self, user_id: bytes, at: int, *, limit: int, offset: int) -> list[KeptFact]:
        """What was believed at an instant, in the order it came to be."""
        rows = self._connection.fetch_all(
            "SELECT * FROM facts WHERE user_id = ? AND status = 'accepted' AND recorded_at <= ? "
            "AND (superseded_at IS NULL OR superseded_at > ?) "
            "ORDER BY recorded_at, row_id LIMIT ? OFFSET ?",
            (user_id, at, at, limit, offset),
        )
        return self.kept(user_id, rows)

    # What forgetting needs

    def ensure_content_keys(self, user_id: bytes) -> None:
        """Compute the content keys that a migration could not, having no key. One look at an index if none is missing."""
        rows = self._connection.fetch_all(
            "SELECT id, text FROM facts WHERE user_id = ? AND content_key IS NULL", (user_id,)
        )
        for row in rows:
            key = self._natural_ids.fact(user_id, row["text"])
            self._connection.execute("UPDATE facts SET content_key = ? WHERE id = ?", (key, row["id"]))

    def drawn_only_from(self, user_id: bytes, messages: Iterable[bytes]) -> list[bytes]:
        """The facts that were drawn from these messages and from no other."""
        chosen = list(messages)
        gone = set(chosen)
        sql = "SELECT fact_id FROM fact_sources WHERE message_id IN ({ids}) AND +user_id = ?"
        candidates = dict.fromkeys(row["fact_id"] for row in rows_by_id(self._connection, sql, chosen, user_id))
        sql = "SELECT fact_id, message_id FROM fact_sources WHERE fact_id IN ({ids}) AND +user_id = ?"
        held = {
            row["fact_id"]
            for row in rows_by_id(self._connection, sql, candidates, user_id)
            if row["message_id"] not in gone
        }
        return [fact_id for fact_id in candidates if fact_id not in held]

    def draw_from(self, user_id: bytes, message: bytes, *, instead_of: bytes) -> None:
        """Let one message be the source of everything that another was the source of, before that one goes."""
        rows = self._connection.fetch_all(
            "SELECT fact_id FROM fact_sources WHERE message_id = ? AND user_id = ?", (instead_of, user_id)
        )
        for row in rows:
            self._add_source(user_id, row["fact_id"], message)
        self._connection.execute("DELETE FROM fact_sources WHERE message_id = ?", (instead_of,))
        self._connection.execute(
            "UPDATE facts SET source = ? WHERE user_id = ? AND source_message_id = ? AND source = ?",
            (message.hex(), user_id, message, instead_of.hex()),
        )

    # The rows

    def _row(self, user_id: bytes, fact: str) -> Row:
        row = self._connection.fetch_one(
            "SELECT * FROM facts WHERE id = ? AND user_id = ?", (parsed_id(fact, what="fact"), user_id)
        )
        if row is None:
            raise NotFound("this user holds no fact with this id; nothing was changed", hint="`list` shows the ids")
        return row

    def _believed(self, user_id: bytes, fact: str) -> Row:
        row = self._row(user_id, fact)
        if row["status"] != Status.ACCEPTED:
            raise InvalidInput("the fact was not accepted; nothing was written", hint="accept it first")
        if row["superseded_at"] is not None:
            raise InvalidInput(
                "the fact was superseded before, or retracted; nothing was written",
                hint="take the newer one, or restore it",
            )
        return row

    def _insert(self, user_id: bytes, fact_id: bytes, values: dict[str, Value], older: Row | None) -> bytes:
        """Write a fact whose `text` and labels were not checked yet. Raises InvalidInput."""
        values = values | {
            "id": fact_id,
            "user_id": user_id,
            "content_key": self._natural_ids.fact(user_id, _checked(values)),
            "category": _label(values["category"], "category"),
            "type": _label(values["type"], "type"),
            "supersedes": None if older is None else older["id"],
        }
        self._connection.execute(
            f"INSERT INTO facts ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})", list(values.values())
        )
        return fact_id

    def _replace(self, user_id: bytes, older: Row, changes: dict[str, Value], change: str) -> bytes:
        """A new fact with the changes in the place of an older one, drawn from the same messages."""
        now = self._ids.now_us()
        kept = {name: older[name] for name in (*EDITABLE, "trust", "source", "source_message_id", "model")}
        values = kept | changes | {"recorded_at": now, "proposed_at": older["proposed_at"]}
        if "text" in changes:
            values["trust"] = Trust.USER
        fact_id = self._insert(user_id, self._ids.new_id(), values, older)
        for row in self._connection.fetch_all(
            "SELECT message_id FROM fact_sources WHERE fact_id = ? AND user_id = ? ORDER BY row_id",
            (older["id"], user_id),
        ):
            self._add_source(user_id, fact_id, row["message_id"])
        self._note(user_id, fact_id, change, by=older["id"], at=now)
        self._hand_over(user_id, older, fact_id, at=now, until=None)
        return fact_id

    def _hand_over(self, user_id: bytes, older: Row, newer: bytes, *, at: int, until: int | None) -> None:
        if older["superseded_at"] is None:
            self._close(older, at=at, until=until)
            self._note(user_id, older["id"], "superseded", by=newer, at=at)
        self._marks.move(user_id, old=older["id"], new=newer)

    def _close(self, row: Row, *, at: int, until: int | None) -> None:
        self._connection.execute(
            "UPDATE facts SET superseded_at = ?, valid_until = coalesce(valid_until, ?) WHERE id = ?",
            (at, until, row["id"]),
        )

    def _decide(self, user_id: bytes, fact: str, status: str, trust: str) -> None:
        row, now = self._row(user_id, fact), self._ids.now_us()
        if row["status"] == status:
            return
        if row["status"] == Status.ACCEPTED:
            raise InvalidInput("the fact is believed already; nothing was written", hint="retract it instead")
        self._connection.execute(
            "UPDATE facts SET status = ?, trust = ?, recorded_at = ? WHERE id = ?", (status, trust, now, row["id"])
        )
        self._note(user_id, row["id"], status, by=None, at=now)

    def _add_source(self, user_id: bytes, fact_id: bytes, message_id: bytes) -> None:
        self._connection.execute(
            "INSERT INTO fact_sources (id, user_id, fact_id, message_id) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE "
            "SET user_id = excluded.user_id, fact_id = excluded.fact_id, message_id = excluded.message_id "
            "WHERE user_id <> excluded.user_id",
            (self._natural_ids.fact_source(fact_id, message_id), user_id, fact_id, message_id),
        )

    def _message_named(self, user_id: bytes, source: str | None) -> bytes | None:
        try:
            message_id = parsed_id(source or "", what="message")
        except NotFound:
            return None
        known = self._connection.fetch_one("SELECT 1 FROM messages WHERE id = ? AND user_id = ?", (message_id, user_id))
        return message_id if known else None

    def _note(self, user_id: bytes, fact_id: bytes, change: str, *, by: bytes | None, at: int) -> None:
        self._connection.execute(
            "INSERT INTO fact_history (id, user_id, fact_id, change, by_fact_id, at) VALUES (?, ?, ?, ?, ?, ?)",
            (self._ids.new_id(), user_id, fact_id, change, by, at),
        )


def _checked(values: dict[str, Value]) -> str:
    """The text of a fact to be written. Raises InvalidInput for it, the confidence, or an end before the beginning."""
    confidence, text = values["confidence"], values["text"]
    if not isinstance(confidence, int | float) or not 0 <= confidence <= 1:
        raise InvalidInput("confidence lies between 0 and 1; nothing was written", field="confidence")
    _check_ends_later(values.get("valid_from"), values.get("valid_until"), field="valid_until")
    return checked_text(text)  # type: ignore[arg-type]  # it refuses what is no text


def _check_ends_later(since: Value, until: Value, *, field: str) -> None:
    if isinstance(since, int) and isinstance(until, int) and until <= since:
        raise InvalidInput("the fact would end before it began; nothing was written", field=field)


def _label(value: Value, field: str) -> str | None:
    return checked_word(value, field=field)  # type: ignore[arg-type]  # it refuses what is no text


def _change(row: Row) -> Change:
    by = row["by_fact_id"]
    return Change(row["fact_id"].hex(), row["change"], from_us(row["at"]), None if by is None else by.hex())
