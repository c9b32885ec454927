"""Recall with a reranker: it orders the best hits anew, and recall goes on without it where it fails."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import aico
from aico.ai.memory import second_look
from aico.errors import ModelUnavailable
from aico.settings import RerankerSpec
from aico.testing import PASSPHRASE, cheap_settings
from tests.ai.reranking.conftest import cross_encoder_folder as cross_encoder_folder
from tests.ai.reranking.conftest import server as server

SAID = (
    "The bicycle shop, the bicycle race, the bicycle tour: bicycle, bicycle.",
    "It is the red one, my bicycle, in the cellar.",
    "A bicycle passed.",
)
QUESTION = "Where is my red bicycle?"


class Judge:
    """Finds what holds a word relevant, and remembers what it was shown."""

    id = "judge"

    def __init__(self, word: str) -> None:
        self.word, self.shown, self.fails = word, list[list[str]](), False

    def relevances(self, question, texts):
        self.shown.append(list(texts))
        if self.fails:
            raise ModelUnavailable("the judge is ill")
        return np.array([self.word in text for text in texts], np.float32)


def vault_with(folder: Path, reranker, **settings):
    vault = aico.open(
        folder / "vault", passphrase=PASSPHRASE, settings=replace(cheap_settings(), reranker=reranker, **settings)
    )
    for number, text in enumerate(SAID):
        vault.memory.record("mia", text, conversation=f"c{number}", speaker="Mia")
    return vault


def test_a_new_vault_has_no_reranker():
    assert aico.Settings().reranker is None


def test_the_hit_that_the_model_finds_relevant_comes_first_and_says_why(tmp_path):
    with vault_with(tmp_path, Judge("passed")) as vault:
        first, *others = vault.memory.recall("mia", QUESTION)
    assert first.text == "A bicycle passed."
    assert "read with the question: 1.00" in first.why
    assert all(0 <= hit.score < 0.5 <= first.score <= 1 for hit in others)
    assert len(others) == 2


def test_where_the_model_sees_no_difference_the_order_stays(tmp_path):
    with vault_with(tmp_path, None) as vault:
        plain = [hit.id for hit in vault.memory.recall("mia", QUESTION)]
    with aico.open(
        tmp_path / "vault", passphrase=PASSPHRASE, settings=replace(cheap_settings(), reranker=Judge(""))
    ) as vault:
        assert [hit.id for hit in vault.memory.recall("mia", QUESTION)] == plain


def test_a_relevant_memory_beyond_the_limit_is_found(tmp_path):
    with vault_with(tmp_path, Judge("passed")) as vault:
        assert [hit.text for hit in vault.memory.recall("mia", QUESTION, limit=1)] == ["A bicycle passed."]


def test_no_more_than_the_depth_is_read_and_the_others_follow_in_their_order(tmp_path):
    judge = Judge("no such word")
    with vault_with(tmp_path, judge, reranker_depth=2) as vault:
        hits = vault.memory.recall("mia", QUESTION)
    assert [len(texts) for texts in judge.shown] == [2]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert len(hits) == 3


def test_the_model_is_shown_who_said_a_text(tmp_path):
    judge = Judge("")
    with vault_with(tmp_path, judge) as vault:
        vault.memory.recall("mia", QUESTION)
    assert all(text.startswith("Mia: ") for text in judge.shown[0])


def test_a_model_that_fails_leaves_recall_as_it_is_and_is_left_alone_for_a_while(tmp_path, monkeypatch):
    judge = Judge("passed")
    with vault_with(tmp_path, judge) as vault:
        judge.fails = True
        assert len(vault.memory.recall("mia", QUESTION)) == 3
        assert len(vault.memory.recall("mia", QUESTION)) == 3
        assert len(judge.shown) == 1
        assert next(found for found in vault.doctor() if found.name == "reranker").ok is False
        judge.fails = False
        monkeypatch.setattr(second_look, "RETRY_S", 0.0)
        assert next(found for found in vault.doctor() if found.name == "reranker").ok is True
        assert vault.memory.recall("mia", QUESTION)[0].text == "A bicycle passed."


@pytest.mark.parametrize("answer", [[1.0], "high", [np.nan] * 3, None])
def test_an_answer_that_orders_nothing_is_as_if_there_were_none(tmp_path, answer):
    judge = Judge("passed")
    judge.relevances = lambda question, texts: answer
    with vault_with(tmp_path, judge) as vault:
        assert len(vault.memory.recall("mia", QUESTION)) == 3


def test_score_min_counts_the_score_after_the_second_look(tmp_path):
    with vault_with(tmp_path, Judge("passed")) as vault:
        assert [hit.text for hit in vault.memory.recall("mia", QUESTION, score_min=0.5)] == ["A bicycle passed."]


def test_a_cross_encoder_in_a_folder_reads_the_hits(tmp_path, cross_encoder_folder):
    with vault_with(tmp_path, RerankerSpec(kind="onnx", model=str(cross_encoder_folder))) as vault:
        assert vault.memory.recall("mia", QUESTION)[0].text == SAID[1]
        assert next(found for found in vault.doctor() if found.name == "reranker").ok


def test_a_server_reads_the_hits(tmp_path, server):
    server.answer = lambda body: {
        "results": [
            {"index": place, "relevance_score": float("passed" in text)} for place, text in enumerate(body["documents"])
        ]
    }
    spec = RerankerSpec(kind="http", model="m", url=server.address)
    with vault_with(tmp_path, spec) as vault:
        assert vault.memory.recall("mia", QUESTION)[0].text == "A bicycle passed."
    assert server.asked[0][1]["query"] == QUESTION
