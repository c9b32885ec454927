"""Writes an upstream AICO installation with the engines and in the layout that upstream uses.

    uv run --all-extras python -m tests.portability.upstream_layout FOLDER

prints the master key. Tables are those of upstream's schema 18, keys and values those of its stores; the database is
written by the libsql wheel, working memory by lmdb and the vector store by chromadb itself.
"""

import hashlib
import json
import os
import sys
from datetime import datetime, timedelta
from pathlib import Path

MASTER_KEY = bytes(range(32))
MIA, TOM, GONE = ("0d9a1c2e-1111-4000-8000-000000000001", "0d9a1c2e-2222-4000-8000-000000000002", "gone-3")
CHAT = f"{MIA}_1764000000"
START = datetime(2025, 11, 20, 9, 0, 0)
NOTE, SECRET_WORD = "the day it all began", "heron"

TABLES = [
    "CREATE TABLE _aico_schema_metadata (key TEXT PRIMARY KEY, value TEXT, created_at TIMESTAMP, updated_at TIMESTAMP)",
    "CREATE TABLE users (uuid TEXT PRIMARY KEY, full_name TEXT NOT NULL, nickname TEXT, user_type TEXT DEFAULT 'parent', "
    "is_active BOOLEAN DEFAULT TRUE, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP)",
    "CREATE TABLE user_authentication (uuid TEXT PRIMARY KEY, user_uuid TEXT, pin_hash TEXT, failed_attempts INTEGER, "
    "locked_until TIMESTAMP, last_login TIMESTAMP, created_at TIMESTAMP, updated_at TIMESTAMP)",
    "CREATE TABLE user_relationships (uuid TEXT PRIMARY KEY, user_uuid TEXT, related_user_uuid TEXT, relationship_type TEXT, "
    "is_active BOOLEAN DEFAULT TRUE, created_at TIMESTAMP, updated_at TIMESTAMP)",
    "CREATE TABLE logs (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp TEXT, level TEXT, subsystem TEXT, message TEXT)",
    "CREATE TABLE user_memories (fact_id TEXT PRIMARY KEY, user_id TEXT NOT NULL, fact_type TEXT NOT NULL, category TEXT NOT NULL, "
    "confidence REAL NOT NULL, is_immutable BOOLEAN DEFAULT FALSE, valid_from TIMESTAMP DEFAULT CURRENT_TIMESTAMP, "
    "valid_until TIMESTAMP, content TEXT NOT NULL, entities_json TEXT, extraction_method TEXT NOT NULL, "
    "source_conversation_id TEXT NOT NULL, source_message_id TEXT, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, "
    "updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, user_note TEXT, tags_json TEXT, is_favorite INTEGER DEFAULT 0, "
    "revisit_count INTEGER DEFAULT 0, last_revisited TIMESTAMP, emotional_tone TEXT, memory_type TEXT, content_type TEXT, "
    "conversation_title TEXT, conversation_summary TEXT, turn_range TEXT, key_moments_json TEXT, temporal_metadata TEXT)",
    "CREATE TABLE feedback_events (id TEXT PRIMARY KEY, user_uuid TEXT NOT NULL, conversation_id TEXT NOT NULL, message_id TEXT, "
    "event_type TEXT NOT NULL, event_category TEXT NOT NULL, payload TEXT NOT NULL, timestamp INTEGER NOT NULL, "
    "is_sensitive INTEGER DEFAULT 0, federated_at INTEGER)",
    "CREATE TABLE kg_nodes (id TEXT PRIMARY KEY, user_id TEXT, label TEXT, properties TEXT, confidence REAL, source_text TEXT)",
]


def write_installation(folder: Path, *, turns: int = 4, master_key: bytes = MASTER_KEY) -> Path:
    """An installation of two people and a removed one, in which Mia said `turns` turns; its data folder."""
    _write_database(folder / "data", master_key)
    _write_working(folder / "data" / "memory" / "working", turns)
    _write_semantic(folder / "data" / "memory" / "semantic", turns)
    return folder


def turn(number: int) -> str:
    return f"turn {number} about the {SECRET_WORD}"


def database_key(master_key: bytes, path: Path) -> bytes:
    """As upstream derives it, making the salt beside the database."""
    salt = path.with_suffix(path.suffix + ".salt")
    if not salt.exists():
        salt.parent.mkdir(parents=True, exist_ok=True)
        salt.write_bytes(os.urandom(16))
    return hashlib.pbkdf2_hmac("sha256", master_key + b"aico-db-libsql", salt.read_bytes(), 100_000, 32)


def _write_database(folder: Path, master_key: bytes) -> None:
    import libsql

    path = folder / "aico.db"
    key = database_key(master_key, path)
    opened = libsql.connect(str(path))
    opened.execute(f"PRAGMA key = 'x\"{key.hex()}\"'")
    opened.execute("PRAGMA journal_mode = WAL")
    for table in TABLES:
        opened.execute(table)
    people = [(MIA, "Mia Silva", "mia", 1), (TOM, "Tom Silva", None, 1), (GONE, "Old Guest", "guest", 0)]
    opened.executemany("INSERT INTO users (uuid, full_name, nickname, is_active) VALUES (?, ?, ?, ?)", people)
    opened.execute("INSERT INTO user_authentication (uuid, user_uuid, pin_hash) VALUES ('a1', ?, '$2b$12$x')", (MIA,))
    opened.execute("INSERT INTO user_relationships VALUES ('r1', ?, ?, 'brother', 1, NULL, NULL)", (MIA, TOM))
    opened.execute("INSERT INTO logs (level, message) VALUES ('INFO', 'started')")
    opened.execute("INSERT INTO kg_nodes (id, user_id, label) VALUES ('n1', ?, 'PERSON')", (MIA,))
    facts = [
        ("fact_a", MIA, "identity", "personal", 1.0, "Mia lives in Lisbon", "user_curated", CHAT, "m0", NOTE, '["home", "city"]', 1, 3),
        ("fact_b", MIA, "preference", "joy", 0.8, "Mia likes tea", "llm_analysis", CHAT, "long-gone", None, None, 0, 0),
        ("fact_c", GONE, "identity", "personal", 1.0, "The guest left", "user_curated", "c", None, None, None, 0, 0),
    ]  # fmt: skip
    opened.executemany(
        "INSERT INTO user_memories (fact_id, user_id, fact_type, category, confidence, content, extraction_method, "
        "source_conversation_id, source_message_id, user_note, tags_json, is_favorite, revisit_count, last_revisited, "
        "emotional_tone, conversation_summary) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '2025-11-21 08:00:00', NULL, 'A summary')",
        facts,
    )
    events = [
        ("fb_1", MIA, CHAT, "m0", "action", "remember", '{"fact": "fact_a"}', 1_763_629_200, 0),
        ("fb_2", MIA, CHAT, None, "survey", "health_check", "{}", 1_763_629_300, 1),
    ]
    opened.executemany(
        "INSERT INTO feedback_events (id, user_uuid, conversation_id, message_id, event_type, event_category, payload, "
        "timestamp, is_sensitive) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        events,
    )
    opened.commit()
    opened.close()


def _write_working(folder: Path, turns: int) -> None:
    import lmdb

    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=100 * 1024 * 1024, max_dbs=3) as opened:
        named = {name: opened.open_db(name.encode()) for name in ("session_memory", "user_sessions")}
        with opened.begin(write=True, db=named["session_memory"]) as transaction:
            for number in range(turns):
                at = START + timedelta(minutes=number)
                message = {
                    "message_id": f"m{number}",
                    "user_id": MIA,
                    "conversation_id": CHAT,
                    "content": turn(number),
                    "role": "assistant" if number % 2 else "user",
                    "timestamp": at.isoformat() + "Z",
                    "message_type": "text",
                    "_stored_at": at.isoformat() + "Z",
                    "_expires_at": (at + timedelta(days=30)).isoformat() + "Z",
                    "temporal_metadata": {"access_count": 0},
                }
                transaction.put(f"{CHAT}:{at.isoformat()}Z".encode(), json.dumps(message).encode())


def _write_semantic(folder: Path, turns: int) -> None:
    """What working memory has, a turn that it no longer has, one of Tom's, and last night's copy of the first."""
    import chromadb
    from chromadb.config import Settings

    client = chromadb.PersistentClient(
        path=str(folder), settings=Settings(anonymized_telemetry=False, allow_reset=True)
    )
    collection = client.create_collection("conversation_segments", metadata={"hnsw:space": "cosine"})
    segments = [
        (MIA, CHAT, "assistant" if n % 2 else "user", turn(n), START + timedelta(minutes=n)) for n in range(turns)
    ]
    segments += [
        (MIA, f"{MIA}_1750000000", "user", "an old turn, long expired", datetime(2025, 6, 1, 12)),
        (TOM, f"{TOM}_1764000001", "user", "Tom was here", datetime(2025, 11, 20, 10)),
        (MIA, CHAT, "user", turn(0), datetime(2025, 11, 21, 2)),
        (GONE, "c", "user", "nobody's words", datetime(2025, 5, 1)),
    ]
    for first in range(0, len(segments), 500):
        some = segments[first : first + 500]
        collection.add(
            ids=[f"seg_{first + number}" for number in range(len(some))],
            documents=[segment[3] for segment in some],
            embeddings=[[0.1, float(number % 7), 0.5] for number in range(len(some))],
            metadatas=[
                {
                    "user_id": user,
                    "conversation_id": conversation,
                    "role": role,
                    "timestamp": at.isoformat(),
                    "created_at": at.isoformat(),
                    "confidence": 1.0,
                    "version": 1,
                    "access_count": 0,
                }
                for user, conversation, role, _, at in some
            ],
        )
    collection.delete(ids=[f"seg_{len(segments) - 1}"])
    collection.add(  # the last stays in Chroma's queue or not, as it likes
        ids=["seg_last"], documents=["nobody's words"], embeddings=[[0.1, 0.2, 0.3]],
        metadatas=[{"user_id": GONE, "conversation_id": "c", "role": "user", "timestamp": "2025-05-01T00:00:00"}],
    )  # fmt: skip


if __name__ == "__main__":
    write_installation(Path(sys.argv[1]))
    print(MASTER_KEY.hex())
