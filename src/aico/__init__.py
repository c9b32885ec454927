"""The private memory of an AI companion: sealed on its person's own machine, recalled in milliseconds.

    import aico

    with aico.open(passphrase="…") as companion:
        companion.memory.record("mia", "I moved to Lisbon in May.", conversation="c1")
        for hit in companion.memory.recall("mia", "where do I live?"):
            print(hit.text, hit.score, hit.why)

Everything below is loaded when it is first used: `import aico` alone costs next to nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aico.ai.memory.context import Context as Context
    from aico.ai.memory.hits import Hit as Hit
    from aico.ai.memory.receipts import Receipt as Receipt
    from aico.data.conversations import Message as Message
    from aico.data.conversations import Moment as Moment
    from aico.settings import KdfCost as KdfCost
    from aico.settings import Settings as Settings
    from aico.vault import Vault as Vault
    from aico.vault import open_vault as open
    from aico.vault import restore_vault as restore

__version__ = "0.1.0"

_HOMES = {
    "open": ("aico.vault", "open_vault"),
    "restore": ("aico.vault", "restore_vault"),
    "Vault": ("aico.vault", "Vault"),
    "Settings": ("aico.settings", "Settings"),
    "KdfCost": ("aico.settings", "KdfCost"),
    "Message": ("aico.data.conversations", "Message"),
    "Moment": ("aico.data.conversations", "Moment"),
    "Hit": ("aico.ai.memory.hits", "Hit"),
    "Context": ("aico.ai.memory.context", "Context"),
    "Receipt": ("aico.ai.memory.receipts", "Receipt"),
}

_MODULES = ("aio", "errors", "testing")

__all__ = ["Context", "Hit", "KdfCost", "Message", "Moment", "Receipt", "Settings", "Vault", "open", "restore"]


def __getattr__(name: str) -> Any:
    """Load a public name from the module it lives in."""
    import importlib

    if name in _HOMES:
        module, attribute = _HOMES[name]
        return getattr(importlib.import_module(module), attribute)
    if name in _MODULES:
        return importlib.import_module(f"aico.{name}")
    raise AttributeError(f"module 'aico' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
