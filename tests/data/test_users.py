"""People and their PINs: profiles, relationships, five attempts, and every way around them that we could think of."""

import threading
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import aico
from aico.data.audit_log import Action
from aico.data.user import UserService
from aico.errors import AccessDenied, InvalidInput, LockedOut, NotFound, StorageError, Tampered
from aico.testing import PASSPHRASE, FixedClock, cheap_settings, temporary_vault
from tests.children import run, started

PIN, OTHER_PIN, WRONG = "2580", "correct horse", "9630"
NOBODY = "ab" * 16


@pytest.fixture
def clock():
    return FixedClock()


@pytest.fixture
def vault(clock):
    with temporary_vault(clock=clock) as vault:
        yield vault


@pytest.fixture
def mia(vault):
    """The id of somebody with a PIN."""
    user_id = vault.users.create_user("mia", full_name="Mia Silva").id
    vault.pins.set_pin(user_id, PIN)
    return user_id


def fail(vault, user_id, times: int) -> None:
    for _ in range(times):
        with pytest.raises(AccessDenied):
            vault.pins.authenticate_user(user_id, WRONG)


# Profiles


def test_a_profile_is_made_changed_and_found(vault):
    made = vault.users.create_user("mia", full_name="Mia", user_type="parent", time_zone="Europe/Lisbon")
    assert vault.users.get_profile(made.id) == vault.users.find_by_name("mia") == made
    changed = vault.users.update_user(made.id, nickname="Mi", full_name=None)
    assert (changed.full_name, changed.nickname, changed.user_type) == (None, "Mi", "parent")
    assert vault.users.list_profiles(user_type="child") == []


def test_a_service_of_a_connection_alone_reads_and_corrects_profiles(vault, mia):
    service = UserService(vault.connection)
    assert service.update_user(mia, nickname="Mi").nickname == "Mi"
    for call in (lambda: service.create_user("otto"), lambda: service.deactivate(mia), lambda: service.erase(mia)):
        with pytest.raises(InvalidInput):
            call()


def test_a_name_is_there_once(vault, mia):
    with pytest.raises(InvalidInput):
        vault.users.create_user("mia")
    assert vault.users.get_profile(mia).full_name == "Mia Silva"


@pytest.mark.parametrize(
    "bad",
    [
        {"time_zone": "Mars/Olympus"},
        {"time_zone": "../etc/passwd"},
        {"user_type": None},
        {"name": "x"},
        {"nickname": 3},
    ],
)
def test_what_cannot_be_said_about_a_person_is_refused(vault, mia, bad):
    with pytest.raises(InvalidInput):
        vault.users.update_user(mia, **bad)


def test_nobody_is_not_found(vault):
    for call in (vault.users.get_profile, vault.users.update_user, vault.users.deactivate, vault.users.erase):
        for user_id in (NOBODY, "mia", ""):
            with pytest.raises(NotFound):
                call(user_id)


def test_a_deactivated_person_is_recorded_no_more_but_can_be_recalled_and_forgotten(vault):
    said = vault.memory.record("mia", "I like whales.", conversation="c")
    fact = vault.memory.remember("mia", "Mia likes the ocean")
    user_id = vault.users.find_by_name("mia").id
    vault.users.deactivate(user_id)
    vault.users.deactivate(user_id)
    for write in (
        lambda: vault.memory.record("mia", "more", conversation="c"),
        lambda: vault.memory.remember("mia", "more"),
        lambda: vault.facts.edit("mia", fact, text="Mia likes dolphins"),
        lambda: vault.facts.propose("mia", "Mia likes the sea", message=said, model="tiny"),
        lambda: vault.album.note("mia", said, "a note"),
        lambda: vault.album.visit("mia", said),
        lambda: vault.conversations.edit("mia", said, "I like dolphins."),
        lambda: vault.conversations.set_title("mia", "c", "Whales"),
        lambda: vault.conversations.move("mia", [said], "sea"),
        lambda: vault.tasks.add("remind", action="a", schedule="every 1h", user="mia"),
    ):
        with pytest.raises(InvalidInput):
            write()
    assert len(vault.memory.recall("mia", "whales")) == 1
    assert vault.memory.forget("mia", about="whales").verify()
    assert vault.users.list_profiles(active_only=True) == []
    vault.users.activate(user_id)
    vault.memory.record("mia", "again", conversation="c")


# Relationships


def test_relationships_are_noted_once_listed_and_taken_back(vault, mia):
    otto = vault.users.create_user("otto").id
    first = vault.users.add_relationship(mia, otto, "father")
    assert vault.users.add_relationship(mia, otto, "father") == first
    vault.users.add_relationship(mia, otto, "friend")
    assert [(r.related_name, r.relationship_type) for r in vault.users.get_user_relationships(mia)] == [
        ("otto", "father"),
        ("otto", "friend"),
    ]
    assert vault.users.get_user_relationships(otto) == []
    vault.users.remove_relationship(mia, otto, "father")
    with pytest.raises(NotFound):
        vault.users.remove_relationship(mia, otto, "father")
    with pytest.raises(InvalidInput):
        vault.users.add_relationship(mia, mia, "self")
    with pytest.raises(NotFound):
        vault.users.add_relationship(mia, NOBODY, "ghost")


# Erasing


def test_forgetting_everything_takes_what_others_are_to_a_person_and_leaves_the_pin(vault, mia):
    otto = vault.users.create_user("otto").id
    vault.users.add_relationship(mia, otto, "father")
    vault.users.add_relationship(otto, mia, "daughter")
    assert vault.memory.forget("mia", everything=True).removed == {"user_relationships": 1}
    assert vault.users.get_user_relationships(mia) == []
    assert len(vault.users.get_user_relationships(otto)) == 1
    assert vault.pins.authenticate_user(mia, PIN).full_name is None


def test_erasing_a_person_leaves_no_row_and_frees_the_name(vault, mia):
    otto = vault.users.create_user("otto").id
    vault.users.add_relationship(otto, mia, "daughter")
    vault.memory.record("mia", "I like whales.", conversation="c", source_id="s1")
    vault.memory.record("otto", "I like whales too.", conversation="c")
    vault.logs.insert_log(level="INFO", message="x", user_id=mia)
    vault.sessions.create_session(mia)
    erased = vault.erase_user("mia")
    assert erased.verify()
    assert erased.log_cleared
    assert erased.receipt.removed["messages"] == 1
    for table, column in rows_about_people(vault):
        found = vault.connection.fetch_all(f"SELECT * FROM {table} WHERE {column} = ?", (bytes.fromhex(mia),))
        assert found == [] or table in ("erasures", "audit_log"), table
    assert len(vault.memory.recall("otto", "whales")) == 1
    vault.memory.record("mia", "I am another Mia.", conversation="c", source_id="s1")
    assert vault.users.find_by_name("mia").id != mia
    assert len(vault.memory.recall("mia", "whales Mia")) == 1
    with pytest.raises(AccessDenied):
        vault.pins.authenticate_user(mia, PIN)


def rows_about_people(vault):
    tables = [name for (name,) in vault.connection.fetch_all("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    return [
        (table, row["name"])
        for table in tables
        for row in vault.connection.fetch_all(f"PRAGMA table_info({table})")
        if row["name"] in ("user_id", "related_user_id") or (table, row["name"]) == ("users", "id")
    ]


def test_a_profile_with_memories_is_not_erased_alone(vault):
    vault.memory.record("mia", "I like whales.", conversation="c")
    with pytest.raises(InvalidInput):
        vault.users.erase(vault.users.find_by_name("mia").id)
    assert vault.users.find_by_name("mia") is not None


def test_an_interrupted_erase_can_be_called_again(vault):
    vault.memory.record("mia", "I like whales.", conversation="c")
    vault.users.deactivate(vault.users.find_by_name("mia").id)
    vault.memory.forget("mia", everything=True)  # and here the machine went off
    assert vault.erase_user("mia").verify()
    with pytest.raises(NotFound):
        vault.erase_user("mia")


# PINs


def test_the_right_pin_lets_in_and_the_wrong_one_does_not(vault, mia, clock):
    fail(vault, mia, 1)
    assert vault.pins.authenticate_user(mia, PIN).name == "mia"
    state = vault.pins.get_user_authentication(mia)
    assert (state.failed_attempts, state.locked_until) == (0, None)
    assert state.last_login is not None
    assert [e.action for e in vault.audit_log.entries(user_id=mia)] == ["PIN set", "login failed", "login"]


def test_nobody_a_person_without_a_pin_and_a_deactivated_one_are_refused_alike(vault, mia):
    without = vault.users.create_user("otto").id
    vault.users.deactivate(mia)
    answers = set()
    for user_id, pin in ((NOBODY, PIN), ("no id", PIN), (without, PIN), (without, ""), (mia, PIN), (mia, WRONG)):
        with pytest.raises(AccessDenied) as caught:
            vault.pins.authenticate_user(user_id, pin)
        answers.add(str(caught.value))
    assert len(answers) == 1


@pytest.mark.parametrize(
    "pin", ["", "123", "1234", "4321", "0000", "short!", "seven77", "x" * 1025, "\ud800" * 8, None, 2580]
)
def test_a_pin_that_is_soon_guessed_is_refused_and_never_shown(vault, mia, pin):
    with pytest.raises(InvalidInput) as caught:
        vault.pins.set_pin(mia, pin, old_pin=PIN)
    assert pin in ("", "123", "1234", None) or str(pin) not in str(caught.value)
    vault.pins.authenticate_user(mia, PIN)


@pytest.mark.parametrize("pin", [None, 2580, "", "\ud800", "x" * 10**6, "\0"])
def test_an_attempt_that_cannot_be_a_pin_is_an_attempt_too(vault, mia, pin):
    for _ in range(4):
        with pytest.raises(AccessDenied):
            vault.pins.authenticate_user(mia, pin)
    with pytest.raises(LockedOut):
        vault.pins.authenticate_user(mia, pin)


def test_a_passphrase_is_the_same_however_it_is_typed(vault, mia):
    vault.pins.set_pin(mia, "Größe des Walfischs", old_pin=PIN)
    assert vault.pins.authenticate_user(mia, "Gro\u0308ße des Walfischs").name == "mia"


def test_changing_a_pin_takes_the_old_one_counts_wrong_ones_and_ends_sessions(vault, mia):
    token = vault.sessions.create_session(mia).token
    for old in (None, WRONG):
        with pytest.raises(AccessDenied):
            vault.pins.set_pin(mia, OTHER_PIN, old_pin=old)
    assert vault.pins.get_user_authentication(mia).failed_attempts == 2
    vault.sessions.verify_session(token)
    vault.pins.set_pin(mia, OTHER_PIN, old_pin=PIN)
    with pytest.raises(AccessDenied):
        vault.sessions.verify_session(token)
    with pytest.raises(AccessDenied):
        vault.pins.authenticate_user(mia, PIN)
    vault.pins.authenticate_user(mia, OTHER_PIN)


def test_no_pin_lies_in_the_table_or_in_a_file(vault, mia):
    vault.pins.set_pin(mia, "a rather long passphrase", old_pin=PIN)
    (row,) = vault.connection.fetch_all("SELECT * FROM user_authentication")
    assert not any("rather" in str(value) for value in row)
    assert len(row["verifier"]) == 32


@pytest.mark.parametrize(
    ("column", "value"), [("memory_kib", 2**40), ("memory_kib", 2**32), ("passes", 0), ("lanes", 2**24), ("passes", -1)]
)
def test_a_hostile_cost_in_the_row_is_refused_before_memory_is_taken(vault, mia, column, value):
    vault.connection.execute(f"UPDATE user_authentication SET {column} = ?", (value,))
    with pytest.raises(Tampered):
        vault.pins.authenticate_user(mia, PIN)


# Lockout, and the ways around it


def test_five_wrong_pins_lock_for_longer_and_longer_until_one_is_right(vault, mia, clock):
    for minutes in (15, 30, 60, 120, 240, 480, 960, 1440, 1440):
        fail(vault, mia, 4)
        with pytest.raises(LockedOut) as caught:
            vault.pins.authenticate_user(mia, WRONG)
        with pytest.raises(LockedOut):
            vault.pins.authenticate_user(mia, PIN)  # also the right one
        clock.move(timedelta(minutes=minutes) - timedelta(microseconds=1))
        with pytest.raises(LockedOut):
            vault.pins.authenticate_user(mia, PIN)
        clock.move(timedelta(microseconds=1))
        assert caught.value.until == vault.audit_log.entries(action=Action.LOCKED_OUT)[-1].at + timedelta(
            minutes=minutes
        )
    vault.pins.authenticate_user(mia, PIN)
    fail(vault, mia, 5)
    clock.move(timedelta(minutes=15))
    vault.pins.authenticate_user(mia, PIN)


def test_the_fifth_attempt_may_still_be_right(vault, mia):
    fail(vault, mia, 4)
    vault.pins.authenticate_user(mia, PIN)
    fail(vault, mia, 4)
    vault.pins.authenticate_user(mia, PIN)


def test_attempts_while_locked_neither_lengthen_it_nor_fill_the_record(vault, mia):
    fail(vault, mia, 5)
    before, entries = vault.pins.get_user_authentication(mia), vault.audit_log.head().count
    fail(vault, mia, 20)
    assert vault.pins.get_user_authentication(mia) == before
    assert vault.audit_log.head().count == entries


def test_the_owner_of_the_vault_may_unlock_or_take_the_pin_back(vault, mia):
    fail(vault, mia, 5)
    vault.pins.unlock_user(mia)
    vault.pins.authenticate_user(mia, PIN)
    vault.pins.reset_pin(mia, OTHER_PIN)
    vault.pins.authenticate_user(mia, OTHER_PIN)
    vault.pins.clear_pin(mia)
    assert not vault.pins.get_user_authentication(mia).has_pin
    for call in (vault.pins.clear_pin, vault.pins.unlock_user):
        with pytest.raises(NotFound):
            call(mia)
    actions = [entry.action for entry in vault.audit_log.entries(user_id=mia)]
    assert actions[-5:] == ["unlocked", "login", "PIN set", "login", "PIN cleared"]


def test_a_clock_set_back_does_not_unlock(vault, mia, clock):
    fail(vault, mia, 5)
    clock.move(timedelta(days=-400))
    with pytest.raises(LockedOut):
        vault.pins.authenticate_user(mia, PIN)


def test_a_restart_does_not_unlock_nor_forget_attempts(tmp_path):
    folder = tmp_path / "vault"
    with aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings()) as vault:
        user_id = vault.users.create_user("mia").id
        vault.pins.set_pin(user_id, PIN)
        fail(vault, user_id, 4)
    with aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings()) as vault:
        with pytest.raises(LockedOut):
            vault.pins.authenticate_user(user_id, WRONG)
    with aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings()) as vault:
        with pytest.raises(LockedOut):
            vault.pins.authenticate_user(user_id, PIN)


def test_an_attempt_inside_a_transaction_that_could_take_it_back_is_refused(vault, mia):
    with pytest.raises(StorageError), vault.connection.transaction():
        vault.pins.authenticate_user(mia, WRONG)


def test_an_attempt_that_dies_before_its_answer_has_been_counted(tmp_path):
    folder = tmp_path / "vault"
    with aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings()) as vault:
        user_id = vault.users.create_user("mia").id
        vault.pins.set_pin(user_id, PIN)
        for _ in range(5):
            with started(die_while_comparing, str(folder), user_id) as child:
                child.process.wait(60)
        with pytest.raises(LockedOut):
            vault.pins.authenticate_user(user_id, PIN)


def die_while_comparing(folder: str, user_id: str) -> None:
    """For a child: guess, and be killed before the guess is looked at."""
    import os

    from aico.data import pins

    pins.derive_verifier = lambda *_, **__: os.kill(os.getpid(), 9)
    aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings()).pins.authenticate_user(user_id, WRONG)


def guesses(folder: str, user_id: str) -> int:
    """For a child: guess from four threads at once; how many guesses were refused."""
    refused = []
    with aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings()) as vault:

        def guess() -> None:
            for _ in range(3):
                try:
                    vault.pins.authenticate_user(user_id, WRONG)
                except AccessDenied as error:
                    refused.append(error)

        threads = [threading.Thread(target=guess) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return len(refused)


def test_many_guesses_at_once_from_several_processes_are_five_guesses(tmp_path):
    folder = tmp_path / "vault"
    with aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings()) as vault:
        user_id = vault.users.create_user("mia").id
        vault.pins.set_pin(user_id, PIN)
        results = []
        callers = [
            threading.Thread(target=lambda: results.append(run(guesses, str(folder), user_id))) for _ in range(2)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert [done.value for done in results] == [12, 12]
        actions = [entry.action for entry in vault.audit_log.entries(user_id=user_id)]
        assert (actions.count("login failed"), actions.count("locked out")) == (4, 1)
        with pytest.raises(LockedOut):
            vault.pins.authenticate_user(user_id, PIN)


# A random history against plain dictionaries

NAMES = st.sampled_from(["mia", "otto"])
PINS = st.sampled_from([PIN, OTHER_PIN, "867530"])


class PeopleHistory(RuleBasedStateMachine):
    """Names, PINs, attempts and sessions of two people, never mixed up."""

    @initialize()
    def begin(self):
        self.clock = FixedClock()
        self._opened = temporary_vault(clock=self.clock)
        self.vault = self._opened.__enter__()
        self.people: dict[str, dict] = {}

    @rule(name=NAMES)
    def create(self, name):
        if name in self.people:
            with pytest.raises(InvalidInput):
                self.vault.users.create_user(name)
            return
        profile = self.vault.users.create_user(name)
        self.people[name] = {
            "id": profile.id,
            "active": True,
            "pin": None,
            "wrong": 0,
            "locks": 0,
            "until": None,
            "tokens": {},
        }

    @rule(name=NAMES, pin=PINS)
    def set_pin(self, name, pin):
        if (person := self.people.get(name)) and person["pin"] is None:
            self.vault.pins.set_pin(person["id"], pin)
            person.update(pin=pin, wrong=0, locks=0, until=None, tokens={})

    @rule(name=NAMES)
    def clear_pin(self, name):
        if (person := self.people.get(name)) and person["pin"] is not None:
            self.vault.pins.clear_pin(person["id"])
            person.update(pin=None, tokens={})

    @rule(name=NAMES, pin=PINS)
    def try_pin(self, name, pin):
        if not (person := self.people.get(name)):
            return
        now = self.clock.now_us()
        locked = person["pin"] is not None and person["until"] is not None and now < person["until"]
        right = person["pin"] == pin and person["active"] and not locked
        if right:
            assert self.vault.pins.authenticate_user(person["id"], pin).name == name
            person.update(wrong=0, locks=0, until=None)
            return
        with pytest.raises(AccessDenied) as caught:
            self.vault.pins.authenticate_user(person["id"], pin)
        if person["pin"] is not None and not locked:
            person["wrong"] += 1
            if person["wrong"] == 5:
                minutes = min(15 << person["locks"], 1440)
                person.update(wrong=0, locks=person["locks"] + 1, until=now + minutes * 60_000_000)
                locked = person["pin"] != pin
        assert (caught.type is LockedOut) == locked

    @rule(name=NAMES, minutes=st.sampled_from([10, 200]))
    def begin_session(self, name, minutes):
        if person := self.people.get(name):
            if not person["active"]:
                with pytest.raises(AccessDenied):
                    self.vault.sessions.create_session(person["id"])
                return
            token = self.vault.sessions.create_session(person["id"], ttl=timedelta(minutes=minutes)).token
            person["tokens"][token] = self.clock.now_us() + minutes * 60_000_000

    @rule(name=NAMES)
    def refresh_a_session(self, name):
        if person := self.people.get(name):
            for token, end in list(person["tokens"].items())[:1]:
                if self.clock.now_us() < end:
                    fresh = self.vault.sessions.refresh_session(token)
                    person["tokens"][fresh.token] = self.clock.now_us() + 3600 * 1_000_000
                del person["tokens"][token]

    @rule(name=NAMES)
    def log_out(self, name):
        if person := self.people.get(name):
            for token in list(person["tokens"])[-1:]:
                self.vault.sessions.revoke_token(token)
                del person["tokens"][token]

    @rule(name=NAMES, active=st.booleans())
    def let_go_or_come_back(self, name, active):
        if person := self.people.get(name):
            (self.vault.users.activate if active else self.vault.users.deactivate)(person["id"])
            if person["active"] != active:
                person.update(active=active, tokens={})

    @rule(name=NAMES)
    def erase(self, name):
        if name in self.people:
            assert self.vault.erase_user(name).verify()
            del self.people[name]

    @rule(minutes=st.sampled_from([1, 15, 45, 1440]))
    def time_goes_on(self, minutes):
        self.clock.move(timedelta(minutes=minutes))

    @invariant()
    def everyone_has_what_is_theirs(self):
        assert {profile.name for profile in self.vault.users.list_profiles()} == set(self.people)
        now = self.clock.now_us()
        for person in self.people.values():
            live = {token for token, end in person["tokens"].items() if now < end}
            assert len(self.vault.sessions.get_user_sessions(person["id"])) == len(live)
            for token in person["tokens"]:
                if token in live:
                    assert self.vault.sessions.verify_session(token).user_id == person["id"]
                else:
                    with pytest.raises(AccessDenied):
                        self.vault.sessions.verify_session(token)

    def teardown(self):
        assert self.vault.audit_log.verify().intact
        self._opened.__exit__(None, None, None)


TestPeopleHistory = PeopleHistory.TestCase
TestPeopleHistory.settings = settings(max_examples=12, stateful_step_count=30, deadline=None)
