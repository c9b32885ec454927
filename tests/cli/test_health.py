"""Status, doctor and audit at the command line."""

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import run, run_json

PHRASE = "the cellar key lies under the third pot"


def test_status_shows_what_the_vault_holds(home: Path) -> None:
    run("record", "hello", "--conversation", "c", "--user", "mia")
    run("remember", "likes figs")
    found = run_json("status")
    assert found["folder"] == str(home)
    assert found["users"] == ["mia"]
    assert found["rows"] == {"users": 1, "conversations": 1, "messages": 1, "facts": 1, "erasures": 0}
    assert found["keyslots"] == ["passphrase"]
    shown = run("status").stdout
    assert "1 message," in shown
    assert "mia" in shown


def test_doctor_finds_a_new_vault_well(home: Path) -> None:
    examined = run_json("doctor")
    assert examined["ok"] is True
    assert {"pages", "permissions", "keyslots"} <= {finding["name"] for finding in examined["findings"]}
    assert "✓ pages" in run("doctor").stdout


def test_doctor_ends_with_4_and_says_what_to_do_when_something_is_wrong(home: Path) -> None:
    (home / "vault.json").chmod(0o644)
    examined = run_json("doctor", exit_code=4)
    assert examined["ok"] is False
    shown = run("doctor")
    assert shown.exit_code == 4
    assert "✗ permissions" in shown.stdout
    assert "→ chmod" in shown.stdout


def test_an_older_copy_of_the_folder_is_told_until_doctor_is_told_to_accept_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AICO_ANCHOR_FILE", str(tmp_path / "anchor.json"))
    run("record", "hello", "--conversation", "c", "--user", "mia")
    shutil.copytree(home, tmp_path / "older")
    run("record", "hello again", "--conversation", "c", "--user", "mia")
    shutil.rmtree(home)
    shutil.copytree(tmp_path / "older", home)
    refused = run("status")
    assert refused.exit_code == 4
    assert "older copy" in refused.stderr
    assert "--accept-older" in refused.stderr
    examined = run_json("doctor", "--accept-older")
    assert {finding["name"]: finding["ok"] for finding in examined["findings"]}["commit anchor"] is True
    assert run("status").exit_code == 0


def test_audit_finds_nothing_readable_in_a_vault(home: Path) -> None:
    run("record", PHRASE, "--conversation", "c")
    report = run_json("audit", PHRASE)
    assert report["leaks"] == []
    assert report["control_hits"] >= 8
    assert report["searched_bytes"] > 0
    assert "Nothing of it is readable" in run("audit", PHRASE).stdout


def test_audit_ends_with_4_where_text_is_readable_and_does_not_repeat_it(home: Path) -> None:
    run("record", "something else entirely", "--conversation", "c")
    leak = home / "notes.txt"
    leak.write_bytes(b"xx" + PHRASE.encode())
    report = run_json("audit", "not to be found", PHRASE, exit_code=4)
    assert report["leaks"] == [{"file": str(leak), "encoding": "utf-8", "needle": 1, "offset": 2}]
    shown = run("audit", "not to be found", PHRASE)
    assert shown.exit_code == 4
    assert f"phrase 2 is readable: utf-8 at byte 2 of {leak}" in shown.stdout
    assert PHRASE not in shown.output + str(report)


def test_audit_reads_phrases_from_standard_input_one_a_line(home: Path) -> None:
    (home / "notes.txt").write_text(PHRASE)
    report = run_json("audit", "-", "--samples", "0", input=f"another phrase\n\n{PHRASE}\n", exit_code=4)
    assert report["needles"] == 2
    assert [leak["needle"] for leak in report["leaks"]] == [1]


@pytest.mark.parametrize("phrases", [[], ["short"]])
def test_audit_without_anything_to_search_for_is_refused(home: Path, phrases: list[str]) -> None:
    assert run_json("audit", *phrases, "--samples", "0", exit_code=2)["error"] == "InvalidInput"
