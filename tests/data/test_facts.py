"""Facts: corrected with their history, marked, reviewed, found by filters, and forgotten with what they came from."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from aico.data.facts import Proposed
from aico.data.libsql.registry import RegisteredSchema, SchemaRegistry
from aico.data.schemas.core import CORE_SCHEMA
from aico.errors import InvalidInput, NotFound
from aico.testing import FixedClock, temporary_vault
from tests.data.libsql.cases import sealed

NOON = datetime(2026, 5, 8, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def clock():
    return FixedClock(NOON)


@pytest.fixture
def vault(clock):
    with temporary_vault(clock=clock) as vault:
        yield vault


def texts(facts):
    return [fact.text for fact in facts]


def propose(vault, text="Nell plays the viola", *, said="I practised the viola.", user="nell", source="m1", **more):
    message = vault.memory.record(user, said, conversation="c", source_id=source)
    return vault.facts.propose(user, text, message=message, model="tiny", **more), message


# Correcting


def test_a_corrected_fact_takes_the_place_the_source_and_the_marks_of_the_old_one(vault, clock):
    message = vault.memory.record("nell", "I live in Lubeck.", conversation="c")
    old = vault.memory.remember("nell", "Nell lives in Lubeck", category="home", type="identity", source=message)
    vault.facts.favourite("nell", old)
    vault.facts.note("nell", old, "since school")
    vault.facts.tone("nell", old, "peaceful")
    vault.facts.tag("nell", old, "north", "home")
    vault.facts.visit("nell", old)
    clock.move(DAY)
    new = vault.facts.edit("nell", old, text="Nell lives in Lübeck")
    [fact] = vault.facts.list("nell")
    assert (fact.id, fact.text, fact.category, fact.type, fact.supersedes) == (
        new,
        "Nell lives in Lübeck",
        "home",
        "identity",
        old,
    )
    assert fact.sources == (message,)
    marks = fact.marks
    assert (marks.favourite, marks.note, marks.tone, marks.tags) == (
        True,
        "since school",
        "peaceful",
        ("home", "north"),
    )
    assert (marks.visits, marks.last_visit_at) == (1, NOON)
    history = vault.facts.history("nell", old)
    assert texts(history.facts) == ["Nell lives in Lubeck", "Nell lives in Lübeck"]
    assert [(change.fact, change.change) for change in history.changes] == [
        (old, "remembered"),
        (new, "edited"),
        (old, "superseded"),
    ]
    assert vault.facts.history("nell", new) == history
    assert vault.facts.get("nell", old).valid_until is None, "it was corrected, it did not end"


def test_an_edit_that_changes_nothing_writes_nothing(vault):
    fact = vault.memory.remember("nell", "Nell plays the viola", category="music")
    before = vault.connection.fetch_one("SELECT max(number) FROM change_feed")
    assert vault.facts.edit("nell", fact, text="Nell plays the viola", category="music") == fact
    assert vault.connection.fetch_one("SELECT max(number) FROM change_feed") == before


def test_an_edit_takes_away_what_may_be_missing_and_refuses_what_may_not(vault):
    fact = vault.memory.remember("nell", "Nell plays the viola", category="music")
    fact = vault.facts.edit("nell", fact, category=None, valid_from=NOON)
    assert (vault.facts.get("nell", fact).category, vault.facts.get("nell", fact).valid_from) == (None, NOON)
    for wrong in ({"text": ""}, {"text": None}, {"confidence": 2}, {"confidence": None}, {"colour": "red"}):
        with pytest.raises(InvalidInput):
            vault.facts.edit("nell", fact, **wrong)
    assert texts(vault.facts.list("nell")) == ["Nell plays the viola"]


def test_what_is_no_moment_is_refused_as_one_and_everything_stays_readable(vault):
    fact = vault.memory.remember("nell", "Nell plays the viola", valid_from=NOON)
    for wrong in ("2024-05-01", 2**62, 5, True, NOON.replace(tzinfo=None)):
        for name in ("valid_from", "valid_until"):
            with pytest.raises(InvalidInput):
                vault.facts.edit("nell", fact, **{name: wrong})
    for wrong in ({"valid_until": NOON}, {"valid_until": NOON - DAY}):
        with pytest.raises(InvalidInput, match="before it began"):
            vault.facts.edit("nell", fact, **wrong)
    assert texts(vault.facts.list("nell")) == ["Nell plays the viola"]
    assert vault.memory.forget("nell", everything=True).verify()


def test_a_category_is_one_however_its_letters_are_put_together(vault):
    composed, apart = "Café", "Cafe\u0301"
    vault.memory.remember("nell", "Nell drinks her coffee black", category=apart, type=apart)
    for spelt in (composed, apart):
        assert len(vault.facts.list("nell", category=spelt, type=spelt)) == 1
    assert [one.name for one in vault.facts.categories("nell")] == [composed]


def test_a_wrong_fact_is_believed_no_longer_and_may_be_restored(vault, clock):
    fact = vault.memory.remember("nell", "Nell waters the tomatoes")
    clock.move(DAY)
    vault.facts.retract("nell", fact)
    assert vault.facts.list("nell") == []
    assert vault.memory.recall("nell", "tomatoes") == []
    assert texts(vault.facts.list("nell", closed=True)) == ["Nell waters the tomatoes"]
    with pytest.raises(InvalidInput, match="retracted"):
        vault.facts.retract("nell", fact)
    clock.move(DAY)
    again = vault.facts.restore("nell", fact)
    assert [fact.id for fact in vault.facts.list("nell")] == [again]
    with pytest.raises(InvalidInput, match="took its place"):
        vault.facts.restore("nell", fact)
    with pytest.raises(InvalidInput, match="not retracted"):
        vault.facts.restore("nell", again)
    believed = [texts(vault.facts.as_of("nell", NOON + DAY * days)) for days in range(3)]
    assert believed == [["Nell waters the tomatoes"], [], ["Nell waters the tomatoes"]]


def test_a_fact_that_ended_keeps_until_when_it_was_true(vault, clock):
    fact = vault.memory.remember("nell", "Nell works at the harbour", valid_from=NOON - 10 * DAY)
    clock.move(DAY)
    with pytest.raises(InvalidInput, match="before it began"):
        vault.facts.retract("nell", fact, until=NOON - 11 * DAY)
    vault.facts.retract("nell", fact, until=NOON - DAY)
    assert vault.facts.get("nell", fact).valid_until == NOON - DAY
    assert vault.facts.history("nell", fact).changes[-1].change == "ended"


# Reviewing


def test_what_a_model_found_is_not_believed_before_it_is_accepted(vault, clock):
    assert propose(vault, category="music", type="skill", confidence=0.6)[0] is Proposed.WAITING
    [waiting] = vault.facts.proposed("nell")
    assert (waiting.status, waiting.trust, waiting.model, waiting.confidence) == ("proposed", "extracted", "tiny", 0.6)
    assert vault.facts.list("nell") == vault.facts.as_of("nell", NOON + DAY) == []
    assert vault.memory.recall("nell", "viola", kinds=("fact",)) == []
    assert vault.memory.recall("nell", "viola", kinds=("fact",), as_of=NOON + DAY) == []
    assert "plays the viola" not in vault.memory.context("nell", "viola").as_text()
    clock.move(DAY)
    vault.facts.accept("nell", waiting.id)
    vault.facts.accept("nell", waiting.id)
    [fact] = vault.facts.list("nell")
    assert (fact.trust, fact.recorded_at, fact.proposed_at) == ("confirmed", NOON + DAY, NOON)
    assert [hit.id for hit in vault.memory.recall("nell", "viola", kinds=("fact",))] == [waiting.id]
    assert vault.facts.as_of("nell", NOON) == [], "nobody believed it then"
    assert [change.change for change in vault.facts.history("nell", fact.id).changes] == ["proposed", "accepted"]
    with pytest.raises(InvalidInput, match="believed already"):
        vault.facts.reject("nell", fact.id)


def test_a_rejected_fact_is_never_recalled_and_never_proposed_again(vault):
    propose(vault)
    [waiting] = vault.facts.proposed("nell")
    vault.facts.reject("nell", waiting.id)
    assert propose(vault, source="m2")[0] is Proposed.KNOWN
    assert vault.facts.proposed("nell") == vault.facts.list("nell") == []
    assert vault.memory.recall("nell", "viola", kinds=("fact",)) == []
    assert [fact.id for fact in vault.facts.list("nell", status="rejected")] == [waiting.id]
    vault.facts.accept("nell", waiting.id)
    assert texts(vault.facts.list("nell")) == ["Nell plays the viola"], "a person may think again"


def test_a_fact_whose_status_is_taken_back_from_outside_leaves_the_index(vault):
    propose(vault)
    [waiting] = vault.facts.proposed("nell")
    vault.facts.accept("nell", waiting.id)
    assert vault.memory.recall("nell", "viola", kinds=("fact",))
    vault.connection.execute("UPDATE facts SET status = 'rejected'")  # as another device may
    assert vault.memory.recall("nell", "viola", kinds=("fact",)) == []


def test_a_proposal_is_accepted_in_the_persons_own_words(vault):
    _, message = propose(vault)
    [waiting] = vault.facts.proposed("nell")
    with pytest.raises(InvalidInput):
        vault.facts.edit_and_accept("nell", waiting.id, text=" ")
    assert texts(vault.facts.proposed("nell")) == ["Nell plays the viola"], "nothing was decided"
    new = vault.facts.edit_and_accept("nell", waiting.id, text="Nell plays viola in a quartet")
    [fact] = vault.facts.list("nell")
    assert (fact.id, fact.trust, fact.model, fact.sources) == (new, "user", "tiny", (message,))
    assert vault.facts.proposed("nell") == []
    assert [hit.id for hit in vault.memory.recall("nell", "viola", kinds=("fact",))] == [new]
    assert propose(vault)[0] is Proposed.KNOWN


def test_the_same_finding_twice_is_one_fact_with_two_sources(vault):
    _, first = propose(vault)
    outcome, second = propose(vault, "nell plays  the VIOLA.", source="m2")
    assert outcome is Proposed.KNOWN
    [waiting] = vault.facts.proposed("nell")
    assert (waiting.text, waiting.sources) == ("Nell plays the viola", (first, second))


def test_what_the_person_said_already_is_not_proposed(vault):
    fact = vault.memory.remember("nell", "Nell plays the viola")
    assert propose(vault)[0] is Proposed.KNOWN
    assert vault.facts.proposed("nell") == []
    assert vault.facts.get("nell", fact).sources == ()


def test_a_proposal_cannot_be_superseded_or_edited_before_it_is_accepted(vault):
    propose(vault)
    [waiting] = vault.facts.proposed("nell")
    for attempt in (
        lambda: vault.facts.edit("nell", waiting.id, text="x"),
        lambda: vault.facts.retract("nell", waiting.id),
        lambda: vault.memory.remember("nell", "x", supersedes=waiting.id),
    ):
        with pytest.raises(InvalidInput, match="not accepted"):
            attempt()


# Forgetting


def test_a_forgotten_fact_stays_forgotten_when_it_is_found_again(vault):
    fact = vault.memory.remember("nell", "Nell plays the viola")
    assert vault.memory.forget("nell", id=fact).verify()
    assert propose(vault)[0] is Proposed.FORGOTTEN
    assert vault.facts.count("nell", status="proposed") == 0


def test_facts_of_the_first_version_are_known_and_stay_forgotten_too(vault):
    known, gone = (vault.memory.remember("nell", text) for text in ("Nell bakes", "Nell plays the viola"))
    vault.connection.execute("UPDATE facts SET content_key = NULL")  # as the migration leaves them
    assert propose(vault, "nell bakes")[0] is Proposed.KNOWN
    vault.connection.execute("UPDATE facts SET content_key = NULL")
    vault.memory.forget("nell", id=gone)
    assert propose(vault)[0] is Proposed.FORGOTTEN
    assert [fact.id for fact in vault.facts.list("nell")] == [known]


def test_a_proposal_about_a_subject_is_forgotten_with_it(vault):
    propose(vault)
    receipt = vault.memory.forget("nell", about="viola")
    assert (len(receipt.messages), len(receipt.facts)) == (1, 1)
    assert receipt.verify()
    assert propose(vault, said="I like strings.", source="m9")[0] is Proposed.FORGOTTEN


def test_a_finding_from_a_message_that_was_forgotten_meanwhile_is_not_kept(vault):
    _, message = propose(vault, "Nell is tired")
    vault.memory.forget("nell", id=message)
    assert vault.facts.propose("nell", "Nell likes naps", message=message, model="tiny") is Proposed.FORGOTTEN


def test_a_fact_goes_with_the_last_message_that_tells_it(vault):
    _, first = propose(vault)
    _, second = propose(vault, source="m2")
    preview = vault.memory.forget("nell", id=first, preview=True)
    assert preview.facts == ()
    vault.memory.forget("nell", id=first)
    [waiting] = vault.facts.proposed("nell")
    assert waiting.sources == (second,)
    preview = vault.memory.forget("nell", conversation="c", preview=True)
    assert preview.facts == (waiting.id,)
    assert vault.memory.forget("nell", conversation="c").verify()
    assert vault.facts.proposed("nell") == []


def test_what_the_person_said_is_forgotten_with_the_sources_the_person_gave(vault):
    first = vault.memory.record("nell", "I play the viola.", conversation="c")
    tied = vault.memory.remember("nell", "Nell plays the viola", source=first)
    free = vault.memory.remember("nell", "Nell bakes")
    _, second = propose(vault)
    propose(vault, "Nell bakes")
    assert vault.memory.forget("nell", id=second, preview=True).facts == ()
    assert vault.memory.forget("nell", id=first).facts == (tied,)
    assert vault.memory.forget("nell", conversation="c").facts == ()
    assert [fact.id for fact in vault.facts.list("nell")] == [free]


def test_marks_and_sources_go_with_what_they_belong_to(vault):
    message = vault.memory.record("nell", "I play the viola.", conversation="c")
    fact = vault.memory.remember("nell", "Nell plays the viola", source=message)
    for owner in (message, fact):
        vault.album.note("nell", owner, "dear to me")
        vault.album.tag("nell", owner, "music")
        vault.album.visit("nell", owner)
    receipt = vault.memory.forget("nell", conversation="c")
    assert receipt.verify()
    for table in ("memory_marks", "memory_tags", "memory_visits", "fact_sources", "facts", "fact_history"):
        assert vault.connection.fetch_all(f"SELECT * FROM {table}") == [], table


def test_what_was_drawn_from_a_conversation_can_be_listed_before_it_goes(vault):
    _, message = propose(vault)
    vault.facts.accept("nell", vault.facts.proposed("nell")[0].id)
    vault.memory.remember("nell", "Nell bakes")
    assert texts(vault.facts.list("nell", conversation="c")) == ["Nell plays the viola"]
    assert texts(vault.facts.list("nell", message=message)) == ["Nell plays the viola"]
    assert vault.facts.list("nell", conversation="elsewhere") == []


# Finding


def test_filters_narrow_each_other_down_and_pages_follow_each_other(vault, clock):
    ids = []
    for number in range(6):
        clock.move(DAY)
        ids.append(vault.memory.remember("nell", f"fact {number}", category="even" if number % 2 == 0 else "odd"))
    vault.facts.favourite("nell", ids[0])
    vault.facts.favourite("nell", ids[1])
    vault.facts.favourite("nell", ids[1], on=False)
    vault.facts.tag("nell", ids[0], "a", "b")
    vault.facts.tag("nell", ids[2], "a")
    vault.facts.untag("nell", ids[2], "a", "unknown")
    vault.facts.note("nell", ids[4], "x")
    listed = {
        "category": texts(vault.facts.list("nell", category="even")),
        "favourite": texts(vault.facts.list("nell", favourite=True)),
        "not favourite": texts(vault.facts.list("nell", favourite=False, category="even")),
        "tag": texts(vault.facts.list("nell", tag="a")),
        "noted": texts(vault.facts.list("nell", noted=True)),
        "not noted": texts(vault.facts.list("nell", noted=False, category="even")),
        "span": texts(vault.facts.list("nell", since=NOON + 2 * DAY, until=NOON + 4 * DAY)),
        "page": texts(vault.facts.list("nell", limit=2, offset=1)),
        "trust": texts(vault.facts.list("nell", trust="confirmed")),
    }
    assert listed == {
        "category": ["fact 4", "fact 2", "fact 0"],
        "favourite": ["fact 0"],
        "not favourite": ["fact 4", "fact 2"],
        "tag": ["fact 0"],
        "noted": ["fact 4"],
        "not noted": ["fact 2", "fact 0"],
        "span": ["fact 2", "fact 1"],
        "page": ["fact 4", "fact 3"],
        "trust": [],
    }
    assert [(one.name, one.count) for one in vault.facts.categories("nell")] == [("even", 3), ("odd", 3)]
    assert [(one.name, one.count) for one in vault.album.tags("nell")] == [("a", 1), ("b", 1)]
    for wrong in ({"limit": 0}, {"offset": -1}, {"status": "maybe"}, {"trust": "blind"}):
        with pytest.raises(InvalidInput):
            vault.facts.list("nell", **wrong)


def test_every_read_of_facts_and_album_uses_an_index(vault, monkeypatch):
    _, message = propose(vault)
    fact = vault.memory.remember("nell", "Nell bakes", category="food")
    asked = {}
    for name in ("fetch_all", "fetch_one"):
        original = getattr(vault.connection, name)

        def recording(sql, parameters=(), original=original):
            asked[sql] = parameters
            return original(sql, parameters)

        monkeypatch.setattr(vault.connection, name, recording)
    facts, album = vault.facts, vault.album
    for filters in (
        {},
        {"category": "food"},
        {"type": "event"},
        {"trust": "user"},
        {"favourite": True},
        {"favourite": False},
        {"noted": True},
        {"noted": False},
        {"tag": "a"},
        {"message": message},
        {"conversation": "c"},
        {"since": NOON},
        {"until": NOON},
        {"closed": True},
        {"status": "rejected"},
    ):
        facts.list("nell", **filters)
    for filters in (
        {},
        {"conversation": "c"},
        {"favourite": True},
        {"favourite": False},
        {"noted": True},
        {"tag": "a"},
    ):
        album.messages("nell", **filters)
    facts.proposed("nell"), facts.count("nell"), facts.categories("nell"), facts.types("nell")
    facts.get("nell", fact), facts.history("nell", fact), facts.as_of("nell", NOON)
    album.timeline("nell"), album.tags("nell"), album.get("nell", message)
    monkeypatch.undo()
    assert len(asked) > 30
    for sql, parameters in asked.items():
        plan = [row["detail"] for row in vault.connection.fetch_all(f"EXPLAIN QUERY PLAN {sql}", parameters)]
        scans = [step for step in plan if re.match(r"SCAN (?!b$|l$|line$|before$|CONSTANT)", step)]
        assert not scans, (sql, plan)


def test_reads_stay_flat_as_facts_grow(vault):
    def read_steps():
        steps = 0

        def count():
            nonlocal steps
            steps += 1
            return False

        connection = vault.connection._writing.connection
        connection.set_progress_handler(count, 100)
        with vault.connection.transaction():  # so that the reads run on this connection
            vault.facts.list("nell", limit=20)
            vault.facts.list("nell", category="rare", limit=20)
            vault.facts.list("nell", tag="rare", limit=20)
            vault.facts.proposed("nell", limit=20)
            vault.facts.as_of("nell", NOON, limit=20)
            vault.facts.history("nell", line)
        connection.set_progress_handler(None)
        return steps

    def grow(count):
        with vault.connection.transaction():
            for number in range(count):
                fact = vault.memory.remember("nell", f"fact {number}", category="common")
            vault.facts.tag("nell", fact, "rare")
            vault.facts.edit("nell", fact, category="rare")

    line = vault.facts.edit("nell", vault.memory.remember("nell", "first"), text="second")
    grow(100)
    few = read_steps()
    grow(3000)
    assert read_steps() < 2 * few + 20


# Isolation


def test_nobody_sees_or_changes_the_facts_of_another(vault):
    propose(vault)
    waiting = vault.facts.proposed("nell")[0].id
    fact = vault.memory.remember("nell", "Nell bakes")
    message = vault.memory.record("otto", "hello", conversation="c")
    facts, album = vault.facts, vault.album
    for call in (
        facts.get,
        facts.history,
        facts.edit,
        facts.retract,
        facts.restore,
        facts.accept,
        facts.reject,
        facts.edit_and_accept,
        facts.favourite,
        facts.visit,
        album.visit,
        album.favourite,
    ):
        for id_ in (fact, waiting):
            for user in ("otto", "a stranger"):
                with pytest.raises(NotFound):
                    call(user, id_)
    with pytest.raises(NotFound):
        album.get("nell", message)
    for user in ("otto", "a stranger"):
        assert facts.list(user) == facts.proposed(user) == facts.as_of(user, NOON + DAY) == []
        assert facts.categories(user) == facts.types(user) == album.tags(user) == []
        assert facts.count(user) == 0
    assert vault.users.find("a stranger") is None
    assert propose(vault, user="otto", source="o1")[0] is Proposed.WAITING, "another person's fact is another fact"


# A random history against a plain model


class Beliefs(RuleBasedStateMachine):
    """What was believed at every instant there was."""

    facts = Bundle("facts")

    def __init__(self):
        super().__init__()
        self.clock = FixedClock(NOON)
        self._opened = temporary_vault(clock=self.clock)
        self.vault = self._opened.__enter__()
        self.now = NOON
        self.believed: dict[str, set[tuple[str, str]]] = {"nell": set(), "otto": set()}  # (id, text) now
        self.status: dict[str, dict[str, str]] = {"nell": {}, "otto": {}}
        self.text: dict[str, str] = {}
        self.instants: list[tuple[datetime, dict[str, frozenset[tuple[str, str]]]]] = []
        self.number = 0

    def _tick(self):
        self.instants.append((self.now, {user: frozenset(held) for user, held in self.believed.items()}))
        self.clock.move(timedelta(minutes=1))
        self.now += timedelta(minutes=1)

    def _is_believed(self, user, id_):
        return any(held == id_ for held, _ in self.believed[user])

    def _drop(self, user, id_):
        self.believed[user] = {one for one in self.believed[user] if one[0] != id_}

    @rule(target=facts, user=st.sampled_from(["nell", "otto"]), word=st.sampled_from(["viola", "bread", "snow"]))
    def remember(self, user, word):
        id_ = self.vault.memory.remember(user, word)
        self.believed[user].add((id_, word))
        self.status[user][id_], self.text[id_] = "accepted", word
        self._tick()
        return user, id_

    @rule(target=facts, user=st.sampled_from(["nell", "otto"]), text=st.sampled_from(["fork", "whale", "Whale."]))
    def propose(self, user, text):
        self.number += 1
        message = self.vault.memory.record(user, "…", conversation="c", source_id=str(self.number))
        outcome = self.vault.facts.propose(user, text, message=message, model="tiny")
        same = [
            id_ for id_ in self.status[user] if self.text[id_].casefold().rstrip(".") == text.casefold().rstrip(".")
        ]
        assert outcome is (Proposed.KNOWN if same else Proposed.WAITING)
        if not same:
            [id_] = {fact.id for fact in self.vault.facts.proposed(user)} - self.status[user].keys()
            self.status[user][id_], self.text[id_] = "proposed", text
        self._tick()
        return user, (same or [id_])[0]

    @rule(fact=facts)
    def accept(self, fact):
        user, id_ = fact
        self.vault.facts.accept(user, id_)
        if self.status[user][id_] != "accepted":
            self.status[user][id_] = "accepted"
            self.believed[user].add((id_, self.text[id_]))
        self._tick()

    @rule(fact=facts)
    def reject(self, fact):
        user, id_ = fact
        if self.status[user][id_] == "accepted":
            with pytest.raises(InvalidInput):
                self.vault.facts.reject(user, id_)
        else:
            self.vault.facts.reject(user, id_)
            self.status[user][id_] = "rejected"
        self._tick()

    @rule(target=facts, fact=facts, text=st.sampled_from(["viola", "piano", "fork"]))
    def edit(self, fact, text):
        user, id_ = fact
        if not self._is_believed(user, id_):
            with pytest.raises(InvalidInput):
                self.vault.facts.edit(user, id_, text=text)
            self._tick()
            return fact
        new = self.vault.facts.edit(user, id_, text=text)
        self._drop(user, id_)
        self.believed[user].add((new, text))
        self.status[user][new], self.text[new] = "accepted", text
        self._tick()
        return user, new

    @rule(fact=facts)
    def retract(self, fact):
        user, id_ = fact
        if self._is_believed(user, id_):
            self.vault.facts.retract(user, id_)
            self._drop(user, id_)
        else:
            with pytest.raises(InvalidInput):
                self.vault.facts.retract(user, id_)
        self._tick()

    @invariant()
    def what_was_believed_at_every_instant_is_still_known(self):
        for at, believed in self.instants:
            for user, held in believed.items():
                assert {(fact.id, fact.text) for fact in self.vault.facts.as_of(user, at)} == held

    @invariant()
    def listing_review_and_recall_agree_with_the_model(self):
        for user, held in self.believed.items():
            now = {id_ for id_, _ in held}
            assert {fact.id for fact in self.vault.facts.list(user, limit=999)} == now
            waiting = {fact.id for fact in self.vault.facts.proposed(user, limit=999)}
            assert waiting == {id_ for id_, status in self.status[user].items() if status == "proposed"}
            words = "viola bread snow fork whale piano"
            found = {hit.id for hit in self.vault.memory.recall(user, words, kinds=("fact",), limit=999)}
            assert found == now

    def teardown(self):
        self._opened.__exit__(None, None, None)


TestBeliefs = Beliefs.TestCase
TestBeliefs.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)


# The schema


def test_facts_of_the_first_version_come_along_and_go_back(tmp_path, monkeypatch):
    first = RegisteredSchema("core", "core", {1: CORE_SCHEMA[1]}, 1)
    whole = RegisteredSchema("core", "core", {1: CORE_SCHEMA[1], 2: CORE_SCHEMA[2]}, 1)
    with sealed(tmp_path / "aico.db") as connection:
        monkeypatch.setitem(SchemaRegistry._schemas, "core", first)
        SchemaRegistry.apply_core_schemas(connection)
        connection.execute(
            "INSERT INTO facts (id, user_id, text, confidence, trust, source_message_id, recorded_at) "
            "VALUES (?, ?, 'Nell bakes', 1.0, 'user', ?, 7)",
            (b"f" * 16, b"u" * 16, b"m" * 16),
        )
        before = connection.fetch_all("SELECT * FROM facts")
        monkeypatch.setitem(SchemaRegistry._schemas, "core", whole)
        SchemaRegistry.apply_core_schemas(connection)
        [(status,)] = connection.fetch_all("SELECT status FROM facts")
        assert status == "accepted"
        assert connection.fetch_all("SELECT fact_id, message_id FROM fact_sources") == [(b"f" * 16, b"m" * 16)]
        connection.execute(
            "INSERT INTO facts (id, user_id, text, confidence, trust, status, recorded_at) "
            "VALUES (?, ?, 'a guess', 0.5, 'extracted', 'proposed', 8)",
            (b"g" * 16, b"u" * 16),
        )
        with connection.transaction():
            for statement in CORE_SCHEMA[2].rollback_statements:
                connection.execute(statement)
            connection.execute("DELETE FROM schema_history WHERE version = 2")
        assert connection.fetch_all("SELECT * FROM facts") == before
        SchemaRegistry.apply_core_schemas(connection)
        connection.verify()
