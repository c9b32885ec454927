"""What an import tells: what was added, what was there, what was left out and why."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Self

from aico.errors import InvalidInput

_OF_ONE = "; nothing was written"


class BadRecord(InvalidInput):
    """A piece of the input that cannot be taken; `number` counts its `unit` ("line", "conversation") from 1 in `file`.

    `field` is empty where the whole piece is meant. No message repeats what the piece says.
    """

    def __init__(self, number: int, field: str, problem: str, *, unit: str = "line", file: str = "") -> None:
        problem = problem.removesuffix(_OF_ONE)  # others may have been; the report says what was
        where = f"{unit} {number}, field {field}" if field else f"{unit} {number}"
        super().__init__(
            f"{file + ', ' if file else ''}{where}: {problem}",
            hint=f"correct the {unit} and import again, or leave such out with --skip-bad",
        )
        self.line, self.field, self.problem, self.unit, self.file = number, field, problem, unit, file

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[int, str, str]]:
        return partial(type(self), unit=self.unit, file=self.file), (self.line, self.field, self.problem)


@dataclass
class ImportReport:
    """What an import did. Every good message, line or row is in exactly one of the first three counts."""

    added: int = 0
    repeated: int = 0
    forgotten: int = 0
    bad: list[BadRecord] = field(default_factory=list)
    ignored_fields: Counter[str] = field(default_factory=Counter)
    """Keys that mean nothing here, with how many lines had them."""
    left_out: Counter[str] = field(default_factory=Counter)
    """What is in the input and was not taken, by kind, such as "images" or "messages of other branches"."""
    format: str = "jsonl"
    """What the input was taken for: "chatgpt", "claude", "jsonl", "aico" or "aico-upstream"."""
    conversations: int = 0
    """Conversations read from a product's export."""
    by_kind: Counter[str] = field(default_factory=Counter)
    """Of an aico export: records added, by kind."""
