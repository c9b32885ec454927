"""mem0's interface over a sealed vault: `from aico.compat.mem0 import Memory` where a program imports it from `mem0`.

    memory = Memory()                                  # the vault of this machine; or Memory(vault=companion)
    memory.add("I moved to Lisbon in May.", user_id="mia", infer=False)
    memory.search("where does she live?", filters={"user_id": "mia"})["results"]

Verbs, arguments and results are those of mem0ai 2.2; docs/how-to/mem0.md lists every difference. Each memory is a message of its
user: `vault.memory.recall` finds it, `forget`, exports and backups reach it. Nothing is sent anywhere.

The message itself says that it is one of mem0's, by its source id. What mem0 knows beside (metadata, expiration, history) and
each text that an update took away are items of their own, which go with the message; whoever forgets something that stands in such an
item takes it away, and the memory is there without it.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
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
from aico.clock import from_us, to_us
from aico.compat._mem0_filters import SCOPES, fits, ids_of, scope_of, trimmed
from aico.compat._vault import checked_user
from aico.data.conversations import Message, Moment
from aico.data.items import Item, Put
from aico.errors import InvalidInput, ModelUnavailable, NotFound
from aico.vault import Vault, open_vault

SOURCE = "mem0 "
"""How the source id of every message begins that was added here."""
ROOT = ("mem0",)
"""The namespace in `vault.items` of what mem0 knows of a memory beside its text."""
PAST = ("mem0-past",)
"""The namespace of the texts that updates took away, each under the id of its change."""
CONVERSATION = "mem0"
"""Where memories are that were added without a run."""
TOP_K_MOST = 1_000_000_000
_FIRST_LOOK, _NEXT_LOOK = 60, 20
_LISTED_AT_ONCE = 500
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
    Raises InvalidInput for an empty or blank user.
    """

    def __init__(
        self,
        config: object = None,
        *,
        vault: Vault | AsyncVault | None = None,
        user: str | None = None,
        extractor: FactExtractor | None = None,
    ) -> None:
        self._only = None if user is None else checked_user(user)
        self._closing = ExitStack()
        if vault is None:
            vault = self._closing.enter_context(open_vault())
        self._vault = vault.sync if isinstance(vault, AsyncVault) else vault
        self._extractor, self._warned = extractor, False

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
        ids_given = {"user_id": user_id, "agent_id": agent_id, "run_id": run_id}
        about = _About(
            agent_id=trimmed(agent_id, "agent_id"),
            run_id=trimmed(run_id, "run_id"),
            metadata=_fields(metadata),
            expires=_day(expiration_date),
        )
        owner = self._owner(scope_of(ids_given))
        if infer and self._extractor is None and not self._warned:
            self._warned = True
            _log.warning("infer=True asks no model here: messages are kept as they were said, as with infer=False")
        kept = [message for message in map(_message, _listed(messages)) if message is not None]
        conversation = about.run_id or CONVERSATION
        with self._vault.connection.transaction():
            ids = self._vault.memory.record_many(
                owner,
                [
                    Message(text, role=role, conversation=conversation, speaker=name, source_id=f"{SOURCE}{uuid4()}")
                    for text, role, name in kept
                ],
            )
            now = datetime.now(UTC)
            self._vault.items.put_many(
                owner, [replace(about, changes=[_Change.at_moment(now)]).put(id_) for id_ in ids]
            )
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
            relevant = {hit.id: hit for hit in hits if _is_ours(hit) and _beside(hit, best) >= (threshold or 0)}
            known = self._known_of(owner, [_moment(hit) for hit in relevant.values()])
            fitting = (one for one in known if one.fits(filters, show_expired=show_expired))
            found = [
                _scored(one, relevant[one.id], _beside(relevant[one.id], best), explain=explain)
                for one in islice(fitting, top_k)
            ]
            if len(found) == top_k:
                break
        return {"results": found}

    def get(self, memory_id: str) -> Result | None:
        """One memory, None where there is none."""
        found = self._find(memory_id)
        if found is None:
            return None
        shown = found.shown()
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
        return {"results": [one.shown() for one in islice(fitting, top_k)]}

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
        with self._vault.connection.transaction():  # nobody changes it between the reading and the writing
            found = self._get(memory_id)
            change = _Change.at_moment(datetime.now(UTC))
            puts = []
            if text is not None and text != found.moment.text:
                self._vault.conversations.edit(found.owner, found.id, text)
                change.is_edit = True
                puts.append(Put(namespace=PAST, key=change.id, value=found.moment.text, memory=found.id))
            about = replace(
                found.about,
                metadata=found.about.metadata | _fields(metadata),
                expires=found.about.expires if expiration_date is _UNSET else _day(expiration_date),
                changes=[*found.about.changes, change],
            )
            self._vault.items.put_many(found.owner, [about.put(found.id), *puts])
        return {"message": "Memory updated successfully!"}

    def delete(self, memory_id: str) -> Result:
        """Forget a memory for good, its history too. Raises UnknownMemory."""
        found = self._get(memory_id)
        if not self._forget(found.owner, found.id):
            raise _unknown()
        return {"message": "Memory deleted successfully!"}

    def delete_all(self, user_id: str | None = None, agent_id: str | None = None, run_id: str | None = None) -> Result:
        """Forget every memory of these, one after another; what another forgets meanwhile is gone too.

        Raises InvalidInput where nobody is named.
        """
        given = {"user_id": user_id, "agent_id": agent_id, "run_id": run_id}
        filters = {name: trimmed(value, name) for name, value in given.items() if value is not None}
        owner = self._owner(scope_of(filters))
        for one in list(self._fitting(owner, filters, show_expired=True)):
            self._forget(owner, one.id)
        return {"message": "Memories deleted successfully!"}

    def history(self, memory_id: str) -> list[Result]:
        """How a memory became what it is, oldest first; nothing of one that was deleted.

        An old text that was forgotten since is None, and of a memory whose item was there is no history.
        """
        found = self._find(memory_id)
        if found is None:
            return []
        edits = [change.id for change in found.about.changes if change.is_edit]
        past = {item.key: str(item.value) for item in self._past(found, edits)}
        return found.history(past)

    def reset(self) -> None:
        """Forget every memory that was added here, of everybody or of the one user it is held to."""
        names = [self._only] if self._only is not None else [user.name for user in self._vault.users.list_profiles()]
        for owner in names:
            for id_ in self._vault.album.list_ids_from(owner, SOURCE):
                self._forget(owner, id_)

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

    def _fitting(self, owner: str, filters: Mapping[str, Any] | None, *, show_expired: bool) -> Iterator["_Known"]:
        ids = self._vault.album.list_ids_from(owner, SOURCE)
        for start in range(0, len(ids), _LISTED_AT_ONCE):
            some = self._vault.album.list_of(owner, ids[start : start + _LISTED_AT_ONCE])
            yield from (one for one in self._known_of(owner, some) if one.fits(filters, show_expired=show_expired))

    def _find(self, memory_id: str) -> "_Known | None":
        """The memory of an id, if it was added here."""
        try:
            id_ = UUID(memory_id).hex
        except (ValueError, AttributeError, TypeError):
            return None
        owner = self._vault.album.whose(id_) if self._only is None else self._only
        moments = [] if owner is None else self._vault.album.list_of(owner, [id_])
        return None if owner is None else next(self._known_of(owner, filter(_is_ours, moments)), None)

    def _get(self, memory_id: str) -> "_Known":
        found = self._find(memory_id)
        if found is None:
            raise _unknown()
        return found

    def _known_of(self, owner: str, moments: Iterable[Moment]) -> Iterator["_Known"]:
        """What is known of each of these messages."""
        listed = list(moments)
        items = self._vault.items.of_memories(owner, [moment.id for moment in listed], prefix=ROOT)
        return (_Known(owner, moment, _About.of(items.get(moment.id), moment)) for moment in listed)

    def _past(self, known: "_Known", edits: Iterable[str]) -> Iterator[Item]:
        found = (self._vault.items.find(known.owner, PAST, change) for change in edits)
        return (item for item in found if item is not None)

    def _forget(self, owner: str, id_: str) -> bool:
        """Whether it was there to be forgotten."""
        try:
            self._vault.memory.forget(owner, id=id_)
        except NotFound:
            return False
        return True


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
class _Change:
    """One line of a memory's history. The text that an edit took away is an item of its own."""

    id: str
    at_us: int
    is_edit: bool = False

    @classmethod
    def at_moment(cls, at: datetime) -> "_Change":
        return cls(str(uuid4()), to_us(at))

    def at(self) -> str:
        return from_us(self.at_us).isoformat()


@dataclass(slots=True)
class _About:
    """What mem0 knows of a memory beside its message: the value of its item.

    It is kept without a word of ours, as a list and with numbers for times: who forgets all about "history", "user" or "2026"
    means none of these items, and each would carry the word.
    """

    agent_id: str | None
    run_id: str | None
    metadata: dict[str, Any] = field(repr=False)  # any JSON
    expires: date | None = None
    changes: list[_Change] = field(default_factory=list, repr=False)

    @classmethod
    def of(cls, item: Item | None, moment: Moment) -> "_About":
        """From the item; from the message alone where there is none, because it was forgotten."""
        if item is None:
            return cls(None, None if moment.conversation == CONVERSATION else moment.conversation, {})
        agent_id, run_id, metadata, day, changes = item.value
        expires = None if day is None else date.fromordinal(day)
        return cls(agent_id, run_id, metadata, expires, [_Change(*change) for change in changes])

    def put(self, id_: str) -> Put:
        changes = [[change.id, change.at_us, change.is_edit] for change in self.changes]
        day = None if self.expires is None else self.expires.toordinal()
        value = [self.agent_id, self.run_id, self.metadata, day, changes]
        return Put(namespace=ROOT, key=id_, value=value, memory=id_)


@dataclass(frozen=True, slots=True)
class _Known:
    """A memory: whose it is, its message, and what is known beside."""

    owner: str
    moment: Moment
    about: _About

    @property
    def id(self) -> str:
        return self.moment.id

    def told(self) -> Result:
        """What stands beside a memory in a result, as far as there is any."""
        ids = {"agent_id": self.about.agent_id, "run_id": self.about.run_id, **ids_of(self.owner)}
        told = {
            **{name: ids.get(name) for name in SCOPES},
            "actor_id": self.moment.speaker,
            "role": self.moment.role,
            "expiration_date": None if self.about.expires is None else self.about.expires.isoformat(),
        }
        return {name: value for name, value in told.items() if value is not None}

    def fits(self, filters: Mapping[str, Any] | None, *, show_expired: bool) -> bool:
        """Whether filters mean it, and it is to be shown."""
        over = self.about.expires is not None and self.about.expires < datetime.now(UTC).date()
        return (show_expired or not over) and fits({**self.about.metadata, **self.told()}, filters or {})

    def shown(self) -> Result:
        said, changes = self.moment.at.isoformat(), self.about.changes
        return {
            "id": _shown_id(self.id),
            "memory": self.moment.text,
            "hash": md5(self.moment.text.encode(), usedforsecurity=False).hexdigest(),
            "metadata": self.about.metadata or None,
            "created_at": changes[0].at() if changes else said,
            "updated_at": changes[-1].at() if changes else said,
            **self.told(),
        }

    def history(self, past: Mapping[str, str]) -> list[Result]:
        """Its changes, oldest first: the newest text is the message's, each older one that which an edit took away."""
        lines: list[Result] = []
        text: str | None = self.moment.text
        for number, change in reversed(list(enumerate(self.about.changes))):
            new, text = text, past.get(change.id) if change.is_edit else text
            line: Result = {"memory_id": _shown_id(self.id), "id": change.id, "old_memory": text if number else None}
            line |= {"new_memory": new, "event": "UPDATE" if number else "ADD"}
            line |= {"created_at": self.about.changes[0].at(), "updated_at": change.at(), "is_deleted": False}
            lines.append(line | {"actor_id": self.moment.speaker, "role": self.moment.role})
        return lines[::-1]


def _is_ours(found: Hit | Moment) -> bool:
    """Whether a message was added here."""
    return (found.source_id or "").startswith(SOURCE)


def _moment(hit: Hit) -> Moment:
    return Moment(hit.id, hit.text, hit.role or "", hit.conversation or "", hit.speaker, hit.at, hit.source_id)


def _unknown() -> UnknownMemory:
    return UnknownMemory("no memory has this id; nothing was changed")


def _beside(hit: Hit, best: float) -> float:
    """The root of how likely it is beside the best: mem0's similarities fall off more slowly than what is likely does."""
    return float(sqrt(hit.score / best)) if best else 0.0


def _scored(known: _Known, hit: Hit, score: float, *, explain: bool) -> Result:
    shown = {**known.shown(), "score": score}
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
        parts = [part.get("text") for part in content if isinstance(part, Mapping) and part.get("type") == "text"]
        texts = [part for part in parts if isinstance(part, str)]
        content = "\n".join(texts) if len(texts) == len(parts) else None
    if given["role"] == "system" or content == "":
        return None
    if not isinstance(content, str):
        raise InvalidInput(
            "content is a text or a list of parts, each with its text; nothing was added", field="content"
        )
    return content, given["role"], given.get("name") or None


def _fields(metadata: object) -> Result:
    """Metadata without what says whose a memory is. Raises InvalidInput."""
    if metadata is not None and not isinstance(metadata, Mapping):
        raise InvalidInput("metadata is an object of names and values; nothing was changed", field="metadata")
    return {key: value for key, value in (metadata or {}).items() if key not in _IDENTITY}


def _check(top_k: int, threshold: float | None, others: Mapping[str, object]) -> None:
    if named := sorted(_IDENTITY & others.keys()):
        raise InvalidInput(f"{', '.join(named)} belong into filters={{…}}; nothing was searched")
    if type(top_k) is not int or not 0 <= top_k <= TOP_K_MOST:
        raise InvalidInput(f"top_k is a whole number from 0 to {TOP_K_MOST:,}; nothing was searched", field="top_k")
    if threshold is not None and not (isinstance(threshold, int | float) and 0 <= threshold <= 1):
        raise InvalidInput("threshold lies between 0 and 1; nothing was searched", field="threshold")


def _day(given: object) -> date | None:
    """A day, from ISO 8601. Raises InvalidInput."""
    if isinstance(given, datetime):
        given = given.date()
    try:
        return None if given is None else date.fromisoformat(str(given))
    except ValueError:
        raise InvalidInput("expiration_date is a day such as 2026-05-08; nothing was changed") from None


def _shown_id(id_: str) -> str:
    return str(UUID(id_))
