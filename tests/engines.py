"""Which engine a test's databases are made on, where the test itself names none."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from aico.data.libsql import EncryptedLibSQLConnection, LibSQLConnection
from aico.settings import Settings

ENGINES = ["sqlite", "libsql"]


def made_on(engine: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """From here on, vaults and databases are made on `engine` unless they say otherwise. Skips where it is not there."""
    if engine == "libsql":
        pytest.importorskip("libsql", reason="the engine libsql needs the extra aico[libsql]")
    made: list[Callable[..., Any]] = [Settings.__init__, LibSQLConnection.__init__, EncryptedLibSQLConnection.__init__]
    for make in made:
        assert inspect.signature(make).parameters["engine"].default == "sqlite"
        monkeypatch.setitem(make.__kwdefaults__, "engine", engine)
    return engine
