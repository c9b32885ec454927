"""`aico facts` and `aico album`: what a person and a program see of them."""

import json
from pathlib import Path

import pytest

from tests.ai.test_extraction import facts as model_answer
from tests.ai.test_extraction import server
from tests.cli.conftest import Terminal, run, run_json


@pytest.fixture
def figs(home: Path) -> str:
    return str(run_json("facts", "add", "Mia likes figs", "--category", "food", "--type", "preference")["id"])


def test_a_fact_is_added_marked_corrected_and_retracted(figs: str) -> None:
    run("facts", "favourite", figs)
    run("facts", "note", figs, "the green ones")
    run("facts", "tag", figs, "fruit", "summer")
    run("facts", "tag", figs, "summer", "--off")
    shown = run("facts", "ls").stdout
    for part in ("★ Mia likes figs", "food · preference", "#fruit", "note: the green ones", figs):
        assert part in shown
    assert "summer" not in shown
    edited = run_json("facts", "edit", figs, "--text", "Mia loves figs", "--category", "")["id"]
    [fact] = run_json("facts", "ls", "--favourites", "--tag", "fruit")["facts"]
    assert (fact["id"], fact["text"], fact["category"], fact["supersedes"]) == (edited, "Mia loves figs", None, figs)
    run("facts", "retract", edited)
    assert run_json("facts", "ls")["facts"] == []
    assert len(run_json("facts", "ls", "--closed")["facts"]) == 2
    restored = run_json("facts", "restore", edited)["id"]
    history = run_json("facts", "history", restored)
    assert [change["change"] for change in history["changes"]] == [
        "remembered",
        "edited",
        "superseded",
        "retracted",
        "restored",
    ]
    assert "Mia likes figs" in run("facts", "history", restored).stdout
    assert run_json("facts", "ls", "--as-of", "2001-01-01")["facts"] == []
    assert run("facts", "ls", "--as-of", "2001-01-01", "--closed").exit_code == 2


def test_a_note_read_from_standard_input_may_be_taken_away(figs: str) -> None:
    run("facts", "note", figs, "-", input="from a pipe\n")
    assert run_json("facts", "show", figs)["fact"]["marks"]["note"] == "from a pipe"
    run("facts", "note", figs, "")
    assert run_json("facts", "show", figs)["fact"]["marks"]["note"] is None


def test_an_unknown_fact_is_said_to_be_unknown(figs: str) -> None:
    for command in ("show", "history", "retract", "restore", "favourite"):
        assert run_json("facts", command, "0" * 32, exit_code=6)["error"] == "NotFound"


def extracted(*texts: str) -> None:
    """Let a model on the loopback find these in one message."""
    run("record", "I said something", "--conversation", "c")
    answer = model_answer(*({"turn": 1, "text": text} for text in texts))
    with server(lambda _: (200, {"message": {"content": answer}})) as (address, _):
        found = run_json("facts", "extract", "--endpoint", address, "--model", "llama")
    assert (found["messages"], found["proposed"], found["refused"]) == (1, len(texts), {})


def test_what_a_model_found_is_reviewed_by_options(home: Path) -> None:
    extracted("Mia runs", "Mia swims", "Mia flies")
    assert "3 proposed facts to review" in run("facts", "ls").stderr
    waiting = {fact["text"]: fact["id"] for fact in run_json("facts", "review")["proposed"]}
    run("facts", "review", "--accept", waiting["Mia runs"], "--reject", waiting["Mia flies"])
    run("facts", "review", "--accept", waiting["Mia swims"], "--text", "Mia swims on Sundays")
    assert run_json("facts", "review")["proposed"] == []
    assert {fact["text"] for fact in run_json("facts", "ls")["facts"]} == {"Mia runs", "Mia swims on Sundays"}
    assert run("facts", "review").stdout == "Nothing is left to review.\n"
    assert run("facts", "review", "--text", "x").exit_code == 2


def test_at_a_terminal_each_proposal_is_asked_about(home: Path) -> None:
    extracted("Mia runs", "Mia swims", "Mia flies")
    terminal = Terminal("facts", "review")
    for reply in ("r\n", "c\n", "Mia swims a lot\n", "w\n"):
        terminal.wait_for("words:" if reply.startswith("Mia") else "later?")
        terminal.type(reply)
    assert terminal.finish() == 0
    assert {fact["text"] for fact in run_json("facts", "ls")["facts"]} == {"Mia runs", "Mia swims a lot"}


def test_a_report_says_what_was_refused(home: Path) -> None:
    run("record", "hello", "--conversation", "c")
    with server(lambda _: (200, {"choices": [{"message": {"content": "no"}}]})) as (address, _):
        shown = run("facts", "extract", "--endpoint", address, "--model", "m", "--api", "openai").stdout
    assert "Refused 1: the answer is not JSON." in shown


def test_a_models_key_comes_from_a_file_and_shows_nowhere(home: Path, tmp_path: Path) -> None:
    run("record", "hello", "--conversation", "c")
    missing = tmp_path / "missing"
    arguments = ("facts", "extract", "--model", "m", "--api-key-file")
    assert run(*arguments, str(missing), "--endpoint", "http://127.0.0.1:1").exit_code == 2
    missing.write_text("sk-secret\n")
    with server(lambda _: (401, {})) as (address, asked):
        failed = run(*arguments, str(missing), "--endpoint", address)
    assert asked[0][2] == "Bearer sk-secret"
    assert failed.exit_code == 9
    assert "sk-secret" not in failed.output


def test_the_album_shows_days_messages_and_tags(figs: str) -> None:
    message = run_json("record", "I moved to Lisbon.", "--conversation", "c", "--at", "2026-05-08T12:00Z")["id"]
    run("album", "mark", message, "--favourite", "--note", "at last", "--tone", "joyful", "--tag", "home", "--visit")
    [shown] = run_json("album", "ls", "--favourites", "--tag", "home")["messages"]
    assert (shown["id"], shown["marks"]["note"], shown["marks"]["visits"]) == (message, "at last", 1)
    assert "★ 8 May 2026" in run("album", "ls").stdout
    assert {"start": "2026-05-08", "messages": 1, "facts": 0} in run_json("album", "timeline")["timeline"]
    assert "2026-05  1 message, 0 facts" in run("album", "timeline", "--by", "month").stdout
    run("album", "mark", figs, "--tag", "home")
    assert run_json("album", "tags") == {"tags": [{"tag": "home", "count": 2}]}
    run("album", "mark", message, "--no-favourite", "--untag", "home", "--tone", "", "--note", "")
    assert run("album", "tags").stdout == "#home  1\n"
    assert run("album", "mark", message).exit_code == 2
    assert json.loads(run("album", "ls", "--favourites", "--json").stdout) == {"messages": []}
