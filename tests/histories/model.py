"""What a vault of two people holds: as plain data that nobody read from it, and as its public calls show it."""

import io
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aico
from aico.testing import PASSPHRASE, FixedClock, HashEmbedder, cheap_settings

PEOPLE = ("nell", "otto")
WORDS = ("whale", "harbour", "bread", "viola", "snow")
CHATS = ("a", "b", "c")
START = datetime(2026, 5, 8, 12, 0, tzinfo=UTC)
PLACE = ("app", "notes")


@dataclass
class Kept:
    """A message or fact. `sources` are messages that say a fact, by their numbers; `tags` what it was marked with."""

    text: str
    chat: str = ""
    status: str = "accepted"
    closed: bool = False
    by_person: bool = True
    sources: set[int] = field(default_factory=set)
    tags: set[str] = field(default_factory=set)


@dataclass
class Lock:
    """A PIN and the wrong attempts at it."""

    pin: str
    failed: int = 0
    lockouts: int = 0
    until: int | None = None


@dataclass
class Person:
    """What somebody keeps; instants are seconds since START."""

    generation: int = 0
    exists: bool = False
    active: bool = True
    full_name: str | None = None
    messages: dict[int, Kept] = field(default_factory=dict)
    named: dict[tuple[str, str], int] = field(default_factory=dict)
    """Messages by conversation and source id, also forgotten ones."""
    rows: set[str] = field(default_factory=set)
    """Conversations that have a row, with messages or without."""
    leads: dict[str, str] = field(default_factory=dict)
    facts: dict[int, Kept] = field(default_factory=dict)
    unsayable: set[str] = field(default_factory=set)
    """The words of forgotten facts, which no model brings back."""
    events: dict[int, int | None] = field(default_factory=dict)
    preferences: dict[str, str] = field(default_factory=dict)
    items: dict[str, tuple[str, int | None]] = field(default_factory=dict)
    """Value and the message that an item goes with."""
    tasks: dict[str, bool] = field(default_factory=dict)
    lines: set[str] = field(default_factory=set)
    kin: set[str] = field(default_factory=set)
    lock: Lock | None = None
    logins: list[int] = field(default_factory=list)
    """When each session ends."""
    live: list[tuple[str, int]] = field(default_factory=list)

    def place(self, chat: str) -> str:
        """Where the name of a conversation leads."""
        return self.leads[chat] if chat not in self.rows and self.leads.get(chat) in self.rows else chat

    def begin(self, chat: str) -> str:
        """Where a message under this name goes."""
        place = chat if chat in self.rows else self.place(chat)
        if place not in self.rows:
            self.leads.pop(place, None)
            self.rows.add(place)
        return place

    def forget(self, messages: set[int], facts: set[int]) -> None:
        """Drop these, the facts that only these messages say, and what hangs on either."""
        drawn = {n for n, fact in self.facts.items() if fact.sources and fact.sources <= messages}
        for number in messages:
            del self.messages[number]
        for number in facts | drawn:
            self.unsayable.add(self.facts.pop(number).text)
        for fact in self.facts.values():
            fact.sources -= messages
        self.events = {n: about for n, about in self.events.items() if about not in messages}
        self.items = {key: item for key, item in self.items.items() if item[1] not in messages}
        self.rows &= {message.chat for message in self.messages.values()}
        self.live = [one for one in self.live if one[0] in self.rows]


@dataclass
class Model:
    """The people of a vault and its devices. `between` is what a killed call may leave half-way, as it is meant to."""

    people: dict[str, Person] = field(default_factory=lambda: {name: Person() for name in PEOPLE})
    devices: dict[str, bool] = field(default_factory=dict)
    exports: dict[str, Person] = field(default_factory=dict)
    now: int = 0
    calls: int = 0
    between: list["Model"] = field(default_factory=list)

    def shown(self) -> dict[str, Any]:
        """What `observed` must find."""
        return {name: self._shown(person) for name, person in self.people.items()} | {"devices": self.devices}

    def _shown(self, person: Person) -> dict[str, Any] | None:
        if not person.exists:
            return None
        now, lock = self.now, person.lock
        facts = [fact for fact in person.facts.values() if not fact.closed]
        return {
            "profile": (person.full_name, person.active),
            "messages": {one.text: (one.chat, sorted(one.tags)) for one in person.messages.values()},
            "chats": dict(Counter(one.chat for one in person.messages.values())),
            "names": {chat: person.place(chat) if person.place(chat) in _used(person) else None for chat in CHATS},
            "facts": {one.text: sorted(one.tags) for one in facts if one.status == "accepted"},
            "rows": sorted(person.rows),
            "said by": {one.text: sorted(person.messages[n].text for n in one.sources) for one in facts},
            "proposed": sorted(one.text for one in facts if one.status == "proposed"),
            "rejected": sorted(one.text for one in facts if one.status == "rejected"),
            "events": sorted((str(n), about and person.messages[about].text) for n, about in person.events.items()),
            "preferences": person.preferences,
            "items": {key: value for key, (value, _) in person.items.items()},
            "tasks": person.tasks,
            "lines": sorted(person.lines),
            "kin": sorted(person.kin),
            "lock": None if lock is None else (lock.failed, lock.until if lock.until and lock.until > now else None),
            "logins": sorted(until for until in person.logins if until > now),
            "live": sorted(one for one in person.live if one[1] > now),
        }


def _used(person: Person) -> set[str]:
    return {one.chat for one in person.messages.values()}


def open_vault(folder: Any, model: Model, *, seed: int = 0) -> aico.Vault:
    """The vault in a folder, with a clock that stands where the model's does."""
    clock = FixedClock(START + timedelta(seconds=model.now), seed=seed)
    return aico.open(
        folder, passphrase=PASSPHRASE, settings=cheap_settings(clock=clock, embedder=HashEmbedder(dimension=8))
    )


def observed(vault: aico.Vault) -> dict[str, Any]:
    """What a vault holds, by its public calls, in the shape of `Model.shown`."""
    devices = {device.name: device.is_active for device in vault.devices.list()}
    return {name: _of(vault, name) for name in PEOPLE} | {"devices": devices}


def _of(vault: aico.Vault, name: str) -> dict[str, Any] | None:
    profile = vault.users.find_by_name(name)
    if profile is None:
        return None
    messages = {one.id: one for one in vault.album.messages(name, limit=500)}
    at = {chat: [one.conversation for one in vault.conversations.messages(name, chat, limit=500)] for chat in CHATS}
    for chat in CHATS:
        assert len(vault.memory.recent(name, chat, limit=500)) == len(at[chat])
    about = {one.category: one.subject_id for one in vault.feedback.list(name, limit=500)}
    lines = vault.logs.query_logs(user_id=profile.id, subsystem="life", limit=None)
    pin = vault.pins.get_user_authentication(profile.id)
    return {
        "profile": (profile.full_name, profile.is_active),
        "messages": {one.text: (one.conversation, sorted(one.marks.tags)) for one in messages.values()},
        "chats": {one.name: one.messages for one in vault.conversations.list(name)},
        "names": {chat: found[0] if found else None for chat, found in at.items()},
        "facts": {one.text: sorted(one.marks.tags) for one in vault.facts.list(name, limit=500)},
        "rows": sorted(one["name"] for one in _exported(vault, name) if one.get("kind") == "conversation"),
        "said by": {
            fact.text: sorted(messages[source].text for source in fact.sources)
            for status in ("accepted", "proposed", "rejected")
            for fact in vault.facts.list(name, status=status, limit=500)
        },
        "proposed": sorted(one.text for one in vault.facts.proposed(name, limit=500)),
        "rejected": sorted(one.text for one in vault.facts.list(name, status="rejected", limit=500)),
        "events": sorted((key, id_ and messages[id_].text) for key, id_ in about.items()),
        "preferences": {one.key: one.value for one in vault.preferences.list(name)},
        "items": {one.key: one.value for one in vault.items.list(name, PLACE)},
        "tasks": {one.name: one.is_enabled for one in vault.tasks.list() if one.name.startswith(name)},
        "lines": sorted(one.message for one in lines),
        "kin": sorted(one.relationship_type for one in vault.users.get_user_relationships(profile.id)),
        "lock": None if not pin.has_pin else (pin.failed_attempts, pin.locked_until and _seconds(pin.locked_until)),
        "logins": sorted(_seconds(one.expires_at) for one in vault.sessions.get_user_sessions(profile.id)),
        "live": sorted((one.conversation, _seconds(one.expires_at)) for one in vault.live_sessions.list_live(name)),
    }


def _seconds(at: datetime) -> int:
    return round((at - START).total_seconds())


def _exported(vault: aico.Vault, name: str) -> list[dict[str, Any]]:
    out = io.BytesIO()
    vault.export(out, name)
    return [json.loads(line) for line in out.getvalue().splitlines()]
