"""Erasing a whole person: their memories, then all else that is about them, in an order that leaves nothing behind."""

from collections.abc import Callable
from dataclasses import dataclass, field

from aico.ai.memory.manager import MemoryManager
from aico.ai.memory.receipts import Receipt
from aico.data.libsql import LibSQLConnection
from aico.data.user import UserService
from aico.errors import NotFound


@dataclass(frozen=True, slots=True)
class UserErasure:
    """What was erased. It keeps ids and counts."""

    receipt: Receipt
    """Of the memories."""
    removed: dict[str, int]
    """Other rows removed, by table."""
    log_cleared: bool
    """Whether no page image of before is left in the write-ahead log."""
    _is_gone: Callable[[], bool] = field(repr=False, compare=False)

    def verify(self) -> bool:
        """Look again: true if neither a memory nor the profile is left."""
        return self.receipt.verify() and self._is_gone()


def erase_user(name: str, *, memory: MemoryManager, users: UserService, connection: LibSQLConnection) -> UserErasure:
    """Deactivate, forget everything, erase the profile. After a crash between two steps it may be called again."""
    profile = users.find_by_name(name)
    if profile is None:
        raise NotFound("there is no user of this name; nothing was erased")
    users.deactivate(profile.id)  # another process records nothing more between the two steps that follow
    receipt = memory.forget(name, everything=True)
    removed = users.erase(profile.id)

    def is_gone() -> bool:
        return not connection.fetch_one("SELECT 1 FROM users WHERE id = ?", (bytes.fromhex(profile.id),))

    return UserErasure(receipt, removed, connection.clear_log(), is_gone)
