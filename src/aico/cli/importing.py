"""`aico import`: memories from elsewhere."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aico.cli._options import Call, PathName, common, standard_input, writing_user_option
from aico.cli._progress import byte_progress, count_progress
from aico.cli._show import answer, number_of, printable, say
from aico.cli._unlock import FIRST_USER, ask_hidden, at_terminal, chosen_user, opened, secret_in
from aico.errors import InvalidInput, KeyslotMissing, ModelUnavailable

if TYPE_CHECKING:
    from aico.portability.report import ImportReport
    from aico.vault import Vault

BAD_SHOWN = 10
UPSTREAM = "aico-upstream"
FORMATS = ("chatgpt", "claude", "jsonl", "aico", UPSTREAM)
_CALLED = {
    "chatgpt": "ChatGPT's export",
    "claude": "Claude's export",
    "jsonl": "JSON Lines",
    "aico": "an aico export",
    UPSTREAM: "an AICO installation",
}


@click.command("import")
@click.argument("file", type=PathName())
@click.option(
    "--from",
    "kind",
    type=click.Choice(FORMATS),
    help="What it is, where its content does not tell; aico-upstream takes an AICO installation's data folder.",
)
@click.option(
    "--old-key-file",
    type=PathName(),
    envvar="AICO_UPSTREAM_KEY_FILE",
    help="For aico-upstream: read that installation's master password or key from this file. Asked for otherwise.",
)
@click.option("--skip-bad", is_flag=True, help="Leave out what cannot be taken, and report it.")
@click.option("--return-forgotten", is_flag=True, help="Record again what was forgotten.")
@click.option("--no-wait", is_flag=True, help="Leave it for later to find by meaning what was brought in.")
@writing_user_option
@common
def import_(
    call: Call,
    *,
    file: Path,
    kind: Any,
    old_key_file: Path | None,
    skip_bad: bool,
    return_forgotten: bool,
    no_wait: bool,
    user: str | None,
) -> None:
    """Bring in chats: ChatGPT's or Claude's export, JSON Lines, or our own export.

    FILE is the ZIP file as it came, a folder, one of its files, or - for standard input, but not for a ZIP. What it is shows from its
    content. JSON Lines hold one message a line, such as {"text": "I moved to Lisbon.", "conversation": "c1", "at":
    "2026-05-08T19:30:00+02:00"}; role, speaker and source_id may be added.

    Importing again, after an interruption or with a newer export, adds only what is missing. What was forgotten
    stays forgotten.

    All of it is found by its words at once. To be found by its meaning it is read by the chosen model, which takes some
    minutes for every ten thousand messages; Ctrl-C leaves that for later, and so does --no-wait.

    An AICO installation from before this vault is named with --from aico-upstream and its data folder as FILE. It stays
    as it is; docs/how-to/from-upstream.md says what comes over.
    """
    with opened(call.home) as vault:
        old_secret = _old_secret(old_key_file) if kind == UPSTREAM else None
        with count_progress("reading") if kind == UPSTREAM else byte_progress("reading") as on_progress:
            report = vault.import_(
                standard_input() if str(file) == "-" else file,
                user,
                fallback_user=_fallback_user(vault),
                kind=kind,
                skip_bad=skip_bad,
                return_forgotten=return_forgotten,
                old_secret=old_secret,
                on_progress=on_progress,
            )
        if not call.as_json:
            _show(report)
        pending = _embed(vault, wait=not no_wait)
        document = {**_document(report), "model": vault.embeddings.model, "pending": pending}
    answer(document, lambda: _show_pending(document), as_json=call.as_json)


def _old_secret(file: Path | None) -> str:
    if file is not None:
        return secret_in(file)
    if not at_terminal():
        raise KeyslotMissing(
            "the old installation's master password or key is needed and nobody can be asked; nothing was imported",
            hint="name a file that holds it, with --old-key-file",
        )
    return ask_hidden("Master password or master key of the old installation: ")


def _embed(vault: "Vault", *, wait: bool) -> int:
    """Make the vectors of what was brought in, as far as that is wanted; how many are left for later."""
    if wait:
        try:
            with count_progress("understanding") as on_progress:
                vault.embeddings.catch_up(on_progress)
        except KeyboardInterrupt:
            say("Stopped; what was brought in is kept.", err=True)
        except ModelUnavailable as exc:  # what was asked for is done: words find it meanwhile
            say(f"{exc}", err=True)
    return vault.embeddings.lag()


def _show_pending(document: dict[str, Any]) -> None:
    if document["pending"]:
        say(
            f"Found by words at once; {document['pending']:,} by meaning later, when {document['model']} has read them: "
            "while the vault is open, or now with `aico models reembed`."
        )
    elif document["model"] is not None:
        say("All of it can be found by words and by meaning.")


def _fallback_user(vault: "Vault") -> str | None:
    """Whose memory chats become where nobody is named: the only user's, or the first one's in an empty vault."""
    try:
        return chosen_user(vault, None, first=FIRST_USER)
    except InvalidInput:
        return None


def _document(report: "ImportReport") -> dict[str, Any]:
    return {
        "format": report.format,
        "added": report.added,
        "repeated": report.repeated,
        "forgotten": report.forgotten,
        "conversations": report.conversations,
        "by_kind": dict(report.by_kind),
        "left_out": dict(report.left_out),
        "bad": [
            {"file": bad.file, "unit": bad.unit, "line": bad.line, "field": bad.field, "problem": bad.problem}
            for bad in report.bad
        ],
        "ignored_fields": dict(report.ignored_fields),
    }


def _show(report: "ImportReport") -> None:
    read = f" with {number_of(report.conversations, 'conversation')}" if report.conversations else ""
    say(f"Read as {_CALLED[report.format]}{read}.")
    say(
        f"{report.added:,} added, {report.repeated:,} there already, {report.forgotten:,} forgotten before and left so."
    )
    _show_counts("Added", report.by_kind)
    _show_counts("Not taken", report.left_out)
    for name, count in report.ignored_fields.most_common():
        say(f"  the key {printable(name)} means nothing here; {number_of(count, 'line')} with it")
    if report.bad:
        say(f"{number_of(len(report.bad), report.bad[0].unit)} left out:")
    for bad in report.bad[:BAD_SHOWN]:
        say(f"  {bad}")
    if len(report.bad) > BAD_SHOWN:
        say(f"  and {len(report.bad) - BAD_SHOWN:,} more; --json has them all")


def _show_counts(heading: str, counts: "Counter[str]") -> None:
    told = [f"  {count:>9,} {printable(kind)}" for kind, count in counts.most_common() if count]
    for line in [f"{heading}:", *told] if told else []:
        say(line)
