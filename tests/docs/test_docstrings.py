"""Every example in a docstring runs, each in a vault of its own."""

import doctest
import importlib
import pkgutil
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

import aico
from aico.testing import FixedClock, temporary_vault

SHOWN = (
    "aico.ai.extraction.run.Extraction",
    "aico.analytics.engine.AnalyticsEngine",
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
        for found in finder.find(importlib.import_module(module.name), module.name):
            if found.examples:
                yield found


EXAMPLES = {example.name: example for example in examples()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_runs_as_it_is_written(name):
    if name.startswith("aico.analytics"):
        pytest.importorskip("duckdb", reason="analytics needs the extra aico[analytics]")
    shown: list[str] = []
    with temporary_vault(clock=FixedClock()) as vault:
        EXAMPLES[name].globs |= {"vault": vault, "datetime": datetime, "timedelta": timedelta}
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        failed = runner.run(EXAMPLES[name], out=shown.append).failed
    assert failed == 0, "".join(shown)


@pytest.mark.parametrize("name", SHOWN)
def test_the_class_shows_itself_at_work(name):
    assert name in EXAMPLES
