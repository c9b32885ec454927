"""The vectors in Chroma, each way it can be run: the same answers as our own index, and no word for whoever runs it."""

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

import aico
from aico.ai.memory.index import Filter
from aico.errors import ForgottenInPart, InvalidInput, NotFound, StorageError
from aico.settings import ChromaSpec, parse_settings
from aico.testing import PASSPHRASE, FixedClock, HashEmbedder, cheap_settings

pytest.importorskip("chromadb", reason="the view in Chroma needs the extra aico[chroma]")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

NOON = datetime(2026, 5, 8, 12, 0, tzinfo=UTC)
KINDS = ("memory", "server", "local")
CANARY = "the parrot knows the combination of the safe"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """`chroma run` on loopback: its address and its folder."""
    folder = tmp_path_factory.mktemp("chroma-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("chroma")
    command = [str(program), "run", "--path", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(port)
            yield f"http://127.0.0.1:{port}", folder
        finally:
            process.kill()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as trying:
            if trying.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the Chroma server did not start")


@pytest.fixture(params=KINDS)
def spec(request, tmp_path):
    if request.param == "server":
        address, _ = request.getfixturevalue("server")
        import chromadb

        name = f"d{os.urandom(4).hex()}"
        admin = chromadb.HttpClient(host="127.0.0.1", port=int(address.rpartition(":")[2]))._admin_client
        admin.create_database(name)
        return ChromaSpec(kind="server", url=address, database=name)
    return ChromaSpec(kind=request.param, allow_plaintext_index=request.param == "local")


@contextmanager
def opened(folder: Path, spec: ChromaSpec, *, dimension: int = 64, name: str | None = None):
    embedder = HashEmbedder(dimension=dimension)
    embedder.id = name or embedder.id
    settings = cheap_settings(clock=FixedClock(NOON), embedder=embedder)
    with aico.open(folder / "vault", passphrase=PASSPHRASE, settings=replace(settings, chroma=spec)) as vault:
        yield vault


def fill(vault: aico.Vault) -> None:
    for number, text in enumerate(("the tram is yellow", "bees keep warm in winter", "a heron stands in the pond")):
        at = NOON + timedelta(hours=number)
        vault.memory.record("mia", text, conversation=f"c{number % 2}", at=at)
        vault.memory.record("otto", f"{text}, says otto", conversation="c0", at=at)
    vault.memory.remember("mia", "mia keeps bees in winter")
    vault.views.wait()


def texts(vault, query, *, user="mia", **options):
    assert vault.segments is not None
    return [memory.text for memory, _ in vault.segments.search(vault.users.find(user), query, **options)]


def in_order_of_the_truth(vault, query, *, user="mia"):
    """What an exact scan over the vectors of the truth says."""
    embedder = vault.settings.embedder
    [asked] = embedder.embed([query])
    found = {}
    user_id = vault.users.find(user)
    for ids, vectors in vault.segments._vectors.of_user(user_id, embedder.id, embedder.dimension):
        for id_, vector in zip(ids, vectors, strict=True):
            found[id_] = max(found.get(id_, -1), float(vector @ asked))
    best = sorted(found, key=lambda id_: -found[id_])
    moments = vault.segments._conversations.moments(user_id, best)
    facts = vault.segments._facts.facts(user_id, best)
    return [(moments.get(id_) or facts[id_]).text for id_ in best]


def test_it_finds_what_an_exact_scan_of_the_truth_finds_and_nobody_elses(tmp_path, spec):
    with opened(tmp_path, spec) as vault:
        fill(vault)
        for query in ("bees in winter", "a yellow tram", "where is the heron"):
            assert texts(vault, query) == in_order_of_the_truth(vault, query)
            assert texts(vault, query, limit=1) == in_order_of_the_truth(vault, query)[:1]
        assert all("otto" in text for text in texts(vault, "tram", user="otto"))
        assert vault.segments.lag() == 0


def test_it_filters_as_recall_does(tmp_path, spec):
    with opened(tmp_path, spec) as vault:
        fill(vault)
        user = vault.users.find("mia")
        c1 = vault.segments._conversations.conversation_id(user, "c1")
        assert texts(vault, "tram", where=Filter(conversation=c1)) == ["bees keep warm in winter"]
        assert texts(vault, "tram", where=Filter(kinds=frozenset({"fact"}))) == ["mia keeps bees in winter"]
        messages = frozenset({"message"})
        late = Filter(kinds=messages, since_us=int((NOON + timedelta(hours=1, minutes=30)).timestamp() * 1e6))
        assert texts(vault, "tram", where=late, limit=1) == ["a heron stands in the pond"]
        with pytest.raises(InvalidInput):
            texts(vault, "tram", limit=0)


def test_what_changes_is_followed_and_what_is_forgotten_is_gone(tmp_path, spec):
    with opened(tmp_path, spec) as vault:
        fill(vault)
        assert "bees keep warm in winter" in texts(vault, "bees")
        [bee] = [moment for moment in vault.memory.recent("mia", "c1") if "bees" in moment.text]
        assert vault.segments.holds_any(vault.users.find("mia"), [bytes.fromhex(bee.id)])
        receipt = vault.memory.forget("mia", id=bee.id)
        assert receipt.verify()
        assert not vault.segments.holds_any(vault.users.find("mia"), [bytes.fromhex(bee.id)])
        assert "bees keep warm in winter" not in texts(vault, "bees")
        vault.memory.record("mia", "the hive is empty", conversation="c1", at=NOON)
        vault.views.wait()
        assert texts(vault, "the hive is empty", limit=1) == ["the hive is empty"]
        assert texts(vault, "heron", limit=9) == in_order_of_the_truth(vault, "heron")


def test_another_process_finds_it_there_and_a_rebuild_says_the_same(tmp_path, spec):
    with opened(tmp_path, spec) as vault:
        fill(vault)
        before = texts(vault, "bees")
        assert vault.segments._segments().count() == 7
    with opened(tmp_path, spec) as vault:
        assert texts(vault, "bees") == before
        vault.views.rebuild("chroma")
        assert (texts(vault, "bees"), vault.segments._segments().count()) == (before, 7)
        for _ in range(2):  # at least once, in a way that may be repeated
            vault.segments._take_in(vault.segments._segments(), "hash/64", 0, 1 << 40)
        assert (texts(vault, "bees"), vault.segments._segments().count()) == (before, 7)


@pytest.mark.parametrize("name", [None, "one name for both"])
def test_another_models_vectors_take_the_place_of_these_when_they_are_complete(tmp_path, spec, name):
    with opened(tmp_path, spec, name=name) as vault:
        fill(vault)
        texts(vault, "bees")
    with opened(tmp_path, spec, dimension=96, name=name) as vault:
        vault.views.wait()
        assert texts(vault, "bees in winter") == in_order_of_the_truth(vault, "bees in winter")
        assert [one.name for one in vault.segments._segments()._client.list_collections()] == ["conversation_segments"]


def test_a_server_reads_vectors_and_no_word_name_or_id(tmp_path, server):
    address, folder = server
    with opened(tmp_path, ChromaSpec(kind="server", url=address)) as vault:
        message = vault.memory.record(
            "mia", CANARY, conversation="holidays", source_id="a-source", speaker="Mia Moreau"
        )
        vault.views.wait()
        assert texts(vault, "parrot") == [CANARY]
        kept = vault.segments._segments()
        assert kept.text_of("hash/64 64", bytes.fromhex(message)) == [CANARY]
        collection = kept._find("conversation_segments")
        everything = repr(collection.get(include=["documents", "metadatas"])) + repr(collection.metadata)
    (tmp_path / "control").write_text(CANARY)
    for secret in (CANARY, "parrot", "mia", "Moreau", "holidays", "a-source", message, "hash/64"):
        assert secret not in everything
    control = (tmp_path / "control").read_bytes()
    assert CANARY.encode() in control, "the search works"
    whole = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert whole
    for secret in (CANARY, "Moreau", "holidays", "a-source", message):
        assert secret.encode() not in whole


def everything_there(vault: aico.Vault) -> list[str]:
    """The sealed texts of every row that Chroma has of this vault."""
    client = vault.segments._segments()._client
    collections = [client.get_collection(one.name, embedding_function=None) for one in client.list_collections()]
    return [document for one in collections for document in one.get(include=["documents"])["documents"]]


def test_after_a_rotation_nothing_of_the_older_keys_is_left_and_everything_is_found(tmp_path, spec):
    with opened(tmp_path, spec) as vault, opened(tmp_path, spec) as other:
        fill(vault)
        before, old = texts(vault, "bees"), set(everything_there(vault))
        assert texts(other, "bees") == before
        vault.keys.rotate(PASSPHRASE)
        assert not old & set(everything_there(vault)), "at once, not at the next use"
        assert texts(other, "bees") == texts(vault, "bees") == before
        assert (len(everything_there(vault)), old & set(everything_there(vault))) == (7, set())
        [bee] = [moment for moment in vault.memory.recent("mia", "c1") if "bees" in moment.text]
        assert vault.segments._segments().text_of("hash/64 64", bytes.fromhex(bee.id)) == [bee.text]
        other.keys.rotate(PASSPHRASE)
        assert vault.memory.forget("mia", id=bee.id).verify()
        assert bee.text not in texts(vault, "bees")
        assert texts(other, "heron", limit=9) == in_order_of_the_truth(other, "heron")
    with opened(tmp_path, spec) as vault:
        assert texts(vault, "heron", limit=9) == in_order_of_the_truth(vault, "heron")


def test_what_is_forgotten_after_a_rotation_that_chroma_missed_does_not_stay_there(tmp_path, spec):
    """Its row lies under tags of the older keys, by which nobody finds it any more."""
    with opened(tmp_path, spec) as vault:
        fill(vault)
        texts(vault, "bees")
        old = set(everything_there(vault))
        turn = Path(f"{vault.connection.db_path}-chroma")
        turn.unlink()
        turn.mkdir()
        vault.keys.rotate(PASSPHRASE)
        turn.rmdir()
        assert set(everything_there(vault)) == old
        [bee] = [moment for moment in vault.memory.recent("mia", "c1") if "bees" in moment.text]
        assert vault.memory.forget("mia", id=bee.id).verify()
        assert not old & set(everything_there(vault))
        vault.views.wait()
        assert len(everything_there(vault)) == 6


def test_what_a_view_could_not_forget_is_said_and_the_same_call_again_finishes(tmp_path):
    with opened(tmp_path, ChromaSpec()) as vault:
        fill(vault)
        assert "bees keep warm in winter" in texts(vault, "bees")
        [bee] = [moment for moment in vault.memory.recent("mia", "c1") if "bees" in moment.text]
        turn = Path(f"{vault.connection.db_path}-chroma")  # the lock by which one process at a time is at Chroma
        turn.unlink()
        turn.mkdir()
        for _ in range(2):
            with pytest.raises(ForgottenInPart) as told:
                vault.memory.forget("mia", id=bee.id)
        assert [left.place for left in vault.memory.receipts("mia")[0].remains()] == ["chroma"]
        assert told.value.receipt in str(told.value.hint)
        turn.rmdir()
        vault.memory.forget("mia", id=bee.id)
        assert vault.memory.receipts("mia")[0].verify()
        with pytest.raises(NotFound):
            vault.memory.forget("mia", id=bee.id)


def test_a_chroma_in_memory_leaves_nothing_on_the_disk(tmp_path):
    with opened(tmp_path, ChromaSpec()) as vault:
        vault.memory.record("mia", CANARY, conversation="c")
        vault.views.wait()
        assert texts(vault, "parrot") == [CANARY]
        assert not (vault.folder / "data" / "chroma").exists()
        assert not vault.audit([CANARY]).leaks


def test_a_server_that_is_away_is_said_and_everything_else_goes_on(tmp_path):
    with opened(tmp_path, ChromaSpec(kind="server", url="http://127.0.0.1:9")) as vault:
        message = vault.memory.record("mia", CANARY, conversation="c")
        vault.views.wait()
        [view] = [view for view in vault.views.status() if view.name == "chroma"]
        assert "Chroma" in view.trouble
        assert [hit.text for hit in vault.memory.recall("mia", "parrot")] == [CANARY]
        with pytest.raises(StorageError, match="Chroma"):
            texts(vault, "parrot")
        with pytest.raises(ForgottenInPart, match="Chroma") as told:
            vault.memory.forget("mia", id=message)
        assert told.value.views == ("chroma",)
        [left] = vault.memory.receipt("mia", told.value.receipt).remains()
        assert (left.place, "Chroma" in left.trouble) == ("chroma", True)
        assert vault.memory.recall("mia", "parrot") == []


def test_one_vault_does_not_touch_the_collection_of_another(tmp_path, server):
    address, _ = server
    spec = ChromaSpec(kind="server", url=address)
    with opened(tmp_path / "a", spec) as vault:
        vault.memory.record("mia", "mine", conversation="c")
        vault.views.wait()
        if vault.segments.trouble:  # another test's vault was first
            assert "another vault" in vault.segments.trouble
            return
    with opened(tmp_path / "b", spec) as vault:
        vault.memory.record("mia", "theirs", conversation="c")
        vault.views.wait()
        assert "another vault" in vault.segments.trouble


def test_a_readable_index_on_this_disk_must_be_asked_for_by_name():
    with pytest.raises(InvalidInput, match="allow_plaintext_index"):
        ChromaSpec(kind="local")
    for wrong in (
        {"kind": "cloud"},
        {"kind": "server"},
        {"url": "http://x"},
        {"kind": "server", "url": "http://a:b@c"},
    ):
        with pytest.raises(InvalidInput):
            ChromaSpec(**wrong)
    chosen = parse_settings('[chroma]\nkind = "server"\nurl = "http://localhost:8000"\n').chroma
    assert chosen == ChromaSpec(kind="server", url="http://localhost:8000")


def test_no_socket_is_opened_but_to_the_server_that_was_named(tmp_path, server):
    address, _ = server
    script = """
import sys
seen = set()
def note(event, arguments):
    if event == "socket.connect":
        seen.add(str(arguments[1]))
sys.addaudithook(note)
import aico
from dataclasses import replace
from pathlib import Path
from aico.settings import ChromaSpec
from aico.testing import HashEmbedder, PASSPHRASE, cheap_settings
kind, url, folder = sys.argv[1:]
spec = ChromaSpec() if kind == "memory" else ChromaSpec(kind="server", url=url)
with aico.open(Path(folder), passphrase=PASSPHRASE, settings=replace(cheap_settings(embedder=HashEmbedder()), chroma=spec)) as vault:
    vault.memory.record("mia", "bees", conversation="c")
    vault.views.wait()
    print(sorted(seen))
"""
    for kind in ("memory", "server"):
        done = subprocess.run(
            [sys.executable, "-c", script, kind, address, str(tmp_path / kind)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        allowed = set() if kind == "memory" else {f"('127.0.0.1', {address.rpartition(':')[2]})"}
        assert set(eval(done.stdout)) <= allowed


@pytest.mark.parametrize("others", [3, 1_200], ids=["in the queue", "in the index"])
def test_a_chroma_in_the_vaults_folder_keeps_no_vector_of_what_was_forgotten(tmp_path, others):
    """Its queue, its free pages and its index of neighbours would."""
    folder = tmp_path / "vault" / "data" / "chroma"

    def files_with(vector: bytes) -> list[str]:
        return [path.name for path in folder.rglob("*") if path.is_file() and vector in path.read_bytes()]

    with opened(tmp_path, ChromaSpec(kind="local", allow_plaintext_index=True)) as vault:
        [canary] = vault.memory.record_many("mia", [aico.Message(CANARY, conversation="c")])
        ordinary = [aico.Message(f"an ordinary day {number}", conversation="c") for number in range(others)]
        vault.memory.record_many("mia", ordinary)
        vault.views.wait()
        [[kept]] = vault.connection.fetch_all(
            "SELECT vector FROM embeddings WHERE owner_id = ?", (bytes.fromhex(canary),)
        )
        vector = np.frombuffer(kept, np.float16).astype(np.float32).tobytes()
        indexes = {path.parent for path in folder.rglob("data_level0.bin")}
        assert files_with(vector) == ["chroma.sqlite3"] or others > 1_000  # there it is in the index, made unit length
        assert vault.memory.forget("mia", id=canary).verify()
        assert files_with(vector) == []
        assert not [path for path in indexes if path.exists()]
        vault.views.wait()
        assert vault.segments.trouble == ""
        assert vault.segments._segments().count() == others
    assert files_with(vector) == []
