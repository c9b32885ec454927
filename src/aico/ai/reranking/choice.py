"""Which reranker a vault uses: none, unless one was named."""

import os
from pathlib import Path

from aico.ai.reranking import Reranker
from aico.settings import RerankerSpec, Settings

_TIMEOUT_S = 10.0
"""A recall waits for it: rather its own order than a minute's silence."""


def chosen_reranker(settings: Settings) -> Reranker | None:
    """The model that the settings name, or None. Loads nothing and asks nobody."""
    match settings.reranker:
        case None:
            return None
        case RerankerSpec(kind="onnx") as spec:
            from aico.ai.reranking.cross_encoder import CrossEncoder

            return CrossEncoder(Path(spec.model).expanduser(), window=spec.window)
        case RerankerSpec() as spec:
            from aico.ai.endpoint import Endpoint
            from aico.ai.reranking.served import ServedReranker

            assert spec.url is not None
            key = os.environ.get(spec.api_key_env) if spec.api_key_env else None
            return ServedReranker(Endpoint(spec.url, api_key=key, timeout_s=_TIMEOUT_S), spec.model)
        case reranker:
            return reranker
