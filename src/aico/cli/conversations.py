"""`aico conversations`: what there is, corrections, and the merge of duplicates. To delete, there is `aico forget`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from aico.cli._options import Call, Count, common, text_argument, user_option
from aico.cli._show import answer, console, day_and_time, number_of, print_indented, printable, say, tell_of_log
from aico.cli._unlock import can_confirm, chosen_user, confirmed, opened
from aico.cli.reading import show_moments
from aico.errors import AicoError, InvalidInput

if TYPE_CHECKING:
    from aico.data.conversation_service import Conversation
    from aico.data.duplicates import Duplicates


@click.group(invoke_without_command=True)
@click.pass_context
def conversations(context: click.Context) -> None:
    """List, read, correct and merge conversations.

    To delete a message or a conversation for good, use `aico forget`.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@conversations.command()
@click.option("--limit", type=Count(min=1), default=50, show_default=True, help="How many at most.")
@click.option("--offset", type=Count(min=0), default=0, show_default=True, help="How many to leave out first.")
@user_option
@common
def ls(call: Call, *, limit: int, offset: int, user: str | None) -> None:
    """List conversations, the last active first."""
    from dataclasses import asdict

    with opened(call.home) as vault:
        found = vault.conversations.list(chosen_user(vault, user), limit=limit, offset=offset)
    answer(
        {"conversations": [asdict(conversation) for conversation in found]},
        lambda: _show(found),
        as_json=call.as_json,
    )


@conversations.command()
@click.argument("conversation")
@click.option("--after", metavar="ID", help="Go on after this message.")
@click.option("--limit", type=Count(min=1), default=100, show_default=True, help="How many messages at most.")
@user_option
@common
def show(call: Call, *, conversation: str, after: str | None, limit: int, user: str | None) -> None:
    """Read a conversation from its beginning, or go on from a message."""
    from dataclasses import asdict

    with opened(call.home) as vault:
        name = chosen_user(vault, user)
        vault.conversations.get(name, conversation)
        moments = vault.conversations.messages(name, conversation, after=after, limit=limit)
    answer({"messages": [asdict(moment) for moment in moments]}, lambda: show_moments(moments), as_json=call.as_json)


@conversations.command()
@click.argument("conversation")
@text_argument("title")
@user_option
@common
def title(call: Call, *, conversation: str, title: str, user: str | None) -> None:
    """Give a conversation a title; an empty one takes it away.

    The name, by which programs know it, stays.
    """
    with opened(call.home) as vault:
        vault.conversations.set_title(chosen_user(vault, user), conversation, title)
    answer({"conversation": conversation, "title": title or None}, lambda: say("Done."), as_json=call.as_json)


@conversations.command()
@click.argument("id")
@text_argument("text")
@user_option
@common
def edit(call: Call, *, id: str, text: str, user: str | None) -> None:  # the word that help shows
    """Put another text in the place of a message's.

    Its id, moment and place stay; the old text is gone for good. TEXT is the new one, or - to read it from standard
    input.
    """
    with opened(call.home) as vault:
        edited = vault.conversations.edit(chosen_user(vault, user), id, text)

    def tell() -> None:
        say("The message has its new text; the old one is gone.")
        tell_of_log(cleared=edited.log_cleared)

    answer({"id": edited.message.id, "log_cleared": edited.log_cleared}, tell, as_json=call.as_json)


@conversations.command()
@user_option
@common
def duplicates(call: Call, *, user: str | None) -> None:
    """Find conversations and messages that seem to have been imported twice."""
    from dataclasses import asdict

    with opened(call.home) as vault:
        found = vault.conversations.find_duplicates(chosen_user(vault, user))
    answer(asdict(found), lambda: _show_duplicates(found), as_json=call.as_json)


@conversations.command()
@click.argument("keep")
@click.argument("drop")
@click.option("--messages", is_flag=True, help="KEEP and DROP are the ids of two messages with the same text.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@user_option
@common
def merge(call: Call, *, keep: str, drop: str, messages: bool, yes: bool, user: str | None) -> None:
    """Make two conversations one, or two messages.

    KEEP is what stays; what only DROP has moves there, what both have is there once, and the name DROP leads to KEEP
    from now on. It cannot be undone.
    """
    if not (yes or can_confirm()):
        raise InvalidInput("merging was not confirmed; nothing was changed", hint="add --yes")
    if not yes and not confirmed("Merge them? It cannot be undone."):
        raise AicoError("not confirmed; nothing was changed")
    with opened(call.home) as vault:
        name = chosen_user(vault, user)
        if messages:
            vault.conversations.merge_messages(name, keep=keep, drop=drop)
            moved, repeated = 0, 1
        else:
            merged = vault.conversations.merge(name, keep=keep, drop=drop)
            moved, repeated = merged.moved, merged.repeated
    answer(
        {"moved": moved, "repeated": repeated},
        lambda: say(f"Merged: {number_of(moved, 'message')} moved, {repeated:,} were there already."),
        as_json=call.as_json,
    )


def _show(found: "Sequence[Conversation]") -> None:
    from rich.text import Text

    if not found:
        say("There are no conversations yet.", err=True)
    screen = console()
    for conversation in found:
        screen.print(Text(printable(conversation.title or conversation.name), style="bold"))
        span = f"{day_and_time(conversation.first_at)} to {day_and_time(conversation.last_at)} UTC"
        named = f"name {conversation.name} · " if conversation.title else ""
        print_indented(screen, f"{named}{number_of(conversation.messages, 'message')} · {span}", "dim")


def _show_duplicates(found: "Duplicates") -> None:
    if not found.conversations and not found.messages:
        say("Nothing seems to be there twice.")
    for pair in found.conversations:
        say(f"{pair.drop}: {pair.shared:,} of its {number_of(pair.of, 'message')} are in {pair.keep} too")
    for twins in found.messages:
        say(f"{twins.conversation}: {twins.drop} says the same as {twins.keep} in the same second")
    if found.conversations or found.messages:
        say("`aico conversations merge KEEP DROP` makes two one; with --messages, two messages.", err=True)
