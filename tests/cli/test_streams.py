"""Standard input, output and error that are full, closed or gone: a message, a code, and nothing lost."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import PROGRAM, run_json

FULL = Path("/dev/full")
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full, a disk without room")


def started(*args: str, closed: tuple[int, ...] = (), **streams: Any) -> subprocess.CompletedProcess[str]:
    """The program without a terminal, those of its standard descriptors closed before it begins."""
    redirections = "".join(f" {number}{'<' if number == 0 else '>'}&-" for number in closed)
    whole = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    program = ["sh", "-c", f'exec "$@"{redirections}', "sh", *PROGRAM, *args]
    return subprocess.run(program, start_new_session=True, text=True, timeout=60, check=False, **whole)


def answered_onto_a_full_disk(*args: str) -> subprocess.CompletedProcess[str]:
    with FULL.open("w") as full:
        return started(*args, stdout=full)


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["", "--json"])
@pytest.mark.parametrize("command", [["recall", "fig"], ["status"], ["config", "list"]], ids=" ".join)
def test_an_answer_that_finds_no_room_is_told_on_standard_error(home: Path, command, options) -> None:
    run_json("record", "The figs are ripe.", "--conversation", "c")
    done = answered_onto_a_full_disk(*command, *options)
    assert done.returncode == 5
    assert done.stderr.startswith("aico: the answer could not be written to standard output (No space left on device)")
    assert "Traceback" not in done.stderr and "aico's own" not in done.stderr


def test_what_was_recorded_is_kept_though_the_answer_is_lost(home: Path) -> None:
    done = answered_onto_a_full_disk("record", "I moved to Lisbon.", "--conversation", "c", "--json")
    assert "what the command did is done" in done.stderr
    assert run_json("recall", "Lisbon")["hits"][0]["text"] == "I moved to Lisbon."


def test_help_that_finds_no_room_is_told_too(home: Path) -> None:
    for arguments in ([], ["--help"], ["recall", "--help"], ["--version"]):
        done = answered_onto_a_full_disk(*arguments)
        assert (done.returncode, done.stderr.count("aico: the answer could not be written")) == (5, 1), done.stderr


@pytest.mark.parametrize("command", [["export", "--output", "-"], ["logs", "export", "-"]], ids=" ".join)
def test_an_export_that_finds_no_room_says_that_it_is_not_whole(home: Path, command) -> None:
    run_json("record", "I moved to Lisbon.", "--conversation", "c")
    run_json("recall", "zebra")  # what was not found is in the log
    done = answered_onto_a_full_disk(*command)
    assert done.returncode == 5
    assert done.stderr.startswith("aico: standard output took no more (No space left on device); the export is not")


def test_an_error_keeps_its_code_and_is_told_where_there_is_room(home: Path) -> None:
    done = answered_onto_a_full_disk("backup", "verify", "nothing", "--json")
    assert done.returncode == 6
    assert done.stderr.startswith("aico: there is no backup")
    with FULL.open("w") as full:
        assert started("backup", "verify", "nothing", stderr=full).returncode == 6


def test_closed_streams_are_errors_of_their_own(home: Path) -> None:
    done = started("status", closed=(1,))
    assert (done.returncode, "it is closed" in done.stderr) == (5, True)
    done = started("export", "--output", "-", closed=(1,))
    assert (done.returncode, "it is closed" in done.stderr) == (5, True)
    done = started("status", closed=(0, 2))
    assert (done.returncode, "vault" in done.stdout) == (0, True)
    assert started("backup", "verify", "nothing", closed=(2,)).stdout == ""


def test_a_file_of_the_vault_never_takes_the_place_of_a_closed_stream(home: Path) -> None:
    printed = "os.write(1, b'printed by a library'); os.write(2, b'printed by a library')"
    program = f"import os\nfrom aico.cli import main\ntry: main(['status'])\nfinally:\n {printed}"
    script = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", PROGRAM[0], "-c", program]
    subprocess.run(script, check=False, timeout=60)
    assert run_json("doctor")["ok"] is True


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        (["status"], 3, "passphrase"),
        (["recall", "-"], 2, "standard input is closed; nothing was changed"),
        (["forget", "00" * 16], 2, "was not confirmed"),
        (["users", "erase", "mia"], 2, "was not confirmed"),
        (["mcp"], 2, "standard input is closed"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_closed_standard_input_is_as_if_nobody_were_there(
    home: Path, nobody_asks: Callable[[], None], command, code: int, told: str
) -> None:
    nobody_asks()
    done = started(*command, closed=(0,))
    assert (done.returncode, told in done.stderr) == (code, True), done.stderr


def test_an_import_and_a_pin_from_closed_standard_input_are_refused(home: Path) -> None:
    run_json("users", "create", "mia")
    for command in (["import", "-"], ["users", "set-pin", "mia"], ["users", "check-pin", "mia"]):
        done = started(*command, closed=(0,))
        assert done.stderr.startswith("aico: standard input is closed; nothing was changed"), done.stderr
        assert done.returncode == 2


def test_a_vault_is_made_with_standard_input_closed(empty_home: Path, passphrase_file: Path) -> None:
    done = started("init", closed=(0,))
    assert (done.returncode, done.stderr) == (0, "")
    assert os.listdir(empty_home)
