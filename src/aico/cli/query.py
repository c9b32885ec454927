"""`aico query`: one way to ask, whatever is asked."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from aico.cli._options import Call, Count, common, moment_option, text_argument, user_option
from aico.cli._show import answer, console, day_and_time, number_of, print_indented, printable, say
from aico.cli._unlock import chosen_user, opened

if TYPE_CHECKING:
    from aico.ai.memory.hits import Hit
    from aico.data.conversations import Moment
    from aico.data.facts import Fact
    from aico.query import Answer, Explanation


@click.command()
@text_argument("request", required=False)
@click.option("--recent", metavar="CONVERSATION", help="The last messages of a conversation.")
@click.option("--id", "memory_id", metavar="ID", help="One memory.")
@click.option("--conversation", metavar="NAME", help="Only of this conversation.")
@click.option("--role", metavar="NAME", help="Only what this role said.")
@click.option(
    "--kind", "kinds", type=click.Choice(["message", "fact"]), multiple=True, help="Only this kind; may be repeated."
)
@moment_option("--since", help="Only what was said from this moment on.")
@moment_option("--until", help="Only what was said before this moment.")
@click.option("--limit", type=Count(min=1), default=20, show_default=True, help="How many memories at most.")
@click.option("--max-lag", type=Count(min=0), default=10_000, show_default=True, help="How far columns may be behind.")
@click.option(
    "--seconds", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="How long SQL may take."
)
@click.option("--explain", is_flag=True, help="Say which engine answered, and why.")
@user_option
@common
def query(
    call: Call,
    *,
    request: str | None,
    recent: str | None,
    memory_id: str | None,
    conversation: str | None,
    role: str | None,
    kinds: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    limit: int,
    max_lag: int,
    seconds: float,
    explain: bool,
    user: str | None,
) -> None:
    """Ask by words, by id, by columns or in SQL.

    REQUEST is a question, an id, or SQL such as "SELECT role, count(*) FROM messages GROUP BY role"; - reads it from
    standard input. SQL sees messages, conversations, facts, marks, tags, preferences and feedback of one person.
    """
    from aico.ai.memory.manager import KINDS

    with opened(call.home) as vault:
        found = vault.query(
            chosen_user(vault, user),
            request,
            recent=recent,
            id=memory_id,
            conversation=conversation,
            role=role,
            kinds=kinds or KINDS,
            since=since,
            until=until,
            limit=limit,
            max_lag=max_lag,
            seconds_max=seconds,
        )
    answer(_document(found, explain=explain), lambda: _show(found, explain=explain), as_json=call.as_json)


def _document(found: "Answer", *, explain: bool) -> dict[str, Any]:
    from dataclasses import asdict

    document: dict[str, Any] = {"columns": found.columns, "rows": found.rows, "cut": found.cut}
    return {**document, "explanation": asdict(found.explanation)} if explain else document


def _show(found: "Answer", *, explain: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    if explain:
        _explain(found.explanation)
    if not found.rows:
        say("Nothing was found.", err=True)
        return
    if found.items:
        for item in found.items:
            console().print(Text.assemble((day_and_time(_when(item)), "bold"), "  ", (item.id, "dim")))
            print_indented(console(), item.text)
        return
    table = Table(*(printable(name) for name in found.columns), box=None)
    for row in found.rows:
        table.add_row(*("" if value is None else printable(str(value)) for value in row))
    console().print(table)
    if found.cut:
        say("There is more.", err=True)


def _when(item: "Moment | Fact | Hit") -> datetime:
    return item.recorded_at if not hasattr(item, "at") else item.at


def _explain(explanation: "Explanation") -> None:
    say(f"{explanation.engine}: {explanation.why}")
    say(
        f"up to {number_of(explanation.rows_estimated, 'row')} in about {explanation.estimated_ms:,.1f} ms expected; "
        f"{number_of(explanation.rows, 'row')} in {explanation.took_ms:,.1f} ms"
    )
