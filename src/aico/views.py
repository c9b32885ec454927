"""The views of the truth and how far behind it each is. A view may lag; it reads on before it answers."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aico.ai.memory.embedding import Embeddings
from aico.ai.memory.view import View
from aico.data.change_feed import ChangeFeed, Changes
from aico.errors import NotFound

LOOK_EVERY_S = 0.025
"""How often `watch` looks: 50 ms would sometimes be missed with 50, and one look costs some 6 µs."""


@dataclass(frozen=True, slots=True)
class ViewStatus:
    """One view: `lag` is how many changes it has not read yet, in this process; of embeddings, how many memories wait.

    `trouble` says why it cannot be used.
    """

    name: str
    lag: int
    trouble: str = ""


class Views:
    """Everything that is derived from the truth and can be deleted at any time.

    >>> _ = vault.memory.record("mia", "Good morning.", conversation="today")
    >>> for changes in vault.views.watch(after=0, timeout_s=0):
    ...     print(dict(changes.tables))
    {'conversations': 1, 'messages': 1, 'users': 1}
    """

    def __init__(self, views: Sequence[View], *, embeddings: Embeddings, feed: ChangeFeed) -> None:
        self._views, self._embeddings, self._feed = views, embeddings, feed

    def __iter__(self) -> Iterator[View]:
        """The views themselves, embeddings aside, which are rows of the truth."""
        return iter(self._views)

    def status(self) -> list[ViewStatus]:
        """Each view's lag now; that of the embeddings where a model is chosen.

        >>> vault.views.wait()
        >>> [(view.name, view.lag) for view in vault.views.status() if view.name == "recall index"]
        [('recall index', 0)]
        """
        found = [ViewStatus(view.name, view.lag(), view.trouble) for view in self._views]
        if self._embeddings.model is not None:
            found.append(ViewStatus(self._embeddings.name, self._embeddings.lag()))
        return found

    def get(self, name: str) -> View:
        """A view by its name, with a hyphen in the place of a space too. Raises NotFound.

        >>> vault.views.get("hot-tier").lag()
        0
        """
        for view in self._views:
            if name in (view.name, view.name.replace(" ", "-")):
                return view
        raise NotFound(
            "there is no view of this name", hint=f"there are: {', '.join(view.name for view in self._views)}"
        )

    def rebuild(self, name: str) -> None:
        """Let one view go, in memory and on the disk, and make it anew from the truth. Raises NotFound, StorageError.

        Costs time, never a memory. Others answer meanwhile; what is only made when it is asked for waits for that.

        >>> vault.views.rebuild("recall index")
        >>> [hit.text for hit in vault.memory.recall("mia", "Lisbon", kinds=("message",))]
        ['I moved to Lisbon in May.']
        """
        view = self.get(name)
        view.drop()
        view.catch_up()

    def wait(self, timeout_s: float | None = None) -> None:
        """Return once all that was committed before the call has its vectors, and every view in this process has read it.

        This thread lends a hand. Raises Busy, which says how far it is, when the vectors take longer than `timeout_s`
        seconds; ModelUnavailable when there can be none. All is found by its words then.

        >>> _ = vault.memory.record("mia", "It rains.", conversation="today")
        >>> vault.views.wait(timeout_s=60)
        >>> {view.lag for view in vault.views.status()}
        {0}
        """
        try:
            self._embeddings.catch_up(timeout_s=timeout_s)
        finally:
            for view in self._views:
                view.catch_up()

    def watch(self, *, after: int | None = None, timeout_s: float | None = None) -> Iterator[Changes]:
        """What is committed from now on (or after change number `after`), by any process, within some 25 ms.

        Ends after `timeout_s` seconds, else when the caller stops asking. For what shows the memory while it changes;
        whoever asks gets a current answer without it.

        >>> changes = vault.views.watch(after=0, timeout_s=0)
        >>> next(changes).tables["messages"]
        1
        """
        seen = self._feed.newest() if after is None else after
        deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        while True:
            newest = self._feed.newest()
            if newest != seen:
                changes = self._feed.between(seen, newest)
                seen = newest
                yield changes
            if (left := deadline - time.monotonic()) <= 0:
                return
            time.sleep(min(LOOK_EVERY_S, left))
