"""Other memory systems beside this one: speed, quality, weight, and what a stranger reads on the disk.

Each system runs in an environment of its own and is asked over a pipe (`drivers/`), as its own users would set it up; all
get the same vectors. Steps alternate: a question goes to each of them before the next question is asked.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any

import click
from rich.table import Table

from aico.audit import search_for_leaks
from aico.settings import Settings
from bench._report import Report, figure, folder_option, json_option, percentile, progress, scratch_folder, table

ROOT, DRIVERS = Path(__file__).parents[2], Path(__file__).parent / "drivers"
PEERS: Mapping[str, tuple[str, ...]] = {
    "aico": (f"{ROOT}[embed]",),
    "citadel": ("citadeldb==2.7.0", "numpy"),
    "mem0": ("mem0ai==2.2.1", "numpy"),
    "chroma": ("chromadb==1.5.9", "numpy"),
    "langgraph": ("langgraph-checkpoint-sqlite==3.1.2", "pysqlite3-binary; sys_platform == 'linux'", "numpy"),
}
"""What each environment holds. `langgraph` is its SQLite store."""
IMPORTS = {
    "aico": "aico.vault",
    "citadel": "citadeldb",
    "mem0": "mem0",
    "chroma": "chromadb",
    "langgraph": "langgraph.store.sqlite",
}
USER, OTHER = "mia", "nell"
CANARY = "the parrot knows the combination of the safe"
QUESTIONS, ADDS, DEPTH = 50, 50, 10
START = datetime(2020, 1, 1, tzinfo=UTC)
STEPS = 20
"""Bulk adding is given in so many parts, so that who is slow can be stopped between two."""


@dataclass(slots=True)
class Peer:
    """One system, installed and started."""

    name: str
    python: Path
    folder: Path
    arguments: tuple[str, ...] = ()
    process: "subprocess.Popen[str] | None" = None
    added: int = 0
    peak_mb: float = 0.0
    failed: str = ""
    times: dict[str, list[float]] = field(default_factory=dict)

    def tell(self, do: str, **order: Any) -> dict[str, Any]:
        """Have it do something; what it says of it."""
        assert self.process is not None and self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do, **order}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise click.ClickException(f"{self.name} ended while it was asked to {do}; its last words are above")
        answer: dict[str, Any] = json.loads(line)
        self.peak_mb = max(self.peak_mb, answer["peak_mb"])
        self.times.setdefault(do, []).append(answer["seconds"])
        return answer


@click.command("peers")
@click.option("--sizes", default="1000,10000,100000", help="How many messages, by commas.")
@click.option("--peers", "wanted", default=",".join(PEERS), help="Which systems, by commas.")
@click.option(
    "--fill-seconds", type=click.FloatRange(min=1), default=600.0, help="Adding in bulk is given up after so long."
)
@click.option("--data", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="LoCoMo, for quality too.")
@folder_option
@json_option
def command(
    sizes: str, wanted: str, fill_seconds: float, data: Path | None, folder: Path | None, as_json: bool
) -> None:
    """Speed, quality, weight and leaks beside mem0, Citadel, Chroma and LangGraph's store."""
    names = [name for name in PEERS if name in wanted.split(",")]
    counts = [int(size) for size in sizes.split(",")]
    with scratch_folder(folder) as scratch:
        report = Report.begin("peers", folder=scratch, sizes=counts, fill_seconds=fill_seconds, data=data and data.name)
        pythons = {name: _installed(name, scratch / "environments" / name) for name in names}
        weights = {name: _weight(name, python) for name, python in pythons.items()}
        speed = {str(count): _speed(pythons, scratch / str(count), count, fill_seconds) for count in counts}
        quality = {} if data is None else _quality(pythons, scratch / "locomo", data)
        results = {"weight": weights, "speed": speed, "quality": quality}
        report.publish(results, _tables(results), as_json=as_json)


# Installing


def _installed(name: str, place: Path) -> Path:
    """Make the environment; its Python."""
    progress(f"installing {name}")
    uv = shutil.which("uv")
    if uv is None:
        raise click.ClickException("this benchmark makes its environments with uv")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(place)], check=True)
    python = place / "bin" / "python"
    subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), *PEERS[name]], check=True)
    return python


def _weight(name: str, python: Path) -> dict[str, float]:
    """Megabytes and packages of what was installed, and seconds of its import in a new process (the second one)."""
    site = next((python.parents[1] / "lib").glob("python*/site-packages"))
    size = sum(file.stat().st_size for file in site.rglob("*") if file.is_file() and not file.is_symlink())
    environment = {**os.environ, "MEM0_TELEMETRY": "False", "MEM0_DIR": str(python.parents[1] / "mem0")}
    statement = f"import time; t = time.perf_counter(); import {IMPORTS[name]}; print(time.perf_counter() - t)"
    runs = [
        float(
            subprocess.run(
                [str(python), "-c", statement], env=environment, capture_output=True, text=True, check=True
            ).stdout
        )
        for _ in range(2)
    ]
    return {
        "installed_mb": round(size / 1e6, 1),
        "packages": len(list(site.glob("*.dist-info"))),
        "import_s": round(runs[1], 3),
    }


@contextmanager
def _started(pythons: Mapping[str, Path], folder: Path, *, own_model: bool = False) -> Iterator[list[Peer]]:
    with ExitStack() as closing:
        peers = []
        for name, python in pythons.items():
            arguments = ("--own-model",) if own_model and name == "aico" else ()
            peer = Peer(name, python, folder / name, arguments)
            peer.folder.mkdir(parents=True)
            peer.process = subprocess.Popen(
                [str(python), str(DRIVERS / f"{name}_driver.py"), *arguments],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env={**os.environ, "MEM0_DIR": str(peer.folder), "ANONYMIZED_TELEMETRY": "False"},
            )  # fmt: skip
            closing.callback(_ended, peer.process)
            peers.append(peer)
        yield peers


def _ended(process: "subprocess.Popen[str]") -> None:
    process.communicate()


# Speed, disk, memory, leaks


def _speed(pythons: Mapping[str, Path], folder: Path, count: int, fill_seconds: float) -> dict[str, Any]:
    """Fill each with `count` messages of one person and a tenth as many of another, then ask and add in turn."""
    folder.mkdir(parents=True)
    made = _made_up(count + ADDS)
    (folder / "items.json").write_text(json.dumps(made))
    chosen = random.Random(3)
    questions = [" ".join(chosen.sample(chosen.choice(made)["text"].split(), 6)) for _ in range(QUESTIONS)]
    with _started(pythons, folder) as peers:
        for peer in peers:
            peer.tell("open", folder=str(peer.folder))
            _fill(peer, folder / "items.json", count, fill_seconds)
        for question in questions:
            for peer in peers:
                peer.tell("search", user=USER, question=question, limit=DEPTH)
        for item in made[count:]:
            for peer in peers:
                peer.tell("add", user=USER, item=item)
        for peer in peers:
            peer.tell("close")
        return {peer.name: _figures(peer, count) for peer in peers}


def _fill(peer: Peer, items: Path, count: int, fill_seconds: float) -> None:
    progress(f"{peer.name}: adding {count:,}")
    step, began = max(count // STEPS, 1), perf_counter()
    peer.tell("add_many", user=OTHER, items=str(items), first=0, last=max(count // 10, 1))
    peer.times.pop("add_many")
    for first in range(0, count, step):
        if perf_counter() - began > fill_seconds:
            peer.failed = f"given up after {fill_seconds:g} s"
            break
        last = min(first + step, count)
        peer.tell("add_many", user=USER, items=str(items), first=first, last=last)
        peer.added = last
    peer.tell("settle")


def _figures(peer: Peer, count: int) -> dict[str, Any]:
    searches, adds = ([second * 1e3 for second in peer.times[do]] for do in ("search", "add"))
    leaks = search_for_leaks([peer.folder], [CANARY, "Nell Hagedorn"]).leaks
    return {
        "added": peer.added,
        "bulk_per_s": round(peer.added / (sum(peer.times["add_many"]) + sum(peer.times["settle"])), 1),
        "add_p50_ms": round(percentile(adds, 50), 3),
        "recall_p50_ms": round(percentile(searches[1:], 50), 3),
        "recall_p95_ms": round(percentile(searches[1:], 95), 3),
        "first_recall_ms": round(searches[0], 1),
        "disk_mb": round(sum(file.stat().st_size for file in peer.folder.rglob("*") if file.is_file()) / 1e6, 1),
        "peak_mb": round(peer.peak_mb, 1),
        "files_with_a_canary": len({leak.file for leak in leaks}),
        "not_reached": peer.failed or ("" if peer.added == count else "stopped"),
    }


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


# Quality


def _quality(pythons: Mapping[str, Path], folder: Path, data: Path) -> dict[str, Any]:
    """LoCoMo, categories 1 to 4: evidence among the first ten, each conversation a user, the same model's vectors for all."""
    import numpy as np

    from aico.ai.embedding.choice import chosen_embedder
    from bench.locomo import ADVERSARIAL, load

    folder.mkdir(parents=True)
    conversations = load(data, one_store=False)
    items = {
        told.user: [
            {
                "id": f"{told.user}/{message.source_id}",  # some systems know one id once, whoever it is of
                "text": f"{message.speaker}: {message.text}" if message.speaker else message.text,
                "role": message.role,
                "speaker": message.speaker,
                "conversation": message.conversation,
                "at": message.at.isoformat() if message.at else START.isoformat(),
            }
            for message in told.messages
        ]
        for told in conversations
    }
    passages = list(dict.fromkeys(item["text"] for some in items.values() for item in some))
    asked = list(dict.fromkeys(question.text for told in conversations for question in told.questions))
    progress("embedding turns and questions once for all")
    model = chosen_embedder(Settings())
    if model is None:
        raise click.ClickException("quality needs the default model: run with the extra `embed`")
    vectors = [
        model.embed([prefix + text])[0]
        for prefix, texts in ((model.passage_prefix, passages), (model.query_prefix, asked))
        for text in texts
    ]
    (folder / "texts.json").write_text(json.dumps([*passages, *asked]))
    np.save(folder / "vectors.npy", np.array(vectors, np.float32))
    for user, some in items.items():
        (folder / f"{user}.json").write_text(json.dumps(some))
    ranks: dict[str, list[tuple[bool, bool]]] = {name: [] for name in pythons}
    with _started(pythons, folder, own_model=True) as peers:
        for peer in peers:
            peer.tell("open", folder=str(peer.folder))
            peer.tell("learn", texts=str(folder / "texts.json"), vectors=str(folder / "vectors.npy"))
            for user, some in items.items():
                peer.tell("add_many", user=user, items=str(folder / f"{user}.json"), first=0, last=len(some))
            progress(f"{peer.name}: {len(asked)} questions")
            peer.tell("settle")
            for told in conversations:
                for question in told.questions:
                    if question.category != ADVERSARIAL:
                        ids = set(peer.tell("search", user=told.user, question=question.text, limit=DEPTH)["ids"])
                        evidence = {f"{told.user}/{turn}" for turn in question.evidence}
                        ranks[peer.name].append((bool(ids & evidence), evidence <= ids))
            peer.tell("close")
    return {
        name: {
            "any@10": round(fmean(one for one, _ in found), 3),
            "all@10": round(fmean(whole for _, whole in found), 3),
        }
        for name, found in ranks.items()
    }


def _tables(results: Mapping[str, Any]) -> list[Table]:
    weight = table("Installed", "system", "MB", "packages", "import: s")
    for name, found in results["weight"].items():
        weight.add_row(name, *(figure(found[key]) for key in ("installed_mb", "packages", "import_s")))
    drawn = [weight]
    columns = (
        "added",
        "bulk_per_s",
        "add_p50_ms",
        "recall_p50_ms",
        "recall_p95_ms",
        "first_recall_ms",
        "disk_mb",
        "peak_mb",
        "files_with_a_canary",
    )
    for count, peers in results["speed"].items():
        rows = table(f"{int(count):,} messages", "system", *(column.replace("_", " ") for column in columns))
        for name, found in peers.items():
            rows.add_row(name, *(figure(found[column]) for column in columns))
        drawn.append(rows)
    if results["quality"]:
        rows = table("LoCoMo, categories 1 to 4", "system", "any@10", "all@10")
        for name, found in results["quality"].items():
            rows.add_row(name, figure(found["any@10"]), figure(found["all@10"]))
        drawn.append(rows)
    return drawn
