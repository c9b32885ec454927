"""`aico logs`: the vault's log, followed, searched, exported and cleared; and the audit log, shown and proved."""

import functools
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from aico.cli._options import Call, Count, PathName, common, moment_option, text_argument
from aico.cli._show import answer, console, number_of, print_indented, print_json, printable, say, standard_output
from aico.cli._unlock import can_confirm, confirmed, opened
from aico.errors import AicoError, InvalidInput, NotFound

if TYPE_CHECKING:
    from aico.data.audit_log import AuditEntry, Verdict
    from aico.data.logs import LogEntry
    from aico.vault import Vault

NOT_WELL = 4
LOOK_EVERY_S = 0.5
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_COLOURS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}

level_option = click.option(
    "--level", type=click.Choice(_LEVELS, case_sensitive=False), help="Only what is at least this severe."
)


@click.group(invoke_without_command=True)
@click.pass_context
def logs(context: click.Context) -> None:
    """Read the vault's log, and prove its audit log.

    The log is what programs wrote of their work; the audit log is what happened to keys, people and memories.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """The options that choose entries. The command gets those that were given as `filters`."""

    @level_option
    @click.option("--subsystem", metavar="NAME", help="Only of this logger.")
    @click.option("--module", metavar="NAME", help="Only of this module.")
    @click.option("--topic", metavar="NAME", help="Only of this topic.")
    @click.option("--user", metavar="NAME", help="Only what belongs to this person.")
    @click.option("--session", "session_id", metavar="ID", help="Only of this session.")
    @click.option("--trace", "trace_id", metavar="ID", help="Only of this trace.")
    @moment_option("--since", help="Only from this moment on.")
    @moment_option("--until", help="Only before this moment.")
    @functools.wraps(command)
    def called(call: Call, **given: Any) -> None:
        names = ("level", "subsystem", "module", "topic", "user", "session_id", "trace_id", "since", "until")
        filters = {name: value for name in names if (value := given.pop(name)) is not None}
        command(call, filters=filters, **given)

    return called


@logs.command()
@click.option("--limit", type=Count(min=1), default=50, show_default=True, help="How many entries at most.")
@click.option("--offset", type=Count(min=0), default=0, help="How many of the newest to leave out.")
@common
@filtered
def ls(call: Call, *, filters: dict[str, Any], limit: int, offset: int) -> None:
    """List entries, newest first."""
    with opened(call.home) as vault:
        found = vault.logs.query_logs(limit=limit, offset=offset, **_of_vault(vault, filters))
    _answer_entries(found, as_json=call.as_json)


@logs.command()
@click.option("--limit", type=Count(min=1), default=20, show_default=True, help="How many entries to begin with.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on, until Ctrl-C.")
@common
@filtered
def tail(call: Call, *, filters: dict[str, Any], limit: int, follow: bool) -> None:
    """Show the last entries, oldest first, and follow the log as it grows.

    With --follow --json every entry is an object on a line of its own.
    """
    with opened(call.home) as vault:
        chosen = _of_vault(vault, filters)
        newest = vault.logs.newest_id()
        found = vault.logs.query_logs(limit=limit, **chosen)[::-1]
        if not follow:
            _answer_entries(found, as_json=call.as_json)
            return
        while True:
            for entry in found:
                print_json(_document(entry)) if call.as_json else _show_entry(entry)
            time.sleep(LOOK_EVERY_S)
            found = vault.logs.logs_after(newest, **chosen)
            newest = max([newest, *(entry.id for entry in found)])


@logs.command()
@text_argument("text")
@click.option("--limit", type=Count(min=1), default=50, show_default=True, help="How many entries at most.")
@common
@filtered
def grep(call: Call, *, text: str, filters: dict[str, Any], limit: int) -> None:
    """Find the entries whose message holds a text, newest first.

    TEXT is what to look for, whatever the case of its ASCII letters, or - to read it from standard input.
    """
    with opened(call.home) as vault:
        found = vault.logs.query_logs(limit=limit, text=text, **_of_vault(vault, filters))
    _answer_entries(found, as_json=call.as_json)


@logs.command()
@click.argument("id", type=int)
@common
def show(call: Call, *, id: int) -> None:
    """Show one entry with all it carries."""
    with opened(call.home) as vault:
        entry = vault.logs.get_log(id)
    answer(_document(entry), lambda: _show_whole(entry), as_json=call.as_json)


@logs.command()
@common
def stat(call: Call) -> None:
    """Count the entries by level."""
    with opened(call.home) as vault:
        found = vault.logs.get_log_stats()
    document = {"total": found.total, "by_level": found.by_level, "oldest": found.oldest, "newest": found.newest}
    answer(document, lambda: _show_stats(document), as_json=call.as_json)


@logs.command()
@click.argument("output", type=PathName(), metavar="FILE|-")
@common
@filtered
def export(call: Call, *, filters: dict[str, Any], output: Path) -> None:
    """Write entries to a new file, or with - to standard output, in the order they were written, an object a line.

    What is written is readable by whoever gets it: it leaves the vault's protection. It never replaces another file.
    """
    from aico.data.audit_log import Action
    from aico.portability.export import new_file

    with ExitStack() as closing:
        to_screen = str(output) == "-"
        target = closing.enter_context(standard_output(as_json=call.as_json) if to_screen else new_file(output))
        vault = closing.enter_context(opened(call.home))
        chosen = _of_vault(vault, filters)
        vault.audit_log.append(Action.EXPORTED, counts={"logs": vault.logs.count_logs(**chosen)})
        written = _write_entries(vault, chosen, target)
    if not to_screen:
        answer({"entries": written}, lambda: say(f"Exported {number_of(written, 'line')}."), as_json=call.as_json)


@logs.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
@filtered
def rm(call: Call, *, filters: dict[str, Any], yes: bool) -> None:
    """Delete entries for good, such as --until 2026-01-01. The audit log stays as it is."""
    if not filters:
        raise InvalidInput("nothing was named to delete; the log is as it was", hint="name a time, a level or a person")
    if not (yes or can_confirm()):
        raise InvalidInput("deleting was not confirmed; the log is as it was", hint="add --yes")
    with opened(call.home) as vault:
        chosen = _of_vault(vault, filters)
        if not yes and not confirmed(f"Delete {number_of(vault.logs.count_logs(**chosen), 'line')}?"):
            raise AicoError("not confirmed; the log is as it was")
        removed = vault.logs.purge(**chosen)
    answer({"removed": removed}, lambda: say(f"Deleted {number_of(removed, 'line')}."), as_json=call.as_json)


@logs.command()
@click.option("--user", metavar="NAME", help="Only what concerns this person.")
@click.option("--limit", type=Count(min=1), default=50, show_default=True, help="How many entries at most.")
@common
def audit(call: Call, *, user: str | None, limit: int) -> None:
    """Show the last entries of the audit log, oldest first."""
    from dataclasses import asdict

    with opened(call.home) as vault:
        user_id = None if user is None else _user_id(vault, user)
        names = {profile.id: profile.name for profile in vault.users.list_profiles()}
        found = vault.audit_log.last_entries(limit, user_id=user_id)
    document = {"entries": [asdict(entry) for entry in found]}
    answer(document, lambda: _show_audit(found, names), as_json=call.as_json)


@logs.command(name="verify-chain")
@click.option(
    "--head", metavar="NUMBER:SEAL", help="A head noted down earlier: also prove that nothing up to it is missing."
)
@common
def verify_chain(call: Call, *, head: str | None) -> None:
    """Prove that no entry of the audit log was changed, put in, or left out.

    Prints the log's head. Note it down elsewhere: only with an earlier head can it be told whether entries are missing
    at the end. Ends with code 4 if the chain is broken.
    """
    from aico.data.audit_log import Head

    known = None if head is None else Head.parsed(head)
    with opened(call.home) as vault:
        verdict = vault.audit_log.verify(known)
    document = {
        "intact": verdict.intact,
        "entries": verdict.head.count,
        "head": str(verdict.head),
        "broken_at": verdict.broken_at,
        "reason": verdict.reason,
    }
    answer(document, lambda: _show_verdict(verdict), as_json=call.as_json)
    click.get_current_context().exit(0 if verdict.intact else NOT_WELL)


def _of_vault(vault: "Vault", filters: dict[str, Any]) -> dict[str, Any]:
    """The filters as the repository takes them: with a person's id."""
    rest = {name: value for name, value in filters.items() if name != "user"}
    return rest if "user" not in filters else {**rest, "user_id": _user_id(vault, filters["user"])}


def _user_id(vault: "Vault", name: str) -> str:
    profile = vault.users.find_by_name(name)
    if profile is None:
        raise NotFound("there is no user of this name; nothing was read")
    return profile.id


def _write_entries(vault: "Vault", chosen: dict[str, Any], target: BinaryIO) -> int:
    """A thousand entries at a time, however many there are; how many there were."""
    import msgspec

    last = written = 0
    while found := vault.logs.logs_after(last, limit=1000, **chosen):
        target.writelines(msgspec.json.encode(_document(entry)) + b"\n" for entry in found)
        last, written = found[-1].id, written + len(found)
    return written


def _document(entry: "LogEntry") -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(entry)


def _answer_entries(found: "Sequence[LogEntry]", *, as_json: bool) -> None:
    def show() -> None:
        if not found:
            say("There are no such entries.", err=True)
        for entry in found:
            _show_entry(entry)

    answer({"entries": [_document(entry) for entry in found]}, show, as_json=as_json)


def _show_entry(entry: "LogEntry") -> None:
    at = entry.timestamp.astimezone()
    head = f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03}"
    click.secho(f"{head}  {entry.id:>6}  ", dim=True, nl=False)
    click.secho(f"{printable(entry.level):8}", fg=_COLOURS.get(entry.level), nl=False)
    say(f"  {entry.subsystem or '-'}  {entry.message}")


def _show_whole(entry: "LogEntry") -> None:
    screen = console()
    for name, value in _document(entry).items():
        if value not in (None, {}):
            screen.print(f"{name}:", style="bold")
            print_indented(screen, str(value))


def _show_stats(document: dict[str, Any]) -> None:
    say(f"{number_of(document['total'], 'line')}.")
    for level, count in sorted(document["by_level"].items(), key=lambda item: -item[1]):
        say(f"  {level:10} {count:>10,}")
    if document["oldest"]:
        say(
            f"From {document['oldest'].astimezone():%Y-%m-%d %H:%M} to {document['newest'].astimezone():%Y-%m-%d %H:%M}."
        )


def _show_audit(found: "Sequence[AuditEntry]", names: dict[str, str]) -> None:
    for entry in found:
        who = "" if entry.user_id is None else names.get(entry.user_id, f"somebody erased ({entry.user_id[:8]})")
        counts = ", ".join(f"{name} {count:,}" for name, count in entry.counts.items())
        say(f"{entry.id:>5}  {entry.at.astimezone():%Y-%m-%d %H:%M:%S}  {entry.action:20}  {who}  {counts}".rstrip())


def _show_verdict(verdict: "Verdict") -> None:
    if verdict.intact:
        say(f"✓ All {verdict.head.count:,} entries are as they were written.")
        say(f"Head, to be noted down elsewhere: {verdict.head}")
    else:
        place = "" if verdict.broken_at is None else f" at entry {verdict.broken_at:,}"
        say(f"✗ The audit log is broken{place}: {verdict.reason}.")
        say("  The memories are not touched by this. Keep a copy of the folder, and ask who had access to it.")
