"""`aico demo`: a sample memory at work, and what a stranger sees of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from aico.cli._options import Call, common
from aico.cli._show import answer, console, print_indented, printable

if TYPE_CHECKING:
    from rich.console import Console

    from aico.demo import Answer, DemoReport


@click.command()
@common
def demo(call: Call) -> None:
    """Watch a sample memory at work, in a vault that is gone afterwards.

    Imports a conversation of four months, asks it questions, and searches every file of the vault for its text. Ends
    with code 1 if the memory fails or anything is readable. Your own vault is not touched.
    """
    from aico.demo import run_demo

    with _steps() as on_step:
        report = run_demo(on_step=on_step)
    answer(_document(report), lambda: _show(report), as_json=call.as_json)
    click.get_current_context().exit(0 if report.passed else 1)


@contextmanager
def _steps() -> Iterator[Callable[[str], object]]:
    """What is being done, on standard error, while it is being done."""
    screen = console(err=True)
    with screen.status("making a vault") as status:
        yield lambda step: status.update(step)


def _document(report: "DemoReport") -> dict[str, Any]:
    fields = ("question", "expected", "rank", "hit", "text", "at", "score", "latency_ms")
    return {
        "embedder": report.embedder,
        "messages": report.messages,
        "questions": [{name: getattr(one, name) for name in fields} for one in report.questions],
        "control_hits": report.control_hits,
        "searched_bytes": report.searched_bytes,
        "leaks": report.leaks,
        "seconds": report.seconds,
    }


def _show(report: "DemoReport") -> None:
    from statistics import median

    from rich.text import Text

    screen = console()
    told = (
        f"{report.messages} messages between Nell and her companion, recorded into a sealed vault. Asked afterwards:\n"
    )
    screen.print(Text(told))
    for one in report.questions:
        _show_answer(one, screen)
    latency_ms = median(one.latency_ms for one in report.questions)
    screen.print(
        Text.assemble(
            "\n",
            (f"{report.answered} of {len(report.questions)} answered", "bold"),
            f", about {latency_ms:.1f} ms each. No language model, no network.\n",
            (f"{report.leaks} places readable", "bold" if report.leaks == 0 else "bold red"),
            f" in all {report.searched_bytes:,} bytes of the vault's files, searched open and closed as a stranger would. "
            f"In a plain copy the same search finds {report.control_hits}.\n\n"
            "The vault is gone again. Begin your own with: ",
            ("aico init", "bold cyan"),
        )
    )


def _show_answer(one: "Answer", screen: "Console") -> None:
    """The question and the first hit with its moment; then the memory that was meant, where it did not come first."""
    from rich.text import Text

    screen.print(Text.assemble(("✓ ", "green") if one.hit else ("✗ ", "bold red"), (one.question, "bold")))
    figures = f"{one.latency_ms:.1f} ms"
    if one.text is not None and one.at is not None and one.score is not None:
        figures = f"{one.at.day} {one.at:%b %Y, %H:%M} · score {one.score:.2f} · {figures}"
    print_indented(screen, Text.assemble(printable(one.text or "nothing was found"), "  ", (figures, "dim")), by=2)
    if one.rank != 1:
        place = f"place {one.rank}: " if one.rank else "not found: "
        print_indented(screen, Text.assemble((place, "yellow"), printable(one.expected_text)), by=4)
