"""Backups from the command line."""

import re
import shlex
from pathlib import Path

from tests.cli.conftest import only_object, run, run_json


def advised(output: str) -> list[str]:
    """The arguments of the command that the output names."""
    [command] = re.findall(r"`aico (backup prune .+?)`", output)
    return shlex.split(command)


def test_a_vault_is_backed_up_checked_and_restored(home: Path, tmp_path: Path) -> None:
    run_json("record", "I moved to Lisbon.", "--conversation", "c")
    made = run_json("backup", "create", "--to", str(tmp_path / "disk"))
    assert made["parent"] is None
    assert run_json("backup", "verify", made["path"])["id"] == made["id"]
    assert [one["id"] for one in run_json("backup", "list", "--to", str(tmp_path / "disk"))["backups"]] == [made["id"]]
    restored = str(tmp_path / "restored")
    run_json("restore", made["path"], "--to", restored)
    [hit] = run_json("--home", restored, "recall", "Lisbon")["hits"]
    assert hit["text"] == "I moved to Lisbon."


def test_a_restore_over_a_vault_is_refused(home: Path) -> None:
    made = run_json("backup", "create")
    assert run_json("restore", made["path"], exit_code=2)["error"] == "InvalidInput"


def test_people_are_told_what_was_made(home: Path) -> None:
    assert "There is no backup here." in run("backup", "list").stdout
    assert "full" in run("backup", "create").stdout
    assert "builds on" in run("backup", "create").stdout
    assert "Nothing had to go." in run("backup", "prune", "--keep", "1").stdout
    assert run_json("backup", "prune", "--keep", "1")["deleted"] == []


def test_what_forget_and_the_list_name_deletes_what_was_forgotten(home: Path, tmp_path: Path) -> None:
    disk = str(tmp_path / "another disk")
    run_json("record", "the purple walrus", "--conversation", "s")
    made = run_json("backup", "create")
    run_json("backup", "create", "--to", disk)
    told = run("forget", "--conversation", "s", "--yes").stdout
    assert "1 backup in the vault's folder still holds it" in told
    assert "up to 1 memory" in run("backup", "list").stdout
    assert advised(run("backup", "list").stdout) == advised(told)

    pruned = run(*advised(told)).stdout
    assert "Made first:" in pruned and Path(made["path"]).name in pruned.partition("Deleted:")[2]
    [left] = run_json("backup", "list")["backups"]
    run_json("restore", left["path"], "--to", str(tmp_path / "restored"))
    assert run_json("--home", str(tmp_path / "restored"), "status")["rows"]["messages"] == 0
    assert "No backup here holds" in run(*advised(told)).stdout

    [gone] = run_json(*advised(run("backup", "list", "--to", disk).stdout))["deleted"]
    assert gone["path"].startswith(disk)
    assert run_json("backup", "list", "--to", disk)["backups"][0]["forgotten_since"] == 0


def test_a_backup_after_forgetting_lets_the_older_ones_go(home: Path) -> None:
    run_json("record", "the purple walrus", "--conversation", "s")
    made = run_json("backup", "create")
    run_json("forget", "--conversation", "s", "--yes")
    assert run_json("backup", "create")["parent"] is None
    assert [one["id"] for one in run_json("backup", "prune", "--keep", "1")["deleted"]] == [made["id"]]


def test_pruning_says_by_what(home: Path) -> None:
    assert run_json("backup", "prune", exit_code=2)["error"] == "InvalidInput"
    assert run_json("backup", "prune", "--forgotten", "--keep", "1", exit_code=2)["error"] == "InvalidInput"


def test_backups_from_before_a_rotation_are_told_and_open_as_on_their_day(home: Path, tmp_path: Path) -> None:
    run_json("record", "I moved to Lisbon.", "--conversation", "c")
    disk = str(tmp_path / "disk")
    made = run_json("backup", "create", "--to", disk)
    run_json("keys", "rotate")
    assert run_json("backup", "list", "--to", disk) == {"backups": [], "others": 1}
    asked = run_json("backup", "verify", made["path"], exit_code=3)
    assert "before the keys were rotated" in asked["message"] and "aico restore" in asked["hint"]
    assert "from before the keys were rotated" in run("backup", "list", "--to", disk).stdout
    restored = str(tmp_path / "restored")
    run_json("restore", made["path"], "--to", restored)
    assert run_json("--home", restored, "recall", "Lisbon")["hits"][0]["text"] == "I moved to Lisbon."


def test_the_list_and_doctor_name_a_backup_that_needs_a_missing_one(home: Path) -> None:
    made = run_json("backup", "create")
    later = run_json("backup", "create")
    assert later["parent"] == made["id"]
    Path(made["path"]).unlink()
    assert run_json("backup", "list")["backups"][0]["missing"] == made["id"]
    told = " ".join(run("backup", "list").stdout.split())
    assert f"{made['id']} is missing" in told and "cannot be restored" in told
    [finding] = [one for one in only_object(run("doctor", "--json").stdout)["findings"] if one["name"] == "backups"]
    assert finding["ok"] is False and "`aico backup create`" in finding["hint"]
    run_json("backup", "create")
    [finding] = [one for one in only_object(run("doctor", "--json").stdout)["findings"] if one["name"] == "backups"]
    assert finding["ok"] is None and Path(later["path"]).name in finding["message"]


def test_a_damaged_backup_is_a_message_and_a_code(home: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.aicobackup").write_bytes(b"AICObkup\x01nonsense")
    assert run_json("backup", "verify", str(tmp_path / "bad.aicobackup"), exit_code=4)["error"] == "Tampered"
    assert run_json("backup", "verify", str(tmp_path / "none"), exit_code=6)["error"] == "NotFound"
