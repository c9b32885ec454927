"""The change feed and its readers: nobody is passed, what was pruned is rebuilt, and a deleted folder heals."""

import shutil
import time
from datetime import timedelta
from pathlib import Path

import pytest

import aico
from aico.ai.extraction import Excerpt
from aico.data.change_feed import CONSUMER_LIVES_S, ChangeFeed
from aico.errors import InvalidInput, NotFound
from aico.testing import PASSPHRASE, FixedClock, HashEmbedder, cheap_settings, temporary_vault
from tests import children


def feed_of(vault: aico.Vault) -> ChangeFeed:
    return ChangeFeed(vault.connection, clock=vault.settings.clock)


def numbers(vault: aico.Vault) -> list[int]:
    return [number for (number,) in vault.connection.fetch_all("SELECT number FROM change_feed ORDER BY number")]


def record_some(vault: aico.Vault, count: int, *, of: str = "mia") -> None:
    for number in range(count):
        vault.memory.record(of, f"the heron came by, visit {number}", conversation="pond")


def test_pruning_keeps_the_last_row_so_that_no_number_is_given_twice():
    with temporary_vault() as vault:
        record_some(vault, 5)
        last = numbers(vault)[-1]
        assert feed_of(vault).prune(keep=0) == last - 1
        assert numbers(vault) == [last]
        assert feed_of(vault).prune(keep=0) == 0
        record_some(vault, 1)
        assert numbers(vault) == [last, last + 1]


def test_the_slowest_live_consumer_is_waited_for_until_it_gives_no_sign_for_a_season():
    clock = FixedClock()
    with temporary_vault(clock=clock) as vault:
        record_some(vault, 9)
        feed, last = feed_of(vault), numbers(vault)[-1]
        feed.hold("a device", 4)
        feed.hold("another", 7)
        feed.prune(keep=1)
        assert numbers(vault)[0] == 5
        assert feed.held_by("a device") == 4
        feed.release("a device")
        feed.prune(keep=1)
        assert numbers(vault)[0] == 8
        clock.move(timedelta(seconds=CONSUMER_LIVES_S + 1))
        feed.prune(keep=1)
        assert numbers(vault) == [last]
        with pytest.raises(InvalidInput):
            feed.hold("nonsense", -1)


def test_a_position_that_is_taken_back_with_its_transaction_holds_nothing():
    with temporary_vault() as vault:
        feed = feed_of(vault)
        with pytest.raises(ZeroDivisionError), vault.connection.transaction():
            feed.hold("a device", 1)
            raise ZeroDivisionError
        assert feed.held_by("a device") is None


def test_views_whose_position_was_pruned_away_rebuild_and_miss_nothing(tmp_path: Path):
    settings = cheap_settings(embedder=HashEmbedder())
    with aico.open(tmp_path / "vault", passphrase=PASSPHRASE, settings=settings) as vault:
        record_some(vault, 3)
        vault.memory.recall("mia", "heron")
        vault.memory.recent("mia", "pond")
        vault.views.wait()
        with aico.open(tmp_path / "vault", passphrase=PASSPHRASE, settings=settings) as other:
            [first, *_] = other.memory.recent("mia", "pond")
            other.memory.forget("mia", id=first.id)
            other.memory.record("mia", "an otter at last", conversation="pond")
            feed_of(other).prune(keep=1)
            other.views.wait()
        assert "an otter at last" in [hit.text for hit in vault.memory.recall("mia", "otter")]
        assert first.id not in [hit.id for hit in vault.memory.recall("mia", "heron", limit=50)]
        assert [moment.text for moment in vault.memory.recent("mia", "pond")][-1] == "an otter at last"
        vault.views.wait()
        assert [view.lag for view in vault.views.status()] == [0] * len(vault.views.status())


class Notes:
    """Shows nothing to a model, and remembers what it was shown."""

    model = "a model"

    def __init__(self) -> None:
        self.seen: list[str] = []

    def extract(self, excerpt: Excerpt) -> str:
        self.seen += [turn.text for turn in excerpt.turns if turn.number is not None]
        return "[]"


@pytest.mark.parametrize("seen_before", [0, 10])
def test_a_model_whose_position_was_pruned_away_is_shown_every_message(seen_before: int):
    with temporary_vault() as vault:
        record_some(vault, 90)
        vault.memory.record("otto", "not mia's", conversation="pond")
        notes = Notes()
        if seen_before:
            vault.extraction.run("mia", notes, message_limit=seen_before)
        feed_of(vault).prune(keep=5)
        waiting = vault.extraction.waiting("mia", notes.model)
        assert waiting == 90
        vault.extraction.run("mia", notes, message_limit=40)
        assert vault.extraction.waiting("mia", notes.model) == 50
        vault.extraction.run("mia", notes)
        assert set(notes.seen) == {f"the heron came by, visit {number}" for number in range(90)}
        assert vault.extraction.waiting("mia", notes.model) == 0
        record_some(vault, 1)
        assert vault.extraction.waiting("mia", notes.model) == 1


def write_one(folder: str) -> None:
    with aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings()) as vault:
        print("ready", flush=True)
        input()
        vault.memory.record("mia", "from elsewhere", conversation="c")
        print("written", flush=True)
        input()


def test_who_watches_learns_what_another_process_commits():
    with temporary_vault() as vault, children.started(write_one, vault.folder) as child:
        assert child.line() == "ready"
        watching = vault.views.watch(timeout_s=60)
        child.tell("go")
        seen = next(watching)
        assert (seen.tables, seen.after) == ({"users": 1, "conversations": 1, "messages": 1}, 0)
        assert child.line() == "written"
        assert list(vault.views.watch(timeout_s=0.05)) == []
        child.tell("end")
        assert child.end().error is None


def test_watching_says_when_an_older_truth_took_the_place_of_this_one():
    with temporary_vault() as vault:
        record_some(vault, 2)
        [changes] = vault.views.watch(after=1_000, timeout_s=0)
        assert (changes.after, changes.up_to, changes.tables) == (1_000, feed_of(vault).newest(), {})


def read_until_told(folder: str, wanted: int) -> list[str]:
    """A process that reads all the time, while views are deleted under it; what went wrong."""
    wrong = []
    with aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings()) as vault:
        print("ready", flush=True)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            recent = [moment.text for moment in vault.memory.recent("mia", "c", limit=500)]
            truth = [row["text"] for row in vault.connection.fetch_all("SELECT text FROM messages ORDER BY position")]
            if recent != truth[: len(recent)] and recent[: len(truth)] != truth:
                wrong.append(f"{recent} against {truth}")
            vault.memory.recall("mia", "visit")
            if len(recent) >= wanted:
                break
    return wrong


def test_folders_of_views_deleted_while_processes_read_and_write_heal_by_themselves():
    with temporary_vault() as vault:
        vault.memory.record("mia", "visit 0", conversation="c")
        with (
            children.started(read_until_told, vault.folder, 60) as one,
            children.started(read_until_told, vault.folder, 60) as two,
        ):
            assert one.line() == two.line() == "ready"
            for number in range(1, 60):
                vault.memory.record("mia", f"visit {number}", conversation="c")
                vault.memory.recent("mia", "c")
                if number % 5 == 0:
                    for view in ("lmdb", "index", "duckdb", "chroma"):
                        shutil.rmtree(vault.folder / "data" / view, ignore_errors=True)
            for child in (one, two):
                done = child.end()
                assert (done.error, done.value) == (None, []), done.message
        vault.memory.recent("mia", "c")
        assert (vault.folder / "data" / "lmdb" / "data.mdb").exists()


def test_a_view_is_made_anew_by_its_name():
    with temporary_vault() as vault:
        record_some(vault, 3)
        before = vault.memory.recall("mia", "heron"), vault.memory.recent("mia", "pond")
        for view in vault.views:
            vault.views.rebuild(view.name)
        vault.views.rebuild("hot-tier")
        assert (vault.memory.recall("mia", "heron"), vault.memory.recent("mia", "pond")) == before
        with pytest.raises(NotFound, match="view"):
            vault.views.rebuild("the sea")
