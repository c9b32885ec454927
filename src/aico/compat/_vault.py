"""What every adapter is given: a vault, awaited or not."""

from aico.aio import AsyncVault, Bridge
from aico.errors import InvalidInput
from aico.vault import Vault


def both_sides(vault: Vault | AsyncVault) -> tuple[Vault, Bridge]:
    """The vault itself, and a bridge to await it over: its own where it has one."""
    if isinstance(vault, AsyncVault):
        return vault.sync, vault.bridge
    return vault, Bridge()


def checked_user(user: str) -> str:
    """Whom an adapter is held to. Raises InvalidInput for an empty or blank name, which must never mean everybody."""
    if not isinstance(user, str) or not user.strip():
        raise InvalidInput("a user is named, not empty or blank; nothing was done", field="user")
    return user
