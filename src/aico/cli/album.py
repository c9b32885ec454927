"""`aico album`: what was said and kept, by day, with what the person marked it with."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from aico.cli._options import Call, Count, common, moment_option, text_option, user_option
from aico.cli._show import answer, console, day_and_time, number_of, print_indented, say
from aico.cli._unlock import chosen_user, opened
from aico.errors import InvalidInput

if TYPE_CHECKING:
    from aico.data.album import KeptMoment


@click.group()
def album() -> None:
    """Turn the pages: by day, by tag, by what you marked.

    Marks go on messages and facts alike.
    """


@album.command()
@click.option("--by", type=click.Choice(["day", "month"]), default="day", show_default=True, help="How fine.")
@moment_option("--since", help="Only from this moment on.")
@moment_option("--until", help="Only before this moment.")
@user_option
@common
def timeline(call: Call, *, by: str, since: datetime | None, until: datetime | None, user: str | None) -> None:
    """Show which days or months hold something."""
    with opened(call.home) as vault:
        spans = vault.album.timeline(
            chosen_user(vault, user), by="month" if by == "month" else "day", since=since, until=until
        )

    def show() -> None:
        for span in spans:
            day = f"{span.start:%Y-%m}" if by == "month" else f"{span.start}"
            say(f"{day}  {number_of(span.messages, 'message')}, {number_of(span.facts, 'fact')}")

    found = [{"start": span.start, "messages": span.messages, "facts": span.facts} for span in spans]
    answer({"timeline": found}, show, as_json=call.as_json)


@album.command()
@click.option("--conversation", metavar="NAME", help="Only of this conversation.")
@click.option("--favourites", is_flag=True, help="Only favourites.")
@click.option("--tag", help="Only with this tag.")
@moment_option("--since", help="Only what was said from this moment on.")
@moment_option("--until", help="Only what was said before this moment.")
@click.option("--limit", type=Count(min=1), default=50, show_default=True, help="How many at most.")
@click.option("--offset", type=Count(min=0), default=0, help="How many to pass over.")
@user_option
@common
def ls(
    call: Call,
    *,
    conversation: str | None,
    favourites: bool,
    tag: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    offset: int,
    user: str | None,
) -> None:
    """Show messages with their marks, newest first."""
    from dataclasses import asdict

    with opened(call.home) as vault:
        found = vault.album.messages(
            chosen_user(vault, user),
            conversation=conversation,
            favourite=True if favourites else None,
            tag=tag,
            since=since,
            until=until,
            limit=limit,
            offset=offset,
        )
    answer({"messages": [asdict(one) for one in found]}, lambda: _show(found), as_json=call.as_json)


@album.command()
@user_option
@common
def tags(call: Call, *, user: str | None) -> None:
    """Show every tag in use."""
    with opened(call.home) as vault:
        found = vault.album.tags(chosen_user(vault, user))

    def show() -> None:
        for one in found:
            say(f"#{one.name}  {one.count:,}")

    answer({"tags": [{"tag": one.name, "count": one.count} for one in found]}, show, as_json=call.as_json)


@album.command()
@click.argument("id")
@click.option("--favourite/--no-favourite", default=None, help="Make it a favourite, or one no longer.")
@text_option("--note", help="A note beside it; an empty one takes it away, - reads it from standard input.")
@click.option("--tone", help="The feeling that goes with it; an empty one takes it away.")
@click.option("--tag", "tags", multiple=True, help="Put this tag on it; may be repeated.")
@click.option("--untag", "untags", multiple=True, help="Take this tag off it; may be repeated.")
@click.option("--visit", is_flag=True, help="Note that you came back to it.")
@user_option
@common
def mark(
    call: Call,
    *,
    id: str,
    favourite: bool | None,
    note: str | None,
    tone: str | None,
    tags: tuple[str, ...],
    untags: tuple[str, ...],
    visit: bool,
    user: str | None,
) -> None:
    """Mark a message or fact."""
    if favourite is None and note is None and tone is None and not (tags or untags or visit):
        raise InvalidInput("nothing was said to mark it with; nothing was changed", hint="see `aico album mark --help`")
    with opened(call.home) as vault:
        name, kept = chosen_user(vault, user), vault.album
        with vault.connection.transaction():
            if favourite is not None:
                kept.favourite(name, id, on=favourite)
            if note is not None:
                kept.note(name, id, note or None)
            if tone is not None:
                kept.tone(name, id, tone or None)
            kept.tag(name, id, *tags)
            kept.untag(name, id, *untags)
            if visit:
                kept.visit(name, id)
    answer({"id": id}, lambda: say("Marked."), as_json=call.as_json)


def _show(found: "Sequence[KeptMoment]") -> None:
    screen = console()
    if not found:
        say("Nothing was found.", err=True)
    for one in found:
        star = "★ " if one.marks.favourite else ""
        screen.print(f"{star}{day_and_time(one.at)} · {one.id}", style="dim")
        print_indented(screen, f"{one.speaker or one.role}: {one.text}")
        for line in (*(f"#{tag}" for tag in one.marks.tags), *filter(None, (one.marks.tone, one.marks.note))):
            print_indented(screen, line, "dim")
