"""A cross-encoder from a folder, run by the real runtime with a real tokenizer."""

import numpy as np
import pytest

from aico.ai.reranking.cross_encoder import CrossEncoder
from aico.errors import ModelUnavailable
from tests.ai.reranking.conftest import write_cross_encoder

QUESTION = "Where is my red bicycle?"
TEXTS = ["the soup", "my red bicycle stands in the cellar", "my soup", ""]
SHARED = np.array([0, 3, 1, 0])


def logistic(logit):
    return 1 / (1 + np.exp(-logit))


def test_relevance_is_the_models_score_as_a_probability(cross_encoder_folder):
    found = CrossEncoder(cross_encoder_folder).relevances(QUESTION, TEXTS)
    assert np.allclose(found, logistic(SHARED - 0.5), atol=1e-6)
    assert found.dtype == np.float32


def test_of_two_classes_the_second_means_relevant(tmp_path):
    folder = write_cross_encoder(tmp_path / "two", classes=2)
    assert np.allclose(CrossEncoder(folder).relevances(QUESTION, TEXTS), logistic(2 * (SHARED - 0.5)), atol=1e-6)


def test_many_texts_of_all_lengths_keep_their_places(cross_encoder_folder):
    model = CrossEncoder(cross_encoder_folder)
    texts = [" ".join(["soup"] * (number * 7 % 41) + ["bicycle"] * (number % 3)) for number in range(70)]
    expected = logistic(np.array([number % 3 for number in range(70)]) - 0.5)
    assert np.allclose(model.relevances(QUESTION, texts), expected, atol=1e-6)


def test_a_text_behind_the_window_is_not_read_and_does_no_harm(cross_encoder_folder):
    model = CrossEncoder(cross_encoder_folder, window=16)
    far, near = model.relevances("my bicycle", ["soup " * 5000 + "bicycle", "bicycle " + "soup " * 5000])
    assert far < 0.5 < near


def test_nothing_is_loaded_for_no_texts(tmp_path):
    assert len(CrossEncoder(tmp_path / "nowhere").relevances("x", [])) == 0


@pytest.mark.parametrize("broken", ["model.onnx", "tokenizer.json"])
@pytest.mark.parametrize("content", [None, b"", b"no model"])
def test_a_folder_that_holds_no_model_makes_it_unavailable_and_tells_no_text(cross_encoder_folder, broken, content):
    if content is None:
        (cross_encoder_folder / broken).unlink()
    else:
        (cross_encoder_folder / broken).write_bytes(content)
    with pytest.raises(ModelUnavailable) as raised:
        CrossEncoder(cross_encoder_folder).relevances("my diary", ["a secret"])
    assert "diary" not in f"{raised.value}{raised.value.hint}"


@pytest.mark.parametrize("wrong", [{"classes": 3}, {"extra_input": True}])
def test_another_kind_of_model_is_refused(tmp_path, wrong):
    folder = write_cross_encoder(tmp_path / "other", **wrong)
    with pytest.raises(ModelUnavailable):
        CrossEncoder(folder).relevances(QUESTION, ["one", "two"])
