"""AicoStore beside LangGraph's own InMemoryStore: the same operations give the same answers, but sealed and kept."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("langgraph.store.base", reason="a LangGraph store needs the extra aico[langgraph]")

from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.store.base import (
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    SearchOp,
)
from langgraph.store.memory import InMemoryStore

import aico.aio
from aico.compat.langgraph import AicoStore
from aico.errors import InvalidInput
from aico.testing import FixedClock, HashEmbedder, temporary_vault

LABELS = st.sampled_from(["users", "mia", "a", "b"])
SPACES = st.lists(LABELS, min_size=1, max_size=3).map(tuple)
KEYS = st.sampled_from(["k1", "k2", "k3"])
SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["x", "3", "on"])
VALUES = st.dictionaries(
    st.sampled_from(["n", "tag", "at"]),
    SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.sampled_from(["n", "tag"]), SCALARS, max_size=2),
    max_size=3,
)
NUMBERS = st.builds(
    lambda operator, number: {operator: number}, st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), st.integers(-9, 9)
)
FILTERS = st.dictionaries(
    st.sampled_from(["n", "tag", "at"]),
    SCALARS | st.lists(SCALARS, max_size=2) | st.builds(lambda x: {"$eq": x}, SCALARS) | st.builds(lambda x: {"$ne": x}, SCALARS),
    max_size=2,
)  # fmt: skip
CONDITIONS = st.builds(
    MatchCondition,
    st.sampled_from(["prefix", "suffix"]),
    st.lists(LABELS | st.just("*"), min_size=1, max_size=2).map(tuple),
)
OPS = st.lists(
    st.builds(lambda *place: PutOp(*place), SPACES, KEYS, VALUES | st.none())
    | st.builds(lambda *place: GetOp(*place), SPACES, KEYS)
    | st.builds(
        lambda prefix, wanted, limit, offset: SearchOp(prefix, wanted, limit, offset),
        st.lists(LABELS, max_size=2).map(tuple),
        FILTERS,
        st.integers(1, 5),
        st.integers(0, 2),
    )
    | st.builds(
        lambda conditions, depth, limit: ListNamespacesOp(conditions, depth, limit, 0),
        st.none() | st.lists(CONDITIONS, max_size=2).map(tuple),
        st.none() | st.integers(1, 3),
        st.integers(1, 9),
    ),
    max_size=6,
)


@pytest.fixture
def clock():
    return FixedClock(datetime(2026, 5, 8, tzinfo=UTC))


@pytest.fixture
def vault(clock):
    with temporary_vault(clock=clock) as vault:
        yield vault


@pytest.fixture
def store(vault):
    return AicoStore(vault, user="mia")


def told(result):
    """A result without its times, a page of a search as what it holds: the two may order by another clock."""
    if isinstance(result, list):
        return sorted(map(repr, map(told, result)))
    return result if result is None or isinstance(result, tuple) else (result.namespace, result.key, result.value)


@pytest.fixture(scope="module")
def lasting_vault():
    with temporary_vault() as vault:
        yield vault


@settings(max_examples=30)
@given(batches=st.lists(OPS, max_size=5))
def test_any_operations_give_what_the_in_memory_store_gives(lasting_vault, batches):
    """Whole answers are compared: the two order by another clock, and theirs lists namespaces that hold nothing any more."""
    theirs, ours = InMemoryStore(), AicoStore(lasting_vault, user="mia")
    lasting_vault.items.clear("mia", ())
    for number, ops in enumerate(batches):
        whole = [op if isinstance(op, GetOp | PutOp) else op._replace(limit=99, offset=0) for op in ops]
        expected = [told(result) for result in theirs.batch(whole)]
        given = ours.batch(whole) if number % 2 else asyncio.run(ours.abatch(whole))
        for op, result, other in zip(whole, given, expected, strict=True):
            if isinstance(op, ListNamespacesOp):
                assert set(told(result)) <= set(other)
            else:
                assert told(result) == other, op


ODD = st.sampled_from(
    ["", "a", "A", "é", "e\u0301", "a b", '"', "\\", "$", "'", "a\0b", "1", "\u2028", "😀", '{"n":1}']
)


@given(
    key=ODD.filter(lambda odd: odd != "$") | st.just("some_key"),  # which begins an operator
    value=ODD | st.just({"n": 1}) | st.just(1),
    wanted=ODD,
    query=st.none() | st.just("w"),
)
def test_texts_that_sqlite_looks_for_are_those_that_are_equal(lasting_vault, key, value, wanted, query):
    """No text is taken for another, and no key for a path of SQL."""
    store = AicoStore(lasting_vault, user="otto")
    store.put(("a",), "k", {key: value, "other": "w"})
    assert bool(store.search(("a",), query=query, filter={key: wanted})) == (value == wanted)


@given(value=st.integers(-9, 9) | st.none() | st.just("x"), wanted=NUMBERS)
def test_comparisons_are_of_numbers_and_what_is_none_fits_neither(lasting_vault, value, wanted):
    store = AicoStore(lasting_vault, user="nell")
    store.put(("a",), "k", {"n": value})
    [(operator, bound)] = wanted.items()
    compare = {"$gt": int.__gt__, "$gte": int.__ge__, "$lt": int.__lt__, "$lte": int.__le__}[operator]
    fits = isinstance(value, int) and compare(value, bound)
    assert bool(store.search(("a",), filter={"n": wanted})) == fits


def test_the_derived_calls_work_awaited_and_not(store):
    async def awaited():
        await store.aput(("users", "mia"), "food", {"text": "I like pizza", "rating": 5})
        return (
            await store.aget(("users", "mia"), "food"),
            await store.asearch(("users",), filter={"rating": {"$gte": 4}}),
            await store.alist_namespaces(prefix=("users",)),
            await store.adelete(("users", "mia"), "food"),
        )

    item, found, spaces, _ = asyncio.run(awaited())
    assert (item.value["text"], item.namespace, item.key) == ("I like pizza", ("users", "mia"), "food")
    assert ([one.key for one in found], spaces) == (["food"], [("users", "mia")])
    assert store.get(("users", "mia"), "food") is None
    for bad in ((), ("a.b",), ("langgraph", "x")):
        with pytest.raises(InvalidNamespaceError):
            store.put(bad, "k", {})


def test_pages_of_a_search_follow_each_other(store):
    for number in range(7):
        store.put(("a",), f"k{number}", {"n": number})
    pages = [store.search(("a",), limit=3, offset=offset) for offset in (0, 3, 6)]
    assert [item.key for page in pages for item in page] == [f"k{number}" for number in range(7)]
    odd = store.search(("a",), filter={"n": {"$ne": 0}}, limit=2, offset=2)
    assert [item.key for item in odd] == ["k3", "k4"]


def test_a_question_finds_by_meaning_and_fields_say_by_what(clock):
    with temporary_vault(clock=clock, embedder=HashEmbedder(synonyms={"feline": "cat"})) as vault:
        store = AicoStore(vault, user="mia", index={"dims": 64, "embed": _never, "fields": ["text", "tags[*]"]})
        store.put(("m",), "a", {"text": "my cat sleeps", "secret": "train"})
        store.put(("m",), "b", {"text": "the train was late", "tags": ["rain", "delay"]})
        store.put(("m",), "c", {"text": "a cat on the roof"}, index=False)
        store.put(("m",), "d", {"text": "nothing", "note": "whiskers"}, index=["note"])
        found = store.search(("m",), query="feline")
        assert (found[0].key, found[0].score > 0) == ("a", True)
        assert {item.key: item.score for item in found}["c"] is None
        assert store.search(("m",), query="train")[0].key == "b"
        assert store.search(("m",), query="whiskers")[0].key == "d"
        assert len(store.search(("m",), query="cat", limit=2, offset=1)) == 2


def _never(texts):
    raise AssertionError("no text leaves the vault for a model of others")


def test_what_lives_for_a_time_is_gone_after_it_unless_it_is_read(vault, clock):
    store = AicoStore(vault, user="mia", ttl={"default_ttl": 10, "refresh_on_read": True})
    store.put(("a",), "read", {"n": 1})
    store.put(("a",), "left", {"n": 2})
    store.put(("a",), "kept", {"n": 3}, ttl=None)
    clock.move(timedelta(minutes=6))
    assert store.get(("a",), "read")
    clock.move(timedelta(minutes=6))
    assert {item.key for item in store.search(("a",), refresh_ttl=False)} == {"read", "kept"} | set()
    assert store.get(("a",), "left") is None
    clock.move(timedelta(minutes=6))
    assert {item.key for item in store.search(("a",))} == {"kept"}


def test_a_batch_of_puts_is_done_whole_or_not_at_all(store):
    store.put(("a",), "k", {"n": 1})
    with pytest.raises(InvalidInput):
        store.batch([PutOp(("a",), "k", {"n": 2}), PutOp(("a",), "l", {"bad": float("nan")})])
    assert store.get(("a",), "k").value == {"n": 1}


def test_a_store_is_one_persons_and_sees_nothing_else(vault):
    mia, otto = AicoStore(vault, user="mia"), AicoStore(vault, user="otto")
    otto.put(("users", "otto"), "pin", {"text": "under the blue pot"})
    vault.items.put("mia", ("openai-agents", "s"), "k", {"text": "another framework's"})
    assert mia.get(("users", "otto"), "pin") is None
    assert mia.search(()) == mia.search((), query="blue pot") == mia.list_namespaces() == []
    mia.delete(("users", "otto"), "pin")
    assert otto.get(("users", "otto"), "pin").value == {"text": "under the blue pot"}
    assert [item.namespace for item in vault.items.list("mia")] == [("openai-agents", "s")]


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\ud83d", "k" * 4097])
def test_what_is_no_name_is_no_key_and_no_label(store, name):
    for place in ((("notes",), name), ((f"notes{name}" if name.strip() else name,), "k")):
        with pytest.raises((InvalidInput, InvalidNamespaceError)):
            store.put(*place, {"a": 1})
    assert store.search(()) == []


def test_a_store_of_nobody_is_refused(vault):
    for nobody in ("", " "):
        with pytest.raises(InvalidInput, match="a user is named"):
            AicoStore(vault, user=nobody)


def test_what_is_forgotten_is_gone_from_the_store(vault, store):
    store.put(("m",), "a", {"text": "Mia lives in Lisbon"})
    store.put(("m",), "b", {"text": "Mia plays the viola"})
    receipt = vault.memory.forget("mia", about="Lisbon")
    assert (receipt.removed["items"], receipt.verify()) == (1, True)
    assert [item.key for item in store.search(("m",), query="Lisbon")] == ["b"]


def test_it_takes_an_awaited_vault_too(tmp_path):
    async def program():
        async with aico.aio.open(tmp_path / "v", passphrase="x", settings=aico.testing.cheap_settings()) as companion:
            store = AicoStore(companion, user="mia")
            await store.aput(("a",), "k", {"n": 1})
            return await store.aget(("a",), "k")

    assert asyncio.run(program()).value == {"n": 1}


def test_a_graph_remembers_across_threads_and_processes_of_its_own(tmp_path):
    """The shape of LangGraph's own example of long-term memory, with the store changed."""
    pytest.importorskip("langgraph.graph", reason="graphs need the group `frameworks`")
    from langgraph.graph import START, MessagesState, StateGraph
    from langgraph.runtime import Runtime

    def answer(state: MessagesState, runtime: Runtime) -> dict:
        said = state["messages"][-1].content
        known = runtime.store.search(("memories", "1"), query=said)
        if "remember" in said.lower():
            runtime.store.put(("memories", "1"), "name", {"data": "User name is Bob"})
        return {"messages": [("ai", " ".join(item.value["data"] for item in known) or "I do not know yet")]}

    def chat(text: str) -> str:
        with aico.open(tmp_path / "v", passphrase="x", settings=aico.testing.cheap_settings()) as companion:
            builder = StateGraph(MessagesState)
            builder.add_node(answer)
            builder.add_edge(START, "answer")
            graph = builder.compile(store=AicoStore(companion, user="bob"))
            return graph.invoke({"messages": [("user", text)]})["messages"][-1].content

    assert chat("Hi! Remember: my name is Bob") == "I do not know yet"
    assert chat("What is my name?") == "User name is Bob"
