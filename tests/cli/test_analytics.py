"""Analytics at the command line."""

import csv
from pathlib import Path

import pytest

pytest.importorskip("duckdb", reason="analytics needs the extra aico[analytics]")

from tests.cli.conftest import Terminal, run, run_json


@pytest.fixture
def talk(home: Path) -> None:
    for day in (1, 2, 2):
        run(
            "record", f"Day {day}", "--conversation", "c1", "--at", f"2026-05-0{day}T12:00Z", "--speaker", "\x1b[31mMia"
        )
    run("recall", "nothing of the kind")


def test_reports_are_tables_for_people_and_rows_for_programs(talk: None) -> None:
    assert run_json("analytics", "activity")["rows"] == [["2026-05-01", 1, 1, 0], ["2026-05-02", 2, 2, 0]]
    assert run_json("analytics", "activity", "--by", "month")["rows"] == [["2026-05-01", 3, 3, 0]]
    assert "2026-05-02" in run("analytics", "activity").stdout
    assert run_json("analytics", "unanswered")["rows"][0][:2] == ["nothing of the kind", 1]
    assert run("analytics", "tones").exit_code == 0
    for name in ("rhythm", "conversations", "gaps", "satisfaction", "growth", "recall", "retention", "storage"):
        assert run_json("analytics", name)["report"] == name


def test_a_report_is_csv_for_a_spreadsheet(talk: None) -> None:
    assert run("analytics", "activity", "--csv").stdout.splitlines() == [
        "from,messages,by_user,by_companion",
        "2026-05-01,1,1,0",
        "2026-05-02,2,2,0",
    ]
    asked = "SELECT count(*) > 1 AS many, 'a, \"b\"' AS quoted, NULL AS nothing, [1, 2] AS list FROM messages"
    assert list(csv.reader(run("analytics", "sql", "--csv", asked).stdout.splitlines())) == [
        ["many", "quoted", "nothing", "list"],
        ["true", 'a, "b"', "", "[1, 2]"],
    ]
    assert run_json("analytics", "activity", "--csv", exit_code=2)["error"] == "InvalidInput"


def test_a_terminal_is_shown_no_commands_in_csv(talk: None) -> None:
    screen = Terminal("analytics", "sql", "--csv", "SELECT speaker FROM messages")
    assert screen.finish() == 0
    assert "Mia" in screen.shown
    assert "\x1b[31m" not in screen.shown


def test_a_report_of_many_columns_is_turned_and_read_at_once(talk: None) -> None:
    shown = run("analytics", "rhythm").stdout
    assert "Friday" in shown
    assert sum(line.strip("│ ").startswith("h") for line in shown.splitlines()) == 24


def test_sql_is_read_from_standard_input_too_and_shows_no_terminal_commands(talk: None) -> None:
    asked = "SELECT speaker, count(*) AS n FROM messages GROUP BY 1"
    assert run_json("analytics", "sql", asked)["rows"] == [["\x1b[31mMia", 3]]
    assert run_json("analytics", "sql", "-", input=asked)["columns"] == ["speaker", "n"]
    assert "\x1b[31m" not in run("analytics", "sql", asked).stdout
    assert run_json("analytics", "sql", "DELETE FROM messages", exit_code=2)["error"] == "InvalidInput"
    assert "messages" in run_json("analytics", "tables")["tables"]
    assert "said_local" in run("analytics", "tables").stdout


def test_a_picture_is_drawn_once(talk: None, tmp_path: Path) -> None:
    file = tmp_path / "activity.svg"
    assert run_json("analytics", "activity", "--plot", str(file))["plot"] == str(file)
    assert file.read_bytes().startswith(b"<?xml")
    assert run("analytics", "activity", "--plot", str(file)).exit_code == 2


def test_an_export_for_training_needs_a_yes_and_says_that_it_is_readable(talk: None, tmp_path: Path) -> None:
    file = tmp_path / "training.jsonl"
    assert run_json("analytics", "export", "--output", str(file), exit_code=2)["error"] == "InvalidInput"
    run("prefs", "set", "training.consent", "true")
    assert "not encrypted" in run("analytics", "export", "--output", str(file)).stdout
    assert len(file.read_text().splitlines()) == 1


def test_the_group_alone_shows_what_there_is(home: Path) -> None:
    assert "unanswered" in run("analytics").stdout


def test_an_export_for_training_goes_to_no_file_that_looks_like_standard_output(
    talk: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run("prefs", "set", "training.consent", "true")
    assert run_json("analytics", "export", "--output", "-", exit_code=2)["hint"] == "name a file"
    assert not (tmp_path / "-").exists()
