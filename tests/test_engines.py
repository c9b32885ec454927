"""A whole vault on the engine libsql: everything works there or is refused, and the vault itself says which engine it has."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

import aico
from aico.errors import AicoError, InvalidInput, MissingExtra, Tampered
from aico.settings import parse_settings
from aico.testing import PASSPHRASE, cheap_settings
from tests.children import started

pytest.importorskip("libsql", reason="the engine libsql needs the extra aico[libsql]")

SECRET = "the tuning fork lies behind the piano in Lisbon"


def opened(folder: Path | str, *, engine: str = "libsql", **given) -> aico.Vault:
    settings = replace(cheap_settings(), engine=engine)
    return aico.open(folder, passphrase=PASSPHRASE, settings=settings, **given)


@pytest.fixture
def folder(tmp_path) -> Path:
    with opened(tmp_path / "vault") as vault:
        vault.memory.record("mia", SECRET, conversation="c1")
        vault.memory.record("otto", "Otto only likes tea.", conversation="c1")
    return tmp_path / "vault"


def test_the_vault_says_its_engine_itself(folder, tmp_path):
    for asked in ("sqlite", "libsql"):  # what the settings want counts for new vaults alone
        with opened(folder, engine=asked) as vault:
            assert (vault.connection.engine_name, vault.format) == ("libsql", 2)
            assert vault.memory.recall("mia", "tuning fork")[0].text == SECRET
    with opened(tmp_path / "other", engine="sqlite") as vault:
        assert (vault.connection.engine_name, vault.format) == ("sqlite", 1)
    assert '"engine"' not in (tmp_path / "other" / "vault.json").read_text()


def test_a_vault_json_that_names_another_engine_is_refused_and_nothing_is_changed(folder, tmp_path):
    """The attack: make us open the file with what notices nothing, or has another cipher."""
    with opened(tmp_path / "sealed", engine="sqlite") as vault:
        vault.memory.record("mia", SECRET, conversation="c1")
    for place, changes in (
        (folder, {"engine": "sqlite"}),
        (folder, {"format": 1}),
        (folder, {"format": 1, "engine": "sqlite"}),
        (tmp_path / "sealed", {"engine": "libsql"}),
        (tmp_path / "sealed", {"engine": "libsql", "format": 2}),
    ):
        file = place / "vault.json"
        before = file.read_bytes(), (place / "data" / "aico.db").read_bytes()
        file.write_bytes(msgspec.json.encode({**msgspec.json.decode(before[0]), **changes}))
        with pytest.raises(AicoError):
            opened(place)
        file.write_bytes(before[0])
        assert (place / "data" / "aico.db").read_bytes() == before[1]
        opened(place).close()


def test_without_the_wheel_the_vault_names_it_and_stays(folder, monkeypatch):
    before = (folder / "data" / "aico.db").read_bytes()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "libsql", None)
        with pytest.raises(MissingExtra, match="libsql"):
            opened(folder)
    assert (folder / "data" / "aico.db").read_bytes() == before
    opened(folder).close()


def test_a_new_vault_without_the_wheel_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "libsql", None)
    with pytest.raises(MissingExtra):
        opened(tmp_path / "vault")
    assert list(tmp_path.iterdir()) == []


def test_what_is_forgotten_is_gone_and_nothing_is_readable(folder):
    with opened(folder) as vault:
        assert vault.audit([SECRET]).leaks == ()
        vault.memory.forget("mia", id=vault.memory.recall("mia", "tuning fork")[0].id)
        assert all("tuning fork" not in found.text for found in vault.memory.recall("mia", "tuning fork"))
        assert vault.audit([SECRET]).leaks == ()
        assert all(found.ok is not False for found in vault.doctor())


def test_backups_build_on_each_other_and_restore_onto_the_same_engine(folder, tmp_path):
    with opened(folder) as vault:
        vault.backups.create(tmp_path / "backups")
        vault.memory.record("mia", "A second memory, of the harbour.", conversation="c1")
        newest = vault.backups.create(tmp_path / "backups")
        vault.backups.verify(newest.path)
        identity = vault.connection.database_id
    assert newest.stored_pages < newest.pages
    aico.restore(newest.path, tmp_path / "back", passphrase=PASSPHRASE)
    with opened(tmp_path / "back") as vault:
        assert vault.connection.engine_name == "libsql"
        assert vault.connection.database_id != identity
        assert {found.text for found in vault.memory.recent("mia", "c1")} == {
            SECRET,
            "A second memory, of the harbour.",
        }
        assert all(found.ok is not False for found in vault.doctor())
    left = sorted(path.name for path in (tmp_path / "back" / "data").iterdir() if path.name.startswith("aico.db"))
    assert left == ["aico.db", "aico.db-door", "aico.db-turn"]
    assert not [path for path in (tmp_path / "backups").iterdir() if ".new-" in path.name]


def test_memories_move_from_one_engine_to_the_other_by_an_export(folder, tmp_path):
    with opened(folder) as vault:
        vault.memory.remember("mia", "Mia lives in Lisbon")
        vault.export(tmp_path / "mia.jsonl", "mia")
    for engine in ("sqlite", "libsql"):
        with opened(tmp_path / engine, engine=engine) as other:
            other.import_(tmp_path / "mia.jsonl")
            assert other.memory.recall("mia", "tuning fork")[0].text == SECRET


def test_keys_are_not_rotated_and_the_vault_is_as_it_was(folder):
    before = (folder / "vault.json").read_bytes()
    with opened(folder) as vault:
        with pytest.raises(InvalidInput, match="libSQL"):
            vault.keys.rotate(PASSPHRASE)
        assert not vault.keys.rotation_unfinished()
        assert (folder / "vault.json").read_bytes() == before
        vault.keys.add_passphrase("a second way in")
    with aico.open(folder, passphrase="a second way in", settings=cheap_settings()) as vault:
        assert vault.memory.recall("mia", "tuning fork")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT text FROM main.messages",
        "SELECT * FROM users",
        "SELECT readfile('/etc/hostname')",
        "SELECT * FROM sqlite_schema",
        "WITH x AS (SELECT text FROM main.messages) SELECT * FROM x",
        "DELETE FROM messages",
        "ATTACH 'x.db' AS x",
    ],
)
def test_sql_of_others_sees_its_person_and_no_file(folder, sql):
    with opened(folder) as vault:
        assert [tuple(row) for row in vault.query("mia", sql="SELECT text FROM messages").rows] == [(SECRET,)]
        with pytest.raises(InvalidInput):
            vault.query("mia", sql=sql)
        assert vault.memory.recall("mia", "tuning fork")


def test_sql_that_takes_too_long_is_stopped(folder):
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    with opened(folder) as vault, pytest.raises(AicoError, match="longer than"):
        vault.query("mia", sql=endless, seconds_max=0.2)


def record(folder: str, name: str, number: int) -> None:
    with opened(folder) as vault:
        for step in range(number):
            vault.memory.record("mia", f"{name} says {step}", conversation=name)
            vault.memory.recall("mia", "says")


def test_processes_record_at_once_and_lose_nothing(folder):
    with started(record, str(folder), "a", 15) as a, started(record, str(folder), "b", 15) as b:
        record(str(folder), "c", 15)
        done = [child.end() for child in (a, b)]
    assert [one.error for one in done] == [None, None], done
    with opened(folder) as vault:
        for name in ("a", "b", "c"):
            assert [m.text for m in vault.memory.recent("mia", name)] == [f"{name} says {n}" for n in range(15)]


def test_a_text_with_a_nul_is_refused_and_not_cut(folder):
    with opened(folder) as vault:
        with pytest.raises(InvalidInput, match="NUL"):
            vault.memory.record("mia", "before\0after", conversation="c1")
        assert len(vault.memory.recent("mia", "c1")) == 1


def test_a_database_of_the_other_engine_in_its_place_is_refused(folder, tmp_path):
    with opened(tmp_path / "sealed", engine="sqlite") as vault:
        vault.memory.record("mia", SECRET, conversation="c1")
    shutil.copy(tmp_path / "sealed" / "data" / "aico.db", folder / "data" / "aico.db")
    with pytest.raises(Tampered):
        opened(folder)


def test_the_settings_file_names_the_engine_of_new_vaults():
    assert parse_settings('engine = "libsql"').engine == "libsql"
    with pytest.raises(InvalidInput):
        parse_settings('engine = "oracle"')
    with pytest.raises(InvalidInput):
        replace(cheap_settings(), engine="oracle")
