"""mem0's filters: who is meant, and which of their memories."""

from collections.abc import Callable, Mapping
from typing import Any

from aico.errors import InvalidInput

SCOPES = ("user_id", "agent_id", "run_id")
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda value, operand: value == operand,
    "ne": lambda value, operand: value != operand,
    "in": lambda value, operand: value in operand,
    "nin": lambda value, operand: value not in operand,
    "gt": lambda value, operand: value > operand,
    "gte": lambda value, operand: value >= operand,
    "lt": lambda value, operand: value < operand,
    "lte": lambda value, operand: value <= operand,
    "contains": lambda value, operand: operand in value,
    "icontains": lambda value, operand: operand.casefold() in value.casefold(),
}


def scope_of(filters: Mapping[str, Any] | None) -> str:
    """The user of the vault whom filters name: their user, else their agent, else their run. Raises InvalidInput.

    An agent's and a run's own memories belong to a user of the vault called "agent ID" or "run ID": with the space that
    no id of mem0's may hold, so that no person is one of them.
    """
    if filters is not None and not isinstance(filters, Mapping):
        raise InvalidInput("filters are an object of names and values; nothing was done", field="filters")
    for name in SCOPES:
        id_ = trimmed((filters or {}).get(name), name)
        if id_ is not None:
            return id_ if name == "user_id" else f"{name.removesuffix('_id')} {id_}"
    raise InvalidInput(
        "one of user_id, agent_id and run_id must be named; nothing was done", hint="filters={'user_id': …}"
    )


def ids_of(scope: str) -> dict[str, str]:
    """The id for which a user of the vault stands: the way back from `scope_of`."""
    kind, space, id_ = scope.partition(" ")
    return {f"{kind}_id": id_} if space and kind in ("agent", "run") else {"user_id": scope}


def trimmed(id_: object, name: str) -> str | None:
    """An id as mem0 takes it: text or a number, without spaces. Raises InvalidInput."""
    if id_ is None:
        return None
    text = str(id_).strip() if isinstance(id_, str | int) and not isinstance(id_, bool) else ""
    if not text or any(letter.isspace() for letter in text):
        raise InvalidInput(f"{name} is an id without spaces; nothing was done", field=name)
    return text


def fits(memory: Mapping[str, Any], filters: Mapping[str, Any]) -> bool:
    """Whether a memory's fields are what the filters ask for. Raises InvalidInput for an operator that there is not."""
    return all(_holds(memory, key, wanted) for key, wanted in filters.items())


def _holds(memory: Mapping[str, Any], key: str, wanted: Any) -> bool:  # any JSON
    if key in ("AND", "OR", "NOT"):
        conditions = isinstance(wanted, list) and all(isinstance(condition, Mapping) for condition in wanted)
        if not conditions or not (wanted or key == "AND"):
            raise InvalidInput(f"{key} takes a list of conditions; nothing was searched", field="filters")
        found = [fits(memory, condition) for condition in wanted]
        return all(found) if key == "AND" else any(found) if key == "OR" else not any(found)
    if key in SCOPES:
        return bool(memory.get(key) == trimmed(wanted, key))
    if wanted == "*":
        return key in memory
    if not isinstance(wanted, Mapping):
        return key in memory and bool(memory[key] == wanted)
    return all(_compared(memory.get(key), operator, operand) for operator, operand in wanted.items())


def _compared(value: Any, operator: str, operand: Any) -> bool:  # any JSON
    compare = _OPERATORS.get(operator)
    if compare is None:
        raise InvalidInput(
            f"filters know {', '.join(_OPERATORS)}, AND, OR and NOT; nothing was searched", field="filters"
        )
    try:
        return bool(compare(value, operand))
    except (TypeError, AttributeError):  # of another kind, or not there: neither more nor less
        return False
