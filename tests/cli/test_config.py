"""Settings at the command line: every one is shown with its origin, and nothing secret gets into the file."""

from pathlib import Path

import pytest

from aico.configuration import SETTINGS
from aico.settings import _ConfigFile, _KdfTable
from tests.cli.conftest import run, run_json


def test_every_setting_of_the_file_is_described() -> None:
    in_file = {name for name in _ConfigFile.__struct_fields__ if name != "kdf"}
    in_file |= {f"kdf.{name}" for name in _KdfTable.__struct_fields__}
    assert {known.name for known in SETTINGS} == in_file


def test_settings_are_listed_with_their_origin_without_unlocking(empty_home: Path) -> None:
    found = {one["name"]: one for one in run_json("config", "list")["settings"]}
    assert (found["kdf.memory_kib"]["value"], found["kdf.memory_kib"]["source"]) == (64, "file")
    assert (found["busy_wait_s"]["value"], found["busy_wait_s"]["source"]) == (30.0, "default")
    shown = run("config", "list").stdout
    assert "kdf.memory_kib = 64  (file; default 262144)" in shown
    assert "in seconds: how long a write waits" in shown
    assert run("config", "get", "kdf.lanes").stdout == "1\n"


def test_a_setting_is_changed_and_taken_back_and_the_rest_of_the_file_stays(empty_home: Path) -> None:
    before = (empty_home / "config.toml").read_text()
    assert run_json("config", "set", "busy_wait_s", "5")["value"] == 5.0
    assert (empty_home / "config.toml").read_text().endswith(before)
    assert run_json("config", "get", "busy_wait_s")["source"] == "file"
    assert "default again" in run("config", "unset", "busy_wait_s").stdout
    assert (empty_home / "config.toml").read_text().strip() == before.strip()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("busy_wait_s", "long"),
        ("page_cache_kib", "1"),
        ("users_in_memory", "2.5"),
        ("passphrase", "x"),
        ("nothing", "1"),
    ],
)
def test_what_cannot_be_set_leaves_the_file_as_it_was(empty_home: Path, name: str, value: str) -> None:
    before = (empty_home / "config.toml").read_bytes()
    assert run_json("config", "set", name, value, exit_code=2)["error"] == "InvalidInput"
    assert (empty_home / "config.toml").read_bytes() == before


def test_the_environment_goes_before_the_file(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AICO_EMBEDDER", raising=False)
    run("config", "set", "embedder", "none")
    assert run_json("config", "get", "embedder")["source"] == "file"
    monkeypatch.setenv("AICO_EMBEDDER", "auto")
    found = run_json("config", "get", "embedder")
    assert (found["value"], found["source"]) == ("auto", "environment")


def test_the_file_is_found_and_checked(empty_home: Path) -> None:
    assert run_json("config", "path") == {"file": str(empty_home / "config.toml"), "exists": True}
    assert run_json("config", "validate")["ok"] is True
    (empty_home / "config.toml").unlink()
    assert run_json("config", "validate", exit_code=6)["error"] == "NotFound"


@pytest.mark.parametrize(
    ("text", "named"),
    [("busy_wait = 3\n", "busy_wait"), ('episode_gap_s = "long"\n', "episode_gap_s"), ("[kdf\n", "config.toml")],
)
def test_what_is_wrong_is_named_with_its_file(empty_home: Path, text: str, named: str) -> None:
    (empty_home / "config.toml").write_text(text)
    for command in ("validate", "list"):
        refused = run_json("config", command, exit_code=2)
        assert refused["error"] == "InvalidInput"
        assert "config.toml" in refused["message"] and named in refused["message"]


def test_an_unknown_setting_gets_the_nearest_name_and_a_secret_is_refused(empty_home: Path) -> None:
    assert "busy_wait_s" in run_json("config", "get", "busy_wait", exit_code=2)["hint"]
    refused = run_json("config", "get", "passphrase", exit_code=2)
    assert "no secrets" in refused["message"]


def test_a_file_that_cannot_be_read_is_not_changed_and_the_place_is_named(empty_home: Path) -> None:
    file = empty_home / "config.toml"
    file.write_text("busy_wait_s = 5\nbroken = [\n")
    error = run_json("config", "set", "busy_wait_s", "7", exit_code=2)
    assert "line 2" in error["message"] or "end of document" in error["message"]
    assert file.read_text() == "busy_wait_s = 5\nbroken = [\n"
