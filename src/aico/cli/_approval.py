"""A person's yes to settings that let memories out or guard them less: `aico.approval` says which and why."""

from pathlib import Path

import click

from aico.cli._show import say
from aico.cli._unlock import can_confirm, confirmed, opened
from aico.errors import InvalidInput


def approve_settings(home: Path | None, *, yes: bool) -> list[str]:
    """Show what the vault's settings weaken and note the yes to it; what was approved.

    Raises InvalidInput where nobody can be asked and `yes` is not given, Abort for a no, and as `aico.open`.
    """
    from aico.approval import weakened_by
    from aico.settings import load_settings, vault_folder

    settings = load_settings(vault_folder(home))  # once: what is shown is what is said yes to
    weakened = weakened_by(settings)
    for sentence in weakened:
        click.echo(f"- {sentence}", err=True)
    if weakened and not yes:
        if not can_confirm():
            raise InvalidInput("nobody is here to say yes; nothing was changed", hint="--yes")
        if not confirmed("Do you want that?"):
            raise click.Abort
    if weakened:
        opened(home, settings=settings, approve_settings=True).close()
    return weakened


def needing_approval(home: Path | None) -> list[str]:
    """After a setting was written: what the vault, if it is made, needs a yes to before it opens, unless it has it."""
    from aico.approval import weakened_by
    from aico.settings import load_settings, vault_folder
    from aico.vault_folder import VAULT_FILE

    folder = vault_folder(home)
    return weakened_by(load_settings(folder)) if (folder / VAULT_FILE).exists() else []


def tell_of_approval(needing: list[str]) -> None:
    """That the vault is shut until somebody says yes to these."""
    if needing:
        say("Unless you did so before, say yes to it: `aico config approve`. The vault does not open until then.")
