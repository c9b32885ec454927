"""Arriving with years of chats: little memory, killed at any moment, nothing readable left behind."""

import resource
import sys
from pathlib import Path

import pytest

import aico
from aico.testing import PASSPHRASE, cheap_settings
from tests.children import run, started
from tests.portability.synthetic import write_chatgpt_zip

CANARY = "the heron at canal nineteen"


def open_vault(folder):
    return aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings())


def imported(folder, export):
    """What an import added, and the most memory its process had, in KiB. Says when some of it is acknowledged."""
    with open_vault(folder) as vault:
        report = vault.import_(export, "mia", on_progress=lambda done, total: print(done, total, flush=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return report.added, report.repeated, peak // (1024 if sys.platform == "darwin" else 1)


def texts(vault):
    return vault.connection.fetch_all("SELECT source_id FROM messages")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_an_import_killed_at_any_moment_goes_on_and_is_whole(tmp_path, share):
    export = tmp_path / "export.zip"
    write_chatgpt_zip(export, 12_000)
    with started(imported, tmp_path / "vault", export) as child:
        while (line := child.line().split()) and int(line[0]) < share * int(line[1]):
            pass
        child.kill()
    with open_vault(tmp_path / "vault") as vault:
        kept = len(texts(vault))
        report = vault.import_(export, "mia")
        assert (report.repeated, report.added) == (kept, 12_000 - kept)
        assert len({row["source_id"] for row in texts(vault)}) == 12_000
        untitled = "SELECT count(*) FROM conversations WHERE title IS NULL"
        assert vault.connection.fetch_one(untitled)[0] == 0
        vault.connection.verify()


def test_a_restore_killed_midway_goes_on_to_the_same_bytes(tmp_path):
    write_chatgpt_zip(tmp_path / "export.zip", 8_000)
    with open_vault(tmp_path / "first") as vault:
        vault.import_(tmp_path / "export.zip", "mia")
        vault.export(tmp_path / "mia.jsonl", "mia")
    with started(imported, tmp_path / "second", tmp_path / "mia.jsonl") as child:
        while not child.line().startswith(("2", "3", "4")):
            pass
        child.kill()
    with open_vault(tmp_path / "second") as vault:
        vault.import_(tmp_path / "mia.jsonl")
        vault.export(tmp_path / "again.jsonl", "mia")
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "mia.jsonl").read_bytes()


def test_nothing_that_an_import_writes_can_be_read(tmp_path, monkeypatch):
    temporary, caches = tmp_path / "tmp", tmp_path / "caches"
    temporary.mkdir(), caches.mkdir()
    write_chatgpt_zip(tmp_path / "export.zip", 2_000, canary=CANARY)
    elsewhere = {"TMPDIR": str(temporary), "XDG_CACHE_HOME": str(caches), "HOME": str(caches)}
    assert run(imported, tmp_path / "vault", tmp_path / "export.zip", **elsewhere).value[0] == 2_000
    with open_vault(tmp_path / "vault") as vault:
        assert vault.memory.recall("mia", CANARY)
        from aico.audit import search_for_leaks

        report = search_for_leaks([vault.folder, temporary, caches], [CANARY])
    assert report.control_hits > 0
    assert report.leaks == ()


def peak_kib(tmp_path, messages):
    export: Path = tmp_path / f"{messages}.zip"
    size = write_chatgpt_zip(export, messages)
    added, _, peak = run(imported, tmp_path / f"vault-{messages}", export, patience_s=900).value
    assert added == messages
    return size, peak


def test_ten_times_the_export_takes_no_more_memory(tmp_path):
    _, little = peak_kib(tmp_path, 2_000)
    size, much = peak_kib(tmp_path, 20_000)
    assert much - little < 40_000
    assert size > 20_000_000


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_half_a_gigabyte_of_chats_fits_in_300_megabytes(tmp_path):
    size, peak = peak_kib(tmp_path, 480_000)
    assert size > 480_000_000
    assert peak < 300_000
