"""`aico recall`, `aico context`, `aico recent`: what the memory has to say."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from aico.cli._options import Call, Count, common, moment_option, text_argument, user_option
from aico.cli._show import answer, console, day_and_time, number_of, print_indented, printable, say
from aico.cli._unlock import chosen_user, opened

if TYPE_CHECKING:
    from aico.ai.memory.hits import Hit
    from aico.data.conversations import Moment


@click.command()
@text_argument("query")
@click.option("--limit", type=Count(min=1), default=10, show_default=True, help="How many memories at most.")
@click.option("--conversation", metavar="NAME", help="Only of this conversation.")
@click.option("--speaker", metavar="NAME", help="Only what was said by this name.")
@click.option("--episode", metavar="ID", help="Only of the talk around this message.")
@click.option(
    "--kind", "kinds", type=click.Choice(["message", "fact"]), multiple=True, help="Only this kind; may be repeated."
)
@moment_option("--since", help="Only what was said from this moment on.")
@moment_option("--until", help="Only what was said before this moment.")
@moment_option("--as-of", help="What was said and believed at this moment.")
@click.option("--score-min", type=float, help="Leave out weaker matches, from 0 to 1.")
@user_option
@common
def recall(
    call: Call,
    *,
    query: str,
    limit: int,
    conversation: str | None,
    speaker: str | None,
    episode: str | None,
    kinds: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    as_of: datetime | None,
    score_min: float | None,
    user: str | None,
) -> None:
    """Find the memories that answer a question best.

    Best first, each with why it was found. QUERY is the question, or - to read it from standard input.
    """
    from dataclasses import asdict

    from aico.ai.memory.manager import KINDS

    with opened(call.home) as vault:
        hits = vault.memory.recall(
            chosen_user(vault, user),
            query,
            limit=limit,
            conversation=conversation,
            speaker=speaker,
            episode=episode,
            kinds=kinds or KINDS,
            since=since,
            until=until,
            as_of=as_of,
            score_min=score_min,
        )
    answer({"hits": [asdict(hit) for hit in hits]}, lambda: _show_hits(hits), as_json=call.as_json)


@click.command()
@text_argument("query")
@click.option("--conversation", metavar="NAME", help="The live conversation, whose last messages come along.")
@click.option(
    "--token-budget", type=Count(min=1), default=1000, show_default=True, help="How long it may be, in tokens."
)
@user_option
@common
def context(call: Call, *, query: str, conversation: str | None, token_budget: int, user: str | None) -> None:
    """Print what a language model should know to answer.

    QUERY is what it is to answer, or - to read it from standard input.
    """
    from dataclasses import asdict

    with opened(call.home) as vault:
        known = vault.memory.context(
            chosen_user(vault, user), query, conversation=conversation, token_budget=token_budget
        )
    document = {"text": known.as_text(), "tokens": known.tokens, "items": [asdict(item) for item in known.items]}
    nothing = f"Nothing is known yet that fits into {number_of(token_budget, 'token')}."
    answer(document, lambda: say(known.as_text() or nothing, err=not known.items), as_json=call.as_json)


@click.command()
@click.argument("conversation")
@click.option("--limit", type=Count(min=1), default=20, show_default=True, help="How many messages at most.")
@user_option
@common
def recent(call: Call, *, conversation: str, limit: int, user: str | None) -> None:
    """Show the last messages of a conversation.

    Oldest first.
    """
    from dataclasses import asdict

    with opened(call.home) as vault:
        moments = vault.memory.recent(chosen_user(vault, user), conversation, limit=limit)
    document: dict[str, Any] = {"messages": [asdict(moment) for moment in moments]}
    answer(document, lambda: show_moments(moments), as_json=call.as_json)


def _show_hits(hits: "Sequence[Hit]") -> None:
    from rich.text import Text

    if not hits:
        say("Nothing was found.", err=True)
    screen = console()
    for number, hit in enumerate(hits, start=1):
        said = (day_and_time(hit.at), hit.speaker or hit.role or "a fact", hit.conversation, f"{hit.score:.2f}")
        screen.print(
            Text.assemble((f"{number:2}", "cyan"), "  ", (printable(" · ".join(part for part in said if part)), "bold"))
        )
        print_indented(screen, hit.text)
        print_indented(screen, f"{hit.why} · id {hit.id}", "dim")


def show_moments(moments: "Sequence[Moment]") -> None:
    """Messages for people: who, when, its id, and what was said."""
    from rich.text import Text

    if not moments:
        say("Nothing was said there.", err=True)
    screen = console()
    for moment in moments:
        said_by = printable(moment.speaker or moment.role)
        screen.print(Text.assemble((said_by, "bold cyan"), "  ", (f"{day_and_time(moment.at)} · {moment.id}", "dim")))
        print_indented(screen, moment.text)
