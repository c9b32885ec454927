"""Making a vault."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import PASSPHRASE, FakeKeyring, Terminal, only_object, run, run_json


def test_init_makes_a_vault_that_the_passphrase_opens(empty_home: Path, passphrase_file: Path) -> None:
    made = run_json("init")
    assert made == {"folder": str(empty_home), "keyslots": ["passphrase"], "recovery_phrase": None}
    assert run_json("status")["rows"]["messages"] == 0


def test_init_leaves_an_existing_vault_untouched(home: Path) -> None:
    before = (home / "vault.json").read_bytes()
    refused = run_json("init", "--recovery", exit_code=2)
    assert refused["error"] == "InvalidInput"
    assert (home / "vault.json").read_bytes() == before


def test_init_without_terminal_and_passphrase_makes_nothing(empty_home: Path) -> None:
    assert run_json("init", exit_code=3)["error"] == "KeyslotMissing"
    assert [path.name for path in empty_home.iterdir()] == ["config.toml"]


def test_the_recovery_phrase_opens_the_vault(empty_home: Path, passphrase_file: Path) -> None:
    phrase = run_json("init", "--recovery")["recovery_phrase"]
    assert len(phrase.split()) == 24
    passphrase_file.write_text(phrase)
    assert run_json("status")["keyslots"] == ["passphrase", "recovery"]


def test_the_recovery_phrase_is_shown_numbered_with_advice(empty_home: Path, passphrase_file: Path) -> None:
    shown = run("init", "--recovery").stdout
    assert all(f"{number:2} " in shown for number in range(1, 25))
    assert "paper" in shown


def test_the_keyring_opens_the_vault_without_a_passphrase(
    empty_home: Path, passphrase_file: Path, fake_keyring: FakeKeyring, nobody_asks: Callable[[], None]
) -> None:
    assert run_json("init", "--keyring")["keyslots"] == ["passphrase", "keyring"]
    nobody_asks()
    assert run_json("record", "hello there", "--conversation", "c")["id"]
    assert PASSPHRASE not in str(fake_keyring.kept)


def test_without_a_keyring_the_vault_still_exists_and_init_says_so(empty_home: Path, passphrase_file: Path) -> None:
    told = run_json("init", "--keyring", "--recovery", exit_code=3)
    assert told["error"] == "KeyringUnavailable"
    assert "the vault was made" in told["message"]
    assert told["keyslots"] == ["passphrase", "recovery"]
    assert len(told["recovery_phrase"].split()) == 24
    assert run_json("status")["keyslots"] == ["passphrase", "recovery"]


def test_people_are_told_too_when_the_keyring_cannot_be_used(empty_home: Path, passphrase_file: Path) -> None:
    told = run("init", "--keyring")
    assert told.exit_code == 3
    assert str(empty_home) in told.stdout
    assert "the vault was made, but without a keyring slot" in told.stderr


def test_at_a_terminal_init_asks_twice_and_offers_keyring_and_phrase(empty_home: Path) -> None:
    screen = Terminal("init")
    screen.wait_for("New passphrase: ")
    screen.type(f"{PASSPHRASE}\n")
    screen.wait_for("The same again: ")
    screen.type(f"{PASSPHRASE}\n")
    screen.wait_for("[y/N]")
    screen.type("\n")
    screen.wait_for("[y/N]")
    screen.type("y\n")
    assert screen.finish() == 0
    assert PASSPHRASE not in screen.shown
    assert "unlocked by: passphrase, recovery." in screen.shown
    assert (empty_home / "vault.json").exists()


def test_a_mistyped_new_passphrase_is_asked_again(empty_home: Path) -> None:
    screen = Terminal("init", "--no-keyring", "--no-recovery")
    for typed in ("first", "second", PASSPHRASE, PASSPHRASE):
        screen.wait_for(": ")
        screen.type(f"{typed}\n")
    assert screen.finish() == 0
    assert "not the same" in screen.shown


def test_three_mistyped_new_passphrases_make_nothing(empty_home: Path) -> None:
    screen = Terminal("init", "--no-keyring", "--no-recovery")
    for typed in ("a1", "b1", "a2", "b2", "a3", "b3"):
        screen.wait_for(": ")
        screen.type(f"{typed}\n")
    assert screen.finish() == 2
    assert [path.name for path in empty_home.iterdir()] == ["config.toml"]


def test_with_json_questions_stay_out_of_standard_output(empty_home: Path, tmp_path: Path) -> None:
    with (tmp_path / "output").open("w+") as output:
        screen = Terminal("init", "--json", stdout=output)
        for typed in (PASSPHRASE, PASSPHRASE):
            screen.wait_for(": ")
            screen.type(f"{typed}\n")
        for _ in range(2):
            screen.wait_for("[y/N]")
            screen.type("n\n")
        assert screen.finish() == 0
        output.seek(0)
        assert only_object(output.read())["keyslots"] == ["passphrase"]


def test_an_interrupted_question_leaves_a_vault_without_a_phrase_that_nobody_saw(
    empty_home: Path, passphrase_file: Path
) -> None:
    screen = Terminal("init", "--recovery")
    screen.wait_for("[y/N]")
    screen.interrupt()
    assert screen.finish() == 130
    assert run_json("status")["keyslots"] == ["passphrase"]


@pytest.mark.parametrize("name", ["occupied", "data"])
def test_init_refuses_a_folder_that_is_in_use(tmp_path: Path, passphrase_file: Path, name: str) -> None:
    folder = tmp_path / "elsewhere"
    (folder / name).mkdir(parents=True)
    refused = run_json("--home", str(folder), "init", exit_code=3 if name == "data" else 2)
    assert refused["hint"]
    assert [path.name for path in folder.iterdir()] == [name]


def test_init_makes_a_vault_on_libsql_and_says_what_that_one_does_not_notice(
    empty_home: Path, passphrase_file: Path
) -> None:
    pytest.importorskip("libsql", reason="the engine libsql needs the extra aico[libsql]")
    run_json("init", "--engine", "libsql")
    run("record", "I moved to Lisbon in May.", "--conversation", "hello")
    assert "Lisbon" in run("recall", "when did I move?").stdout
    status = run_json("status")
    assert (status["format"], status["detects_tampering"]) == (2, False)
    assert "libSQL" in status["engine"]
    assert "a change from outside is not detected" in run("status").stdout
    findings = {found["name"]: found for found in run_json("doctor")["findings"]}
    assert findings["engine"]["ok"] is None
    assert "a changed byte is not detected" in findings["engine"]["message"]
    assert findings["page map"]["ok"] is None
    assert "libSQL" in run_json("db", "status")["engine"]


def test_an_unknown_engine_is_refused(empty_home: Path, passphrase_file: Path) -> None:
    assert run("init", "--engine", "oracle").exit_code == 2
    assert not (empty_home / "vault.json").exists()
