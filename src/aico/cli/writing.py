"""`aico record` and `aico remember`: what goes into the memory."""

from datetime import datetime

import click

from aico.cli._options import Call, common, moment_option, text_argument, writing_user_option
from aico.cli._show import answer, say
from aico.cli._unlock import FIRST_USER, chosen_user, opened


@click.command()
@text_argument("text")
@click.option("--conversation", required=True, metavar="NAME", help="The conversation it belongs to.")
@click.option("--role", default="user", show_default=True, help="Who speaks: user, assistant, or another role.")
@click.option("--speaker", metavar="NAME", help="The speaker's name, to be shown.")
@moment_option("--at", help="When it was said. Default: now.")
@click.option("--source-id", metavar="ID", help="Its id where it comes from: the same one again changes nothing.")
@click.option("--return-forgotten", is_flag=True, help="Bring it back if it was forgotten.")
@writing_user_option
@common
def record(
    call: Call,
    *,
    text: str,
    conversation: str,
    role: str,
    speaker: str | None,
    at: datetime | None,
    source_id: str | None,
    return_forgotten: bool,
    user: str | None,
) -> None:
    """Record one message of a conversation.

    Prints its id. TEXT is the message, or - to read it from standard input: then the machine's list of processes does
    not show it.
    """
    with opened(call.home) as vault:
        made = vault.memory.record(
            chosen_user(vault, user, first=FIRST_USER),
            text,
            role=role,
            conversation=conversation,
            speaker=speaker,
            at=at,
            source_id=source_id,
            return_forgotten=return_forgotten,
        )
    answer({"id": made}, lambda: say(made), as_json=call.as_json)


@click.command()
@text_argument("text")
@click.option("--category", help="What kind of fact it is, in a word of yours.")
@click.option("--confidence", type=float, default=1.0, show_default=True, help="How sure it is, from 0 to 1.")
@click.option("--source", help="Where it comes from; a message's id ties the two together.")
@moment_option("--valid-from", help="Since when it has been true.")
@click.option("--supersedes", metavar="ID", help="The fact that it takes the place of.")
@writing_user_option
@common
def remember(
    call: Call,
    *,
    text: str,
    category: str | None,
    confidence: float,
    source: str | None,
    valid_from: datetime | None,
    supersedes: str | None,
    user: str | None,
) -> None:
    """Remember a fact.

    Prints its id. TEXT is the fact, or - to read it from standard input: then the machine's list of processes does
    not show it.
    """
    with opened(call.home) as vault:
        made = vault.memory.remember(
            chosen_user(vault, user, first=FIRST_USER),
            text,
            category=category,
            confidence=confidence,
            source=source,
            valid_from=valid_from,
            supersedes=supersedes,
        )
    answer({"id": made}, lambda: say(made), as_json=call.as_json)
