"""Changes one setting in a vault's `config.toml` and leaves every other line, and every comment, as a person wrote it."""

import os
import secrets
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from aico.errors import InvalidInput, storage_error
from aico.settings import CONFIG_FILE, parse_settings

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

Value = str | int | float | bool | dict[str, str | int]


def write_setting(folder: Path, name: str, value: Value | None, *, make_folder: bool = False) -> None:
    """Set `name`, such as `users_in_memory` or `kdf.memory_kib`, or with None take it away, so that the default holds.

    A dict becomes a table. The whole file is checked as opening the vault would, then replaced in one step: whatever is
    raised, it is as it was. Raises InvalidInput (no such setting, a value that cannot be, a file that cannot be used),
    DiskFull or StorageError. `make_folder` makes that of a vault that is yet to be made. Of two processes that write at
    the same moment, one setting may be lost.
    """
    file = folder / CONFIG_FILE
    try:
        try:
            old = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            old = ""
        except UnicodeDecodeError as exc:
            raise InvalidInput(f"{file} is not UTF-8; it is as it was", hint="convert it, then try again") from exc
        fresh = _changed(old, name, value)
        parse_settings(fresh)
        if fresh != old:
            if make_folder:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _replace(file, fresh)
    except OSError as exc:
        raise storage_error(exc, file, "it is as it was") from exc


def _changed(text: str, name: str, value: Value | None) -> str:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        tomllib.loads(text)  # whose error says where it is wrong
        document = tomlkit.parse(text)
        if value is None:
            _take_away(document, name)
        else:
            _set(document, name, value)
        return tomlkit.dumps(document)
    except (tomllib.TOMLDecodeError, TOMLKitError) as exc:
        raise InvalidInput(
            f"{CONFIG_FILE} cannot be changed: {exc}; it is as it was", hint="correct the line, then try again"
        ) from exc


def _set(document: "TOMLDocument", name: str, value: Value) -> None:
    from tomlkit import table

    *parents, last = name.split(".")
    at = document
    for parent in parents:
        if parent not in at:
            at[parent] = table()
        at = at[parent]
        if not hasattr(at, "keys"):
            raise InvalidInput(f"{parent} is a setting with one value; nothing was changed", field=name)
    if isinstance(value, dict):
        whole = table()
        whole.update(value)
        if last in at:
            del at[last]  # a value and a table do not stand in the same place of a file
        at[last] = whole
    else:
        if hasattr(at.get(last), "keys"):
            del at[last]
        at[last] = value


def _take_away(document: "TOMLDocument", name: str) -> None:
    *parents, last = name.split(".")
    at = document
    for parent in parents:
        if not hasattr(at.get(parent), "keys"):
            return
        at = at[parent]
    if last in at:
        del at[last]


def _replace(file: Path, text: str) -> None:
    """A crash leaves the old file or the new one, readable by its owner alone."""
    fresh = file.with_name(f"{file.name}.new-{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(text.encode())
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(file)
    finally:
        fresh.unlink(missing_ok=True)
