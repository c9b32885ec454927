"""What a schema is: a name, and the steps that made its tables, from version 1 on."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from aico.errors import InvalidInput

SchemaType = Literal["core", "plugin"]
PLUGIN = "plugin:"
"""What the history writes before a plugin's name: an unknown name without it is a core schema of a newer release."""
_PLUGIN_NAME = re.compile(r"[a-z][a-z0-9]{0,31}")
_RESERVED = frozenset({"aico", "core", "plugin", "schema", "sqlite"})


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """One step of a schema.

    `rests_on` names versions of other core schemas that have to stay as long as this one is there. `rollback_statements`
    undo it; None says that it cannot be undone. `captures` names the tables of which every
    change goes to the change feed, from this version on; each has a 16-byte `id` column. Their triggers are generated,
    and made anew when a later version adds columns.
    """

    version: int
    name: str
    description: str = ""
    sql_statements: Sequence[str] = ()
    rollback_statements: Sequence[str] | None = None
    captures: Sequence[str] = ()
    rests_on: Mapping[str, int] = field(default_factory=dict)

    def checksum(self) -> str:
        """SHA-256 over everything that changes the database.

        Not over the rollback, nor over what it rests on: if they turn out wrong they may be mended, because no database
        is made of them.
        """
        return hashlib.sha256(msgspec.json.encode([self.version, self.sql_statements, self.captures])).hexdigest()


Definitions = dict[int, SchemaVersion]


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """A schema and its history, by version from 1 on without a gap."""

    name: str
    schema_type: SchemaType
    definitions: Definitions
    priority: int

    @property
    def history_name(self) -> str:
        """What the database's history calls it."""
        return f"{PLUGIN}{self.name}" if self.schema_type == "plugin" else self.name

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{'plugin' if self.schema_type == 'plugin' else 'schema'} {self.name!r}"

    @property
    def newest(self) -> int:
        """The version that this code brings it to."""
        return len(self.definitions)

    def captured(self, version: int) -> list[str]:
        """The tables that are in the change feed at `version`."""
        steps = sorted(self.definitions.items())
        return list(dict.fromkeys(table for number, step in steps if number <= version for table in step.captures))


def check_definitions(schema: RegisteredSchema) -> None:
    """Raise InvalidInput for a gap in the versions, or a plugin whose names are not its own."""
    numbers = list(range(1, len(schema.definitions) + 1))
    if sorted(schema.definitions) != numbers or any(step.version != n for n, step in schema.definitions.items()):
        raise InvalidInput(f"schema {schema.name!r} needs the versions 1, 2, 3 … without a gap; it was not registered")
    if schema.schema_type != "plugin":
        return
    if not _PLUGIN_NAME.fullmatch(schema.name) or schema.name in _RESERVED:
        raise InvalidInput(
            f"{schema.name!r} cannot be a plugin's name; it was not registered",
            hint="up to 32 lower-case letters and digits, beginning with a letter and without an underscore: "
            f"its tables are called name_…; {', '.join(sorted(_RESERVED))} are taken",
        )
    for table in schema.captured(schema.newest):
        if not owned_by(schema.name, table):
            raise InvalidInput(f"plugin {schema.name!r} cannot capture {table!r}; it was not registered")


def owned_by(plugin: str, name: str) -> bool:
    """Whether a table, index, trigger or view of this name is the plugin's.

    A plugin's name has no underscore, so a table has one owner: `a_b_c` belongs to `a`, and nobody is called `a_b`.
    """
    return re.fullmatch(rf"{plugin}_[a-z0-9_]+", name) is not None
