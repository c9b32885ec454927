"""What all commands take: --json, --home, --user, a text or `-`, and moments."""

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import click

from aico.clock import moment_from_text
from aico.errors import InvalidInput

_COUNT_MOST = 1 << 40
_Decorator = Callable[[Callable[..., None]], Callable[..., None]]


@dataclass(frozen=True, slots=True)
class Call:
    """How a command was called: the vault's folder if one was named, and whether a program reads the answer."""

    home: Path | None
    as_json: bool


class PathName(click.ParamType[Path]):
    """A path. An empty one, as of a variable that is not set, would be the current folder, and is refused."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # as typed
        if not str(value) or "\0" in str(value):
            self.fail("this is no name of a file or folder; nothing was done", param, ctx)
        return Path(value)


class Count(click.IntRange):
    """How many: a whole number from `min` on. One beyond what any store holds means all there is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # as typed
        return min(int(super().convert(value, param, ctx)), _COUNT_MOST)


def common(command: Callable[..., None]) -> Callable[..., None]:
    """The options that every command takes. The command gets them as its first argument, a `Call`."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object, also for an error.")
    @click.option("--home", metavar="PATH", hidden=True)  # as a global option, for those who write it last
    @click.pass_context
    @functools.wraps(command)
    def called(context: click.Context, /, *, as_json: bool, home: str | None, **given: Any) -> None:
        folder = home if home is not None else context.obj
        if folder == "":
            raise InvalidInput(
                "--home names no folder; nothing was done", hint="leave it out for AICO_HOME, else ~/.aico"
            )
        command(Call(None if folder is None else Path(folder), as_json), **given)

    return called


def text_argument(name: str, *, required: bool = True) -> _Decorator:
    """A text, or `-` for standard input: then nothing of it shows in the machine's list of processes."""
    return click.argument(name, required=required, callback=_text_or_piped)


def text_option(name: str, *, help: str) -> _Decorator:
    """A text as an option, or `-` for standard input."""
    return click.option(name, metavar="TEXT|-", callback=_text_or_piped, help=help)


def moment_option(name: str, *, help: str) -> _Decorator:
    """A moment in ISO 8601; without a zone it is this machine's, and a date alone is its midnight."""
    return click.option(name, metavar="MOMENT", callback=_moment, help=help)


user_option = click.option("--user", metavar="NAME", help="Whose memory. Default: the only user.")
writing_user_option = click.option(
    "--user", metavar="NAME", help='Whose memory. Default: the only user, or "me" in a vault that has none yet.'
)


def standard_input() -> BinaryIO:
    """What is piped in. Raises InvalidInput where the program was started without standard input."""
    if sys.stdin is None:
        raise InvalidInput("standard input is closed; nothing was changed", hint="pipe something in, or name a file")
    return sys.stdin.buffer


def piped_text() -> str:
    """Standard input as text, without the line break that ends it. Raises InvalidInput if it is closed or not UTF-8."""
    from aico.data.limits import TEXT_MAX_BYTES

    raw = standard_input().read(TEXT_MAX_BYTES + 3)
    if len(raw) > TEXT_MAX_BYTES + 2:
        raise InvalidInput(f"standard input has more than the {TEXT_MAX_BYTES:,} bytes that fit; nothing was changed")
    try:
        return raw.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise InvalidInput(
            "standard input is not UTF-8; nothing was changed", hint="convert it, then try again"
        ) from None


def _text_or_piped(context: click.Context, _: click.Parameter, value: str | None) -> str | None:
    return piped_text() if value == "-" and not context.resilient_parsing else value


def _moment(context: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        return moment_from_text(value)
    except InvalidInput as problem:
        raise click.BadParameter(str(problem), context, param) from None
