"""What every benchmark reports in the same way: the machine, the parameters, its tables, one JSON object."""

import json
import os
import platform
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

import aico

WIDTH_IN_A_PIPE = 120

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output, nothing else.")
folder_option = click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where to put the temporary folder; a durable commit means little on a file system in memory.",
)


@dataclass(frozen=True, slots=True)
class Report:
    """One run of a benchmark, from the look at the machine before it to what it says after."""

    bench: str
    parameters: Mapping[str, object]
    machine: Mapping[str, Any]

    @classmethod
    def begin(cls, bench: str, *, folder: Path, **parameters: object) -> "Report":
        """Look at the machine now, before the benchmark itself makes it busy. `folder` is where it will write."""
        return cls(bench, parameters, describe_machine(folder))

    def publish(self, results: Mapping[str, object], tables: Sequence[Table], *, as_json: bool) -> None:
        """Print the results: as one JSON object, or as tables under a line about the machine."""
        if as_json:
            head = {"bench": self.bench, "aico": aico.__version__}
            whole = {**head, **results, "machine": self.machine, "parameters": self.parameters}
            click.echo(json.dumps(whole, indent=2))
            return
        console = Console() if sys.stdout.isatty() else Console(width=WIDTH_IN_A_PIPE)
        for table in tables:
            console.print(table)
        console.print(self._footer(), style="dim", highlight=False)

    def _footer(self) -> str:
        machine = self.machine
        libraries = ", ".join(f"{name} {version}" for name, version in machine["sqlite"].items())
        chosen = ", ".join(f"{name}={value}" for name, value in self.parameters.items())
        return (
            f"aico {aico.__version__} on {machine['cpu']}, {machine['cores']} cores, {machine['platform']}, "
            f"{machine['file_system']}; Python {machine['python']}; SQLite: {libraries}; "
            f"load before: {machine['load_before'][0]:.2f}\n{chosen}"
        )


def describe_machine(folder: Path) -> dict[str, Any]:
    """What a stranger needs to know before comparing figures; names no user, host or path."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "file_system": _file_system(folder),
        "python": platform.python_version(),
        "sqlite": _sqlite_versions(),
        "load_before": [round(load, 2) for load in os.getloadavg()],
    }


def table(title: str, *columns: str) -> Table:
    """A table whose first column names the row and whose other columns hold figures."""
    drawn = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for position, column in enumerate(columns):
        drawn.add_column(column, justify="right" if position else "left", no_wrap=position > 0)
    return drawn


def figure(value: float | None) -> str:
    """A number for a table with about four digits that count; a dash where there was nothing to measure."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"


def progress(text: str) -> None:
    """Say on standard error what is going on, so that standard output holds results only."""
    click.echo(text, err=True)


@contextmanager
def scratch_folder(parent: Path | None) -> Iterator[Path]:
    """A folder in `parent`, or where the system keeps temporary files, gone when the benchmark ends."""
    with tempfile.TemporaryDirectory(prefix="aico-bench-", dir=parent) as folder:
        yield Path(folder)


def seconds(work: Callable[..., object], *arguments: object) -> float:
    """How long one call takes, in seconds of wall time."""
    start = perf_counter()
    work(*arguments)
    return perf_counter() - start


def resident_mb() -> float:
    """The memory that this process has now, in MB of 2^20 bytes; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else []:
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` of the values lie; 0.0 when there are none."""
    return float(np.percentile(values, percent)) if values else 0.0


def _cpu_model() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _file_system(folder: Path) -> str:
    """The type of the file system that holds `folder`, such as ext4 or tmpfs, where the system tells."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return "unknown file system"
    kinds = {Path(line.split()[1]): line.split()[2] for line in mounts.read_text().splitlines()}
    here = folder.resolve()
    return next((kinds[place] for place in (here, *here.parents) if place in kinds), "unknown file system")


def _sqlite_versions() -> dict[str, str]:
    """The SQLite inside each library that is installed; SQLCipher's own release stands beside its SQLite's."""
    versions = {"sqlite3": sqlite3.sqlite_version, "apsw": import_module("apsw").sqlite_lib_version()}
    try:
        sqlcipher = import_module("sqlcipher3.dbapi2")
    except ImportError:
        return versions
    connection = sqlcipher.connect(":memory:")
    (release,) = connection.execute("PRAGMA cipher_version").fetchone()
    connection.close()
    return {**versions, "sqlcipher3": f"{sqlcipher.sqlite_version} (SQLCipher {release})"}
