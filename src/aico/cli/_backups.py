"""What backups still hold of what was forgotten, and the command that deletes them."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from aico.cli._show import number_of, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aico.vault import Vault


def backups_holding_forgotten(vault: "Vault") -> "Sequence[str]":
    """The names of those in the vault's own folder, oldest first."""
    return [made.path.name for made in vault.backups.list() if vault.backups.forgotten_since(made)]


def tell_of_backups(holding: "Sequence[str]") -> None:
    """After something was forgotten: that these bring it back, and how they go."""
    if holding:
        still = "still holds it" if len(holding) == 1 else "still hold it"
        say(f"! {number_of(len(holding), 'backup')} in the vault's folder {still}; {how_they_go(None)}")


def how_they_go(folder: Path | None) -> str:
    """The command that deletes what still holds something forgotten, of the backups in that folder."""
    where = "" if folder is None else f" --to {shlex.quote(str(folder))}"
    return f"`aico backup prune --forgotten{where}` deletes such backups, once a newer one stands in their place."
