"""`aico demo` as a person and a program meet it."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import PROGRAM, only_object

KEYS = {"embedder", "messages", "questions", "control_hits", "searched_bytes", "leaks", "seconds"}
QUESTION_KEYS = {"question", "expected", "rank", "hit", "text", "at", "score", "latency_ms"}


def run_demo(scratch: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TMPDIR": str(scratch)}
    return subprocess.run([*PROGRAM, "demo", *options], env=environment, capture_output=True, text=True, check=False)


def test_demo_as_json_stands_alone_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AICO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AICO_PASSPHRASE_FILE", str(tmp_path / "no such file"))
    (tmp_path / "scratch").mkdir()
    done = run_demo(tmp_path / "scratch", "--json")
    assert done.returncode == 0, done.stderr
    report = only_object(done.stdout)
    assert set(report) == KEYS
    assert all(set(question) == QUESTION_KEYS for question in report["questions"])
    assert all(len(bytes.fromhex(question["expected"])) == 16 for question in report["questions"])
    assert all(
        question["hit"] == (question["rank"] is not None and question["rank"] <= 3) for question in report["questions"]
    )
    assert sum(question["hit"] for question in report["questions"]) >= 10
    assert (report["leaks"], report["embedder"]) == (0, "none")
    assert report["control_hits"] > 0
    assert list((tmp_path / "scratch").iterdir()) == []
    assert not (tmp_path / "home").exists()


def test_demo_for_people_fits_the_width_and_says_what_comes_next(tmp_path: Path) -> None:
    done = run_demo(tmp_path)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert all(len(line) <= 100 for line in lines)
    assert lines[-1].endswith("aico init")
    assert "0 places readable" in done.stdout
    assert done.stderr == ""
