"""`aico analytics`: reports on a memory as a whole, free SQL over its columns, pictures, and exports for training."""

import sys
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aico.cli._options import Call, PathName, common, text_argument, user_option
from aico.cli._show import answer, console, number_of, print_text, printable, say
from aico.cli._unlock import chosen_user, opened
from aico.errors import InvalidInput

if TYPE_CHECKING:
    from aico.data.duckdb import Answer

SPANS = ("day", "week", "month")
REPORTS = {
    "activity": ("How many messages, over time.", "day"),
    "rhythm": ("When in the week you talk.", None),
    "conversations": ("The longest conversations.", None),
    "gaps": ("How long you stay away.", None),
    "topics": ("What was talked about, and when.", "month"),
    "unanswered": ("What was asked and not found.", None),
    "tones": ("The tones you gave to memories.", "month"),
    "satisfaction": ("What you thought of it.", "week"),
    "growth": ("How the memory grows.", "month"),
    "recall": ("How fast and how well recall answers.", "day"),
    "retention": ("Which conversations go on.", None),
    "storage": ("What is kept, by kind.", None),
}
"""Each with what it shows, and what it is cut into unless another span is named."""
_COLUMNS_MAX = 12
"""A table with more is turned, so that it fits on a screen."""
_csv_option = click.option("--csv", "as_csv", is_flag=True, help="Print it as CSV, with the columns' names first.")


@click.group(invoke_without_command=True)
@click.pass_context
def analytics(context: click.Context) -> None:
    """Look at a memory as a whole.

    Nothing leaves this machine: the columns lie in memory, and sealed in the vault.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _add_report(name: str, what: str, default_span: str | None) -> None:
    @analytics.command(name, help=what)
    @click.option(
        "--plot", type=PathName(), metavar="FILE", help="Draw it into a new file, .png or .svg, that anybody can read."
    )
    @_csv_option
    @user_option
    @common
    def report(call: Call, *, plot: Path | None, as_csv: bool, user: str | None, **options: Any) -> None:
        _check_one_form(call, as_csv=as_csv)
        with opened(call.home) as vault:
            found = vault.analytics.report(name, chosen_user(vault, user), **options)
        if plot is not None:
            from aico.analytics.plot import plot as draw

            draw(found, plot)
        if as_csv:
            _write_csv(found.answer)
            return
        answer(
            {
                "report": found.name,
                "columns": found.answer.columns,
                "rows": _plain(found.answer),
                "plot": None if plot is None else str(plot),
            },
            lambda: _show(found.title, found.answer, plot),
            as_json=call.as_json,
        )

    if default_span is not None:
        by = click.option(
            "--by", type=click.Choice(SPANS), default=default_span, show_default=True, help="Cut it into these."
        )
        by(report)


for _name, (_what, _span) in REPORTS.items():
    _add_report(_name, _what, _span)


@analytics.command()
@text_argument("statement")
@click.option(
    "--seconds", type=click.FloatRange(min=0.1), default=60.0, show_default=True, help="Stop it after so long."
)
@_csv_option
@user_option
@common
def sql(call: Call, *, statement: str, seconds: float, as_csv: bool, user: str | None) -> None:
    """Ask one SELECT of DuckDB's SQL, over your own rows alone; `tables` shows what there is."""
    _check_one_form(call, as_csv=as_csv)
    with opened(call.home) as vault:
        found = vault.analytics.sql(chosen_user(vault, user), statement, seconds_max=seconds)
    if as_csv:
        _write_csv(found)
        return
    answer(
        {"columns": found.columns, "rows": _plain(found)},
        lambda: _show(number_of(len(found.rows), "row"), found, None),
        as_json=call.as_json,
    )


@analytics.command()
@common
def tables(call: Call) -> None:
    """Show the tables that `sql` may name, and their columns."""
    with opened(call.home) as vault:
        found = vault.analytics.tables()
    told = "\n".join(f"{name}: {', '.join(columns)}" for name, columns in found.items())
    answer({"tables": found}, lambda: say(told), as_json=call.as_json)


@analytics.command("export")
@click.option(
    "--format",
    type=click.Choice(["jsonl", "parquet"]),
    default="jsonl",
    show_default=True,
    help="A conversation a line, or a message a row.",
)
@click.option("--output", type=PathName(), metavar="FILE", required=True, help="A new file.")
@click.option("--keep-names", is_flag=True, help="Leave names, addresses and numbers as they are.")
@user_option
@common
def export(call: Call, *, format: Any, output: Path, keep_names: bool, user: str | None) -> None:
    """Write what you agreed to, for training a model, into a file that anybody can read.

    You agree with `aico prefs set training.consent true`; conversations named in the list `training.excluded` stay out,
    and so does what feedback marked as sensitive is about. Names and contacts that the vault knows are taken out.
    """
    from dataclasses import asdict

    if str(output) == "-":
        raise InvalidInput("an export for training is written to a new file; nothing was written", hint="name a file")
    with opened(call.home) as vault:
        report = vault.analytics.export(chosen_user(vault, user), output, format=format, redact=not keep_names)
    answer(
        {**asdict(report), "encrypted": False},
        lambda: say(
            f"Wrote {number_of(report.messages, 'message')} of {number_of(report.conversations, 'conversation')} to "
            f"{output}; {report.left_out:,} left out. It is not encrypted: whoever gets it can read it."
        ),
        as_json=call.as_json,
    )


def _check_one_form(call: Call, *, as_csv: bool) -> None:
    if as_csv and call.as_json:
        raise InvalidInput("--csv and --json are two forms of one answer; nothing was read", hint="leave one out")


def _write_csv(found: "Answer") -> None:
    """RFC 4180, on standard output. What is no number or text of itself is as in JSON."""
    import csv
    import io
    import json

    text, at_a_terminal = io.StringIO(), sys.stdout is not None and sys.stdout.isatty()
    rows = csv.writer(text)
    rows.writerow(found.columns)
    for row in _plain(found):
        plain = [json.dumps(value) if isinstance(value, list | dict | bool) else value for value in row]
        rows.writerow([printable(value) if at_a_terminal and isinstance(value, str) else value for value in plain])
    print_text(text.getvalue())


def _plain(found: "Answer") -> list[list[Any]]:
    return [[_value(value) for value in row] for row in found.rows]


def _value(value: Any) -> Any:
    if isinstance(value, str | int | float | bool | list | dict) or value is None:
        return value
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return value.hex if type(value).__name__ == "UUID" else str(value)


def _show(title: str, found: "Answer", plot: Path | None) -> None:
    from rich.table import Table
    from rich.text import Text

    if not found.rows:
        say("There is nothing to show yet.", err=True)
    else:
        drawn = Table(title=title, title_justify="left")
        lines: list[Sequence[Any]] = [[column.replace("_", " ") for column in found.columns], *_plain(found)]
        if len(found.columns) > _COLUMNS_MAX:
            lines = list(zip(*lines, strict=True))
        for column in lines[0]:
            drawn.add_column(printable(str(column)))
        for row in lines[1:]:
            drawn.add_row(*(Text(printable("" if value is None else str(value))) for value in row))
        console().print(drawn)
    if plot is not None:
        say(f"Drawn into {plot}: it is not encrypted.")
