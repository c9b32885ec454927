"""Importing JSON Lines at the command line."""

import io
import json
import signal
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

import aico
from aico.ai.embedding.choice import can_run_default_model
from tests.cli.conftest import PROGRAM, Terminal, only_object, run, run_json


def line(number: int, **more: Any) -> str:
    moment = f"2026-05-08T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}Z"
    return json.dumps({"text": f"turn number {number}", "conversation": "c", "at": moment, **more})


def written(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def test_a_file_is_imported_once_however_often_it_is_given(home: Path, tmp_path: Path) -> None:
    file = written(tmp_path / "talk.jsonl", *map(line, range(20)))
    report = run_json("import", file)
    assert (report["format"], report["added"], report["repeated"], report["bad"]) == ("jsonl", 20, 0, [])
    assert (report["forgotten"], report["ignored_fields"], report["left_out"]) == (0, {}, {})
    assert run_json("import", "-", input=Path(file).read_bytes())["repeated"] == 20
    assert run_json("status")["rows"]["messages"] == 20


def test_keys_that_mean_nothing_are_reported(home: Path, tmp_path: Path) -> None:
    file = written(tmp_path / "talk.jsonl", line(1, mood="fine"), line(2, mood="fine", weather="rain"))
    assert run_json("import", file)["ignored_fields"] == {"mood": 2, "weather": 1}
    assert "mood" in run("import", file).stdout


def test_a_bad_line_stops_the_import_and_is_named(home: Path, tmp_path: Path) -> None:
    file = written(tmp_path / "talk.jsonl", line(1), '{"text": "no time", "conversation": "c"}', line(3))
    refused = run_json("import", file, exit_code=2)
    assert refused["error"] == "BadRecord"
    assert "line 2, field at" in refused["message"]
    assert "--skip-bad" in refused["hint"]


def test_bad_lines_are_skipped_and_reported_when_asked(home: Path, tmp_path: Path) -> None:
    file = written(tmp_path / "talk.jsonl", line(1), "not json", line(3, role=5))
    report = run_json("import", file, "--skip-bad")
    assert report["added"] == 1
    assert [(bad["line"], bad["field"]) for bad in report["bad"]] == [(2, ""), (3, "role")]
    shown = run("import", file, "--skip-bad")
    assert shown.exit_code == 0
    assert "2 lines left out" in shown.stdout
    assert "line 3, field role" in shown.stdout


def test_a_bad_line_does_not_say_that_nothing_was_written_where_others_were(home: Path, tmp_path: Path) -> None:
    file = written(tmp_path / "talk.jsonl", line(1), line(2, text=""))
    assert run_json("import", file, "--skip-bad")["added"] == 1
    for options in (["--skip-bad"], []):
        told = run("import", file, *options).output
        assert "line 2, field text: text is empty" in told and "nothing was written" not in told


def test_a_zip_through_a_pipe_is_to_be_named_as_a_file(home: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as written_to:
        written_to.writestr("conversations.json", "[]")
    for options in ([], ["--from", "chatgpt"], ["--from", "jsonl"]):
        refused = run_json("import", "-", *options, input=archive.getvalue(), exit_code=2)
        assert "ZIP" in refused["message"] and "name it as a file" in refused["hint"]


def test_of_many_bad_lines_people_see_the_first(home: Path, tmp_path: Path) -> None:
    file = written(tmp_path / "talk.jsonl", *["not json"] * 30)
    assert "and 20 more" in run("import", file, "--skip-bad").stdout
    assert len(run_json("import", file, "--skip-bad")["bad"]) == 30


def test_what_was_forgotten_returns_only_when_asked(home: Path, tmp_path: Path) -> None:
    file = written(tmp_path / "talk.jsonl", line(1, source_id="a"), line(2, source_id="b"))
    run("import", file)
    run("forget", "--conversation", "c", "--yes")
    assert run_json("import", file)["forgotten"] == 2
    assert run_json("import", file, "--return-forgotten")["added"] == 2


def test_a_file_that_is_not_there_or_cannot_be_read_is_a_clear_error(home: Path, tmp_path: Path) -> None:
    assert run_json("import", str(tmp_path / "nothing.jsonl"), exit_code=6)["error"] == "NotFound"
    assert run_json("import", str(tmp_path), exit_code=2)["error"] == "InvalidInput"


def test_at_a_terminal_a_bar_moves_and_json_stands_alone(home: Path, tmp_path: Path) -> None:
    file = written(tmp_path / "talk.jsonl", *map(line, range(3000)))
    with (tmp_path / "output").open("w+") as output:
        screen = Terminal("import", file, "--json", stdout=output)
        assert screen.finish() == 0
        output.seek(0)
        assert only_object(output.read())["added"] == 3000
    assert "kB" in screen.shown


def test_without_a_terminal_no_bar_is_drawn(home: Path, tmp_path: Path) -> None:
    assert run("import", written(tmp_path / "talk.jsonl", line(1))).stderr == ""


def test_an_import_killed_midway_and_run_again_is_whole_without_duplicates(home: Path) -> None:
    lines = [line(number) for number in range(5000)]
    first_half = "".join(f"{one}\n" for one in lines[:2500]).encode()
    with subprocess.Popen([*PROGRAM, "import", "-"], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(first_half)
        process.stdin.flush()
        while recorded() < 1000:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    before = recorded()
    assert 1000 <= before < 5000
    report = run_json("import", "-", input="\n".join(lines))
    assert (report["added"], report["repeated"]) == (5000 - before, before)
    with aico.open() as vault:
        texts = [moment.text for moment in vault.memory.recent("me", "c", limit=6000)]
    assert texts == [f"turn number {number}" for number in range(5000)]


def recorded() -> int:
    with aico.open() as vault:
        return vault.status().rows["messages"]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\x00", b"{" * 100_000])
def test_files_that_are_not_json_lines_end_in_a_report(home: Path, content: bytes) -> None:
    assert run_json("import", "-", "--skip-bad", input=content)["added"] == 0


def test_a_list_of_something_else_is_refused(home: Path) -> None:
    assert run_json("import", "-", "--skip-bad", input=b"[" * 100_000, exit_code=2)["error"] == "InvalidInput"


@pytest.mark.skipif(not can_run_default_model(), reason="the default model is not installed here")
def test_what_was_brought_in_is_found_by_meaning_when_the_command_ends(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AICO_EMBEDDER")
    run("models", "use", "multilingual-e5-small")
    file = written(tmp_path / "talk.jsonl", line(1), line(2))
    assert run_json("import", file, "--no-wait")["added"] == 2
    assert run_json("import", file)["pending"] == 0
    assert [found["vectors"] for found in run_json("models", "ls")["models"] if found["chosen"]] == [2]
    assert "by words and by meaning" in run("import", file).stdout


def test_an_import_succeeds_though_the_model_cannot_be_reached_and_says_so(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AICO_EMBEDDER")
    run("models", "use", "ollama/nothing", "--url", "http://127.0.0.1:9")
    run("config", "approve", "--yes")
    file = written(tmp_path / "talk.jsonl", line(1), line(2))
    imported = run("import", file)
    assert imported.exit_code == 0
    assert "2 added" in imported.stdout
    assert "2 by meaning later" in imported.stdout
    assert run_json("import", file, "--no-wait")["pending"] == 2


def test_without_a_model_an_import_says_nothing_of_meaning(home: Path, tmp_path: Path) -> None:
    run("models", "use", "none")
    file = written(tmp_path / "talk.jsonl", line(1))
    assert (run_json("import", file)["model"], run_json("import", file)["pending"]) == (None, 0)
    assert "meaning" not in run("import", file).stdout
