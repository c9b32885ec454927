"""`aico unlock`, `aico lock`: a vault that asks for nothing on this machine for some minutes, by way of its keyring."""

import re
from typing import Any

import click

from aico.cli._options import Call, common
from aico.cli._show import answer, number_of, say
from aico.cli._unlock import opened

_SECONDS = {"s": 1, "m": 60, "h": 3600}


class Span(click.ParamType[int]):
    """A length of time such as 90s, 15m or 2h, in seconds."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # as typed
        found = re.fullmatch(r"([0-9]{1,6})([smh])", value) if isinstance(value, str) else None
        if found is None:
            self.fail("expected a length of time such as 90s, 15m or 2h", param, ctx)
        return int(found[1]) * _SECONDS[found[2]]


@click.command()
@click.option(
    "--for", "ttl_s", type=Span(), default="15m", show_default=True, metavar="SPAN", help="90s, 15m, 2h; 12h at most."
)
@common
def unlock(call: Call, *, ttl_s: int) -> None:
    """Leave the vault unlocked on this machine for some minutes.

    A secret that is good for this time alone goes into the machine's keyring; no key is written anywhere. Programs of
    yours can open the vault meanwhile. `aico lock` ends it.
    """
    from aico.vault import lock_vault

    lock_vault(call.home)  # or a session would prolong itself for ever
    with opened(call.home) as vault:
        vault.keys.leave_unlocked(ttl_s)
    answer(
        {"unlocked_for_s": ttl_s},
        lambda: say(f"Unlocked for {_long(ttl_s)}. `aico lock` ends it."),
        as_json=call.as_json,
    )


@click.command()
@common
def lock(call: Call) -> None:
    """Lock what `aico unlock` left unlocked.

    A keyring slot stays: `aico keys remove` takes it away.
    """
    from aico.vault import lock_vault

    ended = lock_vault(call.home)
    answer(
        {"locked": True, "was_unlocked": ended},
        lambda: say("Locked." if ended else "It was locked already."),
        as_json=call.as_json,
    )


def _long(span_s: int) -> str:
    """A length of time as people say it, such as "1 minute and 30 seconds"."""
    minutes, seconds = divmod(span_s, 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "hour"), (minutes, "minute"), (seconds, "second")]
    return " and ".join(number_of(count, what) for count, what in parts if count)
