"""Does the vault lose anything? Processes killed by `kill -9`, many writers at once, and a kill at each single write.

Nothing here is about speed: what counts is how much that was acknowledged is missing, how many locks were in the way,
and whether every page is whole.
"""

import multiprocessing
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import click
from rich.table import Table

import aico
from aico.errors import AicoError
from aico.testing import PASSPHRASE, cheap_settings
from bench._report import Report, folder_option, json_option, percentile, progress, scratch_folder, table
from tests.children import run
from tests.crash.steps import CASES, kill_everywhere
from tests.crash.storms import vault_storm

PARTS = ("kills", "rotation", "writers", "steps")
USER = "mia"
BATCH = 100
TEXT = "On the way home we talked about the garden, and which of the old apple trees should stay. Note {number}."
READ_EVERY = 10
"""Calls between two looks at the conversation's end."""


@click.command("storm")
@click.option("--part", "parts", type=click.Choice(PARTS), multiple=True, default=PARTS, help="What to run.")
@click.option(
    "--processes", type=click.IntRange(min=1), default=8, help="Processes that write and read, and are killed."
)
@click.option("--kills", type=click.IntRange(min=1), default=1000, help="How many are killed.")
@click.option("--rotation-kills", type=click.IntRange(min=1), default=300, help="How many while the keys are rotated.")
@click.option("--writers", type=click.IntRange(min=1), default=32, help="Threads that write, four a process.")
@click.option("--operations", type=click.IntRange(min=1), default=1_000_000, help="Messages they record together.")
@click.option("--every", type=click.IntRange(min=1), default=1, help="Kill at each, or only at every so many writes.")
@click.option("--seed", type=int, default=1)
@folder_option
@json_option
def command(
    parts: Sequence[str],
    processes: int,
    kills: int,
    rotation_kills: int,
    writers: int,
    operations: int,
    every: int,
    seed: int,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Kills, crowds and single writes: what was acknowledged and is missing?"""
    with scratch_folder(folder) as scratch:
        report = Report.begin(
            "storm",
            folder=scratch,
            parts=list(parts),
            processes=processes,
            kills=kills,
            rotation_kills=rotation_kills,
            writers=writers,
            operations=operations,
            every=every,
            seed=seed,
        )
        results: dict[str, Any] = {}
        if "kills" in parts:
            progress(f"{processes} processes write and read; {kills} are killed")
            results["kills"] = _in_child(vault_storm, scratch / "kills", processes, kills, False, seed)
        if "rotation" in parts:
            progress(f"the same while the keys are rotated; {rotation_kills} are killed")
            results["rotation"] = _in_child(vault_storm, scratch / "rotation", processes, rotation_kills, True, seed)
        if "writers" in parts:
            progress(f"{writers} writers record {operations:,} messages")
            results["writers"] = crowd(scratch / "writers", writers=writers, operations=operations)
        steps = scratch / "steps"
        steps.mkdir()
        for name in CASES if "steps" in parts else ():
            progress(f"a kill at {'each write' if every == 1 else f'every {every}th write'} of a {name}")
            results[f"steps of a {name}"] = _in_child(kill_everywhere, name, steps, every)
    report.publish({"parts": results, "wrong": _wrong(results)}, [_table(results)], as_json=as_json)


def _in_child(work: Any, *arguments: object) -> dict[str, Any]:  # any function of tests.crash
    """In a process without threads, which forks; a day is long enough."""
    done = run(work, *arguments, patience_s=86_400, AICO_EMBEDDER="none")
    if done.error is not None or not isinstance(done.value, dict):
        return {"wrong": f"{done.error}: {done.message}"}
    return done.value


def _wrong(results: dict[str, dict[str, Any]]) -> list[str]:
    """The parts in which something was lost, broken or in the way."""
    return [name for name, found in results.items() if found.get("wrong") or found.get("errors") or found.get("lost")]


# Many writers


@dataclass(slots=True)
class Share:
    """What one thread wrote into a conversation of its own: its messages are numbered from 0."""

    writer: int
    acknowledged: int = 0
    calls: int = 0
    took_s: float = 0.0
    waits_ms: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def crowd(folder: Path, *, writers: int, operations: int, threads: int = 4) -> dict[str, Any]:
    """Let them record, each one message alone and then a batch of a hundred, in turn; then look for every message."""
    _open(folder).close()
    quota, context = -(-operations // writers), multiprocessing.get_context("spawn")
    groups = [range(start, min(start + threads, writers)) for start in range(0, writers, threads)]
    with ProcessPoolExecutor(len(groups), context) as pool:
        running = [pool.submit(_run_process, folder, group, quota) for group in groups]
        shares = [share for process in running for share in process.result()]
    progress("looking for every message")
    lost, integrity = _look(folder, shares)
    acknowledged, waits_ms = (
        sum(share.acknowledged for share in shares),
        [w for share in shares for w in share.waits_ms],
    )
    return {
        "wrong": None if integrity == "ok" else integrity,
        "acknowledged": acknowledged,
        "lost": lost,
        "calls": sum(share.calls for share in shares),
        "errors": dict(Counter(error for share in shares for error in share.errors)),
        "took_s": round(max(share.took_s for share in shares), 1),
        "per_s": round(acknowledged / max(share.took_s for share in shares)),
        "p50_ms": round(percentile(waits_ms, 50), 1),
        "p99_ms": round(percentile(waits_ms, 99), 1),
        "longest_ms": round(percentile(waits_ms, 100), 1),
        "integrity": integrity,
    }


def _run_process(folder: Path, group: range, quota: int) -> list[Share]:
    shares = [Share(writer) for writer in group]
    with _open(folder) as vault, ThreadPoolExecutor(len(shares)) as pool:
        for writing in [pool.submit(_write, vault, share, quota) for share in shares]:
            writing.result()
    return shares


def _write(vault: aico.Vault, share: Share, quota: int) -> None:
    began, conversation = perf_counter(), f"writer {share.writer}"
    while share.acknowledged < quota:
        size = min(quota - share.acknowledged, BATCH if share.calls % 2 else 1)
        batch = [_message(number, conversation) for number in range(share.acknowledged, share.acknowledged + size)]
        before = perf_counter()
        try:
            if size == 1:
                vault.memory.record(USER, batch[0].text, conversation=conversation, source_id=batch[0].source_id)
            else:
                vault.memory.record_many(USER, batch)
        except AicoError as error:
            share.errors.append(f"{type(error).__name__}: {error}")
        else:
            share.acknowledged += size
        share.calls += 1
        share.waits_ms.append((perf_counter() - before) * 1e3)
        if share.calls % READ_EVERY == 0 and not vault.memory.recent(USER, conversation, limit=5):
            share.errors.append("nothing was read")
    share.took_s = perf_counter() - began


def _message(number: int, conversation: str) -> aico.Message:
    return aico.Message(TEXT.format(number=number), conversation=conversation, source_id=str(number))


def _look(folder: Path, shares: Sequence[Share]) -> tuple[int, str]:
    """How many acknowledged messages are not there as they were said, and what the examination of every page says."""
    expected = {f"writer {share.writer}": share.acknowledged for share in shares}
    right = Counter[str]()
    with _open(folder) as vault:
        with vault.connection.snapshot() as rows:
            sql = "SELECT c.name, m.source_id, m.text FROM messages m JOIN conversations c ON c.id = m.conversation_id"
            for name, source, text in rows(sql):
                right[name] += int(source) < expected[name] and text == TEXT.format(number=source)
        try:
            vault.connection.verify()
            integrity = "ok"
        except AicoError as error:
            integrity = f"{type(error).__name__}: {error}"
    return sum(count - right[name] for name, count in expected.items()), integrity


def _open(folder: Path) -> aico.Vault:
    return aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings())


def _table(results: dict[str, dict[str, Any]]) -> Table:
    drawn = table("Storms", "part", "kills", "acknowledged", "lost", "errors", "wrong")
    for name, found in results.items():
        figures = (found.get(what, "–") for what in ("kills", "acknowledged", "lost"))
        drawn.add_row(
            name, *map(str, figures), str(sum(found.get("errors", {}).values())), str(found["wrong"] or "nothing")
        )
    return drawn
