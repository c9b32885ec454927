"""SQL of somebody else's, run on views that hold one person's rows and on nothing else. No text is searched for words.

    messages            what the statement names: a temporary view of the person's rows
      └─ rows_4f1c…     the same under a name drawn for this one statement
           └─ main.messages WHERE user_id = …

SQLite asks its authorizer about every column that a statement would read, and names the innermost view it stands in. Only
what stands in a view of a drawn name may read the core tables. (Of an ordinary name that would not do: SQLite names the
table expressions of WITH as well, which a statement may call what it likes.) The connection is read-only besides.
"""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import apsw

from aico.data.libsql.bounded_functions import BOUNDED, bound_functions
from aico.data.libsql.connection import LibSQLConnection
from aico.data.libsql.engine_words import repeated
from aico.data.libsql.guard import FUNCTIONS_REFUSED, SELECTING, TABLE_FUNCTIONS, Guard, guarded
from aico.data.libsql.statements import Value, first_word, is_blank
from aico.errors import Busy, InvalidInput

STEPS_BETWEEN_LOOKS, STEPS_WITH_FUNCTIONS = 1_000, 20
"""Of SQLite's machine, between two looks at the clock; the second where the statement calls a function that may be long
at work on a value of `VALUE_MAX_BYTES`. SQLite does not look inside a function."""
VALUE_MAX_BYTES = 1024 * 1024
"""What a value, or a row that is sorted, may grow to; as much beside the longest value where the person has long ones."""
PATTERN_MAX_BYTES = 200
"""Of LIKE and GLOB, whose work grows with the product of value and pattern."""
ARGUMENTS_MAX = 100
ANSWER_MAX_BYTES = 64 * 1024 * 1024
_QUICK_FUNCTIONS = frozenset(
    [
        "abs", "avg", "coalesce", "count", "date", "datetime", "iif", "ifnull", "julianday", "length", "lower", "max", "min",
        "nullif", "octet_length", "round", "strftime", "substr", "substring", "sum", "total", "trim", "typeof", "unixepoch", "upper",
    ]
)  # fmt: skip
_NOT_OF_PERSONAL_USE = frozenset({"json_patch", "jsonb_patch"})
"""Refused: their work grows with the product of their arguments, and nothing else could do it in their place."""
_READING = frozenset({"SELECT", "WITH", "VALUES"})


@dataclass(frozen=True, slots=True)
class Examined:
    """What a statement would do, by SQLite's own account: the views and columns it reads, the functions it calls, and
    what the columns of its answer are called."""

    tables: frozenset[str]
    columns: frozenset[tuple[str, str]]
    functions: frozenset[str]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a statement gave: names of columns, rows, and whether there were more."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]] = field(repr=False)
    cut: bool


class PersonalSql:
    """Runs statements on views. Any thread may use it.

    `views` has for each name the SELECT that gives one person's rows, with `{user}` where their id stands; `longest` is
    the SELECT that gives the size of the longest value in them, with the id as its parameter.
    """

    def __init__(self, connection: LibSQLConnection, views: Mapping[str, str], *, longest: str) -> None:
        self._connection, self._views, self._longest = connection, views, longest

    def examine(self, user_id: bytes, sql: str, parameters: Sequence[Value] = ()) -> Examined:
        """What the statement reads, without running it. Raises InvalidInput for one that is refused or no SQL."""
        names = list[str]()

        def go_no_further(cursor: apsw.Cursor) -> None:
            names.extend(name for name, _ in cursor.get_description())
            raise _OnlyExamined

        with self._on_views(user_id) as (reader, guard):
            with suppress(_OnlyExamined):
                _checked(reader, guard, _one_reading_statement(sql), parameters, go_no_further)
            return Examined(frozenset(guard.tables), frozenset(guard.columns), frozenset(guard.functions), tuple(names))

    def run(
        self, user_id: bytes, sql: str, parameters: Sequence[Value] = (), *, rows_max: int, seconds_max: float
    ) -> Reading:
        """Run one statement that reads, and give back its first `rows_max` rows.

        Raises InvalidInput for anything else and for what would read more than this person's rows, Busy after
        `seconds_max` seconds: it may take a few more where a function is at work on long values. Nothing can be
        changed by it.
        """
        asked = _Asked(_one_reading_statement(sql), parameters, rows_max, _Clock(seconds_max))
        value_max_bytes = VALUE_MAX_BYTES
        with suppress(_OutgrewItsLimit):
            return self._run(user_id, asked, value_max_bytes)
        longest = self._longest_bytes(user_id)
        if longest > VALUE_MAX_BYTES // 2:
            value_max_bytes += longest
            with suppress(_OutgrewItsLimit):
                return self._run(user_id, asked, value_max_bytes)
        raise InvalidInput(
            f"a value grew beyond {value_max_bytes:,} bytes; nothing was changed",
            hint="ask for rows instead of joining them to one text",
            field="sql",
        )

    def _longest_bytes(self, user_id: bytes) -> int:
        [(longest,)] = self._connection.fetch_all(self._longest, (user_id,))
        return int(longest or 0)

    def _run(self, user_id: bytes, asked: "_Asked", value_max_bytes: int) -> Reading:
        try:
            return self._run_once(user_id, asked, value_max_bytes, apart=False)
        except _NeedsBoundedFunctions:
            return self._run_once(user_id, asked, value_max_bytes, apart=True)

    def _run_once(self, user_id: bytes, asked: "_Asked", value_max_bytes: int, *, apart: bool) -> Reading:
        clock, columns = asked.clock, list[str]()
        with self._on_views(user_id, apart=apart) as (reader, guard), _limited(reader, value_max_bytes):
            if apart:
                bound_functions(reader, clock.check, value_max_bytes=value_max_bytes)

            def before_the_first_row(cursor: apsw.Cursor) -> None:
                if not apart and guard.functions & BOUNDED:
                    raise _NeedsBoundedFunctions
                if guard.functions - _QUICK_FUNCTIONS:
                    reader.set_progress_handler(clock.is_over, STEPS_WITH_FUNCTIONS)
                columns.extend(name for name, _ in cursor.get_description())

            reader.set_progress_handler(clock.is_over, STEPS_BETWEEN_LOOKS)
            try:
                cursor = _checked(reader, guard, asked.statement, asked.parameters, before_the_first_row)
                rows, more = _first_rows(cursor, asked.rows_max)
                cursor.close(True)
            except apsw.InterruptError:
                raise clock.stopped() from None
            except apsw.TooBigError:
                raise _OutgrewItsLimit from None
            except apsw.SQLError as exc:  # it runs: what it says may quote a row
                raise _refused(repeated(str(exc))) from None
            finally:
                reader.set_progress_handler(None)
        clock.check()
        return Reading(tuple(columns), rows, cut=more)

    @contextmanager
    def _on_views(self, user_id: bytes, *, apart: bool = False) -> "Iterator[tuple[apsw.Connection, _Personal]]":
        """A connection on which these views are, and nothing else may be read."""
        drawn = {name: f"rows_{secrets.token_hex(16)}" for name in self._views}
        selects = {name: select.format(user=f"x{user_id.hex()!r}") for name, select in self._views.items()}
        with self._connection.raw_reader(list(selects.values()), apart=apart) as reader:
            reader.pragma("query_only", False)
            try:
                for name, select in selects.items():
                    reader.execute(f"CREATE TEMP VIEW {drawn[name]} AS {select}")
                    reader.execute(f"CREATE TEMP VIEW {name} AS SELECT * FROM {drawn[name]}")
                reader.pragma("query_only", True)
                guard = _Personal(drawn, _real_names(reader))
                with guarded(reader, guard):
                    yield reader, guard
            finally:
                reader.pragma("query_only", False)
                for name in (*drawn, *drawn.values()):
                    reader.execute(f"DROP VIEW IF EXISTS temp.{name}")
                reader.pragma("query_only", True)


class _Clock:
    """When a statement's time is over."""

    def __init__(self, seconds_max: float) -> None:
        self._seconds_max, self._deadline = seconds_max, time.monotonic() + seconds_max

    def is_over(self) -> bool:
        return time.monotonic() > self._deadline

    def check(self) -> None:
        """Raises Busy."""
        if self.is_over():
            raise self.stopped()

    def stopped(self) -> Busy:
        return Busy(
            f"the statement took longer than {self._seconds_max:g} s and was stopped; nothing was changed",
            hint="ask for less, or give it more time",
        )


@dataclass(frozen=True, slots=True)
class _Asked:
    statement: str
    parameters: Sequence[Value]
    rows_max: int
    clock: _Clock


class _OnlyExamined(Exception):
    """The statement is compiled, and nothing of it is to run."""


class _NeedsBoundedFunctions(Exception):
    """The statement calls what must be put in the place of SQLite's functions, and nothing of it has run."""


class _OutgrewItsLimit(Exception):
    """A value, or a row that was to be sorted, is longer than it may be."""


@contextmanager
def _limited(reader: apsw.Connection, value_max_bytes: int) -> Iterator[None]:
    """SQLite's own limits for the block: of values, patterns and arguments."""
    wanted = {
        apsw.SQLITE_LIMIT_LENGTH: value_max_bytes,
        apsw.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: PATTERN_MAX_BYTES,
        apsw.SQLITE_LIMIT_FUNCTION_ARG: ARGUMENTS_MAX,
    }
    usual = {limit: reader.limit(limit, value) for limit, value in wanted.items()}
    try:
        yield
    finally:
        for limit, value in usual.items():
            reader.limit(limit, value)


class _Personal(Guard):
    """Lets a statement read its person's views and compute; notes what it reads. Everything else is refused."""

    def __init__(self, drawn: Mapping[str, str], real: frozenset[str]) -> None:
        super().__init__(lambda *_: False)
        self._views, self._real = frozenset(drawn), real
        self._drawn = {under: view for view, under in drawn.items()}
        self.tables, self.columns, self.functions = set[str](), set[tuple[str, str]](), set[str]()

    def __call__(
        self, operation: int, first: str | None, second: str | None, database: str | None, inner: str | None
    ) -> int:
        if self._allows(operation, first or "", second or "", database, inner):
            return apsw.SQLITE_OK
        return super().__call__(operation, first, second, database, inner)

    def _allows(self, operation: int, first: str, second: str, database: str | None, inner: str | None) -> bool:
        if operation == apsw.SQLITE_FUNCTION:
            if inner not in self._drawn:
                self.functions.add(second.lower())
            return second.lower() not in FUNCTIONS_REFUSED | _NOT_OF_PERSONAL_USE
        if operation != apsw.SQLITE_READ:
            return operation in SELECTING
        if database == "temp" and first in self._views:
            self.columns.add((first, second))
            return True
        if database == "temp" and first in self._drawn:  # asked about too where no column of the view is read
            self.tables.add(self._drawn[first])
            return True
        if first in TABLE_FUNCTIONS or inner in self._drawn:
            return True
        return not second and database is None and self._is_made_up(first.lower())

    def _is_made_up(self, name: str) -> bool:
        """Whether a source whose columns nobody reads can only be a table expression of the statement itself: SQLite
        asks about those too, by the name the statement gave them."""
        return name not in self._real and not name.startswith(("sqlite_", "pragma_"))


def _real_names(reader: apsw.Connection) -> frozenset[str]:
    """Whatever goes by a name in this database without the statement's doing."""
    tables = "SELECT lower(name) FROM sqlite_schema UNION ALL SELECT lower(name) FROM pragma_module_list"
    return frozenset(name for (name,) in reader.execute(tables))


def _first_rows(cursor: apsw.Cursor, rows_max: int) -> tuple[list[tuple[Any, ...]], bool]:
    """The first rows, and whether there are more. Raises InvalidInput where they outgrow what an answer may be."""
    rows, size_bytes = list[tuple[Any, ...]](), 0
    for row in cursor:
        if len(rows) == rows_max:
            return rows, True
        rows.append(row)
        size_bytes += sum(len(value) for value in row if isinstance(value, str | bytes))
        if size_bytes > ANSWER_MAX_BYTES:
            raise InvalidInput(f"the answer has more than {ANSWER_MAX_BYTES:,} bytes", hint="ask for less", field="sql")
    return rows, False


def _one_reading_statement(sql: str) -> str:
    """The statement itself. Raises InvalidInput where SQLite would see another kind, or more than one."""
    if first_word(sql) not in _READING:
        raise InvalidInput("only a statement that reads is answered, such as SELECT; nothing was run", field="sql")
    return sql


def _checked(
    reader: apsw.Connection,
    guard: _Personal,
    sql: str,
    parameters: Sequence[Value],
    before_the_first_row: Callable[[apsw.Cursor], None],
) -> apsw.Cursor:
    """Begin the statement. `before_the_first_row` is called once it is compiled."""
    compiled = False

    def look_at(traced: apsw.Cursor, statement: str, _bindings: object) -> bool:
        nonlocal compiled
        compiled = True
        if not is_blank(statement) and not is_blank(sql[len(statement) :]):
            raise InvalidInput("one statement is answered at a time, here are several; nothing was run", field="sql")
        before_the_first_row(traced)
        return True

    cursor = reader.cursor()
    cursor.exec_trace = look_at
    try:
        return cursor.execute(sql, parameters, can_cache=False)  # SQLite asks the guard about what it compiles
    except (apsw.AuthError, apsw.SQLError, apsw.BindingsError) as exc:
        if guard.refused:
            raise InvalidInput(
                f"the statement was refused, it would {guard.refused}; nothing was run",
                hint="it may read the views of this person, and nothing else",
                field="sql",
            ) from None
        raise _refused(repeated(str(exc)) if compiled else str(exc)) from None


def _refused(words: str) -> InvalidInput:
    return InvalidInput(f"this is not SQL that can be answered: {words}; nothing was changed", field="sql")
