"""A random history of calls of two people, against plain dictionaries, over all that a vault keeps and every view of it.

Between any two calls the process may be killed, or the vault closed and opened again, or a person taken out into an
export and brought into an empty vault: each time all is as the dictionaries say.
"""

import io
import os
import shutil
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import aico
from aico.errors import NotFound
from aico.testing import PASSPHRASE, FixedClock, HashEmbedder, cheap_settings, temporary_vault

PEOPLE = ("nell", "otto")
WHO = st.sampled_from(PEOPLE)
WORDS = ("whale", "harbour", "bread", "viola", "snow")
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3, unique=True).map(" ".join)
CHATS = st.sampled_from(("a", "b"))
PICKS = st.integers(0, 99)
START = datetime(2026, 5, 8, 12, 0, tzinfo=UTC)


class Person:
    """What the model knows of somebody: plain dictionaries, by id."""

    def __init__(self) -> None:
        self.messages: dict[str, tuple[str, str]] = {}  # text, conversation
        self.facts: dict[str, str] = {}
        self.tags: dict[str, set[str]] = {}
        self.events: dict[str, str | None] = {}  # what it is about
        self.preferences: dict[str, str] = {}
        self.tasks: set[str] = set()
        self.lines: set[int] = set()

    def forget(self, gone: set[str]) -> None:
        for kept in (self.messages, self.facts, self.tags):
            for id_ in gone & kept.keys():
                del kept[id_]
        self.events = {id_: about for id_, about in self.events.items() if about not in gone}


def picked(ids, pick: int) -> str | None:
    """One of the ids."""
    found = sorted(ids)
    return found[pick % len(found)] if found else None


class Life(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="aico-life-"))
        self.clock = FixedClock(START)
        self.vault = self.open(self.folder / "vault")
        self.people = {name: Person() for name in PEOPLE}
        self.ids = {name: self.vault.users.create_user(name).id for name in PEOPLE}

    def open(self, folder: Path) -> aico.Vault:
        chosen = cheap_settings(clock=self.clock, embedder=HashEmbedder())
        return aico.open(folder, passphrase=PASSPHRASE, settings=chosen)

    @rule(name=WHO, text=TEXTS, chat=CHATS)
    def record(self, name, text, chat):
        self.clock.move(timedelta(seconds=1))
        self.people[name].messages[self.vault.memory.record(name, text, conversation=chat)] = text, chat

    @rule(name=WHO, text=TEXTS, pick=PICKS)
    def edit(self, name, text, pick):
        messages = self.people[name].messages
        if chosen := picked(messages, pick):
            self.vault.conversations.edit(name, chosen, text)
            messages[chosen] = text, messages[chosen][1]

    @rule(name=WHO, pick=PICKS, chat=CHATS)
    def move(self, name, pick, chat):
        messages = self.people[name].messages
        if chosen := picked(messages, pick):
            self.vault.conversations.move(name, [chosen], chat)
            messages[chosen] = messages[chosen][0], chat

    @rule(name=WHO, text=TEXTS)
    def remember(self, name, text):
        self.people[name].facts[self.vault.memory.remember(name, text)] = text

    @rule(name=WHO, pick=PICKS)
    def retract(self, name, pick):
        if chosen := picked(self.people[name].facts, pick):
            self.vault.facts.retract(name, chosen)
            del self.people[name].facts[chosen]
            self.people[name].tags.pop(chosen, None)

    @rule(name=WHO, pick=PICKS)
    def tag(self, name, pick):
        person = self.people[name]
        if chosen := picked(person.messages, pick):
            self.vault.album.tag(name, chosen, "kept")
            person.tags.setdefault(chosen, set()).add("kept")

    @rule(name=WHO, pick=PICKS, is_sensitive=st.booleans())
    def rate(self, name, pick, is_sensitive):
        person = self.people[name]
        about = picked(person.messages, pick)
        event = self.vault.feedback.record(name, "rating", "quality", message=about, is_sensitive=is_sensitive)
        person.events[event] = about

    @rule(name=WHO, key=st.sampled_from(("tone", "size")), value=st.sampled_from(("gentle", "small")))
    def prefer(self, name, key, value):
        self.vault.preferences.set(name, key, value)
        self.people[name].preferences[key] = value

    @rule(name=WHO, number=st.integers(0, 2))
    def plan(self, name, number):
        task = f"{name} {number}"
        if task not in self.people[name].tasks:
            self.vault.tasks.add(task, action="ask", schedule="every 2h", user=name)
            self.people[name].tasks.add(task)

    @rule(name=WHO)
    def log(self, name):
        line = self.vault.logs.insert_log(level="INFO", message="a line", subsystem="life", user_id=self.ids[name])
        self.people[name].lines.add(line)

    @rule(name=WHO, pick=PICKS)
    def forget_one(self, name, pick):
        person = self.people[name]
        if chosen := picked(person.messages | person.facts, pick):
            assert self.vault.memory.forget(name, id=chosen).verify()
            person.forget({chosen})

    @rule(name=WHO, word=st.sampled_from(WORDS))
    def forget_a_subject(self, name, word):
        person = self.people[name]
        receipt = self.vault.memory.forget(name, about=word)
        assert receipt.verify()
        texts = {**{id_: text for id_, (text, _) in person.messages.items()}, **person.facts}
        expected = {id_ for id_, text in texts.items() if word in text.split()}
        assert expected <= {*receipt.messages, *receipt.facts}  # retracted facts go too
        person.forget(expected)

    @rule(name=WHO, chat=CHATS)
    def forget_a_conversation(self, name, chat):
        person = self.people[name]
        self.vault.memory.forget(name, conversation=chat)
        person.forget({id_ for id_, (_, where) in person.messages.items() if where == chat})

    @rule()
    def close_and_open(self):
        self.vault.close()
        self.vault = self.open(self.vault.folder)

    @rule()
    def crash(self):
        """What a killed process leaves behind is what lies on the disk at that moment: the log not yet read back."""
        left = self.folder / f"crashed-{len(os.listdir(self.folder))}"
        shutil.copytree(self.vault.folder, left)
        self.vault.close()
        self.vault = self.open(left)

    @rule(name=WHO)
    def out_and_in(self, name):
        out = io.BytesIO()
        self.vault.export(out, name)
        with temporary_vault() as other:
            other.import_(io.BytesIO(out.getvalue()))
            again = io.BytesIO()
            other.export(again, name)
            assert again.getvalue() == out.getvalue()

    @rule(name=WHO, pick=PICKS)
    def reach_for_the_others(self, name, pick):
        [other] = set(PEOPLE) - {name}
        person = self.people[other]
        for chosen, get in (
            (picked(person.messages, pick), self.vault.album),
            (picked(person.facts, pick), self.vault.facts),
        ):
            if chosen:
                try:
                    get.get(name, chosen)
                except NotFound:
                    continue
                raise AssertionError("somebody else's memory was shown")

    @invariant()
    def all_is_as_the_dictionaries_say(self):
        vault = self.vault
        for name, person in self.people.items():
            texts = {id_: text for id_, (text, _) in person.messages.items()}
            assert {one.id: one.text for one in vault.album.messages(name, limit=500)} == texts
            chats = Counter(chat for _, chat in person.messages.values())
            assert {one.name: one.messages for one in vault.conversations.list(name)} == chats
            for chat in ("a", "b"):
                mine = {id_ for id_, (_, where) in person.messages.items() if where == chat}
                assert {one.id for one in vault.memory.recent(name, chat, limit=500)} == mine
                assert {one.id for one in vault.conversations.messages(name, chat, limit=500)} == mine
            assert {one.id: one.text for one in vault.facts.list(name, limit=500)} == person.facts
            tagged = {one.id for one in vault.album.messages(name, tag="kept", limit=500)}
            assert tagged == {id_ for id_, tags in person.tags.items() if tags}
            assert {one.id: one.subject_id for one in vault.feedback.list(name, limit=500)} == person.events
            assert {one.key: one.value for one in vault.preferences.list(name)} == person.preferences
            assert {one.name for one in vault.tasks.list() if one.name.startswith(name)} == person.tasks
            lines = vault.logs.query_logs(user_id=self.ids[name], subsystem="life", limit=None)
            assert {one.id for one in lines} == person.lines
            held = texts | person.facts
            found = {hit.id: hit.text for hit in vault.memory.recall(name, "whale bread", limit=500)}
            assert found.items() <= held.items()
            assert {id_ for id_, text in held.items() if {"whale", "bread"} & set(text.split())} <= found.keys()

    def teardown(self):
        self.vault.close()
        shutil.rmtree(self.folder)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
