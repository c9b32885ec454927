"""Every example in a docstring runs, each in a vault of its own; every call that a companion's developer meets has one.

Public are the names of `aico.__all__`, and of all that an open vault offers whatever has no underscore: both are looked
up here, so a new call without an example fails, unless INSIDE says that it is for other layers. An example finds Mia
there: her id is `mia`, a message of hers `said`, and a fact `fact`; an empty `folder`, and the vault's `passphrase`.
"""

import doctest
import importlib
import inspect
import json
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import keyring
import pytest

import aico
from aico.ai.memory.embedding import Embeddings
from aico.ai.memory.indexes import Indexes
from aico.ai.memory.manager import MemoryManager
from aico.ai.memory.receipts import Receipt
from aico.ai.memory.working import WorkingMemoryStore
from aico.data.audit_log import AuditLog
from aico.data.items import Put
from aico.data.libsql import EncryptedLibSQLConnection
from aico.data.libsql.plugins import PluginTables
from aico.data.libsql.registry import SchemaRegistry
from aico.data.logs import LogRepository
from aico.data.user import UserService
from aico.errors import MissingExtra
from aico.scheduler import Scheduler
from aico.testing import PASSPHRASE, FixedClock, HashEmbedder, temporary_vault
from aico.vault_keys import VaultKeys
from tests.security.test_keyring import MemoryKeyring

NEEDS_A_MODEL = ("aico.ai.memory.embedding.Embeddings", "aico.analytics.engine.AnalyticsEngine.topics")
PLUGIN = Path(__file__).parents[2] / "examples" / "plugin-mood" / "src"

INNER = {
    EncryptedLibSQLConnection: "the engine: whoever has a vault asks the services",
    Indexes: "what recall asks",
}
"""Classes that a vault shows and nobody outside of its layers calls."""

INSIDE: dict[type, set[str]] = {
    MemoryManager: {"record_outcomes", "record_chats"},
    UserService: {"find", "ensure", "erase"},  # `vault.erase_user` is the door to the last
    Scheduler: {"start", "stop"},  # a thread
    LogRepository: {"insert_lines", "handler", "close"},
    AuditLog: {"append"},
    VaultKeys: {"adopt"},
    Embeddings: {"wake", "wake_if_behind", "wake_if_changed", "dimension_here", "close"},
    WorkingMemoryStore: {
        *("recent", "context", "follow", "close"),  # `vault.memory` is the door to these
        *("catch_up", "lag", "trouble", "drop", "erase", "holds_any"),  # `vault.views` to those
    },
    Receipt: {"able_to"},
}
"""What of a public class is for other layers, or has its example in the class."""


def examples() -> Iterator[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    for module in pkgutil.walk_packages(aico.__path__, "aico."):
        if module.name.endswith("__main__"):
            continue
        with suppress(MissingExtra):  # an adapter of a framework that is not installed here
            for found in finder.find(importlib.import_module(module.name), module.name):
                if found.examples and not found.name.startswith("aico.aio.Async"):  # which show those of their twins
                    yield found


EXAMPLES = {example.name: example for example in examples()}


def offered() -> dict[str, object]:
    """What an open vault offers, by name."""
    with temporary_vault(embedder=HashEmbedder()) as vault:
        return {name: found for name, found in vars(vault).items() if not name.startswith("_")}


SERVICES = {type(found) for found in offered().values() if type(found).__module__.startswith("aico.")} - {
    *INNER,
    aico.Settings,
}
PUBLIC = {getattr(aico, name) for name in aico.__all__}


def place(found: object) -> str:
    return f"{found.__module__}.{found.__qualname__}"


def public_calls() -> Iterator[str]:
    """Functions, methods, properties and what a call of the object itself does."""
    for found in {*SERVICES, *PUBLIC, PluginTables}:
        if not isinstance(found, type):
            yield place(found)
            continue
        for name, member in inspect.getmembers_static(found):
            call = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            is_public = name == "__call__" or not name.startswith("_")
            if is_public and inspect.isfunction(call) and name not in INSIDE.get(found, ()):
                yield place(call)


@pytest.mark.parametrize("name", sorted({*public_calls()}))
def test_every_public_call_has_an_example(name):
    assert name in EXAMPLES, "its docstring shows no example"


@pytest.mark.parametrize("name", sorted(place(found) for found in {*SERVICES, aico.Vault}))
def test_the_class_shows_itself_at_work(name):
    assert name in EXAMPLES


def test_what_is_inside_is_there():
    for found, names in INSIDE.items():
        assert names <= {name for name, _ in inspect.getmembers_static(found)}


def namespace(vault: aico.Vault, folder: Path, *, is_method: bool) -> dict[str, object]:
    """What an example may use."""
    found = {
        "vault": vault,
        "aico": aico,
        "json": json,
        "folder": folder,
        "passphrase": PASSPHRASE,
        "temporary_vault": temporary_vault,
    }
    found |= {
        "datetime": datetime,
        "timedelta": timedelta,
        "UTC": UTC,
        "Message": aico.Message,
        "Put": Put,
        "Path": Path,
    }
    if is_method:
        said = vault.memory.record("mia", "I moved to Lisbon in May.", conversation="move")
        fact = vault.memory.remember("mia", "Mia lives in Lisbon", category="home")
        found |= {"mia": vault.users.find_by_name("mia").id, "said": said, "fact": fact}
    return found


@pytest.fixture
def surroundings(monkeypatch):
    """A machine with a keyring, and the sample plugin and no other installed."""
    before = keyring.get_keyring()
    keyring.set_keyring(MemoryKeyring())
    SchemaRegistry.get_core_schemas()
    monkeypatch.setattr(SchemaRegistry, "_schemas", dict(SchemaRegistry._schemas))
    monkeypatch.setattr(SchemaRegistry, "_broken", {})
    monkeypatch.syspath_prepend(PLUGIN)
    sys.modules.pop("aico_mood.schema", None)
    importlib.import_module("aico_mood.schema")
    yield
    keyring.set_keyring(before)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_runs_as_it_is_written(name, tmp_path, surroundings):
    if name.startswith("aico.analytics"):
        pytest.importorskip("duckdb", reason="analytics needs the extra aico[analytics]")
    shown: list[str] = []
    embedder = HashEmbedder() if name.startswith(NEEDS_A_MODEL) else None
    with temporary_vault(clock=FixedClock(), embedder=embedder) as vault:
        EXAMPLES[name].globs |= namespace(vault, tmp_path, is_method=name.rpartition(".")[2].islower())
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        failed = runner.run(EXAMPLES[name], out=shown.append).failed
    assert failed == 0, "".join(shown)
