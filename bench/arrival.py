"""Arriving with years of chats: one ChatGPT export, imported in a process of its own, killed, resumed and searched.

The export is made up, in the product's own shape, and has a canary in every conversation. What the import writes is
searched for that canary as a stranger would: the vault, and what it was given as temporary and cache folders.
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import click
from rich.table import Table

import aico
from aico.audit import search_for_leaks
from aico.testing import cheap_settings
from bench._report import Report, figure, folder_option, json_option, progress, scratch_folder, table
from tests.portability.synthetic import write_chatgpt_zip

USER = "mia"
PASSPHRASE = "only a benchmark"
CANARY = "the heron of the ninth canal"
CHILD = "import sys; from bench.arrival import import_in_this_process; import_in_this_process(*sys.argv[1:])"
PLACES = ("tmp", "cache", "home")


@click.command("arrival")
@click.option("--n", "messages", type=click.IntRange(min=100), default=100_000, help="Messages in the export.")
@folder_option
@json_option
def command(messages: int, folder: Path | None, as_json: bool) -> None:
    """A ChatGPT export on its way in: speed, memory, a kill, and what can be read afterwards."""
    with scratch_folder(folder) as scratch:
        report = Report.begin("arrival", folder=scratch, messages=messages)
        export = scratch / "chatgpt.zip"
        progress(f"making up an export of {messages:,} messages")
        size = write_chatgpt_zip(export, messages, canary=CANARY)
        for place in PLACES:
            (scratch / place).mkdir()
        progress("importing it in one go")
        whole = finished(start(scratch, scratch / "vault", export))
        progress("again, killed at a third and resumed")
        resumed = killed_and_resumed(scratch, scratch / "killed", export, size)
        progress("searching everything that was written")
        searched = search_for_leaks([scratch / "vault", scratch / "killed", *(scratch / p for p in PLACES)], [CANARY])
        round_trip = out_and_back(scratch)
    results = {
        "export_mb": round(size / 1e6, 1),
        **whole,
        **resumed,
        "canary_hits": len(searched.leaks),
        "searched_mb": round(searched.searched_bytes / 1e6, 1),
        "control_hits": searched.control_hits,
        **round_trip,
    }
    report.publish(results, [_table(results)], as_json=as_json)


def import_in_this_process(vault_folder: str, export: str) -> None:
    """For a child: import, saying each time how far it is, and at the end what it took, as JSON."""
    steps = 0

    def tell(done: int, total: int | None) -> None:
        nonlocal steps
        steps += 1
        print(done, flush=True)

    with _open(Path(vault_folder)) as vault:
        before = resource.getrusage(resource.RUSAGE_SELF)
        start = perf_counter()
        report = vault.import_(export, USER, on_progress=tell)
        took = perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    results = {
        "import_s": round(took, 3),
        "cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 3),
        "messages_per_s": round((report.added + report.repeated) / took),
        "peak_mb": round(after.ru_maxrss / 1024, 1),
        "peak_before_mb": round(before.ru_maxrss / 1024, 1),
        "progress_steps": steps,
        "added": report.added,
        "repeated": report.repeated,
        "left_out": dict(report.left_out),
    }
    print(json.dumps(results), flush=True)


def start(scratch: Path, vault_folder: Path, export: Path) -> "subprocess.Popen[str]":
    """An import whose temporary files, caches and home are folders of ours."""
    folders = {"TMPDIR": "tmp", "XDG_CACHE_HOME": "cache", "HOME": "home"}
    environment = {**os.environ, **{name: str(scratch / place) for name, place in folders.items()}}
    arguments = [sys.executable, "-c", CHILD, str(vault_folder), str(export)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment)


def finished(running: "subprocess.Popen[str]") -> dict[str, Any]:
    """What an import said last."""
    said, _ = running.communicate()
    if running.returncode != 0:
        raise SystemExit(f"the import ended with {running.returncode}")
    results: dict[str, Any] = json.loads(said.strip().rpartition("\n")[2])
    return results


def killed_and_resumed(scratch: Path, vault_folder: Path, export: Path, size: int) -> dict[str, Any]:
    """Kill an import with -9 once a third is read, then run it again to its end."""
    with start(scratch, vault_folder, export) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if int(line) > size / 3:
                break
        running.kill()
    again = finished(start(scratch, vault_folder, export))
    with _open(vault_folder) as vault:
        kept = vault.status().rows["messages"]
    return {
        "killed_kept": again["repeated"],
        "resumed_added": again["added"],
        "resumed_s": again["import_s"],
        "messages_after_resume": kept,
    }


def out_and_back(scratch: Path) -> dict[str, Any]:
    """Export what was imported, import that into an empty vault, export again: the times, and whether it is the same."""
    first, second = scratch / "first.jsonl", scratch / "second.jsonl"
    with _open(scratch / "vault") as vault, _open(scratch / "restored") as restored:
        begin = perf_counter()
        vault.export(first, USER)
        written = perf_counter()
        restored.import_(first)
        read = perf_counter()
        restored.export(second, USER)
    return {
        "export_s": round(written - begin, 3),
        "restore_s": round(read - written, 3),
        "round_trip_identical": first.read_bytes() == second.read_bytes(),
    }


def _open(vault_folder: Path) -> aico.Vault:
    return aico.open(vault_folder, passphrase=PASSPHRASE, settings=cheap_settings())


def _table(results: Mapping[str, Any]) -> Table:
    drawn = table("Arrival", "what", "figure")
    for name, value in results.items():
        shown = figure(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
        drawn.add_row(name.replace("_", " "), shown)
    return drawn
