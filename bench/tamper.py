"""Is a changed file told? Bits flipped, pages swapped, files cut, yesterday's bytes put back, thousands of times.

Nothing here is about speed. Each change is made to a copy of a vault with a file of every kind; a process of its own
opens the copy and reads all that rests on the file. docs/threat-model.md names what cannot be noticed.
"""

import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from bench._report import Report, folder_option, json_option, progress, scratch_folder, table
from tests.crash.changes import OF_A_KILL, Change, changes
from tests.crash.judge import Judge
from tests.crash.world import CLOSED, EARLIER, KILLED, LOCKED, MISSING, OLDER, SAME, World, make_world

DERIVED = ("recall index", "columns", "hot tier", "log's index", "announcement")
"""Views and what belongs to a process that is gone: nothing of it is ever the only copy."""
REFUSED, REBUILT, WRONG = "refused", "made anew", "WRONG"
READ_BEFORE = (
    "aico.analytics.engine", "aico.analytics.reports", "aico.analytics.snapshots", "aico.backup", "duckdb", "lmdb",
    "mnemonic", "pyarrow", "tests.crash.world",
)  # fmt: skip
PROGRESS_EVERY = 500


@click.command("tamper")
@click.option("--changes", "count", type=click.IntRange(min=1), default=10_000, help="How many changes are tried.")
@click.option("--seed", type=int, default=1)
@folder_option
@json_option
def command(count: int, seed: int, folder: Path | None, as_json: bool) -> None:
    """Is a changed file told? Bits, pages, cuts and yesterday's bytes, over every kind of file."""
    with scratch_folder(folder) as scratch:
        report = Report.begin("tamper", folder=scratch, changes=count, seed=seed)
        progress("a vault with a file of every kind, on three days and after a kill")
        worlds = make_world(scratch / "made")
        results = tamper(worlds, scratch / "copy", count=count, seed=seed)
    report.publish(results, [_table(results)], as_json=as_json)


def tamper(worlds: dict[str, World], folder: Path, *, count: int, seed: int) -> dict[str, Any]:
    """Try `count` changes: how each kind of change of each kind of file ended, and what went wrong."""
    found: Counter[tuple[str, str, str]] = Counter()
    errors: Counter[str] = Counter()
    wrong: list[str] = []
    began = time.monotonic()
    with Judge(*READ_BEFORE) as judge:
        for state, world in worlds.items():  # what nobody changed reads as it was, and is no accident of the reading
            for kind in ("database", *DERIVED, "backup", "sealed file", "session"):
                if state == "closed" or kind in OF_A_KILL:
                    untouched = Change(state, kind, "", "", {})
                    assert _tried(judge, world, folder, untouched) == (SAME, ""), f"{kind} of {state}"
        for done, change in enumerate(changes(worlds, count=count, seed=seed), 1):
            outcome, error = _tried(judge, worlds[change.state], folder, change)
            found[change.kind, change.what, outcome] += 1
            errors[error] += bool(error) and outcome == REFUSED
            if outcome == WRONG:
                wrong.append(f"{change.kind}, {change.what}, {change.where} ({change.state}): {error}")
                progress(wrong[-1])
            if done % PROGRESS_EVERY == 0:
                progress(f"{done:,} of {count:,} in {time.monotonic() - began:,.0f} s")
    outcomes = [
        {"file": kind, "change": what, "outcome": outcome, "count": number}
        for (kind, what, outcome), number in sorted(found.items())
    ]
    return {"wrong": wrong, "tried": sum(found.values()), "errors": dict(+errors), "outcomes": outcomes}


def _tried(judge: Judge, world: World, folder: Path, change: Change) -> tuple[str, str]:
    """How the change ended, and in what words."""
    _lay_out(folder, {**world.files, **change.edits})
    said = judge.outcome(f"world {change.kind.partition('+')[0]}", folder)
    if said in (SAME, CLOSED if change.state == "closed" else KILLED):
        return REBUILT if change.kind in DERIVED and _is_gone(folder, change) else SAME, ""
    if said in (EARLIER, OLDER, MISSING):
        return (said if said in change.may else WRONG), said
    is_error = said.isidentifier() and said not in ("HANG",)
    return (REFUSED if is_error or said == LOCKED else WRONG), said


def _is_gone(folder: Path, change: Change) -> bool:
    """Whether what was changed was deleted or written anew."""
    return any(
        not (folder / name).exists() or (folder / name).read_bytes() != content
        for name, content in change.edits.items()
        if content is not None
    )


def _lay_out(folder: Path, files: dict[str, bytes | None]) -> None:
    """Make the folder's files exactly these, with a vault's modes."""
    shutil.rmtree(folder / "restored", ignore_errors=True)
    for path in [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []:
        if files.get(str(path.relative_to(folder))) is None:
            path.unlink()
    for name, content in files.items():
        if content is not None:
            path = folder / name
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o600)


def _table(results: dict[str, Any]) -> Table:
    columns = (SAME, REBUILT, REFUSED, EARLIER, OLDER, MISSING, WRONG)
    drawn = table(f"{results['tried']:,} changes", "file", "change", *columns)
    rows: dict[tuple[str, str], Counter[str]] = {}
    for one in results["outcomes"]:
        rows.setdefault((one["file"], one["change"]), Counter())[one["outcome"]] += one["count"]
    for (kind, what), counts in rows.items():
        drawn.add_row(kind, what, *(f"{counts[column]:,}" if counts[column] else "" for column in columns))
    return drawn
