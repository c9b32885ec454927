"""Snapshots of recall indexes: they spare the next process the work, and are never believed against the truth."""

import os
import shutil
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aico import Message
from aico.ai.memory import indexes as indexes_module
from aico.ai.memory.reading import MemoryReader
from aico.testing import PASSPHRASE, FixedClock, HashEmbedder, cheap_settings
from aico.vault import Vault, open_vault, restore_vault
from tests.independent import decryptor

NOON = datetime(2026, 5, 8, 12, 0, tzinfo=UTC)
SEEDS = count(1)


@pytest.fixture(autouse=True)
def keep_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest index is kept, whenever it was changed and somebody looks after it."""
    small = {"SNAPSHOT_FROM": 1, "SNAPSHOT_EVERY": 1, "SNAPSHOT_SHARE": 1 << 30, "SNAPSHOT_REST_S": 0.0}
    for name, value in small.items():
        monkeypatch.setattr(indexes_module, name, value)


@contextmanager
def opened(folder: Path, model: str = "model", **changed):
    embedder = HashEmbedder()
    embedder.id = model
    chosen = replace(cheap_settings(clock=FixedClock(NOON, seed=next(SEEDS))), embedder=embedder, **changed)
    with open_vault(folder, passphrase=PASSPHRASE, settings=chosen) as vault:
        yield vault


def say(vault: Vault, *texts: str, user: str = "mia", conversation: str = "c1") -> list[str]:
    ids = vault.memory.record_many(
        user, [Message(text, conversation=conversation, at=NOON + timedelta(minutes=n)) for n, text in enumerate(texts)]
    )
    vault.views.wait()
    return ids


def keep(vault: Vault, user: str = "mia") -> Path:
    """Have the person's index written down; where it is."""
    user_id = vault.users.find(user)
    vault.indexes.current(user_id)
    vault.indexes.sweep(row["id"] for row in vault.connection.fetch_all("SELECT id FROM users"))
    path = vault.indexes.files.path(user_id)
    assert path.exists(), vault.indexes.problems
    return path


def answers(vault: Vault, user: str = "mia") -> list[tuple]:
    asked = ("bicycle", "parrot", "what was red?", "soup")
    return [(hit.id, hit.score, hit.why) for question in asked for hit in vault.memory.recall(user, question)]


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Whose index was built from the truth."""
    whose, read_all = [], MemoryReader.read_all

    def noted(self, user_id, index):
        whose.append(user_id)
        read_all(self, user_id, index)

    monkeypatch.setattr(MemoryReader, "read_all", noted)
    return whose


def filled(folder: Path, user: str = "mia") -> Path:
    """A vault with a snapshot, closed; where that is."""
    with opened(folder) as vault:
        say(vault, "my red bicycle", "the parrot spoke", "soup for dinner", user=user)
        vault.memory.remember(user, "likes soup")
        vault.views.wait()
        return keep(vault, user)


def test_the_next_process_takes_the_snapshot_up_and_answers_the_same(tmp_path, built):
    filled(tmp_path / "v")
    with opened(tmp_path / "v") as vault:
        built.clear()
        first = answers(vault)
        assert (built, vault.indexes.problems) == ([], [])
        assert [finding.ok for finding in vault.doctor() if finding.name == "snapshots"] == [True]
        shutil.rmtree(tmp_path / "v" / "data" / "index")
    with opened(tmp_path / "v") as vault:
        assert answers(vault) == first
        assert built


def test_the_old_text_of_an_edited_message_is_in_no_snapshot(tmp_path):
    filled(tmp_path / "v")
    with opened(tmp_path / "v") as vault:  # whose index is not in memory
        [said] = [moment.id for moment in vault.memory.recent("mia", "c1") if "parrot" in moment.text]
        assert vault.indexes.files.path(vault.users.find("mia")).exists()
        assert vault.conversations.edit("mia", said, "the finch sang").log_cleared
        assert not vault.indexes.files.path(vault.users.find("mia")).exists()
        assert [hit.id for hit in vault.memory.recall("mia", "finch", limit=1)] == [said]


def test_a_pipe_in_the_place_of_a_snapshot_keeps_no_recall_waiting(tmp_path):
    path = filled(tmp_path / "v")
    path.unlink()
    os.mkfifo(path)
    with opened(tmp_path / "v") as vault:
        assert vault.memory.recall("mia", "parrot")


def test_the_first_codes_are_kept_however_new_the_snapshot_without_them_is(tmp_path, monkeypatch):
    pytest.importorskip("faiss", reason="codes need the extra `embed`")
    with opened(tmp_path / "v") as vault:
        say(vault, *(f"word{number} and more" for number in range(120)))
        keep(vault)
        monkeypatch.setattr(indexes_module, "SNAPSHOT_REST_S", 3600.0)
        for name, value in {"CODED_FROM": 50, "CODE_EVERY": 20}.items():
            monkeypatch.setattr(f"aico.ai.memory.index.vectors.{name}", value)
        user_id = vault.users.find("mia")
        assert vault.indexes.current(user_id).coded_count == 0
        vault.indexes.current(user_id).code_vectors()
    with opened(tmp_path / "v") as vault:
        assert vault.indexes.current(user_id).coded_count == 120


def test_codes_are_written_once_and_not_again_while_a_snapshot_rests(tmp_path, monkeypatch):
    pytest.importorskip("faiss", reason="codes need the extra `embed`")
    for name, value in {"CODED_FROM": 50, "CODE_EVERY": 20}.items():
        monkeypatch.setattr(f"aico.ai.memory.index.vectors.{name}", value)
    with opened(tmp_path / "v") as vault:
        say(vault, *(f"word{number} and more" for number in range(120)))
        monkeypatch.setattr(indexes_module, "SNAPSHOT_REST_S", 3600.0)
        path = keep(vault)
        written = path.stat().st_mtime_ns
        say(vault, *(f"other{number} and more" for number in range(40)), conversation="c2")
        assert keep(vault) == path and path.stat().st_mtime_ns == written


def test_what_was_said_after_it_is_found_and_what_was_removed_is_not(tmp_path, built):
    path = filled(tmp_path / "v")
    kept = path.read_bytes()
    with opened(tmp_path / "v") as vault:
        [new] = say(vault, "a second bicycle", conversation="c2")
        hit = vault.memory.recall("mia", "parrot")[0]
        vault.connection.execute("DELETE FROM messages WHERE id = ?", (bytes.fromhex(hit.id),))
        vault.indexes.close()
        path.write_bytes(kept)
    built.clear()
    with opened(tmp_path / "v") as vault:
        assert new in {hit.id for hit in vault.memory.recall("mia", "bicycle")}
        assert hit.id not in {found.id for found in vault.memory.recall("mia", "parrot")}
        assert built == []


@pytest.mark.parametrize("place", [0, 8, 10, 20, 50, 200, -20_000, -1])
def test_a_flipped_bit_is_refused_said_and_costs_nothing_but_time(tmp_path, built, place):
    path = filled(tmp_path / "v")
    with opened(tmp_path / "v") as vault:
        right = answers(vault)
    raw = bytearray(path.read_bytes())
    raw[max(place, -len(raw))] ^= 4
    path.write_bytes(raw)
    built.clear()
    with opened(tmp_path / "v") as vault:
        [finding] = [finding for finding in vault.doctor() if finding.name == "snapshots"]
        assert finding.ok is None and "not used" in finding.message
        assert answers(vault) == right
        assert len(built) == 1
        [problem] = vault.indexes.problems
        assert "built anew from the truth" in problem
        keep(vault)
        assert [line.message for line in vault.logs.query_logs(subsystem="recall")] == [problem]
        assert path.read_bytes() != raw


def test_a_cut_or_empty_snapshot_is_refused(tmp_path, built):
    path = filled(tmp_path / "v")
    whole = path.read_bytes()
    for size in (0, 5, 43, 44, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        built.clear()
        with opened(tmp_path / "v") as vault:
            assert len(answers(vault)) > 0
            assert len(built) == len(vault.indexes.problems) == 1


def test_another_persons_snapshot_is_refused(tmp_path, built):
    path = filled(tmp_path / "v")
    with opened(tmp_path / "v") as vault:
        say(vault, "the secret of somebody else", user="zoe")
        other = keep(vault, "zoe")
    path.write_bytes(other.read_bytes())
    built.clear()
    with opened(tmp_path / "v") as vault:
        assert vault.memory.recall("mia", "secret of somebody else", score_min=0.5) == []
        assert len(built) == len(vault.indexes.problems) == 1


def test_another_vaults_snapshot_is_refused(tmp_path, built):
    path, other = filled(tmp_path / "v"), filled(tmp_path / "w")
    assert path.name != other.name
    path.write_bytes(other.read_bytes())
    built.clear()
    with opened(tmp_path / "v") as vault:
        assert answers(vault)
        assert len(built) == len(vault.indexes.problems) == 1


@pytest.mark.parametrize("changed", [{"model": "another"}, {"episode_gap_s": 60}])
def test_a_snapshot_of_another_model_or_of_other_episodes_is_refused(tmp_path, built, changed):
    filled(tmp_path / "v")
    built.clear()
    with opened(tmp_path / "v", **changed) as vault:
        vault.views.wait()
        assert answers(vault)
        assert len(built) == len(vault.indexes.problems) == 1


def test_a_snapshot_from_before_the_truth_was_put_back_is_refused(tmp_path, built):
    with opened(tmp_path / "v") as vault:
        say(vault, "my red bicycle")
        vault.backups.create(tmp_path / "backups", full=True)
        say(vault, "the parrot spoke", conversation="c2")
        path = keep(vault)
    later = path.read_bytes()
    [backup] = (tmp_path / "backups").glob("*")
    restore_vault(backup, tmp_path / "again", passphrase=PASSPHRASE)
    with opened(tmp_path / "again") as vault:
        say(vault, "another life", "goes on", "quite long", "enough", "to pass", "the snapshot", conversation="c3")
        place = vault.indexes.files.path(vault.users.find("mia"))
        vault.indexes.close()
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(later)
    built.clear()
    with opened(tmp_path / "again") as vault:
        assert [hit.text for hit in vault.memory.recall("mia", "parrot") if "parrot" in hit.text] == []
        assert vault.memory.recall("mia", "another life")[0].text == "another life"
        assert len(built) == len(vault.indexes.problems) == 1


def test_a_snapshot_older_than_the_oldest_change_is_refused(tmp_path, built):
    filled(tmp_path / "v")
    with opened(tmp_path / "v") as vault:
        say(vault, "one more", conversation="c2")
        vault.indexes.close()
        newest = vault.connection.fetch_all("SELECT max(number) FROM change_feed")[0][0]
    built.clear()
    with opened(tmp_path / "v") as vault:
        vault.connection.execute("DELETE FROM change_feed WHERE number < ?", (newest,))
        say(vault, "yet another", conversation="c2")
        assert vault.memory.recall("mia", "one more")[0].text == "one more"


def test_forgetting_removes_the_snapshot_at_once_and_the_next_one_is_without(tmp_path):
    path = filled(tmp_path / "v")
    with opened(tmp_path / "v") as vault:
        hit = vault.memory.recall("mia", "parrot")[0]
        user_id, id_ = vault.users.find("mia"), bytes.fromhex(hit.id)
        assert b"parrot" in decryptor.snapshot(vault.folder, PASSPHRASE, user_id, path.read_bytes())
        vault.indexes._background.stop()
        receipt = vault.memory.forget("mia", id=hit.id)
        assert not path.exists()
        assert receipt.verify()
        assert keep(vault) == path
        assert b"parrot" not in decryptor.snapshot(vault.folder, PASSPHRASE, user_id, path.read_bytes())
        assert not vault.indexes.holds_any(user_id, [id_])


def test_forgetting_reaches_the_snapshot_of_somebody_nobody_asked_about(tmp_path, built):
    path = filled(tmp_path / "v")
    with opened(tmp_path / "v") as vault:
        vault.memory.forget("mia", everything=True)
        assert not path.exists()


def test_a_snapshot_left_behind_is_found_by_the_receipt(tmp_path):
    path = filled(tmp_path / "v")
    old = path.read_bytes()
    with opened(tmp_path / "v") as vault:
        receipt = vault.memory.forget("mia", about="parrot")
        vault.indexes._background.stop()
        path.write_bytes(old)
        assert not receipt.verify()
        path.unlink()
        assert receipt.verify()


def test_a_writer_that_was_late_does_not_bring_back_what_was_forgotten(tmp_path):
    path = filled(tmp_path / "v")
    with opened(tmp_path / "v") as late, opened(tmp_path / "v") as vault:
        for each in (late, vault):
            each.indexes._background.stop()
        user_id = late.users.find("mia")
        say(late, "one more turn", conversation="c2")
        late.indexes.current(user_id)
        write, gone = late.indexes.files._seal, []

        def slowly(*arguments):
            write(*arguments)
            vault.memory.forget("mia", about="parrot")
            gone.append(path.exists())

        late.indexes.files._seal = slowly
        late.indexes._try_to_keep(user_id, late.indexes._users[user_id])
        assert gone == [False]
        assert list(path.parent.iterdir()) == []


def test_a_crash_while_writing_leaves_nothing_that_is_used_and_a_sweep_clears_it(tmp_path):
    path = filled(tmp_path / "v")
    dead = path.with_name(f"{path.name}.new-0123")
    dead.write_bytes(path.read_bytes())
    stranger = path.with_name(f"{'0' * 32}.snapshot")
    stranger.write_bytes(b"of nobody")
    with opened(tmp_path / "v") as vault:
        assert [finding.ok for finding in vault.doctor() if finding.name == "leftovers"] == [True], "it may be at work"
        os.utime(dead, (0, 0))
        assert [finding.ok for finding in vault.doctor() if finding.name == "leftovers"] == [False]
        keep(vault)
        assert sorted(path.parent.iterdir()) == [path]


def test_neither_name_nor_content_tells_whose_it_is(tmp_path):
    path = filled(tmp_path / "v", user="mia-the-canary")
    with opened(tmp_path / "v") as vault:
        user_id = vault.users.find("mia-the-canary")
    raw = path.read_bytes()
    for needle in (b"canary", b"bicycle", b"parrot", user_id, user_id.hex().encode()):
        assert needle not in raw
        assert needle not in path.name.encode()
    assert path.stat().st_mode & 0o77 == path.parent.stat().st_mode & 0o77 == 0


def test_a_folder_that_cannot_be_written_is_said_and_recall_goes_on(tmp_path):
    with opened(tmp_path / "v") as vault:
        say(vault, "my red bicycle")
        shutil.rmtree(vault.folder / "data" / "index", ignore_errors=True)
        (vault.folder / "data" / "index").write_bytes(b"a file in the way")
        say(vault, "one more", conversation="c2")
        right = answers(vault)
        vault.indexes.sweep([])
        assert vault.indexes.problems
        assert answers(vault) == right


def test_the_least_recently_used_leave_memory_when_it_is_full(tmp_path, built):
    with opened(tmp_path / "v", index_memory_mib=1) as vault:
        for name in ("ann", "bob", "cleo"):
            say(vault, *[f"turn {n} about many different things like {n * 7}" for n in range(3000)], user=name)
            vault.memory.recall(name, "things")
        assert list(vault.indexes._users) == [vault.users.find("cleo")]


def test_threads_recall_side_by_side_while_others_record_and_forget(tmp_path):
    with opened(tmp_path / "v") as vault:
        ids = say(vault, *[f"bicycle number {n}" for n in range(40)])
        wrong, done = [], threading.Event()

        def ask() -> None:
            while not done.is_set():
                gone = set(forgotten)
                found = {hit.id for hit in vault.memory.recall("mia", "bicycle number", limit=50)}
                if found & gone:
                    wrong.append(found & gone)

        forgotten: list[str] = []
        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number, id_ in enumerate(ids[:15]):
            vault.memory.forget("mia", id=id_)
            forgotten.append(id_)
            vault.memory.record("mia", f"another bicycle {number}", conversation="c2")
        done.set()
        for thread in threads:
            thread.join()
        assert wrong == []


actions = st.lists(
    st.tuples(
        st.sampled_from(["record", "record", "edit", "forget", "reopen", "keep", "recall"]),
        st.integers(0, 5),
        st.sampled_from(["my red bicycle", "the parrot spoke", "soup for dinner", "ich fahre nach Lissabon"]),
    ),
    max_size=14,
)


@settings(max_examples=25, deadline=None)
@given(actions)
def test_after_any_history_the_index_answers_like_one_built_from_the_truth(history):
    with TemporaryDirectory() as folder, ExitStack() as stack:
        vault = stack.enter_context(opened(Path(folder) / "v"))
        vault.users.ensure("mia")
        for action, number, text in history:
            if action == "record":
                vault.memory.record("mia", text, conversation=f"c{number % 2}", at=NOON + timedelta(minutes=number))
            elif action == "recall":
                vault.memory.recall("mia", text)
            elif action == "reopen":
                vault = stack.enter_context(opened(Path(folder) / "v"))
            else:
                take(vault, action, number, text)
        vault.views.wait()
        right = answers(vault)
        keep_if_any(vault)
        assert answers(stack.enter_context(opened(Path(folder) / "v"))) == right
        shutil.rmtree(vault.folder / "data" / "index", ignore_errors=True)
        assert answers(stack.enter_context(opened(Path(folder) / "v"))) == right


def take(vault: Vault, action: str, number: int, text: str) -> None:
    rows = vault.connection.fetch_all("SELECT id FROM messages ORDER BY id")
    if action == "edit" and rows:
        vault.connection.execute("UPDATE messages SET text = ? WHERE id = ?", (text, rows[number % len(rows)]["id"]))
    elif action == "forget" and rows:
        vault.memory.forget("mia", id=rows[number % len(rows)]["id"].hex())
    elif action == "keep":
        keep_if_any(vault)


def keep_if_any(vault: Vault) -> None:
    vault.indexes.current(vault.users.find("mia"))
    vault.indexes.sweep(row["id"] for row in vault.connection.fetch_all("SELECT id FROM users"))
