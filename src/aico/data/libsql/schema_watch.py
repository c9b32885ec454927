"""Notices, before each write, that another process changed the tables under this one.

SQLite itself only makes its statements anew and goes on: a process of an older release would then write rows that the
newer tables' rules have never seen.
"""

from aico.data.libsql.engine import EngineConnection
from aico.errors import SchemaChanged


class SchemaWatch:
    """Compares what this process was built on with the database's history.

    Costs one PRAGMA a transaction (5 µs); the history itself is read only when SQLite's own counter of schema changes
    has moved. What another process does to schemas that this one does not use is no reason to stop.
    """

    def __init__(self) -> None:
        self._expected: dict[str, int] = {}  # replaced whole, never changed: other threads are reading it
        self._seen: tuple[int, dict[str, int]] | None = None

    def expect(self, schema: str, version: int | None) -> int | None:
        """From now on write only while `schema` (as the history calls it) is at `version`; None stops looking.

        Returns what was expected before.
        """
        others = {name: known for name, known in self._expected.items() if name != schema}
        before = self._expected.get(schema)
        self._expected = others if version is None else {**others, schema: version}
        return before

    def check(self, connection: EngineConnection) -> None:
        """Raise SchemaChanged if a schema that this process uses has another version. Call inside a transaction."""
        expected = self._expected
        if not expected:
            return
        counter = connection.schema_version()
        if self._seen is not None and self._seen[0] == counter and self._seen[1] is expected:
            return
        found = dict[str, int](connection.rows("SELECT schema, max(version) FROM schema_history GROUP BY schema"))
        for schema, version in expected.items():
            if found.get(schema, 0) != version:
                raise SchemaChanged(
                    f"another process brought schema {schema!r} to version {found.get(schema, 0)} while it was open here "
                    f"at version {version}; nothing was written",
                    hint="close the vault and open it again; update aico if it is then refused as too new",
                )
        self._seen = (counter, expected)
