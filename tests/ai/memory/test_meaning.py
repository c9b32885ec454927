"""Recall by meaning: vectors made in the background, found by, and gone with what they tell of."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from aico import Message
from aico.ai.embedding import Vectors
from aico.ai.memory import indexes
from aico.errors import Busy, InvalidInput, ModelUnavailable, StorageError
from aico.testing import PASSPHRASE, FixedClock, HashEmbedder, cheap_settings
from aico.vault import Vault, open_vault
from tests.children import run, started

NOON = datetime(2026, 5, 8, 12, 0, tzinfo=UTC)
SYNONYMS = {"bike": "bicycle", "rides": "bicycle", "fahrrad": "bicycle"}


class Model(HashEmbedder):
    """Writes down what it is given; fails while `broken`; waits at `gate` where there is one."""

    def __init__(self, name: str = "model") -> None:
        super().__init__(dimension=256, synonyms=SYNONYMS)
        self.id, self.texts, self.broken = name, list[str](), False
        self.gate: threading.Semaphore | None = None
        self.entered = threading.Semaphore(0)

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.entered.release()
        if self.gate is not None:
            self.gate.acquire()
        if self.broken:
            raise ModelUnavailable("the model is not there")
        self.texts += texts
        return super().embed(texts)


def opened(folder: Path, model: HashEmbedder | None) -> Vault:
    settings = replace(cheap_settings(clock=FixedClock(NOON)), embedder=model)
    return open_vault(folder / "vault", passphrase=PASSPHRASE, settings=settings)


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def vault(tmp_path, model):
    with opened(tmp_path, model) as vault:
        yield vault


def vectors_of(vault: Vault) -> dict[str, int]:
    """The length in bytes of each memory's vectors."""
    rows = vault.connection.fetch_all("SELECT hex(owner_id), length(vector) FROM embeddings")
    return {owner.lower(): length for owner, length in rows}


def found(vault: Vault, query: str, **more: object) -> list[str]:
    return [hit.text for hit in vault.memory.recall("mia", query, **more)]  # type: ignore[arg-type]


def test_a_memory_is_found_without_a_word_in_common(vault):
    vault.memory.record("mia", "my red bicycle", conversation="a")
    vault.memory.record("mia", "soup for dinner", conversation="b")
    vault.views.wait()
    [hit] = vault.memory.recall("mia", "fahrrad", limit=1)
    assert hit.text == "my red bicycle"
    assert "meaning ." in hit.why
    assert "words" not in hit.why
    assert 0 < hit.score < 1


def test_a_fact_is_found_by_its_meaning(vault):
    vault.memory.remember("mia", "owns a bicycle")
    vault.views.wait()
    assert found(vault, "fahrrad") == ["owns a bicycle"]


def test_until_its_vector_is_made_a_memory_is_found_by_its_words(vault, model):
    model.gate = threading.Semaphore(0)
    vault.memory.record("mia", "my red bicycle", conversation="a")
    assert found(vault, "bicycle") == ["my red bicycle"]
    assert found(vault, "fahrrad") == []
    model.gate.release(1000)


def test_without_a_model_words_alone_answer(tmp_path):
    with opened(tmp_path, None) as vault:
        vault.memory.record("mia", "my red bicycle", conversation="a")
        vault.views.wait()
        assert found(vault, "fahrrad") == []
        assert vault.embeddings.status() == []
        assert [view.name for view in vault.views.status()] == ["recall index", "hot tier", "item index", "analytics"]


def test_the_background_makes_vectors_by_itself(vault, model):
    vault.memory.record("mia", "my red bicycle", conversation="a")
    assert model.entered.acquire(timeout=60)
    vault.views.wait()
    assert found(vault, "fahrrad") == ["my red bicycle"]


def test_a_vector_tells_of_the_turn_before_in_the_same_episode(vault, model):
    for minutes, text in enumerate(["do you ride?", "yes"]):
        vault.memory.record("mia", text, conversation="a", at=NOON + timedelta(minutes=minutes), speaker="Mia")
    vault.memory.record("mia", "next day", conversation="a", at=NOON + timedelta(days=1), role="assistant")
    vault.views.wait()
    assert set(model.texts) >= {"Mia: do you ride?", "Mia: do you ride?\nMia: yes", "assistant: next day"}


def test_forgetting_empties_the_vector_of_the_turn_that_followed_and_it_is_made_anew(tmp_path):
    model = Model()
    with opened(tmp_path, model) as vault:
        secret = vault.memory.record("mia", "the secret bicycle", conversation="a", speaker="Mia")
        reply = vault.memory.record("mia", "how nice", conversation="a", speaker="Bo")
        vault.views.wait()
        assert "Mia: the secret bicycle\nBo: how nice" in model.texts
        model.gate = threading.Semaphore(0)
        receipt = vault.memory.forget("mia", id=secret)
        assert vectors_of(vault) == {reply: 0}
        assert receipt.removed == {"messages": 1, "embeddings": 1}
        assert receipt.verify()
        assert found(vault, "fahrrad") == []
        model.texts.clear()
        model.gate.release(1000)
        vault.views.wait()
        assert [text for text in model.texts if "nice" in text] == ["Bo: how nice"]
        assert vectors_of(vault) == {reply: 512}


def test_what_is_forgotten_while_it_is_embedded_leaves_no_vector(vault, model):
    model.gate = threading.Semaphore(0)
    secret = vault.memory.record("mia", "the secret bicycle", conversation="a")
    reply = vault.memory.record("mia", "how nice", conversation="a")
    assert model.entered.acquire(timeout=60)
    vault.memory.forget("mia", id=secret)
    model.gate.release(1000)
    vault.views.wait()
    assert vectors_of(vault) == {reply: 512}
    assert model.texts[-1].endswith("how nice") and "secret" not in model.texts[-1]


def test_a_turn_that_arrives_between_two_others_changes_what_the_later_one_follows(vault, model):
    vault.memory.record("mia", "first", conversation="a", at=NOON)
    vault.memory.record("mia", "third", conversation="a", at=NOON + timedelta(minutes=2))
    vault.views.wait()
    vault.memory.record("mia", "second", conversation="a", at=NOON + timedelta(minutes=1))
    vault.views.wait()
    assert "user: second\nuser: third" in model.texts


def test_a_changed_text_loses_its_vector(vault, model):
    message = vault.memory.record("mia", "my red bicycle", conversation="a")
    vault.views.wait()
    assert found(vault, "fahrrad") == ["my red bicycle"]
    model.gate = threading.Semaphore(0)
    vault.connection.execute("UPDATE messages SET text = 'my blue hat' WHERE id = ?", (bytes.fromhex(message),))
    assert vectors_of(vault) == {}
    assert found(vault, "fahrrad") == []
    model.gate.release(1000)
    vault.views.wait()
    assert found(vault, "fahrrad") == []
    assert vectors_of(vault) == {message: 512}


def test_two_equal_messages_have_a_vector_each(vault):
    first, second = (vault.memory.record("mia", "my bicycle", conversation=name) for name in "ab")
    vault.views.wait()
    vault.memory.forget("mia", id=first)
    assert set(vectors_of(vault)) == {second}
    assert found(vault, "fahrrad") == ["my bicycle"]


def test_a_long_text_is_found_by_the_meaning_of_any_part_and_forgotten_whole(vault, model):
    model.window = 16
    filler = " ".join(f"word{number}" for number in range(60))
    message = vault.memory.record("mia", f"{filler} my bicycle {filler}", conversation="a")
    vault.views.wait()
    assert len(vectors_of(vault)) > 5
    spoken = [text.removeprefix("user: ") for text in model.texts if text.startswith("user: ")]
    assert sorted(spoken) == sorted(set(spoken))
    assert len(found(vault, "fahrrad")) == 1
    vault.memory.forget("mia", id=message)
    assert vectors_of(vault) == {}
    assert vault.connection.fetch_all("SELECT * FROM passages") == []
    assert vault.connection.fetch_all("SELECT * FROM vector_contexts") == []


def test_superseding_a_fact_keeps_its_vector(vault):
    old = vault.memory.remember("mia", "owns a bicycle")
    vault.views.wait()
    vault.settings.clock.move(timedelta(hours=1))
    vault.memory.remember("mia", "owns a hat", supersedes=old)
    vault.views.wait()
    assert set(vectors_of(vault)) >= {old}
    assert found(vault, "fahrrad") == []
    assert found(vault, "fahrrad", as_of=NOON) == ["owns a bicycle"]


def test_a_model_that_fails_is_told_of_and_words_answer(vault, model):
    vault.memory.record("mia", "my red bicycle", conversation="a")
    vault.views.wait()
    model.broken = True
    assert found(vault, "bicycle") == ["my red bicycle"]
    [status] = vault.embeddings.status()
    assert (status.chosen, status.vectors, status.problem) == (True, 1, "the model is not there")
    [finding] = [finding for finding in vault.doctor() if finding.name == "embeddings"]
    assert finding.ok is False
    vault.memory.record("mia", "my hat", conversation="a")
    assert vault.embeddings.status()[0].pending == 1
    with pytest.raises(ModelUnavailable):
        vault.views.wait()
    model.broken = False
    vault.views.wait()
    assert vault.embeddings.status()[0].pending == 0


def test_a_model_whose_answer_is_no_vector_is_refused(vault, model):
    model.dimension = 7
    vault.memory.record("mia", "my red bicycle", conversation="a")
    model.embed = lambda texts: np.full((len(texts), 7), np.nan, np.float32)
    with pytest.raises(ModelUnavailable, match="not"):
        vault.embeddings.catch_up()
    assert vectors_of(vault) == {}


def sized(dimension: int) -> Model:
    model = Model()
    model.dimension = dimension
    return model


def test_a_model_of_another_dimension_under_the_same_name_makes_all_anew_and_says_so(tmp_path):
    with opened(tmp_path, Model()) as vault:
        vault.memory.record("mia", "my red bicycle", conversation="a")
        vault.memory.remember("mia", "owns a bicycle")
        vault.items.put("mia", ("app",), "n", 1, texts=["a bicycle for two"])
        assert [item.key for item, _ in vault.items.search("mia", "fahrrad")] == ["n"]
        vault.views.wait()
    with opened(tmp_path, sized(128)) as vault:
        vault.embeddings.catch_up()
        [status] = vault.embeddings.status()
        assert (status.vectors, status.pending) == (2, 0)
        assert set(found(vault, "fahrrad")) == {"my red bicycle", "owns a bicycle"}
        assert set(vectors_of(vault).values()) == {256}
        assert [item.key for item, _ in vault.items.search("mia", "fahrrad")] == ["n"]
        [line] = vault.logs.query_logs(subsystem="embeddings")
        assert "vectors of 128 numbers now, not of 256" in line.message
    with opened(tmp_path, other := sized(128)) as vault:
        vault.embeddings.catch_up()
        assert set(found(vault, "fahrrad")) == {"my red bicycle", "owns a bicycle"}
        assert "Bo: my red bicycle" not in other.texts


def test_a_question_is_enough_to_notice_that_a_model_has_another_dimension(tmp_path):
    with opened(tmp_path, Model()) as vault:
        vault.memory.record("mia", "my red bicycle", conversation="a")
        vault.views.wait()
    model = sized(128)
    model.gate = threading.Semaphore(1)  # for the question
    with opened(tmp_path, model) as vault:
        assert found(vault, "fahrrad") == []
        assert vault.embeddings.lag() == 1
        model.gate.release(1000)
        vault.views.wait()
        assert found(vault, "fahrrad") == ["my red bicycle"]


def test_doctor_notices_that_a_model_has_another_dimension(tmp_path):
    with opened(tmp_path, Model()) as vault:
        vault.memory.record("mia", "my red bicycle", conversation="a")
        vault.views.wait()
    model = sized(128)
    model.gate = threading.Semaphore(1)  # for the word that it is tried out with
    with opened(tmp_path, model) as vault:
        [finding] = [one for one in vault.doctor() if one.name == "embeddings"]
        assert "1 memories wait" in finding.message
        model.gate.release(1000)


def test_a_snapshot_with_vectors_of_another_dimension_is_built_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(indexes, "SNAPSHOT_FROM", 1)
    with opened(tmp_path, Model()) as vault:
        vault.memory.record("mia", "my red bicycle", conversation="a")
        vault.views.wait()
        assert found(vault, "fahrrad") == ["my red bicycle"]
    with opened(tmp_path, sized(128)) as vault:
        assert found(vault, "bicycle") == ["my red bicycle"]
        vault.views.wait()
        assert found(vault, "fahrrad") == ["my red bicycle"]


def test_two_processes_with_two_dimensions_do_not_undo_each_others_work(tmp_path):
    with opened(tmp_path, Model()) as one, opened(tmp_path, sized(128)) as other:
        one.memory.record("mia", "my red bicycle", conversation="a")
        one.views.wait()
        other.views.wait()
        with pytest.raises(InvalidInput, match="another process"):
            one.views.wait()
        assert found(other, "fahrrad") == ["my red bicycle"]
        assert found(one, "bicycle") == ["my red bicycle"]


def test_killed_while_it_begins_anew_it_still_makes_all(tmp_path, monkeypatch):
    with opened(tmp_path, Model()) as vault:
        vault.memory.record("mia", "my red bicycle", conversation="a")
        vault.views.wait()
        vault.connection.execute("UPDATE generations SET dimension = 128, embedded_to = 0")  # and nothing was removed
    with opened(tmp_path, sized(128)) as vault:
        vault.views.wait()
        assert found(vault, "fahrrad") == ["my red bicycle"]
        assert set(vectors_of(vault).values()) == {256}


def test_waiting_too_long_says_how_far_it_is(vault, model):
    vault.memory.record("mia", "my red bicycle", conversation="a")
    model.gate = threading.Semaphore(0)
    with pytest.raises(Busy, match="0 of 1 memories"):
        vault.views.wait(timeout_s=0)
    model.gate.release(1000)
    vault.views.wait(timeout_s=60)
    assert vault.views.status()[-1].lag == 0


def test_progress_is_told(vault):
    vault.memory.record_many("mia", [Message(f"turn {number}", conversation="a") for number in range(150)])
    told = []
    vault.embeddings.catch_up(lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1]
    assert sorted(told) == told
    assert all(total == 150 for _, total in told[:3])


def test_no_vector_is_made_inside_a_transaction(vault):
    with pytest.raises(StorageError), vault.connection.transaction():
        vault.embeddings.catch_up()


def test_another_model_takes_the_place_of_the_first_when_it_is_complete(tmp_path):
    with opened(tmp_path, Model("first")) as vault:
        vault.memory.record("mia", "my red bicycle", conversation="a")
        vault.views.wait()
    second = Model("second")
    second.gate = threading.Semaphore(0)
    with opened(tmp_path, second) as vault:
        assert [(status.model, status.vectors, status.pending) for status in vault.embeddings.status()] == [
            ("second", 0, 1),
            ("first", 1, 0),
        ]
        assert found(vault, "bicycle") == ["my red bicycle"]
        second.gate.release(1000)
        vault.views.wait()
        assert [(status.model, status.vectors) for status in vault.embeddings.status()] == [("second", 1)]
        assert found(vault, "fahrrad") == ["my red bicycle"]


def test_two_processes_with_two_models_do_not_undo_each_others_work(tmp_path):
    with opened(tmp_path, Model("first")) as one, opened(tmp_path, Model("second")) as other:
        one.memory.record("mia", "my red bicycle", conversation="a")
        one.views.wait()
        other.views.wait()
        with pytest.raises(InvalidInput, match="another process"):
            one.views.wait()
        assert [(status.model, status.vectors) for status in other.embeddings.status()] == [("second", 1)]
        assert found(one, "bicycle") == ["my red bicycle"]


def test_vectors_of_the_chosen_model_are_made_anew_after_a_drop(vault, model):
    vault.memory.record("mia", "my red bicycle", conversation="a")
    vault.views.wait()
    assert vault.embeddings.drop("model") == 1
    vault.views.wait()
    assert found(vault, "fahrrad") == ["my red bicycle"]
    with pytest.raises(InvalidInput):
        vault.embeddings.drop("never heard of")


def test_what_another_process_embedded_is_found(tmp_path):
    with opened(tmp_path, Model()) as one, opened(tmp_path, Model()) as other:
        one.memory.record("mia", "my red bicycle", conversation="a")
        assert found(other, "bicycle") == ["my red bicycle"]
        one.views.wait()
        assert found(other, "fahrrad") == ["my red bicycle"]
        one.memory.forget("mia", about="bicycle")
        assert found(other, "fahrrad") == []


def test_nobody_finds_anothers_memory_by_its_meaning(vault):
    vault.memory.record("otto", "my red bicycle", conversation="a")
    vault.memory.record("mia", "soup for dinner", conversation="a")
    vault.views.wait()
    assert found(vault, "fahrrad") == []


def test_closing_waits_for_no_more_than_the_batch_at_hand(tmp_path, model):
    vault = opened(tmp_path, model)
    vault.memory.record_many("mia", [Message(f"turn {number}", conversation="a") for number in range(600)])
    model.gate = threading.Semaphore(0)
    assert model.entered.acquire(timeout=60)
    closing = threading.Thread(target=vault.close)
    closing.start()
    model.gate.release(1)  # the batch at hand; nobody lets a second one through
    closing.join(timeout=60)
    assert not closing.is_alive()
    assert "aico-embedding" not in {thread.name for thread in threading.enumerate()}
    model.gate = None
    with opened(tmp_path, model) as vault:
        vault.views.wait()
        assert len(vectors_of(vault)) == 600


def embed_slowly(folder: str, count: int) -> None:
    """A child that says when a step was told of, and waits for the next line."""
    with opened(Path(folder), Model()) as vault:
        vault.memory.record_many(
            "mia", [Message(f"turn {number} bicycle", conversation="a") for number in range(count)]
        )

        def tell(done: int, total: int) -> None:
            print(done, flush=True)
            input()

        vault.embeddings.catch_up(tell)


def test_killed_in_the_middle_it_goes_on_where_it_was(tmp_path):
    with started(embed_slowly, tmp_path, 300) as child:
        for _ in range(3):
            step = child.line()
            child.tell("")
        assert int(step) > 0
        child.kill()
    model = Model()
    with opened(tmp_path, model) as vault:
        vault.views.wait()
        assert len(vectors_of(vault)) == 300
        assert len([text for text in model.texts if "turn" in text]) <= 300 - int(step)
        vault.connection.verify()


def embed_all(folder: str) -> int:
    model = Model()
    with opened(Path(folder), model) as vault:
        vault.views.wait()
        return len([text for text in model.texts if "turn" in text])


def test_two_processes_share_the_work_and_do_it_once(tmp_path):
    with opened(tmp_path, None) as vault:
        vault.memory.record_many("mia", [Message(f"turn {number}", conversation=f"{number}") for number in range(500)])
    with started(embed_all, tmp_path) as child:
        done = [run(embed_all, tmp_path), child.end()]
    assert [one.error for one in done] == [None, None]
    assert sum(one.value for one in done) == 500
