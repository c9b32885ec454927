"""From a command to an open vault and a user in it. A passphrase is read from a terminal, a file or a keyring only."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from aico.errors import InvalidInput, KeyringUnavailable, KeyslotMissing, WrongPassphrase

if TYPE_CHECKING:
    from aico.data.libsql import EncryptedLibSQLConnection
    from aico.settings import Settings
    from aico.vault import Vault

TRIES = 3
FIRST_USER = "me"
_Opened = TypeVar("_Opened")


def opened(
    home: Path | None,
    *,
    accept_older: bool = False,
    settings: "Settings | None" = None,
    approve_settings: bool = False,
    typed: list[str] | None = None,
) -> "Vault":
    """The vault, which must exist: unlocked by file, session or keyring, else by what a person types at the terminal.

    What was typed is added to `typed`. Raises as `aico.open`; without a terminal KeyslotMissing or KeyringUnavailable.
    """
    import aico

    opening = partial(
        aico.open, create=False, settings=settings, accept_older=accept_older, approve_settings=approve_settings
    )
    return _opened(home, opening, typed)


def opened_database(home: Path | None) -> "EncryptedLibSQLConnection":
    """The vault's database alone, no schema applied. Unlocked and raises as `opened`."""
    from aico.vault import open_database

    return _opened(home, open_database, None)


def _opened(home: Path | None, opening: Callable[..., _Opened], typed: list[str] | None) -> _Opened:
    from aico.settings import passphrase_file

    try:
        return opening(home)
    except (KeyslotMissing, KeyringUnavailable):
        if passphrase_file() is not None or not at_terminal():
            raise
    return _opened_by_hand(home, opening, [] if typed is None else typed)


def _opened_by_hand(home: Path | None, opening: Callable[..., _Opened], typed: list[str]) -> _Opened:
    for tries_left in reversed(range(TRIES)):
        try:
            typed.append(ask_hidden("Passphrase or recovery phrase: "))
            return opening(home, passphrase=typed[-1])
        except (WrongPassphrase, InvalidInput) as exc:
            if tries_left == 0:
                raise
            click.echo(str(exc), err=True)
    raise AssertionError


def chosen_user(vault: "Vault", name: str | None, *, first: str | None = None) -> str:
    """The named user, else the only one; `first` where there is none yet. Raises InvalidInput."""
    if name is not None:
        return name
    users = vault.users.list_profiles()
    if len(users) == 1:
        return users[0].name
    if not users and first is not None:
        return first
    if not users:
        raise InvalidInput(
            "this vault has no user yet", hint="record or import something first, or name one with --user"
        )
    raise InvalidInput(
        f"this vault has {len(users)} users and none was named", hint="name one with --user; `aico status` lists them"
    )


def at_terminal() -> bool:
    """Whether a person can be asked, also when the text itself comes through a pipe."""
    seen = sys.stderr is not None and sys.stderr.isatty()
    return can_confirm() or (seen and _has_controlling_terminal())


def ask_hidden(prompt: str) -> str:
    """What a person types, unseen. The prompt goes to the terminal itself, else to standard error."""
    import getpass

    try:
        return getpass.getpass(prompt)
    except EOFError:
        raise click.Abort from None


def can_confirm() -> bool:
    """Whether a person can be asked for a yes: standard input is a terminal, not the text of a memory."""
    return sys.stdin is not None and sys.stdin.isatty()


def confirmed(question: str) -> bool:
    """A person's yes; no is the default."""
    return click.confirm(question, default=False, err=True)


def secret_in(file: Path) -> str:
    """The passphrase, phrase or key that a file holds. Raises InvalidInput."""
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidInput(
            f"the file that holds the secret cannot be read ({_why(exc)}); nothing was changed",
            hint="check its path and permissions",
        ) from None


def _why(problem: OSError | UnicodeDecodeError) -> str:
    return "it is not UTF-8" if isinstance(problem, UnicodeDecodeError) else problem.strerror or type(problem).__name__


def asked_twice() -> str:
    """A new passphrase, typed twice the same. Raises InvalidInput when that failed three times."""
    for _ in range(TRIES):
        typed = ask_hidden("New passphrase: ")
        if typed and typed == ask_hidden("The same again: "):
            return typed
        click.echo(
            "The two were not the same; please try again." if typed else "Please type at least one character.", err=True
        )
    raise InvalidInput("the passphrase was not typed twice the same; nothing was made")


def _has_controlling_terminal() -> bool:
    try:
        with Path("/dev/tty").open("rb+", buffering=0):
            return True
    except OSError:
        return False
