"""Bars on standard error that show how far a long command is; nothing where nobody looks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from aico.cli._show import console

if TYPE_CHECKING:
    from rich.progress import ProgressColumn


class Moves(Protocol):
    """Moves a bar: how much is done, of how much, and of what where that changes."""

    def __call__(self, done: int, total: int | None, what: str | None = None) -> object: ...


@contextmanager
def byte_progress(what: str) -> Iterator[Moves | None]:
    """A bar that moves with the bytes read."""
    from rich.progress import DownloadColumn

    with _bar(what, DownloadColumn()) as moves:
        yield moves


@contextmanager
def count_progress(what: str) -> Iterator[Moves | None]:
    """A bar that moves with the things done."""
    from rich.progress import MofNCompleteColumn

    with _bar(what, MofNCompleteColumn()) as moves:
        yield moves


@contextmanager
def stage_progress() -> Iterator[Callable[[str, int, int], object] | None]:
    """A bar that moves with the things done, and says what they are."""
    from rich.progress import MofNCompleteColumn

    with _bar("", MofNCompleteColumn()) as moves:
        yield None if moves is None else lambda what, done, total: moves(done, total, what)


@contextmanager
def _bar(what: str, amount: "ProgressColumn") -> Iterator[Moves | None]:
    screen = console(err=True)
    if not screen.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total, what=None: bar.update(
            task, completed=done, total=total, **({} if what is None else {"description": what})
        )
