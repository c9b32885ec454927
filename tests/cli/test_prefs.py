"""Preferences at the command line."""

from pathlib import Path

from tests.cli.conftest import run, run_json


def test_preferences_are_set_shown_and_removed(home: Path) -> None:
    assert run_json("prefs", "set", "companion.tone", "gentle", "--user", "mia")["value"] == "gentle"
    assert run_json("prefs", "set", "ui.sizes", "[1, 2]")["value"] == [1, 2]
    assert run_json("prefs", "get", "ui.sizes")["value"] == [1, 2]
    assert run("prefs", "ls").stdout == 'companion.tone = "gentle"\nui.sizes = [1,2]\n'
    assert [p["key"] for p in run_json("prefs", "ls", "--prefix", "ui")["preferences"]] == ["ui.sizes"]
    assert "tone: gentle" in run("context", "hello").stdout
    run("prefs", "rm", "ui.sizes")
    assert run_json("prefs", "get", "ui.sizes", exit_code=6)["error"] == "NotFound"
    assert run("prefs", "ls", "--prefix", "ui").stderr == "There are no preferences yet.\n"


def test_a_value_may_come_from_standard_input(home: Path) -> None:
    assert (
        run_json("prefs", "set", "companion.note", "-", "--user", "mia", input="two\nlines\n")["value"] == "two\nlines"
    )
