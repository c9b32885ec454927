"""Every example in a docstring runs, each in a vault of its own; every call that a companion's developer meets has one.

Public are the methods of the services that an open vault offers for daily use, SERVICES, but for those that only other
layers call. The example of a method finds Mia there: her id is `mia`, a message of hers `said`, and a fact `fact`.
"""

import doctest
import importlib
import pkgutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

import aico
from aico.ai.memory.manager import MemoryManager
from aico.data.album import Album
from aico.data.auth_sessions import AuthSessions
from aico.data.conversation_service import ConversationService
from aico.data.devices import DeviceRepository
from aico.data.facts import FactBook
from aico.data.feedback import FeedbackRepository
from aico.data.live_sessions import LiveSessions
from aico.data.logs import LogRepository
from aico.data.pins import Pins
from aico.data.preferences import PreferenceRepository
from aico.data.user import UserService
from aico.errors import MissingExtra
from aico.scheduler import Scheduler
from aico.testing import FixedClock, temporary_vault

SHOWN = (
    "aico.ai.extraction.run.Extraction",
    "aico.analytics.engine.AnalyticsEngine",
    "aico.ai.memory.items.Items",
    "aico.backup.Backups",
    "aico.data.album.Album",
    "aico.data.audit_log.AuditLog",
    "aico.data.auth_sessions.AuthSessions",
    "aico.data.conversation_service.ConversationService",
    "aico.data.devices.DeviceRepository",
    "aico.data.facts.book.FactBook",
    "aico.data.feedback.FeedbackRepository",
    "aico.data.libsql.plugins.Plugins",
    "aico.data.live_sessions.LiveSessions",
    "aico.data.logs.LogRepository",
    "aico.data.pins.Pins",
    "aico.data.preferences.PreferenceRepository",
    "aico.data.user.UserService",
    "aico.scheduler.Scheduler",
    "aico.vault_keys.VaultKeys",
)
"""The classes that a companion's developer meets first: each shows itself at work."""


def examples() -> Iterator[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    for module in pkgutil.walk_packages(aico.__path__, "aico."):
        if module.name.endswith("__main__"):
            continue
        with suppress(MissingExtra):  # an adapter of a framework that is not installed here
            for found in finder.find(importlib.import_module(module.name), module.name):
                if found.examples:
                    yield found


EXAMPLES = {example.name: example for example in examples()}


SERVICES: dict[type, set[str]] = {
    MemoryManager: {"record_outcomes", "record_chats"},
    ConversationService: set(),
    FactBook: set(),
    Album: set(),
    FeedbackRepository: set(),
    PreferenceRepository: set(),
    DeviceRepository: set(),
    LiveSessions: set(),
    UserService: {"find", "ensure", "erase"},  # `vault.erase_user` is the door to the last
    AuthSessions: set(),
    Pins: set(),
    Scheduler: {"start", "stop"},  # a thread
    LogRepository: {"insert_lines", "handler", "close"},
}
"""The services, and what of each is for other layers, or has its example in the class."""


def public_methods() -> Iterator[str]:
    for service, inside in SERVICES.items():
        for name in dir(service):
            if not name.startswith("_") and name not in inside:
                method = getattr(service, name)
                yield f"{method.__module__}.{method.__qualname__}"


@pytest.mark.parametrize("name", sorted(set(public_methods())))
def test_every_public_call_of_a_service_has_an_example(name):
    assert name in EXAMPLES, "its docstring shows no example"


def namespace(vault: aico.Vault, *, is_method: bool) -> dict[str, object]:
    """What an example may use."""
    found = {"vault": vault, "datetime": datetime, "timedelta": timedelta, "UTC": UTC, "Message": aico.Message}
    if is_method:
        said = vault.memory.record("mia", "I moved to Lisbon in May.", conversation="move")
        fact = vault.memory.remember("mia", "Mia lives in Lisbon", category="home")
        found |= {"mia": vault.users.find_by_name("mia").id, "said": said, "fact": fact}
    return found


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_runs_as_it_is_written(name):
    if name.startswith("aico.analytics"):
        pytest.importorskip("duckdb", reason="analytics needs the extra aico[analytics]")
    shown: list[str] = []
    with temporary_vault(clock=FixedClock()) as vault:
        EXAMPLES[name].globs |= namespace(vault, is_method=name.rpartition(".")[2].islower())
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        failed = runner.run(EXAMPLES[name], out=shown.append).failed
    assert failed == 0, "".join(shown)


@pytest.mark.parametrize("name", SHOWN)
def test_the_class_shows_itself_at_work(name):
    assert name in EXAMPLES
