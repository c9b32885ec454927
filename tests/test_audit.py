"""The leak audit finds what is there, and says when its own search is broken."""

import base64

import pytest

from aico.audit import search_for_leaks
from aico.errors import InvalidInput
from aico.testing import temporary_vault

PHRASE = "the parrot knows the combination"


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("utf-8", PHRASE.encode()),
        ("utf-16-le", PHRASE.encode("utf-16-le")),
        ("utf-16-be", PHRASE.encode("utf-16-be")),
        ("hex", PHRASE.encode().hex().encode()),
        ("hex upper", PHRASE.encode().hex().upper().encode()),
        ("base64 at 0", base64.b64encode(PHRASE.encode() + b"!?")),
        ("base64 at 1", base64.b64encode(b"x" + PHRASE.encode() + b"tail")),
        ("base64 at 2", base64.b64encode(b"xy" + PHRASE.encode() + b"tail!")),
    ],
)
def test_a_phrase_is_found_in_every_encoding_and_at_the_right_place(tmp_path, name, written):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(b"." * 1000 + written + b"." * 1000)
    report = search_for_leaks([tmp_path], ["nothing like this", PHRASE])
    assert [(leak.encoding, leak.needle) for leak in report.leaks] == [(name, 1)]
    assert 1000 <= report.leaks[0].offset <= 1004
    assert (report.files, report.searched_bytes) == (1, 2000 + len(written))


def test_a_phrase_across_the_border_of_two_chunks_is_found(tmp_path, monkeypatch):
    from aico import audit

    (tmp_path / "large").write_bytes(bytes(audit.CHUNK_BYTES - 7) + PHRASE.encode() + bytes(100))
    report = search_for_leaks([tmp_path], [PHRASE])
    assert [leak.offset for leak in report.leaks] == [audit.CHUNK_BYTES - 7]


def test_an_open_vault_holds_nothing_readable_and_the_search_proves_itself():
    with temporary_vault() as vault:
        for number in range(200):
            vault.memory.record(
                "nell",
                f"{PHRASE}, number {number}",
                conversation="a conversation with a long name",
                speaker="Nell Hagedorn",
            )
        report = vault.audit([PHRASE, "a conversation with a long name"])
        assert report.leaks == ()
        assert report.control_hits == 8
        assert report.searched_bytes > 50_000
        assert report.needles > 20
        (vault.folder / "data" / "notes.txt").write_text(f"do not forget: {PHRASE}")
        assert {leak.needle for leak in vault.audit([PHRASE]).leaks} >= {0}


@pytest.mark.parametrize("phrases", [[], ["short"]])
def test_phrases_that_prove_nothing_are_refused(tmp_path, phrases):
    with pytest.raises(InvalidInput):
        search_for_leaks([tmp_path], phrases)
