"""Bringing an upstream AICO installation over, written by the engines that upstream uses."""

import hashlib
from pathlib import Path

import pytest

import aico
from aico.errors import InvalidInput, KeyslotMissing, NotFound, StorageError, WrongPassphrase
from aico.portability.report import BadRecord
from aico.security.keys import Passphrase
from aico.security.upstream_keys import upstream_database_key
from aico.settings import KdfCost
from aico.testing import PASSPHRASE, cheap_settings
from tests.children import started

pytest.importorskip("libsql", reason="the old database needs the extra libsql")
pytest.importorskip("chromadb", reason="the old vector store is written by the extra chroma")

from tests.portability.upstream_layout import CHAT, MASTER_KEY, MIA, NOTE, turn, write_installation

KEY = MASTER_KEY.hex()


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    return write_installation(tmp_path_factory.mktemp("old"))


@pytest.fixture
def vault(tmp_path):
    with open_vault(tmp_path / "vault") as opened:
        yield opened


def open_vault(folder):
    return aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings())


def brought(vault, folder, secret=KEY, **how):
    return vault.import_(folder, kind="aico-upstream", old_secret=secret, **how)


def files_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_what_was_said_comes_over_once_however_many_stores_have_it(vault, old):
    report = brought(vault, old)
    assert (report.format, report.by_kind["message"], report.conversations) == ("aico-upstream", 6, 3)
    assert [moment.text for moment in vault.album.messages("mia", conversation=CHAT)] == [turn(n) for n in (3, 2, 1, 0)]
    said = vault.album.messages("mia", conversation=CHAT)[-1]
    assert (said.role, said.at.isoformat()) == ("user", "2025-11-20T09:00:00+00:00")
    assert [hit.text for hit in vault.memory.recall("mia", "an old turn, long expired", limit=1)] == [
        "an old turn, long expired"
    ]
    assert [moment.text for moment in vault.album.messages("Tom Silva")] == ["Tom was here"]


def test_people_keep_their_names_and_what_they_are_to_each_other(vault, old):
    brought(vault, old)
    mia, tom = (vault.users.find_by_name(name) for name in ("mia", "Tom Silva"))
    assert (mia.full_name, mia.nickname, tom.full_name) == ("Mia Silva", "mia", "Tom Silva")
    assert [one.relationship_type for one in vault.users.get_user_relationships(mia.id)] == ["brother"]
    assert len(vault.users.list_profiles()) == 2


def test_what_a_person_kept_is_believed_and_what_a_model_found_waits(vault, old):
    brought(vault, old)
    (kept,) = vault.facts.list("mia")
    assert (kept.text, kept.type, kept.category, kept.trust) == ("Mia lives in Lisbon", "identity", "personal", "user")
    assert (kept.marks.note, kept.marks.favourite, kept.marks.tags, kept.marks.visits) == (
        NOTE,
        True,
        ("city", "home"),
        3,
    )
    assert [moment.text for moment in vault.album.list_of("mia", kept.sources)] == [turn(0)]
    (found,) = vault.facts.proposed("mia")
    assert (found.text, found.model, found.confidence) == ("Mia likes tea", "aico-upstream llm_analysis", 0.8)


def test_feedback_comes_over_and_the_sensitive_stays_sensitive(vault, old):
    brought(vault, old)
    events = {event.category: event for event in vault.feedback.list("mia")}
    assert events["remember"].payload == {"fact": "fact_a"}
    assert events["remember"].at.isoformat() == "2025-11-20T09:00:00+00:00"
    assert {event.category for event in vault.feedback.list("mia", sensitive=False)} == {"remember"}
    assert set(events) == {"remember", "health_check"}
    assert events["health_check"].payload == {}


def test_what_has_no_place_here_is_counted_by_name(vault, old):
    left_out = brought(vault, old).left_out
    assert left_out["PINs: set new ones"] == left_out["log entries"] == left_out["entities of the knowledge graph"] == 1
    assert left_out["further copies of messages in its vector store"] == 5
    assert left_out["people who were removed there"] == 1
    assert left_out["entries of people who are not in its database, or were removed there"] == 2
    assert left_out["links from facts to messages that upstream no longer had"] == 1


def test_importing_again_adds_nothing_and_what_was_forgotten_stays_so(vault, old):
    first = brought(vault, old)
    again = brought(vault, old)
    assert (again.added, again.forgotten) == (0, 0)
    assert again.repeated == first.added + first.repeated
    vault.memory.forget("mia", about="heron")
    third = brought(vault, old)
    assert third.added == 0
    assert third.forgotten >= 5
    assert not vault.album.messages("mia", conversation=CHAT)
    returned = brought(vault, old, return_forgotten=True)
    assert returned.by_kind["message"] == 4


def test_the_old_installation_stays_as_it_is_to_the_byte(vault, old):
    before = files_of(old)
    brought(vault, old)
    assert files_of(old) == before


def test_another_key_opens_nothing_and_imports_nothing(vault, old):
    with pytest.raises(WrongPassphrase):
        brought(vault, old, secret="ab" * 32)
    assert not vault.users.list_profiles()


def test_a_password_without_its_salt_in_the_keyring_is_refused(vault, old):
    with pytest.raises(KeyslotMissing, match="salt"):
        brought(vault, old, secret="Correct-Horse-42")


def test_the_password_opens_with_the_salt_that_the_keyring_holds(monkeypatch):
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    salt, cost = b"s" * 16, KdfCost(memory_kib=64, passes=1, lanes=1)
    monkeypatch.setattr("aico.security.upstream_keys.find_note", lambda entry, service: salt.hex())
    master = Argon2id(salt=salt, length=32, iterations=1, lanes=1, memory_cost=64).derive(b"Correct-Horse-42")
    keys = [
        upstream_database_key(Passphrase(secret), database_salt=b"d" * 16, cost=cost)
        for secret in ("Correct-Horse-42", master.hex())
    ]
    assert keys[0] == keys[1] == hashlib.pbkdf2_hmac("sha256", master + b"aico-db-libsql", b"d" * 16, 100_000)


def test_one_named_user_for_two_people_is_refused(vault, old):
    with pytest.raises(InvalidInput, match="2 people"):
        brought(vault, old, user="mia")


def test_what_is_no_installation_is_refused(vault, tmp_path, old):
    with pytest.raises(NotFound):
        brought(vault, tmp_path / "nowhere")
    with pytest.raises(InvalidInput, match=r"aico\.db"):
        brought(vault, tmp_path)
    (tmp_path / "aico.db").write_bytes((old / "data" / "aico.db").read_bytes())
    with pytest.raises(InvalidInput, match="salt"):
        brought(vault, tmp_path)


def test_a_database_alone_is_an_installation_too(vault, tmp_path, old):
    for name in ("aico.db", "aico.db.salt"):
        (tmp_path / name).write_bytes((old / "data" / name).read_bytes())
    report = brought(vault, tmp_path)
    assert (report.by_kind["message"], report.by_kind["fact"]) == (0, 2)


def test_damaged_stores_end_in_our_errors(tmp_path, vault):
    folder = write_installation(tmp_path / "old")
    for name in ("semantic/chroma.sqlite3", "working/data.mdb"):
        path = folder / "data" / "memory" / name
        whole = path.read_bytes()
        path.write_bytes(b"\xff" * len(whole))
        with pytest.raises(StorageError):
            brought(vault, folder)
        path.write_bytes(whole)


def test_an_entry_that_cannot_be_read_stops_or_is_reported(tmp_path, vault):
    import lmdb

    folder = write_installation(tmp_path / "old")
    with lmdb.open(str(folder / "data" / "memory" / "working"), max_dbs=3) as opened:
        with opened.begin(write=True, db=opened.open_db(b"session_memory")) as transaction:
            transaction.put(b"zzz", b"not json")
    with pytest.raises(BadRecord, match="message of its working memory 5"):
        brought(vault, folder)
    report = brought(vault, folder, skip_bad=True)
    assert len(report.bad) == 1
    assert report.by_kind["fact"] == 2


def imported(folder, old):
    with open_vault(folder) as vault:
        brought(vault, old, on_progress=lambda done, total: print(done, flush=True))


def test_an_import_killed_midway_goes_on_and_is_whole(tmp_path):
    old = write_installation(tmp_path / "old", turns=5000)
    with started(imported, tmp_path / "vault", old) as child:
        while int(child.line()) < 2000:
            pass
        child.kill()
    with open_vault(tmp_path / "vault") as vault:
        report = brought(vault, old)
        assert report.repeated >= 2000
        count = vault.connection.fetch_one("SELECT count(*), count(DISTINCT source_id) FROM messages")
        assert tuple(count) == (5002, 5002)
        assert MIA not in {profile.name for profile in vault.users.list_profiles()}
        assert [fact.text for fact in vault.facts.list("mia")] == ["Mia lives in Lisbon"]
        vault.connection.verify()
