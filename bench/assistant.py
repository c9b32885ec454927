"""A day of an assistant over MCP: three programs share one vault, two of them are killed on the way, and is all there?

Each client is the official SDK's, with a server process of its own on real pipes. They record what is said and what is
learnt, recall, read the context and the last turns, and forget something. Two servers are killed with SIGKILL while a
call is under way; their clients start a new one and go on. Afterwards every acknowledged memory is looked for.
"""

import asyncio
import os
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

import click
from rich.table import Table

import aico
from aico.testing import cheap_settings
from bench._report import Report, folder_option, json_option, percentile, progress, scratch_folder, table

USER, PASSPHRASE = "mia", "only a benchmark"
CLIENTS = ("desktop", "editor", "terminal")
KILLED = CLIENTS[1:]
WORDS = [
    "lake",
    "bread",
    "viola",
    "harbour",
    "snow",
    "garden",
    "sister",
    "train",
    "museum",
    "cinnamon",
    "bicycle",
    "lantern",
    "orchard",
    "winter",
    "ferry",
]
WEIGHTS = {"recall": 40, "record": 35, "context": 10, "recent": 8, "remember": 5, "forget": 2}
CALL_WAIT_S = 60.0


@dataclass(slots=True)
class Day:
    """What one client did."""

    name: str
    acknowledged: set[str] = field(default_factory=set)
    forgotten: set[str] = field(default_factory=set)
    in_doubt: set[str] = field(default_factory=set)
    """Were being forgotten when the server was killed: either is right."""
    waits_ms: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    kills: int = 0


@click.command("assistant")
@click.option("--calls", type=click.IntRange(min=30), default=500, help="Calls of all clients together.")
@click.option("--messages", type=click.IntRange(min=0), default=10_000, help="Messages in the vault before.")
@folder_option
@json_option
def command(calls: int, messages: int, folder: Path | None, as_json: bool) -> None:
    """A day of an assistant over MCP: three clients, two killed."""
    with scratch_folder(folder) as scratch:
        report = Report.begin("assistant", folder=scratch, calls=calls, messages=messages)
        home, passphrase_file = scratch / "vault", scratch / "passphrase"
        passphrase_file.write_text(PASSPHRASE)
        progress(f"recording {messages:,} messages")
        with _open(home) as vault:
            vault.memory.record_many(USER, [_message(number) for number in range(messages)])
        progress("three clients begin their day")
        days = asyncio.run(_days(home, passphrase_file, calls))
        progress("looking for every memory")
        results = _summary(home, days)
    report.publish(results, [_table(results)], as_json=as_json)


async def _days(home: Path, passphrase_file: Path, calls: int) -> list[Day]:
    days = [Day(name) for name in CLIENTS]
    shares = [calls // len(CLIENTS) + (number < calls % len(CLIENTS)) for number in range(len(CLIENTS))]
    await asyncio.gather(*(_live(day, home, passphrase_file, share) for day, share in zip(days, shares, strict=True)))
    return days


async def _live(day: Day, home: Path, passphrase_file: Path, calls: int) -> None:
    """All calls of one client; a new server where the old one was killed."""
    from mcp import Client, StdioServerParameters, stdio_client

    random = Random(day.name)
    pid_file = passphrase_file.with_name(f"{day.name}.pid")
    serve = [sys.executable, "-m", "aico", "--home", str(home), "mcp", "--user", USER]
    parameters = StdioServerParameters(
        command="sh",
        args=["-c", f'echo $$ > {pid_file}; exec "$@"', "sh", *serve],
        env={"AICO_PASSPHRASE_FILE": str(passphrase_file), "AICO_EMBEDDER": "none"},
    )
    kill_at = calls // 2 if day.name in KILLED else None
    while day.calls < calls:
        with suppress(_ServerGone, BaseExceptionGroup), Path(os.devnull).open("w") as nowhere:
            async with Client(stdio_client(parameters, errlog=nowhere)) as client:
                while day.calls < calls:
                    if day.calls == kill_at and not day.kills:
                        day.kills = 1
                        delay_s = random.uniform(0, 0.01)
                        loop = asyncio.get_running_loop()
                        loop.call_later(delay_s, os.kill, int(pid_file.read_text()), signal.SIGKILL)
                    await _step(day, client, random)


class _ServerGone(Exception):
    """The server was killed under a call."""


async def _step(day: Day, client: Any, random: Random) -> None:
    """One call, timed; what it was about is noted only when it was acknowledged."""
    [tool] = random.choices([*WEIGHTS], [*WEIGHTS.values()])
    arguments = _arguments(tool, day, random)
    doomed = arguments.get("id")
    if doomed is not None:
        found = await _call(day, client, tool, arguments)
        arguments = {**arguments, "confirm": found.get("confirm", "")}
        day.in_doubt.add(doomed)
    found = await _call(day, client, tool, arguments)
    if tool in ("record", "remember") and "id" in found:
        day.acknowledged.add(found["id"])
    if doomed is not None and found.get("verified"):
        day.in_doubt.discard(doomed)
        day.forgotten.add(doomed)


async def _call(day: Day, client: Any, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    day.calls += 1
    start = perf_counter()
    try:
        result = await asyncio.wait_for(client.call_tool(tool, arguments), CALL_WAIT_S)
    except Exception as error:
        if day.kills:
            raise _ServerGone from error
        raise
    day.waits_ms[tool].append((perf_counter() - start) * 1e3)
    found: dict[str, Any] = result.structured_content
    if result.is_error:
        day.errors[found["error"]] += 1
    return found


def _arguments(tool: str, day: Day, random: Random) -> dict[str, Any]:
    some = " ".join(random.sample(WORDS, 3))
    mine = sorted(day.acknowledged - day.forgotten - day.in_doubt)
    match tool:
        case "record":
            return {"text": f"We talked about the {some}, call {day.calls}.", "conversation": day.name}
        case "remember":
            return {"text": f"Mia likes {some} ({day.name} {day.calls})"}
        case "recent":
            return {"conversation": day.name}
        case "forget" if mine:
            return {"id": random.choice(mine)}
        case "forget":
            return {"about": "nothing of the kind"}
    return {"query": f"what about the {some}?"}


def _summary(home: Path, days: list[Day]) -> dict[str, Any]:
    """Lost: acknowledged, not forgotten, not there. Back: forgotten, and there all the same."""
    expected = set[str]().union(*(day.acknowledged - day.forgotten - day.in_doubt for day in days))
    forgotten = set[str]().union(*(day.forgotten for day in days))
    with _open(home) as vault:
        there = {m.id for name in CLIENTS for m in vault.memory.recent(USER, name, limit=10_000)}
        there |= {fact.id for fact in vault.facts.list(USER, limit=10_000)}
        wrong = [finding.name for finding in vault.doctor() if finding.ok is False]
    errors = sum((day.errors for day in days), Counter[str]())
    waits = {tool: [ms for day in days for ms in day.waits_ms[tool]] for tool in WEIGHTS}
    return {
        "calls": sum(day.calls for day in days),
        "killed": sum(day.kills for day in days),
        "acknowledged": sum(len(day.acknowledged) for day in days),
        "lost": len(expected - there),
        "back": len(forgotten & there),
        "lock_errors": errors["Busy"],
        "errors": dict(errors),
        "doctor_found": wrong,
        **{
            f"{tool}_{name}_ms": round(percentile(ms, share), 2)
            for tool, ms in waits.items()
            if ms
            for name, share in (("p50", 50), ("p95", 95))
        },
    }


def _message(number: int) -> aico.Message:
    random = Random(number)
    text = f"{' '.join(random.choices(WORDS, k=12))}, and more of the day, number {number}."
    return aico.Message(text, conversation=f"before {number // 200}")


def _open(home: Path) -> aico.Vault:
    return aico.open(home, passphrase=PASSPHRASE, settings=cheap_settings())


def _table(results: Mapping[str, Any]) -> Table:
    drawn = table("A day of an assistant over MCP", "what", "figure")
    for name, value in results.items():
        drawn.add_row(name.replace("_", " "), str(value))
    return drawn
