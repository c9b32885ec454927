"""`aico tasks`: what is to be done, when, and how it went."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from aico.cli._options import Call, Count, common, text_option
from aico.cli._show import answer, console, day_and_time, printable, say
from aico.cli._unlock import opened
from aico.clock import moment_from_text
from aico.errors import InvalidInput

if TYPE_CHECKING:
    from aico.data.tasks import Execution, Task

NOT_WELL = 4


@click.group(invoke_without_command=True)
@click.pass_context
def tasks(context: click.Context) -> None:
    """Look after what is done by the clock.

    Nothing runs by itself: let cron, or a timer of your system, call `aico tasks run --due` every few minutes.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@tasks.command()
@common
def ls(call: Call) -> None:
    """List all tasks and when each is due next."""
    with opened(call.home) as vault:
        found = vault.tasks.list()
    _answer_tasks(call, found)


@tasks.command()
@common
def due(call: Call) -> None:
    """List the tasks that are due now."""
    with opened(call.home) as vault:
        found = vault.tasks.due()
    _answer_tasks(call, found)


@tasks.command()
@click.argument("name")
@click.option("--action", required=True, metavar="NAME", help="What it does: the name a program registers.")
@click.option(
    "--schedule",
    required=True,
    metavar="TEXT",
    help="'every 15m', 'cron 0 3 * * * Europe/Lisbon', or 'once 2027-01-01T08:00'; without a zone it is this machine's.",
)
@text_option("--payload", help="A JSON object for the action; - reads it from standard input.")
@click.option("--user", metavar="NAME", help="Whose task it is: it is forgotten with everything of theirs.")
@click.option("--attempts", type=click.IntRange(min=1), default=3, show_default=True, help="How often it is tried.")
@common
def add(
    call: Call, *, name: str, action: str, schedule: str, payload: str | None, user: str | None, attempts: int
) -> None:
    """Add a task.

    The program that runs it must have registered its action; without one it waits.
    """
    from aico.data.json_values import json_or_text

    read = None if payload is None else json_or_text(payload)
    with opened(call.home) as vault:
        made = vault.tasks.add(
            name, action=action, schedule=_zoned(schedule), payload=read, user=user, attempts_max=attempts
        )
    _answer_task(call, made)


@tasks.command()
@click.argument("name", required=False)
@click.option("--due", "only_due", is_flag=True, help="Run all that is due, each once.")
@common
def run(call: Call, *, name: str | None, only_due: bool) -> None:
    """Run one task by its name, or all that is due.

    Ends with code 4 if one failed; its error's kind is in the history.
    """
    if (name is None) is not only_due:
        raise InvalidInput("one task is run, or all that is due; nothing was run", hint="name a task, or give --due")
    with opened(call.home) as vault:
        done = vault.tasks.run_due() if name is None else [vault.tasks.run(name)]
    _answer_executions(call, done, nothing="Nothing is due.")
    if any(execution.outcome != "done" for execution in done):
        click.get_current_context().exit(NOT_WELL)


@tasks.command()
@click.argument("name", required=False)
@click.option("--limit", type=Count(min=1), default=20, show_default=True, help="How many runs at most.")
@common
def history(call: Call, *, name: str | None, limit: int) -> None:
    """Show the last runs, newest first."""
    with opened(call.home) as vault:
        found = vault.tasks.history(name, limit=limit)
    _answer_executions(call, found, nothing="Nothing has run yet.")


@tasks.command()
@click.argument("name")
@common
def enable(call: Call, *, name: str) -> None:
    """Switch a task on."""
    with opened(call.home) as vault:
        changed = vault.tasks.enable(name)
    _answer_task(call, changed)


@tasks.command()
@click.argument("name")
@common
def disable(call: Call, *, name: str) -> None:
    """Switch a task off."""
    with opened(call.home) as vault:
        changed = vault.tasks.disable(name)
    _answer_task(call, changed)


@tasks.command()
@click.argument("name")
@common
def rm(call: Call, *, name: str) -> None:
    """Remove a task and its history."""
    with opened(call.home) as vault:
        vault.tasks.remove(name)
    answer({"name": name}, lambda: say(f"{name} is removed."), as_json=call.as_json)


def _answer_task(call: Call, task: "Task") -> None:
    from dataclasses import asdict

    answer(asdict(task), lambda: say(f"{task.name}: {_when(task)}"), as_json=call.as_json)


def _zoned(schedule: str) -> str:
    """A moment that was typed may go without its zone, as at every other option."""
    kind, _, moment = schedule.strip().partition(" ")
    return f"once {moment_from_text(moment.strip()).isoformat()}" if kind == "once" else schedule


def _answer_tasks(call: Call, found: "Sequence[Task]") -> None:
    from dataclasses import asdict

    def show() -> None:
        if not found:
            say("Nothing is due.", err=True)
        for task in found:
            console().print(printable(f"{task.name}  {task.schedule}  {_when(task)}"), soft_wrap=True)

    answer({"tasks": [asdict(task) for task in found]}, show, as_json=call.as_json)


def _answer_executions(call: Call, found: "Sequence[Execution]", *, nothing: str) -> None:
    from dataclasses import asdict

    def show() -> None:
        if not found:
            say(nothing, err=True)
        for execution in found:
            how = " ".join(part for part in (execution.outcome or "running", execution.error) if part)
            line = f"{day_and_time(execution.started_at)}  {execution.task}  {how}, attempt {execution.attempt}"
            console().print(printable(line), soft_wrap=True)

    answer({"executions": [asdict(execution) for execution in found]}, show, as_json=call.as_json)


def _when(task: "Task") -> str:
    if task.is_running:
        return "running now"
    if not task.is_enabled:
        return "switched off"
    return "never again" if task.next_run_at is None else f"next {day_and_time(task.next_run_at)} UTC"
