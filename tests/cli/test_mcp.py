"""`aico mcp install`: shows the change, asks, keeps all else, and writes no passphrase."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import PASSPHRASE, FakeKeyring, Terminal, run, run_json


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "settings.json"
    file.write_text('{\n  // mine\n  "theme": "dark"\n}\n')
    return file


def test_the_entry_starts_this_vault_and_holds_no_secret(home: Path, config: Path) -> None:
    made = run_json("mcp", "install", "zed", "--file", str(config), "--user", "mia", "--read-only", "--yes")
    text = config.read_text()
    assert (made["changed"], "// mine" in text, PASSPHRASE in text) == (True, True, False)
    entry = json.loads(text.replace("// mine", ""))["context_servers"]["aico"]
    assert entry["args"] == ["-m", "aico", "--home", str(home), "mcp", "--user", "mia", "--read-only"]
    assert "env" not in entry
    again = run_json("mcp", "install", "zed", "--file", str(config), "--user", "mia", "--read-only", "--yes")
    assert (again["changed"], config.read_text()) == (False, text)


def test_without_a_keyring_slot_the_person_is_told(empty_home: Path, config: Path, passphrase_file: Path) -> None:
    run("init")
    assert "no keyring slot" in run_json("mcp", "install", "zed", "--file", str(config), "--yes")["warning"]


def test_with_a_keyring_slot_there_is_nothing_to_say(home: Path, config: Path, fake_keyring: FakeKeyring) -> None:
    run("keys", "keyring")
    assert run_json("mcp", "install", "zed", "--file", str(config), "--yes")["warning"] is None


def test_without_a_vault_or_a_yes_nothing_is_changed(home: Path, config: Path, tmp_path: Path) -> None:
    before = config.read_text()
    assert run_json("mcp", "install", "zed", "--file", str(config), exit_code=2)["error"] == "InvalidInput"
    elsewhere = ["--home", str(tmp_path / "nowhere")]
    assert run_json("mcp", "install", "zed", "--file", str(config), "--yes", *elsewhere, exit_code=6)
    assert run("mcp", "install", "notepad", "--yes").exit_code == 2
    assert config.read_text() == before


def test_at_a_terminal_the_change_is_shown_and_no_is_the_default(home: Path, config: Path) -> None:
    before = config.read_text()
    screen = Terminal("mcp", "install", "zed", "--file", str(config))
    screen.wait_for("[y/N]")
    assert '+  "context_servers": {' in screen.shown.replace("\r", "")
    screen.type("\n")
    assert (screen.finish(), config.read_text()) == (1, before)
    screen = Terminal("mcp", "install", "zed", "--file", str(config))
    screen.wait_for("[y/N]")
    screen.type("y\n")
    assert screen.finish() == 0
    assert '"aico"' in config.read_text()


def test_a_person_who_types_aico_mcp_is_shown_what_it_is_for(home: Path) -> None:
    screen = Terminal("mcp")
    assert screen.finish() == 0
    assert "Model Context Protocol" in screen.shown


def test_an_option_before_install_is_not_lost_unseen(home: Path, config: Path) -> None:
    before = config.read_text()
    assert run_json("mcp", "--read-only", "install", "zed", "--file", str(config), "--yes", exit_code=2)
    assert config.read_text() == before


def test_standard_output_belongs_to_the_protocol(home: Path) -> None:
    assert run_json("mcp", exit_code=2)["error"] == "InvalidInput"


def test_an_empty_user_or_conversation_is_refused_before_anything_is_served_or_written(
    home: Path, config: Path
) -> None:
    before = config.read_text()
    for option in ("--user", "--conversation"):
        refused = run("mcp", option, "", input="")
        assert (refused.exit_code, "not empty" in refused.stderr) == (2, True)
        arguments = ("mcp", "install", "zed", "--file", str(config), option, " ", "--yes")
        assert run_json(*arguments, exit_code=2)["error"] == "InvalidInput"
    assert config.read_text() == before
