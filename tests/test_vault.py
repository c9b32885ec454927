"""Opening a vault: what works, what is refused, and that a refusal changes nothing."""

import re
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import aico
from aico.errors import FormatTooNew, InvalidInput, KeyslotMissing, NotFound, Tampered, WrongPassphrase
from aico.testing import FixedClock, cheap_settings, temporary_vault
from tests.engines import ENGINES, made_on


@pytest.fixture(params=ENGINES, autouse=True)
def engine(request, monkeypatch):
    """The engine that whatever a test makes is made on."""
    return made_on(request.param, monkeypatch)


def open_here(folder: Path, **given) -> aico.Vault:
    return aico.open(folder, settings=cheap_settings(), **{"passphrase": "open sesame", **given})


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def closed_vault(tmp_path) -> Path:
    folder = tmp_path / "vault"
    with open_here(folder) as vault:
        vault.memory.record("nell", "The tuning fork lay behind the piano.", conversation="c")
    return folder


def test_what_was_recorded_is_there_after_reopening(closed_vault):
    with open_here(closed_vault) as vault:
        assert vault.memory.recall("nell", "tuning fork")[0].text == "The tuning fork lay behind the piano."


def test_an_empty_folder_becomes_a_vault_and_keeps_its_settings_file(tmp_path):
    (tmp_path / "config.toml").write_text("episode_gap_s = 60\n[kdf]\nmemory_kib = 64\npasses = 1\nlanes = 1\n")
    with aico.open(tmp_path, passphrase="p") as vault:
        assert vault.settings.episode_gap_s == 60
    assert (tmp_path / "config.toml").exists()


def test_an_existing_folder_becomes_private_and_its_parent_is_not_written_to(tmp_path):
    """A volume mounted into a container is such a folder: nothing can be renamed onto it."""
    folder = tmp_path / "volume"
    folder.mkdir(mode=0o755)
    before = tmp_path.stat().st_mtime_ns
    open_here(folder).close()
    assert sorted(path.name for path in folder.iterdir()) == ["data", "vault.json"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert tmp_path.stat().st_mtime_ns == before


def test_a_vault_whose_making_was_cut_off_before_its_last_step_is_finished(closed_vault):
    aside = closed_vault / ".new-0123456789abcdef"
    aside.mkdir()
    (closed_vault / "vault.json").rename(aside / "vault.json")
    with open_here(closed_vault) as vault:
        assert vault.memory.recall("nell", "tuning fork")
    assert not aside.exists()


def test_leftovers_of_a_making_that_was_cut_off_early_do_no_harm(tmp_path):
    (tmp_path / ".new-0123456789abcdef" / "data").mkdir(parents=True)
    open_here(tmp_path).close()
    assert (tmp_path / "vault.json").exists()


def test_a_settings_file_with_an_unknown_key_is_refused_by_name(tmp_path):
    (tmp_path / "config.toml").write_text("episode_gap = 60\n")
    with pytest.raises(InvalidInput, match="episode_gap"):
        aico.open(tmp_path, passphrase="p")


def test_a_wrong_passphrase_leaves_the_vault_untouched(closed_vault):
    before = everything_in(closed_vault)
    with pytest.raises(WrongPassphrase, match="nothing was changed"):
        open_here(closed_vault, passphrase="open says me")
    assert everything_in(closed_vault) == before


def test_a_missing_vault_is_not_made_when_not_asked_for(tmp_path):
    with pytest.raises(NotFound, match="no vault"):
        open_here(tmp_path / "nowhere", create=False)
    assert not (tmp_path / "nowhere").exists()


def test_a_new_vault_without_a_passphrase_is_refused_and_nothing_is_made(tmp_path):
    with pytest.raises(KeyslotMissing):
        aico.open(tmp_path / "vault", settings=cheap_settings())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_things_in_it_does_not_become_a_vault(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"sand")
    with pytest.raises(InvalidInput, match="not a vault"):
        open_here(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_data_without_its_vault_file_is_not_overwritten(closed_vault):
    (closed_vault / "vault.json").unlink()
    before = everything_in(closed_vault)
    with pytest.raises(KeyslotMissing, match=r"vault\.json"):
        open_here(closed_vault)
    assert everything_in(closed_vault) == before


def test_a_vault_without_its_database_is_reported_and_not_begun_anew(closed_vault):
    (closed_vault / "data" / "aico.db").unlink()
    with pytest.raises(NotFound, match=r"aico\.db"):
        open_here(closed_vault)
    assert not (closed_vault / "data" / "aico.db").exists()


def test_a_newer_format_is_refused_untouched(closed_vault):
    file = closed_vault / "vault.json"
    file.write_text(re.sub('"format": [12]', '"format": 7', file.read_text()))
    before = everything_in(closed_vault)
    with pytest.raises(FormatTooNew):
        open_here(closed_vault)
    assert everything_in(closed_vault) == before


def test_a_damaged_vault_file_is_told_from_a_wrong_passphrase(closed_vault):
    (closed_vault / "vault.json").write_text("{ not json")
    with pytest.raises(Tampered, match="damaged"):
        open_here(closed_vault)


def test_the_passphrase_file_unlocks_and_a_line_break_at_its_end_does_not_count(closed_vault, tmp_path, monkeypatch):
    (tmp_path / "passphrase").write_text("open sesame\n")
    monkeypatch.setenv("AICO_PASSPHRASE_FILE", str(tmp_path / "passphrase"))
    with aico.open(closed_vault, settings=cheap_settings()) as vault:
        assert vault.memory.recall("nell", "piano")


def test_a_recovery_phrase_opens_the_vault_and_a_second_one_replaces_it(closed_vault):
    with open_here(closed_vault) as vault:
        first = vault.keys.add_recovery_phrase()
        second = vault.keys.add_recovery_phrase()
        assert vault.keys.slots() == ["passphrase", "recovery"]
    with open_here(closed_vault, passphrase=f"  {second.upper()} ") as vault:
        assert vault.memory.recall("nell", "piano")
    with pytest.raises(WrongPassphrase):
        open_here(closed_vault, passphrase=first)


def test_many_processes_may_make_the_same_vault_at_once(tmp_path):
    program = (
        "import sys, aico\nfrom aico.testing import cheap_settings\n"
        "with aico.open(sys.argv[1], passphrase='p', settings=cheap_settings()) as vault:\n"
        "    print(vault.memory.record('nell', 'I was here, number ' + sys.argv[2], conversation='c'))\n"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "vault"), str(number)], stdout=subprocess.PIPE, text=True
        )
        for number in range(4)
    ]
    ids = {process.communicate()[0].strip() for process in running}
    assert all(process.returncode == 0 for process in running)
    with open_here(tmp_path / "vault", passphrase="p") as vault:
        assert {moment.id for moment in vault.memory.recent("nell", "c")} == ids
    assert [path.name for path in tmp_path.iterdir()] == ["vault"]


def test_a_vault_can_be_closed_twice_and_says_so_when_used_afterwards(tmp_path):
    vault = open_here(tmp_path / "vault")
    vault.close()
    vault.close()
    with pytest.raises(aico.errors.StorageError, match="closed"):
        vault.memory.record("nell", "too late", conversation="c")


def test_a_forked_child_is_told_to_open_its_own(tmp_path):
    program = (
        "import os, sys, aico\nfrom aico.testing import cheap_settings\n"
        "vault = aico.open(sys.argv[1], passphrase='p', settings=cheap_settings())\n"
        "if os.fork() == 0:\n"
        "    try: vault.memory.record('nell', 'x y', conversation='c')\n"
        "    except aico.errors.StorageError as exc: print(exc)\n"
        "    vault.close(); os._exit(0)\n"
        "os.wait(); vault.memory.record('nell', 'the parent goes on', conversation='c'); vault.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "vault")], capture_output=True, text=True, check=True
    )
    assert "forked" in done.stdout


def test_one_vault_serves_many_threads(tmp_path):
    with open_here(tmp_path / "vault") as vault:
        ids: list[str] = []

        def companion(number: int) -> None:
            for turn in range(20):
                ids.append(vault.memory.record("nell", f"thread {number} said thing {turn}", conversation=f"c{number}"))
                assert vault.memory.recall("nell", f"thing {turn}")

        threads = [threading.Thread(target=companion, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        kept = {moment.id for number in range(8) for moment in vault.memory.recent("nell", f"c{number}", limit=50)}
        assert kept == set(ids)
        assert len(kept) == 160


def test_ids_rise_while_the_clock_steps_back():
    clock = FixedClock()
    with temporary_vault(clock=clock) as vault:
        first = vault.memory.record("nell", "before midnight", conversation="c")
        clock.move(timedelta(hours=-2))
        second = vault.memory.record("nell", "the clocks went back", conversation="c")
        assert first < second


def test_reprs_show_no_content(tmp_path):
    with open_here(tmp_path / "vault") as vault:
        at = datetime(2026, 5, 8, tzinfo=UTC)
        message = aico.Message("a secret thing", conversation="hidden", speaker="Nell", at=at)
        vault.memory.record_many("nell", [message])
        shown = [
            repr(message),
            repr(vault.memory.recall("nell", "secret")),
            repr(vault.memory.recent("nell", "hidden")),
            repr(vault),
        ]
        shown.append(repr(vault.memory.forget("nell", about="secret", preview=True)))
        shown.append(repr(vault.memory.context("nell", "secret", conversation="hidden")))
        assert not any(word in text for text in shown for word in ("a secret thing", "hidden", "Nell"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"busy_wait_s": -1},
        {"busy_wait_s": float("nan")},
        {"users_in_memory": 0},
        {"episode_gap_s": -5},
        {"page_cache_kib": 0},
    ],
)
def test_a_setting_out_of_bounds_is_refused_by_name(wrong):
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        aico.Settings(**wrong)


@pytest.mark.parametrize("path", ["", "a\0b", "~nobody-of-this-name/vault"])
def test_a_path_that_means_nothing_is_refused(path):
    with pytest.raises(InvalidInput):
        aico.open(path, passphrase="p")


@pytest.mark.parametrize(
    "pragma",
    [
        "synchronous=off",
        "secure_delete=off",
        "journal_mode=delete",
        "mmap_size=1000000",
        "writable_schema=on",
    ],
)
def test_settings_that_our_promises_rest_on_cannot_be_changed(tmp_path, pragma):
    with open_here(tmp_path / "vault") as vault, pytest.raises(InvalidInput):
        vault.connection.execute(f"PRAGMA {pragma}")
