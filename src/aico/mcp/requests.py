"""What each tool takes: one struct a tool, from which its schema is made and by which its arguments are checked."""

import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from aico.errors import InvalidInput

Limit = Annotated[int, Meta(ge=1, le=100)]
Moment = Annotated[str, Meta(description="ISO 8601 date or time")]
Id = Annotated[str, Meta(description="id of a memory, as other tools show it")]


class Arguments(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The arguments of a tool."""


class Record(Arguments):
    """Of `record`."""

    text: str
    conversation: Annotated[str, Meta(description="name of the conversation; one for each chat")]
    role: Literal["user", "assistant", "system", "tool"] = "user"
    speaker: Annotated[str | None, Meta(description="name of who speaks")] = None
    at: Moment | None = None
    source_id: Annotated[str | None, Meta(description="your id of the message: the same again changes nothing")] = None


class Remember(Arguments):
    """Of `remember`."""

    text: Annotated[str, Meta(description="one sentence, with names instead of pronouns")]
    category: str | None = None
    valid_from: Moment | None = None
    supersedes: Annotated[str | None, Meta(description="id of the fact it takes the place of")] = None
    source: Annotated[str | None, Meta(description="id of the message it is drawn from")] = None


class Recall(Arguments):
    """Of `recall`."""

    query: Annotated[str, Meta(description="the question, in whole words")]
    limit: Limit = 10
    kinds: list[Literal["message", "fact"]] | None = None
    conversation: str | None = None
    since: Moment | None = None
    until: Moment | None = None


class Recent(Arguments):
    """Of `recent`."""

    conversation: str
    limit: Limit = 20


class Context(Arguments):
    """Of `context`."""

    query: Annotated[str, Meta(description="what the user just said or asks")]
    conversation: Annotated[str | None, Meta(description="the live conversation, for its last turns")] = None
    token_budget: Annotated[int, Meta(ge=50, le=20_000)] = 1000


class Forget(Arguments):
    """Of `forget`."""

    id: Id | None = None
    about: Annotated[str | None, Meta(description="all that holds every content word of this")] = None
    conversation: str | None = None
    since: Moment | None = None
    until: Moment | None = None
    confirm: Annotated[str | None, Meta(description="the code of the preview; without it nothing is forgotten")] = None


A = TypeVar("A", bound=Arguments)


def schema_of(arguments: type[Arguments]) -> dict[str, Any]:
    """The JSON Schema of a tool's arguments, as small as it can be: an optional one may be null too, and does not say so."""
    _, components = msgspec.json.schema_components([arguments])
    schema: dict[str, Any] = components[arguments.__name__]
    return {
        "type": "object",
        "properties": {name: _small(field) for name, field in schema["properties"].items()},
        "required": schema["required"],
        "additionalProperties": False,
    }


def parsed(arguments: type[A], given: dict[str, Any] | None) -> A:
    """The arguments. Raises InvalidInput that names the field and what it takes, and repeats nothing that was given."""
    try:
        return msgspec.convert(given or {}, arguments)
    except msgspec.ValidationError as problem:  # its own message may repeat a value
        told = str(problem)
    found = re.search(r"at `\$\.(\w+)", told) or re.search(r"required field `(\w+)`", told)
    field = found[1] if found and found[1] in arguments.__struct_fields__ else ""
    if "missing required field" in told:
        reason = "it is missing"
    else:
        expected = re.match(r"Expected `[\w| ]+`(?: [<>]= \d+)?", told)
        reason = expected[0].lower() if expected else "it does not fit the tool's schema"
    raise InvalidInput(f"{field or 'arguments'}: {reason}; nothing was done", field=field)


def _small(field: dict[str, Any]) -> dict[str, Any]:
    kinds = [kind for kind in field.pop("anyOf", []) if kind != {"type": "null"}]
    told = {**field, **(kinds[0] if kinds else {})}
    return {key: value for key, value in told.items() if (key, value) != ("default", None)}
