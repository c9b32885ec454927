"""The views of the truth and how far behind it each is. A view may lag; it reads on before it answers."""

from collections.abc import Sequence
from dataclasses import dataclass

from aico.ai.memory.view import View


@dataclass(frozen=True, slots=True)
class ViewStatus:
    """One view: `lag` is how many changes it has not read yet, in this process; `trouble` why it cannot be used."""

    name: str
    lag: int
    trouble: str = ""


class Views:
    """Everything that is derived from the truth and can be deleted at any time."""

    def __init__(self, views: Sequence[View]) -> None:
        self._views = views

    def status(self) -> list[ViewStatus]:
        """Each view's lag now."""
        return [ViewStatus(view.name, view.lag(), view.trouble) for view in self._views]

    def wait(self, timeout_s: float | None = None) -> None:
        """Return once every view in this process has read all that was committed before the call.

        Each catches up at once, in this thread, so `timeout_s` has nothing to cut short yet.
        """
        for view in self._views:
            view.catch_up()
