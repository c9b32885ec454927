"""The views of the truth and how far behind it each is. A view may lag; it reads on before it answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aico.ai.memory.embedding import Embeddings
from aico.ai.memory.view import View


@dataclass(frozen=True, slots=True)
class ViewStatus:
    """One view: `lag` is how many changes it has not read yet, in this process; of embeddings, how many memories wait.

    `trouble` says why it cannot be used.
    """

    name: str
    lag: int
    trouble: str = ""


class Views:
    """Everything that is derived from the truth and can be deleted at any time."""

    def __init__(self, views: Sequence[View], *, embeddings: Embeddings) -> None:
        self._views, self._embeddings = views, embeddings

    def __iter__(self) -> Iterator[View]:
        """The views themselves, embeddings aside, which are rows of the truth."""
        return iter(self._views)

    def status(self) -> list[ViewStatus]:
        """Each view's lag now; that of the embeddings where a model is chosen."""
        found = [ViewStatus(view.name, view.lag(), view.trouble) for view in self._views]
        if self._embeddings.model is not None:
            found.append(ViewStatus(self._embeddings.name, self._embeddings.lag()))
        return found

    def wait(self, timeout_s: float | None = None) -> None:
        """Return once all that was committed before the call has its vectors, and every view in this process has read it.

        This thread lends a hand. Raises Busy, which says how far it is, when the vectors take longer than `timeout_s`
        seconds; ModelUnavailable when there can be none. All is found by its words then.
        """
        try:
            self._embeddings.catch_up(timeout_s=timeout_s)
        finally:
            for view in self._views:
                view.catch_up()
