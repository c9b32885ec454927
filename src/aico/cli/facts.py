"""`aico facts`: what is held to be true about a person, corrected, marked and reviewed."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aico.cli._options import (
    Call,
    Count,
    PathName,
    common,
    moment_option,
    text_argument,
    text_option,
    user_option,
    writing_user_option,
)
from aico.cli._show import answer, console, day_and_time, number_of, print_indented, printable, say
from aico.cli._unlock import FIRST_USER, can_confirm, chosen_user, opened
from aico.errors import InvalidInput

if TYPE_CHECKING:
    from aico.ai.extraction import ExtractionReport, FactExtractor
    from aico.data.facts import Fact, History, KeptFact
    from aico.vault import Vault

_limit_option = click.option("--limit", type=Count(min=1), default=50, show_default=True, help="How many at most.")
_offset_option = click.option("--offset", type=Count(min=0), default=0, help="How many to pass over.")


@click.group()
def facts() -> None:
    """See, correct, mark and review the facts about a person.

    What a model found is not used until it was accepted.
    """


@facts.command()
@click.option("--category", help="Only of this category.")
@click.option("--type", help="Only of this type.")
@click.option("--tag", help="Only with this tag.")
@click.option("--favourites", is_flag=True, help="Only favourites.")
@click.option("--conversation", metavar="NAME", help="Only what was drawn from this conversation.")
@click.option("--closed", is_flag=True, help="Those too that are believed no longer.")
@moment_option("--as-of", help="What was believed at this moment, oldest first; stands alone.")
@_limit_option
@_offset_option
@user_option
@common
def ls(
    call: Call,
    *,
    category: str | None,
    type: str | None,
    tag: str | None,
    favourites: bool,
    conversation: str | None,
    closed: bool,
    as_of: datetime | None,
    limit: int,
    offset: int,
    user: str | None,
) -> None:
    """Show facts, newest first."""
    if as_of is not None and (category or type or tag or favourites or conversation or closed):
        raise InvalidInput("--as-of stands alone", hint="leave the other filters out")
    with opened(call.home) as vault:
        name = chosen_user(vault, user)
        if as_of is not None:
            found = vault.facts.as_of(name, as_of, limit=limit, offset=offset)
        else:
            found = vault.facts.list(
                name,
                category=category,
                type=type,
                tag=tag,
                favourite=True if favourites else None,
                conversation=conversation,
                closed=closed,
                limit=limit,
                offset=offset,
            )
        waiting = vault.facts.count(name, status="proposed")
    answer({"facts": _documents(found), "proposed": waiting}, lambda: _show_facts(found, waiting), as_json=call.as_json)


@facts.command()
@click.argument("id")
@user_option
@common
def show(call: Call, *, id: str, user: str | None) -> None:
    """Show one fact with its sources."""
    with opened(call.home) as vault:
        name = chosen_user(vault, user)
        fact = vault.facts.get(name, id)
        sources = vault.album.list_of(name, fact.sources)
    document = {"fact": _documents([fact])[0], "sources": [_plain(source) for source in sources]}

    def tell() -> None:
        _show_facts([fact])
        for source in sources:
            print_indented(console(), f"“{source.text}”  {source.speaker or source.role}, {day_and_time(source.at)}")

    answer(document, tell, as_json=call.as_json)


@facts.command()
@text_argument("text")
@click.option("--category", help="What it is about, in a word of yours.")
@click.option("--type", help="What kind of fact it is, such as preference or event.")
@click.option("--source", help="Where it comes from; a message's id ties the two together.")
@moment_option("--valid-from", help="Since when it has been true.")
@writing_user_option
@common
def add(call: Call, *, text: str, user: str | None, **given: Any) -> None:  # as Click parsed them
    """Remember a fact.

    Prints its id. TEXT is the fact, or - to read it from standard input.
    """
    with opened(call.home) as vault:
        made = vault.memory.remember(chosen_user(vault, user, first=FIRST_USER), text, **given)
    answer({"id": made}, lambda: say(made), as_json=call.as_json)


@facts.command()
@click.argument("id")
@text_option("--text", help="The fact as it should read; - reads it from standard input.")
@click.option("--category", help="Another category; an empty one takes it away.")
@click.option("--type", help="Another type; an empty one takes it away.")
@click.option("--confidence", type=float, help="How sure it is, from 0 to 1.")
@moment_option("--valid-from", help="Since when it has been true.")
@moment_option("--valid-until", help="Until when it was true.")
@user_option
@common
def edit(call: Call, *, id: str, user: str | None, **given: Any) -> None:  # as Click parsed them
    """Put a corrected fact in the place of one.

    Prints the corrected fact's id; the old one stays in its history.
    """
    with opened(call.home) as vault:
        made = vault.facts.edit(chosen_user(vault, user), id, **_changes(given))
    answer({"id": made}, lambda: say(made), as_json=call.as_json)


@facts.command()
@click.argument("id")
@click.option("--off", is_flag=True, help="A favourite no longer.")
@user_option
@common
def favourite(call: Call, *, id: str, off: bool, user: str | None) -> None:
    """Make a fact a favourite."""
    with opened(call.home) as vault:
        name = chosen_user(vault, user)
        vault.facts.favourite(name, id, on=not off)
        _answer_with_fact(vault, name, id, call)


@facts.command()
@click.argument("id")
@text_argument("text")
@user_option
@common
def note(call: Call, *, id: str, text: str, user: str | None) -> None:
    """Write a note beside a fact.

    It takes the place of an older one; an empty TEXT takes it away, - reads it from standard input.
    """
    with opened(call.home) as vault:
        name = chosen_user(vault, user)
        vault.facts.note(name, id, text or None)
        _answer_with_fact(vault, name, id, call)


@facts.command()
@click.argument("id")
@click.argument("tags", nargs=-1, required=True)
@click.option("--off", is_flag=True, help="Take these tags off.")
@user_option
@common
def tag(call: Call, *, id: str, tags: tuple[str, ...], off: bool, user: str | None) -> None:
    """Put tags on a fact."""
    with opened(call.home) as vault:
        name = chosen_user(vault, user)
        (vault.facts.untag if off else vault.facts.tag)(name, id, *tags)
        _answer_with_fact(vault, name, id, call)


@facts.command()
@click.argument("id")
@moment_option("--until", help="It was true until then. Without it, the fact was wrong.")
@user_option
@common
def retract(call: Call, *, id: str, until: datetime | None, user: str | None) -> None:
    """Believe a fact no longer.

    Its history stays; `aico forget` removes it for good.
    """
    with opened(call.home) as vault:
        name = chosen_user(vault, user)
        vault.facts.retract(name, id, until=until)
        _answer_with_fact(vault, name, id, call)


@facts.command()
@click.argument("id")
@user_option
@common
def restore(call: Call, *, id: str, user: str | None) -> None:
    """Believe a retracted fact again.

    Prints the id of the fact that takes its place.
    """
    with opened(call.home) as vault:
        made = vault.facts.restore(chosen_user(vault, user), id)
    answer({"id": made}, lambda: say(made), as_json=call.as_json)


@facts.command()
@click.argument("id")
@user_option
@common
def history(call: Call, *, id: str, user: str | None) -> None:
    """Show what a fact took the place of, what took its place, and each step."""
    with opened(call.home) as vault:
        found = vault.facts.history(chosen_user(vault, user), id)
    document = {"facts": _documents(found.facts), "changes": [_plain(change) for change in found.changes]}
    answer(document, lambda: _show_history(found), as_json=call.as_json)


@facts.command()
@click.option("--accept", metavar="ID", multiple=True, help="Believe this one; may be repeated.")
@text_option("--text", help="With one --accept: the fact in your own words.")
@click.option("--reject", metavar="ID", multiple=True, help="Never believe or propose this one; may be repeated.")
@_limit_option
@user_option
@common
def review(
    call: Call, *, accept: tuple[str, ...], text: str | None, reject: tuple[str, ...], limit: int, user: str | None
) -> None:
    """Decide on what a model found.

    At a terminal each is asked about in turn. Otherwise, and with --json, the queue is shown.
    """
    if text is not None and len(accept) != 1:
        raise InvalidInput("--text goes with one --accept; nothing was decided")
    with opened(call.home) as vault:
        name = chosen_user(vault, user)
        if text is not None:
            vault.facts.edit_and_accept(name, accept[0], text=text)
        else:
            for id in accept:
                vault.facts.accept(name, id)
        for id in reject:
            vault.facts.reject(name, id)
        waiting = vault.facts.proposed(name, limit=limit)
        if waiting and can_confirm() and not (call.as_json or accept or reject):
            for fact in waiting:
                _ask_about(vault, name, fact)
            waiting = vault.facts.proposed(name, limit=limit)
    answer({"proposed": _documents(waiting)}, lambda: _show_queue(waiting), as_json=call.as_json)


@facts.command()
@click.option("--endpoint", metavar="URL", required=True, help="The model server's address.")
@click.option("--model", required=True, help="The model's name there.")
@click.option("--api", type=click.Choice(["ollama", "openai"]), default="ollama", show_default=True, help="Its kind.")
@click.option("--api-key-file", type=PathName(), help="Read the key it asks for from this file.")
@click.option("--limit", type=Count(min=1), help="About how many messages at most.")
@user_option
@common
def extract(
    call: Call,
    *,
    endpoint: str,
    model: str,
    api: str,
    api_key_file: Path | None,
    limit: int | None,
    user: str | None,
) -> None:
    """Let a model look for facts in what is new.

    What was said since its last look is sent to the address you name, and nowhere else. What it finds waits for
    `aico facts review`.
    """
    asked = _extractor(endpoint, model, api, api_key_file)
    with opened(call.home) as vault:
        report = vault.extraction.run(chosen_user(vault, user), asked, message_limit=limit)
    document = {
        "messages": report.messages,
        "questions": report.questions,
        "proposed": report.proposed,
        "known": report.known,
        "forgotten": report.forgotten,
        "refused": {reason.name.lower(): count for reason, count in report.refused.items()},
    }
    answer(document, lambda: _show_report(report), as_json=call.as_json)


def _extractor(url: str, model: str, api: str, key_file: Path | None) -> "FactExtractor":
    from aico.ai.endpoint import Endpoint
    from aico.ai.extraction import OllamaExtractor, OpenAIExtractor

    try:
        key = None if key_file is None else key_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidInput(
            f"the file of the model's key cannot be read: {type(exc).__name__}; nothing was sent",
            hint="check its path and permissions",
        ) from None
    return (OllamaExtractor if api == "ollama" else OpenAIExtractor)(Endpoint(url, api_key=key), model)


def _changes(given: dict[str, Any]) -> Any:  # FactChanges, as Click parsed them
    changes = {name: value for name, value in given.items() if value is not None}
    return {name: None if value == "" and name != "text" else value for name, value in changes.items()}


def _ask_about(vault: "Vault", user: str, fact: "KeptFact") -> None:
    """Show one proposal and the words it was made of, and do what the person says."""
    screen = console(err=True)
    print_indented(screen, fact.text, "bold", by=0)
    for said in vault.album.list_of(user, fact.sources):
        print_indented(screen, f"“{said.text}”  {said.speaker or said.role}, {day_and_time(said.at)}", "dim", by=2)
    choice = click.prompt(
        "Right, change, wrong or later?", type=click.Choice(["r", "c", "w", "l"]), default="l", err=True
    )
    if choice == "r":
        vault.facts.accept(user, fact.id)
    elif choice == "c":
        vault.facts.edit_and_accept(user, fact.id, text=click.prompt("In your words", err=True))
    elif choice == "w":
        vault.facts.reject(user, fact.id)


def _answer_with_fact(vault: "Vault", user: str, id: str, call: Call) -> None:
    fact = vault.facts.get(user, id)
    answer({"fact": _plain(fact)}, lambda: _show_facts([fact]), as_json=call.as_json)


def _plain(record: Any) -> dict[str, Any]:  # any of our records
    from dataclasses import asdict

    return asdict(record)


def _documents(facts: "Sequence[Fact]") -> list[dict[str, Any]]:
    return [_plain(fact) for fact in facts]


def _show_facts(facts: "Sequence[KeptFact]", waiting: int = 0) -> None:
    screen = console()
    if not facts:
        say("No fact was found.", err=True)
    for fact in facts:
        print_indented(screen, f"★ {fact.text}" if fact.marks.favourite else fact.text, "bold", by=0)
        print_indented(screen, " · ".join(_details(fact)), "dim", by=2)
        if fact.marks.note:
            print_indented(screen, f"note: {fact.marks.note}", by=2)
    if waiting:
        say(f"{number_of(waiting, 'proposed fact')} to review: `aico facts review`.", err=True)


def _details(fact: "KeptFact") -> list[str]:
    vouched = {"user": "", "confirmed": "confirmed", "extracted": f"{fact.status}, found by {fact.model}"}[fact.trust]
    parts = [
        fact.category,
        fact.type,
        vouched,
        f"{'believed' if fact.status == 'accepted' else fact.status} since {day_and_time(fact.recorded_at)}",
        fact.superseded_at and f"until {day_and_time(fact.superseded_at)}",
        *(f"#{tag}" for tag in fact.marks.tags),
        fact.marks.tone,
        f"id {fact.id}",
    ]
    return [printable(part) for part in parts if part]


def _show_history(found: "History") -> None:
    _show_facts(found.facts)
    text_of = {fact.id: fact.text for fact in found.facts}
    screen = console()
    for change in found.changes:
        print_indented(screen, f"{day_and_time(change.at)}  {change.change}: {text_of.get(change.fact, '')}", by=2)


def _show_queue(waiting: "Sequence[KeptFact]") -> None:
    if waiting:
        _show_facts(waiting)
    else:
        say("Nothing is left to review.")


def _show_report(report: "ExtractionReport") -> None:
    say(f"Read {number_of(report.messages, 'message')}, asked {number_of(report.questions, 'question')}.")
    say(f"{number_of(report.proposed, 'new fact')} to review, {report.known} known, {report.forgotten} stay forgotten.")
    for reason, count in report.refused.items():
        say(f"Refused {count:,}: {reason.value}.")
