"""What a vault holds, and whether all is well with it: `aico status` and `aico doctor`."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aico.errors import AicoError, KeyringUnavailable
from aico.security import keyring
from aico.settings import CONFIG_FILE

if TYPE_CHECKING:
    from aico.vault import Vault

_COUNTED = ("users", "conversations", "messages", "facts", "erasures")


@dataclass(frozen=True, slots=True)
class Status:
    """A vault at a glance."""

    folder: Path
    format: int
    engine: str
    keyslots: list[str]
    rows: dict[str, int]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was examined."""

    name: str
    ok: bool
    message: str
    hint: str = ""


def status_of(vault: "Vault") -> Status:
    """Counts, keyslots and size on disk."""
    rows = {table: vault.connection.fetch_all(f"SELECT count(*) FROM {table}")[0][0] for table in _COUNTED}
    size = sum(path.stat().st_size for path in vault.folder.rglob("*") if path.is_file())
    return Status(vault.folder, vault.format, vault.connection.engine, list(vault.keys.slots()), rows, size)


def examine(vault: "Vault") -> list[Finding]:
    """Every examination there is, in the order of what matters most. Reads the whole database."""
    return [
        _pages(vault),
        _permissions(vault.folder),
        _leftovers(vault.folder),
        Finding("keyslots", True, f"the vault can be unlocked by: {', '.join(vault.keys.slots())}"),
        _keyring(vault),
        Finding("engine", True, f"{vault.connection.engine}; a changed byte is detected"),
        Finding(
            "freshness",
            True,
            "no commit anchor in format 0: an older copy of the whole folder cannot be told from the newest",
        ),
        *(
            Finding(view.name, True, f"{view.lag} changes behind; it reads on before it answers")
            for view in vault.views.status()
        ),
    ]


def _pages(vault: "Vault") -> Finding:
    try:
        vault.connection.verify()
    except AicoError as exc:
        return Finding("pages", False, str(exc), exc.hint)
    return Finding("pages", True, "every page opens under the vault's keys and the structure is sound")


def _permissions(folder: Path) -> Finding:
    ours = (
        path for path in (folder, *folder.rglob("*")) if path.name != CONFIG_FILE
    )  # written by hand, holds no secret
    loose = [path for path in ours if path.lstat().st_mode & 0o077 or path.lstat().st_uid != os.geteuid()]
    if loose:
        return Finding(
            "permissions",
            False,
            f"others on this machine may reach {len(loose)} files, such as {loose[0].name}; they hold no plain text",
            "chmod -R go= on the vault's folder",
        )
    return Finding("permissions", True, "folder and files are yours alone")


def _leftovers(folder: Path) -> Finding:
    left = [path for path in folder.rglob("*.new-*") if path.is_file()]
    if left:
        return Finding(
            "leftovers",
            False,
            f"{len(left)} sealed files of an interrupted step, such as {left[0].name}; they are not used",
            "delete them",
        )
    return Finding("leftovers", True, "nothing of an interrupted step is left")


def _keyring(vault: "Vault") -> Finding:
    needed = "keyring" in vault.keys.slots()
    try:
        return Finding("keyring", True, f"{keyring.backend_name()} is available")
    except KeyringUnavailable as exc:
        return Finding("keyring", not needed, str(exc), exc.hint)
