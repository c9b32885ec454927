"""Forgetting through the tools: nothing goes that was not shown, whatever happens between the preview and the yes."""

import pytest

from aico.errors import InvalidInput, NotAsShown, NotFound
from aico.mcp.tools import FORGOTTEN_SHOWN, TOOLS, Memory, Scope
from aico.testing import temporary_vault

[FORGET] = [tool for tool in TOOLS if tool.name == "forget"]
SECRET = "private dentist appointment on Monday"


@pytest.fixture
def vault():
    with temporary_vault() as vault:
        vault.memory.record("mia", "Good morning!", conversation="work")
        yield vault


@pytest.fixture
def memory(vault):
    return Memory(vault, Scope("mia"))


def forget(memory, **asked):
    return memory.call(FORGET, asked)


def test_what_else_carries_the_content_is_shown_and_its_like_is_part_of_the_code(vault, memory):
    vault.preferences.set("mia", "companion.pet", "walrus")
    vault.items.put("mia", ("langgraph", "plans"), "k", {"t": "walrus budget"})
    shown = forget(memory, about="walrus")
    assert (shown["messages"], shown["facts"], shown["traces"], shown["left"]) == (0, 0, 2, 0)
    assert [(one["kind"], one["table"]) for one in shown["items"]] == [("trace", "items"), ("trace", "preferences")]
    assert "walrus budget" in shown["items"][0]["text"]
    vault.items.put("mia", ("langgraph", "plans"), "k", {"t": "walrus budget, and more"})
    with pytest.raises(InvalidInput, match="exactly this"):
        forget(memory, about="walrus", confirm=shown["confirm"])
    gone = forget(memory, about="walrus", confirm=forget(memory, about="walrus")["confirm"])
    assert (gone["preview"], gone["traces"], vault.items.list("mia"), vault.preferences.list("mia")) == (
        False,
        2,
        [],
        [],
    )


def test_the_code_of_one_wish_confirms_no_other_that_finds_the_same(memory):
    shown = forget(memory, about="zebra")
    for other in ({"about": "giraffe"}, {"conversation": "nowhere"}, {"about": "zebra", "conversation": "work"}):
        with pytest.raises(InvalidInput, match="exactly this"):
            forget(memory, **other, confirm=shown["confirm"])


def test_what_is_recorded_between_the_look_and_the_forgetting_is_not_forgotten(vault, memory, monkeypatch):
    vault.memory.record("mia", "giraffe one", conversation="c")
    shown, real = forget(memory, about="giraffe"), vault.memory.forget

    def raced(user, **asked):
        found = real(user, **asked)
        if asked.get("preview"):
            vault.memory.record("mia", "giraffe two, never shown", conversation="c")
        return found

    monkeypatch.setattr(vault.memory, "forget", raced)
    with pytest.raises(NotAsShown, match="nothing was forgotten"):
        forget(memory, about="giraffe", confirm=shown["confirm"])
    assert [one.text for one in vault.memory.recent("mia", "c")] == ["giraffe one", "giraffe two, never shown"]


@pytest.mark.parametrize("count", [FORGOTTEN_SHOWN, FORGOTTEN_SHOWN + 1, 2 * FORGOTTEN_SHOWN + 10])
def test_many_are_shown_in_parts_and_none_goes_before_all_were_shown(vault, memory, count):
    for number in range(count):
        vault.memory.record("mia", f"walrus {number}", conversation="c")
    seen, answer = [], forget(memory, about="walrus")
    while answer["preview"]:
        assert answer["messages"] == count
        assert len(vault.memory.recent("mia", "c", limit=999)) == count
        seen += answer["items"]
        assert answer["left"] == count - len(seen)
        answer = forget(memory, about="walrus", confirm=answer["confirm"])
    assert [one["text"] for one in seen] == [f"walrus {number}" for number in range(count)]
    assert (answer["messages"], vault.memory.recent("mia", "c")) == (count, [])


def test_a_client_held_to_one_conversation_removes_nothing_elsewhere_by_saying_the_same(vault):
    held = Memory(vault, Scope("mia", "work"))
    vault.items.put("mia", ("openai-agents", "s"), "k", {"content": SECRET})
    vault.preferences.set("mia", "companion.note", SECRET)
    vault.conversations.set_title("mia", "work", f"About a {SECRET}")
    home = vault.memory.record("mia", SECRET, conversation="home")
    vault.album.note("mia", home, f"not to forget: {SECRET}")
    mine = vault.memory.record("mia", SECRET, conversation="work")
    with pytest.raises(NotFound):
        forget(held, id=home)
    shown = forget(held, id=mine)
    assert [(one.get("table"), one["text"]) for one in shown["items"]] == [
        (None, SECRET),
        ("conversations", f"About a {SECRET}"),
    ]
    forget(held, id=mine, confirm=shown["confirm"])
    assert len(vault.items.list("mia")) == len(vault.preferences.list("mia")) == 1
    assert vault.album.get("mia", home).marks.note == f"not to forget: {SECRET}"
    assert [one.title for one in vault.conversations.list("mia") if one.name == "work"] == [None]


def test_a_client_is_held_to_a_conversation_however_its_name_is_typed(vault):
    composed, apart = "Tagebücher", "Tagebu\u0308cher"
    mine = vault.memory.record("mia", "the red parrot", conversation=composed)
    for held_to in (composed, apart):
        held = Memory(vault, Scope("mia", held_to))
        for asked in (composed, apart):
            assert forget(held, about="parrot", conversation=asked)["messages"] == 1
        assert forget(held, id=mine)["messages"] == 1
