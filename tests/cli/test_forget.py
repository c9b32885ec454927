"""Forgetting at the command line."""

from pathlib import Path

import pytest

from aico.ai.memory.working import WorkingMemoryStore
from aico.errors import StorageError
from tests.cli.conftest import Terminal, only_object, run, run_json


@pytest.fixture
def lisbon(home: Path) -> str:
    """A vault with a message about Lisbon, its id, and one about Porto."""
    made: str = run_json("record", "I moved to Lisbon.", "--conversation", "c1", "--at", "2026-05-01T12:00Z")["id"]
    run("record", "I was born in Porto.", "--conversation", "c2", "--at", "2026-05-02T12:00Z")
    return made


def texts() -> set[str]:
    return {message["text"] for name in ("c1", "c2") for message in run_json("recent", name)["messages"]}


def test_forgetting_is_refused_where_nobody_can_be_asked(lisbon: str) -> None:
    refused = run_json("forget", lisbon, exit_code=2)
    assert refused["error"] == "InvalidInput"
    assert "--yes" in refused["hint"]
    assert len(texts()) == 2


def test_with_yes_it_is_forgotten_verified_and_receipted(lisbon: str) -> None:
    receipt = run_json("forget", lisbon, "--yes")
    assert receipt["messages"] == [lisbon]
    assert receipt["verified"] is True
    assert receipt["removed"]["messages"] == 1
    assert "items" not in receipt
    assert texts() == {"I was born in Porto."}


def test_a_view_that_cannot_let_go_is_named_with_the_receipt_and_the_same_call_again_finishes(
    lisbon: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StorageError("it is away")

    with monkeypatch.context() as broken:
        broken.setattr(WorkingMemoryStore, "erase", refuse)
        told = run_json("forget", "--about", "Lisbon", "--yes", exit_code=4)
    assert told["error"] == "ForgottenInPart"
    assert "hot tier" in told["message"]
    assert texts() == {"I was born in Porto."}
    run_json("forget", "--about", "Lisbon", "--yes")
    [receipt] = [one["id"] for one in run_json("forget", "--list")["receipts"] if one["id"] in told["hint"]]
    assert run_json("forget", "--verify", receipt)["verified"] is True


def test_people_see_the_receipt_and_that_nothing_is_left(lisbon: str) -> None:
    shown = run("forget", lisbon, "--yes").stdout
    assert "Forgotten: 1 message and 0 facts." in shown
    assert "nothing of it is left" in shown
    assert "Lisbon" not in shown


def test_a_preview_changes_nothing(lisbon: str) -> None:
    preview = run_json("forget", "--about", "Lisbon", "--preview")
    assert (preview["preview"], preview["verified"]) == (True, None)
    assert [item["text"] for item in preview["items"]] == ["I moved to Lisbon."]
    assert "I moved to Lisbon." in run("forget", "--about", "Lisbon", "--preview").stdout
    assert len(texts()) == 2


def test_the_subject_may_come_from_standard_input(lisbon: str) -> None:
    assert run_json("forget", "--about", "-", "--yes", input="lisbon\n")["messages"] == [lisbon]


@pytest.mark.parametrize(
    ("selectors", "left"),
    [
        (["--conversation", "c1"], {"I was born in Porto."}),
        (["--since", "2026-05-02T00:00Z"], {"I moved to Lisbon."}),
        (["--until", "2026-05-02T00:00Z"], {"I was born in Porto."}),
        (["--conversation", "c2", "--about", "Lisbon"], {"I moved to Lisbon.", "I was born in Porto."}),
        (["--everything"], set()),
    ],
)
def test_each_selector_reaches_the_memory(lisbon: str, selectors: list[str], left: set[str]) -> None:
    assert run_json("forget", *selectors, "--yes")["verified"] is True
    assert texts() == left


@pytest.mark.parametrize(
    "selectors", [[], ["--everything", "--about", "Lisbon"], ["--since", "2026-05-02", "--until", "2026-05-01"]]
)
def test_no_selector_or_contradicting_ones_forget_nothing(lisbon: str, selectors: list[str]) -> None:
    assert run_json("forget", *selectors, "--yes", exit_code=2)["error"] == "InvalidInput"
    assert len(texts()) == 2


def test_an_unknown_id_or_user_is_not_found(lisbon: str) -> None:
    assert run_json("forget", "00" * 16, "--yes", exit_code=6)["error"] == "NotFound"
    assert run_json("forget", lisbon, "--yes", "--user", "nobody", exit_code=6)["error"] == "NotFound"


def test_at_a_terminal_the_preview_is_shown_and_no_is_the_default(lisbon: str) -> None:
    screen = Terminal("forget", "--about", "Lisbon")
    screen.wait_for("[y/N]")
    assert "I moved to Lisbon." in screen.shown
    screen.type("\n")
    assert screen.finish() == 1
    assert "nothing was forgotten" in screen.shown
    assert len(texts()) == 2


def test_at_a_terminal_a_yes_forgets_and_json_stands_alone(lisbon: str, tmp_path: Path) -> None:
    with (tmp_path / "output").open("w+") as output:
        screen = Terminal("forget", "--about", "Lisbon", "--json", stdout=output)
        screen.wait_for("[y/N]")
        assert "I moved to Lisbon." in screen.shown
        screen.type("y\n")
        assert screen.finish() == 0
        output.seek(0)
        assert only_object(output.read())["messages"] == [lisbon]
    assert texts() == {"I was born in Porto."}


def test_receipts_are_listed_and_verified_later(lisbon: str) -> None:
    made = run_json("forget", lisbon, "--yes")
    assert [receipt["id"] for receipt in run_json("forget", "--list")["receipts"]] == [made["id"]]
    again = run_json("forget", "--verify", made["id"])
    assert (again["verified"], again["remains"], again["messages"]) == (True, [], [lisbon])
    assert run_json("forget", "--verify", "00" * 16, exit_code=6)["error"] == "NotFound"
    assert run_json("forget", "--list", "--everything", exit_code=2)["error"] == "InvalidInput"
    assert len(texts()) == 1


def test_backups_that_still_hold_it_are_named(lisbon: str) -> None:
    run("backup", "create")
    assert "1 backup in the vault's folder still hold" in run("forget", lisbon, "--yes").stdout


def test_facts_made_from_it_stay_when_asked_to(lisbon: str) -> None:
    fact = run_json("remember", "Nell lives in Portugal", "--source", lisbon)["id"]
    shown = run("forget", "--conversation", "c1", "--keep-facts", "--yes").stdout
    assert "Kept: 1 fact made from it" in shown
    assert [hit["id"] for hit in run_json("recall", "Portugal")["hits"]] == [fact]


def test_at_a_terminal_the_facts_are_asked_about(lisbon: str) -> None:
    run("remember", "Nell lives in Portugal", "--source", lisbon)
    screen = Terminal("forget", "--conversation", "c1")
    screen.wait_for("[y/N]")
    assert "Forget the 1 fact made from it too?" in screen.shown
    screen.type("n\n")
    screen.wait_for("[y/N]")
    screen.type("y\n")
    assert screen.finish() == 0
    assert "Kept: 1 fact" in screen.shown
