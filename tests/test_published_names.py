"""What AICO's published description of its data layer names works as it is written there, or docs/decisions/0048 says why not.

The examples are taken word for word; what they leave open (a key, a moment, a connection) is given.
"""

import secrets
from datetime import UTC, datetime
from importlib import import_module

import pytest

from aico.data import EncryptedLibSQLConnection
from aico.data.libsql.registry import SchemaRegistry
from aico.errors import InvalidInput, Tampered
from aico.settings import Settings
from aico.testing import PASSPHRASE, cheap_settings, temporary_vault
from aico.vault import open_vault
from aico.vault_folder import DATA_FOLDER

CONNECT = """
from aico.data import EncryptedLibSQLConnection

# Connect with encryption
conn = EncryptedLibSQLConnection(
    db_path="~/.aico/user.db",
    encryption_key=derived_key
)
"""
INSERT = """
# Execute queries with automatic encryption
conn.execute("INSERT INTO logs (timestamp, level, message) VALUES (?, ?, ?)",
            [timestamp, "INFO", "User logged in"])
"""
REPOSITORIES = """
from aico.data.logs import LogRepository
from aico.data.user import UserService

# Domain-specific repositories
log_repo = LogRepository(connection)
user_service = UserService(connection)

# Clean API for data operations
log_repo.insert_log(level="INFO", message="User action")
user_profile = user_service.get_profile(user_id)
"""
APPLY = """
# Automatic schema application on startup
from aico.data.libsql.registry import SchemaRegistry

# Apply all core schemas
applied = SchemaRegistry.apply_core_schemas(connection)
print(f"Applied schemas: {applied}")
"""
DECORATED = """
from aico.data import register_schema, SchemaVersion

@register_schema("core", "core", priority=1)
CORE_SCHEMA = {}
"""
CALLED = """
from aico.data import register_schema, SchemaVersion

CORE_SCHEMA = register_schema("moods", "core", priority=1)({
    1: SchemaVersion(
        version=1,
        name="Core System",
        description="Logs, users, and system tables",
        sql_statements=[
            "CREATE TABLE moods (name TEXT)",
        ]
    )
})
"""
PATHS = {
    "aico.data": ("EncryptedLibSQLConnection", "register_schema", "SchemaVersion"),
    "aico.data.libsql.registry": ("SchemaRegistry",),
    "aico.data.logs": ("LogRepository",),
    "aico.data.user": ("UserService",),
    "aico.ai.memory.working": ("WorkingMemoryStore",),
    "aico.ai.memory.semantic": ("SemanticMemoryStore",),
    "aico.ai.memory.manager": ("MemoryManager",),
}
TABLES = ("logs", "users", "facts", "feedback_events", "tasks", "task_executions", "session_metadata", "preferences")


@pytest.fixture
def registry(monkeypatch):
    SchemaRegistry.get_core_schemas()
    monkeypatch.setattr(SchemaRegistry, "_schemas", dict(SchemaRegistry._schemas))
    return SchemaRegistry


def test_the_connection_the_schemas_and_the_repositories_work_as_they_are_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    given = {"derived_key": secrets.token_bytes(32), "timestamp": datetime(2026, 5, 8, tzinfo=UTC).isoformat()}
    exec(CONNECT, given)
    given["connection"] = given["conn"]
    exec(APPLY, given)
    assert capsys.readouterr().out == f"Applied schemas: {given['applied']}\n"
    exec(INSERT, given)
    given["conn"].execute(
        "INSERT INTO users (id, name, generation, user_type, is_active, created_at, updated_at) "
        "VALUES (?, 'mia', 0, 'person', 1, 0, 0)",
        (bytes(16),),
    )
    given["user_id"] = bytes(16).hex()
    exec(REPOSITORIES, given)
    assert given["user_profile"].name == "mia"
    assert [line.message for line in given["log_repo"].query_logs()] == ["User action", "User logged in"]
    given["conn"].close()
    raw = b"".join(path.read_bytes() for path in (tmp_path / ".aico").iterdir())
    assert b"User logged in" not in raw and b"SQLite format" not in raw


def test_the_repositories_work_on_an_open_vaults_connection_too():
    with temporary_vault() as vault:
        given = {"connection": vault.connection, "user_id": vault.users.create_user("mia").id}
        exec(REPOSITORIES, given)
        assert given["user_profile"].name == "mia"


def test_a_decorator_cannot_stand_on_an_assignment_so_the_registry_is_called(registry):
    with pytest.raises(SyntaxError):
        compile(DECORATED, "shown", "exec")
    given: dict[str, object] = {}
    exec(CALLED, given)
    assert registry.list_schemas()["moods"] == "core"
    assert set(given["CORE_SCHEMA"]) == {1}


@pytest.mark.parametrize("path", PATHS)
def test_every_import_path_leads_to_its_name(path):
    for name in PATHS[path]:
        assert callable(getattr(import_module(path), name))


def test_the_tables_that_are_named_are_there(tmp_path):
    with EncryptedLibSQLConnection(tmp_path / "user.db", bytes(range(32))) as connection:
        SchemaRegistry.apply_core_schemas(connection)
        found = {row["name"] for row in connection.fetch_all("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    assert {*TABLES} <= found


def test_a_key_is_taken_as_it_is_or_refused_and_another_one_opens_nothing(tmp_path):
    for key in (b"short", b"", bytes(33)):
        with pytest.raises(InvalidInput):
            EncryptedLibSQLConnection(db_path=tmp_path / "user.db", encryption_key=key)
    with EncryptedLibSQLConnection(db_path=tmp_path / "user.db", encryption_key=bytes(32)) as connection:
        SchemaRegistry.apply_core_schemas(connection)
    with pytest.raises(Tampered):
        EncryptedLibSQLConnection(db_path=tmp_path / "user.db", encryption_key=bytes([1] * 32)).fetch_all("SELECT 1")


def test_working_memory_lies_where_it_is_said_and_keeps_a_day(tmp_path):
    assert Settings().working_ttl_s == 24 * 3600
    with open_vault(tmp_path / "vault", passphrase=PASSPHRASE, settings=cheap_settings()) as vault:
        vault.memory.record("mia", "Good morning.", conversation="today")
        vault.memory.recent("mia", "today")
        assert vault.working.dump("session_memory", limit=1)
        assert (vault.folder / DATA_FOLDER / "lmdb").is_dir()
    assert DATA_FOLDER == "data"


def test_the_vector_collection_has_the_name_it_is_said_to_have():
    pytest.importorskip("chromadb", reason="vectors in Chroma need the extra aico[chroma]")
    from aico.data.chroma.segments import COLLECTION

    assert COLLECTION == "conversation_segments"
