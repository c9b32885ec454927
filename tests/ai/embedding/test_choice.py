"""The settings name a model; nothing is loaded, asked or fetched for that."""

import sys
from types import ModuleType

import numpy as np
import pytest

from aico.ai.embedding import fastembed as by_name
from aico.ai.embedding.choice import chosen_embedder
from aico.ai.embedding.fastembed import FastembedEmbedder, require_fastembed
from aico.errors import InvalidInput, MissingExtra, ModelUnavailable
from aico.settings import EmbedderSpec, Settings
from aico.testing import HashEmbedder, cheap_settings


@pytest.mark.parametrize("nothing", [None, "none"])
def test_none_means_by_words_alone(nothing):
    assert chosen_embedder(Settings(embedder=nothing)) is None


def test_a_cheap_vault_has_no_model_unless_one_is_given():
    given = HashEmbedder()
    assert chosen_embedder(cheap_settings()) is None
    assert chosen_embedder(cheap_settings(embedder=given)) is given


def test_the_default_models_name_chooses_it_whether_it_is_installed_or_not(monkeypatch):
    monkeypatch.setattr("aico.ai.embedding.choice.find_weights", lambda: None)
    embedder = chosen_embedder(Settings(embedder="multilingual-e5-small"))
    assert embedder.id == "multilingual-e5-small/q4"
    assert chosen_embedder(Settings(embedder="auto")) is None


def test_a_described_model_gets_its_address_and_the_key_from_the_environment(monkeypatch, server):
    monkeypatch.setenv("SOME_KEY", "the key")
    server.answer = lambda body: {"data": [{"index": 0, "embedding": [3, 4]}]}
    spec = EmbedderSpec(kind="openai", model="m", url=f"{server.address}/v1", api_key_env="SOME_KEY", window=300)
    embedder = chosen_embedder(Settings(embedder=spec))
    assert (embedder.id, embedder.window) == ("openai/m", 300)
    assert np.allclose(embedder.embed(["x"]), [[0.6, 0.8]])
    path, _, headers = server.asked[0]
    assert path == "/v1/embeddings"
    assert headers["Authorization"] == "Bearer the key"


def test_ollama_is_on_this_machine_unless_an_address_is_given():
    embedder = chosen_embedder(Settings(embedder=EmbedderSpec(kind="ollama", model="paraphrase-multilingual")))
    assert embedder.id == "ollama/paraphrase-multilingual"


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "telepathy", "model": "m"},
        {"kind": "openai", "model": "m"},
        {"kind": "ollama", "model": " "},
        {"kind": "ollama", "model": "m", "url": "ftp://host"},
        {"kind": "ollama", "model": "m", "url": "http://me:secret@host"},
        {"kind": "ollama", "model": "m", "api_key_env": "sk-not-a-name"},
        {"kind": "ollama", "model": "m", "window": 3},
        {"kind": "fastembed", "model": "m", "url": "http://host"},
    ],
)
def test_a_description_that_cannot_be_is_refused(wrong):
    with pytest.raises(InvalidInput) as raised:
        EmbedderSpec(**wrong)
    assert raised.value.field
    assert "sk-not-a-name" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_fastembed_is_asked_for_by_its_install_line(monkeypatch):
    monkeypatch.setattr(by_name, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra) as raised:
        require_fastembed()
    assert "aico[fastembed]" in raised.value.hint
    with pytest.raises(ModelUnavailable) as unavailable:
        FastembedEmbedder().embed(["x"])
    assert "aico[fastembed]" in unavailable.value.hint


def test_fastembed_gives_unit_vectors_and_is_loaded_once(monkeypatch):
    made = []

    class TextEmbedding:
        def __init__(self, name, threads):
            made.append((name, threads))

        def embed(self, texts):
            return (np.array([len(text), 1.0]) for text in texts)

    package = ModuleType("fastembed")
    package.TextEmbedding = TextEmbedding
    monkeypatch.setitem(sys.modules, "fastembed", package)
    monkeypatch.setattr(by_name, "find_spec", lambda _: object())
    spec = EmbedderSpec(kind="fastembed", model="paraphrase-multilingual-MiniLM-L12-v2")
    embedder = chosen_embedder(Settings(embedder=spec))
    assert made == []
    assert embedder.dimension == 2
    assert np.allclose(embedder.embed(["abc"]), [[3, 1]] / np.sqrt(10))
    assert made == [("sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2", 1)]


def test_a_model_that_fastembed_does_not_know_is_unavailable(monkeypatch):
    package = ModuleType("fastembed")
    package.TextEmbedding = lambda name, threads: (_ for _ in ()).throw(ValueError(name))
    monkeypatch.setitem(sys.modules, "fastembed", package)
    monkeypatch.setattr(by_name, "find_spec", lambda _: object())
    with pytest.raises(ModelUnavailable):
        FastembedEmbedder("nobody/knows").embed(["x"])
