"""What a statement may touch, decided by SQLite itself while it compiles it: no text is searched for words.

SQLite asks its authorizer about everything that a statement, and every trigger and view it sets in motion, would read or
change. Whatever a rule does not name is refused.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import apsw

from aico.data.libsql.definitions import owned_by

Rule = Callable[[int, str, str, str | None], bool]
"""(operation, first, second, innermost trigger or view) → whether it may be. Names that are missing are empty."""

FEED_EVENTS = ("insert", "update", "delete")
SELECTING = frozenset({apsw.SQLITE_SELECT, apsw.SQLITE_RECURSIVE})
_ROWS = frozenset({apsw.SQLITE_INSERT, apsw.SQLITE_UPDATE, apsw.SQLITE_DELETE})
_ON_OWN_TABLE = frozenset(  # the table is the second name
    {apsw.SQLITE_CREATE_TRIGGER, apsw.SQLITE_DROP_TRIGGER, apsw.SQLITE_CREATE_INDEX, apsw.SQLITE_DROP_INDEX}
)
_OWN_OBJECT = frozenset(
    {
        apsw.SQLITE_CREATE_TABLE,
        apsw.SQLITE_DROP_TABLE,
        apsw.SQLITE_CREATE_VIEW,
        apsw.SQLITE_DROP_VIEW,
        apsw.SQLITE_REINDEX,
    }
)
_SCHEMA_TABLES = frozenset({"sqlite_master", "sqlite_temp_master"})
_STATISTICS = frozenset({"sqlite_stat1", "sqlite_stat4"})
FUNCTIONS_REFUSED = frozenset({"load_extension", "fts3_tokenizer"})
TABLE_FUNCTIONS = frozenset({"json_each", "json_tree"})
_PRAGMAS_THAT_READ = frozenset(
    {
        "compile_options",
        "foreign_key_list",
        "freelist_count",
        "index_info",
        "index_list",
        "index_xinfo",
        "page_count",
        "table_info",
        "table_list",
        "table_xinfo",
    }
)


class Guard:
    """One rule, at work on one statement. `refused` says what the statement would have done, in SQLite's words."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self.refused = ""

    def __call__(
        self, operation: int, first: str | None, second: str | None, database: str | None, inner: str | None
    ) -> int:
        if operation == apsw.SQLITE_ALTER_TABLE:  # the one that names its database first
            database = first
        ours = database in (None, "main") or first in _SCHEMA_TABLES
        if ours and self._rule(operation, first or "", second or "", inner):
            return apsw.SQLITE_OK
        if not self.refused:
            self.refused = _described(operation, first, second, inner)
        return apsw.SQLITE_DENY


def _described(operation: int, first: str | None, second: str | None, inner: str | None) -> str:
    """In SQLite's words, such as "READ messages text"; without what may be a value."""
    what = str(apsw.mapping_authorizer_function[operation]).removeprefix("SQLITE_").replace("_", " ")
    if operation in (apsw.SQLITE_ATTACH, apsw.SQLITE_DETACH):
        first = None
    if operation == apsw.SQLITE_PRAGMA:
        second = None
    return " ".join(filter(None, (what, first, second, inner and f"in {inner}")))


@contextmanager
def guarded(connection: apsw.Connection, guard: Guard) -> Iterator[None]:
    """Let `guard` decide about what `connection` runs in the block. Everything it had compiled is compiled anew."""
    usual = connection.authorizer
    connection.authorizer = guard
    try:
        yield
    finally:
        connection.authorizer = usual


def reading(operation: int, first: str, second: str, _inner: str | None) -> bool:
    """Look at everything, change nothing."""
    if operation == apsw.SQLITE_PRAGMA:
        return first.lower() in _PRAGMAS_THAT_READ
    return operation == apsw.SQLITE_READ or _computes(operation, second)


def changing_rows(operation: int, first: str, second: str, inner: str | None) -> bool:
    """Change rows of any table as well, but no table: those come from schemas, and so does their history."""
    if operation in _ROWS:
        return first != "schema_history" and not first.startswith("sqlite_")
    return reading(operation, first, second, inner)


def using(plugin: str) -> Rule:
    """Read and change the rows of the plugin's own tables."""

    def rule(operation: int, first: str, second: str, inner: str | None) -> bool:
        if operation == apsw.SQLITE_INSERT and first == "change_feed":
            return inner is not None and _is_feed_trigger(plugin, inner)
        if operation in _ROWS:
            return owned_by(plugin, first)
        if operation == apsw.SQLITE_READ:
            return owned_by(plugin, first) or first in TABLE_FUNCTIONS
        return _computes(operation, second)

    return rule


def defining(plugin: str) -> Rule:
    """Make, change and drop the plugin's own tables too: the rule for its migrations. No recursion: they end."""
    use = using(plugin)

    def rule(operation: int, first: str, second: str, inner: str | None) -> bool:
        if operation == apsw.SQLITE_RECURSIVE:
            return False
        if first in _SCHEMA_TABLES:  # SQLite's own bookkeeping: a statement that names them is refused by itself
            return operation in _ROWS or operation == apsw.SQLITE_READ
        if first in _STATISTICS:  # swept when a table is dropped; samples of other tables' values are in them
            return operation == apsw.SQLITE_DELETE or (operation == apsw.SQLITE_READ and second in ("tbl", "idx"))
        if operation == apsw.SQLITE_ALTER_TABLE:
            return owned_by(plugin, second)
        if operation == apsw.SQLITE_CREATE_TRIGGER and _is_feed_trigger(plugin, first):
            return False  # these names may write to the change feed: we alone make them
        if operation in _ON_OWN_TABLE:
            return owned_by(plugin, second) and _is_own_or_automatic(plugin, first)
        if operation in _OWN_OBJECT:
            return _is_own_or_automatic(plugin, first)
        return use(operation, first, second, inner)

    return rule


def _computes(operation: int, function: str) -> bool:
    if operation == apsw.SQLITE_FUNCTION:
        return function.lower() not in FUNCTIONS_REFUSED
    return operation in SELECTING


def _is_feed_trigger(plugin: str, name: str) -> bool:
    return owned_by(plugin, name) and name.endswith(tuple(f"_feeds_{event}" for event in FEED_EVENTS))


def _is_own_or_automatic(plugin: str, name: str) -> bool:
    return owned_by(plugin, name.removeprefix("sqlite_autoindex_"))
