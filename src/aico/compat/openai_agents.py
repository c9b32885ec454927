"""The history of an agent's conversation, kept sealed: `AicoSession` where the OpenAI Agents SDK takes a session.

from aico.compat.openai_agents import AicoSession

with aico.open(passphrase="…") as companion:
    await Runner.run(agent, "Hello!", session=AicoSession("chat-1", companion, user="mia"))
"""

from typing import TYPE_CHECKING, Any, cast

from aico.aio import AsyncVault
from aico.compat._vault import both_sides, checked_user
from aico.vault import Vault

if TYPE_CHECKING:
    from agents.items import TResponseInputItem
    from agents.memory import SessionSettings

ROOT = "openai-agents"
"""The first label of every namespace of ours in `vault.items`."""


class AicoSession:
    """The SDK's `Session` protocol over one person's part of a vault. Any event loop may use it.

    Items come back exactly as they were added, in their order; a call is done whole or not at all, also when it is
    cancelled. Several sessions and programs may share a vault. Closing it is the caller's. Raises as `vault.items`.
    """

    def __init__(
        self,
        session_id: str,
        vault: Vault | AsyncVault,
        *,
        user: str,
        session_settings: "SessionSettings | None" = None,
    ) -> None:
        sync, self._bridge = both_sides(vault)
        self._items, self._user, self._place = sync.items, checked_user(user), (ROOT, session_id)
        self.session_id, self.session_settings = session_id, session_settings

    async def get_items(self, limit: int | None = None) -> "list[TResponseInputItem]":
        """The last `limit` items, the oldest first; all of them if neither it nor the settings name a limit."""
        if limit is None and self.session_settings is not None:
            limit = self.session_settings.limit
        if limit is not None and limit <= 0:
            return []
        kept = await self._bridge.run(self._items.last, self._user, self._place, limit)
        return [cast("TResponseInputItem", item.value) for item in kept]

    async def add_items(self, items: "list[TResponseInputItem]") -> None:
        """Keep some items behind the others, all or none."""
        if items:
            await self._bridge.run(self._items.append, self._user, self._place, cast("list[Any]", items))

    async def pop_item(self) -> "TResponseInputItem | None":
        """Remove the last item and return it; None if there is none."""
        item = await self._bridge.run(self._items.pop, self._user, self._place)
        return None if item is None else cast("TResponseInputItem", item.value)

    async def clear_session(self) -> None:
        """Remove every item of this session, and of no other."""
        await self._bridge.run(self._items.clear, self._user, self._place)
