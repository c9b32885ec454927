"""The log and the audit log at the command line."""

import json
import stat
from pathlib import Path

import pytest

import aico
from tests.cli.conftest import PASSPHRASE, Terminal, run, run_json


@pytest.fixture
def log(home: Path) -> None:
    """Four entries, one of them mia's."""
    with aico.open(home, passphrase=PASSPHRASE) as vault:
        mia = vault.users.create_user("mia").id
        vault.logs.insert_log(level="INFO", message="the microphone is ready", subsystem="voice")
        vault.logs.insert_log(level="DEBUG", message="frame 1", subsystem="voice", trace_id="t1")
        vault.logs.insert_log(level="ERROR", message="no Microphone \x1b[2J", extra={"device": 3})
        vault.logs.insert_log(level="WARNING", message="slow answer", subsystem="chat", user_id=mia)


def messages(*args: str) -> list[str]:
    return [entry["message"] for entry in run_json("logs", *args)["entries"]]


def test_entries_are_listed_newest_first_and_chosen_by_every_filter(log: None) -> None:
    assert messages("ls") == ["slow answer", "no Microphone \x1b[2J", "frame 1", "the microphone is ready"]
    assert messages("ls", "--level", "warning") == ["slow answer", "no Microphone \x1b[2J"]
    assert messages("ls", "--subsystem", "voice", "--level", "INFO") == ["the microphone is ready"]
    assert messages("ls", "--user", "mia") == ["slow answer"]
    assert messages("ls", "--trace", "t1") == ["frame 1"]
    assert messages("ls", "--until", "2020-01-01") == []
    assert messages("ls", "--limit", "1", "--offset", "1") == ["no Microphone \x1b[2J"]
    assert messages("tail", "--limit", "2") == ["no Microphone \x1b[2J", "slow answer"]


def test_grep_finds_a_text_also_from_standard_input(log: None) -> None:
    assert len(messages("grep", "MICROPHONE")) == 2
    assert [entry["message"] for entry in run_json("logs", "grep", "-", input="slow\n")["entries"]] == ["slow answer"]


def test_people_see_lines_that_no_entry_can_turn_into_terminal_commands(log: None) -> None:
    shown = run("logs", "ls").stdout
    assert "slow answer" in shown
    assert "\x1b[2J" not in shown
    assert "device" in run("logs", "show", "3").stdout
    assert "4 lines" in run("logs", "stat").stdout
    assert run("logs", "show", "99").exit_code == 6
    assert run("logs", "ls", "--user", "nobody").exit_code == 6


def test_statistics_count_by_level(log: None) -> None:
    assert run_json("logs", "stat")["by_level"] == {"DEBUG": 1, "ERROR": 1, "INFO": 1, "WARNING": 1}


def test_an_export_is_private_never_replaces_a_file_and_is_recorded(log: None, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    assert run_json("logs", "export", str(file), "--level", "WARNING") == {"entries": 2}
    assert [json.loads(line)["level"] for line in file.read_text().splitlines()] == ["ERROR", "WARNING"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert run_json("logs", "export", str(file), exit_code=2)["error"] == "InvalidInput"
    assert run("logs", "export", "-", "--level", "WARNING").stdout_bytes == file.read_bytes()
    assert run_json("logs", "export", "-", exit_code=2)["error"] == "InvalidInput"
    assert run_json("logs", "audit")["entries"][-1]["action"] == "exported"


def test_deleting_needs_a_filter_and_a_yes(log: None) -> None:
    assert run_json("logs", "rm", "--yes", exit_code=2)["error"] == "InvalidInput"
    assert run_json("logs", "rm", "--subsystem", "voice", exit_code=2)["error"] == "InvalidInput"
    assert run_json("logs", "rm", "--subsystem", "voice", "--yes") == {"removed": 2}
    assert len(messages("ls")) == 2


def test_the_log_can_be_followed_while_another_program_writes(log: None, home: Path) -> None:
    screen = Terminal("logs", "tail", "-f", "--limit", "1")
    screen.wait_for("slow answer")
    with aico.open(home, passphrase=PASSPHRASE) as vault:
        vault.logs.insert_log(level="INFO", message="written meanwhile")
    screen.wait_for("written meanwhile")
    screen.interrupt()
    screen.finish()
    assert "the microphone" not in screen.shown


def test_the_chain_is_proved_and_a_head_kept_elsewhere_proves_the_end(log: None, home: Path) -> None:
    with aico.open(home, passphrase=PASSPHRASE) as vault:
        vault.keys.add_recovery_phrase()
    proved = run_json("logs", "verify-chain")
    assert (proved["intact"], proved["entries"]) == (True, 2)  # and what config.toml weakens, since the vault was made
    assert run_json("logs", "verify-chain", "--head", proved["head"])["intact"]
    assert proved["head"] in run("logs", "verify-chain").stdout
    assert run_json("logs", "verify-chain", "--head", "nonsense", exit_code=2)["error"] == "InvalidInput"
    with aico.open(home, passphrase=PASSPHRASE) as vault:
        vault.connection.execute("DROP TRIGGER audit_log_keeps_rows")
        vault.connection.execute("DELETE FROM audit_log WHERE id > 1")
    assert run_json("logs", "verify-chain", exit_code=4)["intact"] is False
    assert run("logs", "verify-chain", "--head", proved["head"]).exit_code == 4


def test_the_group_alone_shows_what_there_is(home: Path) -> None:
    assert "verify-chain" in run("logs").stdout
    assert run("logs", "nonsense").exit_code == 2
