"""Do the decoders hold? Inputs made by `atheris` (libFuzzer under coverage of our own code), a million of them.

Each decoder of `bench.decoders` is fuzzed in a process of its own, whose memory is bounded. What is counted: answers,
refusals in the decoder's own words, and whatever escaped.
"""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from bench._report import Report, folder_option, json_option, progress, scratch_folder, table
from bench.decoders import DECODERS

MEMORY_MB = 1024
"""More than this in a process that decodes is an error: an input must not take all memory."""
PATIENCE_S = 3600.0
SLOW_S = 30
"""One input that takes longer hangs."""


@click.command("fuzz")
@click.option("--inputs", type=click.IntRange(min=1), default=1_000_000, help="How many inputs, all decoders together.")
@click.option("--decoder", "names", multiple=True, type=click.Choice(list(DECODERS)), help="These alone.")
@click.option("--seed", type=click.IntRange(min=1), default=1)
@folder_option
@json_option
def command(inputs: int, names: tuple[str, ...], seed: int, folder: Path | None, as_json: bool) -> None:
    """Do the decoders hold? Typed errors only, in bounded memory, whatever the bytes."""
    if find_spec("atheris") is None:
        raise click.ClickException(
            "this needs atheris: uv run --all-extras --group fuzz --group bench python -m bench fuzz"
        )
    chosen = names or tuple(DECODERS)
    whole = sum(DECODERS[name].share for name in chosen)
    found: dict[str, dict[str, Any]] = {}
    with scratch_folder(folder) as scratch:
        report = Report.begin("fuzz", folder=scratch, inputs=inputs, decoders=list(chosen), seed=seed)
        for number, name in enumerate(chosen):
            count = -(-inputs * round(DECODERS[name].share * 100) // round(whole * 100))
            progress(f"{name}: {count:,} inputs")
            place = scratch / str(number)
            place.mkdir()
            found[name] = _fuzzed(name, count, seed, place)
    results = {
        "inputs": sum(one["inputs"] for one in found.values()),
        "escaped": sum(one["escaped_count"] for one in found.values()),
        "ended early": [name for name, one in found.items() if one["ended"]],
        "decoders": found,
    }
    report.publish(results, [_table(found)], as_json=as_json)


def _fuzzed(name: str, count: int, seed: int, folder: Path) -> dict[str, Any]:
    """One decoder in a child; what became of its inputs, also where the child did not come to its end."""
    arguments = [name, str(count), str(seed), str(folder)]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "bench.fuzz_child", *arguments], capture_output=True, text=True, timeout=PATIENCE_S
        )
        ended = "" if done.returncode == 0 else f"status {done.returncode}: {done.stderr[-600:]}"
    except subprocess.TimeoutExpired:
        ended = "hangs"
    told = folder / "told.json"
    nothing = {"inputs": 0, "answered": 0, "refused": 0, "escaped_count": 0, "escaped": {}, "peak_mb": 0}
    return {**(json.loads(told.read_text()) if told.exists() else nothing), "ended": ended}


def _table(found: dict[str, dict[str, Any]]) -> Table:
    drawn = table("Decoders", "decoder", "inputs", "answered", "refused", "escaped", "peak MB", "ended early")
    for name, one in found.items():
        figures = (f"{one[column]:,}" for column in ("inputs", "answered", "refused", "escaped_count"))
        drawn.add_row(name, *figures, f"{one['peak_mb']:.0f}", one["ended"][:20])
    return drawn
