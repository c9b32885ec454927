"""Devices at the command line."""

from pathlib import Path

from tests.cli.conftest import run, run_json


def test_devices_come_are_renamed_go_and_return(home: Path) -> None:
    assert "`aico devices this` registers this one" in run("devices", "ls").stderr
    own = run_json("devices", "this")
    assert own["is_this"] and run_json("devices", "this")["id"] == own["id"]
    phone = run_json("devices", "add", "phone", "--type", "phone", "--platform", "Android")
    run("devices", "rename", phone["id"], "Mia's phone")
    assert "Mia's phone (phone, Android), seen" in run("devices", "ls").stdout
    assert run("devices", "deactivate", phone["id"]).stdout == "It takes part no more.\n"
    assert "Mia's phone (phone, Android), takes part no more" in run("devices", "ls").stdout
    assert [device["id"] for device in run_json("devices", "ls", "--active")["devices"]] == [own["id"]]
    run("devices", "activate", phone["id"])
    assert len(run_json("devices", "ls", "--active")["devices"]) == 2
    assert run_json("devices", "deactivate", "00" * 16, exit_code=6)["error"] == "NotFound"
