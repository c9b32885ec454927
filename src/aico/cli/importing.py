"""`aico import`: messages from elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from aico.cli._options import Call, common, writing_user_option
from aico.cli._show import answer, console, number_of, printable, say
from aico.cli._unlock import FIRST_USER, chosen_user, opened
from aico.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from aico.portability.jsonl import ImportReport

BAD_SHOWN = 10


@click.command("import")
@click.argument("file")
@click.option("--skip-bad", is_flag=True, help="Leave out lines that are not messages, and report them.")
@click.option("--return-forgotten", is_flag=True, help="Record again what was forgotten.")
@writing_user_option
@common
def import_(call: Call, *, file: str, skip_bad: bool, return_forgotten: bool, user: str | None) -> None:
    """Record the messages of a JSON Lines file.

    FILE, or - for standard input, holds one message a line, such as {"text": "I moved to Lisbon.", "conversation":
    "c1", "at": "2026-05-08T19:30:00+02:00"}; role, speaker and source_id may be added. Importing a file again, or
    after it was interrupted, adds only what is missing.
    """
    from aico.portability.jsonl import import_jsonl

    with _opened(file) as (lines, size_bytes), opened(call.home) as vault:
        name = chosen_user(vault, user, first=FIRST_USER)
        with _progress(size_bytes) as on_progress:
            report = import_jsonl(
                vault.memory,
                name,
                lines,
                skip_bad=skip_bad,
                return_forgotten=return_forgotten,
                on_progress=on_progress,
            )
    answer(_document(report), lambda: _show(report), as_json=call.as_json)


@contextmanager
def _opened(file: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """The file and its size, None where it is not known."""
    if file == "-":
        yield sys.stdin.buffer, None
        return
    try:
        lines = Path(file).open("rb")  # noqa: SIM115  # closed below
    except FileNotFoundError:
        raise NotFound("there is no such file; nothing was imported", hint="check its path") from None
    except OSError as exc:
        raise InvalidInput(
            f"the file cannot be read: {exc.strerror}; nothing was imported", hint="check its path and permissions"
        ) from None
    with lines:
        yield lines, Path(file).stat().st_size or None


@contextmanager
def _progress(size_bytes: int | None) -> Iterator[Callable[[int], object] | None]:
    """A bar on standard error that moves with the bytes read; nothing where nobody looks."""
    screen = console(err=True)
    if not screen.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    with Progress(BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=screen, transient=True) as bar:
        task = bar.add_task("import", total=size_bytes)
        yield lambda done: bar.update(task, completed=done)


def _document(report: "ImportReport") -> dict[str, Any]:
    return {
        "added": report.added,
        "repeated": report.repeated,
        "forgotten": report.forgotten,
        "bad": [{"line": bad.line, "field": bad.field, "problem": bad.problem} for bad in report.bad],
        "ignored_fields": dict(report.ignored_fields),
    }


def _show(report: "ImportReport") -> None:
    say(
        f"{report.added:,} added, {report.repeated:,} there already, {report.forgotten:,} forgotten before and left so."
    )
    for name, count in report.ignored_fields.most_common():
        say(f"  the key {printable(name)} means nothing here; {number_of(count, 'line')} with it")
    if report.bad:
        say(f"{number_of(len(report.bad), 'line')} left out:")
    for bad in report.bad[:BAD_SHOWN]:
        say(f"  {bad}")
    if len(report.bad) > BAD_SHOWN:
        say(f"  and {len(report.bad) - BAD_SHOWN:,} more; --json has them all")
