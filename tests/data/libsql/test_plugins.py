"""Plugins: their SQL touches what is their own and nothing else, whatever it tries; they come, change and go without a trace."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aico.data.libsql.definitions import owned_by
from aico.data.libsql.migrations import roll_back
from aico.data.libsql.plugins import Plugins
from aico.data.libsql.registry import SchemaRegistry, SchemaVersion, register_schema
from aico.errors import AicoError, InvalidInput, MigrationFailed, NotFound, PluginRefused, SchemaChanged
from aico.testing import temporary_vault
from tests.data.libsql.cases import sealed

FIRST = [
    "CREATE TABLE mood_entries (row_id INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, x TEXT)",
    "CREATE INDEX mood_by_x ON mood_entries (x)",
]
SECRET = "the cellar key lies under the third pot"


@pytest.fixture
def schemas():
    """The registry as it was, put back after the test; no plugin of this machine is in it."""
    SchemaRegistry.get_core_schemas()
    before, broken = dict(SchemaRegistry._schemas), SchemaRegistry._broken
    SchemaRegistry._broken = {}
    yield SchemaRegistry
    SchemaRegistry._schemas.clear()
    SchemaRegistry._schemas.update(before)
    SchemaRegistry._broken = broken


@pytest.fixture
def connection(tmp_path, schemas):
    with sealed(tmp_path / "aico.db") as connection:
        schemas.apply_core_schemas(connection)
        connection.execute(
            "INSERT INTO preferences (id, user_id, key, value, updated_at) VALUES (x'01', x'02', 'k', ?, 0)", (SECRET,)
        )
        yield connection


def step(number: int, *statements: str, **more) -> SchemaVersion:
    more = {"rollback_statements": (), **more}
    return SchemaVersion(version=number, name=f"Step {number}", sql_statements=list(statements), **more)


def define(name: str, *steps: SchemaVersion) -> None:
    """Register, taking the place of what this name had: as the plugin's next release would."""
    SchemaRegistry._schemas.pop(name, None)
    register_schema(name, "plugin")({one.version: one for one in steps})


def installed(connection, *later: SchemaVersion) -> Plugins:
    """The plugin "mood" at version 1, and registered with the later steps."""
    plugins = Plugins(connection)
    define("mood", step(1, *FIRST, captures=["mood_entries"]))
    if "plugin:mood" not in SchemaRegistry.current_versions(connection):
        plugins.install("mood")
    if later:
        define("mood", step(1, *FIRST, captures=["mood_entries"]), *later)
    return plugins


def everything(connection) -> tuple:
    """All tables with their rows, but the times in the history."""
    objects = connection.fetch_all("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name")
    names = [name for kind, name, *_ in objects if kind == "table" and name != "schema_history"]
    rows = {name: connection.fetch_all(f'SELECT * FROM "{name}"') for name in names}
    return objects, rows, SchemaRegistry.current_versions(connection)


HOSTILE = [
    # reading what is not the plugin's
    "CREATE TABLE mood_x AS SELECT * FROM messages",
    'CREATE TABLE "mood_x" AS SELECT * FROM main."preferences"',
    "INSERT INTO mood_entries (id, x) SELECT id, value FROM preferences",
    "INSERT INTO mood_entries (id, x) VALUES (x'00', (SELECT group_concat(value) FROM preferences))",
    "INSERT INTO mood_entries (id, x) SELECT x'00', count(*) FROM preferences",
    "UPDATE mood_entries SET x = (SELECT value FROM preferences)",
    "DELETE FROM mood_entries WHERE x IN (SELECT value FROM PREFERENCES)",
    "WITH p AS (SELECT * FROM preferences) INSERT INTO mood_entries (id, x) SELECT id, value FROM p",
    "CREATE VIEW mood_view AS SELECT * FROM preferences",
    "CREATE VIEW mood_view (a) AS SELECT 1 WHERE EXISTS (SELECT 1 FROM preferences)",
    "INSERT INTO mood_entries (id, x) SELECT x'00', sample FROM sqlite_stat4",
    "INSERT INTO mood_entries (id, x) SELECT x'00', name FROM dbstat",
    "INSERT INTO mood_entries (id, x) SELECT x'00', name FROM pragma_table_info('preferences')",
    # writing to what is not the plugin's
    "DELETE FROM preferences",
    "DELETE FROM preferences /* mood_entries */",
    "/* mood_ */ DELETE FROM [preferences] WHERE 1",
    "UPDATE `preferences` SET value = 'x'",
    "INSERT INTO main.preferences SELECT * FROM main.preferences",
    "WITH q AS (SELECT 1) INSERT INTO preferences (id) SELECT 1 FROM q",
    "REPLACE INTO PREFERENCES (id) VALUES (1)",
    "INSERT INTO change_feed (table_name, key, column_mask, at) VALUES ('messages', x'00', 0, 0)",
    "DELETE FROM change_feed",
    "DELETE FROM schema_history",
    "UPDATE schema_history SET version = 99 WHERE schema = 'core'",
    # tables of others
    "ALTER TABLE preferences ADD COLUMN mood_x",
    "ALTER TABLE preferences RENAME TO mood_preferences",
    "ALTER TABLE preferences RENAME COLUMN value TO mood_value",
    "ALTER TABLE preferences DROP COLUMN value",
    "DROP TABLE preferences",
    "DROP TABLE IF EXISTS Preferences",
    "DROP INDEX preferences_of_user",
    "DROP TRIGGER logs_instants",
    "DROP TRIGGER preferences_feeds_delete",
    "CREATE INDEX mood_on_core ON preferences (value)",
    "CREATE UNIQUE INDEX mood_on_core ON preferences (lower(value))",
    "CREATE TRIGGER mood_spy AFTER INSERT ON messages BEGIN INSERT INTO mood_entries (id, x) VALUES (new.id, new.text); END",
    "CREATE TRIGGER mood_t AFTER INSERT ON mood_entries BEGIN DELETE FROM preferences; END",
    "CREATE TRIGGER mood_t BEFORE UPDATE OF x ON mood_entries BEGIN SELECT value FROM preferences; END",
    "CREATE TRIGGER mood_t AFTER DELETE ON mood_entries WHEN (SELECT count(*) FROM preferences) > 0 BEGIN SELECT 1; END",
    "CREATE TRIGGER mood_entries_feeds_more AFTER INSERT ON mood_entries BEGIN INSERT INTO change_feed (table_name, key, column_mask, at) VALUES ('messages', new.id, 0, 0); END",
    "CREATE TRIGGER mood_x_feeds_delete AFTER INSERT ON mood_entries BEGIN INSERT INTO change_feed (table_name, key, column_mask, at) VALUES ('messages', new.id, 0, 0); END",
    "REINDEX",
    "REINDEX preferences_of_user",
    "ANALYZE",
    "ANALYZE preferences",
    "PRAGMA foreign_keys = ON",
    # names of others
    "ALTER TABLE mood_entries RENAME TO messages2",
    "ALTER TABLE mood_entries RENAME TO moods",
    'ALTER TABLE mood_entries RENAME TO "mood_ü"',
    "CREATE TABLE moods (x)",
    "CREATE TABLE mood (x)",
    "CREATE TABLE messages_mood (x)",
    "CREATE TABLE MOOD_X (x)",
    'CREATE TABLE "mood_x y" (x)',
    'CREATE TABLE "ｍood_x" (x)',
    'CREATE TABLE "mood_x;--" (x)',
    "CREATE INDEX by_x ON mood_entries (x)",
    "CREATE TRIGGER spy AFTER INSERT ON mood_entries BEGIN SELECT 1; END",
    "CREATE VIEW everything AS SELECT 1",
    "CREATE TABLE sqlite_mood (x)",
    "CREATE TABLE mood_counted (x INTEGER PRIMARY KEY AUTOINCREMENT)",
    "CREATE TABLE mood_child (x REFERENCES messages (id) ON DELETE RESTRICT)",
    # out of the database, or around its rules
    "ATTACH ':memory:' AS mood_db",
    "ATTACH DATABASE 'mood_leak.db' AS mood_db",
    "DETACH main",
    "VACUUM",
    "VACUUM INTO 'mood_leak.db'",
    "PRAGMA writable_schema = ON",
    "PRAGMA recursive_triggers = OFF",
    "UPDATE sqlite_schema SET sql = '' WHERE name = 'messages'",
    "DELETE FROM sqlite_master",
    "INSERT INTO sqlite_schema VALUES ('table', 'mood_x', 'mood_x', 2, 'CREATE TABLE mood_x (x)')",
    "SELECT load_extension('mood')",
    "UPDATE mood_entries SET x = load_extension('mood')",
    "SELECT fts3_tokenizer('mood')",
    "CREATE VIRTUAL TABLE mood_words USING fts5 (x)",
    "CREATE VIRTUAL TABLE mood_pages USING dbstat",
    "CREATE TEMP TABLE mood_x (x)",
    "CREATE TEMP TABLE messages (x)",
    "CREATE TABLE temp.mood_x (x)",
    "CREATE TEMP VIEW mood_x AS SELECT 1",
    "CREATE TEMP TRIGGER mood_x AFTER INSERT ON messages BEGIN SELECT 1; END",
    "COMMIT",
    "/* mood */ ; -- x\n COMMIT",
    "BEGIN",
    "ROLLBACK",
    "END",
    "SAVEPOINT mood",
    "RELEASE nested",
    "SELECT 1; DELETE FROM preferences",
    "CREATE TABLE mood_x (x); DROP TABLE messages",
    "SELECT 1; COMMIT",
    "WITH RECURSIVE mood_n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM mood_n) SELECT count(*) FROM mood_n",
]


def test_there_are_many_hostile_statements():
    assert len(set(HOSTILE)) > 80


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_hostile_migration_changes_nothing_and_is_refused_by_number_and_kind(connection, hostile):
    plugins = installed(connection, step(2, "CREATE TABLE mood_more (x)", hostile))
    connection.execute("INSERT INTO mood_entries (id, x) VALUES (x'05', 'calm')")
    before = everything(connection)
    with pytest.raises((PluginRefused, MigrationFailed)) as refused:
        plugins.install("mood")
    assert everything(connection) == before
    assert "version 2" in str(refused.value)
    assert SECRET not in str(refused.value)
    connection.verify()


def test_a_hostile_rollback_changes_nothing(connection):
    before = None
    for hostile in HOSTILE:
        later = step(2, "CREATE TABLE mood_more (x)", rollback_statements=["DROP TABLE mood_more", hostile])
        installed(connection, later).install("mood")
        before = before or everything(connection)
        with pytest.raises((PluginRefused, MigrationFailed)):
            roll_back(connection, SchemaRegistry.get_schema("mood"), 1)
            pytest.fail(f"not refused: {hostile}")
        assert everything(connection) == before, hostile


def test_a_hostile_statement_at_work_changes_and_reads_nothing(connection):
    mood = installed(connection).tables("mood")
    mood.execute("INSERT INTO mood_entries (id, x) VALUES (x'05', 'calm')")
    before = everything(connection)
    for hostile in HOSTILE:
        if "RECURSIVE" in hostile:
            continue  # a plugin may walk its own trees, and this one walks without end
        with pytest.raises(InvalidInput) as refused:
            mood.execute(hostile)
            pytest.fail(f"not refused: {hostile}")
        assert everything(connection) == before, hostile
        assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT text FROM messages",
        "SELECT * FROM mood_entries JOIN preferences",
        "SELECT (SELECT value FROM preferences) FROM mood_entries",
        "SELECT * FROM sqlite_schema",
        "SELECT * FROM schema_history",
        "EXPLAIN SELECT * FROM preferences",
        "SELECT * FROM pragma_table_list",
        "PRAGMA table_info(messages)",
        "VALUES ((SELECT value FROM preferences))",
    ],
)
def test_reading_others_is_refused_also_when_the_vault_has_just_read_the_same(connection, sql):
    mood = installed(connection).tables("mood")
    connection.fetch_all(sql)  # compiled for somebody who may
    with pytest.raises(PluginRefused):
        mood.fetch_all(sql)
    with connection.transaction():
        connection.fetch_all(sql)
        with pytest.raises(PluginRefused):
            mood.fetch_all(sql)
    assert connection.fetch_all(sql) is not None  # and the vault is not held to the plugin's rule afterwards


def test_the_error_names_the_statement_by_number_and_kind_and_says_what_it_would_do(connection):
    plugins = installed(connection, step(2, "CREATE TABLE mood_more (x)", "drop  table messages"))
    with pytest.raises(PluginRefused, match=r"statement 2 \(DROP TABLE\) of version 2 of plugin 'mood'.*messages"):
        plugins.install("mood")


def test_a_plugin_uses_and_changes_its_own_tables(connection):
    plugins = installed(
        connection,
        step(
            2,
            "ALTER TABLE mood_entries ADD COLUMN y INTEGER DEFAULT 3",
            "UPDATE mood_entries SET y = length(x)",
            "CREATE TABLE mood_days (day TEXT PRIMARY KEY, n INTEGER AS (length(day)) STORED) WITHOUT ROWID",
            "CREATE VIEW mood_calm AS SELECT * FROM mood_entries WHERE x = 'calm'",
            "CREATE TRIGGER mood_counts AFTER INSERT ON mood_entries BEGIN INSERT OR IGNORE INTO mood_days VALUES (new.x); END",
            "CREATE TABLE mood_old (x)",
            "ALTER TABLE mood_old RENAME TO mood_new",
            "ALTER TABLE mood_new RENAME COLUMN x TO z",
            "CREATE TABLE mood_tags (entry BLOB REFERENCES mood_entries (id), tag TEXT, UNIQUE (entry, tag))",
            "REINDEX mood_by_x",
            "DROP TABLE mood_new",
        ),
    )
    connection.execute("ANALYZE")  # dropping sweeps its statistics too
    connection.execute("INSERT INTO mood_entries (id, x) VALUES (x'05', 'tired')")
    assert plugins.install("mood") == 2
    mood = plugins.tables("mood")
    with mood.transaction():
        mood.execute("INSERT INTO mood_entries (id, x) VALUES (?, ?)", (b"\x06", "calm"))
        mood.execute("UPDATE mood_entries SET x = upper(x) WHERE id = x'05'")
    assert mood.fetch_all("SELECT x, y FROM mood_entries ORDER BY id") == [("TIRED", 5), ("calm", 3)]
    assert mood.fetch_one("SELECT count(*) FROM mood_calm")[0] == 1
    assert mood.fetch_all("SELECT day, n FROM mood_days") == [("calm", 4)]
    counted = "WITH mood_recent AS (SELECT x FROM mood_entries) SELECT count(*) FROM mood_recent"
    assert mood.fetch_one(counted)[0] == 2
    assert mood.fetch_all("SELECT value FROM json_each('[1, 2]')") == [(1,), (2,)]
    masks = connection.fetch_all(
        "SELECT column_mask FROM change_feed WHERE table_name = 'mood_entries' ORDER BY number"
    )
    assert masks == [(0b0111,), (0b1111,), (0b0100,)]  # every device fills the new column by the same step


@given(name=st.text(st.sampled_from("abx_Ä1- ;'\""), min_size=1, max_size=8))
def test_no_name_belongs_to_two_plugins(name):
    owners = [plugin for plugin in ("a", "b", "ab", "a1", "abx") if owned_by(plugin, name)]
    assert len(owners) <= 1


@pytest.mark.parametrize(
    "name", ["a_b", "Mood", "m ood", "", "1mood", "sqlite", "schema", "mö", "x" * 33, "mood;", "aico"]
)
def test_a_name_that_could_be_mistaken_is_not_registered(schemas, name):
    with pytest.raises(InvalidInput):
        register_schema(name, "plugin")({1: step(1)})
    assert name not in schemas.list_schemas()


@pytest.mark.parametrize("table", ["messages", "mood", "mood_x; DROP TABLE messages", "a_mood_x", "MOOD_x"])
def test_a_plugin_captures_only_its_own_tables(schemas, table):
    with pytest.raises(InvalidInput):
        register_schema("mood", "plugin")({1: step(1, captures=[table])})


@pytest.mark.parametrize("name", ["fact", "change", "session", "schema"])
def test_a_plugin_whose_name_begins_core_tables_is_not_installed(connection, name):
    if name == "schema":
        return
    define(name, step(1, f"CREATE TABLE {name}_mine (x)"))
    before = everything(connection)
    with pytest.raises(AicoError):
        Plugins(connection).install(name)
    assert everything(connection) == before


def test_a_column_name_cannot_smuggle_sql_into_the_feeds_triggers(connection):
    column = '"x IS NOT 1) <> 0 BEGIN DELETE FROM preferences; END --"'
    define("mood", step(1, f"CREATE TABLE mood_t (id BLOB, {column} TEXT)", captures=["mood_t"]))
    plugins = Plugins(connection)
    plugins.install("mood")
    plugins.tables("mood").execute(f"INSERT INTO mood_t (id, {column}) VALUES (x'01', 'y')")
    plugins.tables("mood").execute(f"UPDATE mood_t SET {column} = 'z'")
    assert connection.fetch_one("SELECT value FROM preferences")[0] == SECRET
    masks = connection.fetch_all("SELECT column_mask FROM change_feed WHERE table_name = 'mood_t' ORDER BY number")
    assert masks == [(0b11,), (0b10,)]


def test_removing_a_plugin_leaves_the_vault_as_it_was_before_it(connection):
    before = everything(connection)[0], everything(connection)[2]
    plugins = installed(connection, step(2, "CREATE VIEW mood_v AS SELECT 1", "CREATE TABLE mood_b (x UNIQUE)"))
    plugins.install("mood")
    define("moody", step(1, "CREATE TABLE moody_mine (x)"))
    plugins.install("moody")
    SchemaRegistry._schemas.pop("mood")  # its package is gone
    plugins.remove("mood")
    assert connection.fetch_all("SELECT * FROM moody_mine") == []
    plugins.remove("moody")
    assert (everything(connection)[0], everything(connection)[2]) == before
    with pytest.raises(NotFound):
        plugins.remove("mood")
    with pytest.raises(NotFound):
        plugins.remove("core")


def test_a_plugin_that_another_process_changes_is_no_reason_to_stop_but_for_its_own_tables(connection, tmp_path):
    mood = installed(connection, step(2, "CREATE TABLE mood_more (x)")).tables
    define("mood", step(1, *FIRST, captures=["mood_entries"]))
    used = mood("mood")
    with sealed(tmp_path / "aico.db") as other:
        define("other", step(1, "CREATE TABLE other_t (x)"))
        Plugins(other).install("other")
        used.execute("INSERT INTO mood_entries (id, x) VALUES (x'05', 'calm')")
        Plugins(other).remove("mood")
    with pytest.raises(SchemaChanged):
        used.execute("INSERT INTO mood_entries (id, x) VALUES (x'06', 'calm')")
    with pytest.raises(SchemaChanged):
        used.fetch_all("SELECT * FROM mood_entries")


def test_a_step_that_cannot_be_undone_waits_for_a_sealed_copy(connection, tmp_path):
    plugins = installed(connection, step(2, "DROP TABLE mood_entries", rollback_statements=None))
    define("mood", step(1, *FIRST), step(2, "CREATE TABLE mood_more (x)", rollback_statements=None))
    plugins.remove("mood")
    assert plugins.install("mood") == 2  # into a vault without its tables there is nothing to lose
    define("mood", step(1, *FIRST), step(2, "CREATE TABLE mood_more (x)", rollback_statements=None),
           step(3, "DROP TABLE mood_more", rollback_statements=None))  # fmt: skip
    before = everything(connection)
    with pytest.raises(MigrationFailed, match="cannot be undone"):
        plugins.install("mood")
    assert everything(connection) == before
    connection.backup_to(tmp_path / "copy.db")
    assert plugins.install("mood", backed_up=True) == 3


def test_a_core_step_does_not_take_a_plugins_name(connection, schemas):
    installed(connection)
    register_schema("newcore", "core", priority=90)({1: step(1, "CREATE TABLE mood_ring (x)")})
    with pytest.raises(MigrationFailed, match="plugin 'mood'"):
        schemas.apply_core_schemas(connection)
    assert connection.fetch_one("SELECT 1 FROM sqlite_schema WHERE name = 'mood_ring'") is None


def test_a_plugin_of_an_older_version_than_its_package_is_migrated_before_use(connection):
    plugins = installed(connection, step(2, "CREATE TABLE mood_more (x)"))
    with pytest.raises(InvalidInput, match="version 1"):
        plugins.tables("mood")
    with pytest.raises(NotFound):
        plugins.install("core")
    assert [(p.name, p.version, p.newest, p.problem) for p in plugins.list_plugins()] == [("mood", 1, 2, "")]


def test_a_plugin_cannot_hide_a_memory_by_deleting_a_row_of_the_same_id(schemas):
    define("mood", step(1, *FIRST, captures=["mood_entries"]))
    with temporary_vault() as vault:
        vault.plugins.install("mood")
        mood = vault.plugins.tables("mood")
        id_ = vault.memory.record("mia", "I moved to Lisbon in May.", conversation="c")
        assert [hit.id for hit in vault.memory.recall("mia", "Lisbon")] == [id_]
        mood.execute("INSERT INTO mood_entries (id, x) VALUES (?, 'x')", (bytes.fromhex(id_.replace("-", "")),))
        mood.execute("DELETE FROM mood_entries")
        assert [hit.id for hit in vault.memory.recall("mia", "Lisbon")] == [id_]
