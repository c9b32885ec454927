"""What every adapter is given: a vault, awaited or not."""

from aico.aio import AsyncVault, Bridge
from aico.vault import Vault


def both_sides(vault: Vault | AsyncVault) -> tuple[Vault, Bridge]:
    """The vault itself, and a bridge to await it over: its own where it has one."""
    if isinstance(vault, AsyncVault):
        return vault.sync, vault.bridge
    return vault, Bridge()
