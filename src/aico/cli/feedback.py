"""`aico feedback`: what a person thinks of it all."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from aico.cli._options import Call, Count, common, moment_option, text_option, user_option, writing_user_option
from aico.cli._show import answer, console, day_and_time, number_of, printable, say
from aico.cli._unlock import FIRST_USER, chosen_user, opened

if TYPE_CHECKING:
    from aico.data.feedback import FeedbackEvent

_KIND = click.Choice(("signal", "action", "rating", "survey"))


@click.group(invoke_without_command=True)
@click.pass_context
def feedback(context: click.Context) -> None:
    """Say what you think of it all, and see what you said.

    Feedback about a memory is forgotten together with it.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@feedback.command()
@click.argument("kind", type=_KIND)
@click.argument("category")
@click.option("--value", type=float, metavar="NUMBER", help="Of a rating or an answer.")
@click.option("--message", metavar="ID", help="The message it is about.")
@click.option("--fact", metavar="ID", help="Or the fact.")
@click.option("--hit", metavar="ID", help="Or what a recall brought.")
@click.option("--conversation", metavar="NAME", help="Or the conversation.")
@text_option("--payload", help="A JSON object with more; - reads it from standard input.")
@click.option("--sensitive", is_flag=True, help="It never leaves this device: no export, no other device has it.")
@moment_option("--at", help="When it was. Default: now.")
@writing_user_option
@common
def record(
    call: Call,
    *,
    kind: str,
    category: str,
    value: float | None,
    message: str | None,
    fact: str | None,
    hit: str | None,
    conversation: str | None,
    payload: str | None,
    sensitive: bool,
    at: datetime | None,
    user: str | None,
) -> None:
    """Keep one event.

    CATEGORY says in your words what it is about: message_quality, tone, thumbs_up.
    """
    from aico.data.json_values import json_or_text

    read = None if payload is None else json_or_text(payload)
    with opened(call.home) as vault:
        event = vault.feedback.record(
            chosen_user(vault, user, first=FIRST_USER),
            kind,
            category,
            message=message,
            fact=fact,
            hit=hit,
            conversation=conversation,
            value=value,
            payload=read,
            is_sensitive=sensitive,
            at=at,
        )
    answer({"id": event}, lambda: say(f"Kept: {event}"), as_json=call.as_json)


@feedback.command()
@click.option("--kind", type=_KIND, help="Only of this kind.")
@click.option("--category", metavar="TEXT", help="Only of this category.")
@click.option("--about", metavar="ID", help="Only about this message, fact, hit or conversation.")
@moment_option("--since", help="From this moment on.")
@moment_option("--until", help="Before this moment.")
@click.option("--limit", type=Count(min=1), default=20, show_default=True, help="How many at most.")
@user_option
@common
def ls(
    call: Call,
    *,
    kind: str | None,
    category: str | None,
    about: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    user: str | None,
) -> None:
    """List events, newest first."""
    from dataclasses import asdict

    with opened(call.home) as vault:
        found = vault.feedback.list(
            chosen_user(vault, user), kind=kind, category=category, about=about, since=since, until=until, limit=limit
        )
    answer({"events": [asdict(event) for event in found]}, lambda: _show_events(found), as_json=call.as_json)


@feedback.command()
@moment_option("--since", help="From this moment on.")
@moment_option("--until", help="Before this moment.")
@user_option
@common
def stats(call: Call, *, since: datetime | None, until: datetime | None, user: str | None) -> None:
    """Count events by kind and category, with the mean of their values."""
    from dataclasses import asdict

    with opened(call.home) as vault:
        found = vault.feedback.stats(chosen_user(vault, user), since=since, until=until)

    def show() -> None:
        if not found:
            say("There is no feedback yet.", err=True)
        for stat in found:
            mean = "" if stat.value_mean is None else f", mean {stat.value_mean:.2f}"
            console().print(printable(f"{stat.kind} {stat.category}: {number_of(stat.count, 'event')}{mean}"))

    answer({"stats": [asdict(stat) for stat in found]}, show, as_json=call.as_json)


@feedback.command()
@click.argument("id")
@user_option
@common
def rm(call: Call, *, id: str, user: str | None) -> None:
    """Delete one event."""
    with opened(call.home) as vault:
        vault.feedback.delete(chosen_user(vault, user), id)
    answer({"id": id}, lambda: say("The event is deleted."), as_json=call.as_json)


def _show_events(found: "Sequence[FeedbackEvent]") -> None:
    if not found:
        say("There is no feedback yet.", err=True)
    for event in found:
        value = "" if event.value is None else f" {event.value:g}"
        about = "" if event.subject is None else f" of {event.subject} {event.subject_id}"
        kept = ", stays on this device" if event.is_sensitive else ""
        line = f"{day_and_time(event.at)}  {event.kind} {event.category}{value}{about}{kept}  {event.id}"
        console().print(printable(line), soft_wrap=True)
