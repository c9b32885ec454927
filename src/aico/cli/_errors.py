"""How an error leaves the program: what happened, what to do next, an exit code. Never what a person typed."""

import difflib
import traceback
from contextlib import suppress
from pathlib import Path

import click

from aico.cli import COMMANDS, MISTYPED
from aico.cli._show import AnswerNotWritten, not_written, print_json, say
from aico.errors import AicoError

USAGE_CODE, INTERRUPTED_CODE, OWN_FAULT_CODE = 2, 130, 1


def report(error: Exception, *, as_json: bool) -> int:
    """Tell a person on standard error, or a program on standard output, and return the exit code.

    A program is told on standard error too where standard output takes nothing.
    """
    if isinstance(error, OSError) and _was_raised_in_click(error):  # which writes help and version by itself
        error = not_written(error.strerror)
    name, message, hint, code = _told(error)
    if as_json and not isinstance(error, AnswerNotWritten):
        with suppress(AnswerNotWritten, BrokenPipeError):
            print_json({"error": name, "message": message, "hint": hint})
            return code
    say(f"aico: {message}", err=True)
    if hint:
        say(f"      {hint}", err=True)
    return code


def _told(error: Exception) -> tuple[str, str, str, int]:
    """Name, message, hint and exit code."""
    if isinstance(error, AicoError):
        return type(error).__name__, str(error), error.hint, error.exit_code
    if isinstance(error, click.Abort):
        return "Interrupted", "interrupted; what was acknowledged is kept, nothing else was done", "", INTERRUPTED_CODE
    if isinstance(error, click.ClickException):
        message, hint = _usage(error)
        return "UsageError", message, hint, USAGE_CODE
    return (
        type(error).__name__,
        _own_fault(error),
        "please report it with these lines; they hold nothing of yours",
        OWN_FAULT_CODE,
    )


def _usage(error: click.ClickException) -> tuple[str, str]:
    """Click's own messages repeat what was typed, which may be a memory; these name the option only."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"`{context.command_path} --help` shows what it takes" if context else ""
    match error:
        case click.MissingParameter():
            return error.format_message(), hint
        case click.BadParameter(param=click.Parameter() as param):
            return f"{param.opts[0]}: {_expected(param, error)}", hint
        case click.NoSuchOption(possibilities=[nearest, *_]):
            return "there is no such option", f"did you mean {nearest}?"
        case click.NoSuchOption():
            return "there is no such option", hint
        case click.BadOptionUsage():
            return error.format_message(), hint
    if context is not None and isinstance(context.command, click.Group):
        near = difflib.get_close_matches(context.meta.get(MISTYPED, ""), COMMANDS, n=1)
        return "there is no such command", f"did you mean `aico {near[0]}`?" if near else hint
    return "there are more arguments than this command takes", "put the text in quotes, or give - and pipe it in"


def _expected(param: click.Parameter, error: click.BadParameter) -> str:
    if isinstance(param.type, click.Choice):
        return f"choose from {', '.join(map(str, param.type.choices))}"
    if isinstance(param.type, click.IntRange):
        return f"expected a whole number from {param.type.min} on"
    if isinstance(param.type, click.types.IntParamType):
        return "expected a whole number"
    if isinstance(param.type, click.types.FloatParamType):
        return "expected a number"
    return error.message  # our own types, which do not repeat the value


def _was_raised_in_click(error: Exception) -> bool:
    *_, (frame, _line) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).startswith("click.")


def _own_fault(error: Exception) -> str:
    """Where an unforeseen error came from: our own lines, without its message, which may hold content."""
    package = str(Path(__file__).parents[1])
    lines = "".join(traceback.format_tb(error.__traceback__)[-4:]).rstrip().replace(package, "aico")
    return f"an error of aico's own ({type(error).__name__}); what was acknowledged is kept\n{lines}"
