"""Who may come in, what people are to each other, and the record of both; and how the log is found by more than time.

The rules of the core tables hold here too. A PIN and the sessions it opens belong to this device alone: a guess is
counted where it is made, and a token means nothing elsewhere. So those two tables are not in the change feed.
"""

from aico.data.libsql.registry import SchemaVersion, register_schema

_USER_AUTHENTICATION = """CREATE TABLE user_authentication (
    row_id INTEGER PRIMARY KEY,
    user_id BLOB NOT NULL UNIQUE,
    salt BLOB NOT NULL,                 -- 16 random bytes, new with every PIN
    verifier BLOB NOT NULL,             -- Argon2id of the PIN, at the cost below
    memory_kib INTEGER NOT NULL,
    passes INTEGER NOT NULL,
    lanes INTEGER NOT NULL,
    failed_attempts INTEGER NOT NULL,   -- since the last success or lockout, counted before the PIN is looked at
    lockouts INTEGER NOT NULL,          -- since the last success: each is twice as long as the one before
    locked_until INTEGER,
    last_login INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
)"""

_AUTH_SESSIONS = """CREATE TABLE auth_sessions (
    row_id INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    user_id BLOB NOT NULL,
    device_id BLOB,
    token_hash BLOB NOT NULL UNIQUE,    -- SHA-256 of 32 random bytes that are kept nowhere
    created_at INTEGER NOT NULL,
    renewed_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
)"""

_USER_RELATIONSHIPS = """CREATE TABLE user_relationships (
    row_id INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,            -- hash of the three that follow
    user_id BLOB NOT NULL,
    related_user_id BLOB NOT NULL,
    relationship_type TEXT NOT NULL,    -- what the related person is to the user
    created_at INTEGER NOT NULL
)"""

_AUDIT_LOG = """CREATE TABLE audit_log (
    id INTEGER PRIMARY KEY,             -- 1, 2, 3 … without a gap
    at INTEGER NOT NULL,
    action TEXT NOT NULL,
    user_id BLOB,
    subject_id BLOB,                    -- the keyslot, session, receipt or device it is about
    counts TEXT NOT NULL,               -- JSON object of whole numbers
    seal BLOB NOT NULL                  -- keyed hash of all of the above and of the seal before
)"""

_REFUSED = "the audit log is only ever added to; nothing was changed"
# INSERT OR REPLACE deletes without asking a DELETE trigger, hence the rule about the next id.
_APPEND_ONLY = (
    f"CREATE TRIGGER audit_log_keeps_entries BEFORE UPDATE ON audit_log BEGIN SELECT raise(ABORT, '{_REFUSED}'); END",
    f"CREATE TRIGGER audit_log_keeps_rows BEFORE DELETE ON audit_log BEGIN SELECT raise(ABORT, '{_REFUSED}'); END",
    "CREATE TRIGGER audit_log_goes_on BEFORE INSERT ON audit_log "
    "WHEN new.id IS NOT (SELECT coalesce(max(id), 0) + 1 FROM audit_log) "
    f"BEGIN SELECT raise(ABORT, '{_REFUSED}'); END",
)

# The log is asked for the newest lines of something, often only the severe ones: the level lies behind the order, so that
# the others need not be read. What few lines have costs the rest nothing.
_LOG_INDEXES = (
    "CREATE INDEX logs_of_level ON logs (level, timestamp)",
    "CREATE INDEX logs_from_warning ON logs (timestamp) WHERE level IN ('WARNING', 'ERROR', 'CRITICAL')",
    "CREATE INDEX logs_from_error ON logs (timestamp) WHERE level IN ('ERROR', 'CRITICAL')",
    *(
        f"CREATE INDEX logs_of_{name} ON logs ({column}, timestamp, id, level) WHERE {column} IS NOT NULL"
        for name, column in (
            ("subsystem", "subsystem"),
            ("module", "module"),
            ("topic", "topic"),
            ("user", "user_id"),
            ("session", "session_id"),
            ("trace", "trace_id"),
        )
    ),
)

ACCESS_SCHEMA = register_schema("access", "core", priority=2)(
    {
        1: SchemaVersion(
            version=1,
            name="People and the record of access",
            description="PINs, sessions, relationships, the audit log, and the log's indexes",
            sql_statements=[
                _USER_AUTHENTICATION,
                _AUTH_SESSIONS,
                "CREATE INDEX auth_sessions_of_user ON auth_sessions (user_id)",
                "CREATE INDEX auth_sessions_by_end ON auth_sessions (expires_at)",
                _USER_RELATIONSHIPS,
                "CREATE INDEX relationships_of_user ON user_relationships (user_id)",
                "CREATE INDEX relationships_to_user ON user_relationships (related_user_id)",
                _AUDIT_LOG,
                *_APPEND_ONLY,
                "CREATE INDEX audit_log_of_user ON audit_log (user_id, id) WHERE user_id IS NOT NULL",
                *_LOG_INDEXES,
            ],
            rollback_statements=[
                *(f"DROP INDEX {index.split()[2]}" for index in _LOG_INDEXES),
                *(
                    f"DROP TABLE {table}"
                    for table in ("audit_log", "user_relationships", "auth_sessions", "user_authentication")
                ),
            ],
            captures=["user_relationships"],
            rests_on={"core": 1},
        ),
    }
)
