"""A libSQL server (sqld, Turso) behind the same connection: whoever runs it can read and change everything in it.

Nothing here is sealed or encrypted by us, so no vault is made on it. The wheel speaks the server's HTTP protocol.
"""

import re
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from aico.data.libsql.engine import EngineName, not_on_this_engine
from aico.data.libsql.native.connection import NativeConnection
from aico.data.libsql.native.engine import imported
from aico.errors import InvalidInput

_ADDRESS = re.compile(r"(libsql|https?)://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?/?[A-Za-z0-9._~/-]*")
_HERE = ("localhost", "127.0.0.1", "[::1]")
_TOKEN = re.compile(r"[\x21-\x7e]*")


class ServerEngine:
    """One database on a server at `url`: `libsql://` or `https://`, and `http://` on this machine alone.

    Raises InvalidInput for another kind of address, or for one that holds a password, and MissingExtra.
    """

    name: EngineName = "libsql"
    detects_tampering = False

    def __init__(self, url: str, auth_token: str | None, *, wait_s: float) -> None:
        found = _ADDRESS.fullmatch(url) if isinstance(url, str) else None
        if found is None:
            raise InvalidInput(
                "this is no address of a libSQL server; nothing was opened",
                hint="such as libsql://name.example.org, without a password or token in it",
                field="url",
            )
        if found[1] == "http" and found[2].lower() not in _HERE:
            raise InvalidInput(
                f"{found[2]} would get token and memories in the clear; nothing was opened",
                hint="use https:// or libsql://; http:// is for a server on this machine",
                field="url",
            )
        if auth_token is not None and not (isinstance(auth_token, str) and _TOKEN.fullmatch(auth_token)):
            raise InvalidInput("the token is text without spaces or line ends; nothing was opened", field="auth_token")
        libsql = imported()
        self.label, self._wait_s = found[2] + (found[3] or ""), wait_s
        self.description = f"libSQL server at {self.label} (whoever runs it can read everything)"

        def connect() -> Any:  # the token stays in here: no attribute holds it
            return libsql.connect(url, auth_token=auth_token or "", isolation_level=None)

        self._connect = connect

    def create(self) -> None:
        """The server's owner makes databases."""

    def connect(self) -> NativeConnection:
        return NativeConnection(self._connect, self.label, encrypted=False, on_server=True, wait_s=self._wait_s)

    def copy(self, source: Any, fresh: Path, place: Path) -> None:
        raise not_on_this_engine("copy a server's database to a file", "use the backups of whoever runs the server")

    def turn(self) -> "_NoTurn":
        return _NoTurn()

    def close(self) -> None:
        """There is nothing but connections."""


class _NoTurn(nullcontext[None], AbstractContextManager[None]):
    """The server queues its writers itself."""

    def close(self) -> None:
        """There is nothing to give back."""
