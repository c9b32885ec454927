"""`aico forget`: shows what would go, asks, forgets, and proves it."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from aico.cli._backups import backups_holding_forgotten, tell_of_backups
from aico.cli._options import Call, common, moment_option, text_option, user_option
from aico.cli._show import answer, console, day_and_time, number_of, print_indented, say, tell_of_log
from aico.cli._unlock import can_confirm, chosen_user, confirmed, opened
from aico.errors import AicoError, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aico.ai.memory.receipts import Receipt, Remainder

NOT_WELL = 4
ITEMS_SHOWN = 20


@click.command()
@click.argument("id", required=False)
@click.option("--conversation", metavar="NAME", help="A whole conversation.")
@text_option("--about", help="All that holds every word of this text; - reads it from standard input.")
@moment_option("--since", help="What was said from this moment on.")
@moment_option("--until", help="What was said before this moment.")
@click.option("--everything", is_flag=True, help="All that is known of this user but the short name.")
@click.option(
    "--keep-facts/--forget-facts", default=None, help="Whether facts drawn from it stay. Without either you are asked."
)
@click.option("--list", "listing", is_flag=True, help="List the receipts there are.")
@click.option("--verify", "receipt_id", metavar="RECEIPT", help="Look again for what a receipt says was forgotten.")
@click.option("--preview", is_flag=True, help="Only show what would be forgotten.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@user_option
@common
def forget(
    call: Call,
    *,
    preview: bool,
    yes: bool,
    user: str | None,
    listing: bool,
    receipt_id: str | None,
    keep_facts: bool | None,
    **selectors: Any,  # as Click parsed them
) -> None:
    """Forget for good, with a receipt.

    One memory by its ID, a conversation, a subject, a span of time, or everything. Conversation, subject and time
    narrow each other down. Notes, titles, log lines and all else that carries the content go too. What would go is
    shown first and you are asked, unless --yes. What was forgotten stays forgotten when its file is imported again.
    Ends with code 4 if something is left.
    """
    if listing or receipt_id is not None:
        _look_back(call, user, receipt_id, selectors)
        return
    if not (preview or yes or can_confirm()):
        raise InvalidInput(
            "forgetting was not confirmed; nothing was forgotten", hint="add --yes, or --preview to see what would go"
        )
    with opened(call.home) as vault:
        name = chosen_user(vault, user)
        if preview or not yes:
            wished = vault.memory.forget(name, preview=True, keep_facts=bool(keep_facts), **selectors)
            if preview:
                answer(_document(wished), lambda: _show_preview(wished, err=False), as_json=call.as_json)
                return
            keep_facts = _ask(wished, keep_facts)
        receipt = vault.memory.forget(name, keep_facts=bool(keep_facts), **selectors)
        remains = receipt.remains()
        backups = backups_holding_forgotten(vault)
    document = {**_document(receipt), **_verdict(remains), "backups": backups}
    answer(document, lambda: _show_receipt(receipt, remains, backups), as_json=call.as_json)
    click.get_current_context().exit(NOT_WELL if remains else 0)


def _look_back(call: Call, user: str | None, receipt_id: str | None, selectors: dict[str, Any]) -> None:
    """List the receipts, or verify one."""
    if any(selectors.values()):
        raise InvalidInput("--list and --verify forget nothing; nothing was changed", hint="leave the selectors out")
    with opened(call.home) as vault:
        name = chosen_user(vault, user)
        if receipt_id is None:
            found = vault.memory.receipts(name)
            listed = {"receipts": [_document(receipt) for receipt in found]}
            answer(listed, lambda: _show_list(found), as_json=call.as_json)
            return
        receipt = vault.memory.receipt(name, receipt_id)
        remains = receipt.remains()
    answer({**_document(receipt), **_verdict(remains)}, lambda: _show_verdict(remains), as_json=call.as_json)
    click.get_current_context().exit(NOT_WELL if remains else 0)


def _ask(wished: "Receipt", keep_facts: bool | None) -> bool:
    """Show on standard error what would go, and raise unless a person says yes. Returns whether drawn facts stay."""
    _show_preview(wished, err=True)
    if wished.drawn and keep_facts is None:
        keep_facts = not confirmed(f"Forget the {number_of(len(wished.drawn), 'fact')} made from it too?")
    if not confirmed("Forget this for good?"):
        raise AicoError("not confirmed; nothing was forgotten")
    return bool(keep_facts)


def _document(receipt: "Receipt") -> dict[str, Any]:
    from dataclasses import asdict

    document: dict[str, Any] = {
        "id": receipt.id,
        "at": receipt.at,
        "preview": receipt.preview,
        "messages": receipt.messages,
        "facts": receipt.facts,
        "drawn": receipt.drawn,
        "removed": receipt.removed,
        "log_cleared": receipt.log_cleared,
        "verified": None,
    }
    if receipt.preview:
        document |= {"items": [asdict(item) for item in receipt.items]}
        document |= {"traces": [{"table": trace.table, "text": trace.text} for trace in receipt.traces]}
        document |= {"near": [asdict(hit) for hit in receipt.near]}
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
    if wished.drawn:
        screen.print(f"Made from it alone: {number_of(len(wished.drawn), 'fact')}.", style="bold")
    if wished.traces:
        screen.print("These carry it too, and would be removed or emptied:", style="bold")
    for trace in wished.traces[:ITEMS_SHOWN]:
        print_indented(screen, f"{trace.table}  {trace.text}", by=2)
    if len(wished.traces) > ITEMS_SHOWN:
        print_indented(screen, f"and {len(wished.traces) - ITEMS_SHOWN} more", "dim", by=2)
    if wished.near:
        screen.print("The words bring these too; they would stay (each can be forgotten by its id):", style="bold")
    for hit in wished.near:
        print_indented(screen, f"{day_and_time(hit.at)}  {hit.text}  {hit.id}", "dim", by=2)


def _show_receipt(receipt: "Receipt", remains: "Sequence[Remainder]", backups: "Sequence[str]") -> None:
    say(f"Forgotten: {_counted(receipt)}. Receipt {receipt.id}.")
    kept = set(receipt.drawn) - set(receipt.facts)
    if kept:
        say(f"Kept: {number_of(len(kept), 'fact')} made from it; the source is no longer known.")
    if receipt.removed:
        say(f"Rows removed: {', '.join(f'{table} {count:,}' for table, count in receipt.removed.items())}.")
    _show_verdict(remains)
    tell_of_log(cleared=bool(receipt.log_cleared))
    tell_of_backups(backups)


def _show_verdict(remains: "Sequence[Remainder]") -> None:
    if not remains:
        say("✓ Looked again: nothing of it is left.")
        return
    where = ", ".join(remainder.place for remainder in remains if not remainder.trouble)
    if where:
        say(f"✗ Looked again: something is left in {where}. Run `aico doctor`, then forget again.")
    for remainder in remains:
        if remainder.trouble:
            say(f"✗ {remainder.place} could not be asked: {remainder.trouble}.")


def _show_list(receipts: "Sequence[Receipt]") -> None:
    for receipt in receipts:
        say(f"{day_and_time(receipt.at)}  {_counted(receipt)}  {receipt.id}")
    if not receipts:
        say("Nothing was forgotten yet.")


def _verdict(remains: "Sequence[Remainder]") -> dict[str, Any]:
    left = [{"place": one.place, "count": one.count, "trouble": one.trouble} for one in remains]
    return {"verified": not remains, "remains": left}


def _counted(receipt: "Receipt") -> str:
    return f"{number_of(len(receipt.messages), 'message')} and {number_of(len(receipt.facts), 'fact')}"


def _moment(item: Any) -> str:  # Moment or Fact
    at: datetime = item.at if hasattr(item, "at") else item.recorded_at
    return day_and_time(at)
