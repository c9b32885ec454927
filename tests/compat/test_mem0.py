"""mem0's interface over a vault: a program written for mem0 gets the same shapes, and what it keeps is AICO's own memory."""

import asyncio
import inspect
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aico
from aico.aio import awaited
from aico.compat._mem0_filters import fits
from aico.compat.mem0 import AsyncMemory, Memory, UnknownMemory
from aico.errors import InvalidInput, KeyslotMissing, ModelUnavailable
from aico.testing import PASSPHRASE, cheap_settings, temporary_vault
from tests.compat.mem0_script import script, shape

SHAPES = json.loads(Path(__file__).with_name("mem0_shapes.json").read_text())
"""What mem0ai 2.2.1 itself gave: `tests/compat/mem0_script.py` wrote it."""
MIA = {"user_id": "mia"}


@pytest.fixture
def vault():
    with temporary_vault() as vault:
        yield vault


@pytest.fixture
def memory(vault):
    return Memory(vault=vault)


def texts(found):
    return [one["memory"] for one in found["results"]]


def test_a_program_written_for_mem0_gets_what_mem0_gives(memory):
    ours = {name: shape(given) for name, given in script(memory).items()}
    assert ours.keys() == SHAPES.keys()
    for name, expected in SHAPES.items():
        if name == "search":  # which memories are found is each one's own affair; each looks the same
            found = ours[name]["results"]
            assert len(found) == 2
            assert all(one in expected["results"] for one in found)
        else:
            assert ours[name] == expected, name


def test_what_is_added_is_a_message_of_its_user_and_goes_with_it(vault, memory):
    added = memory.add("I moved to Lisbon.", user_id="mia", run_id="trip", metadata={"mood": "glad"})["results"][0]
    [hit] = vault.memory.recall("mia", "Lisbon")
    assert (hit.id, hit.conversation) == (added["id"].replace("-", ""), "trip")
    vault.memory.record("mia", "Said elsewhere, about Lisbon too.", conversation="c")
    assert texts(memory.get_all(filters=MIA)) == ["I moved to Lisbon."]
    receipt = vault.memory.forget("mia", id=hit.id)
    assert (receipt.removed["items"], receipt.verify()) == (1, True)
    assert memory.get(added["id"]) is None
    assert memory.history(added["id"]) == []


def test_infer_asks_no_model_and_says_so_once(memory, caplog):
    with caplog.at_level(logging.WARNING):
        for text in ("One.", "Two."):
            memory.add([{"role": "user", "content": text}], user_id="mia")
    assert texts(memory.get_all(filters=MIA)) == ["One.", "Two."]
    assert [record.name for record in caplog.records] == ["aico.compat.mem0"]
    assert "One" not in caplog.text


class Scripted:
    """Stands where a model would: one fact for each turn that it is to look at, or no answer."""

    model = "scripted"

    def __init__(self):
        self.away = False

    def extract(self, excerpt):
        if self.away:
            raise ModelUnavailable("the model is away")
        turns = [turn.number for turn in excerpt.turns if turn.number is not None]
        found = [{"turn": turn, "text": f"Mia said something ({turn})"} for turn in turns]
        return json.dumps({"facts": [{"type": "preference", "category": "", "confidence": 0.7} | one for one in found]})


def test_with_an_extractor_infer_has_it_propose_facts_and_loses_nothing_while_it_is_away(vault, caplog):
    model = Scripted()
    memory = Memory(vault=vault, extractor=model)
    model.away = True
    [first] = memory.add("I keep bees.", user_id="mia")["results"]
    assert "no facts were looked for" in caplog.text
    assert "bees" not in caplog.text
    model.away = False
    memory.add("I like figs.", user_id="mia", infer=False)
    assert vault.facts.proposed("mia") == []
    [second] = memory.add("I moved to Lisbon.", user_id="mia")["results"]
    assert (first["event"], second["memory"]) == ("ADD", "I moved to Lisbon.")
    assert len(vault.facts.proposed("mia")) == 3
    assert vault.facts.list("mia") == []
    assert len(memory.get_all(filters={"user_id": "mia"})["results"]) == 3


def test_a_talk_is_added_whole_or_not_at_all(memory):
    for bad in ({"role": "user", "content": "\ud800"}, {"role": "", "content": "x"}):
        with pytest.raises(InvalidInput):
            memory.add([{"role": "user", "content": "good"}, bad], user_id="mia", infer=False)
    assert memory.get_all(filters=MIA) == {"results": []}


@pytest.mark.parametrize(
    "call",
    [
        lambda m, _: m.add([{"role": "user", "content": [{"type": "text"}]}], user_id="mia", infer=False),
        lambda m, _: m.add([{"role": "user", "content": [{"type": "text", "text": None}]}], user_id="mia", infer=False),
        lambda m, _: m.add({"role": "user", "content": 5}, user_id="mia", infer=False),
        lambda m, _: m.add({"role": "user", "content": {"a": 1}}, user_id="mia", infer=False),
        lambda m, _: m.add({"role": 5, "content": "x"}, user_id="mia", infer=False),
        lambda m, _: m.add({"role": ["user"], "content": "x"}, user_id="mia", infer=False),
        lambda m, _: m.add({"role": "user", "content": "x", "name": 5}, user_id="mia", infer=False),
        lambda m, _: m.add("x", user_id="mia", infer=False, metadata=[1]),
        lambda m, _: m.add("x", user_id="mia", infer=False, metadata="mia"),
        lambda m, _: m.add("x", user_id="mia", infer=False, metadata={1: 2}),
        lambda m, id_: m.update(id_, metadata=[1]),
        lambda m, id_: m.update(id_, metadata="mia"),
        lambda m, id_: m.update(id_, 5),
        lambda m, id_: m.update(id_, ""),
        lambda m, _: m.search("bees", filters=[1]),
        lambda m, _: m.search("bees", filters="mia"),
        lambda m, _: m.get_all(filters="mia"),
        lambda m, _: m.search("bees", filters={**MIA, "AND": ["a"]}),
        lambda m, _: m.get_all(filters={**MIA, "OR": ["a"]}),
        lambda m, _: m.search("bees", filters=MIA, top_k=10**30),
        lambda m, _: m.get_all(filters=MIA, top_k=10**30),
        lambda m, _: m.search("bees", filters=MIA, top_k="5"),
        lambda m, _: m.search(5, filters=MIA),
    ],
)
def test_what_mem0_does_not_take_is_refused_by_type_and_changes_nothing(memory, call):
    made = added(memory, "I keep bees")
    before = memory.get(made)
    with pytest.raises(InvalidInput):
        call(memory, made)
    assert [memory.get(made), len(memory.get_all(filters=MIA)["results"])] == [before, 1]


def test_the_greatest_number_asked_for_is_found(memory):
    made = added(memory, "I keep bees")
    for found in (memory.search("bees", filters=MIA, top_k=10**9), memory.get_all(filters=MIA, top_k=10**9)):
        assert [one["id"] for one in found["results"]] == [made]


def test_what_is_no_message_is_left_out_and_images_too(memory, caplog):
    parts = [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": "x"}}]
    memory.add([{"role": "user", "content": parts}, {"role": "user"}, "secret text"], user_id="mia", infer=False)
    assert texts(memory.get_all(filters=MIA)) == ["Look:"]
    assert "secret" not in caplog.text


def test_scores_are_relative_to_the_best_and_a_threshold_counts(memory):
    for text in ("I moved to Lisbon in May", "Lisbon has hills, and a lot more of all kinds than I can tell", "Bread"):
        memory.add(text, user_id="mia", infer=False)
    found = memory.search("moved to Lisbon in May", filters=MIA, explain=True)["results"]
    assert found[0]["score"] == 1.0
    assert 0.1 <= found[1]["score"] < 1
    assert found[0]["score_details"]["why"].startswith("words: ")
    assert len(memory.search("moved to Lisbon in May", filters=MIA, threshold=1)["results"]) == 1
    assert memory.search("Lisbon", filters=MIA, top_k=0) == {"results": []}


def test_filters_that_leave_few_still_find_those_few(memory):
    for number in range(150):
        memory.add(f"Lisbon, note {number}", user_id="mia", metadata={"n": number}, infer=False)
    found = memory.search("Lisbon note", filters={**MIA, "n": {"gte": 148}}, threshold=0)
    assert {one["metadata"]["n"] for one in found["results"]} == {148, 149}
    assert len(memory.get_all(filters={**MIA, "OR": [{"n": {"lt": 2}}, {"n": 7}]})["results"]) == 3


def test_nobody_gets_the_memories_of_another(memory):
    mine = memory.add("The key lies under the blue pot.", user_id="mia", agent_id="coach", infer=False)["results"][0]
    for filters in ({"user_id": "otto"}, {"agent_id": "coach"}, {"user_id": "agent"}, {"run_id": "mia"}):
        assert memory.search("blue pot", filters=filters) == memory.get_all(filters=filters) == {"results": []}
    memory.delete_all(agent_id="coach")
    memory.delete_all(user_id="otto")
    assert memory.get(mine["id"])["memory"] == "The key lies under the blue pot."
    for tricked in ("agent coach", "", {"ne": "otto"}, "*"):
        assert_refused_or_empty(memory, tricked)


def assert_refused_or_empty(memory, user_id):
    try:
        assert memory.search("blue pot", filters={"user_id": user_id}) == {"results": []}
    except InvalidInput:
        pass


def test_held_to_one_user_every_other_is_refused(vault):
    otto = Memory(vault=vault, user="otto")
    [mine] = Memory(vault=vault).add("Mine alone.", user_id="mia", infer=False)["results"]
    assert otto.get(mine["id"]) is None
    for call in (otto.delete, lambda id_: otto.update(id_, text="x")):
        with pytest.raises(UnknownMemory):
            call(mine["id"])
    for call in (
        lambda: otto.add("x", user_id="mia"),
        lambda: otto.search("x", filters=MIA),
        lambda: otto.get_all(filters=MIA),
        lambda: otto.delete_all(user_id="mia"),
        lambda: otto.add("x", agent_id="coach"),
    ):
        with pytest.raises(InvalidInput, match="another user"):
            call()
    otto.add("Hello.", user_id="otto", infer=False)
    otto.reset()
    assert otto.get_all(filters={"user_id": "otto"}) == {"results": []}
    assert Memory(vault=vault).get(mine["id"])["memory"] == "Mine alone."


@pytest.mark.parametrize("user", ["", " ", "\n"])
def test_an_empty_user_is_refused_and_not_taken_for_everybody(vault, user):
    [mine] = Memory(vault=vault).add("Mine alone.", user_id="mia", infer=False)["results"]
    for made in (Memory, AsyncMemory):
        with pytest.raises(InvalidInput, match="not empty"):
            made(vault=vault, user=user)
    assert Memory(vault=vault).get(mine["id"])["memory"] == "Mine alone."


def test_identity_in_metadata_changes_nothing(memory):
    [made] = memory.add("x", user_id="mia", metadata={"user_id": "otto", "a": 1}, infer=False)["results"]
    memory.update(made["id"], metadata={"user_id": "otto", "agent_id": "z", "b": 2})
    shown = memory.get(made["id"])
    assert (shown["user_id"], shown["metadata"], "agent_id" in shown) == ("mia", {"a": 1, "b": 2}, False)


def test_an_update_keeps_the_id_and_the_history(memory):
    [made] = memory.add("I live in Lisbon", user_id="mia", infer=False)["results"]
    memory.update(made["id"], text="I live in Porto", expiration_date="2999-12-31")
    memory.update(made["id"], data="I live in Faro", expiration_date=None)
    assert [(one["old_memory"], one["new_memory"], one["event"]) for one in memory.history(made["id"])] == [
        (None, "I live in Lisbon", "ADD"),
        ("I live in Lisbon", "I live in Porto", "UPDATE"),
        ("I live in Porto", "I live in Faro", "UPDATE"),
    ]
    assert "expiration_date" not in memory.get(made["id"])
    assert texts(memory.search("Faro", filters=MIA)) == ["I live in Faro"]
    assert memory.search("Porto", filters=MIA) == {"results": []}


def added(memory, text, **more):
    [made] = memory.add(text, user_id="mia", infer=False, **more)["results"]
    return made["id"]


def test_who_deletes_one_memory_loses_no_other_that_says_the_same(vault, memory):
    first = added(memory, "I moved to Lisbon")
    longer = added(memory, "I moved to Lisbon in May, and I love the trams", metadata={"topic": "home"})
    again = added(memory, "I moved to Lisbon")
    memory.delete(first)
    assert memory.get(longer)["metadata"] == {"topic": "home"}
    assert [one["id"] for one in memory.get_all(filters=MIA)["results"]] == [longer, again]
    assert memory.history(again)[0]["new_memory"] == "I moved to Lisbon"
    memory.delete_all(user_id="mia")
    assert vault.memory.recall("mia", "Lisbon") == []


def test_a_forgotten_old_text_leaves_the_memory_and_a_history_without_it(vault, memory):
    made = added(memory, "I work at the bakery")
    memory.update(made, "I work at the library")
    memory.update(made, metadata={"n": 1})
    vault.memory.forget("mia", about="bakery")
    assert (memory.get(made)["memory"], memory.get(made)["metadata"]) == ("I work at the library", {"n": 1})
    assert [(one["old_memory"], one["new_memory"], one["event"]) for one in memory.history(made)] == [
        (None, None, "ADD"),
        (None, "I work at the library", "UPDATE"),
        ("I work at the library", "I work at the library", "UPDATE"),
    ]


@pytest.mark.parametrize(
    "subject", ["history", "user", "mia", "metadata", "event", "role", str(datetime.now(UTC).year)]
)
def test_no_word_of_the_programs_own_is_a_trace(vault, memory, subject):
    made = added(memory, "I keep bees", metadata={"topic": "garden"}, expiration_date="2999-12-31")
    vault.memory.forget("mia", about=subject)
    assert memory.get(made)["metadata"] == {"topic": "garden"}
    assert len(memory.history(made)) == 1


@pytest.mark.parametrize(
    ("verb", "given"), [("delete_all", {"user_id": "mia"}), ("delete_all", {"run_id": "trip"}), ("reset", {})]
)
def test_a_memory_of_which_all_else_was_forgotten_is_shown_and_deleted_still(vault, memory, verb, given):
    who = {"run_id": "trip"} if "run_id" in given else {"user_id": "mia", "run_id": "trip"}
    [made] = memory.add("I moved to Lisbon", **who, metadata={"pet": "walrus"}, infer=False)["results"]
    owner = "run trip" if "run_id" in given else "mia"
    vault.memory.forget(owner, about="walrus")
    shown = memory.get(made["id"])
    assert (shown["memory"], shown["metadata"], shown["run_id"]) == ("I moved to Lisbon", None, "trip")
    assert shown.get("user_id") == who.get("user_id")
    assert (texts(memory.get_all(filters=who)), memory.history(made["id"])) == (["I moved to Lisbon"], [])
    memory.update(made["id"], metadata={"pet": "none"})
    assert texts(memory.search("Lisbon", filters={**who, "pet": "none"})) == ["I moved to Lisbon"]
    vault.memory.forget(owner, about="pet none")
    getattr(memory, verb)(**given)
    assert vault.memory.recall(owner, "Lisbon") == []


def test_what_was_not_added_here_is_no_memory_by_its_id_either(vault, memory):
    said = vault.memory.record("mia", "Said elsewhere.", conversation="c", source_id="mem0")
    assert memory.get(said) is None
    with pytest.raises(UnknownMemory):
        memory.delete(said)
    memory.delete_all(user_id="mia")
    memory.reset()
    assert [moment.id for moment in vault.memory.recent("mia", "c")] == [said]


def test_several_that_delete_all_at_once_agree(vault, memory):
    for number in range(12):
        added(memory, f"note {number}")
    with ThreadPoolExecutor(3) as threads:
        told = [threads.submit(memory.delete_all, user_id="mia") for _ in range(3)]
        assert {one.result()["message"] for one in told} == {"Memories deleted successfully!"}
    assert memory.get_all(filters=MIA) == {"results": []}


def test_updates_at_once_lose_nothing_of_each_other(memory):
    made = added(memory, "I keep bees")
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: memory.update(made, metadata={f"k{n}": n}), range(8)))
    assert memory.get(made)["metadata"] == {f"k{n}": n for n in range(8)}
    assert len(memory.history(made)) == 9


def test_the_awaited_twin_has_the_same_verbs_and_answers(tmp_path):
    async def program():
        async with aico.aio.open(tmp_path / "v", passphrase=PASSPHRASE, settings=cheap_settings()) as companion:
            async with AsyncMemory(vault=companion) as memory:
                await asyncio.gather(*(memory.add(f"note {n}", user_id="mia", infer=False) for n in range(10)))
                return await memory.get_all(filters=MIA), await memory.search("note 3", filters=MIA, top_k=1)

    listed, found = asyncio.run(program())
    assert len(listed["results"]) == 10
    assert texts(found) == ["note 3"]
    verbs = {name for name, value in vars(Memory).items() if inspect.isfunction(value) and not name.startswith("_")}
    assert {name for name, value in vars(AsyncMemory).items() if isinstance(value, awaited)} == verbs - {"close"}


def test_without_a_vault_the_machines_own_is_opened_and_closed(tmp_path, monkeypatch):
    monkeypatch.setenv("AICO_HOME", str(tmp_path / "v"))
    monkeypatch.delenv("AICO_PASSPHRASE_FILE", raising=False)
    with pytest.raises(KeyslotMissing):
        Memory()
    secret = tmp_path / "passphrase"
    secret.write_text(PASSPHRASE)
    monkeypatch.setenv("AICO_PASSPHRASE_FILE", str(secret))
    aico.open(settings=cheap_settings()).close()
    with Memory.from_config({"vector_store": {"provider": "qdrant"}}) as memory:
        memory.add("x", user_id="mia", infer=False)
    with Memory() as memory:
        assert texts(memory.get_all(filters=MIA)) == ["x"]


CANARY = "the tin whistle waits by the window"


def test_no_adapter_leaves_anything_readable_behind(tmp_path):
    control = tmp_path / "control"
    control.write_text(CANARY)
    with aico.open(tmp_path / "v", passphrase=PASSPHRASE, settings=cheap_settings()) as vault:
        memory = Memory(vault=vault)
        [made] = memory.add(CANARY, user_id="mia", run_id="whistle-waits-by", metadata={"m": CANARY}, infer=False)[
            "results"
        ]
        memory.update(made["id"], text=f"{CANARY} still")
        memory.search(CANARY, filters=MIA)
        vault.items.put("mia", ("langgraph", CANARY), CANARY, {"v": CANARY}, texts=[CANARY])
        vault.items.append("mia", ("openai-agents", CANARY), [{"content": CANARY}])
        vault.items.search("mia", CANARY)
        assert found_in(tmp_path) == [control]
        memory.delete(made["id"])
        vault.memory.forget("mia", about="tin whistle")
        assert vault.items.list("mia") == []
    assert found_in(tmp_path) == [control]


def found_in(folder):
    pieces = [CANARY.encode(), CANARY[4:16].encode()]
    return [file for file in folder.rglob("*") if file.is_file() and any(p in file.read_bytes() for p in pieces)]


FIELDS = st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 3) | st.sampled_from(["x", "xy"]), max_size=2)
CONDITION = st.builds(
    lambda key, operator, operand: {key: {operator: operand}},
    st.sampled_from(["a", "b"]),
    st.sampled_from(["eq", "ne", "gt", "gte", "lt", "lte"]),
    st.integers(0, 3),
)


@given(memory=FIELDS, some=st.lists(CONDITION, min_size=1, max_size=3))
def test_and_or_and_not_are_what_they_say(memory, some):
    each = [fits(memory, condition) for condition in some]
    assert fits(memory, {"AND": some}) == all(each)
    assert fits(memory, {"OR": some}) == any(each)
    assert fits(memory, {"NOT": some}) == (not any(each))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"a": "*"}, True),
        ({"c": "*"}, False),
        ({"a": {"in": ["xy", 1]}}, True),
        ({"a": {"nin": ["xy"]}}, False),
        ({"a": {"contains": "y"}}, True),
        ({"a": {"icontains": "XY"}}, True),
        ({"a": {"gt": 3}}, False),
        ({"c": {"contains": "y"}}, False),
        ({"a": "xy", "b": 2}, True),
        ({}, True),
    ],
)
def test_operators(wanted, expected):
    assert fits({"a": "xy", "b": 2}, wanted) == expected


@pytest.mark.parametrize(
    "wanted", [{"a": {"near": 1}}, {"OR": []}, {"AND": {}}, {"NOT": "x"}, {"AND": ["a"]}, {"OR": [{}, 1]}]
)
def test_what_is_no_filter_is_refused(wanted):
    with pytest.raises(InvalidInput):
        fits({"a": 1}, wanted)
