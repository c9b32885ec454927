"""Other memory systems beside this one: speed, quality, weight, and what a stranger reads on the disk.

Each system runs in an environment of its own and is asked over a pipe (`drivers/`), as its own users would set it up; all
get the same vectors. Steps alternate: a question goes to each of them before the next question is asked.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from bench._report import Report, figure, folder_option, json_option, scratch_folder, table
from bench.peers.page import QUALITY, SPEED, WEIGHT, markdown, replaced
from bench.peers.quality import quality
from bench.peers.speed import speed
from bench.peers.systems import PEERS, installed, weight


@click.command("peers")
@click.option("--sizes", default="1000,10000,100000", help="How many messages, by commas.")
@click.option("--peers", "wanted", default=",".join(PEERS), help="Which systems, by commas.")
@click.option(
    "--fill-seconds", type=click.FloatRange(min=1), default=900.0, help="Adding in bulk is given up after so long."
)
@click.option(
    "--ask-seconds", type=click.FloatRange(min=1), default=300.0, help="No more questions for a system after so long."
)
@click.option("--data", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="LoCoMo, for quality too.")
@click.option(
    "--results",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write what is known there after each step. Parts that it holds already are not measured again.",
)
@click.option(
    "--page",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A Markdown page that gets the figures between its marks.",
)
@click.option("--markdown", "as_markdown", is_flag=True, help="The page's figures on standard output.")
@folder_option
@json_option
def command(
    sizes: str,
    wanted: str,
    fill_seconds: float,
    ask_seconds: float,
    data: Path | None,
    results: Path | None,
    page: Path | None,
    as_markdown: bool,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Speed, quality, weight and leaks beside mem0, Citadel, Chroma and LangGraph's store."""
    names = [name for name in PEERS if name in wanted.split(",")]
    with scratch_folder(folder) as scratch:
        report = Report.begin(
            "peers", folder=scratch, sizes=sizes, fill_seconds=fill_seconds, ask_seconds=ask_seconds,
            data=data and data.name,
        )  # fmt: skip
        run = _Run(names, scratch, results, report.machine)
        run.measure(sizes.split(","), data, fill_seconds=fill_seconds, ask_seconds=ask_seconds)
    if page is not None:
        page.write_text(replaced(page.read_text(), run.found))
    if as_markdown:
        click.echo(markdown(run.found))
    else:
        report.publish(run.found, _tables(run.found), as_json=as_json)


class _Run:
    """What was measured so far, in memory and in the file of results."""

    def __init__(self, names: list[str], scratch: Path, results: Path | None, machine: Mapping[str, Any]) -> None:
        self._names, self._scratch, self._file = names, scratch, results
        self._pythons: dict[str, Path] = {}
        self.found: dict[str, Any] = {
            "versions": {}, "measured": {}, "weight": {}, "speed": {}, "quality": {}, "unfinished": {},
            "machine": machine,
        }  # fmt: skip
        if results is not None and results.exists():
            self.found |= json.loads(results.read_text())

    def measure(self, sizes: list[str], data: Path | None, *, fill_seconds: float, ask_seconds: float) -> None:
        versions = self.found["versions"]
        if not self.found["weight"]:
            self._done("weight", "weight", {name: weight(name, self._python(name)) for name in self._names})
        for size in sizes:
            if size not in self.found["speed"]:
                rows = speed(
                    self._all(), self._scratch / size, int(size), fill_seconds=fill_seconds, ask_seconds=ask_seconds,
                    versions=versions, keep=self._keep(size),
                )  # fmt: skip
                self.found["speed"][size] = rows
                self._done(size, "speed", self.found["speed"])
        if data is not None and not self.found["quality"]:
            rows = quality(self._all(), self._scratch / "locomo", data, versions=versions, keep=self._keep("quality"))
            self._done("quality", "quality", rows)

    def _done(self, part: str, key: str, rows: dict[str, Any]) -> None:
        self.found[key] = rows
        self.found["measured"][part] = datetime.now(UTC).date().isoformat()
        self.found["unfinished"].pop(part, None)
        self._write()

    def _keep(self, part: str) -> Callable[[dict[str, Any]], None]:
        def keep(rows: dict[str, Any]) -> None:
            self.found["unfinished"][part] = rows
            self._write()

        return keep

    def _write(self) -> None:
        if self._file is not None:
            self._file.write_text(json.dumps(self.found, indent=1) + "\n")

    def _all(self) -> dict[str, Path]:
        return {name: self._python(name) for name in self._names}

    def _python(self, name: str) -> Path:
        if name not in self._pythons:
            self._pythons[name] = installed(name, self._scratch / "environments" / name)
        return self._pythons[name]


def _tables(found: Mapping[str, Any]) -> list[Table]:
    drawn = [_drawn("Installed", WEIGHT, found["weight"])]
    speed_columns = {"added": "added", **SPEED, "questions": "questions"}
    drawn += [_drawn(f"{int(size):,} messages", speed_columns, rows) for size, rows in found["speed"].items()]
    if found["quality"]:
        drawn.append(_drawn("LoCoMo, categories 1 to 4", QUALITY, found["quality"]))
    return drawn


def _drawn(title: str, columns: Mapping[str, str], rows: Mapping[str, Any]) -> Table:
    drawn = table(title, "system", *columns.values())
    for name, row in rows.items():
        drawn.add_row(name, *(figure(row[column]) for column in columns))
    return drawn
