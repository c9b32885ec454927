"""`aico users`: who uses the companion, what is known about them, and their PINs. A PIN is never an argument."""

from typing import TYPE_CHECKING, Any

import click

from aico.cli._backups import backups_holding_forgotten, tell_of_backups
from aico.cli._options import Call, common, piped_text
from aico.cli._show import answer, number_of, say
from aico.cli._unlock import ask_hidden, can_confirm, confirmed, opened
from aico.errors import AicoError, InvalidInput, NotFound

if TYPE_CHECKING:
    from aico.data.user import UserProfile
    from aico.vault import Vault

NOT_WELL = 4
NOBODY = "00" * 16


@click.group(invoke_without_command=True)
@click.pass_context
def users(context: click.Context) -> None:
    """Know who uses the companion, and let them in.

    A PIN keeps people of one vault apart. It is no key: whoever can open the vault can read all of it.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _about(command: Any) -> Any:  # a function on its way to being a command
    for option in (
        click.option("--time-zone", metavar="ZONE", help="IANA time zone, such as Europe/Lisbon."),
        click.option("--type", "user_type", metavar="TYPE", help="What kind of user, such as parent or child."),
        click.option("--nickname", metavar="NAME", help="How the companion says the name."),
        click.option("--full-name", metavar="NAME", help="The whole name."),
    ):
        command = option(command)
    return command


@users.command()
@click.option("--active", is_flag=True, help="Leave out who was deactivated.")
@common
def ls(call: Call, *, active: bool) -> None:
    """List everyone, in the order they came."""
    with opened(call.home) as vault:
        found = vault.users.list_profiles(active_only=active)
    answer({"users": [_document(profile) for profile in found]}, lambda: _show_list(found), as_json=call.as_json)


@users.command()
@click.argument("name")
@common
def show(call: Call, *, name: str) -> None:
    """Show what is known about a person: profile, PIN, relationships."""
    from dataclasses import asdict

    with opened(call.home) as vault:
        profile = _named(vault, name)
        pin = vault.pins.get_user_authentication(profile.id)
        relationships = vault.users.get_user_relationships(profile.id)
        sessions = vault.sessions.get_user_sessions(profile.id)
    document = {
        **_document(profile),
        "pin": asdict(pin),
        "relationships": [asdict(relationship) for relationship in relationships],
        "sessions": len(sessions),
    }
    answer(document, lambda: _show_document(document), as_json=call.as_json)


@users.command()
@click.argument("name")
@_about
@common
def create(call: Call, *, name: str, **about: Any) -> None:
    """Make a person with a short name."""
    with opened(call.home) as vault:
        profile = vault.users.create_user(name, **_given(about))
    answer(_document(profile), lambda: say(f"Made {profile.name}, id {profile.id}."), as_json=call.as_json)


@users.command(name="set")
@click.argument("name")
@_about
@common
def set_(call: Call, *, name: str, **about: Any) -> None:
    """Change what is known about a person; an empty text takes it back."""
    if not _given(about):
        raise InvalidInput("nothing was named to change; the profile is as it was", hint="--help shows what can be set")
    with opened(call.home) as vault:
        profile = vault.users.update_user(_named(vault, name).id, **_given(about))
    answer(_document(profile), lambda: say(f"Changed {profile.name}."), as_json=call.as_json)


@users.command()
@click.argument("name")
@common
def deactivate(call: Call, *, name: str) -> None:
    """Let a person in no more, and record nothing new about them."""
    _switch(call, name, active=False)


@users.command()
@click.argument("name")
@common
def activate(call: Call, *, name: str) -> None:
    """Take a deactivation back."""
    _switch(call, name, active=True)


@users.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
def erase(call: Call, *, name: str, yes: bool) -> None:
    """Erase a person: everything remembered, profile, PIN, sessions, relationships.

    The name is free again. Ends with code 4 if something is left.
    """
    if not (yes or can_confirm()):
        raise InvalidInput("erasing was not confirmed; nothing was erased", hint="add --yes")
    with opened(call.home) as vault:
        profile = _named(vault, name)
        if not yes and not confirmed("Erase this person and all their memories for good?"):
            raise AicoError("not confirmed; nothing was erased")
        erased = vault.erase_user(profile.name)
        verified = erased.verify()
        backups = backups_holding_forgotten(vault)
    receipt = erased.receipt
    document = {
        "id": profile.id,
        "messages": len(receipt.messages),
        "facts": len(receipt.facts),
        "removed": receipt.removed | erased.removed,
        "log_cleared": erased.log_cleared,
        "verified": verified,
        "backups": backups,
    }
    counted = f"{number_of(len(receipt.messages), 'message')} and {number_of(len(receipt.facts), 'fact')}"
    looked = "✓ Looked again: nothing is left." if verified else "✗ Looked again: something is left. Run it again."

    def show() -> None:
        say(f"Erased, with {counted}.\n{looked}")
        tell_of_backups(backups)

    answer(document, show, as_json=call.as_json)
    click.get_current_context().exit(0 if verified else NOT_WELL)


@users.command(name="set-pin")
@click.argument("name")
@click.option("--forgotten", is_flag=True, help="The old one is forgotten and not asked for, as the vault's owner may.")
@common
def set_pin(call: Call, *, name: str, forgotten: bool) -> None:
    """Give a person a PIN or passphrase, or another one.

    Asked for unseen; without a terminal standard input has it, the old one on a line before it where there is one.
    """
    with opened(call.home) as vault:
        profile = _named(vault, name)
        has_pin = vault.pins.get_user_authentication(profile.id).has_pin
        if forgotten:
            vault.pins.reset_pin(profile.id, _asked_new())
        else:
            old, new = _asked_change(has_pin=has_pin)
            vault.pins.set_pin(profile.id, new, old_pin=old)
    answer(
        {"id": profile.id, "has_pin": True},
        lambda: say("The PIN is set; all sessions have ended."),
        as_json=call.as_json,
    )


@users.command(name="check-pin")
@click.argument("name")
@common
def check_pin(call: Call, *, name: str) -> None:
    """Check a PIN, as a login does. Ends with code 10 if it is wrong or locked.

    Asked for unseen; without a terminal standard input has it.
    """
    with opened(call.home) as vault:
        profile = vault.users.find_by_name(name)
        pin = ask_hidden("PIN: ") if can_confirm() else piped_text()
        vault.pins.authenticate_user(NOBODY if profile is None else profile.id, pin)
    answer({"authenticated": True}, lambda: say("✓ This is the PIN."), as_json=call.as_json)


@users.command()
@click.argument("name")
@common
def unlock(call: Call, *, name: str) -> None:
    """End a lockout after wrong PINs."""
    with opened(call.home) as vault:
        vault.pins.unlock_user(_named(vault, name).id)
    answer({"locked": False}, lambda: say("Unlocked."), as_json=call.as_json)


@users.command()
@click.argument("name")
@click.option("--revoke", metavar="ID", help="End this session.")
@click.option("--revoke-all", is_flag=True, help="End all of them.")
@common
def sessions(call: Call, *, name: str, revoke: str | None, revoke_all: bool) -> None:
    """List a person's live sessions, or end them."""
    from dataclasses import asdict

    with opened(call.home) as vault:
        user_id = _named(vault, name).id
        live = vault.sessions.get_user_sessions(user_id)
        if revoke is not None and revoke not in {session.id for session in live}:
            raise NotFound("this user has no live session of this id; nothing was ended")
        if revoke_all:
            vault.sessions.revoke_all_user_sessions(user_id)
        elif revoke is not None:
            vault.sessions.revoke_session(revoke)
        live = vault.sessions.get_user_sessions(user_id)
    lines = [f"{session.id}  until {session.expires_at.astimezone():%Y-%m-%d %H:%M}" for session in live]
    document = {"sessions": [asdict(session) for session in live]}
    answer(document, lambda: say("\n".join(lines) or "There are no live sessions."), as_json=call.as_json)


@users.command()
@click.argument("name")
@click.argument("related")
@click.argument("relationship")
@click.option("--remove", is_flag=True, help="Take it back.")
@common
def relate(call: Call, *, name: str, related: str, relationship: str, remove: bool) -> None:
    """Note what RELATED is to a person, such as a mother or friend."""
    with opened(call.home) as vault:
        pair = _named(vault, name).id, _named(vault, related).id
        if remove:
            vault.users.remove_relationship(*pair, relationship)
        else:
            vault.users.add_relationship(*pair, relationship)
        found = vault.users.get_user_relationships(pair[0])
    document = {"relationships": [{"name": one.related_name, "type": one.relationship_type} for one in found]}
    answer(document, lambda: say("Taken back." if remove else "Noted."), as_json=call.as_json)


def _named(vault: "Vault", name: str) -> "UserProfile":
    profile = vault.users.find_by_name(name)
    if profile is None:
        raise NotFound("there is no user of this name; nothing was changed", hint="`aico users ls` shows who there is")
    return profile


def _switch(call: Call, name: str, *, active: bool) -> None:
    with opened(call.home) as vault:
        user_id = _named(vault, name).id
        (vault.users.activate if active else vault.users.deactivate)(user_id)
    answer(
        {"id": user_id, "is_active": active}, lambda: say("Active." if active else "Deactivated."), as_json=call.as_json
    )


def _asked_change(*, has_pin: bool) -> tuple[str | None, str]:
    """The old PIN where there is one, and the new one. Raises InvalidInput."""
    if can_confirm():
        return (ask_hidden("Old PIN: ") if has_pin else None), _asked_new()
    lines = piped_text().split("\n")
    if len(lines) != 1 + has_pin:
        raise InvalidInput(
            "standard input has not as many lines as there are PINs to give; nothing was changed",
            hint="the old PIN, where there is one, then the new one, each on a line",
        )
    return (lines[0] if has_pin else None), lines[-1]


def _asked_new() -> str:
    if not can_confirm():
        return piped_text()
    new = ask_hidden("New PIN or passphrase: ")
    if new != ask_hidden("The same again: "):
        raise InvalidInput("the two were not the same; nothing was changed")
    return new


def _given(about: dict[str, Any]) -> dict[str, Any]:
    return {name: value or None for name, value in about.items() if value is not None}


def _document(profile: "UserProfile") -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(profile)


def _show_list(found: "list[UserProfile]") -> None:
    if not found:
        say("There is nobody yet.", err=True)
    for profile in found:
        active = "" if profile.is_active else "  (deactivated)"
        say(f"{profile.id}  {profile.name}  {profile.full_name or ''}{active}".rstrip())


def _show_document(document: dict[str, Any]) -> None:
    for name in ("name", "id", "full_name", "nickname", "user_type", "time_zone", "is_active"):
        if document[name] is not None:
            say(f"{name.replace('_', ' '):12} {document[name]}")
    pin = document["pin"]
    locked = "" if pin["locked_until"] is None else f", locked until {pin['locked_until'].astimezone():%Y-%m-%d %H:%M}"
    say(f"{'PIN':12} {'set' if pin['has_pin'] else 'none'}{locked}")
    for one in document["relationships"]:
        say(f"{one['relationship_type']:12} {one['related_name'] or one['related_user_id']}")
