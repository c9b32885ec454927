"""Nobody ever sees another user's memories: a random history of calls against a plain dictionary for each user."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aico.errors import NotFound
from aico.testing import temporary_vault

USERS = st.sampled_from(["nell", "otto", "frau kowalke"])
WORDS = st.lists(st.sampled_from(["whale", "harbour", "bread", "viola", "snow", "fork"]), min_size=1, max_size=3).map(
    " ".join
)
CONVERSATIONS = st.sampled_from(["c", "d"])


class Histories(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self._opened = temporary_vault()
        self.memory = self._opened.__enter__().memory
        self.texts: dict[str, dict[str, str]] = {"nell": {}, "otto": {}, "frau kowalke": {}}

    @rule(user=USERS, text=WORDS, conversation=CONVERSATIONS)
    def record(self, user, text, conversation):
        self.texts[user][self.memory.record(user, text, conversation=conversation)] = text

    @rule(user=USERS, text=WORDS)
    def remember(self, user, text):
        self.texts[user][self.memory.remember(user, text)] = text

    @rule(user=USERS, word=st.sampled_from(["whale", "bread"]))
    def forget_a_subject(self, user, word):
        if self.texts[user]:
            self.memory.forget(user, about=word)
            self.texts[user] = {id_: text for id_, text in self.texts[user].items() if word not in text.split()}

    @rule(user=USERS, other=USERS)
    def try_to_forget_what_belongs_to_another(self, user, other):
        foreign = next((id_ for id_ in self.texts[other] if id_ not in self.texts[user]), None)
        if foreign is not None and user != other:
            with pytest.raises(NotFound):
                self.memory.forget(user, id=foreign)

    @rule(user=USERS, conversation=CONVERSATIONS)
    def read_recent(self, user, conversation):
        assert {moment.id for moment in self.memory.recent(user, conversation, limit=99)} <= self.texts[user].keys()

    @invariant()
    def recall_finds_all_of_ones_own_and_nothing_else(self):
        for user, texts in self.texts.items():
            found = {hit.id: hit.text for hit in self.memory.recall(user, "whale viola", limit=500)}
            assert found.items() <= texts.items()
            assert {id_ for id_, text in texts.items() if {"whale", "viola"} & set(text.split())} <= found.keys()

    def teardown(self):
        self._opened.__exit__(None, None, None)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
