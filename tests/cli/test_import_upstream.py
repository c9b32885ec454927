"""Bringing an upstream AICO installation over at the command line; its key is typed or read, never an argument."""

from pathlib import Path

import pytest

from tests.cli.conftest import Terminal, run, run_json

pytest.importorskip("libsql", reason="the old database needs the extra libsql")
pytest.importorskip("chromadb", reason="the old vector store is written by the extra chroma")

from tests.portability.upstream_layout import MASTER_KEY, write_installation


def test_the_old_key_is_asked_for_at_the_terminal_and_never_shown(home: Path, tmp_path: Path) -> None:
    old = write_installation(tmp_path / "old")
    screen = Terminal("import", str(old), "--from", "aico-upstream")
    screen.wait_for("master key of the old installation")
    screen.type(MASTER_KEY.hex() + "\n")
    assert screen.finish() == 0
    assert "17 added" in screen.shown
    assert MASTER_KEY.hex() not in screen.shown


def test_the_old_key_is_read_from_a_file(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, file = write_installation(tmp_path / "old"), tmp_path / "key"
    refused = run_json("import", str(old), "--from", "aico-upstream", exit_code=3)
    assert "--old-key-file" in refused["hint"]
    file.write_text(MASTER_KEY.hex() + "\n", encoding="utf-8")
    missing = run_json("import", str(old), "--from", "aico-upstream", "--old-key-file", str(file) + "x", exit_code=2)
    assert missing["message"].startswith("the file that holds the secret cannot be read (No such file")
    report = run_json("import", str(old), "--from", "aico-upstream", "--old-key-file", str(file))
    assert (report["format"], report["added"], report["by_kind"]["message"]) == ("aico-upstream", 17, 6)
    monkeypatch.setenv("AICO_UPSTREAM_KEY_FILE", str(file))
    shown = run("import", str(old), "--from", "aico-upstream").stdout
    assert "0 added, 17 there already" in shown
    assert "PINs" in shown
