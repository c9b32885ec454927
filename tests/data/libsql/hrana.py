"""A server of the libSQL HTTP protocol (Hrana 3, JSON) on loopback, with SQLite behind it: what the wheel talks to.

Written from the protocol's description (github.com/tursodatabase/libsql, docs/HRANA_3_SPEC.md). It is no sqld: it shows
that the wheel and our side of it work over the wire.
"""

import json
import sqlite3
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

TOKEN = "a-token-of-nobody"


@contextmanager
def server(path: Path) -> Iterator[str]:
    """The address of a server for the database in `path`; the token is TOKEN."""
    streams, numbers = dict[str, sqlite3.Connection](), count(1)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self._answer(401, b'{"error": "who are you?"}')
            baton = body.get("baton") or str(next(numbers))
            if baton not in streams:
                streams[baton] = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
            stream = streams[baton]
            if self.path == "/v3/cursor":
                lines = [{"baton": baton, "base_url": None}, *_cursor(stream, body["batch"]["steps"])]
                return self._answer(200, b"\n".join(json.dumps(line).encode() for line in lines) + b"\n")
            results = [_result(stream, request) for request in body["requests"]]
            self._answer(200, json.dumps({"baton": baton, "base_url": None, "results": results}).encode())

        def _answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Quietly."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        http.server_close()
        for stream in streams.values():
            stream.close()


def _result(stream: sqlite3.Connection, request: dict[str, Any]) -> dict[str, Any]:
    kind = request["type"]
    try:
        if kind == "describe":
            result: dict[str, Any] | None = _described(stream, request["sql"])
        elif kind == "execute":
            result = _executed(stream, request["stmt"])
        elif kind == "batch":
            found = [_executed(stream, step["stmt"]) for step in request["batch"]["steps"]]
            result = {"step_results": found, "step_errors": [None] * len(found)}
        elif kind == "get_autocommit":
            return {"type": "ok", "response": {"type": kind, "is_autocommit": not stream.in_transaction}}
        else:
            return {"type": "ok", "response": {"type": kind}}
    except sqlite3.Error as exc:
        return {"type": "error", "error": {"message": f"SQLite error: {exc}", "code": "SQLITE_ERROR"}}
    return {"type": "ok", "response": {"type": kind, "result": result}}


def _described(stream: sqlite3.Connection, sql: str) -> dict[str, Any]:
    word = sql.split()[0].upper()
    columns = []
    if word in ("SELECT", "VALUES", "PRAGMA", "WITH"):
        cursor = stream.execute(f"SELECT * FROM ({sql}) LIMIT 0" if word != "PRAGMA" else sql, (None,) * sql.count("?"))
        columns = [{"name": one[0], "decltype": None} for one in cursor.description or ()]
    params = [{"name": None} for _ in range(sql.count("?"))]
    return {"params": params, "cols": columns, "is_explain": False, "is_readonly": bool(columns)}


def _executed(stream: sqlite3.Connection, stmt: dict[str, Any]) -> dict[str, Any]:
    cursor = stream.execute(stmt["sql"], [_value_from(one) for one in stmt.get("args") or ()])
    columns = [{"name": one[0], "decltype": None} for one in cursor.description or ()]
    rows = [[_value_to(value) for value in row] for row in cursor.fetchall()]
    return {
        "cols": columns,
        "rows": rows,
        "affected_row_count": max(0, cursor.rowcount),
        "last_insert_rowid": str(cursor.lastrowid or 0),
        "replication_index": None,
        "rows_read": 0,
        "rows_written": 0,
        "query_duration_ms": 0.0,
    }


def _cursor(stream: sqlite3.Connection, steps: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for number, step in enumerate(steps):
        try:
            done = _executed(stream, step["stmt"])
        except sqlite3.Error as exc:
            error = {"message": f"SQLite error: {exc}", "code": "SQLITE_ERROR"}
            yield {"type": "step_error", "step": number, "error": error}
            return
        yield {"type": "step_begin", "step": number, "cols": done["cols"]}
        yield from ({"type": "row", "row": row} for row in done["rows"])
        counts = {name: done[name] for name in ("affected_row_count", "last_insert_rowid")}
        yield {"type": "step_end", **counts}


def _value_from(value: dict[str, Any]) -> Any:
    kind = value["type"]
    if kind == "blob":
        return b64decode(value["base64"] + "==")
    return None if kind == "null" else int(value["value"]) if kind == "integer" else value["value"]


def _value_to(value: Any) -> dict[str, Any]:
    if value is None:
        return {"type": "null"}
    if isinstance(value, bytes):
        return {"type": "blob", "base64": b64encode(value).decode().rstrip("=")}
    if isinstance(value, int):
        return {"type": "integer", "value": str(value)}
    return {"type": "float" if isinstance(value, float) else "text", "value": value}
