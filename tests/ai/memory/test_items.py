"""Items: JSON under a namespace and a key comes back as it was, is found by its texts, and goes when it is told to."""

import io
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aico.data.items import Put
from aico.errors import InvalidInput, NotFound
from aico.testing import FixedClock, HashEmbedder, temporary_vault

USERS = st.sampled_from(["nell", "otto"])
LABELS = st.sampled_from(["a", "b", "a,b", '"', "é", "[", "-"])
PLACES = st.lists(LABELS, min_size=1, max_size=3).map(tuple)
KEYS = st.sampled_from(["k", "l", "café"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@pytest.fixture
def clock():
    return FixedClock()


@pytest.fixture
def vault(clock):
    with temporary_vault(clock=clock) as vault:
        yield vault


class Histories(RuleBasedStateMachine):
    """A random history against plain dictionaries, one for each of two people."""

    def __init__(self):
        super().__init__()
        self._opened = temporary_vault()
        self.items = self._opened.__enter__().items
        self.kept = {"nell": {}, "otto": {}}

    @rule(user=USERS, place=PLACES, key=KEYS, value=JSON)
    def put(self, user, place, key, value):
        self.items.put(user, place, key, value, texts=[f"{user} {key}"])
        self.kept[user][place, key] = value

    @rule(user=USERS, place=PLACES, key=KEYS)
    def delete(self, user, place, key):
        assert self.items.delete(user, place, key) == (self.kept[user].pop((place, key), self) is not self)

    @rule(user=USERS, prefix=PLACES)
    def clear(self, user, prefix):
        gone = [at for at in self.kept[user] if at[0][: len(prefix)] == prefix]
        assert self.items.clear(user, prefix) == len(gone)
        for at in gone:
            del self.kept[user][at]

    @rule(user=USERS, prefix=st.lists(LABELS, max_size=2).map(tuple))
    def look_under_a_prefix(self, user, prefix):
        under = {at: value for at, value in self.kept[user].items() if at[0][: len(prefix)] == prefix}
        assert {(item.namespace, item.key): item.value for item in self.items.list(user, prefix)} == under
        assert self.items.namespaces(user, prefix) == sorted({place for place, _ in under})
        found = self.items.search(user, f"{user} k", prefix=prefix)
        assert {(item.namespace, item.key) for item, _ in found} == under.keys()

    @invariant()
    def everything_is_at_its_place(self):
        for user, kept in self.kept.items():
            for (place, key), value in kept.items():
                found = self.items.find(user, place, key)
                assert found is not None
                assert repr(found.value) == repr(value)

    def teardown(self):
        self._opened.__exit__(None, None, None)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)


def test_what_is_appended_comes_back_in_order_and_is_popped_from_the_end(vault):
    vault.items.append("mia", ("s",), [{"n": n} for n in range(20)])
    vault.items.append("mia", ("s",), ["last"])
    assert [item.value for item in vault.items.last("mia", ("s",), 3)] == [{"n": 18}, {"n": 19}, "last"]
    popped = [vault.items.pop("mia", ("s",)) for _ in range(2)]
    assert [item and item.value for item in popped] == ["last", {"n": 19}]
    assert vault.items.pop("mia", ("t",)) is None
    assert vault.items.pop("nobody", ("s",)) is None


def test_several_puts_are_kept_all_or_none(vault):
    good, bad = Put(namespace=("a",), key="k", value=1), Put(namespace=("a",), key="l", value=float("nan"))
    with pytest.raises(InvalidInput):
        vault.items.put_many("mia", [good, bad])
    assert vault.items.list("mia") == []


@pytest.mark.parametrize(
    ("namespace", "key", "value"),
    [
        ((), "k", 1),
        ("ab", "k", 1),
        (("a", ""), "k", 1),
        (("a",), "", 1),
        (("a",), "k", {1: 2}),
        (("a",), "k", object()),
    ],
)
def test_what_cannot_be_kept_faithfully_is_refused(vault, namespace, key, value):
    with pytest.raises(InvalidInput):
        vault.items.put("mia", namespace, key, value)
    assert vault.users.list_profiles() == []


def test_a_value_may_be_large(vault):
    value = {"tool": "x" * 1_000_000}
    vault.items.put("mia", ("a",), "k", value)
    assert vault.items.find("mia", ("a",), "k").value == value


def test_what_has_a_time_to_live_is_gone_after_it_unless_it_was_asked_for(vault, clock):
    for key in ("asked", "left"):
        vault.items.put("mia", ("a",), key, 1, ttl=timedelta(minutes=10), texts=["soon over"])
    clock.move(timedelta(minutes=9))
    assert vault.items.find("mia", ("a",), "asked", refresh=True)
    clock.move(timedelta(minutes=2))
    assert [item.key for item in vault.items.list("mia")] == ["asked"]
    assert [item.key for item, _ in vault.items.search("mia", "over soon")] == ["asked"]
    assert vault.items.find("mia", ("a",), "left") is None
    vault.items.put("mia", ("a",), "other", 1)
    assert vault.connection.fetch_all("SELECT key FROM items ORDER BY key") == [("asked",), ("other",)]


@pytest.mark.parametrize("ttl", [timedelta(0), timedelta(minutes=-1), timedelta.max])
def test_an_impossible_time_to_live_is_refused(vault, ttl):
    with pytest.raises(InvalidInput):
        vault.items.put("mia", ("a",), "k", 1, ttl=ttl)


def test_words_and_meaning_find_what_another_process_would_have_written():
    embedder = HashEmbedder(synonyms={"feline": "cat"})
    with temporary_vault(embedder=embedder) as vault:
        vault.items.put("mia", ("pets",), "a", 1, texts=["my cat sleeps"])
        vault.items.put("mia", ("pets",), "b", 2, texts=["the train was late", "rain all day"])
        vault.items.put("mia", ("pets",), "c", 3)
        [(best, score), *_] = vault.items.search("mia", "feline")
        assert (best.key, 0 < score <= 1) == ("a", True)
        assert len(vault.connection.fetch_all("SELECT * FROM item_vectors")) == 3
        vault.items.put("mia", ("pets",), "a", 1, texts=["my dog barks"])
        assert len(vault.connection.fetch_all("SELECT * FROM item_vectors")) == 2
        assert "a" not in [item.key for item, _ in vault.items.search("mia", "cat")]
        vault.items.clear("mia", ("pets",))
        assert vault.connection.fetch_all("SELECT * FROM item_vectors") == []
        assert vault.items.search("mia", "dog") == []


def test_an_item_goes_with_its_memory_and_with_what_it_quotes_or_is_about(vault):
    said = vault.memory.record("mia", "The copper kettle sings before dawn.", conversation="c")
    vault.items.put("mia", ("of",), "memory", {"mood": "calm"}, memory=said)
    vault.items.put("mia", ("of",), "quote", {"x": ["He wrote: The copper kettle sings before dawn."]})
    vault.items.put("mia", ("of",), "subject", {"kettles": "a copper one"})
    vault.items.put("mia", ("of",), "else", {"kettle": "blue"})
    preview = vault.memory.forget("mia", about="copper kettles", preview=True)
    assert {trace.table for trace in preview.traces} == {"items"}
    receipt = vault.memory.forget("mia", about="copper kettles")
    assert (receipt.removed["items"], receipt.verify()) == (3, True)
    assert [item.key for item in vault.items.list("mia")] == ["else"]
    vault.memory.forget("mia", everything=True)
    assert vault.items.list("mia") == []


def test_an_item_cannot_hang_from_the_memory_of_another(vault):
    said = vault.memory.record("otto", "Mine.", conversation="c")
    with pytest.raises(NotFound):
        vault.items.put("mia", ("a",), "k", 1, memory=said)
    assert vault.items.of_memories("mia", [said]) == {}


def test_an_export_carries_items_and_brings_them_back(vault):
    said = vault.memory.record("mia", "We swam.", conversation="c")
    vault.items.put("mia", ("a", "b"), "k", {"x": [1, None]}, texts=["swimming"], ttl=timedelta(days=400))
    vault.items.put("mia", ("a",), "l", 2, memory=said)
    file = io.BytesIO()
    vault.export(file, "mia")
    with temporary_vault(clock=FixedClock()) as other:
        other.import_(io.BytesIO(file.getvalue()), kind="aico")
        assert other.items.list("mia") == vault.items.list("mia")
        assert [item.key for item, _ in other.items.search("mia", "swimming")] == ["k"]
        again = io.BytesIO()
        other.export(again, "mia")
        assert again.getvalue() == file.getvalue()
    with temporary_vault() as elsewhere:
        elsewhere.memory.record("otto", "Hello.", conversation="c")
        elsewhere.import_(io.BytesIO(file.getvalue()), "nell", kind="aico")
        assert [item.value for item in elsewhere.items.list("nell")] == [{"x": [1, None]}, 2]
        assert elsewhere.items.list("mia") == elsewhere.items.list("otto") == []
