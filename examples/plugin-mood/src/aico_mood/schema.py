"""The plugin's tables. Importing this module registers them; nothing else happens here."""

from aico.data import SchemaVersion, register_schema

MOOD_SCHEMA = register_schema("mood", "plugin")(
    {
        1: SchemaVersion(
            version=1,
            name="Moods",
            sql_statements=[
                """CREATE TABLE mood_entries (
                    row_id INTEGER PRIMARY KEY,
                    id BLOB NOT NULL UNIQUE,
                    person TEXT NOT NULL,
                    feeling TEXT NOT NULL,
                    at INTEGER NOT NULL
                )""",
                "CREATE INDEX mood_entries_of_person ON mood_entries (person, at)",
            ],
            rollback_statements=["DROP TABLE mood_entries"],
            captures=["mood_entries"],
        ),
        2: SchemaVersion(
            version=2,
            name="Reasons",
            sql_statements=["ALTER TABLE mood_entries ADD COLUMN because TEXT"],
            rollback_statements=["ALTER TABLE mood_entries DROP COLUMN because"],
        ),
    }
)
