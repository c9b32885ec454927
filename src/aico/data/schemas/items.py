"""What other frameworks keep in the memory: JSON values under a namespace and a key, and how they are found.

- `items` goes where a person's memories go: the change feed, exports, forgetting.
- `item_vectors` is this device's own, made again from the texts; the triggers hold whichever way an item goes.
"""

from aico.data.libsql.registry import SchemaVersion, register_schema

_ITEMS = """CREATE TABLE items (
    row_id INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,            -- keyed hash of user, namespace and key
    user_id BLOB NOT NULL,
    namespace TEXT NOT NULL,            -- JSON array of labels, the broadest first
    key TEXT NOT NULL,
    value TEXT NOT NULL,                -- any JSON
    texts TEXT,                         -- JSON array of what it is found by; NULL: by its place alone
    memory_id BLOB,                     -- the message or fact that it says more about, and goes with
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    ttl_us INTEGER,                     -- how long it stays after it was last written or asked for
    expires_at INTEGER
)"""

_ITEM_VECTORS = """CREATE TABLE item_vectors (
    item_id BLOB NOT NULL,
    model TEXT NOT NULL,
    part INTEGER NOT NULL,              -- which of the item's texts, from 0 on
    vector BLOB NOT NULL,               -- float16, little-endian
    PRIMARY KEY (item_id, model, part)
) WITHOUT ROWID"""

ITEMS_SCHEMA = register_schema("items", "core", priority=20)(
    {
        1: SchemaVersion(
            version=1,
            name="Items",
            description="JSON values under a namespace and a key, for other frameworks",
            sql_statements=[
                _ITEMS,
                "CREATE INDEX items_by_place ON items (user_id, namespace, key)",
                "CREATE INDEX items_of_memory ON items (memory_id) WHERE memory_id IS NOT NULL",
                "CREATE INDEX items_by_end ON items (expires_at) WHERE expires_at IS NOT NULL",
                _ITEM_VECTORS,
                *(
                    f"CREATE TRIGGER items_go_with_a_{memory} AFTER DELETE ON {memory}s BEGIN "
                    "DELETE FROM items WHERE memory_id = old.id; END"
                    for memory in ("message", "fact")
                ),
                "CREATE TRIGGER vectors_go_with_an_item AFTER DELETE ON items BEGIN "
                "DELETE FROM item_vectors WHERE item_id = old.id; END",
                "CREATE TRIGGER vectors_go_with_its_texts AFTER UPDATE OF texts ON items "
                "WHEN old.texts IS NOT new.texts BEGIN DELETE FROM item_vectors WHERE item_id = old.id; END",
            ],
            rollback_statements=[
                "DROP TRIGGER vectors_go_with_its_texts",
                "DROP TRIGGER vectors_go_with_an_item",
                "DROP TRIGGER items_go_with_a_fact",
                "DROP TRIGGER items_go_with_a_message",
                "DROP TABLE item_vectors",
                "DROP TABLE items",
            ],
            captures=["items"],
        ),
    }
)
