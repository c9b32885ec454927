"""The programs that start MCP servers, the files they read, and the one entry of ours in such a file."""

import difflib
import os
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aico.errors import InvalidInput, StorageError, storage_error
from aico.mcp.jsonc import with_member

FILE_MAX_BYTES = 64 * 1024 * 1024
_MAC, _WINDOWS = sys.platform == "darwin", sys.platform == "win32"


@dataclass(frozen=True, slots=True)
class Entry:
    """Our entry: its name, and the command that the client starts."""

    name: str
    command: list[str]


@dataclass(frozen=True, slots=True)
class Client:
    """A program: where its configuration lies, under which key servers stand, and what an entry needs beside a command."""

    file: Callable[[], Path]
    key: str = "mcpServers"
    extra: tuple[tuple[str, str], ...] = ()
    comments: bool = False
    """Whether it reads comments and trailing commas."""

    def value(self, entry: Entry) -> dict[str, Any]:  # any JSON
        """The entry as this client reads it."""
        return {**dict(self.extra), "command": entry.command[0], "args": entry.command[1:]}


@dataclass(frozen=True, slots=True)
class Change:
    """A configuration file before and after; `before` is empty for a new one."""

    file: Path
    before: str
    after: str

    def diff(self) -> list[str]:
        """The changed lines with what is around them, as `diff -u` shows them."""
        before, after = self.before.splitlines(), self.after.splitlines()
        return list(difflib.unified_diff(before, after, lineterm="", n=2))[2:]

    def write(self) -> None:
        """Replace the file in one step, with its permissions. Raises StorageError if it was changed since it was read."""
        if self.after == self.before:
            return
        try:
            if _read(self.file) != self.before:
                raise StorageError(f"{self.file} was changed meanwhile; it is as it was", hint="try again")
            _replace(self.file, self.after)
        except OSError as exc:
            raise storage_error(exc, self.file, "it is as it was") from exc


def planned(client: Client, entry: Entry, file: Path | None = None) -> Change:
    """What would be written. A link is followed. Raises InvalidInput for a file that the client could not read either."""
    place = (file or client.file()).expanduser().resolve()
    try:
        before = _read(place)
    except OSError as exc:
        raise storage_error(exc, place, "nothing was changed") from exc
    after = with_member(before, (client.key, entry.name), client.value(entry), comments=client.comments)
    return Change(place, before, after)


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            raw = opened.read(FILE_MAX_BYTES + 1)
        if len(raw) > FILE_MAX_BYTES:
            raise InvalidInput(f"{file} has more than {FILE_MAX_BYTES:,} bytes; it is as it was")
        return raw.decode()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise InvalidInput(f"{file} is not UTF-8; it is as it was", hint="convert it, then try again") from None


def _replace(file: Path, text: str) -> None:
    """A crash leaves the old file or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    mode = file.stat().st_mode & 0o777 if file.exists() else 0o600
    fresh = file.with_name(f"{file.name}.new-{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
            os.fchmod(out.fileno(), mode)
            out.write(text.encode())
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(file)
    finally:
        fresh.unlink(missing_ok=True)


def _home(*parts: str) -> Callable[[], Path]:
    return lambda: Path.home().joinpath(*parts)


def _application(*parts: str) -> Callable[[], Path]:
    """In the folder where this system's programs keep their settings."""

    def place() -> Path:
        if _MAC:
            return Path.home().joinpath("Library", "Application Support", *parts)
        if _WINDOWS:
            return Path(os.environ.get("APPDATA", Path.home() / "AppData" / "Roaming"), *parts)
        return _configuration(*parts)()

    return place


def _configuration(*parts: str) -> Callable[[], Path]:
    return lambda: Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config", *parts)


_STDIO = (("type", "stdio"),)
CLIENTS = {
    "claude-desktop": Client(_application("Claude", "claude_desktop_config.json")),
    "claude-code": Client(_home(".claude.json"), extra=_STDIO),
    "cursor": Client(_home(".cursor", "mcp.json")),
    "gemini": Client(_home(".gemini", "settings.json"), comments=True),
    "vscode": Client(_application("Code", "User", "mcp.json"), "servers", _STDIO, comments=True),
    "windsurf": Client(_home(".codeium", "windsurf", "mcp_config.json")),
    "zed": Client(
        _application("Zed", "settings.json") if _WINDOWS else _configuration("zed", "settings.json"),
        "context_servers",
        (("source", "custom"),),
        comments=True,
    ),
}
"""By the name that `aico mcp install` takes. docs/how-to/mcp.md says where each one's own documentation says so."""
