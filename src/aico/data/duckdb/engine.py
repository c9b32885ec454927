"""How DuckDB is opened: in memory, with nothing that reaches a file or an extension, and no way back."""

from typing import TYPE_CHECKING

from aico.errors import MissingExtra

if TYPE_CHECKING:
    import duckdb

_THREADS = 2


def locked_down(memory_mib: int) -> "duckdb.DuckDBPyConnection":
    """A DuckDB of its own. Raises MissingExtra without DuckDB or Arrow."""
    try:
        import duckdb
        import pyarrow  # noqa: F401
    except ImportError as exc:
        raise MissingExtra(
            "analytics needs DuckDB and Arrow; nothing was read", hint="pip install 'aico[analytics]'"
        ) from exc
    engine = duckdb.connect(
        ":memory:",
        config={
            "temp_directory": "",
            "memory_limit": f"{memory_mib}MiB",
            "threads": _THREADS,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "default_null_order": "sqlite",  # a statement gives its rows in one order, whichever engine answers
        },
    )
    engine.execute("SET enable_external_access = false")  # cannot be switched on again while it runs
    engine.execute("SET lock_configuration = true")  # last: nothing can be set after it
    return engine
