"""Feedback at the command line."""

from pathlib import Path

from tests.cli.conftest import run, run_json


def test_feedback_is_kept_listed_counted_and_deleted(home: Path) -> None:
    said = run_json("record", "The tram leaves at six.", "--conversation", "trip", "--user", "mia")["id"]
    rating = run_json("feedback", "record", "rating", "message_quality", "--value", "4", "--message", said)["id"]
    run("feedback", "record", "signal", "thumbs_up", "--conversation", "trip", "--at", "2026-05-08T12:00+00:00")
    listed = run_json("feedback", "ls", "--about", said)["events"]
    assert [(event["id"], event["value"], event["subject"]) for event in listed] == [(rating, 4.0, "message")]
    assert f"rating message_quality 4 of message {said}" in run("feedback", "ls").stdout
    assert "8 May 2026, 12:00  signal thumbs_up of conversation" in run("feedback", "ls", "--kind", "signal").stdout
    assert run("feedback", "stats").stdout == "rating message_quality: 1 event, mean 4.00\nsignal thumbs_up: 1 event\n"
    run("feedback", "rm", rating)
    assert run_json("feedback", "rm", rating, exit_code=6)["error"] == "NotFound"
    assert run_json("feedback", "ls", "--category", "message_quality")["events"] == []


def test_a_sensitive_answer_comes_from_standard_input_and_is_in_no_export(home: Path) -> None:
    run("record", "hello", "--conversation", "c", "--user", "mia")
    payload = '{"answer": "only for you"}'
    run("feedback", "record", "survey", "open", "--payload", "-", "--sensitive", input=payload)
    [event] = run_json("feedback", "ls")["events"]
    assert (event["payload"], event["is_sensitive"]) == ({"answer": "only for you"}, True)
    assert "stays on this device" in run("feedback", "ls").stdout
    assert "only for you" not in run("export", "-").stdout


def test_feedback_about_what_is_not_there_or_about_two_things_is_refused(home: Path) -> None:
    run("record", "hello", "--conversation", "c", "--user", "mia")
    missing = ("feedback", "record", "signal", "x", "--message", "00" * 16)
    assert run_json(*missing, exit_code=6)["error"] == "NotFound"
    assert run_json(*missing, "--conversation", "c", exit_code=2)["error"] == "InvalidInput"
    assert run("feedback", "record", "opinion", "x").exit_code == 2
    no_object = run_json("feedback", "record", "signal", "x", "--payload", "[1]", exit_code=2)
    assert no_object["error"] == "InvalidInput"
    assert run("feedback", "ls").stderr == "There is no feedback yet.\n"
