"""Which embedding model a vault uses."""

import os
from importlib.util import find_spec

from aico.ai.embedding import Embedder
from aico.ai.embedding.weights import find_weights, installed_place
from aico.settings import DEFAULT_MODEL, EmbedderSpec, Settings

OLLAMA_URL = "http://localhost:11434"


def chosen_embedder(settings: Settings) -> Embedder | None:
    """The model that the settings name; None where memories are found by their words alone.

    Loads nothing and asks nobody: a model that turns out to be missing raises ModelUnavailable when it is first used.
    """
    match settings.embedder:
        case None | "none":
            return None
        case "auto":
            return _default_model() if can_run_default_model() else None
        case str():
            return _default_model()
        case EmbedderSpec() as spec:
            return _described(spec)
        case embedder:
            return embedder


def can_run_default_model() -> bool:
    """Whether its weights and the packages that run them are installed."""
    return find_weights() is not None and all(find_spec(name) for name in ("onnxruntime", "sentencepiece"))


def _default_model() -> Embedder:
    from aico.ai.embedding.e5 import NAME, E5Embedder

    assert NAME == DEFAULT_MODEL
    return E5Embedder(find_weights() or installed_place())


def _described(spec: EmbedderSpec) -> Embedder:
    if spec.kind == "fastembed":
        from aico.ai.embedding.fastembed import FastembedEmbedder

        return FastembedEmbedder(spec.model, window=spec.window)

    from aico.ai.embedding.served import OllamaEmbedder, OpenAIEmbedder
    from aico.ai.endpoint import Endpoint

    key = os.environ.get(spec.api_key_env) if spec.api_key_env else None
    endpoint = Endpoint(spec.url or OLLAMA_URL, api_key=key)
    return (OllamaEmbedder if spec.kind == "ollama" else OpenAIEmbedder)(endpoint, spec.model, window=spec.window)
