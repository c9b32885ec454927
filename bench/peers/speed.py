"""Speed, disk, memory, and what a stranger reads on the disk, at one number of messages."""

import json
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

from aico.audit import search_for_leaks
from bench._report import percentile, progress
from bench.peers.systems import Peer, started

USER, OTHER = "mia", "nell"
CANARY = "the parrot knows the combination of the safe"
QUESTIONS, ADDS, DEPTH = 50, 50, 10
START = datetime(2020, 1, 1, tzinfo=UTC)
STEPS = 20
"""Bulk adding is given in so many parts, so that who is slow can be stopped between two."""


def speed(
    pythons: Mapping[str, Path],
    folder: Path,
    count: int,
    *,
    fill_seconds: float,
    ask_seconds: float,
    versions: dict[str, str],
    keep: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Fill each with `count` messages of one person and a tenth as many of another, then ask and add in turn.

    A system that has spent its time on questions is asked no more of them, and the same with adding; one that needs longer
    for a single answer is ended. `keep` gets what is known after each step.
    """
    folder.mkdir(parents=True)
    made = _made_up(count + ADDS)
    (folder / "items.json").write_text(json.dumps(made))
    chosen = random.Random(3)
    questions = [" ".join(chosen.sample(chosen.choice(made)["text"].split(), 6)) for _ in range(QUESTIONS)]
    with started(pythons, folder, versions) as peers:
        for peer in peers:
            _fill(peer, folder / "items.json", count, fill_seconds)
            keep(_all_figures(peers, count))
        for number, question in enumerate(questions):
            for peer in peers:
                if peer.spent("search") < ask_seconds:
                    peer.tell("search", wait_s=ask_seconds, user=USER, question=question, limit=DEPTH)
            if number % 10 == 9:
                progress(f"{number + 1} questions")
                keep(_all_figures(peers, count))
        for item in made[count:]:
            for peer in peers:
                if peer.spent("add") < ask_seconds:
                    peer.tell("add", wait_s=ask_seconds, user=USER, item=item)
        for peer in peers:
            peer.tell("close")
        return _all_figures(peers, count, with_leaks=True)


def _fill(peer: Peer, items: Path, count: int, fill_seconds: float) -> None:
    progress(f"{peer.name}: adding {count:,}")
    step, began = max(count // STEPS, 1), perf_counter()
    peer.tell("add_many", user=OTHER, items=str(items), first=0, last=max(count // 10, 1))
    peer.times.pop("add_many", None)
    for first in range(0, count, step):
        if perf_counter() - began > fill_seconds:
            peer.failed = f"given up after {fill_seconds:g} s"
            break
        last = min(first + step, count)
        if peer.tell("add_many", user=USER, items=str(items), first=first, last=last):
            peer.added = last
    peer.tell("settle")


def _all_figures(peers: list[Peer], count: int, *, with_leaks: bool = False) -> dict[str, Any]:
    return {peer.name: _figures(peer, count, with_leaks=with_leaks) for peer in peers}


def _figures(peer: Peer, count: int, *, with_leaks: bool) -> dict[str, Any]:
    """What one system showed; None where it was not asked, or not often enough to say."""
    searches, adds = ([second * 1e3 for second in peer.times.get(do, ())] for do in ("search", "add"))
    filling = peer.spent("add_many") + peer.spent("settle")
    leaks = search_for_leaks([peer.folder], [CANARY, "Nell Hagedorn"]).leaks if with_leaks else ()
    return {
        "added": peer.added,
        "bulk_per_s": round(peer.added / filling, 1) if filling else None,
        "add_p50_ms": _at(adds, 50),
        "recall_p50_ms": _at(searches[1:], 50),
        "recall_p95_ms": _at(searches[1:], 95),
        "questions": len(searches),
        "first_recall_ms": round(searches[0], 1) if searches else None,
        "disk_mb": round(sum(file.stat().st_size for file in peer.folder.rglob("*") if file.is_file()) / 1e6, 1),
        "peak_mb": round(peer.peak_mb, 1),
        "files_with_a_canary": len({leak.file for leak in leaks}) if with_leaks else None,
        "not_reached": peer.failed or ("" if peer.added == count else "stopped"),
    }


def _at(values: list[float], percent: float) -> float | None:
    return round(percentile(values, percent), 3) if values else None


def _made_up(count: int) -> list[dict[str, Any]]:
    """Messages of words as frequent as in a language, in conversations of forty; each ten-thousandth holds the canary."""
    chosen = random.Random(7)
    words = [f"w{number}" for number in range(20_000)]
    weights = [1 / (rank + 10) for rank in range(len(words))]
    items = []
    for number in range(count):
        text = " ".join(chosen.choices(words, weights, k=chosen.randrange(8, 40)))
        items.append(
            {
                "id": f"m{number}",
                "text": f"{CANARY} {text}" if number % 10_000 == 5 else text,
                "role": ("user", "assistant")[number & 1],
                "speaker": ("Nell Hagedorn", "Companion")[number & 1],
                "conversation": f"c{number // 40}",
                "at": (START + timedelta(minutes=number)).isoformat(),
            }
        )
    return items
