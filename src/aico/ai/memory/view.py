"""What every view of the truth can do: say how far behind it is, read on, and let go of what was forgotten."""

from collections.abc import Iterable
from typing import Protocol


class View(Protocol):
    """Derived from the truth; deleting it costs time, never a memory. Any thread may use it.

    A view may lag; it reads on from the change it had reached before it answers, so it never contradicts the truth.
    """

    @property
    def name(self) -> str:
        """What `aico status` and `aico doctor` call it."""
        ...

    @property
    def trouble(self) -> str:
        """Why it cannot be used at the moment and the truth answers in its place; empty while all is well."""
        ...

    def lag(self) -> int:
        """How many changes it has not read yet, in this process."""
        ...

    def catch_up(self) -> None:
        """Read every change committed before the call."""
        ...

    def drop(self) -> None:
        """Let go of everything, here and on the disk; it is made anew from the truth. Raises StorageError."""
        ...

    def erase(self, user_id: bytes, ids: Iterable[bytes]) -> None:
        """Let go of forgotten rows now. Called after the truth let go of them; ids it does not hold are ignored."""
        ...

    def holds_any(self, user_id: bytes, ids: Iterable[bytes]) -> bool:
        """Whether anything of one of these rows is left in it."""
        ...
