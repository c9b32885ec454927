"""The `aico` command line: parse → call → show. A command's module is loaded when that command runs, not before."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from aico import __version__

COMMANDS = {
    "init": ("aico.cli.init:init", "Make your vault."),
    "status": ("aico.cli.health:status", "Show what the vault holds and how it is unlocked."),
    "doctor": ("aico.cli.health:doctor", "Examine folder, keys, every page and the views."),
    "audit": ("aico.cli.health:audit", "Search the vault's files for readable text, as a stranger would."),
    "keys": ("aico.cli.keys:keys", "See and change the ways to unlock the vault."),
    "unlock": ("aico.cli.session:unlock", "Leave the vault unlocked on this machine for some minutes."),
    "lock": ("aico.cli.session:lock", "Lock what `aico unlock` left unlocked."),
    "record": ("aico.cli.writing:record", "Record one message of a conversation."),
    "remember": ("aico.cli.writing:remember", "Remember a fact."),
    "recall": ("aico.cli.reading:recall", "Find the memories that answer a question best."),
    "context": ("aico.cli.reading:context", "Print what a language model should know to answer."),
    "recent": ("aico.cli.reading:recent", "Show the last messages of a conversation."),
    "query": ("aico.cli.query:query", "Ask by words, by id, by columns or in SQL."),
    "forget": ("aico.cli.forgetting:forget", "Forget for good, with a receipt."),
    "facts": ("aico.cli.facts:facts", "See, correct, mark and review the facts about a person."),
    "album": ("aico.cli.album:album", "Turn the pages: by day, by tag, by what you marked."),
    "import": (
        "aico.cli.importing:import_",
        "Bring in chats: ChatGPT's or Claude's export, JSON Lines, or our own export.",
    ),
    "export": ("aico.cli.exporting:export", "Write one person's whole memory to a file that anybody can read."),
    "backup": ("aico.cli.backup:backup", "Make, check and thin out sealed backups."),
    "restore": ("aico.cli.backup:restore", "Make a vault from a backup."),
    "db": ("aico.cli.db:db", "Look at the database, and take its schemas up and down."),
    "users": ("aico.cli.users:users", "Know who uses the companion, and let them in."),
    "logs": ("aico.cli.logs:logs", "Read the vault's log, and prove its audit log."),
    "conversations": ("aico.cli.conversations:conversations", "List, read, correct and merge conversations."),
    "prefs": ("aico.cli.prefs:prefs", "Say how you want it, for the companion and for programs."),
    "feedback": ("aico.cli.feedback:feedback", "Say what you think of it all, and see what you said."),
    "devices": ("aico.cli.devices:devices", "See the devices that share this memory, and which take part."),
    "tasks": ("aico.cli.tasks:tasks", "Look after what is done by the clock."),
    "views": ("aico.cli.views:views", "See what is derived from the truth."),
    "lmdb": ("aico.cli.lmdb:lmdb", "Look into the hot tier."),
    "config": ("aico.cli.config:config", "Look at the vault's settings and change them."),
    "analytics": ("aico.cli.analytics:analytics", "Look at a memory as a whole."),
    "models": ("aico.cli.models:models", "Choose the model that finds memories by their meaning."),
    "mcp": ("aico.cli.mcp:mcp", "Serve the memory to an assistant (Model Context Protocol)."),
    "demo": ("aico.cli.demo:demo", "Watch a sample memory at work, in a vault that is gone afterwards."),
}
"""Where each command lives, and the line that `aico --help` shows of it without loading it."""

MISTYPED = "aico.mistyped"
"""Where a command that does not exist is noted, for the nearest one to be offered."""


class LazyGroup(click.Group):
    """Commands that are imported when they run; every error leaves as one message, or one JSON object, and a code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            ctx.meta[MISTYPED] = cmd_name
            return None
        import importlib

        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, short_help) for name, (_, short_help) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # Click itself would print an empty line first
            raise click.Abort from None

    def main(self, args: Sequence[str] | None = None, *_: Any, **extra: Any) -> Any:
        """Run a command and end the process with its exit code."""
        given = sys.argv[1:] if args is None else list(args)
        _fill_closed_streams()
        try:
            code = super().main(given, **{**extra, "prog_name": "aico", "standalone_mode": False})
        except Exception as error:  # noqa: BLE001  # the edge of the process
            from aico.cli._errors import report

            code = report(error, as_json=_wants_json(given))
        sys.exit(code if isinstance(code, int) else 0)


def _fill_closed_streams() -> None:
    """Open what stands for standard input, output and error where they are closed.

    Else a file of the vault would get the number, and whatever a library prints would be written into it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free


def _wants_json(args: list[str]) -> bool:
    """Whether --json is among the options, known before they are parsed: a usage error is then JSON too."""
    return "--json" in (args[: args.index("--")] if "--" in args else args)


@click.group(cls=LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--home", metavar="PATH", help="The vault's folder. Default: AICO_HOME, else ~/.aico.")
@click.version_option(__version__, prog_name="aico")
@click.pass_context
def main(ctx: click.Context, home: str | None) -> None:
    """The private memory of an AI companion, sealed on your own machine.

    Begin with `aico demo` or `aico init`. A passphrase is never an argument: it is asked for, read from the file that
    AICO_PASSPHRASE_FILE names, or the machine's keyring stands in for it. Every command takes --json.
    """
    ctx.obj = home
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
