"""Who reads the change feed and must not be passed by pruning. Views that can rebuild are not named here."""

from aico.data.libsql.registry import SchemaVersion, register_schema

# A number of this device's change feed, so this device's own.
_FEED_CONSUMERS = """CREATE TABLE feed_consumers (
    name TEXT PRIMARY KEY,
    number INTEGER NOT NULL,            -- the last change it has read
    seen_at INTEGER NOT NULL            -- after a long silence it is no longer waited for
) WITHOUT ROWID"""

VIEWS_SCHEMA = register_schema("views", "core", priority=20)(
    {
        1: SchemaVersion(
            version=1,
            name="Consumers of the change feed",
            description="How far those have read that could not rebuild what is pruned",
            sql_statements=[_FEED_CONSUMERS],
            rollback_statements=["DROP TABLE feed_consumers"],
        ),
    }
)
