"""The core tables.

What holds for all of them:

- `row_id` is for the inside (joins, indexes); `id`, 16 bytes, is the row's name outside and in the change feed. Rows
  that a caller names have a keyed hash of that name as their id (`aico.data.row_ids`), so that recording twice, or
  on two devices, is one row; all others have a UUIDv7.
- References between rows are ids, without FOREIGN KEY: on another device a child may arrive before its parent.
- Instants are INTEGER microseconds since 1970 UTC.
- Nothing is counted or updated per message: one record is one row, one index entry each and one change.
"""

from aico.data.libsql.registry import SchemaVersion, register_schema

_CHANGE_FEED = """CREATE TABLE change_feed (
    number INTEGER PRIMARY KEY,         -- rises by commit; never reused, pruning keeps the last row
    table_name TEXT NOT NULL,
    key BLOB NOT NULL,                  -- the row's id
    column_mask INTEGER NOT NULL,       -- bit i: column i changed; 0: the row was deleted
    at INTEGER NOT NULL
)"""

_USERS = """CREATE TABLE users (
    row_id INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,            -- hash of name and generation
    name TEXT NOT NULL,                 -- the short name the API uses, in Unicode's NFC
    generation INTEGER NOT NULL,        -- rises when an erased user's name is used again
    full_name TEXT,
    nickname TEXT,
    user_type TEXT NOT NULL,
    time_zone TEXT,                     -- IANA name
    is_active INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
)"""

_CONVERSATIONS = """CREATE TABLE conversations (
    row_id INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,            -- hash of user and name
    user_id BLOB NOT NULL,
    name TEXT NOT NULL,
    title TEXT,
    created_at INTEGER NOT NULL
)"""

_MESSAGES = """CREATE TABLE messages (
    row_id INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,            -- hash of conversation and source_id, or UUIDv7
    user_id BLOB NOT NULL,
    conversation_id BLOB NOT NULL,
    role TEXT NOT NULL,
    speaker TEXT,
    text TEXT NOT NULL,
    at INTEGER NOT NULL,                -- when it was said
    utc_offset_min INTEGER NOT NULL,    -- the author's clock
    position INTEGER NOT NULL,          -- orders messages of one instant: rises as they are recorded
    source_id TEXT
)"""

_PASSAGES = """CREATE TABLE passages (
    row_id INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,            -- hash of message and start
    message_id BLOB NOT NULL,
    start INTEGER NOT NULL,             -- in characters of the message's text
    length INTEGER NOT NULL
)"""

_EMBEDDINGS = """CREATE TABLE embeddings (
    row_id INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,            -- hash of user, content and model
    user_id BLOB NOT NULL,
    owner_id BLOB NOT NULL,             -- the message, passage or fact
    model TEXT NOT NULL,
    dimension INTEGER NOT NULL,
    vector BLOB NOT NULL                -- 16-bit floats, little-endian
)"""

_FACTS = """CREATE TABLE facts (
    row_id INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    user_id BLOB NOT NULL,
    text TEXT NOT NULL,
    category TEXT,
    confidence REAL NOT NULL,           -- 0 to 1
    trust TEXT NOT NULL,                -- who vouches for it: 'user' so far
    source TEXT,                        -- where it comes from, in the caller's words
    source_message_id BLOB,             -- or the message it was drawn from
    valid_from INTEGER,                 -- true in the world from … until
    valid_until INTEGER,
    recorded_at INTEGER NOT NULL,       -- believed from … until
    superseded_at INTEGER,
    supersedes BLOB                     -- the fact it takes the place of
)"""

_FACT_HISTORY = """CREATE TABLE fact_history (
    row_id INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    user_id BLOB NOT NULL,
    fact_id BLOB NOT NULL,
    change TEXT NOT NULL,               -- 'remembered', 'superseded'
    by_fact_id BLOB,
    at INTEGER NOT NULL
)"""

_ERASURES = """CREATE TABLE erasures (
    row_id INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,            -- of the row that is gone; keyed, so it tells nothing of its content
    user_id BLOB NOT NULL,
    receipt_id BLOB NOT NULL,
    kind TEXT NOT NULL,                 -- 'message' or 'fact'
    at INTEGER NOT NULL
)"""

_SESSION_METADATA = """CREATE TABLE session_metadata (
    row_id INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    user_id BLOB NOT NULL,
    conversation_id BLOB NOT NULL,
    device_id BLOB,
    started_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    ended_at INTEGER
)"""

_LOGS = """CREATE TABLE logs (
    id INTEGER PRIMARY KEY,
    timestamp INTEGER NOT NULL,
    level TEXT NOT NULL,
    message TEXT NOT NULL,
    subsystem TEXT,
    module TEXT,
    function_name TEXT,
    file_path TEXT,
    line_number INTEGER,
    topic TEXT,
    user_id BLOB,
    session_id TEXT,
    trace_id TEXT,
    extra TEXT                          -- JSON
)"""

# Callers also write ISO text, taken as UTC where it names no zone, and seconds or milliseconds: a number below 10^11
# is seconds, below 10^14 milliseconds. SQLite's date functions stop at milliseconds, so the rest of a fraction is read
# from the text. What is not a whole date and time of the years 1970 to 9999 becomes NULL, and the insert is refused.
_LOG_INSTANTS = """CREATE TRIGGER logs_instants AFTER INSERT ON logs
WHEN typeof(new.timestamp) <> 'integer' OR new.timestamp NOT BETWEEN 100000000000000 AND 253402300799999999 BEGIN
    UPDATE logs SET timestamp = CASE
        WHEN typeof(new.timestamp) = 'text' THEN (
            SELECT CASE WHEN strftime('%Y-%m-%d', day || 'T00:00:00') = day AND seconds BETWEEN 0 AND 253402300799
                THEN seconds * 1000000 + CAST(substr(digits || '000000', 1, 6) AS INTEGER) END
            FROM (SELECT substr(new.timestamp, 1, 10) AS day,
                CASE WHEN new.timestamp GLOB '????-??-??[T ]??:??*' THEN unixepoch(new.timestamp) END AS seconds,
                CASE WHEN substr(new.timestamp, 20, 1) = '.'
                    THEN substr(new.timestamp, 21, length(substr(new.timestamp, 21)) - length(ltrim(substr(new.timestamp, 21), '0123456789')))
                    ELSE '' END AS digits))
        WHEN new.timestamp < 0 THEN NULL
        WHEN typeof(new.timestamp) = 'blob' THEN NULL
        WHEN new.timestamp < 100000000000 THEN CAST(round(new.timestamp * 1000000) AS INTEGER)
        WHEN new.timestamp < 100000000000000 THEN CAST(round(new.timestamp * 1000) AS INTEGER)
        WHEN new.timestamp < 253402300800000000 THEN CAST(round(new.timestamp) AS INTEGER) END
    WHERE id = new.id;
END"""

_PREFERENCES = """CREATE TABLE preferences (
    row_id INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,            -- hash of user and key
    user_id BLOB NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,                -- JSON
    updated_at INTEGER NOT NULL
)"""

_DEVICES = """CREATE TABLE devices (
    row_id INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    device_type TEXT,
    platform TEXT,
    public_key BLOB,
    is_active INTEGER NOT NULL,
    seen_at INTEGER,
    created_at INTEGER NOT NULL
)"""

_FACT_SOURCES = """CREATE TABLE fact_sources (
    row_id INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,            -- hash of fact and message; of a fact that version 1 held, the fact's own
    user_id BLOB NOT NULL,
    fact_id BLOB NOT NULL,
    message_id BLOB NOT NULL            -- one of the messages that say so
)"""

_MEMORY_MARKS = """CREATE TABLE memory_marks (
    row_id INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,            -- hash of the owner
    user_id BLOB NOT NULL,
    owner_id BLOB NOT NULL,             -- the message or fact that the person marked
    favourite INTEGER NOT NULL,
    note TEXT,
    tone TEXT                           -- the feeling that goes with it, in the person's word
)"""

_MEMORY_TAGS = """CREATE TABLE memory_tags (
    row_id INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,            -- hash of owner and tag
    user_id BLOB NOT NULL,
    owner_id BLOB NOT NULL,
    tag TEXT NOT NULL
)"""

# One row for each visit: devices that counted by themselves have the sum of their counts once both hold all rows.
_MEMORY_VISITS = """CREATE TABLE memory_visits (
    row_id INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    user_id BLOB NOT NULL,
    owner_id BLOB NOT NULL,
    at INTEGER NOT NULL
)"""

# A number of this device's change feed, so this device's own.
_EXTRACTION_POSITIONS = """CREATE TABLE extraction_positions (
    user_id BLOB NOT NULL,
    model TEXT NOT NULL,
    number INTEGER NOT NULL,            -- the last change whose message this model was shown
    PRIMARY KEY (user_id, model)
) WITHOUT ROWID"""

_FACT_COLUMNS = {
    "type": "TEXT",                               # 'identity', 'preference', …: the caller's word
    "status": "TEXT NOT NULL DEFAULT 'accepted'",  # or 'proposed', 'rejected'; recorded_at is when it came to be so
    "proposed_at": "INTEGER",                     # when a model proposed it
    "model": "TEXT",                              # the model that found it
    "content_key": "BLOB",                        # hash of user and normalised text, the id of a model's finding; NULL: not yet
}  # fmt: skip

# The conversation lies behind the order, so that the last conversations are found in the index alone.
_MESSAGES_OF_USER = "CREATE INDEX messages_of_user ON messages (user_id, at, position, conversation_id)"

CORE_SCHEMA = register_schema("core", "core", priority=1)(
    {
        1: SchemaVersion(
            version=1,
            name="The main job",
            description="People, conversations, facts, what was forgotten, logs, and the feed of every change",
            sql_statements=[
                _CHANGE_FEED,
                _USERS,
                _CONVERSATIONS,
                "CREATE INDEX conversations_of_user ON conversations (user_id)",
                _MESSAGES,
                "CREATE INDEX messages_in_order ON messages (conversation_id, at, position)",
                _PASSAGES,
                "CREATE INDEX passages_of_message ON passages (message_id, start)",
                _EMBEDDINGS,
                "CREATE INDEX embeddings_of_owner ON embeddings (owner_id)",
                "CREATE INDEX embeddings_of_user ON embeddings (user_id, model)",
                _FACTS,
                "CREATE INDEX facts_of_user ON facts (user_id)",
                "CREATE INDEX facts_of_message ON facts (source_message_id) WHERE source_message_id IS NOT NULL",
                _FACT_HISTORY,
                "CREATE INDEX fact_history_of_fact ON fact_history (fact_id)",
                _ERASURES,
                _SESSION_METADATA,
                "CREATE INDEX sessions_of_conversation ON session_metadata (conversation_id)",
                _LOGS,
                _LOG_INSTANTS,
                "CREATE INDEX logs_in_order ON logs (timestamp)",
                _PREFERENCES,
                "CREATE INDEX preferences_of_user ON preferences (user_id)",
                _DEVICES,
            ],
            rollback_statements=[
                f"DROP TABLE {table}"
                for table in (
                    "devices",
                    "preferences",
                    "logs",
                    "session_metadata",
                    "erasures",
                    "fact_history",
                    "facts",
                    "embeddings",
                    "passages",
                    "messages",
                    "conversations",
                    "users",
                    "change_feed",
                )
            ],
            captures=[
                "users",
                "conversations",
                "messages",
                "passages",
                "embeddings",
                "facts",
                "fact_history",
                "erasures",
                "preferences",
                "devices",
            ],
        ),
        2: SchemaVersion(
            version=2,
            name="Facts that are reviewed, memories that are marked",
            description="Type, review and sources of facts; favourites, notes, tags and visits of facts and messages",
            sql_statements=[
                *(f"ALTER TABLE facts ADD COLUMN {name} {kind}" for name, kind in _FACT_COLUMNS.items()),
                "CREATE INDEX facts_in_order ON facts (user_id, status, recorded_at)",
                "CREATE INDEX facts_of_category ON facts (user_id, category, recorded_at)",
                "CREATE INDEX facts_by_content ON facts (content_key) WHERE content_key IS NOT NULL",
                "CREATE INDEX facts_without_content_key ON facts (user_id) WHERE content_key IS NULL",
                "CREATE INDEX facts_by_predecessor ON facts (supersedes) WHERE supersedes IS NOT NULL",
                _FACT_SOURCES,
                "CREATE INDEX sources_of_fact ON fact_sources (fact_id)",
                "CREATE INDEX sources_by_message ON fact_sources (message_id)",
                "INSERT INTO fact_sources (id, user_id, fact_id, message_id) "
                "SELECT id, user_id, id, source_message_id FROM facts WHERE source_message_id IS NOT NULL",
                _MEMORY_MARKS,
                "CREATE INDEX marks_of_owner ON memory_marks (owner_id)",
                "CREATE INDEX marks_of_user ON memory_marks (user_id, favourite, owner_id)",
                _MEMORY_TAGS,
                "CREATE INDEX tags_of_owner ON memory_tags (owner_id)",
                "CREATE INDEX tags_of_user ON memory_tags (user_id, tag, owner_id)",
                _MEMORY_VISITS,
                "CREATE INDEX visits_of_owner ON memory_visits (owner_id, at)",
                _EXTRACTION_POSITIONS,
            ],
            rollback_statements=[
                *(
                    f"DROP TABLE {table}"
                    for table in (
                        "extraction_positions",
                        "memory_visits",
                        "memory_tags",
                        "memory_marks",
                        "fact_sources",
                    )
                ),
                *(
                    f"DROP INDEX {index}"
                    for index in (
                        "facts_by_predecessor",
                        "facts_without_content_key",
                        "facts_by_content",
                        "facts_of_category",
                        "facts_in_order",
                    )
                ),
                # Version 1 knows no review: what nobody accepted must not come back from it as a fact.
                *(
                    f"DELETE FROM {table} WHERE {column} IN (SELECT id FROM facts WHERE status <> 'accepted')"
                    for table, column in (("embeddings", "owner_id"), ("fact_history", "fact_id"), ("facts", "id"))
                ),
                "DROP TRIGGER IF EXISTS facts_feeds_update",  # it names the columns; made anew for those that stay
                *(f"ALTER TABLE facts DROP COLUMN {name}" for name in reversed(_FACT_COLUMNS)),
            ],
            captures=["fact_sources", "memory_marks", "memory_tags", "memory_visits"],
        ),
        3: SchemaVersion(
            version=3,
            name="A person's messages in order of time",
            description="The newest messages and conversations of a person, found without reading the others",
            sql_statements=[_MESSAGES_OF_USER],
            rollback_statements=["DROP INDEX messages_of_user"],
        ),
    }
)
