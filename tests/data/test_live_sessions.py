"""Live conversations: what is live follows from the clock alone, and from nobody else's sessions."""

from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aico.errors import InvalidInput, NotFound
from aico.testing import FixedClock, temporary_vault

USERS = st.sampled_from(["nell", "otto"])


class Histories(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.clock = FixedClock()
        self._opened = temporary_vault(clock=self.clock)
        vault = self._opened.__enter__()
        self.sessions, self.expiry, self.owner = vault.live_sessions, {}, {}
        for user in ("nell", "otto"):
            vault.memory.record(user, "hello", conversation="c")

    @rule(user=USERS, ttl_s=st.integers(1, 100))
    def start(self, user, ttl_s):
        made = self.sessions.start(user, "c", ttl_s=ttl_s)
        self.expiry[made], self.owner[made] = self.clock.now_us() + ttl_s * 10**6, user

    @rule(seconds=st.integers(1, 60))
    def wait(self, seconds):
        self.clock.move(timedelta(seconds=seconds))

    @rule(data=st.data(), user=USERS, ttl_s=st.integers(1, 100))
    def heartbeat(self, data, user, ttl_s):
        if self.expiry:
            session = data.draw(st.sampled_from(sorted(self.expiry)))
            if self.owner[session] == user and self.expiry[session] > self.clock.now_us():
                self.sessions.heartbeat(user, session, ttl_s=ttl_s)
                self.expiry[session] = self.clock.now_us() + ttl_s * 10**6
            else:
                with pytest.raises(NotFound):
                    self.sessions.heartbeat(user, session, ttl_s=ttl_s)

    @rule(data=st.data(), user=USERS)
    def end(self, data, user):
        if self.expiry:
            session = data.draw(st.sampled_from(sorted(self.expiry)))
            if self.owner[session] == user and self.expiry[session] > self.clock.now_us():
                self.sessions.end(user, session)
                self.expiry[session] = 0
            else:
                with pytest.raises(NotFound):
                    self.sessions.end(user, session)

    @rule()
    def sweep(self):
        self.sessions.sweep(keep_s=0)

    @invariant()
    def exactly_the_live_ones_are_listed(self):
        for user in ("nell", "otto"):
            live = {s for s, until in self.expiry.items() if until > self.clock.now_us() and self.owner[s] == user}
            assert {session.id for session in self.sessions.list_live(user)} == live

    def teardown(self):
        self._opened.__exit__(None, None, None)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)


def test_a_session_names_a_conversation_and_a_device_that_are_there():
    with temporary_vault(clock=FixedClock()) as vault:
        for conversation in ("c", ""):
            with pytest.raises((NotFound, InvalidInput)):
                vault.live_sessions.start("mia", conversation)
        vault.memory.record("mia", "hello", conversation="c")
        with pytest.raises(NotFound):
            vault.live_sessions.start("mia", "c", device="0" * 32)
        with pytest.raises(NotFound):
            vault.live_sessions.start("otto", "c")
        made = vault.live_sessions.start("mia", "c", device=vault.devices.ensure_this().id)
        [session] = vault.live_sessions.list_live("mia")
        assert (session.id, session.conversation, session.device) == (made, "c", vault.devices.find_this().id)
        vault.memory.forget("mia", conversation="c")
        assert vault.live_sessions.list_live("mia") == []


@pytest.mark.parametrize("ttl_s", [10**12, 1 << 62, 0, -1, 60.0])
def test_a_session_whose_end_could_not_be_written_down_is_refused_and_the_others_go_on(ttl_s):
    with temporary_vault() as vault:
        vault.memory.record("mia", "hello", conversation="c")
        made = vault.live_sessions.start("mia", "c")
        with pytest.raises(InvalidInput):
            vault.live_sessions.start("mia", "c", ttl_s=ttl_s)
        with pytest.raises(InvalidInput):
            vault.live_sessions.heartbeat("mia", made, ttl_s=ttl_s)
        assert [session.id for session in vault.live_sessions.list_live("mia")] == [made]
