"""What commands print: one JSON object for programs, or text for people that no memory can turn into terminal commands."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from io import StringIO, TextIOWrapper
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, cast

import click

from aico.errors import InvalidInput, StorageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

WIDTH_MAX = 100
_PHRASE_COLUMNS = 4
# Control characters in a memory would move the cursor, or let letters change places so that an id, a name or an answer
# reads as another: each is shown as its picture instead.
_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"}
_PICTURES |= {
    0x7F: 0x2421,
    **dict.fromkeys((*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)), 0xFFFD),
}


class AnswerNotWritten(StorageError):
    """Standard output takes no more. It is told on standard error, also to a program."""


def print_json(document: dict[str, Any]) -> None:  # what a program reads: any JSON
    """One JSON object in UTF-8, alone on its line, whatever the terminal's encoding is."""
    import msgspec

    stream = _stream(err=False)
    with _answering():
        click.echo(msgspec.json.encode(document), file=stream)


def print_text(text: str) -> None:
    """Text for programs, as it is."""
    stream = _stream(err=False)
    with _answering():
        click.echo(text, file=stream, nl=False)


def answer(document: dict[str, Any], show: Callable[[], object], *, as_json: bool) -> None:
    """Print the answer of a command: `document` for a program, else what `show` shows."""
    if as_json:
        print_json(document)
    else:
        show()


@contextmanager
def standard_output(*, as_json: bool) -> Iterator[BinaryIO]:
    """Standard output for the bytes of an export. Raises StorageError if it takes no more before the end."""
    if as_json:
        raise InvalidInput("--json and the export would share standard output; nothing was written", hint="name a file")
    target = cast("BinaryIO", cast("TextIOWrapper", _stream(err=False)).buffer)
    try:
        yield target
        target.flush()
    except BrokenPipeError:
        _leave_output()
        raise AnswerNotWritten("whoever read the export stopped before its end; it is not whole") from None
    except OSError as exc:
        _leave_output()
        raise AnswerNotWritten(
            f"standard output took no more ({exc.strerror}); the export is not whole",
            hint="name a file on another disk",
        ) from exc


def say(text: str, *, err: bool = False) -> None:
    """A plain line for people."""
    stream = _stream(err=err)
    if err:
        with suppress(OSError):  # nobody is left who could be told
            click.echo(printable(text), file=stream)
        return
    with _answering():
        click.echo(printable(text), file=stream)


def tell_of_log(*, cleared: bool) -> None:
    """After something was taken away: that older pages are still in the write-ahead log, where that could not be emptied."""
    if not cleared:
        say("! Another program is reading, or the disk is full: sealed pages of before stay in the log for a while.")


def printable(text: str) -> str:
    """The text with control characters replaced by their pictures."""
    return text.translate(_PICTURES)


def day_and_time(at: datetime) -> str:
    """A moment as its author's clock showed it."""
    return f"{at.day} {at:%B %Y, %H:%M}"


def number_of(count: int, what: str) -> str:
    """A count and its noun, in the plural where it is one."""
    plural = f"{what[:-1]}ies" if what.endswith("y") and what[-2] not in "aeiou" else f"{what}s"
    return f"{count:,} {what if count == 1 else plural}"


def size(count: int) -> str:
    """A size in bytes, as people say it."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.0f} KB"


def show_phrase(phrase: str) -> None:
    """A recovery phrase in numbered columns, and what to do with it."""
    numbered = [f"{number:2} {word:<10}" for number, word in enumerate(phrase.split(), start=1)]
    rows = -(-len(numbered) // _PHRASE_COLUMNS)
    grid = "\n".join("  " + "  ".join(numbered[row::rows]).rstrip() for row in range(rows))
    say(f"\nYour recovery phrase. It is shown this once and kept nowhere:\n\n{grid}\n")
    say("Write the words down on paper, in this order. Whoever has the paper can open")
    say("the vault; a photo or a file of it can be stolen unseen.")


def console(*, err: bool = False) -> "Console":
    """Rich's console on standard output or error. Its texts are shown as they are: no markup, no guessing of colours."""
    from rich.console import Console

    stream = _stream(err=err)
    made = Console(file=stream if err else cast("TextIO", _Answers(stream)), markup=False, emoji=False, highlight=False)
    made.width = min(made.width, WIDTH_MAX)
    return made


def print_indented(screen: "Console", text: "str | Text", style: str = "", *, by: int = 4) -> None:
    """A wrapped paragraph, set in from the left."""
    from rich.text import Text

    whole = Text(printable(text), style=style) if isinstance(text, str) else text
    for line in whole.wrap(screen, screen.width - by):
        line.rstrip()
        screen.print(Text(" " * by).append_text(line))


def not_written(reason: str | None) -> AnswerNotWritten:
    """The error for an answer that is lost. Nothing more is written there."""
    _leave_output()
    return AnswerNotWritten(
        f"the answer could not be written to standard output ({reason}); what the command did is done",
        hint="make room there; before you do it again, look what there is",
    )


@contextmanager
def _answering() -> Iterator[None]:
    """What is written in here and finds no room becomes AnswerNotWritten. A reader who stopped had what they wanted."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise not_written(exc.strerror) from exc


def _leave_output() -> None:
    """Python would complain again when it ends."""
    sys.stdout = open("/dev/null", "w")  # noqa: PTH123, SIM115


class _Answers:
    """Standard output for Rich, which writes by itself."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with _answering():
            return self._stream.write(text)

    def flush(self) -> None:
        with _answering():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:  # as the stream has it
        return getattr(self._stream, name)


def _stream(*, err: bool) -> TextIO:
    """Standard output or error; a letter that the terminal cannot show becomes a question mark, not an error.

    Raises AnswerNotWritten where the program was started without standard output.
    """
    stream = cast("TextIO | None", sys.stderr if err else sys.stdout)
    if stream is None:
        if err:
            return StringIO()
        raise not_written("it is closed")
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="replace")
    return stream
