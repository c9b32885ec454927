"""Feedback: a random history against plain lists, nobody sees another's, and what is sensitive stays here."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aico.data.feedback import KINDS
from aico.errors import InvalidInput, NotFound
from aico.testing import FixedClock, temporary_vault

USERS = st.sampled_from(["nell", "otto"])
CATEGORIES = st.sampled_from(["message_quality", "copy", "nps"])


@pytest.fixture
def vault():
    with temporary_vault(clock=FixedClock()) as vault:
        yield vault


def feed_tables(vault):
    return {row["table_name"] for row in vault.connection.fetch_all("SELECT DISTINCT table_name FROM change_feed")}


class Histories(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self._opened = temporary_vault(clock=FixedClock())
        self.feedback = self._opened.__enter__().feedback
        self.kept = {"nell": {}, "otto": {}}

    @rule(
        user=USERS, kind=st.sampled_from(KINDS), category=CATEGORIES,
        value=st.none() | st.floats(-5, 5), sensitive=st.booleans(), second=st.integers(0, 3),
    )  # fmt: skip
    def record(self, user, kind, category, value, sensitive, second):
        at = datetime(2026, 5, 1, tzinfo=UTC) + timedelta(seconds=second)
        made = self.feedback.record(user, kind, category, value=value, is_sensitive=sensitive, at=at)
        self.kept[user][made] = (kind, category, value, sensitive, at)

    @rule(user=USERS, other=USERS)
    def delete_the_first(self, user, other):
        if self.kept[user]:
            first = next(iter(self.kept[user]))
            if other != user:
                with pytest.raises(NotFound):
                    self.feedback.delete(other, first)
            self.feedback.delete(user, first)
            del self.kept[user][first]

    @rule(user=USERS, kind=st.sampled_from(KINDS), sensitive=st.booleans(), since=st.integers(0, 3))
    def filter(self, user, kind, sensitive, since):
        start = datetime(2026, 5, 1, tzinfo=UTC) + timedelta(seconds=since)
        found = {e.id for e in self.feedback.list(user, kind=kind, sensitive=sensitive, since=start)}
        assert found == {
            id_
            for id_, (its_kind, _, _, is_sensitive, at) in self.kept[user].items()
            if its_kind == kind and (sensitive or not is_sensitive) and at >= start
        }

    @invariant()
    def everything_kept_is_listed_and_counted(self):
        for user, kept in self.kept.items():
            events = self.feedback.list(user, limit=1000)
            assert {e.id: (e.kind, e.category, e.value, e.is_sensitive, e.at) for e in events} == kept
            assert [e.at for e in events] == sorted((e.at for e in events), reverse=True)
            assert sum(stat.count for stat in self.feedback.stats(user)) == len(kept)

    def teardown(self):
        self._opened.__exit__(None, None, None)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)


def test_sensitive_feedback_is_in_no_table_that_is_captured(vault):
    vault.feedback.record("mia", "survey", "health_check", payload={"mood": "low"}, is_sensitive=True)
    assert "feedback_events" not in feed_tables(vault)
    assert vault.connection.fetch_all("SELECT * FROM feedback_events") == []
    assert vault.feedback.list("mia", sensitive=False) == []
    [event] = vault.feedback.list("mia")
    assert (event.is_sensitive, event.payload) == (True, {"mood": "low"})
    vault.feedback.record("mia", "action", "copy")
    assert "feedback_events" in feed_tables(vault)


@pytest.mark.parametrize("sensitive", [False, True])
def test_feedback_goes_with_what_it_is_about(vault, sensitive):
    message = vault.memory.record("mia", "I moved to Lisbon.", conversation="c1")
    fact = vault.memory.remember("mia", "Mia lives in Lisbon")
    for about in ({"message": message}, {"hit": message}, {"fact": fact}, {"hit": fact}, {"conversation": "c1"}):
        vault.feedback.record("mia", "rating", "quality", value=1, is_sensitive=sensitive, **about)
    kept = vault.feedback.record("mia", "survey", "nps", is_sensitive=sensitive)
    assert len(vault.feedback.list("mia", about=message)) == 2
    receipt = vault.memory.forget("mia", about="Lisbon")
    assert receipt.verify()
    assert [event.id for event in vault.feedback.list("mia")] == [kept]
    vault.memory.forget("mia", everything=True)
    assert vault.feedback.list("mia") == []


def test_feedback_about_what_belongs_to_another_is_refused(vault):
    message = vault.memory.record("mia", "hello there", conversation="c1")
    for about in ({"message": message}, {"hit": message}, {"fact": message}, {"conversation": "c1"}):
        with pytest.raises(NotFound):
            vault.feedback.record("otto", "action", "copy", **about)
    assert vault.feedback.list("otto") == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "opinion"}, {"category": ""}, {"value": float("nan")}, {"value": True}, {"value": 10**400}, {"payload": [1]},
        {"payload": {"x": float("inf")}}, {"payload": {1: "x"}}, {"at": datetime(2026, 1, 1)},
        {"message": "a" * 32, "fact": "b" * 32},
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused(vault, wrong):
    given = {"kind": "signal", "category": "timing", **wrong}
    with pytest.raises(InvalidInput):
        vault.feedback.record("mia", given.pop("kind"), given.pop("category"), **given)
    assert vault.feedback.list("mia") == []


def test_a_repr_shows_nothing_of_it(vault):
    vault.feedback.record("mia", "survey", "secret", payload={"why": "secret"})
    assert "secret" not in repr(vault.feedback.list("mia"))
