"""The systems that are compared: how each is installed, started, told what to do, and weighed."""

import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from bench._report import progress

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


@dataclass(slots=True)
class Peer:
    """One system, installed and started."""

    name: str
    folder: Path
    process: "subprocess.Popen[str]"
    added: int = 0
    peak_mb: float = 0.0
    failed: str = ""
    times: dict[str, list[float]] = field(default_factory=dict)

    def tell(self, do: str, *, wait_s: float | None = None, **order: Any) -> dict[str, Any]:
        """Have it do something; what it says of it. A system whose process ended, or was ended because it gave no answer
        within `wait_s` seconds, says nothing from then on."""
        if self.process.poll() is None and self._send({"do": do, **order}):
            assert self.process.stdout is not None
            if not select.select([self.process.stdout], [], [], wait_s)[0]:
                self.process.kill()
                self.failed = f"no answer to a {do} within {wait_s:g} s"
            elif line := self.process.stdout.readline():
                answer: dict[str, Any] = json.loads(line)
                self.peak_mb = max(self.peak_mb, answer["peak_mb"])
                self.times.setdefault(do, []).append(answer["seconds"])
                return answer
            else:
                self.failed = f"ended when it was asked to {do}"
            progress(f"{self.name}: {self.failed}")
        return {}

    def spent(self, do: str) -> float:
        """Seconds that this took so far, over all calls."""
        return sum(self.times.get(do, ()))

    def _send(self, order: dict[str, Any]) -> bool:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return False
        return True


def installed(name: str, place: Path) -> Path:
    """Make the environment; its Python."""
    progress(f"installing {name}")
    uv = shutil.which("uv")
    if uv is None:
        raise click.ClickException("this benchmark makes its environments with uv")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(place)], check=True)
    python = place / "bin" / "python"
    subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), *PEERS[name]], check=True)
    return python


def weight(name: str, python: Path) -> dict[str, float]:
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
def started(
    pythons: Mapping[str, Path], folder: Path, versions: dict[str, str], *, own_model: bool = False
) -> Iterator[list[Peer]]:
    """Each system's driver, running and opened in a folder of its own; their versions go into `versions`."""
    with ExitStack() as closing:
        peers = []
        for name, python in pythons.items():
            arguments = ("--own-model",) if own_model and name == "aico" else ()
            place = folder / name
            place.mkdir(parents=True)
            process = subprocess.Popen(
                [str(python), str(DRIVERS / f"{name}_driver.py"), *arguments],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env={**os.environ, "MEM0_DIR": str(place), "ANONYMIZED_TELEMETRY": "False"},
            )  # fmt: skip
            closing.callback(_end, process)
            peer = Peer(name, place, process)
            versions[name] = peer.tell("open", folder=str(place)).get("version", "")
            peers.append(peer)
        yield peers


def _end(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None and process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    process.stdout.close()
    process.wait()
