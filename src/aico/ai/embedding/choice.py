"""Which embedding model a vault uses."""

from aico.ai.embedding import Embedder
from aico.settings import Settings


def chosen_embedder(settings: Settings) -> Embedder | None:
    """The model that the settings name; None where memories are found by their words alone."""
    return settings.embedder
