"""Taking a memory out, bringing one in: ZIP files, folders and our own export at the command line."""

import json
import stat
from pathlib import Path

import pytest

from tests.cli.conftest import Terminal, run, run_json
from tests.portability.synthetic import write_chatgpt_zip


@pytest.fixture
def zip_file(tmp_path: Path) -> str:
    write_chatgpt_zip(tmp_path / "chatgpt.zip", 40)
    return str(tmp_path / "chatgpt.zip")


def test_a_zip_is_imported_and_what_was_not_taken_is_told_by_kind(home: Path, zip_file: str) -> None:
    shown = run("import", zip_file).stdout
    assert "Read as ChatGPT's export with 2 conversations." in shown
    assert "40 added, 0 there already" in shown
    assert "messages of other branches" in shown
    assert "image files" in shown
    assert run_json("import", zip_file)["repeated"] == 40


def test_a_format_can_be_forced_and_is_refused_where_it_does_not_fit(home: Path, zip_file: str) -> None:
    assert run_json("import", zip_file, "--from", "chatgpt")["added"] == 40
    assert run_json("import", zip_file, "--from", "claude", exit_code=2)["error"] == "BadRecord"


def test_an_export_is_written_once_for_its_owner_and_called_readable(home: Path, zip_file: str, tmp_path: Path) -> None:
    run("import", zip_file)
    target = tmp_path / "me.jsonl"
    shown = run("export", "--output", str(target))
    assert "not encrypted" in shown.stdout
    assert "40 messages" in shown.stdout
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert run_json("export", "--output", str(target), exit_code=2)["error"] == "InvalidInput"
    report = run_json("export", "--output", str(tmp_path / "me.md"), "--format", "markdown")
    assert (report["encrypted"], report["records"]["message"]) == (False, 40)


def test_an_export_on_standard_output_stands_alone_and_comes_back_the_same(home: Path, zip_file: str) -> None:
    run("import", zip_file)
    out = run("export", "--output", "-")
    assert "not encrypted" in out.stderr
    lines = [json.loads(line) for line in out.stdout.splitlines()]
    assert lines[0]["aico_export"] == 1
    assert lines[-1] == {"kind": "end", "records": len(lines) - 2}
    assert run_json("import", "-", input=out.stdout)["repeated"] == len(lines) - 2
    assert run_json("export", "--output", "-", exit_code=2)["error"] == "InvalidInput"


def test_an_export_goes_to_the_user_it_names_in_an_empty_vault(
    home: Path, zip_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("import", zip_file, "--user", "mia")
    run("export", "--output", str(tmp_path / "mia.jsonl"))
    other = tmp_path / "other"
    run("init", "--no-keyring", "--no-recovery", "--home", str(other))
    report = run_json("import", str(tmp_path / "mia.jsonl"), "--home", str(other))
    assert report["by_kind"] == {"user": 1, "conversation": 2, "message": 40}
    run("export", "--output", str(tmp_path / "again.jsonl"), "--home", str(other))
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "mia.jsonl").read_bytes()


def test_at_a_terminal_a_bar_moves_for_a_zip(home: Path, tmp_path: Path) -> None:
    write_chatgpt_zip(tmp_path / "big.zip", 3000)
    screen = Terminal("import", str(tmp_path / "big.zip"))
    assert screen.finish() == 0
    assert "MB" in screen.shown
    assert "3,000 added" in screen.shown
