"""What other frameworks keep, by its place or by words and meaning: `vault.items`."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from aico.ai.embedding import Embedder
from aico.ai.memory.embedding import Embeddings
from aico.ai.memory.index import FACT, Document, RecallIndex
from aico.ai.memory.passages import BATCH, checked_vectors
from aico.data.change_feed import ChangeFeed
from aico.data.items import Item, ItemRepository, Namespace, Put
from aico.data.json_values import read_json
from aico.data.libsql import LibSQLConnection, Row
from aico.data.user import UserService
from aico.errors import ModelUnavailable

_DOCUMENTS = "SELECT i.row_id, i.id, i.texts, i.memory_id, i.updated_at FROM items i"
_CHANGED = (
    "(SELECT DISTINCT key FROM change_feed WHERE number > ? AND number <= ? AND table_name = 'items' {which}) AS f"
)


class Items:
    """JSON values of each user under a namespace and a key, named by the user's short name. Any thread may use it.

    >>> vault.items.put("mia", ("app", "notes"), "n1", {"text": "Viola lesson on Monday"}, texts=["Viola lesson on Monday"])
    >>> vault.items.find("mia", ("app", "notes"), "n1").value
    {'text': 'Viola lesson on Monday'}
    >>> [item.key for item, score in vault.items.search("mia", "when is the lesson?", prefix=("app",))]
    ['n1']
    """

    def __init__(
        self, connection: LibSQLConnection, *, users: UserService, items: ItemRepository, index: "ItemIndex"
    ) -> None:
        self._connection, self._users, self._items, self._index = connection, users, items, index

    def put(
        self,
        user: str,
        namespace: Sequence[str],
        key: str,
        value: Any,  # any JSON
        *,
        texts: Sequence[str] = (),
        ttl: timedelta | None = None,
        memory: str | None = None,
    ) -> None:
        """Keep one value (`Put` says how) of at most 16 MiB as JSON. Raises InvalidInput, NotFound, Busy or DiskFull.

        >>> vault.items.put("mia", ("app", "drafts"), "letter", {"to": "Ana"}, ttl=timedelta(days=30))
        >>> vault.items.find("mia", ("app", "drafts"), "letter").value
        {'to': 'Ana'}
        """
        self.put_many(user, [Put(namespace=namespace, key=key, value=value, texts=texts, ttl=ttl, memory=memory)])

    def put_many(self, user: str, puts: Sequence[Put]) -> None:
        """Keep several values, all or none. Raises as `put`.

        >>> vault.items.put_many("mia", [Put(namespace=("app",), key=key, value=1) for key in "ab"])
        >>> [item.key for item in vault.items.list("mia", ("app",))]
        ['a', 'b']
        """
        self.change(user, put=puts)

    def change(self, user: str, *, put: Sequence[Put] = (), delete: Sequence[tuple[Sequence[str], str]] = ()) -> None:
        """Keep some values and remove those at some places (namespace, key), all or none. Raises as `put`.

        >>> vault.items.put("mia", ("app",), "old", 1)
        >>> new = Put(namespace=("app",), key="new", value=2)
        >>> vault.items.change("mia", put=[new], delete=[(("app",), "old")])
        >>> [item.key for item in vault.items.list("mia", ("app",))]
        ['new']
        """

        def work() -> None:
            user_id = self._users.ensure(user) if put else self._users.find(user)
            if user_id is None:
                return
            self._items.put(user_id, put)
            for namespace, key in delete:
                self._items.delete(user_id, namespace, key)

        self._connection.write(work)

    def append(self, user: str, namespace: Sequence[str], values: Iterable[Any]) -> None:  # any JSON
        """Keep values in their order under keys of ours, behind those that are there; all or none. Raises as `put`.

        >>> vault.items.append("mia", ("app", "turns"), [{"role": "user"}, {"role": "tool"}])
        >>> [item.value["role"] for item in vault.items.last("mia", ("app", "turns"))]
        ['user', 'tool']
        """
        given = list(values)

        def work() -> None:  # the keys are drawn in turn, so that what is appended together stands together
            puts = [Put(namespace=namespace, key=self._items.new_key(), value=value) for value in given]
            self._items.put(self._users.ensure(user), puts)

        self._connection.write(work)

    def find(self, user: str, namespace: Sequence[str], key: str, *, refresh: bool = False) -> Item | None:
        """The item at a place; with `refresh` its time to live begins anew. Raises InvalidInput.

        >>> vault.items.find("mia", ("app",), "never kept") is None
        True
        """
        user_id = self._users.find(user)
        found = None if user_id is None else self._items.find(user_id, namespace, key)
        self._refresh([found] if refresh and found is not None else [])
        return found

    def list(
        self,
        user: str,
        prefix: Sequence[str] = (),
        *,
        limit: int = -1,
        offset: int = 0,
        refresh: bool = False,
        holding: Mapping[str, str] | None = None,
    ) -> Sequence[Item]:
        """Items under a prefix of their namespace, in the order they were first kept. Raises InvalidInput.

        With `holding` those alone whose value has these texts under these keys (ASCII letters, digits, underscores).

        >>> vault.items.put("mia", ("app", "notes"), "n1", "milk")
        >>> [(item.namespace, item.value) for item in vault.items.list("mia", ("app",))]
        [(('app', 'notes'), 'milk')]
        """
        user_id = self._users.find(user)
        found = (
            [] if user_id is None else self._items.list(user_id, prefix, limit=limit, offset=offset, holding=holding)
        )
        self._refresh(found if refresh else [])
        return found

    def last(self, user: str, namespace: Sequence[str], limit: int | None = None) -> Sequence[Item]:
        """The last items that were appended, the oldest of them first.

        >>> vault.items.append("mia", ("app", "turns"), ["one", "two", "three"])
        >>> [item.value for item in vault.items.last("mia", ("app", "turns"), limit=2)]
        ['two', 'three']
        """
        user_id = self._users.find(user)
        most = -1 if limit is None else limit
        return [] if user_id is None else self._items.list(user_id, namespace, limit=most, newest_first=True)[::-1]

    def search(self, user: str, query: str, *, prefix: Sequence[str] = ()) -> Sequence[tuple[Item, float]]:
        """The items under a prefix whose texts answer the query, best first, with scores between 0 and 1.

        By their words, and by their meaning where the vault has a model. Raises InvalidInput.

        >>> vault.items.put("mia", ("app",), "n1", {"done": False}, texts=["Buy strings for the viola"])
        >>> [item.key for item, score in vault.items.search("mia", "viola")]
        ['n1']
        """
        user_id = self._users.find(user)
        if user_id is None:
            return []
        scored = self._index.search(user_id, query)
        found = self._items.by_ids(user_id, scored, prefix)
        return [(found[id_], score) for id_, score in scored.items() if id_ in found]

    def namespaces(self, user: str, prefix: Sequence[str] = ()) -> Sequence[Namespace]:
        """Every namespace under a prefix that holds something, in order.

        >>> vault.items.put("mia", ("app", "notes"), "n1", "milk")
        >>> vault.items.namespaces("mia", ("app",))
        [('app', 'notes')]
        """
        user_id = self._users.find(user)
        return [] if user_id is None else self._items.namespaces(user_id, prefix)

    def delete(self, user: str, namespace: Sequence[str], key: str) -> bool:
        """Remove the item at a place; whether there was one. Raises InvalidInput.

        >>> vault.items.put("mia", ("app",), "n1", "milk")
        >>> vault.items.delete("mia", ("app",), "n1"), vault.items.delete("mia", ("app",), "n1")
        (True, False)
        """
        user_id = self._users.find(user)
        return user_id is not None and bool(self._connection.write(lambda: self._items.delete(user_id, namespace, key)))

    def pop(self, user: str, namespace: Sequence[str]) -> Item | None:
        """Remove the item that was appended last and return it; None if there is none.

        >>> vault.items.append("mia", ("app", "turns"), ["one", "two"])
        >>> vault.items.pop("mia", ("app", "turns")).value
        'two'
        """
        user_id = self._users.find(user)

        def work() -> Item | None:
            assert user_id is not None
            last = self._items.list(user_id, namespace, limit=1, newest_first=True)
            for item in last:
                self._items.delete(user_id, item.namespace, item.key)
            return last[0] if last else None

        return None if user_id is None else self._connection.write(work)

    def clear(self, user: str, prefix: Sequence[str]) -> int:
        """Remove all under a prefix of the namespace; how many there were. Raises InvalidInput.

        >>> vault.items.append("mia", ("app", "turns"), ["one", "two"])
        >>> vault.items.clear("mia", ("app",))
        2
        """
        user_id = self._users.find(user)
        return 0 if user_id is None else self._connection.write(lambda: self._items.clear(user_id, prefix))

    def of_memories(self, user: str, memories: Iterable[str], *, prefix: Sequence[str] = ()) -> dict[str, Item]:
        """The items under a prefix that go with messages and facts, by the id of these, one for each.

        Raises NotFound for what can be no id.

        >>> vault.items.put("mia", ("app",), "n1", {"mood": "glad"}, memory=said)
        >>> vault.items.of_memories("mia", [said])[said].value
        {'mood': 'glad'}
        """
        user_id = self._users.find(user)
        return {} if user_id is None else self._items.of_memories(user_id, memories, prefix)

    def refresh(self, items: Iterable[Item]) -> None:
        """Let the time to live of some items begin anew.

        >>> vault.items.put("mia", ("app",), "n1", "milk", ttl=timedelta(hours=1))
        >>> vault.items.refresh(vault.items.list("mia", ("app",)))
        """
        self._refresh(items)

    def _refresh(self, items: Iterable[Item]) -> None:
        mortal = [item.id for item in items if item.expires_at is not None]
        if mortal:
            self._connection.write(lambda: self._items.refresh(mortal))


class ItemIndex:
    """A view: the texts of items, one index in memory for each user, read on from the change feed. Any thread may use it.

    Vectors are made when somebody searches, and kept: an item that nobody looks for costs no model.
    """

    name = "item index"
    trouble = ""

    def __init__(
        self,
        connection: LibSQLConnection,
        *,
        feed: ChangeFeed,
        embedder: Embedder | None,
        embeddings: Embeddings,
        users_in_memory: int,
    ) -> None:
        self._connection, self._feed = connection, feed
        self._embedder, self._embeddings = embedder, embeddings
        self._users_in_memory = users_in_memory
        self._views: OrderedDict[bytes, _UserView] = OrderedDict()  # least recently used first
        self._lock = threading.Lock()  # guards the line above

    def search(self, user_id: bytes, query: str) -> dict[bytes, float]:
        """The ids of all items that answer, best first, with their scores."""
        view = self._current(user_id)
        with view.lock:
            self._add_missing_vectors(user_id, view)
        meaning = self._embeddings.meaning_of(query) if view.index.vector_count else None
        return {found.id: found.score for found in view.index.search(query, limit=len(view.index), meaning=meaning)}

    def lag(self) -> int:
        """How many changes the index furthest behind has not read yet; it does before it next answers."""
        newest = self._feed.newest()
        with self._lock:
            return max((newest - view.position for view in self._views.values()), default=0)

    def drop(self) -> None:
        """Let go of every index; vectors are rows of the truth and stay."""
        with self._lock:
            self._views.clear()

    def catch_up(self) -> None:
        """Bring every index in memory up to the newest change."""
        with self._lock:
            users = list(self._views)
        for user_id in users:
            self._current(user_id)

    def erase(self, user_id: bytes, ids: Iterable[bytes]) -> None:
        """Let go of the items that go with forgotten memories, and of those that carried their content."""
        with self._lock:
            is_here = user_id in self._views
        if is_here:
            view = self._current(user_id)
            with view.lock:
                view.remove(view.items_of(ids))

    def holds_any(self, user_id: bytes, ids: Iterable[bytes]) -> bool:
        """Whether the index still has an item that goes with one of these memories."""
        view = self._current(user_id)
        with view.lock:
            return bool(view.items_of(ids))

    def _current(self, user_id: bytes) -> "_UserView":
        with self._lock:
            view = self._views.setdefault(user_id, _UserView())
            self._views.move_to_end(user_id)
            while len(self._views) > self._users_in_memory:
                self._views.popitem(last=False)
        with view.lock:
            self._read_on(user_id, view)
        return view

    def _read_on(self, user_id: bytes, view: "_UserView") -> None:
        newest = self._feed.newest()
        if view.position > newest or not self._feed.tells_from(view.position):
            view.begin_anew()  # the truth was replaced by an older copy of itself, or no longer tells what changed
        if view.position == newest:
            return
        if view.position == 0:
            rows = self._connection.fetch_committed(f"{_DOCUMENTS} WHERE i.user_id = ?", (user_id,))
        else:
            span = (view.position, newest)
            gone = f"SELECT key FROM {_CHANGED.format(which='AND column_mask = 0')}"
            view.remove(key for (key,) in self._connection.fetch_committed(gone, span))
            changed = f"{_DOCUMENTS} JOIN {_CHANGED.format(which='')} ON f.key = i.id WHERE i.user_id = ?"
            rows = self._connection.fetch_committed(changed, (*span, user_id))
        view.take_in(rows)
        before, view.position = view.position, newest
        if before and not self._feed.tells_from(before):  # it was pruned while it was read
            view.begin_anew()
            self._read_on(user_id, view)

    def _add_missing_vectors(self, user_id: bytes, view: "_UserView") -> None:
        """Those that were made before, then those that were not: in batches, so that a crash costs little."""
        embedder = self._embedder
        if embedder is None or not view.without_vectors:
            return
        try:
            size_bytes = embedder.dimension * 2
        except ModelUnavailable:
            return  # found by their words; the next search tries again
        kept = (
            "SELECT v.item_id, v.part, v.vector FROM item_vectors v JOIN items i ON i.id = v.item_id "
            "WHERE i.user_id = ? AND v.model = ? AND length(v.vector) = ?"
        )
        known = self._connection.fetch_committed(kept, (user_id, embedder.id, size_bytes))
        of_items = [row for row in known if row["item_id"] in view.without_vectors]
        if of_items:
            vectors = np.array([np.frombuffer(row["vector"], "<f2") for row in of_items], np.float32)
            view.add_vectors([row["item_id"] for row in of_items], vectors)
        try:
            while view.without_vectors:
                self._embed_some(embedder, view)
        except ModelUnavailable:
            return

    def _embed_some(self, embedder: Embedder, view: "_UserView") -> None:
        some = list(view.without_vectors.items())[:BATCH]
        parts = [(id_, part, text) for id_, texts in some for part, text in enumerate(texts)]
        vectors = checked_vectors(embedder, [embedder.passage_prefix + text for _, _, text in parts])
        rows = [
            (id_, embedder.id, part, vector.astype("<f2").tobytes(), id_)
            for (id_, part, _), vector in zip(parts, vectors, strict=True)
        ]
        self._connection.write(
            lambda: self._connection.execute_many(
                "INSERT INTO item_vectors (item_id, model, part, vector) SELECT ?, ?, ?, ? "
                "WHERE EXISTS (SELECT 1 FROM items WHERE id = ?) ON CONFLICT DO UPDATE SET vector = excluded.vector",
                rows,
            )
        )
        view.add_vectors([id_ for id_, _, _ in parts], vectors)


class _UserView:
    """One person's index and the change it has reached. All but `index.search` is done under the lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.begin_anew()

    def begin_anew(self) -> None:
        self.index, self.position = RecallIndex(), 0
        self.without_vectors: dict[bytes, list[str]] = {}
        self._texts: dict[bytes, str] = {}
        self._memories: dict[bytes, bytes] = {}

    def items_of(self, memories: Iterable[bytes]) -> list[bytes]:
        wanted = set(memories)
        return [id_ for id_, memory in self._memories.items() if memory in wanted]

    def remove(self, ids: Iterable[bytes]) -> None:
        gone = list(ids)
        self.index.remove(gone)
        for id_ in gone:
            self.without_vectors.pop(id_, None)
            self._texts.pop(id_, None)
            self._memories.pop(id_, None)

    def take_in(self, rows: Iterable[Row]) -> None:
        documents = []
        for row_id, id_, texts, memory_id, at in rows:
            self._memories.pop(id_, None)
            if texts is not None and memory_id is not None:
                self._memories[id_] = memory_id
            if texts == self._texts.get(id_):
                continue  # only its value or its time to live changed
            self.index.drop_vectors([id_])
            if texts is None:
                self.remove([id_])
                continue
            self._texts[id_], self.without_vectors[id_] = texts, read_json(texts)
            documents.append(
                Document(row_id, id_, FACT, "\n".join(self.without_vectors[id_]), at_us=at, believed_from_us=at)
            )
        self.index.add(documents)

    def add_vectors(self, ids: Sequence[bytes], vectors: Any) -> None:  # a matrix of NumPy's
        self.index.add_vectors(ids, vectors)
        for id_ in ids:
            self.without_vectors.pop(id_, None)
