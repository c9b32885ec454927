"""What `doctor` says about schemas, plugins and the audit log."""

import pytest

from aico.data.audit_log import Action
from aico.data.libsql.registry import SchemaRegistry, SchemaVersion
from aico.testing import temporary_vault


@pytest.fixture
def vault():
    with temporary_vault() as vault:
        yield vault


@pytest.fixture
def plugin():
    """A plugin `moods` of two versions, gone after the test."""
    SchemaRegistry.get_core_schemas()
    before = dict(SchemaRegistry._schemas), SchemaRegistry._broken
    steps = {n: SchemaVersion(version=n, name=f"v{n}", sql_statements=[f"CREATE TABLE moods_{n} (x)"]) for n in (1, 2)}
    SchemaRegistry.register("moods", "plugin")({1: steps[1]})
    SchemaRegistry.broken_plugins()
    yield steps
    SchemaRegistry._schemas.clear()
    SchemaRegistry._schemas.update(before[0])
    SchemaRegistry._broken = before[1]


def found(vault, name):
    [finding] = [finding for finding in vault.doctor() if finding.name == name]
    return finding


def test_all_is_well_with_the_schemas_and_the_audit_log_of_a_new_vault(vault):
    vault.audit_log.append(Action.LOGIN)
    assert found(vault, "schemas").ok is True
    assert "core" in found(vault, "schemas").message
    assert found(vault, "audit log").ok is True
    assert "1 entries stand" in found(vault, "audit log").message


def test_a_step_that_is_not_ours_is_told(vault):
    vault.connection.execute("UPDATE schema_history SET checksum = 'x' WHERE schema = 'core'")
    assert found(vault, "schemas").ok is False
    assert "'core'" in found(vault, "schemas").message


def test_a_changed_audit_log_is_told_with_the_first_entry_that_is_wrong(vault):
    vault.audit_log.append(Action.LOGIN)
    vault.connection.execute("DROP TRIGGER audit_log_keeps_entries")
    vault.connection.execute("UPDATE audit_log SET action = 'logout'")
    finding = found(vault, "audit log")
    assert finding.ok is False
    assert "entry 1" in finding.message


def test_plugins_are_told_with_their_versions_and_what_is_wrong_with_them(vault, plugin):
    assert found(vault, "plugin moods").ok is None
    vault.plugins.install("moods")
    assert found(vault, "plugin moods").ok is True
    del SchemaRegistry._schemas["moods"]
    SchemaRegistry.register("moods", "plugin")(plugin)
    assert "version 1, its package needs 2" in found(vault, "plugin moods").message
    vault.plugins.install("moods", backed_up=True)
    del SchemaRegistry._schemas["moods"]
    SchemaRegistry.register("moods", "plugin")({1: plugin[1]})
    assert found(vault, "plugin moods").ok is False
    del SchemaRegistry._schemas["moods"]
    assert "its package is not installed" in found(vault, "plugin moods").message
    SchemaRegistry._broken = {"fiddle": "ImportError: no module"}
    assert "ImportError" in found(vault, "plugin fiddle").message
