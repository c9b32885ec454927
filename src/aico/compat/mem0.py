"""mem0's interface over a sealed vault: `from aico.compat.mem0 import Memory` where a program imports it from `mem0`.

    memory = Memory()                                  # the vault of this machine; or Memory(vault=companion)
    memory.add("I moved to Lisbon in May.", user_id="mia", infer=False)
    memory.search("where does she live?", filters={"user_id": "mia"})["results"]

Verbs, arguments and results are those of mem0ai 2.2; docs/how-to/mem0.md lists every difference. Each memory is a message of its
user: `vault.memory.recall` finds it, `forget`, exports and backups reach it. Nothing is sent anywhere.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from hashlib import md5
from itertools import islice
from math import sqrt
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

from aico.ai.extraction import FactExtractor
from aico.ai.memory.hits import Hit
from aico.aio import AsyncVault, Bridge, Twin, awaited
from aico.compat._mem0_filters import fits, scope_of, trimmed
from aico.data.conversations import Message, Moment
from aico.data.items import Item, Put
from aico.errors import InvalidInput, ModelUnavailable, NotFound
from aico.vault import Vault, open_vault

ROOT = ("mem0",)
"""The namespace in `vault.items` of what mem0 knows of a memory beside its text."""
CONVERSATION = "mem0"
"""Where memories are that were added without a run."""
_FIRST_LOOK, _NEXT_LOOK = 60, 20
_UNSET: Any = object()  # what a caller did not give, where None means something
_log = logging.getLogger(__name__)

Result = dict[str, Any]  # what mem0 gives: any JSON


class UnknownMemory(NotFound, ValueError):
    """No memory has this id. A ValueError too, as in mem0."""


class Memory:
    """What mem0 calls a memory: everybody's, or with `user` one person's. Any thread may use it.

    Without a `vault` the machine's own is opened (by keyring or AICO_PASSPHRASE_FILE) and closed by `close`. `config`
    is mem0's and accepted unread: the vault has its own store, model and history. Held to a `user`, it refuses
    every other id and shows no memory of anybody else. With an `extractor` (`aico.ai.extraction`) each `add` that infers
    shows the model what it has not seen, and what it finds waits as a fact for a person's yes; results stay the same.
    """

    def __init__(
        self,
        config: object = None,
        *,
        vault: Vault | AsyncVault | None = None,
        user: str | None = None,
        extractor: FactExtractor | None = None,
    ) -> None:
        self._closing = ExitStack()
        if vault is None:
            vault = self._closing.enter_context(open_vault())
        self._vault = vault.sync if isinstance(vault, AsyncVault) else vault
        self._only, self._extractor, self._warned = user, extractor, False

    @classmethod
    def from_config(cls, config_dict: Mapping[str, Any], **given: Any) -> Self:  # any configuration of mem0's
        """As the constructor."""
        return cls(config_dict, **given)

    def add(
        self,
        messages: str | Mapping[str, Any] | Sequence[Mapping[str, Any]],  # as mem0 takes them
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,  # any JSON
        timestamp: object = None,
        expiration_date: object = None,
        infer: bool = True,
        memory_type: str | None = None,
        prompt: str | None = None,
    ) -> Result:
        """Keep each message as a memory, all or none. With `infer` the same; then the extractor proposes facts, if there is
        one, else a warning in the log says once that no model is asked. Where the model does not answer the messages are kept,
        the log says so, and the next `add` shows them to it. Raises InvalidInput, Busy or DiskFull.
        """
        if timestamp is not None or memory_type is not None:
            raise InvalidInput("timestamp and memory_type are not supported; nothing was added")
        about = _About(
            user_id=trimmed(user_id, "user_id"),
            agent_id=trimmed(agent_id, "agent_id"),
            run_id=trimmed(run_id, "run_id"),
            metadata={key: value for key, value in (metadata or {}).items() if key not in _IDENTITY},
            expiration_date=_day(expiration_date),
        )
        owner = self._owner(about.scope())
        if infer and self._extractor is None and not self._warned:
            self._warned = True
            _log.warning("infer=True asks no model here: messages are kept as they were said, as with infer=False")
        kept = [message for message in map(_message, _listed(messages)) if message is not None]
        conversation = about.run_id or CONVERSATION
        with self._vault.connection.transaction():
            ids = self._vault.memory.record_many(
                owner, [Message(text, role=role, conversation=conversation, speaker=name) for text, role, name in kept]
            )
            now = _now()
            puts = [
                about.with_change("ADD", now, None, text, role, name).put(id_)
                for id_, (text, role, name) in zip(ids, kept, strict=True)
            ]
            self._vault.items.put_many(owner, puts)
        if infer and self._extractor is not None:
            self._propose_facts(owner, self._extractor)
        return {
            "results": [
                {"id": _shown_id(id_), "memory": text, "event": "ADD", "actor_id": name, "role": role}
                for id_, (text, role, name) in zip(ids, kept, strict=True)
            ]
        }

    def search(
        self,
        /,
        query: str,
        *,
        top_k: int = 20,
        filters: Mapping[str, Any] | None = None,  # any JSON
        threshold: float = 0.1,
        rerank: bool = False,
        explain: bool = False,
        reference_date: object = None,
        show_expired: bool = False,
        **others: object,
    ) -> Result:
        """The best matches of those who `filters` names, best first. `score` is relative to the best one's, which is 1.

        Raises InvalidInput as mem0 raises ValueError.
        """
        _check(top_k, threshold, others)
        if reference_date is not None:
            raise InvalidInput("reference_date is not supported; nothing was searched")
        owner = self._owner(scope_of(filters))
        found: list[Result] = []
        for hits in self._looks(owner, query, top_k):
            best = hits[0].score if hits else 1.0
            items = self._vault.items.of_memories(owner, [hit.id for hit in hits])
            relevant = (
                (hit, items[hit.id]) for hit in hits if hit.id in items and _beside(hit, best) >= (threshold or 0)
            )
            fitting = (pair for pair in relevant if _About.of(pair[1]).fits(filters, show_expired=show_expired))
            found = [_scored(hit, item, _beside(hit, best), explain=explain) for hit, item in islice(fitting, top_k)]
            if len(found) == top_k:
                break
        return {"results": found}

    def get(self, memory_id: str) -> Result | None:
        """One memory, None where there is none."""
        place = self._find(memory_id)
        if place is None:
            return None
        owner, item = place
        shown = _shown(self._moments(owner, [item])[item.key], item)
        return {**dict(islice(shown.items(), 4)), "score": None, **dict(islice(shown.items(), 4, None))}

    def get_all(
        self,
        /,
        *,
        filters: Mapping[str, Any] | None = None,  # any JSON
        top_k: int = 20,
        show_expired: bool = False,
        **others: object,
    ) -> Result:
        """The memories of those who `filters` names, in the order they were added. Raises InvalidInput."""
        _check(top_k, None, others)
        owner = self._owner(scope_of(filters))
        fitting = self._fitting(owner, filters, show_expired=show_expired)
        kept = list(islice(fitting, top_k))
        moments = self._moments(owner, kept)
        return {"results": [_shown(moments[item.key], item) for item in kept if item.key in moments]}

    def update(
        self,
        memory_id: str,
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,  # any JSON
        expiration_date: object = _UNSET,
        data: str | None = None,
    ) -> Result:
        """Put another text in its place, and add to its metadata; the id stays. Raises UnknownMemory or InvalidInput."""
        text = data if text is None else text
        if text is None and metadata is None and expiration_date is _UNSET:
            raise InvalidInput("an update names a text, metadata or an expiration date; nothing was changed")
        owner, item = self._known(memory_id)
        about = _About.of(item)
        about.metadata |= {key: value for key, value in (metadata or {}).items() if key not in _IDENTITY}
        if expiration_date is not _UNSET:
            about.expiration_date = _day(expiration_date)
        with self._vault.connection.transaction():
            moment = self._moments(owner, [item])[item.key]
            new = moment.text if text is None else text
            about.with_change("UPDATE", _now(), moment.text, new, moment.role, moment.speaker)
            if new != moment.text:
                self._vault.conversations.edit(owner, item.key, new)
            self._vault.items.put_many(owner, [about.put(item.key)])
        return {"message": "Memory updated successfully!"}

    def delete(self, memory_id: str) -> Result:
        """Forget a memory for good, its history too. Raises UnknownMemory."""
        owner, item = self._known(memory_id)
        self._vault.memory.forget(owner, id=item.key)
        return {"message": "Memory deleted successfully!"}

    def delete_all(self, user_id: str | None = None, agent_id: str | None = None, run_id: str | None = None) -> Result:
        """Forget every memory of these, one after another. Raises InvalidInput where nobody is named."""
        given = {"user_id": user_id, "agent_id": agent_id, "run_id": run_id}
        filters = {name: trimmed(value, name) for name, value in given.items() if value is not None}
        owner = self._owner(scope_of(filters))
        for item in list(self._fitting(owner, filters, show_expired=True)):
            self._vault.memory.forget(owner, id=item.key)
        return {"message": "Memories deleted successfully!"}

    def history(self, memory_id: str) -> list[Result]:
        """How a memory became what it is, oldest first; nothing of one that was deleted."""
        place = self._find(memory_id)
        if place is None:
            return []
        changes: list[Result] = place[1].value["history"]
        return [{"memory_id": _shown_id(place[1].key), **change} for change in changes]

    def reset(self) -> None:
        """Forget every memory that was added here, of everybody or of the one user it is held to."""
        names = [self._only] if self._only else [user.name for user in self._vault.users.list_profiles()]
        for owner in names:
            for item in self._vault.items.list(owner, ROOT):
                self._vault.memory.forget(owner, id=item.key)

    def chat(self, query: str) -> None:
        """Not there, as in mem0."""
        raise NotImplementedError("there is no chat in a memory")

    def close(self) -> None:
        """Close the vault if it was opened here. May be called twice."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _propose_facts(self, owner: str, extractor: FactExtractor) -> None:
        try:
            self._vault.extraction.run(owner, extractor)
        except ModelUnavailable as exc:
            _log.warning("the messages are kept, and no facts were looked for: %s", exc)

    def _owner(self, scope: str) -> str:
        """The user of the vault that a scope stands for. Raises InvalidInput for another than the one it is held to."""
        if self._only not in (None, scope):
            raise InvalidInput("this memory is held to another user; nothing was done")
        return scope

    def _looks(self, owner: str, query: str, top_k: int) -> Iterator[list[Hit]]:
        """Hits, and again many more, as long as filters leave too few."""
        limit, before = max(_FIRST_LOOK, 4 * top_k), -1
        if not isinstance(query, str) or not query.strip():
            raise InvalidInput("a query is text; nothing was searched", field="query")
        while top_k:
            hits = self._vault.memory.recall(owner, query.strip(), limit=limit, kinds=("message",))
            yield hits
            if len(hits) < limit or len(hits) == before:
                return
            limit, before = limit * _NEXT_LOOK, len(hits)

    def _fitting(self, owner: str, filters: Mapping[str, Any] | None, *, show_expired: bool) -> Iterator[Item]:
        kept = self._vault.items.list(owner, ROOT)
        return (item for item in kept if _About.of(item).fits(filters, show_expired=show_expired))

    def _find(self, memory_id: str) -> tuple[str, Item] | None:
        """Whose memory it is, and what mem0 knows of it."""
        try:
            id_ = UUID(memory_id).hex
        except (ValueError, AttributeError, TypeError):
            return None
        owner = self._only or self._vault.items.whose(id_)
        found = None if owner is None else self._vault.items.find(owner, ROOT, id_)
        return None if owner is None or found is None else (owner, found)

    def _known(self, memory_id: str) -> tuple[str, Item]:
        found = self._find(memory_id)
        if found is None:
            raise UnknownMemory("no memory has this id; nothing was changed")
        return found

    def _moments(self, owner: str, items: Sequence[Item]) -> dict[str, Moment]:
        return {moment.id: moment for moment in self._vault.album.list_of(owner, [item.key for item in items])}


class AsyncMemory(Twin[Memory]):
    """`Memory`, to be awaited."""

    add = awaited(Memory.add)
    search = awaited(Memory.search)
    get = awaited(Memory.get)
    get_all = awaited(Memory.get_all)
    update = awaited(Memory.update)
    delete = awaited(Memory.delete)
    delete_all = awaited(Memory.delete_all)
    history = awaited(Memory.history)
    reset = awaited(Memory.reset)
    chat = awaited(Memory.chat)

    def __init__(
        self,
        config: object = None,
        *,
        vault: Vault | AsyncVault | None = None,
        user: str | None = None,
        extractor: FactExtractor | None = None,
    ) -> None:
        super().__init__(Bridge(), Memory(config, vault=vault, user=user, extractor=extractor))

    @classmethod
    def from_config(cls, config_dict: Mapping[str, Any], **given: Any) -> Self:  # any configuration of mem0's
        """As the constructor."""
        return cls(config_dict, **given)

    def close(self) -> None:
        """Close the vault if it was opened here. Not to be awaited, as in mem0."""
        self.sync.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.bridge.close(self.sync.close)


_IDENTITY = frozenset({"user_id", "agent_id", "run_id", "actor_id"})
"""Say whose a memory is, and come from the call alone."""


@dataclass(slots=True)
class _About:
    """What mem0 knows of a memory beside its text: the value of its item."""

    user_id: str | None
    agent_id: str | None
    run_id: str | None
    metadata: dict[str, Any] = field(repr=False)  # any JSON
    expiration_date: str | None = None
    actor_id: str | None = None
    role: str | None = None
    updated_at: str | None = None
    history: list[Result] = field(default_factory=list, repr=False)

    @classmethod
    def of(cls, item: Item) -> "_About":
        return cls(**item.value)

    def scope(self) -> str:
        return scope_of({"user_id": self.user_id, "agent_id": self.agent_id, "run_id": self.run_id})

    def with_change(self, event: str, at: str, old: str | None, new: str, role: str, actor: str | None) -> "_About":
        """A copy after one more change, or this one where it had changes before."""
        about = (
            self
            if self.history
            else _About(self.user_id, self.agent_id, self.run_id, dict(self.metadata), self.expiration_date)
        )
        about.role, about.actor_id, about.updated_at = role, actor, at
        change: Result = {"id": str(uuid4()), "old_memory": old, "new_memory": new, "event": event}
        created = about.history[0]["created_at"] if about.history else at
        change |= {"created_at": created, "updated_at": at, "is_deleted": False, "actor_id": actor, "role": role}
        about.history.append(change)
        return about

    def put(self, id_: str) -> Put:
        value = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return Put(namespace=ROOT, key=id_, value=value, memory=id_)

    def told(self) -> Result:
        """What stands beside a memory in a result, as far as there is any."""
        names = ("user_id", "agent_id", "run_id", "actor_id", "role", "expiration_date")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def fits(self, filters: Mapping[str, Any] | None, *, show_expired: bool) -> bool:
        """Whether filters mean it, and it is to be shown."""
        over = self.expiration_date is not None and date.fromisoformat(self.expiration_date) < datetime.now(UTC).date()
        return (show_expired or not over) and fits({**self.metadata, **self.told()}, filters or {})


def _shown(moment: Moment, item: Item) -> Result:
    about = _About.of(item)
    return {
        "id": _shown_id(moment.id),
        "memory": moment.text,
        "hash": md5(moment.text.encode(), usedforsecurity=False).hexdigest(),
        "metadata": about.metadata or None,
        "created_at": about.history[0]["created_at"],
        "updated_at": about.updated_at,
        **about.told(),
    }


def _beside(hit: Hit, best: float) -> float:
    """The root of how likely it is beside the best: mem0's similarities fall off more slowly than what is likely does."""
    return float(sqrt(hit.score / best)) if best else 0.0


def _scored(hit: Hit, item: Item, score: float, *, explain: bool) -> Result:
    moment = Moment(hit.id, hit.text, hit.role or "", hit.conversation or "", hit.speaker, hit.at, hit.source_id)
    shown = {**_shown(moment, item), "score": score}
    return {**shown, "score_details": {"why": hit.why, "score": hit.score}} if explain else shown


def _listed(messages: object) -> Sequence[object]:
    if isinstance(messages, str):
        return [{"role": "user", "content": messages}]
    if isinstance(messages, Mapping):
        return [messages]
    if isinstance(messages, list):
        return messages
    raise InvalidInput("messages are a text, a message or a list of messages; nothing was added", field="messages")


def _message(given: object) -> tuple[str, str, str | None] | None:
    """Text, role and name; None for what is left out: instructions, and what is no message."""
    if not isinstance(given, Mapping) or given.get("role") is None or given.get("content") is None:
        _log.warning("something among the messages is none and was left out")
        return None
    content = given["content"]
    if isinstance(content, list):  # of texts and images
        content = "\n".join(
            part["text"] for part in content if isinstance(part, Mapping) and part.get("type") == "text"
        )
    if given["role"] == "system" or not content:
        return None
    return content, given["role"], given.get("name") or None


def _check(top_k: int, threshold: float | None, others: Mapping[str, object]) -> None:
    if named := sorted(_IDENTITY & others.keys()):
        raise InvalidInput(f"{', '.join(named)} belong into filters={{…}}; nothing was searched")
    if type(top_k) is not int or top_k < 0:
        raise InvalidInput("top_k is a whole number from 0 on; nothing was searched", field="top_k")
    if threshold is not None and not (isinstance(threshold, int | float) and 0 <= threshold <= 1):
        raise InvalidInput("threshold lies between 0 and 1; nothing was searched", field="threshold")


def _day(given: object) -> str | None:
    """A day in ISO 8601. Raises InvalidInput."""
    if isinstance(given, datetime):
        given = given.date()
    try:
        return None if given is None else date.fromisoformat(str(given)).isoformat()
    except ValueError:
        raise InvalidInput("expiration_date is a day such as 2026-05-08; nothing was changed") from None


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _shown_id(id_: str) -> str:
    return str(UUID(id_))
