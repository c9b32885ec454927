"""The views of the truth and how far behind it each is. A view may lag; it reads on before it answers."""

from dataclasses import dataclass

from aico.ai.memory.semantic import SemanticMemoryStore


@dataclass(frozen=True, slots=True)
class ViewStatus:
    """One view: `lag` is how many changes it has not read yet, in this process."""

    name: str
    lag: int


class Views:
    """Everything that is derived from the truth and can be deleted at any time."""

    def __init__(self, semantic: SemanticMemoryStore) -> None:
        self._semantic = semantic

    def status(self) -> list[ViewStatus]:
        """Each view's lag now."""
        return [ViewStatus("recall index", self._semantic.lag())]

    def wait(self, timeout_s: float | None = None) -> None:
        """Return once every view in this process has read all that was committed before the call.

        The recall index catches up at once, in this thread, so `timeout_s` has nothing to cut short yet.
        """
        self._semantic.catch_up()
