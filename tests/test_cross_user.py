"""Nobody ever sees another user's memories: a random history of calls against a plain dictionary for each user."""

import inspect
import io
from contextlib import suppress
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aico.errors import AicoError, NotFound
from aico.testing import FixedClock, HashEmbedder, temporary_vault

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


class Repositories(RuleBasedStateMachine):
    """Two people of one vault: whatever either keeps anywhere, every read of the other's is as if it were not there."""

    PEOPLE = ("nell", "otto")
    WHO = st.sampled_from(PEOPLE)

    def __init__(self):
        super().__init__()
        self._opened = temporary_vault()
        self.vault = self._opened.__enter__()
        self.ids = {name: self.vault.users.create_user(name).id for name in self.PEOPLE}
        self.messages: dict[str, list[str]] = {name: [] for name in self.PEOPLE}
        self.facts: dict[str, list[str]] = {name: [] for name in self.PEOPLE}
        self.events: dict[str, list[str]] = {name: [] for name in self.PEOPLE}
        self.logins: dict[str, list[str]] = {name: [] for name in self.PEOPLE}
        self.live: dict[str, list[str]] = {name: [] for name in self.PEOPLE}
        self.lines: dict[str, list[int]] = {name: [] for name in self.PEOPLE}
        self.values: dict[str, dict[str, str]] = {name: {} for name in self.PEOPLE}

    @rule(user=WHO, text=WORDS, tagged=st.booleans())
    def record_a_message(self, user, text, tagged):
        message = self.vault.memory.record(user, text, conversation="c")
        self.messages[user].append(message)
        if tagged:
            self.vault.album.tag(user, message, f"of {user}")

    @rule(user=WHO, text=WORDS)
    def remember_a_fact(self, user, text):
        fact = self.vault.memory.remember(user, text, category=f"of {user}")
        if fact not in self.facts[user]:
            self.facts[user].append(fact)

    @rule(user=WHO, is_sensitive=st.booleans())
    def give_feedback(self, user, is_sensitive):
        self.events[user].append(self.vault.feedback.record(user, "signal", f"of {user}", is_sensitive=is_sensitive))

    @rule(user=WHO, key=st.sampled_from(["tone", "size"]))
    def set_a_preference(self, user, key):
        self.vault.preferences.set(user, key, user)
        self.values[user][key] = user

    @rule(user=WHO)
    def log_in(self, user):
        self.logins[user].append(self.vault.sessions.create_session(self.ids[user]).session.id)

    @rule(user=WHO)
    def begin_a_live_conversation(self, user):
        if self.messages[user] and not self.live[user]:
            self.live[user].append(self.vault.live_sessions.start(user, "c"))

    @rule(user=WHO)
    def write_to_the_log(self, user):
        line = self.vault.logs.insert_log(level="INFO", message="something", user_id=self.ids[user])
        self.lines[user].append(line)

    @rule(user=WHO)
    def reach_for_what_belongs_to_the_other(self, user):
        [other] = set(self.PEOPLE) - {user}
        for id_ in self.messages[other][-1:]:
            reads = (self.vault.album.get, lambda *a: self.vault.conversations.edit(*a, "x"), self.vault.album.tag)
            for read in reads:
                with pytest.raises(NotFound):
                    read(user, id_, *(["mine"] if read is self.vault.album.tag else []))
            assert self.vault.album.list_of(user, [id_]) == []
            with pytest.raises(NotFound):
                self.vault.feedback.record(user, "signal", "x", message=id_)
        for id_ in self.facts[other][-1:]:
            for read in (self.vault.facts.get, self.vault.facts.history, self.vault.facts.retract):
                with pytest.raises(NotFound):
                    read(user, id_)
        for id_ in self.events[other][-1:]:
            with pytest.raises(NotFound):
                self.vault.feedback.delete(user, id_)
        for id_ in self.live[other]:
            with pytest.raises(NotFound):
                self.vault.live_sessions.heartbeat(user, id_)

    @invariant()
    def every_list_holds_all_of_ones_own_and_nothing_else(self):
        vault = self.vault
        for user in self.PEOPLE:
            [other] = set(self.PEOPLE) - {user}
            mine = self.messages[user]
            assert {one.id for one in vault.album.messages(user, limit=500)} == set(mine)
            assert {one.id for one in vault.conversations.messages(user, "c", limit=500)} == set(mine)
            assert [one.messages for one in vault.conversations.list(user)] == ([len(mine)] if mine else [])
            assert vault.album.messages(user, tag=f"of {other}") == []
            assert {tag.name for tag in vault.album.tags(user)} <= {f"of {user}"}
            assert sum(day.messages for day in vault.album.timeline(user)) == len(mine)
            assert {fact.id for fact in vault.facts.list(user, limit=500)} == set(self.facts[user])
            assert vault.facts.list(user, category=f"of {other}") == []
            assert {one.name for one in vault.facts.categories(user)} <= {f"of {user}"}
            assert vault.facts.count(user) == len(self.facts[user])
            assert {event.id for event in vault.feedback.list(user, limit=500)} == set(self.events[user])
            assert sum(stat.count for stat in vault.feedback.stats(user)) == len(self.events[user])
            assert {one.key: one.value for one in vault.preferences.list(user)} == self.values[user]
            assert {one.id for one in vault.sessions.get_user_sessions(self.ids[user])} == set(self.logins[user])
            assert [one.id for one in vault.live_sessions.list_live(user)] == self.live[user]
            found = vault.logs.query_logs(user_id=self.ids[user], limit=None)
            assert {line.id for line in found} == set(self.lines[user])
            entries = vault.audit_log.entries(user_id=self.ids[user])
            assert sum(entry.action == "session created" for entry in entries) == len(self.logins[user])

    def teardown(self):
        self._opened.__exit__(None, None, None)


TestRepositories = Repositories.TestCase
TestRepositories.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)


def test_forgetting_everything_of_one_person_leaves_the_tasks_of_another():
    with temporary_vault() as vault:
        for user in ("nell", "otto"):
            vault.memory.record(user, "Ask me tomorrow.", conversation="c")
            vault.tasks.add(f"ask {user}", action="ask", schedule="every 2h", user=user)
        vault.memory.forget("nell", everything=True)
        asked = {task.name for task in vault.tasks.list() if task.action == "ask"}
        assert asked == {"ask otto"}


# Every public call, found by itself

SECRET = "heron"
"""In everything that Nell keeps and nowhere else."""


def of_nell(vault) -> dict[str, object]:
    """Something of hers for every parameter by which a call may name it."""
    said = vault.memory.record(
        "nell", f"The {SECRET} stood still.", conversation=SECRET, source_id=SECRET, speaker=SECRET
    )
    other = vault.memory.record("nell", f"The {SECRET} flew.", conversation=SECRET)
    fact = vault.memory.remember("nell", f"Nell saw a {SECRET}.", category=SECRET, source=said)
    vault.facts.propose("nell", f"Nell likes the {SECRET}", message=said, model="m", type=SECRET)
    vault.album.tag("nell", said, SECRET)
    vault.album.note("nell", fact, SECRET)
    vault.conversations.set_title("nell", SECRET, SECRET)
    event = vault.feedback.record("nell", "rating", SECRET, message=said, payload={"why": SECRET})
    vault.preferences.set("nell", SECRET, SECRET)
    vault.items.put("nell", (SECRET,), SECRET, SECRET, texts=[SECRET], memory=said)
    nell = vault.users.find_by_name("nell").id
    vault.users.update_user(nell, full_name=SECRET)
    vault.logs.insert_log(level="INFO", message=SECRET, user_id=nell)
    session = vault.live_sessions.start("nell", SECRET)
    vault.tasks.add(SECRET, action=SECRET, schedule="every 2h", user="nell")
    vault.memory.set_state("nell", session, {"draft": SECRET})
    vault.memory.recent("nell", SECRET)
    return {
        "conversation": SECRET, "keep": SECRET, "drop": "c", "id": said, "message": said, "ids": [said, fact],
        "messages": [said, other], "memories": [said], "memory": said, "event": event, "session": session, "query": SECRET,
        "request": SECRET, "about": SECRET, "key": SECRET, "namespace": (SECRET,), "prefix": (SECRET,),
        "session_id": session, "related_user_id": nell, "fact": fact,
    }  # fmt: skip


class Parrot:
    """Says of every excerpt what it was shown."""

    model = "parrot"

    def extract(self, excerpt) -> str:
        return excerpt.as_json()


OTHERS = {
    "text": "Otto was here.", "query": SECRET, "instant": datetime(2030, 1, 1, tzinfo=UTC), "extractor": Parrot(),
    "kind": "rating", "category": SECRET, "value": 1, "tag": SECRET, "tags": SECRET, "tone": "glad", "title": "mine",
    "puts": [], "values": ["mine"], "sql": "SELECT * FROM messages", "name": "activity", "model": "m", "limit": 50,
    "relationship_type": "friend", "new_pin": "730519", "pin": "730519", "old_pin": "730519", "level": "INFO",
    "action": SECRET, "schedule": "every 2h", "count": 9, "titles": {}, "state": {"draft": "mine"}, "helpful": True,
    "source": "",
}  # fmt: skip
NAMES_A_PERSON = ("user", "user_id")
ALL_PEOPLE = {
    "Scheduler.add": "a task's name is the vault's, and a second one of its name is refused",
    "LogRepository.insert_log": "writes a line and reads none",
    "UserService.add_relationship": "what it gives back is whom Otto named",
}


def calls_about_a_person() -> dict[str, tuple[str, inspect.Signature]]:
    """Every public method of what a vault offers that takes a person: where it is, and its signature."""
    found = {}
    with temporary_vault(embedder=HashEmbedder()) as vault:
        offered = {name: one for name, one in vars(vault).items() if type(one).__module__.startswith("aico.")}
    for place, service in [("", vault), *offered.items()]:
        if place.startswith("_"):
            continue
        for name, member in inspect.getmembers(type(service), inspect.isfunction):
            signature = inspect.signature(member)
            is_public = name == "__call__" or not name.startswith("_")
            persons = [signature.parameters[one] for one in NAMES_A_PERSON if one in signature.parameters]
            if is_public and persons and persons[0].annotation is not bytes:  # which only other layers have
                found[f"{type(service).__name__}.{name}"] = place, signature
    return found


CALLS = calls_about_a_person()


@pytest.mark.parametrize("name", sorted(CALLS.keys() - ALL_PEOPLE.keys()))
def test_no_call_shows_or_changes_what_belongs_to_another_person(name, tmp_path):
    """Otto makes the call and names whatever Nell has: the answer is an error or holds nothing of hers; she keeps all."""
    if name.startswith("AnalyticsEngine"):
        pytest.importorskip("duckdb", reason="analytics needs the extra aico[analytics]")
    place, signature = CALLS[name]
    with temporary_vault(clock=FixedClock(), embedder=HashEmbedder()) as vault:
        hers = of_nell(vault)
        vault.memory.record("otto", "An ordinary day.", conversation="c")
        before = kept_by_nell(vault)
        call = getattr(getattr(vault, place) if place else vault, name.partition(".")[2])
        for number, (positional, named) in enumerate(ways_to_call(name, signature, vault, hers, tmp_path)):
            with suppress(AicoError):
                shown = plain(call(*positional, **named))
                assert SECRET not in shown, shown
                ids = [one for one in hers.values() if isinstance(one, str) and len(one) == 32]
                assert not [one for one in ids if one in shown], (number, shown)
        for path in tmp_path.iterdir():
            assert SECRET.encode() not in path.read_bytes()
        assert kept_by_nell(vault) == before


def ways_to_call(name, signature, vault, hers, folder):
    """As Otto with all that must be given, then also with each thing of hers that may be; each time her fact's id too."""
    otto = {"user": "otto", "user_id": vault.users.find_by_name("otto").id}
    parameters = list(signature.parameters.values())[1:]
    needed = [one.name for one in parameters if one.default is one.empty and one.kind is not one.VAR_KEYWORD]
    optional = [one.name for one in parameters if one.name not in needed and one.name in hers]
    person = [one.name for one in parameters if one.name in otto]
    in_front = any(one.kind is one.VAR_POSITIONAL for one in parameters)
    for missing in {*needed} - {*otto, *hers, *OTHERS, "file"}:
        raise AssertionError(f"{name}: say in `of_nell` what of hers {missing!r} may name, or in OTHERS what it may be")
    for number, more in enumerate(([], *([one] for one in optional))):
        for of_fact in (False, True) if "id" in (*needed, *more) else (False,):
            known = OTHERS | hers | otto | {"file": folder / f"{number}"} | ({"id": hers["fact"]} if of_fact else {})
            given = {one: known[one] for one in dict.fromkeys([*person, *needed, *more])}
            yield (list(given.values()), {}) if in_front else ([], given)


def plain(answer) -> str:
    """All that an answer holds, also what its `repr` keeps back."""
    if hasattr(answer, "__next__"):
        answer = list(answer)
    if is_dataclass(answer):
        answer = {one.name: getattr(answer, one.name) for one in fields(answer) if not one.name.startswith("_")}
    if isinstance(answer, dict):
        return " ".join(plain(one) for pair in answer.items() for one in pair)
    if isinstance(answer, list | tuple | set):
        return " ".join(map(plain, answer))
    return repr(answer)


def kept_by_nell(vault) -> object:
    out = io.BytesIO()
    vault.export(out, "nell")
    nell = vault.users.find_by_name("nell").id
    others = vault.live_sessions.list_live("nell"), vault.tasks.get(SECRET), vault.users.get_profile(nell)
    return out.getvalue(), plain(others), plain(vault.logs.query_logs(user_id=nell, limit=None))
