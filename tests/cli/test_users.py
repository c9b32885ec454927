"""People at the command line. No PIN is ever an argument, shown, or kept."""

from pathlib import Path

import click
import pytest

import aico
from aico.cli import main
from tests.cli.conftest import PASSPHRASE, Terminal, run, run_json


@pytest.fixture
def mia(home: Path) -> str:
    made: str = run_json("users", "create", "mia", "--full-name", "Mia Silva")["id"]
    return made


def test_people_are_made_listed_shown_and_changed(mia: str) -> None:
    assert [user["name"] for user in run_json("users", "ls")["users"]] == ["mia"]
    assert run_json("users", "set", "mia", "--nickname", "Mi", "--full-name", "")["full_name"] is None
    shown = run_json("users", "show", "mia")
    assert (shown["nickname"], shown["pin"]["has_pin"], shown["sessions"]) == ("Mi", False, 0)
    assert "Mi" in run("users", "show", "mia").stdout
    assert run_json("users", "set", "mia", exit_code=2)["error"] == "InvalidInput"
    assert run_json("users", "show", "otto", exit_code=6)["error"] == "NotFound"
    assert run_json("users", "create", "mia", exit_code=2)["error"] == "InvalidInput"


def test_a_pin_comes_on_standard_input_and_is_checked_with_its_own_exit_code(mia: str) -> None:
    assert run_json("users", "set-pin", "mia", input="2580\n")["has_pin"]
    assert run_json("users", "check-pin", "mia", input="2580\n") == {"authenticated": True}
    for name in ("mia", "otto"):
        refused = run_json("users", "check-pin", name, input="9630\n", exit_code=10)
        assert refused["error"] == "AccessDenied"
        assert "9630" not in str(refused)
    assert run_json("users", "set-pin", "mia", input="8642\n", exit_code=2)["error"] == "InvalidInput"
    assert run_json("users", "set-pin", "mia", input="9630\n8642\n", exit_code=10)["error"] == "AccessDenied"
    run_json("users", "set-pin", "mia", input="2580\n8642\n")
    run_json("users", "set-pin", "mia", "--forgotten", input="1357913\n")
    assert run_json("users", "check-pin", "mia", input="1357913\n") == {"authenticated": True}


def test_five_wrong_pins_lock_across_processes_until_unlocked(mia: str) -> None:
    run_json("users", "set-pin", "mia", input="2580\n")
    errors = [run_json("users", "check-pin", "mia", input="9630\n", exit_code=10)["error"] for _ in range(5)]
    assert errors == ["AccessDenied"] * 4 + ["LockedOut"]
    assert run_json("users", "check-pin", "mia", input="2580\n", exit_code=10)["error"] == "LockedOut"
    assert run_json("users", "show", "mia")["pin"]["locked_until"] is not None
    run_json("users", "unlock", "mia")
    run_json("users", "check-pin", "mia", input="2580\n")
    assert "locked out" in run("logs", "audit").stdout


def test_at_a_terminal_a_pin_is_typed_unseen_and_twice(mia: str) -> None:
    screen = Terminal("users", "set-pin", "mia")
    screen.wait_for("New PIN")
    screen.type("2580\n")
    screen.wait_for("The same again")
    screen.type("2580\n")
    assert screen.finish() == 0
    assert "2580" not in screen.shown
    run_json("users", "check-pin", "mia", input="2580\n")


def test_no_argument_of_any_command_takes_a_pin() -> None:
    group = main.get_command(click.Context(main), "users")
    assert isinstance(group, click.Group)
    for command in group.commands.values():
        assert not any("pin" in (param.name or "") for param in command.params)


def test_sessions_are_listed_and_ended(mia: str, home: Path) -> None:
    with aico.open(home, passphrase=PASSPHRASE) as vault:
        first, _, other = (vault.sessions.create_session(mia) for _ in range(3))
    assert first.session.id in run("users", "sessions", "mia").stdout
    assert len(run_json("users", "sessions", "mia", "--revoke", first.session.id)["sessions"]) == 2
    run_json("users", "create", "otto")
    assert run_json("users", "sessions", "otto", "--revoke", other.session.id, exit_code=6)["error"] == "NotFound"
    assert run_json("users", "sessions", "mia", "--revoke-all")["sessions"] == []


def test_relationships_are_noted_and_taken_back(mia: str) -> None:
    run_json("users", "create", "otto")
    assert run_json("users", "relate", "mia", "otto", "father") == {
        "relationships": [{"name": "otto", "type": "father"}]
    }
    assert "father" in run("users", "show", "mia").stdout
    assert run_json("users", "relate", "mia", "otto", "father", "--remove") == {"relationships": []}


def test_deactivating_and_erasing(mia: str) -> None:
    run("record", "I like whales.", "--conversation", "c1", "--user", "mia")
    run_json("users", "deactivate", "mia")
    assert run("record", "more", "--conversation", "c1", "--user", "mia").exit_code == 2
    assert run_json("users", "ls", "--active") == {"users": []}
    run_json("users", "activate", "mia")
    assert run_json("users", "erase", "mia", exit_code=2)["error"] == "InvalidInput"
    erased = run_json("users", "erase", "mia", "--yes")
    assert (erased["verified"], erased["messages"]) == (True, 1)
    assert erased["backups"] == []
    assert run_json("users", "ls") == {"users": []}
    assert "somebody erased" in run("logs", "audit").stdout


def test_backups_that_still_hold_an_erased_person_are_named(mia: str) -> None:
    made = run_json("backup", "create")
    told = run("users", "erase", "mia", "--yes").stdout
    assert "1 backup in the vault's folder still holds it; `aico backup prune --forgotten`" in told
    assert [one["id"] for one in run_json("backup", "prune", "--forgotten")["deleted"]] == [made["id"]]


def test_backups_that_hold_an_erased_person_are_in_the_json(mia: str) -> None:
    made = run_json("backup", "create")
    assert run_json("users", "erase", "mia", "--yes")["backups"] == [Path(made["path"]).name]
