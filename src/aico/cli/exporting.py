"""`aico export`: one person's whole memory, in the clear."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aico.cli._options import Call, PathName, common, user_option
from aico.cli._show import answer, number_of, say, size, standard_output
from aico.cli._unlock import chosen_user, opened

if TYPE_CHECKING:
    from aico.portability.export import ExportReport

WARNING = "It is not encrypted: whoever gets it can read everything in it, and confirm a guess at what was forgotten."


@click.command("export")
@click.option(
    "--format", type=click.Choice(["jsonl", "markdown"]), default="jsonl", help="For aico import, or for people."
)
@click.option(
    "--output", type=PathName(), metavar="FILE|-", required=True, help="A new file, or - for standard output."
)
@user_option
@common
def export(call: Call, *, format: Any, output: Path, user: str | None) -> None:
    """Write one person's whole memory to a file that anybody can read.

    As JSON Lines, which `aico import` reads back to the same memory, or as one Markdown page. The file is readable by
    you alone on this machine, and is not encrypted. It never takes the place of another file.
    """
    if str(output) == "-":
        with standard_output(as_json=call.as_json) as target, opened(call.home) as vault:
            vault.export(target, chosen_user(vault, user), format=format)
        say(WARNING, err=True)
        return
    with opened(call.home) as vault:
        report = vault.export(output, chosen_user(vault, user), format=format)
    answer(_document(report), lambda: _show(report, output), as_json=call.as_json)


def _document(report: "ExportReport") -> dict[str, Any]:
    return {"records": dict(report.records), "size_bytes": report.size_bytes, "encrypted": False}


def _show(report: "ExportReport", output: Path) -> None:
    told = ", ".join(number_of(count, kind.replace("_", " ")) for kind, count in report.records.items())
    say(f"Written to {output}, {size(report.size_bytes)}: {told}.")
    say(WARNING)
