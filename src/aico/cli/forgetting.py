"""`aico forget`: shows what would go, asks, forgets, and proves it."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from aico.cli._options import Call, common, moment_option, text_option, user_option
from aico.cli._show import answer, console, day_and_time, number_of, print_indented, say
from aico.cli._unlock import can_confirm, chosen_user, confirmed, opened
from aico.errors import AicoError, InvalidInput

if TYPE_CHECKING:
    from aico.ai.memory.receipts import Receipt

NOT_WELL = 4
ITEMS_SHOWN = 20


@click.command()
@click.argument("id", required=False)
@click.option("--conversation", metavar="NAME", help="A whole conversation.")
@text_option("--about", help="All that holds every word of this text; - reads it from standard input.")
@moment_option("--since", help="What was said from this moment on.")
@moment_option("--until", help="What was said before this moment.")
@click.option("--everything", is_flag=True, help="All that is known of this user but the short name.")
@click.option("--preview", is_flag=True, help="Only show what would be forgotten.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@user_option
@common
def forget(call: Call, *, preview: bool, yes: bool, user: str | None, **selectors: Any) -> None:  # as Click parsed them
    """Forget for good, with a receipt.

    One memory by its ID, a conversation, a subject, a span of time, or everything. Conversation, subject and time
    narrow each other down. What would go is shown first and you are asked, unless --yes. What was forgotten stays forgotten when its file is imported again. Ends with code 4 if something is left.
    """
    if not (preview or yes or can_confirm()):
        raise InvalidInput(
            "forgetting was not confirmed; nothing was forgotten", hint="add --yes, or --preview to see what would go"
        )
    with opened(call.home) as vault:
        name = chosen_user(vault, user)
        if preview or not yes:
            wished = vault.memory.forget(name, preview=True, **selectors)
            if preview:
                answer(_document(wished, verified=None), lambda: _show_preview(wished, err=False), as_json=call.as_json)
                return
            _ask(wished)
        receipt = vault.memory.forget(name, **selectors)
        verified = receipt.verify()
    answer(
        _document(receipt, verified=verified), lambda: _show_receipt(receipt, verified=verified), as_json=call.as_json
    )
    click.get_current_context().exit(0 if verified else NOT_WELL)


def _ask(wished: "Receipt") -> None:
    """Show on standard error what would go, and raise unless a person says yes."""
    _show_preview(wished, err=True)
    if not confirmed("Forget this for good?"):
        raise AicoError("not confirmed; nothing was forgotten")


def _document(receipt: "Receipt", *, verified: bool | None) -> dict[str, Any]:
    from dataclasses import asdict

    document: dict[str, Any] = {
        "id": receipt.id,
        "at": receipt.at,
        "preview": receipt.preview,
        "messages": receipt.messages,
        "facts": receipt.facts,
        "removed": receipt.removed,
        "log_cleared": receipt.log_cleared,
        "verified": verified,
    }
    if receipt.preview:
        document |= {"items": [asdict(item) for item in receipt.items], "near": [asdict(hit) for hit in receipt.near]}
    return document


def _show_preview(wished: "Receipt", *, err: bool) -> None:
    screen = console(err=err)
    screen.print(f"Would be forgotten: {_counted(wished)}.", style="bold")
    for item in wished.items[:ITEMS_SHOWN]:
        print_indented(screen, f"{_moment(item)}  {item.text}", by=2)
    if len(wished.items) > ITEMS_SHOWN:
        print_indented(
            screen, f"and {len(wished.items) - ITEMS_SHOWN} more; --preview --json has them all", "dim", by=2
        )
    if wished.near:
        screen.print("The words bring these too; they would stay (each can be forgotten by its id):", style="bold")
    for hit in wished.near:
        print_indented(screen, f"{day_and_time(hit.at)}  {hit.text}  {hit.id}", "dim", by=2)


def _show_receipt(receipt: "Receipt", *, verified: bool) -> None:
    say(f"Forgotten: {_counted(receipt)}. Receipt {receipt.id}.")
    if receipt.removed:
        say(f"Rows removed: {', '.join(f'{table} {count:,}' for table, count in receipt.removed.items())}.")
    say(
        "✓ Looked again: nothing of it is left."
        if verified
        else "✗ Looked again: something is left. Run `aico doctor`, then forget again."
    )
    if not receipt.log_cleared:
        say("! Another program is reading: sealed page images of before stay in the log until its next checkpoint.")


def _counted(receipt: "Receipt") -> str:
    return f"{number_of(len(receipt.messages), 'message')} and {number_of(len(receipt.facts), 'fact')}"


def _moment(item: Any) -> str:  # Moment or Fact
    at: datetime = item.at if hasattr(item, "at") else item.recorded_at
    return day_and_time(at)
