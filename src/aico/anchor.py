"""The commit anchor: outside the folder, how far a vault had come. An older copy of the whole folder falls short of it.

Nothing in a folder can tell that all of it is old. So the number of the last change is kept in the operating system's
keyring, or in the file that AICO_ANCHOR_FILE names, and compared at opening. It is a lower bound: written when a vault
is closed and every few seconds while it is written to, never by a commit. docs/decisions/0027.
"""

import json
import os
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol, TypeVar

from aico.clock import SystemClock
from aico.data.change_feed import ChangeFeed
from aico.data.libsql import EncryptedLibSQLConnection
from aico.errors import AicoError, KeyringUnavailable, OlderState
from aico.security import keyring
from aico.settings import anchor_file

T = TypeVar("T")

EVERY_S = 10.0
"""How far the anchor may lag behind while a vault is written to."""
KEYRING_WAIT_S = 3.0
"""A locked keyring may ask a person; opening a vault does not wait for the answer."""


class Place(Protocol):
    """Where numbers are kept, by name. Raises KeyringUnavailable or OSError."""

    label: str

    def find(self, name: str) -> int | None: ...
    def store(self, name: str, number: int) -> None: ...


class CommitAnchor:
    """The anchor of one open vault. `check` once, then `keep`, then `close` while the connection is still open."""

    def __init__(
        self, vault_id: str, connection: EncryptedLibSQLConnection, folder: Path, *, in_keyring: bool = True
    ) -> None:
        # By the database too: one that was restored begins an anchor of its own, beside that of the lost one.
        self._name = f"{vault_id}/anchor/{connection.database_id}"
        self._feed, self._process = ChangeFeed(connection, clock=SystemClock()), os.getpid()
        self._place = _place(folder)
        self._stored: int | None = None
        self._stop: SimpleQueue[None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self.trouble = (
            "" if in_keyring or not isinstance(self._place, _InKeyring) else "this vault's settings want none"
        )
        """Why there is no anchor; empty where there is one."""

    @property
    def state(self) -> tuple[str, int] | None:
        """Where the anchor lies and the number it holds; None where there is none."""
        return None if self.trouble or self._stored is None else (self._place.label, self._stored)

    def check(self, *, accept_older: bool) -> None:
        """Raise OlderState if the vault was further than it is now, unless that is accepted: then from here on anew."""
        found = self._bounded(lambda: self._place.find(self._name))
        here = self._feed.newest()
        if found is not None and found > here and not accept_older:
            raise OlderState(
                f"this vault was at change {found:,} and is at {here:,}: its folder is an older copy, or the end of its"
                " log was cut; nothing was changed",
                hint="bring the newer folder back; if you put the older one here yourself: `aico doctor --accept-older`",
            )
        self._stored = found
        self._raise_to(here, lower=accept_older)

    def keep(self) -> None:
        """Follow the vault from the background, if there is a place for the anchor."""
        if not self.trouble:
            self._thread = threading.Thread(target=self._run, name="aico-anchor", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Store the last number and end. May be called twice."""
        if self._thread is not None and os.getpid() == self._process:
            self._stop.put(None)
            self._thread.join()
            self._follow()
        self._thread = None

    def _run(self) -> None:
        while True:
            try:
                return self._stop.get(timeout=EVERY_S)
            except Empty:
                self._follow()

    def _follow(self) -> None:
        with suppress(AicoError):  # what ails the vault is told to those who use it
            self._raise_to(self._feed.newest())

    def _raise_to(self, number: int, *, lower: bool = False) -> None:
        if self.trouble or (self._stored is not None and number <= self._stored and not lower):
            return

        def store() -> None:
            newest = self._place.find(self._name)  # of another process meanwhile
            if newest is None or number > newest or lower:
                self._place.store(self._name, number)

        self._bounded(store)
        self._stored = number

    def _bounded(self, work: Callable[[], T]) -> T | None:
        """`work`, in a thread that is left behind if it takes too long. What goes wrong is `trouble`, never an error."""
        if self.trouble:
            return None
        done: SimpleQueue[tuple[T | None, str]] = SimpleQueue()

        def run() -> None:
            try:
                done.put((work(), ""))
            except KeyringUnavailable as exc:
                done.put((None, str(exc)))
            except Exception as exc:  # noqa: BLE001  # a keyring's backend may raise anything, and opening goes on
                done.put((None, f"{self._place.label} cannot be used: {type(exc).__name__}"))

        threading.Thread(target=run, name="aico-anchor-io", daemon=True).start()
        try:
            value, self.trouble = done.get(timeout=KEYRING_WAIT_S)
        except Empty:
            value, self.trouble = None, f"{self._place.label} did not answer within {KEYRING_WAIT_S:g} s"
        return value


class _InKeyring:
    label = "the keyring"

    def find(self, name: str) -> int | None:
        found = keyring.find_note(name)
        return None if found is None else int(found)

    def store(self, name: str, number: int) -> None:
        keyring.store_note(name, str(number))


class _InFile:
    """One JSON object of names and numbers, replaced whole; of two writers at once the last wins, and both are bounds."""

    def __init__(self, path: Path, vault: Path) -> None:
        self._path, self._inside = path, path.resolve().is_relative_to(vault.resolve())
        self.label = f"{path} (AICO_ANCHOR_FILE)"

    def find(self, name: str) -> int | None:
        return self._numbers().get(name)

    def store(self, name: str, number: int) -> None:
        content = json.dumps({**self._numbers(), name: number}, indent=1)
        fresh = self._path.with_name(f"{self._path.name}.new-{secrets.token_hex(8)}")
        try:
            with open(fresh, "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write(content + "\n")
            fresh.replace(self._path)
        finally:
            fresh.unlink(missing_ok=True)

    def _numbers(self) -> dict[str, int]:
        if self._inside:  # it would be put back together with the folder
            raise ValueError
        try:
            numbers = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        if not isinstance(numbers, dict) or not all(type(number) is int for number in numbers.values()):
            raise ValueError
        return numbers


def _place(vault: Path) -> Place:
    file = anchor_file()
    return _InKeyring() if file is None else _InFile(file, vault)
