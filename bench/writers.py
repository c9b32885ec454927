"""Many writers, one vault: how many durable records a second do all processes make together, and is it fair?

Each process opens the vault, waits for all others, and then records from each of its threads one message after
another until the time is up. A record counts when its id came back. Afterwards every one of those ids is looked for.
"""

import multiprocessing
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.synchronize import Barrier
from pathlib import Path
from time import perf_counter
from typing import Any

import click
from rich.table import Table

import aico
from aico.errors import AicoError
from aico.testing import cheap_settings
from bench._report import Report, folder_option, json_option, percentile, progress, scratch_folder, table

USER = "mia"
PASSPHRASE = "only a benchmark"
START_WAIT_S = 60.0
TEXT = "On the way home we talked about the garden, and which of the old apple trees should stay. Note {number}."


@dataclass(slots=True)
class Share:
    """What one thread wrote, in a conversation of its own."""

    process: int
    conversation: str
    took_s: float = 0.0
    ids: list[str] = field(default_factory=list)
    waits_ms: list[float] = field(default_factory=list)  # of each acknowledged record
    errors: list[str] = field(default_factory=list)  # type names only


@click.command("writers")
@click.option("--processes", type=click.IntRange(min=1), default=8, help="Processes, each started afresh.")
@click.option("--threads", type=click.IntRange(min=1), default=4, help="Threads in each process.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=5.0, help="How long they write.")
@folder_option
@json_option
def command(processes: int, threads: int, seconds: float, folder: Path | None, as_json: bool) -> None:
    """Durable records from many processes and threads into one vault."""
    with scratch_folder(folder) as scratch:
        report = Report.begin("writers", folder=scratch, processes=processes, threads=threads, seconds=seconds)
        vault_folder = scratch / "vault"
        _open(vault_folder).close()
        progress(f"{processes} processes of {threads} threads write for {seconds:g} s")
        shares = run_processes(vault_folder, processes=processes, threads=threads, duration_s=seconds)
        progress("looking for every record")
        lost = count_lost(vault_folder, shares)
    results = {**summarise(shares), "lost": lost}
    report.publish(results, [_table(results)], as_json=as_json)


def run_processes(vault_folder: Path, *, processes: int, threads: int, duration_s: float) -> list[Share]:
    """The shares of all threads of all processes. A process is spawned, so that it inherits no open vault."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _inherit, (context.Barrier(processes),)) as pool:
        writing = [pool.submit(_run_process, vault_folder, number, threads, duration_s) for number in range(processes)]
        return [share for process in writing for share in process.result()]


def count_lost(vault_folder: Path, shares: Iterable[Share]) -> int:
    """How many acknowledged records a vault opened afresh does not have."""
    with _open(vault_folder) as vault:
        return sum(len(set(share.ids) - _known_ids(vault, share)) for share in shares)


def summarise(shares: Sequence[Share]) -> dict[str, Any]:
    """Figures over everything; a fair share is an equal part of all records."""
    by_process = Counter[int]()
    for share in shares:
        by_process[share.process] += len(share.ids)
    waits_ms = [wait for share in shares for wait in share.waits_ms]
    fair_share = by_process.total() / len(by_process)
    return {
        "records": by_process.total(),
        "records_per_s": round(by_process.total() / max(share.took_s for share in shares), 1),
        "p50_ms": round(percentile(waits_ms, 50), 3),
        "p99_ms": round(percentile(waits_ms, 99), 3),
        "longest_ms": round(percentile(waits_ms, 100), 3),
        "by_process": [by_process[process] for process in sorted(by_process)],
        "slowest_of_fair_share": round(min(by_process.values()) / fair_share, 3) if fair_share else None,
        "errors": dict(Counter(error for share in shares for error in share.errors)),
    }


# Inside a writing process

_all_ready: Barrier
"""Set in a spawned process before its work arrives: a barrier can be inherited but not sent."""


def _inherit(barrier: Barrier) -> None:
    global _all_ready
    _all_ready = barrier


def _run_process(vault_folder: Path, process: int, threads: int, duration_s: float) -> list[Share]:
    shares = [Share(process, f"process {process}, thread {thread}") for thread in range(threads)]
    try:
        with _open(vault_folder) as vault, ThreadPoolExecutor(threads) as pool:
            vault.memory.record(USER, "Ready.", conversation="the start")
            _all_ready.wait(START_WAIT_S)
            for writing in [pool.submit(_write, vault, share, duration_s) for share in shares]:
                writing.result()
    except BaseException:
        _all_ready.abort()  # or the others would wait for us in vain
        raise
    return shares


def _write(vault: aico.Vault, share: Share, duration_s: float) -> None:
    start = now = perf_counter()
    while now - start < duration_s:
        before = now
        try:
            text = TEXT.format(number=len(share.ids))
            share.ids.append(vault.memory.record(USER, text, conversation=share.conversation))
        except AicoError as error:
            share.errors.append(type(error).__name__)
            now = perf_counter()
        else:
            now = perf_counter()
            share.waits_ms.append((now - before) * 1e3)
    share.took_s = now - start


def _open(vault_folder: Path) -> aico.Vault:
    return aico.open(vault_folder, passphrase=PASSPHRASE, settings=cheap_settings())


def _known_ids(vault: aico.Vault, share: Share) -> set[str]:
    return {moment.id for moment in vault.memory.recent(USER, share.conversation, limit=len(share.ids) + 1)}


def _table(results: Mapping[str, Any]) -> Table:
    drawn = table("Durable records", "what", "figure")
    for name, value in results.items():
        drawn.add_row(name.replace("_", " "), str(value))
    return drawn
