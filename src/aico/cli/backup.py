"""`aico backup` and `aico restore`: sealed copies of the vault, made while it is in use."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aico.cli._backups import how_they_go
from aico.cli._options import Call, Count, PathName, common
from aico.cli._show import answer, console, day_and_time, number_of, printable, say, size
from aico.cli._unlock import ask_hidden, at_terminal, opened
from aico.errors import InvalidInput, KeyringUnavailable, KeyslotMissing

if TYPE_CHECKING:
    from aico.backup import BackupInfo, ForgottenPruned, OnProgress

_folder_option = click.option(
    "--to",
    "folder",
    metavar="FOLDER",
    type=PathName(),
    help="Where the backups lie. Default: the vault's own folder `backups`; another disk is safer.",
)


@click.group()
def backup() -> None:
    """Make, check and thin out sealed backups.

    A backup is one file. It opens with the passphrases and the recovery phrase of the day it was made.
    """


@backup.command()
@click.option("--full", is_flag=True, help="Store every page, also those that an older backup has.")
@_folder_option
@common
def create(call: Call, *, full: bool, folder: Path | None) -> None:
    """Back up the vault, while others use it.

    Only what changed since the newest backup is stored. Where something was forgotten since, all is: the new backup
    then does not need the older ones.
    """
    with opened(call.home) as vault, _progress("backup") as on_progress:
        made = vault.backups.create(folder, full=full, on_progress=on_progress)
    answer(_document(made), lambda: say(f"{made.path}\n{_line(made)}"), as_json=call.as_json)


@backup.command()
@click.argument("file", type=PathName())
@common
def verify(call: Call, *, file: Path) -> None:
    """Read a backup, and all it builds on, to the last byte."""
    with opened(call.home) as vault, _progress("verify") as on_progress:
        whole = vault.backups.verify(file, on_progress=on_progress)
    answer(_document(whole), lambda: say(f"Whole: {_line(whole)}"), as_json=call.as_json)


@backup.command("list")
@_folder_option
@common
def list_(call: Call, *, folder: Path | None) -> None:
    """Show the backups of this vault, oldest first, and what of each was forgotten since."""
    with opened(call.home) as vault:
        found = vault.backups.list(folder)
        forgotten = [vault.backups.forgotten_since(one) for one in found]
        others = vault.backups.count_others(folder)
    pairs = zip(found, forgotten, strict=True)
    document = {"backups": [{**_document(one), "forgotten_since": count} for one, count in pairs], "others": others}

    def show() -> None:
        _show(found, "There is no backup here that the vault's keys open." if others else "There is no backup here.")
        _show_others(others)
        if any(one.missing for one in found):
            say("What needs a backup that is missing cannot be restored without it. The next backup stands alone.")
        if any(forgotten):
            say(f"Some still hold what was forgotten since: up to {number_of(max(forgotten), 'memory')}.")
            say(f"A restore brings it back; {how_they_go(folder)}")

    answer(document, show, as_json=call.as_json)


@backup.command()
@click.option("--keep", type=Count(min=1), help="Delete all but this many of the newest, and what they build on.")
@click.option("--forgotten", is_flag=True, help="Delete those that still hold what was forgotten since.")
@_folder_option
@common
def prune(call: Call, *, keep: int | None, forgotten: bool, folder: Path | None) -> None:
    """Delete older backups: all but the newest, or those that still hold what was forgotten.

    With --forgotten a full backup is made first where no newer one is there to stay.
    """
    if forgotten == (keep is not None):
        raise InvalidInput("name one of --keep and --forgotten; nothing was deleted", hint="--help tells of both")
    with opened(call.home) as vault:
        if keep is not None:
            deleted = vault.backups.prune(keep, folder)
            answer(
                {"deleted": [_document(one) for one in deleted]},
                lambda: _show(deleted, "Nothing had to go."),
                as_json=call.as_json,
            )
            return
        with _progress("backup") as on_progress:
            pruned = vault.backups.prune_forgotten(folder, on_progress=on_progress)
        others = vault.backups.count_others(folder)
    document = {
        "deleted": [_document(one) for one in pruned.deleted],
        "made": None if pruned.made is None else _document(pruned.made),
        "others": others,
    }
    answer(document, lambda: _show_pruned(pruned, others), as_json=call.as_json)


@click.command()
@click.argument("file", type=PathName())
@click.option(
    "--to", "folder", type=PathName(), metavar="PATH", help="The new vault's folder. Default: the one of --home."
)
@common
def restore(call: Call, *, file: Path, folder: Path | None) -> None:
    """Make a vault from a backup.

    Its folder must not exist yet: nothing is ever overwritten. It opens with the secrets of the day of the backup.
    """
    place = folder if folder is not None else call.home
    with _progress("restore") as on_progress:
        restored = _restored(file, place, on_progress)
    answer(_document(restored), lambda: say(f"Restored: {_line(restored)}"), as_json=call.as_json)


def _restored(file: Path, place: Path | None, on_progress: "OnProgress | None") -> "BackupInfo":
    import aico
    from aico.settings import passphrase_file

    try:
        return aico.restore(file, place, on_progress=on_progress)
    except (KeyslotMissing, KeyringUnavailable):
        if passphrase_file() is not None or not at_terminal():
            raise
    secret = ask_hidden("Passphrase or recovery phrase of that day: ")
    return aico.restore(file, place, passphrase=secret, on_progress=on_progress)


@contextmanager
def _progress(what: str) -> "Iterator[Callable[[int, int], object] | None]":
    """A bar on standard error that moves with the pages; nothing where nobody looks."""
    screen = console(err=True)
    if not screen.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=screen, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _document(info: "BackupInfo") -> dict[str, Any]:
    return {
        "path": str(info.path),
        "id": info.id,
        "parent": info.parent,
        "created_at": info.created_at,
        "pages": info.pages,
        "stored_pages": info.stored_pages,
        "size_bytes": info.size_bytes,
        "missing": info.missing,
    }


def _show(found: "Sequence[BackupInfo]", nothing: str) -> None:
    for info in found:
        say(f"{printable(info.path.name)}\n    {_line(info)}")
    if not found:
        say(nothing)


def _show_pruned(pruned: "ForgottenPruned", others: int) -> None:
    if pruned.made is not None:
        say(f"Made first: {printable(pruned.made.path.name)}\n    {_line(pruned.made)}")
    if pruned.deleted:
        say("Deleted:")
    _show(pruned.deleted, "No backup here holds what was forgotten since; nothing had to go.")
    _show_others(others)


def _show_others(others: int) -> None:
    if others:
        say(f"{number_of(others, 'file')} beside them: damaged, another vault's, or from before the keys were rotated.")
        say("Those open with the secrets of their day: `aico restore FILE --to FOLDER`.")


def _line(info: "BackupInfo") -> str:
    kind = "full" if info.parent is None else f"builds on {info.parent}"
    if info.missing is not None:
        kind += f", {info.missing} is missing"
    return (
        f"{day_and_time(info.created_at)} UTC, {size(info.size_bytes)}, "
        f"{info.stored_pages:,} of {number_of(info.pages, 'page')}, {kind}"
    )
