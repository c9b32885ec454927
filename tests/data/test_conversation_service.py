"""Conversations: lists, corrections and merges, against a plain model and never across people."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aico import Message
from aico.errors import Forgotten, InvalidInput, NotFound
from aico.testing import PASSPHRASE, FixedClock, cheap_settings, temporary_vault
from aico.vault import open_vault
from tests.independent import decryptor

START = datetime(2026, 5, 1, tzinfo=UTC)
USERS = st.sampled_from(["nell", "otto"])
NAMES = st.sampled_from(["a", "b", "c"])
WORDS = ["harbour", "viola", "snow", "bread"]


@pytest.fixture
def vault():
    with temporary_vault(clock=FixedClock()) as vault:
        yield vault


def say(text, minute, *, conversation, source_id=None, role="user"):
    return Message(
        text, role=role, conversation=conversation, at=START + timedelta(minutes=minute), source_id=source_id
    )


def texts(vault, conversation, user="mia"):
    return [moment.text for moment in vault.conversations.messages(user, conversation)]


class Histories(RuleBasedStateMachine):
    """The model: for each user, for each conversation, the messages by id: (minute, text). Merged names lead on."""

    def __init__(self):
        super().__init__()
        self._opened = temporary_vault(clock=FixedClock())
        self.vault = self._opened.__enter__()
        self.minute = 0
        self.model = {"nell": {}, "otto": {}}
        self.leads_to = {"nell": {}, "otto": {}}
        self.sources = {"nell": {}, "otto": {}}

    def _name(self, user, name):
        return self.leads_to[user].get(name, name)

    @rule(user=USERS, name=NAMES, word=st.sampled_from(WORDS), number=st.integers(0, 5))
    def record(self, user, name, word, number):
        key = (name, f"s{number}")
        self.minute += 1
        text = f"{word} {self.minute}"
        made = self.vault.memory.record(
            user, text, conversation=name, at=START + timedelta(minutes=self.minute), source_id=key[1]
        )
        if key in self.sources[user]:
            assert made == self.sources[user][key]
            self.model[user].setdefault(self._name(user, name), {})  # the name is there again, though it is empty
        else:
            self.sources[user][key] = made
            self.model[user].setdefault(self._name(user, name), {})[made] = (self.minute, text)

    def _any_message(self, data, user):
        ids = sorted(id_ for messages in self.model[user].values() for id_ in messages)
        return data.draw(st.sampled_from(ids)) if ids else None

    @rule(data=st.data(), user=USERS, other=USERS, word=st.sampled_from(WORDS))
    def edit(self, data, user, other, word):
        message = self._any_message(data, user)
        if message is None:
            return
        if other != user:
            with pytest.raises(NotFound):
                self.vault.conversations.edit(other, message, "not yours")
            return
        self.vault.conversations.edit(user, message, f"edited {word}")
        for messages in self.model[user].values():
            if message in messages:
                messages[message] = (messages[message][0], f"edited {word}")

    @rule(data=st.data(), user=USERS, name=NAMES)
    def move(self, data, user, name):
        message = self._any_message(data, user)
        if message is not None:
            self.vault.conversations.move(user, [message], name)
            for messages in self.model[user].values():
                found = messages.pop(message, None)
                if found is not None:
                    break
            self.model[user].setdefault(self._name(user, name), {})[message] = found

    @rule(user=USERS, keep=NAMES, drop=NAMES)
    def merge(self, user, keep, drop):
        kept, dropped = self._name(user, keep), self._name(user, drop)
        if kept not in self.model[user] or dropped not in self.model[user]:
            with pytest.raises((NotFound, InvalidInput)):
                self.vault.conversations.merge(user, keep=keep, drop=drop)
        elif kept == dropped:
            with pytest.raises(InvalidInput):
                self.vault.conversations.merge(user, keep=keep, drop=drop)
        else:
            merged = self.vault.conversations.merge(user, keep=keep, drop=drop)
            moved = self.model[user].pop(dropped)
            assert (merged.moved, merged.repeated) == (len(moved), 0)  # every minute is another
            self.model[user][kept].update(moved)
            leads = self.leads_to[user]
            leads.update({name: kept for name, into in leads.items() if into == dropped})
            leads[dropped] = kept

    @invariant()
    def lists_and_messages_are_those_of_the_model(self):
        for user, conversations in self.model.items():
            filled = {name: messages for name, messages in conversations.items() if messages}
            listed = {c.name: c for c in self.vault.conversations.list(user)}
            assert {name: c.messages for name, c in listed.items()} == {n: len(m) for n, m in filled.items()}
            for name, messages in filled.items():
                minutes = sorted(minute for minute, _ in messages.values())
                assert listed[name].first_at == START + timedelta(minutes=minutes[0])
                assert listed[name].last_at == START + timedelta(minutes=minutes[-1])
                shown = self.vault.conversations.messages(user, name)
                assert [(m.id, m.text) for m in shown] == [
                    (id_, text) for id_, (_, text) in sorted(messages.items(), key=lambda item: item[1][0])
                ]

    @invariant()
    def recall_finds_the_texts_as_they_stand(self):
        for user, conversations in self.model.items():
            current = {id_: text for messages in conversations.values() for id_, (_, text) in messages.items()}
            hits = self.vault.memory.recall(user, "viola", limit=500)
            assert {hit.id: hit.text for hit in hits}.items() <= current.items()
            assert {id_ for id_, text in current.items() if "viola" in text.split()} <= {hit.id for hit in hits}

    def teardown(self):
        self._opened.__exit__(None, None, None)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def test_an_edited_message_keeps_its_id_and_place_and_its_old_text_is_gone(vault):
    first, second = vault.memory.record_many(
        "mia", [say("I live in Reykjavik.", 0, conversation="c", source_id="1"), say("Really?", 1, conversation="c")]
    )
    edited = vault.conversations.edit("mia", first, "I live in Oslo.")
    assert (edited.message.id, edited.message.text, edited.log_cleared) == (first, "I live in Oslo.", True)
    assert texts(vault, "c") == ["I live in Oslo.", "Really?"]
    assert vault.memory.recall("mia", "Reykjavik") == []
    assert vault.memory.recall("mia", "Oslo")[0].id == first
    assert vault.memory.record("mia", "I live in Reykjavik.", conversation="c", source_id="1") == first
    assert texts(vault, "c") == ["I live in Oslo.", "Really?"]
    assert second in {moment.id for moment in vault.conversations.messages("mia", "c")}


def test_the_key_holder_finds_no_byte_of_an_edited_text(tmp_path):
    canary = "the parrot knows the combination of the safe"
    with opened(tmp_path / "vault") as vault:
        message = vault.memory.record("mia", canary, conversation="c")
    assert canary.encode() in every_page(tmp_path / "vault")
    with opened(tmp_path / "vault") as vault:
        vault.conversations.edit("mia", message, "Oslo")
    assert canary.encode() not in every_page(tmp_path / "vault")


def opened(folder):
    return open_vault(folder, passphrase=PASSPHRASE, settings=cheap_settings())


def every_page(folder):
    """The database's pages in the clear, free ones too."""
    return decryptor.open_vault(folder, PASSPHRASE).serialize()


def test_an_edit_drops_what_was_derived_from_the_text(vault):
    ids = vault.memory.record_many("mia", [say(f"turn {n}", n, conversation="c") for n in range(4)])
    rows = [(bytes.fromhex(id_), bytes([n]) * 16) for n, id_ in enumerate(ids)]
    passage = b"p" * 16
    connection = vault.connection
    connection.execute(
        "INSERT INTO passages (id, message_id, start, length) VALUES (?, ?, 0, 4)", (passage, rows[1][0])
    )
    for owner, id_ in [*rows, (passage, b"e" * 16)]:
        connection.execute(
            "INSERT INTO embeddings (id, user_id, owner_id, model, dimension, vector) VALUES (?, ?, ?, 'm', 1, ?)",
            (id_, b"u" * 16, owner, b"\0\0"),
        )
    vault.conversations.edit("mia", ids[1], "another turn")
    left = {bytes(owner) for (owner,) in connection.fetch_all("SELECT owner_id FROM embeddings")}
    assert left == {rows[0][0], rows[2][0], rows[3][0]}
    assert connection.fetch_all("SELECT 1 FROM passages") == []


def test_a_conversation_imported_under_two_names_is_found_and_merged_and_stays_so(vault):
    chat = [("Hello!", "assistant"), ("I moved to Lisbon.", "user"), ("How nice.", "assistant"), ("Yes.", "user")]
    first = [say(text, n, conversation="export", source_id=f"e{n}", role=role) for n, (text, role) in enumerate(chat)]
    again = [
        say(text, n, conversation="backup", source_id=f"b{n}", role=role) for n, (text, role) in enumerate(chat[:3])
    ]
    again.append(say("Only here.", 9, conversation="backup", source_id="b9"))
    kept = vault.memory.record_many("mia", first)
    dropped = vault.memory.record_many("mia", again)
    vault.memory.record_many("otto", again)
    fact = vault.memory.remember("mia", "Mia lives in Lisbon", source=dropped[1])
    vault.feedback.record("mia", "rating", "quality", message=dropped[1], value=1)
    vault.conversations.set_title("mia", "backup", "Lisbon")
    [found] = vault.conversations.find_duplicates("mia").conversations
    assert {found.keep, found.drop, found.shared, found.of} == {"export", "backup", 3, 4}

    merged = vault.conversations.merge("mia", keep="export", drop="backup")
    assert (merged.moved, merged.repeated) == (1, 3)
    assert texts(vault, "export") == [text for text, _ in chat] + ["Only here."] == texts(vault, "backup")
    [conversation] = vault.conversations.list("mia")
    assert (conversation.name, conversation.title, conversation.messages) == ("export", "Lisbon", 5)
    assert vault.conversations.find_duplicates("mia").conversations == ()
    for name in ("export", "backup"):
        assert vault.memory.recall("mia", "only here", conversation=name)[0].text == "Only here."
    assert vault.feedback.list("mia", about=kept[1])

    assert vault.memory.record_many("mia", again) == [kept[0], kept[1], kept[2], dropped[3]]
    assert vault.memory.record_many("mia", first) == kept
    assert len(texts(vault, "export")) == 5
    assert vault.memory.record("mia", "and on", conversation="backup") in {
        moment.id for moment in vault.memory.recent("mia", "export")
    }
    assert len(texts(vault, "backup", "otto")) == 4
    assert vault.memory.forget("mia", id=kept[1]).facts == (fact,)


def test_what_is_forgotten_after_a_merge_stays_forgotten_under_every_name(vault):
    kept = vault.memory.record_many("mia", [say("Lisbon", 0, conversation="a", source_id="1")])
    vault.memory.record_many(
        "mia", [say("Lisbon", 0, conversation="b", source_id="2"), say("Porto", 1, conversation="b", source_id="3")]
    )
    vault.conversations.merge("mia", keep="a", drop="b")
    vault.memory.forget("mia", conversation="b")
    assert vault.conversations.list("mia") == []
    for conversation, source in (("a", "1"), ("b", "2"), ("b", "3")):
        with pytest.raises(Forgotten):
            vault.memory.record("mia", "Lisbon", conversation=conversation, source_id=source)
    assert vault.memory.record("mia", "Lisbon", conversation="b", source_id="2", return_forgotten=True) == kept[0]
    assert texts(vault, "b") == ["Lisbon"]


def test_a_merged_message_stays_forgotten_under_every_name_when_everything_goes(vault):
    both = [say("The tram leaves at six.", 0, conversation=name, source_id="1") for name in "AB"]
    vault.memory.record_many("mia", both)
    vault.conversations.merge("mia", keep="A", drop="B")
    vault.memory.forget("mia", everything=True)
    vault.memory.record_many("mia", both)
    assert vault.memory.recall("mia", "tram") == []


def test_what_hangs_on_a_merged_message_hangs_on_the_one_that_stays(vault):
    keep, drop = vault.memory.record_many("mia", [say("The tram leaves.", 0, conversation=name) for name in "AB"])
    vault.items.put("mia", ("app",), "n1", {"mood": "glad"}, memory=drop)
    fact = vault.memory.remember("mia", "Mia takes the tram", source=drop)
    vault.conversations.merge_messages("mia", keep=keep, drop=drop)
    assert (vault.facts.get("mia", fact).source, vault.facts.get("mia", fact).sources) == (keep, (keep,))
    assert [item.key for item in vault.items.list("mia")] == ["n1"]
    vault.memory.forget("mia", id=keep)
    assert vault.items.list("mia") == []


def test_a_chain_of_merges_leads_to_its_end(vault):
    ids = [vault.memory.record("mia", f"word {name}", conversation=name, source_id="1") for name in "abc"]
    vault.conversations.merge("mia", keep="b", drop="a")
    vault.conversations.merge("mia", keep="c", drop="b")
    assert [vault.memory.record("mia", "x", conversation=name, source_id="1") for name in "abc"] == ids
    assert len(texts(vault, "a")) == 3
    with pytest.raises(InvalidInput):
        vault.conversations.merge("mia", keep="a", drop="c")


def test_the_same_message_with_and_without_a_source_id_is_found_and_merged(vault):
    bare, sourced = vault.memory.record_many(
        "mia", [say("Hello.", 0, conversation="c"), say("Hello.", 0, conversation="c", source_id="1")]
    )
    vault.memory.record_many("mia", [say("Yes.", 1, conversation="c", source_id=source) for source in "23"])
    [found] = vault.conversations.find_duplicates("mia").messages
    assert (found.keep, found.drop) == (sourced, bare)
    vault.conversations.merge_messages("mia", keep=found.keep, drop=found.drop)
    assert texts(vault, "c") == ["Hello.", "Yes.", "Yes."]
    assert vault.conversations.find_duplicates("mia").messages == ()


def test_only_ones_own_messages_with_the_same_text_are_merged(vault):
    one, two = vault.memory.record_many(
        "mia", [say("a word", 0, conversation="c"), say("another", 1, conversation="c")]
    )
    other = vault.memory.record("otto", "a word", conversation="c")
    for keep, drop, error in (
        (one, two, InvalidInput),
        (one, one, InvalidInput),
        (one, other, NotFound),
        (other, one, NotFound),
    ):
        with pytest.raises(error):
            vault.conversations.merge_messages("mia", keep=keep, drop=drop)
    with pytest.raises(NotFound):
        vault.conversations.move("mia", [one, other], "d")
    assert len(texts(vault, "c")) == 2


def test_a_conversation_is_read_page_by_page(vault):
    ids = vault.memory.record_many("mia", [say(f"turn {n}", n // 3, conversation="c") for n in range(10)])
    read, after = [], None
    while page := vault.conversations.messages("mia", "c", after=after, limit=3):
        read += [moment.id for moment in page]
        after = read[-1]
    assert read == ids
    with pytest.raises(NotFound):
        vault.conversations.messages("otto", "c", after=ids[0])
        vault.memory.record("otto", "hello", conversation="c")
        vault.conversations.messages("otto", "c", after=ids[0])


def test_what_is_not_there_is_said(vault):
    assert vault.conversations.list("nobody") == []
    assert vault.conversations.messages("nobody", "c") == []
    for call in (
        lambda: vault.conversations.get("mia", "c"),
        lambda: vault.conversations.set_title("mia", "c", "x"),
        lambda: vault.conversations.edit("mia", "0" * 32, "x"),
        lambda: vault.conversations.merge("mia", keep="c", drop="d"),
    ):
        with pytest.raises(NotFound):
            call()


def test_a_merge_that_is_taken_back_changes_nothing(vault):
    vault.memory.record("mia", "one", conversation="a")
    vault.memory.record("mia", "two", conversation="b")
    with pytest.raises(KeyError), vault.connection.transaction():
        vault.conversations.merge("mia", keep="a", drop="b")
        raise KeyError
    assert [c.messages for c in vault.conversations.list("mia")] == [1, 1]


@settings(max_examples=30)
@given(
    said=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5)), max_size=60),
    limit=st.integers(1, 6),
    offset=st.integers(0, 4),
)
def test_the_last_active_conversations_come_first_however_they_are_woven(said, limit, offset):
    with temporary_vault() as vault:
        last: dict[str, tuple] = {}
        for minute, number in said:
            at, name = START + timedelta(minutes=minute), f"c{number}"
            vault.memory.record("nell", "x", conversation=name, at=at)
            vault.memory.record("otto", "x", conversation=name, at=at + timedelta(minutes=1))
            last[name] = max(at, last.get(name, at))
        expected = sorted(last, key=lambda name: (-last[name].timestamp(), name))
        found = vault.conversations.list("nell", limit=limit, offset=offset)
        assert [one.last_at for one in found] == [last[name] for name in expected][offset : offset + limit]
        assert len({one.name for one in found}) == len(found)
        assert [one.name for one in vault.conversations.list("nell")] == expected


def test_to_move_nothing_moves_nothing_and_of_nobody_is_told(vault):
    vault.memory.record("mia", "Hello.", conversation="a")
    assert vault.conversations.move("mia", [], "b") == 0
    assert vault.connection.fetch_all("SELECT name FROM conversations")[0][0] == "a"
    with pytest.raises(NotFound):
        vault.conversations.move("nobody", [], "b")
