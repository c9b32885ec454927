"""`aico devices`: the devices that share one person's memory."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from aico.cli._options import Call, common
from aico.cli._show import answer, console, day_and_time, printable, say
from aico.cli._unlock import opened

if TYPE_CHECKING:
    from aico.data.devices import Device


@click.group(invoke_without_command=True)
@click.pass_context
def devices(context: click.Context) -> None:
    """See the devices that share this memory, and which take part.

    Which come and go is in the audit log.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@devices.command()
@click.option("--active", is_flag=True, help="Only those that take part.")
@common
def ls(call: Call, *, active: bool) -> None:
    """List the devices in the order they came."""
    with opened(call.home) as vault:
        found, this = vault.devices.list(active_only=active), vault.devices.find_this()
    own = None if this is None else this.id
    document = {"devices": [_document(device, own) for device in found]}
    answer(document, lambda: _show(found, own), as_json=call.as_json)


@devices.command()
@common
def this(call: Call) -> None:
    """Show this device; it is registered under the machine's name if it is new."""
    with opened(call.home) as vault:
        device = vault.devices.ensure_this()
    answer(_document(device, device.id), lambda: _show([device], device.id), as_json=call.as_json)


@devices.command()
@click.argument("name")
@click.option("--type", "device_type", metavar="TEXT", help="Such as phone, laptop, tablet.")
@click.option("--platform", metavar="TEXT", help="Such as Android.")
@common
def add(call: Call, *, name: str, device_type: str | None, platform: str | None) -> None:
    """Take in another device."""
    with opened(call.home) as vault:
        device = vault.devices.register(name, device_type=device_type, platform=platform)
    answer(_document(device, None), lambda: say(f"{device.name} is taken in: {device.id}"), as_json=call.as_json)


@devices.command()
@click.argument("id")
@click.argument("name")
@common
def rename(call: Call, *, id: str, name: str) -> None:
    """Call a device something else."""
    with opened(call.home) as vault:
        vault.devices.rename(id, name)
    answer({"id": id, "name": name}, lambda: say(f"It is called {name} now."), as_json=call.as_json)


@devices.command()
@click.argument("id")
@common
def deactivate(call: Call, *, id: str) -> None:
    """Let a device take part no more. What came from it stays."""
    with opened(call.home) as vault:
        vault.devices.deactivate(id)
    answer({"id": id, "is_active": False}, lambda: say("It takes part no more."), as_json=call.as_json)


@devices.command()
@click.argument("id")
@common
def activate(call: Call, *, id: str) -> None:
    """Let a device take part again."""
    with opened(call.home) as vault:
        vault.devices.activate(id)
    answer({"id": id, "is_active": True}, lambda: say("It takes part again."), as_json=call.as_json)


def _document(device: "Device", own: str | None) -> dict[str, object]:
    from dataclasses import asdict

    return {**asdict(device), "is_this": device.id == own}


def _show(found: "Sequence[Device]", own: str | None) -> None:
    if not found:
        say("No device is registered yet; `aico devices this` registers this one.", err=True)
    for device in found:
        what = ", ".join(part for part in (device.device_type, device.platform) if part)
        seen = "" if device.seen_at is None else f", seen {day_and_time(device.seen_at)} UTC"
        state = "" if device.is_active else ", takes part no more"
        this = ", this one" if device.id == own else ""
        line = f"{device.name}{f' ({what})' if what else ''}{this}{state}{seen}  {device.id}"
        console().print(printable(line), soft_wrap=True)
