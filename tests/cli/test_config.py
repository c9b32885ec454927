"""Settings at the command line: every one is shown with its origin, and nothing secret gets into the file."""

from pathlib import Path

import pytest

from aico.configuration import SETTINGS
from aico.settings import ChromaSpec, _ConfigFile, _KdfTable, load_settings
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


@pytest.mark.parametrize("name", [known.name for known in SETTINGS])
def test_every_setting_can_be_set_to_what_it_is_shown_as(empty_home: Path, monkeypatch, name: str) -> None:
    monkeypatch.delenv("AICO_EMBEDDER", raising=False)
    before = run_json("config", "get", name)["value"]
    shown = run("config", "get", name).stdout.strip()
    assert run_json("config", "set", name, shown)["value"] == before
    found = run_json("config", "get", name)
    assert (found["value"], found["source"]) == (before, "default" if name == "chroma" else "file")


@pytest.mark.parametrize(("typed", "read"), [("false", False), ("No", False), ("true", True), ("yes", True)])
@pytest.mark.parametrize("name", ["log_recalls", "anchor_in_keyring"])
def test_what_is_yes_or_no_is_set_in_either_word(empty_home: Path, name: str, typed: str, read: bool) -> None:
    assert run_json("config", "set", name, typed)["value"] is read
    assert getattr(load_settings(empty_home), name) is read
    assert run("config", "get", name).stdout == f"{str(read).lower()}\n"
    assert "true or false" in run_json("config", "set", name, "0", exit_code=2)["message"]


def test_chroma_is_chosen_by_its_kind_and_taken_back(empty_home: Path) -> None:
    assert run_json("config", "set", "chroma", "memory")["value"] == "memory"
    assert load_settings(empty_home).chroma == ChromaSpec(kind="memory")
    assert "url" in run_json("config", "set", "chroma", "server", exit_code=2)["message"]
    run_json("config", "set", "chroma", "none")
    assert load_settings(empty_home).chroma is None


def test_a_setting_of_a_vault_that_is_yet_to_be_made_makes_its_folder(tmp_path: Path) -> None:
    fresh = tmp_path / "not" / "yet"
    assert run_json("--home", str(fresh), "config", "set", "busy_wait_s", "long", exit_code=2)
    assert not fresh.parent.exists()
    assert f"waits in {fresh}" in run("--home", str(fresh), "config", "set", "busy_wait_s", "5").stdout
    assert load_settings(fresh).busy_wait_s == 5
    assert fresh.stat().st_mode & 0o077 == 0


def test_programs_are_told_what_shuts_the_vault_until_somebody_says_yes(home: Path) -> None:
    run_json("config", "set", "kdf.memory_kib", "262144")
    run_json("config", "set", "kdf.passes", "3")
    assert run_json("config", "set", "busy_wait_s", "5")["needs_approval"] == []
    for arguments in (("config", "set", "anchor_in_keyring", "no"), ("config", "unset", "busy_wait_s")):
        [sentence] = run_json(*arguments)["needs_approval"]
        assert "older copy" in sentence
    assert "`aico config approve`" in run("config", "unset", "busy_wait_s").stdout
    assert run_json("status", exit_code=10)["error"] == "AccessDenied"
    run_json("config", "approve", "--yes")
    run_json("status")


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
