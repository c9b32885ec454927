"""Arguments from outside: whatever comes, the vault answers or a typed error does, and none repeats what it was given."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aico.errors import AicoError, InvalidInput
from aico.mcp.requests import Recall, parsed, schema_of
from aico.mcp.tools import TOOLS, Memory, Scope
from aico.testing import temporary_vault

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = sorted({field for tool in TOOLS for field in tool.arguments.__struct_fields__})
ARGUMENTS = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), JSON, max_size=5)


@pytest.fixture(scope="module")
def memory():
    with temporary_vault() as vault:
        vault.memory.record("mia", "I moved to Lisbon.", conversation="c")
        yield Memory(vault, Scope("mia"))


@given(tool=st.sampled_from(TOOLS), arguments=ARGUMENTS)
def test_any_arguments_are_answered_or_refused_by_type(memory, tool, arguments):
    try:
        msgspec.json.encode(memory.call(tool, arguments))
    except AicoError as problem:
        assert str(problem)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "query"),
        ({"query": 7}, "query"),
        ({"query": "x", "limit": 0}, "limit"),
        ({"query": "x", "limit": "a secret"}, "limit"),
        ({"query": "x", "kinds": ["a secret"]}, "kinds"),
        ({"query": "x", "a secret": 1}, ""),
    ],
)
def test_the_error_names_the_field_and_repeats_nothing(arguments, field):
    with pytest.raises(InvalidInput) as raised:
        parsed(Recall, arguments)
    assert raised.value.field == field
    assert "secret" not in f"{raised.value}{raised.value.hint}"


@pytest.mark.parametrize("blank", ["", " ", "\t"])
def test_an_empty_name_is_no_scope(blank):
    with pytest.raises(InvalidInput, match="a user is named"):
        Scope(blank)
    with pytest.raises(InvalidInput, match="a conversation is named"):
        Scope("mia", blank)


def test_null_stands_for_what_is_not_given():
    assert parsed(Recall, {"query": "x", "since": None, "kinds": None}) == Recall(query="x")


def test_a_schema_says_what_is_required_and_nothing_twice():
    schema = schema_of(Recall)
    assert schema["required"] == ["query"]
    assert schema["properties"]["since"] == {"type": "string", "description": "ISO 8601 date or time"}
    assert schema["properties"]["limit"] == {"type": "integer", "minimum": 1, "maximum": 100, "default": 10}
