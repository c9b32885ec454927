"""LangGraph's long-term memory, kept sealed: `AicoStore` where a graph takes a `BaseStore`.

    from aico.compat.langgraph import AicoStore

    with aico.open(passphrase="…") as companion:
        graph = builder.compile(store=AicoStore(companion, user="mia"))

One store is one person's: no namespace leads to anybody else's items. docs/how-to/langgraph.md lists what differs from
LangGraph's own stores.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from itertools import chain, islice
from typing import Any

from aico.aio import AsyncVault
from aico.compat._vault import both_sides, checked_user
from aico.data.items import Item as KeptItem
from aico.data.items import Put, is_plain_key
from aico.errors import InvalidInput, MissingExtra
from aico.vault import Vault

try:
    from langgraph.store.base import (
        BaseStore,
        GetOp,
        IndexConfig,
        Item,
        ListNamespacesOp,
        MatchCondition,
        Op,
        PutOp,
        Result,
        SearchItem,
        SearchOp,
        TTLConfig,
        get_text_at_path,
        tokenize_path,
    )
except ImportError as exc:
    raise MissingExtra("a LangGraph store needs langgraph", hint="pip install 'aico[langgraph]'") from exc

ROOT = "langgraph"
"""The first label of every namespace of ours: nothing else in `vault.items` is seen or touched."""
WHOLE = ["$"]


class AicoStore(BaseStore):
    """A `BaseStore` over one person's part of a vault. Any thread and any event loop may use it.

    `index["fields"]` says by which fields items are found, all of them without it; they are found by their words, and
    by their meaning where the vault has a model, which is always the vault's own: `index["embed"]` is never called.
    `ttl` is LangGraph's configuration; what expired is never returned. Closing the vault is the caller's.
    """

    supports_ttl = True

    def __init__(
        self,
        vault: Vault | AsyncVault,
        *,
        user: str,
        index: IndexConfig | None = None,
        ttl: TTLConfig | None = None,
    ) -> None:
        sync, self._bridge = both_sides(vault)
        self._items, self._user = sync.items, checked_user(user)
        self._fields = (index or {}).get("fields") or WHOLE
        self.ttl_config = ttl

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Do all: reads first, as everything was before the batch, then the puts, all or none, the last of a key alone.

        Raises as `vault.items`, ValueError for what is no operation.
        """
        asked = list(ops)
        results = [self._read(op) for op in asked]
        puts = {(op.namespace, op.key): op for op in asked if isinstance(op, PutOp)}
        self._write(puts.values())
        return results

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """`batch`, without blocking the event loop; cancelled, its puts are done all or none."""
        return await self._bridge.run(self.batch, list(ops))

    def _read(self, op: Op) -> Result:
        match op:
            case GetOp():
                found = self._items.find(self._user, (ROOT, *op.namespace), op.key, refresh=op.refresh_ttl)
                return None if found is None else Item(**_shown(found))
            case SearchOp():
                return self._search(op)
            case ListNamespacesOp():
                return self._namespaces(op)
            case PutOp():
                return None
        raise ValueError(f"no operation of a store: {type(op).__name__}")

    def _write(self, puts: Iterable[PutOp]) -> None:
        kept = [self._put(op) for op in puts if op.value is not None]
        gone = [((ROOT, *op.namespace), op.key) for op in puts if op.value is None]
        if kept or gone:
            self._items.change(self._user, put=kept, delete=gone)

    def _put(self, op: PutOp) -> Put:
        assert op.value is not None
        fields = [] if op.index is False else self._fields if op.index is None else op.index
        texts = chain.from_iterable(get_text_at_path(op.value, tokenize_path(path)) for path in fields)
        return Put(
            namespace=(ROOT, *op.namespace),
            key=op.key,
            value=op.value,
            texts=list(texts),
            ttl=None if op.ttl is None else _minutes(op.ttl),
        )

    def _search(self, op: SearchOp) -> list[SearchItem]:
        prefix = (ROOT, *op.namespace_prefix)
        found: Iterable[tuple[KeptItem, float | None]]
        texts = _texts_wanted(op.filter or {})
        if op.query:
            ranked = self._items.search(self._user, op.query, prefix=prefix)
            named = {item.id for item, _ in ranked}
            unranked = self._items.list(self._user, prefix, holding=texts)
            found = chain(ranked, ((item, None) for item in unranked if item.id not in named))
        elif op.filter:
            found = ((item, None) for item in self._items.list(self._user, prefix, holding=texts))
        else:
            page = self._items.list(self._user, prefix, limit=op.limit, offset=op.offset)
            return self._answered([(item, None) for item in page], op)
        fitting = (pair for pair in found if _fits(pair[0].value, op.filter or {}))
        return self._answered(list(islice(fitting, op.offset, op.offset + op.limit)), op)

    def _answered(self, found: Sequence[tuple[KeptItem, float | None]], op: SearchOp) -> list[SearchItem]:
        if op.refresh_ttl:
            self._items.refresh([item for item, _ in found])
        return [SearchItem(**_shown(item), score=score) for item, score in found]

    def _namespaces(self, op: ListNamespacesOp) -> list[tuple[str, ...]]:
        all_of_them = [namespace[1:] for namespace in self._items.namespaces(self._user, (ROOT,))]
        wanted = [
            one for one in all_of_them if all(_matches(one, condition) for condition in op.match_conditions or ())
        ]
        if op.max_depth is not None:
            wanted = sorted({one[: op.max_depth] for one in wanted})
        return wanted[op.offset : op.offset + op.limit]


def _minutes(ttl: float) -> timedelta:
    try:
        return timedelta(minutes=ttl)
    except (OverflowError, ValueError):
        raise InvalidInput(
            "a time to live is a number of minutes, no more than a thousand years", field="ttl"
        ) from None


def _shown(item: KeptItem) -> dict[str, Any]:  # the arguments of LangGraph's records
    return {
        "value": item.value,
        "key": item.key,
        "namespace": item.namespace[1:],
        "created_at": item.created_at,
        "updated_at": item.updated_at,
    }


def _matches(namespace: tuple[str, ...], condition: MatchCondition) -> bool:
    path = condition.path
    part = namespace[: len(path)] if condition.match_type == "prefix" else namespace[-len(path) :] if path else ()
    return len(part) == len(path) and all(want in ("*", label) for label, want in zip(part, path, strict=True))


def _texts_wanted(wanted: dict[str, Any]) -> dict[str, str]:
    """What of a filter SQLite can look at first: texts that must stand under a key of the value itself."""
    return {
        key: text for key, text in wanted.items() if isinstance(text, str) and "\0" not in text and is_plain_key(key)
    }


def _fits(value: Any, wanted: Any) -> bool:  # any JSON
    """Whether a value is what a filter asks for: an object by the keys it names, or by operators; else by equality."""
    if not isinstance(wanted, dict):
        return _equal(value, wanted)
    if any(key.startswith("$") for key in wanted):
        return all(_holds(value, operator, operand) for operator, operand in wanted.items())
    return isinstance(value, dict) and all(_fits(value.get(key), inner) for key, inner in wanted.items())


def _equal(value: Any, wanted: Any) -> bool:  # any JSON
    if isinstance(wanted, list | tuple):
        return isinstance(value, list) and len(value) == len(wanted) and all(map(_fits, value, wanted))
    return bool(value == wanted)


def _holds(value: Any, operator: str, operand: Any) -> bool:  # any JSON
    if operator == "$eq":
        return bool(value == operand)
    if operator == "$ne":
        return bool(value != operand)
    try:
        number, bound = float(value), float(operand)
    except (TypeError, ValueError):  # what is no number lies on neither side
        number = bound = float("nan")
    match operator:
        case "$gt":
            return number > bound
        case "$gte":
            return number >= bound
        case "$lt":
            return number < bound
        case "$lte":
            return number <= bound
    raise ValueError(f"a filter has the operators $eq, $ne, $gt, $gte, $lt and $lte, not {operator}")
