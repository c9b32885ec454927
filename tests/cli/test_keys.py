"""The ways to unlock a vault, seen and changed from the command line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from aico.errors import DiskFull
from tests.cli.conftest import PASSPHRASE, FakeKeyring, Terminal, run, run_json


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(f"{text}\n")
    return str(folder / name)


def test_the_list_names_every_slot_and_no_secret(home: Path) -> None:
    [slot] = run_json("keys", "list")["keyslots"]
    assert slot["kind"] == "passphrase"
    shown = run("keys", "list").stdout
    assert slot["id"] in shown
    assert PASSPHRASE not in shown


def test_a_second_passphrase_opens_the_vault(home: Path, passphrase_file: Path, tmp_path: Path) -> None:
    second = write(tmp_path, "second", "for the other person")
    assert len(run_json("keys", "add-passphrase", "--new-passphrase-file", second)["keyslots"]) == 2
    passphrase_file.write_text("for the other person")
    assert run_json("status")["keyslots"] == ["passphrase", "passphrase"]


def test_a_passphrase_is_changed_from_files(home: Path, passphrase_file: Path, tmp_path: Path) -> None:
    old, new = write(tmp_path, "old", PASSPHRASE), write(tmp_path, "new", "a longer one")
    run_json("keys", "change-passphrase", "--old-passphrase-file", old, "--new-passphrase-file", new)
    assert run_json("status", exit_code=3)["error"] == "WrongPassphrase"
    passphrase_file.write_text("a longer one")
    run_json("status")


def test_a_passphrase_is_changed_by_hand(home: Path, passphrase_file: Path) -> None:
    terminal = Terminal("keys", "change-passphrase")
    for prompt, typed in (("Old", PASSPHRASE), ("New", "typed anew"), ("again", "typed anew")):
        terminal.wait_for(prompt)
        terminal.type(f"{typed}\n")
    assert terminal.finish() == 0
    assert "typed anew" not in terminal.shown
    passphrase_file.write_text("typed anew")
    run_json("status")


def test_without_a_terminal_the_file_options_are_named(home: Path) -> None:
    refused = run_json("keys", "add-passphrase", exit_code=2)
    assert "--new-passphrase-file" in refused["hint"]


def test_a_file_that_cannot_be_read_changes_nothing(home: Path, tmp_path: Path) -> None:
    before = (home / "vault.json").read_bytes()
    run_json("keys", "add-passphrase", "--new-passphrase-file", str(tmp_path / "nowhere"), exit_code=2)
    assert (home / "vault.json").read_bytes() == before


def test_a_slot_is_removed_but_never_the_last(home: Path, passphrase_file: Path) -> None:
    [first] = run_json("keys", "list")["keyslots"]
    assert run_json("keys", "remove", first["id"], exit_code=2)["error"] == "InvalidInput"
    phrase = run_json("keys", "recovery")["recovery_phrase"]
    run_json("keys", "remove", first["id"])
    passphrase_file.write_text(phrase)
    assert run_json("status")["keyslots"] == ["recovery"]


def test_a_keyring_slot_needs_a_keyring(home: Path, fake_keyring: FakeKeyring) -> None:
    kinds = [slot["kind"] for slot in run_json("keys", "keyring")["keyslots"]]
    assert kinds == ["passphrase", "keyring"]
    assert fake_keyring.kept


# Rotation


def test_rotation_takes_the_usual_passphrase_and_shows_a_new_phrase(home: Path) -> None:
    old = run_json("keys", "recovery")["recovery_phrase"]
    run("record", "I moved to Lisbon", "--conversation", "c")
    report = run_json("keys", "rotate")
    assert (report["generation"], report["resumed"], report["removed"]) == (2, False, [])
    assert report["recovery_phrase"] != old
    assert "Lisbon" in run("recall", "Lisbon").stdout
    shown = run("keys", "rotate").stdout
    assert "Your recovery phrase" in shown
    assert "sealed under new keys" in shown
    assert run_json("logs", "audit")["entries"][-1]["action"] == "keys rotated"


def test_rotation_reads_the_secrets_of_several_people_from_a_file(
    home: Path, passphrase_file: Path, tmp_path: Path
) -> None:
    second = write(tmp_path, "second", "for the other person")
    [_, slot] = run_json("keys", "add-passphrase", "--new-passphrase-file", second)["keyslots"]
    assert run_json("keys", "rotate", exit_code=2)["error"] == "InvalidInput"
    phrase = run_json("keys", "recovery")["recovery_phrase"]
    secrets = write(tmp_path, "secrets", f"{PASSPHRASE}\nfor the other person\n{phrase}")
    report = run_json("keys", "rotate", "--secrets-file", secrets)
    assert "recovery_phrase" not in report
    [_, slot, _] = report["keyslots"]
    passphrase_file.write_text("for the other person")
    run_json("status")
    passphrase_file.write_text(PASSPHRASE)
    report = run_json("keys", "rotate", "--remove", slot["id"])
    assert report["removed"] == [slot]


def test_rotation_asks_for_each_passphrase_and_removes_what_is_not_given(
    home: Path, tmp_path: Path, nobody_asks: Callable[[], None]
) -> None:
    second = write(tmp_path, "second", "for the other person")
    [first, other] = run_json("keys", "add-passphrase", "--new-passphrase-file", second)["keyslots"]
    nobody_asks()
    terminal = Terminal("keys", "rotate")
    for prompt, typed in (
        ("Passphrase or", PASSPHRASE),
        (f"keyslot {first['id']}", PASSPHRASE),
        (f"keyslot {other['id']}", ""),
        ("Remove it?", "y"),
    ):
        terminal.wait_for(prompt)
        terminal.type(f"{typed}\n")
    assert terminal.finish() == 0
    assert f"Removed: {other['id']}" in terminal.shown
    assert PASSPHRASE not in terminal.shown


def test_rotation_asks_once_where_there_is_one_passphrase(home: Path, nobody_asks: Callable[[], None]) -> None:
    nobody_asks()
    terminal = Terminal("keys", "rotate")
    terminal.wait_for("Passphrase or")
    terminal.type(f"{PASSPHRASE}\n")
    assert terminal.finish() == 0
    assert "sealed under new keys" in terminal.shown


def test_an_unfinished_rotation_is_told_and_goes_on_without_asking(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise DiskFull("no room; nothing was changed")

    with monkeypatch.context() as patch:
        patch.setattr("aico.rotation.Rotation.go_on", fail)
        run_json("keys", "recovery")
        failed = run("keys", "rotate")
        assert failed.exit_code == 5
        assert "Your recovery phrase" in failed.stdout  # nobody is told it again
    assert run_json("status")["rotation_unfinished"]
    assert "unfinished" in run("status").stdout
    assert run("doctor").exit_code == 4
    assert run_json("keys", "rotate")["resumed"]
    assert not run_json("status")["rotation_unfinished"]
    assert run("doctor").exit_code == 0
