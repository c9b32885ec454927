"""`aico status`, `aico doctor`, `aico audit`: what the vault holds, whether it is well, what a stranger could read."""

from typing import TYPE_CHECKING, Any

import click

from aico.cli._options import Call, Count, common, piped_text
from aico.cli._show import answer, console, number_of, print_indented, say, size
from aico.cli._unlock import opened

if TYPE_CHECKING:
    from aico.audit import AuditReport
    from aico.health import Finding

MARKS = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("–", "dim")}
NOT_WELL = 4
"""The exit code of IntegrityError: something is not as it should be."""
LEAKS_SHOWN = 20


@click.command()
@common
def status(call: Call) -> None:
    """Show what the vault holds and how it is unlocked."""
    from dataclasses import asdict

    with opened(call.home) as vault:
        found = asdict(vault.status())
        users = [profile.name for profile in vault.users.list_profiles()]
    document = {**found, "folder": str(found["folder"]), "users": users}
    answer(document, lambda: _show_status(document), as_json=call.as_json)


@click.command()
@click.option(
    "--accept-older",
    is_flag=True,
    help="The folder is an older copy that you put back yourself: let it count from here on.",
)
@common
def doctor(call: Call, *, accept_older: bool) -> None:
    """Examine folder, keys, every page and the views.

    Ends with code 4 if something is not as it should be. Takes time with the size of the vault.
    """
    from dataclasses import asdict

    with opened(call.home, accept_older=accept_older) as vault:
        findings = vault.doctor()
    well = all(finding.ok is not False for finding in findings)
    document = {"ok": well, "findings": [asdict(finding) for finding in findings]}
    answer(document, lambda: _show_findings(findings), as_json=call.as_json)
    click.get_current_context().exit(0 if well else NOT_WELL)


@click.command()
@click.argument("phrases", nargs=-1, metavar="[PHRASE... | -]")
@click.option(
    "--samples",
    type=Count(min=0),
    default=40,
    show_default=True,
    help="How many random memories to search for.",
)
@common
def audit(call: Call, *, phrases: tuple[str, ...], samples: int) -> None:
    """Search the vault's files for readable text, as a stranger would.

    For the phrases, at least 8 bytes each, and for pieces of random memories. With - they are read from standard
    input, one a line: then the machine's list of processes does not show them. Ends with code 4 if text is readable.
    """
    import msgspec

    wanted = [line for line in piped_text().splitlines() if line.strip()] if phrases == ("-",) else list(phrases)
    with opened(call.home) as vault:
        report = vault.audit(wanted, samples=samples)
    answer(msgspec.to_builtins(report), lambda: _show_audit(report), as_json=call.as_json)
    click.get_current_context().exit(NOT_WELL if report.leaks else 0)


def _show_status(document: dict[str, Any]) -> None:
    counts = (number_of(count, name.removesuffix("s")) for name, count in document["rows"].items() if name != "users")
    for name, value in (
        ("vault", document["folder"]),
        ("holds", ", ".join(counts)),
        ("users", ", ".join(document["users"]) or "none yet"),
        ("unlocked by", ", ".join(document["keyslots"]) + _session(document["session_left_s"])),
        *([("rotation", "unfinished; `aico keys rotate` goes on")] if document["rotation_unfinished"] else []),
        ("engine", f"{document['engine']}, format {document['format']}" + _unnoticed(document)),
        ("on disk", size(document["size_bytes"])),
        ("meaning", _meaning(document["embeddings"])),
        ("views", _views(document["views"])),
    ):
        say(f"{name:<11}  {value}")


def _unnoticed(document: dict[str, Any]) -> str:
    return "" if document["detects_tampering"] else "; a change from outside is not detected"


def _session(left_s: int) -> str:
    return f"; left unlocked for {-(-left_s // 60)} more minutes (`aico lock` ends it)" if left_s else ""


def _meaning(embeddings: list[dict[str, Any]]) -> str:
    chosen = next((status for status in embeddings if status["chosen"]), None)
    if chosen is None:
        return "no embedding model; memories are found by their words"
    waiting = f", {chosen['pending']:,} to come (`aico models reembed` makes them now)" if chosen["pending"] else ""
    problem = f"; {chosen['problem']}" if chosen["problem"] else ""
    return f"{chosen['model']}, {number_of(chosen['vectors'], 'vector')}{waiting}{problem}"


def _views(views: list[dict[str, Any]]) -> str:
    return "; ".join(
        f"{view['name']} {view['trouble'] or number_of(view['lag'], 'change') + ' behind'}" for view in views
    )


def _show_findings(findings: "list[Finding]") -> None:
    from rich.text import Text

    screen = console()
    for finding in findings:
        screen.print(Text.assemble(MARKS[finding.ok], " ", (finding.name, "bold")))
        print_indented(screen, finding.message)
        if finding.hint and finding.ok is False:
            print_indented(screen, f"→ {finding.hint}")


def _show_audit(report: "AuditReport") -> None:
    say(
        f"Searched {report.files:,} files, {report.searched_bytes:,} bytes, for {report.needles} phrases in eight encodings."
    )
    say(f"The control file was found {report.control_hits} times, so the search works.")
    for leak in report.leaks[:LEAKS_SHOWN]:
        say(f"✗ phrase {leak.needle + 1} is readable: {leak.encoding} at byte {leak.offset:,} of {leak.file}")
    if len(report.leaks) > LEAKS_SHOWN:
        say(f"  and {len(report.leaks) - LEAKS_SHOWN} more; --json has them all")
    for path in report.unreadable:
        say(f"! could not be read, so not searched: {path}")
    say(f"✗ {len(report.leaks)} places are readable." if report.leaks else "✓ Nothing of it is readable.")
