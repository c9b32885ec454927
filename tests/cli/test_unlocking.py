"""How commands come to an open vault: file, keyring, a person at the terminal, or a clear error."""

import shlex
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import PASSPHRASE, PROGRAM, FakeKeyring, Terminal, only_object, run, run_json

EVERY_COMMAND = {
    "status": [],
    "doctor": [],
    "audit": ["a phrase to look for"],
    "record": ["some text", "--conversation", "c"],
    "remember": ["some fact"],
    "recall": ["some question"],
    "context": ["some question"],
    "recent": ["c"],
    "forget": ["--about", "subject", "--yes"],
    "import": ["-"],
}
"""All but init, which makes a vault, and demo, which brings its own."""

commands = pytest.mark.parametrize("command", EVERY_COMMAND)


@commands
def test_a_wrong_passphrase_is_refused_and_changes_nothing(home: Path, passphrase_file: Path, command: str) -> None:
    passphrase_file.write_text("wrong")
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    refused = run_json(command, *EVERY_COMMAND[command], exit_code=3)
    assert set(refused) == {"error", "message", "hint"}
    assert refused["error"] == "WrongPassphrase"
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


@commands
def test_a_wrong_passphrase_is_told_to_people_without_a_traceback(
    home: Path, passphrase_file: Path, command: str
) -> None:
    passphrase_file.write_text("wrong")
    told = run(command, *EVERY_COMMAND[command])
    assert told.exit_code == 3
    assert told.stdout == ""
    assert "does not open any keyslot" in told.stderr
    assert "recovery phrase" in told.stderr
    assert "Traceback" not in told.stderr


@commands
def test_without_a_vault_every_command_says_how_to_make_one(
    tmp_path: Path, passphrase_file: Path, command: str
) -> None:
    refused = run_json("--home", str(tmp_path / "nothing"), command, *EVERY_COMMAND[command], exit_code=6)
    assert refused["error"] == "NotFound"
    assert "aico init" in refused["hint"]
    assert not (tmp_path / "nothing").exists()


@commands
def test_without_passphrase_keyring_or_terminal_the_keyslot_is_missing(
    home: Path, nobody_asks: Callable[[], None], command: str
) -> None:
    nobody_asks()
    assert run_json(command, *EVERY_COMMAND[command], exit_code=3)["error"] == "KeyslotMissing"


def test_a_person_is_asked_unseen_and_the_answer_stands_alone(
    home: Path, nobody_asks: Callable[[], None], tmp_path: Path
) -> None:
    nobody_asks()
    with (tmp_path / "output").open("w+") as output:
        screen = Terminal("status", "--json", stdout=output)
        screen.wait_for("Passphrase or recovery phrase: ")
        screen.type(f"{PASSPHRASE}\n")
        assert screen.finish() == 0
        output.seek(0)
        assert only_object(output.read())["folder"] == str(home)
    assert PASSPHRASE not in screen.shown


def test_a_person_may_mistype_twice(home: Path, nobody_asks: Callable[[], None]) -> None:
    nobody_asks()
    screen = Terminal("status")
    for typed in ("wrong", "also wrong", PASSPHRASE):
        screen.wait_for("phrase: ")
        screen.type(f"{typed}\n")
    assert screen.finish() == 0


def test_a_person_who_mistypes_three_times_is_refused(home: Path, nobody_asks: Callable[[], None]) -> None:
    nobody_asks()
    screen = Terminal("status")
    for typed in ("wrong", "wronger", "wrongest"):
        screen.wait_for("phrase: ")
        screen.type(f"{typed}\n")
    assert screen.finish() == 3


def test_a_text_may_be_piped_in_while_the_passphrase_is_typed(home: Path, nobody_asks: Callable[[], None]) -> None:
    """Standard input is the memory; the terminal is there all the same."""
    nobody_asks()
    text = "a memory through a pipe"
    pipeline = f"printf '%s' {shlex.quote(text)} | {shlex.join(PROGRAM)} record - --conversation c"
    screen = Terminal(program=["sh", "-c", pipeline])
    screen.wait_for("phrase: ")
    screen.type(f"{PASSPHRASE}\n")
    assert screen.finish() == 0
    screen = Terminal("recent", "c")
    screen.wait_for("phrase: ")
    screen.type(f"{PASSPHRASE}\n")
    assert screen.finish() == 0
    assert text in screen.shown


def test_a_keyring_that_went_away_gives_way_to_the_passphrase(
    empty_home: Path, passphrase_file: Path, fake_keyring: FakeKeyring, nobody_asks: Callable[[], None]
) -> None:
    run_json("init", "--keyring")
    nobody_asks()
    screen = Terminal("status")  # in its process there is no keyring
    screen.wait_for("phrase: ")
    screen.type(f"{PASSPHRASE}\n")
    assert screen.finish() == 0


def test_a_passphrase_file_that_cannot_be_read_is_named_and_nobody_is_asked(home: Path, passphrase_file: Path) -> None:
    passphrase_file.unlink()
    screen = Terminal("status")
    assert screen.finish() == 3
    assert "AICO_PASSPHRASE_FILE" in screen.shown


def test_control_c_at_the_prompt_ends_with_130_and_one_line(
    home: Path, nobody_asks: Callable[[], None], tmp_path: Path
) -> None:
    nobody_asks()
    with (tmp_path / "errors").open("w+") as errors:
        screen = Terminal("status", stderr=errors)
        screen.wait_for("phrase: ")
        screen.interrupt()
        assert screen.finish() == 130
        errors.seek(0)
        assert errors.read() == "aico: interrupted; what was acknowledged is kept, nothing else was done\n"


def test_an_interrupt_is_json_too_when_json_was_asked_for(
    home: Path, nobody_asks: Callable[[], None], tmp_path: Path
) -> None:
    nobody_asks()
    with (tmp_path / "output").open("w+") as output:
        screen = Terminal("status", "--json", stdout=output)
        screen.wait_for("phrase: ")
        screen.process.send_signal(signal.SIGINT)
        assert screen.finish() == 130
        output.seek(0)
        assert only_object(output.read())["error"] == "Interrupted"
