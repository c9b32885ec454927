"""Forgetting: which rows a wish means, their removal from the truth and from every view."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from aico.ai.memory.hits import Hit
from aico.ai.memory.index import Filter
from aico.ai.memory.receipts import OF_FACTS, OF_MESSAGES, WORDING, Receipt, Receipts
from aico.ai.memory.semantic import SemanticMemoryStore
from aico.ai.memory.traces import Bounds, Trace, TraceSearch, remove_traces
from aico.ai.memory.view import View
from aico.clock import IdSource, from_us
from aico.data.audit_log import Action, AuditLog
from aico.data.conversations import ConversationRepository, Moment
from aico.data.facts import Fact, FactRepository
from aico.data.libsql import LibSQLConnection
from aico.data.row_ids import is_id, parsed_id, rows_by_id
from aico.errors import AicoError, ForgottenInPart, InvalidInput, NotAsShown, NotFound, StorageError

NEAR_LIMIT = 5

_OF_USERS = (
    "preferences",
    "logs",
    "user_relationships",
    "feedback_events",
    "sensitive_feedback",
    "tasks",
    "merged_rows",
    "items",
)

# An imported file may claim that anything was forgotten. Whoever had the row is believed.
_UNLESS_THEIRS = """ON CONFLICT (id) DO UPDATE SET user_id = excluded.user_id, receipt_id = excluded.receipt_id,
    kind = excluded.kind, at = excluded.at WHERE user_id <> excluded.user_id"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be forgotten, in the caller's selectors. Conversation, about and time narrow each other down."""

    id: str | None = None
    conversation: bytes | None = None
    about: str | None = field(default=None, repr=False)
    since_us: int | None = None
    until_us: int | None = None
    everything: bool = False
    keep_facts: bool = False
    """Facts that would go only because they were drawn from forgotten messages stay, without their source."""
    traces_within: bytes | None = None
    """Traces outside of this conversation stay."""

    def check(self) -> None:
        """Raise InvalidInput for no selector, or for selectors that contradict each other."""
        narrowing = [self.conversation, self.about, self.since_us, self.until_us]
        alone = (self.id is not None) + self.everything
        given = alone + any(value is not None for value in narrowing)
        if given == 0:
            raise InvalidInput(
                "nothing was named to forget; nothing was changed",
                hint="name an id, a conversation, a subject or a time",
            )
        if given > 1:
            raise InvalidInput(
                "an id, or everything, stands alone; nothing was changed", hint="leave the other selectors out"
            )
        if self.everything and self.keep_facts:
            raise InvalidInput("everything keeps no facts; nothing was changed", hint="leave one of the two out")
        if self.since_us is not None and self.until_us is not None and self.since_us >= self.until_us:
            raise InvalidInput("since is not before until; nothing was changed", hint="swap the two")


@dataclass(frozen=True, slots=True)
class _Selection:
    messages: list[bytes]
    facts: list[bytes]
    drawn: list[bytes]


class Eraser:
    """Carries out wishes to forget. Any thread may use it."""

    def __init__(
        self,
        connection: LibSQLConnection,
        *,
        conversations: ConversationRepository,
        facts: FactRepository,
        semantic: SemanticMemoryStore,
        views: Sequence[View],
        receipts: Receipts,
        ids: IdSource,
        audit_log: AuditLog,
    ) -> None:
        self._connection, self._views, self._ids, self._audit_log = connection, views, ids, audit_log
        self._conversations, self._facts, self._semantic = conversations, facts, semantic
        self._receipts = receipts

    def forget(self, user_id: bytes, wish: Wish, *, agreed: Receipt | None = None) -> Receipt:
        """Remove what the wish means, in one transaction, from the truth; then from every view.

        A wish that finds nothing, as when it is repeated, lets the views go again of all that was ever forgotten. Raises
        NotAsShown where it means anything else than `agreed`, a preview, shows, InvalidInput, or NotFound for an id that is
        not the user's, and nothing is removed then; ForgottenInPart where the truth let go of it and a view could not.
        """
        wish.check()
        if self._connection.in_transaction:  # what it holds uncommitted could not be found
            raise StorageError("forget is a transaction of its own; nothing was forgotten", hint="end yours first")
        receipt_id, at = self._ids.new_id(), self._ids.now_us()
        before = self._select(user_id, wish)
        search = self._search(user_id, wish, before)
        search.look()  # while others write: a log may be long
        with self._connection.transaction():  # nobody records between the choice and the removal
            chosen = self._select(user_id, wish)
            traces = search.look_again() if chosen == before else self._search(user_id, wish, chosen).look()
            if agreed is not None and _shown(self._items(user_id, chosen), traces) != _shown(
                agreed.items, agreed.traces
            ):
                raise NotAsShown(
                    "this is no longer exactly what was shown; nothing was forgotten", hint="look at a new preview"
                )
            self._note_erasures(user_id, chosen, receipt_id, at)
            if wish.everything:
                self._note_erasures_of_merged(user_id, receipt_id, at)
            hanging = self._remove(user_id, chosen, everything=wish.everything)
            removed = dict(Counter(hanging) + Counter(remove_traces(self._connection, traces)))
            self._audit_log.append(Action.FORGOTTEN, user_id=user_id, subject_id=receipt_id, counts=removed)
        failed = self._erase_in_views(user_id, [*chosen.messages, *chosen.facts])
        receipt = self._receipt(receipt_id, at, chosen, preview=False)
        receipt = replace(receipt, removed=removed, log_cleared=self._connection.clear_log())
        if failed:
            raise _in_part(receipt, failed) from next(iter(failed.values()))
        return receipt.able_to(partial(self._receipts.remains, user_id))

    def preview(self, user_id: bytes, wish: Wish) -> Receipt:
        """What `forget` would remove, with its content, and what is near in meaning but would stay."""
        wish.check()
        chosen = self._select(user_id, wish)
        receipt = self._receipt(self._ids.new_id(), self._ids.now_us(), chosen, preview=True)
        traces = tuple(self._search(user_id, wish, chosen).look())
        items = self._items(user_id, chosen)
        return replace(receipt, items=items, traces=traces, near=self._near(user_id, wish, chosen))

    def _items(self, user_id: bytes, chosen: _Selection) -> tuple[Moment | Fact, ...]:
        messages = self._conversations.moments(user_id, chosen.messages)
        facts = self._facts.facts(user_id, chosen.facts)
        return (
            *(messages[i] for i in chosen.messages if i in messages),
            *(facts[i] for i in chosen.facts if i in facts),
        )

    def _erase_in_views(self, user_id: bytes, ids: Sequence[bytes]) -> dict[str, Exception]:
        """Have every view let go of these; those that could not, and why."""
        gone, failed = ids or self._receipts.forgotten(user_id), dict[str, Exception]()
        for view in self._views:
            try:
                view.erase(user_id, gone)
            except Exception as exc:  # noqa: BLE001  # whatever one of them raises, the others are tried, and it is told
                failed[view.name] = exc
        return failed

    def _receipt(self, receipt_id: bytes, at: int, chosen: _Selection, *, preview: bool) -> Receipt:
        return Receipt(
            id=receipt_id.hex(),
            at=from_us(at),
            preview=preview,
            messages=tuple(id_.hex() for id_ in chosen.messages),
            facts=tuple(id_.hex() for id_ in chosen.facts),
            removed={},
            log_cleared=False,
            drawn=tuple(id_.hex() for id_ in chosen.drawn),
        )

    def _select(self, user_id: bytes, wish: Wish) -> _Selection:
        if wish.id is not None:
            messages, facts = self._select_id(user_id, parsed_id(wish.id, what="memory"))
        elif wish.about is not None:
            messages, facts = self._select_about(user_id, wish, wish.about)
        else:
            messages, facts = self._select_rows(user_id, wish)
        named = set(facts)
        drawn = [id_ for id_ in self._facts.drawn_only_from(user_id, messages) if id_ not in named]
        return _Selection(messages, facts if wish.keep_facts else [*facts, *drawn], drawn)

    def _select_id(self, user_id: bytes, wanted: bytes) -> tuple[list[bytes], list[bytes]]:
        messages, facts = ([wanted] if self._exists(table, wanted, user_id) else [] for table in ("messages", "facts"))
        if not messages and not facts and not self._receipts.is_left_in_a_view(user_id, wanted):
            raise NotFound("no memory of this user has this id; nothing was forgotten", hint="`recall` shows the ids")
        return messages, facts

    def _select_about(self, user_id: bytes, wish: Wish, about: str) -> tuple[list[bytes], list[bytes]]:
        if not self._semantic.content_words(user_id, about):
            raise InvalidInput(
                "the subject holds no word that tells anything; nothing was forgotten",
                hint="name it by a noun or a name",
            )
        where = Filter(conversation=wish.conversation, since_us=wish.since_us, until_us=wish.until_us)
        found = self._semantic.containing_all(user_id, about, where)
        facts = [id_ for id_ in found if self._exists("facts", id_, user_id)]
        return [id_ for id_ in found if id_ not in set(facts)], facts

    def _select_rows(self, user_id: bytes, wish: Wish) -> tuple[list[bytes], list[bytes]]:
        since = -(1 << 63) if wish.since_us is None else wish.since_us
        until = (1 << 63) - 1 if wish.until_us is None else wish.until_us
        of_user = "user_id = ?" if wish.conversation is None else "conversation_id = ? AND +user_id = ?"
        messages = self._connection.fetch_all(
            f"SELECT id FROM messages WHERE {of_user} AND at >= ? AND at < ?",
            (*(() if wish.conversation is None else (wish.conversation,)), user_id, since, until),
        )
        facts = (
            []
            if wish.conversation is not None
            else self._connection.fetch_all(
                "SELECT id FROM facts WHERE user_id = ? AND coalesce(valid_from, recorded_at) >= ? "
                "AND coalesce(valid_from, recorded_at) < ?",
                (user_id, since, until),
            )
        )
        return [row["id"] for row in messages], [row["id"] for row in facts]

    def _search(self, user_id: bytes, wish: Wish, chosen: _Selection) -> TraceSearch:
        messages = [moment.text for moment in self._conversations.moments(user_id, chosen.messages).values()]
        facts = [fact.text for fact in self._facts.facts(user_id, chosen.facts).values()]
        about = wish.about
        return TraceSearch(
            self._connection,
            user_id,
            forgotten=[*messages, *facts],
            holds_subject=None if about is None else self._semantic.holds_all(user_id, about),
            bounds=Bounds(wish.conversation, wish.since_us, wish.until_us),
            only_in=wish.traces_within,
        )

    def _near(self, user_id: bytes, wish: Wish, chosen: _Selection) -> tuple[Hit, ...]:
        if wish.about is None:
            return ()
        gone = {id_.hex() for id_ in (*chosen.messages, *chosen.facts)}
        found = self._semantic.search(
            user_id, wish.about, limit=NEAR_LIMIT + len(gone), where=Filter(conversation=wish.conversation)
        )
        return tuple(hit for hit in found if hit.id not in gone)[:NEAR_LIMIT]

    def _note_erasures(self, user_id: bytes, chosen: _Selection, receipt_id: bytes, at: int) -> None:
        kinds = (("message", chosen.messages), ("fact", chosen.facts))
        self._connection.execute_many(
            f"INSERT INTO erasures (id, user_id, receipt_id, kind, at) VALUES (?, ?, ?, ?, ?) {_UNLESS_THEIRS}",
            [(id_, user_id, receipt_id, kind, at) for kind, ids in kinds for id_ in ids],
        )
        self._facts.ensure_content_keys(user_id)
        self._connection.execute_many(  # so that no model brings a fact back in the same words
            "INSERT INTO erasures (id, user_id, receipt_id, kind, at) SELECT content_key, user_id, ?, ?, ? "
            f"FROM facts WHERE id = ? {_UNLESS_THEIRS}",
            [(receipt_id, WORDING, at, id_) for id_ in chosen.facts],
        )

    def _note_erasures_of_merged(self, user_id: bytes, receipt_id: bytes, at: int) -> None:
        """The messages that were merged into others stay forgotten as well: what led from their ids goes with everything."""
        self._connection.execute(
            "INSERT INTO erasures (id, user_id, receipt_id, kind, at) SELECT id, user_id, ?, kind, ? FROM merged_rows "
            f"WHERE user_id = ? AND kind = 'message' {_UNLESS_THEIRS}",
            (receipt_id, at, user_id),
        )

    def _remove(self, user_id: bytes, chosen: _Selection, *, everything: bool) -> dict[str, int]:
        """Delete what was chosen and all that hangs from it; how many rows went, by table."""
        of_passages = "DELETE FROM embeddings WHERE owner_id IN (SELECT id FROM passages WHERE message_id = ?)"
        removed = {"embeddings": sum(self._connection.execute(of_passages, (id_,)).rowcount for id_ in chosen.messages)}
        for ids, places in ((chosen.messages, OF_MESSAGES), (chosen.facts, OF_FACTS)):
            for table, column in places:
                removed[table] = removed.get(table, 0) + sum(
                    self._connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (id_,)).rowcount for id_ in ids
                )
        self._let_facts_name_what_is_left(chosen.messages)
        abandoned = "user_id = ? AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.conversation_id = {id})"
        for table, id_column, only in (
            ("session_metadata", "session_metadata.conversation_id", ""),
            ("feedback_events", "feedback_events.subject_id", "AND subject = 'conversation'"),
            ("sensitive_feedback", "sensitive_feedback.subject_id", "AND subject = 'conversation'"),
            ("conversations", "conversations.id", ""),
        ):
            gone = self._connection.execute(
                f"DELETE FROM {table} WHERE {abandoned.format(id=id_column)} {only}", (user_id,)
            )
            removed[table] = removed.get(table, 0) + gone.rowcount
        if everything:
            own_tasks = "SELECT id FROM tasks WHERE user_id = ?"
            self._connection.execute(f"DELETE FROM task_executions WHERE task_id IN ({own_tasks})", (user_id,))
            for table in _OF_USERS:
                gone = self._connection.execute(f"DELETE FROM {table} WHERE user_id = ?", (user_id,))
                removed[table] = removed.get(table, 0) + gone.rowcount
            self._connection.execute(
                "UPDATE users SET full_name = NULL, nickname = NULL, time_zone = NULL WHERE id = ?", (user_id,)
            )
        return removed

    def _let_facts_name_what_is_left(self, messages: Sequence[bytes]) -> None:
        """A fact that stays names a source that is still there, or none; words of the caller's that are no id stay."""
        sql = (
            "SELECT id, source, (SELECT message_id FROM fact_sources WHERE fact_id = facts.id ORDER BY row_id LIMIT 1) "
            "AS left_over FROM facts WHERE source_message_id IN ({ids})"
        )
        facts = [(row["left_over"], row["source"], row["id"]) for row in rows_by_id(self._connection, sql, messages)]
        self._connection.execute_many(
            "UPDATE facts SET source_message_id = ?, source = ? WHERE id = ?",
            [
                (left, (left and left.hex()) if source is not None and is_id(source) else source, id_)
                for left, source, id_ in facts
            ],
        )

    def _exists(self, table: str, id_: bytes, user_id: bytes) -> bool:
        return bool(self._connection.fetch_one(f"SELECT 1 FROM {table} WHERE id = ? AND user_id = ?", (id_, user_id)))


def _shown(items: Iterable[Moment | Fact], traces: Iterable[Trace]) -> set[tuple[str, str, str]]:
    """What a person has seen of a selection: each row of it, and what it says."""
    rows = {("", item.id, item.text) for item in items}
    return rows | {(trace.table, str(trace.key), trace.text) for trace in traces}


def _in_part(receipt: Receipt, failed: Mapping[str, Exception]) -> ForgottenInPart:
    reasons = "; ".join(
        f"{name}: {exc if isinstance(exc, AicoError) else type(exc).__name__}" for name, exc in failed.items()
    )
    return ForgottenInPart(
        f"the store let go of it for good, but it may be left in {' and '.join(failed)} ({reasons})",
        receipt=receipt.id,
        views=tuple(failed),
        hint=f"mend that and forget the same again; `aico forget --verify {receipt.id}` tells whether anything is left",
    )
