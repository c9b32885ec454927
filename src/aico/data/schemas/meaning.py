"""What embedding needs beside the core tables: how far each model has come, and that vectors go with what they tell.

A vector of a message tells of the turn before it too. The triggers hold whichever way a row goes or changes, so that
no path of code can let go of a memory and keep what it means.
"""

from aico.data.libsql.registry import SchemaVersion, register_schema

# Both are this device's own: the number is of its change feed, the contexts are of its vectors.
_GENERATIONS = """CREATE TABLE generations (
    model TEXT PRIMARY KEY,
    dimension INTEGER NOT NULL,
    embedded_to INTEGER NOT NULL        -- every change up to this one has its vectors; 0 while they are first made
) WITHOUT ROWID"""

_CONTEXTS = """CREATE TABLE vector_contexts (
    embedding_id BLOB PRIMARY KEY,
    message_id BLOB NOT NULL            -- the turn before, whose text the vector was made of too
) WITHOUT ROWID"""

_ITS_VECTORS_GO = """DELETE FROM embeddings WHERE owner_id = old.id
        OR owner_id IN (SELECT id FROM passages WHERE message_id = old.id);
    DELETE FROM passages WHERE message_id = old.id;"""

# Emptied, not deleted: the change feed then tells whose vector has to be made anew.
_THOSE_IT_IS_IN_ARE_EMPTIED = """UPDATE embeddings SET vector = x'', dimension = 0
        WHERE id IN (SELECT embedding_id FROM vector_contexts WHERE message_id = old.id);
    DELETE FROM vector_contexts WHERE message_id = old.id;"""

_MESSAGE_GOES = f"""CREATE TRIGGER vectors_go_with_a_message AFTER DELETE ON messages BEGIN
    {_ITS_VECTORS_GO}
    {_THOSE_IT_IS_IN_ARE_EMPTIED}
END"""

_MESSAGE_CHANGES = f"""CREATE TRIGGER vectors_go_with_a_change
AFTER UPDATE OF text, speaker, role, conversation_id, at, position ON messages
WHEN (old.text, old.role, old.conversation_id, old.at, old.position) <> (new.text, new.role, new.conversation_id, new.at, new.position)
    OR old.speaker IS NOT new.speaker BEGIN
    {_ITS_VECTORS_GO}
    {_THOSE_IT_IS_IN_ARE_EMPTIED}
END"""

_FACT_GOES = """CREATE TRIGGER vectors_go_with_a_fact AFTER DELETE ON facts BEGIN
    DELETE FROM embeddings WHERE owner_id = old.id;
END"""

_FACT_CHANGES = """CREATE TRIGGER vectors_go_with_a_wording AFTER UPDATE OF text ON facts WHEN old.text <> new.text BEGIN
    DELETE FROM embeddings WHERE owner_id = old.id;
END"""

_VECTOR_GOES = """CREATE TRIGGER contexts_go_with_a_vector AFTER DELETE ON embeddings BEGIN
    DELETE FROM vector_contexts WHERE embedding_id = old.id;
END"""

MEANING_SCHEMA = register_schema("meaning", "core", priority=20)(
    {
        1: SchemaVersion(
            version=1,
            name="Generations of vectors",
            description="How far each embedding model has come; vectors go with the memories they were made of",
            sql_statements=[
                _GENERATIONS,
                _CONTEXTS,
                "CREATE INDEX vector_contexts_of_message ON vector_contexts (message_id)",
                _MESSAGE_GOES,
                _MESSAGE_CHANGES,
                _FACT_GOES,
                _FACT_CHANGES,
                _VECTOR_GOES,
            ],
            rollback_statements=[
                "DROP TRIGGER contexts_go_with_a_vector",
                "DROP TRIGGER vectors_go_with_a_wording",
                "DROP TRIGGER vectors_go_with_a_fact",
                "DROP TRIGGER vectors_go_with_a_change",
                "DROP TRIGGER vectors_go_with_a_message",
                "DROP TABLE vector_contexts",
                "DROP TABLE generations",
            ],
            rests_on={"core": 2},
        ),
    }
)
