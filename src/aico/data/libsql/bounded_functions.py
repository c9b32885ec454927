"""SQLite's functions whose work grows with the product of two arguments, held to what one call may cost.

SQLite looks at the clock between the steps of its machine, never inside a function: `instr` on two values of a mebibyte
is at work for half a minute. Put in their place, each call looks at the clock and at its arguments first, and leaves the
work to SQLite itself, on a connection that has nothing else.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import apsw

from aico.errors import InvalidInput

_WORK_MAX = {
    ("instr", 2): 1_000_000_000,
    ("replace", 3): 1_000_000_000,
    ("trim", 2): 100_000_000,
    ("ltrim", 2): 100_000_000,
    ("rtrim", 2): 100_000_000,
    ("unhex", 2): 100_000_000,
}
"""By name and number of arguments: how large the product of the first two may be, for at most some half a second."""
BOUNDED = frozenset(name for name, _ in _WORK_MAX)


def bound_functions(connection: apsw.Connection, check_time: Callable[[], None], *, value_max_bytes: int) -> None:
    """Put them in the place of SQLite's, for as long as the connection lives: those do not come back on it.

    `check_time` raises where the time is over. A call that would cost too much raises InvalidInput.
    """
    worker = apsw.Connection(":memory:")
    worker.limit(apsw.SQLITE_LIMIT_LENGTH, value_max_bytes)
    for (name, count), work_max in _WORK_MAX.items():
        call = partial(_called, worker, f"SELECT {name}({', '.join('?' * count)})", name, work_max, check_time)
        connection.create_scalar_function(name, call, numargs=count, deterministic=True)


def _called(
    worker: apsw.Connection, sql: str, name: str, work_max: int, check_time: Callable[[], None], *given: Any
) -> Any:  # any value of SQLite's
    check_time()
    if _length(given[0]) * _length(given[1]) > work_max:
        raise InvalidInput(
            f"a call of {name}() would take too long on values of this length; nothing was changed",
            hint="ask it of shorter ones, or use LIKE",
            field="sql",
        )
    return worker.execute(sql, given).get


def _length(value: object) -> int:
    return len(value) if isinstance(value, str | bytes) else 1
