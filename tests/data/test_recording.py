"""Recording many messages at once: the same as recording them one by one, only faster."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aico import Message
from aico.errors import InvalidInput
from aico.testing import FixedClock, temporary_vault

START = datetime(2026, 5, 1, tzinfo=UTC)
USERS = ["at once", "one by one"]
CONVERSATIONS = ["a", "b", "c"]
MESSAGES = st.builds(
    lambda conversation, source, word, role: Message(
        word,
        role=role,
        conversation=conversation,
        at=START + timedelta(minutes=len(word)),
        source_id=source,
    ),
    st.sampled_from(CONVERSATIONS),
    st.sampled_from([None, "s1", "s2", "s3"]),
    st.sampled_from(["harbour", "viola", "snow", "bread"]),
    st.sampled_from(["user", "assistant"]),
)
FORGET, MERGE = "forget", "merge"
STEPS = st.lists(
    st.one_of(
        st.tuples(st.lists(MESSAGES, max_size=12), st.booleans()),
        st.tuples(st.just(FORGET), st.sampled_from(CONVERSATIONS)),
        st.tuples(st.just(MERGE), st.permutations(CONVERSATIONS)),
    ),
    max_size=6,
)


def forget(vault, user, conversation):
    if vault.conversations.messages(user, conversation):
        vault.memory.forget(user, conversation=conversation)


def merge(vault, user, keep, drop):
    """Whether it was refused: an earlier merge may have made the two one conversation."""
    if all(vault.conversations.messages(user, name) for name in (keep, drop)):
        try:
            vault.conversations.merge(user, keep=keep, drop=drop)
        except InvalidInput:
            return True
    return False


def record(vault, user, messages, return_forgotten):
    """The outcomes: of all at once for one person, of one after another for the other."""
    groups = [messages] if user == "at once" else [[message] for message in messages]
    recorded = [vault.memory.record_outcomes(user, group, return_forgotten=return_forgotten) for group in groups]
    return [one.outcome for group in recorded for one in group]


def everything(vault, user):
    kept = vault.connection.fetch_all(
        "SELECT c.name, m.text, m.role, m.at, m.source_id FROM conversations c LEFT JOIN messages m "
        "ON m.conversation_id = c.id JOIN users u ON u.id = c.user_id WHERE u.name = ? ORDER BY c.name, m.position",
        (user,),
    )
    return [tuple(row) for row in kept]


@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_many_at_once_are_the_same_as_one_by_one(steps):
    with temporary_vault(clock=FixedClock()) as vault:
        for user in USERS:
            vault.memory.record(user, "hello", conversation="first")
        for step in steps:
            if step[0] == FORGET:
                did = [forget(vault, user, step[1]) for user in USERS]
            elif step[0] == MERGE:
                did = [merge(vault, user, *step[1][:2]) for user in USERS]
            else:
                did = [record(vault, user, *step) for user in USERS]
            assert did[0] == did[1]
            assert everything(vault, USERS[0]) == everything(vault, USERS[1])


def test_who_was_merged_into_something_forgotten_is_nobodys_any_more():
    """Found by the test above: the name began anew by itself in a batch, and one by one in the conversation it once joined."""
    with temporary_vault(clock=FixedClock()) as vault:
        both = [Message("harbour", conversation=name, at=START) for name in ("a", "b")]
        for user in USERS:
            vault.memory.record_many(user, both)
            merge(vault, user, "a", "b")
            forget(vault, user, "a")
        vault.memory.record_many(USERS[0], both)
        for message in both:
            vault.memory.record_many(USERS[1], [message])
        found = [[(row[0], row[1]) for row in everything(vault, user)] for user in USERS]
        assert found[0] == found[1] == [("a", "harbour"), ("b", "harbour")]


def test_ids_come_back_in_the_order_turnsand_a_repeat_has_the_first_ones():
    with temporary_vault() as vault:
        turns = [Message(f"turn {n % 1500}", conversation="c", at=START, source_id=f"s{n % 1500}") for n in range(2200)]
        recorded = vault.memory.record_many("mia", turns)
        assert recorded[1500:] == recorded[:700]
        assert [text for _, text, *_ in everything(vault, "mia")] == [f"turn {n}" for n in range(1500)]


@pytest.mark.parametrize("several", [False, True])
def test_a_conversation_whose_messages_all_stay_forgotten_does_not_come_back(several):
    with temporary_vault() as vault:
        messages = [Message(f"turn {n}", conversation="the clinic", at=START, source_id=f"s{n}") for n in range(3)]
        vault.memory.record_many("mia", messages)
        vault.memory.record("mia", "hello", conversation="other")
        vault.memory.forget("mia", conversation="the clinic")
        again = vault.memory.record_outcomes("mia", messages if several else messages[:1])
        assert {one.outcome.value for one in again} == {"forgotten"}
        names = vault.connection.fetch_all("SELECT name FROM conversations")
        assert [row["name"] for row in names] == ["other"]
