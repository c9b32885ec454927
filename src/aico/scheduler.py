"""Runs tasks when they are due: from `aico tasks run --due`, from a program, or from a thread that was asked for.

Nothing runs by itself. A task names its action; a process runs the tasks whose actions it has registered, so that one
that lacks a part of the program leaves the tasks of that part to others.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from aico.data.json_values import JsonObject
from aico.data.tasks import ATTEMPTS_MAX, Claim, Execution, Task, TaskRepository
from aico.data.user import UserService
from aico.errors import InvalidInput, NotFound, StorageError

LOOK_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class TaskRun:
    """What an action is given: its task, and a way to say that it is still at work."""

    task: Task
    keep_alive: Callable[[], None]
    """Call it at least every 15 minutes, or another process takes this run for lost and begins its own."""


Action = Callable[[TaskRun], object]


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A task of the vault's own, there from the start. Its action has its name."""

    name: str
    schedule: str
    action: Action


class Scheduler:
    """The tasks of a vault, and their runs. Any thread may use it; one process at a time runs a task.

    >>> vault.tasks.register("greet", lambda run: None)
    >>> _ = vault.tasks.add("good morning", action="greet", schedule="every 24h")
    >>> vault.tasks.run("good morning").outcome
    'done'
    """

    def __init__(self, tasks: TaskRepository, *, users: UserService, built_in: Sequence[BuiltIn] = ()) -> None:
        self._tasks, self._users = tasks, users
        self._built_in = {task.name: task for task in built_in}
        self._actions: dict[str, Action] = {task.name: task.action for task in built_in}
        self._all_there = False
        self._thread: _Thread | None = None

    def register(self, action: str, run: Action) -> None:
        """Let this process do the tasks that name this action. Raises InvalidInput for a name in use.

        >>> vault.tasks.register("greet", lambda run: print("Good morning."))
        """
        if action in self._actions:
            raise InvalidInput(f"an action named {action!r} is registered already; it was not replaced")
        self._actions[action] = run

    def add(
        self,
        name: str,
        *,
        action: str,
        schedule: str,
        payload: JsonObject | None = None,
        user: str | None = None,
        attempts_max: int = ATTEMPTS_MAX,
    ) -> Task:
        """Keep a new task, which runs `action` by `schedule`: `every 15m`, `cron 30 3 * * * Europe/Lisbon`, `once 2026-…`.

        A task of a `user` is forgotten with everything of theirs. A failed run is repeated after a growing pause, up
        to `attempts_max` runs. Raises InvalidInput, NotFound for the user, MissingExtra for cron without `aico[tasks]`.

        >>> vault.tasks.add("morning", action="greet", schedule="every 24h").next_run_at > vault.tasks.get("morning").created_at
        True
        """
        self._ensure_built_in()
        user_id = None if user is None else self._users.find_active(user)
        if user is not None and user_id is None:
            raise NotFound("there is no user of this name; nothing was written")
        return self._tasks.add(
            name, action=action, schedule=schedule, payload=payload, user_id=user_id, attempts_max=attempts_max
        )

    def get(self, name: str) -> Task:
        """One task. Raises NotFound.

        >>> vault.tasks.get("keep-logs-short").is_enabled
        True
        """
        self._ensure_built_in()
        return self._tasks.get(name)

    def list(self) -> Sequence[Task]:
        """All tasks, by name.

        >>> "keep-logs-short" in [task.name for task in vault.tasks.list()]
        True
        """
        self._ensure_built_in()
        return self._tasks.list()

    def due(self) -> Sequence[Task]:
        """The tasks that are due now, whether or not this process can run them.

        >>> "morning" in [task.name for task in vault.tasks.due()]
        False
        """
        self._ensure_built_in()
        return self._tasks.due()

    def history(self, name: str | None = None, *, limit: int = 50) -> Sequence[Execution]:
        """The last runs, newest first. Raises NotFound or InvalidInput.

        >>> vault.tasks.history("keep-logs-short")
        []
        """
        self._ensure_built_in()
        return self._tasks.history(name, limit=limit)

    def enable(self, name: str) -> Task:
        """Switch a task on; it is next due by its schedule. Raises NotFound.

        >>> _ = vault.tasks.disable("keep-logs-short")
        >>> vault.tasks.enable("keep-logs-short").is_enabled
        True
        """
        self._ensure_built_in()
        return self._tasks.set_enabled(name, enabled=True)

    def disable(self, name: str) -> Task:
        """Switch a task off. Raises NotFound.

        >>> vault.tasks.disable("keep-logs-short").is_enabled
        False
        """
        self._ensure_built_in()
        return self._tasks.set_enabled(name, enabled=False)

    def remove(self, name: str) -> None:
        """Delete a task and its history. Raises NotFound, or InvalidInput for one of the vault's own.

        >>> _ = vault.tasks.add("morning", action="greet", schedule="every 24h")
        >>> vault.tasks.remove("morning")
        """
        if name in self._built_in:
            raise InvalidInput("this task is the vault's own; it was not removed", hint="disable it instead")
        self._tasks.remove(name)

    def run(self, name: str) -> Execution:
        """Run a task now, due or not. What its action raises is in the result, not raised.

        Raises NotFound, InvalidInput while it runs elsewhere, or if this process has no such action.

        >>> vault.tasks.run("keep-logs-short").outcome
        'done'
        """
        task = self.get(name)
        if task.action not in self._actions:
            raise InvalidInput("this program has no action of the task's name; nothing was done", field="action")
        return self._run(self._tasks.claim(name))

    def run_due(self) -> Sequence[Execution]:
        """Run what is due, each task once, however often it was missed; the one due longest comes first.

        A task by cron is left to others where `aico[tasks]` is not installed.

        >>> vault.tasks.run_due()  # a new vault has nothing to look after yet
        []
        """
        self._ensure_built_in()
        self._tasks.heed_the_clock()
        done: list[Execution] = []
        while claim := self._tasks.claim_due(self._actions, besides=[run.task for run in done]):
            done.append(self._run(claim))
        return done

    def start(self, *, look_every_s: float = LOOK_EVERY_S) -> None:
        """Run what is due in a thread of its own, until `stop` or the end of the vault. Raises InvalidInput if it runs."""
        if self._thread is not None and self._thread.is_alive():
            raise InvalidInput("the scheduler runs already; nothing was started")
        self._thread = _Thread(self.run_due, look_every_s)
        self._thread.start()

    def stop(self) -> None:
        """Let a run under way end, and the thread with it. May be called twice."""
        if self._thread is not None:
            self._thread.stop()
            self._thread = None

    def _run(self, claim: Claim) -> Execution:
        try:
            self._actions[claim.task.action](TaskRun(claim.task, lambda: self._tasks.keep_alive(claim)))
        except Exception as exc:  # noqa: BLE001  # an action may fail in any way; its message may hold content
            return self._tasks.finish(claim, error=type(exc).__name__)
        except BaseException as exc:
            self._tasks.finish(claim, error=type(exc).__name__)
            raise
        return self._tasks.finish(claim, error=None)

    def _ensure_built_in(self) -> None:
        if self._all_there:
            return
        missing = self._built_in.keys() - {task.name for task in self._tasks.list()}
        for name in sorted(missing):
            try:
                self._tasks.add(name, action=name, schedule=self._built_in[name].schedule)
            except InvalidInput:  # another process was first
                self._tasks.get(name)
        self._all_there = True


class _Thread(threading.Thread):
    """Runs what is due again and again, until it is stopped. A stop is for this thread alone, never for a later one."""

    def __init__(self, run_due: Callable[[], object], look_every_s: float) -> None:
        super().__init__(name="aico-tasks", daemon=True)
        self._run_due, self._look_every_s, self._stopped = run_due, look_every_s, threading.Event()

    def run(self) -> None:
        while not self._stopped.is_set():
            # Busy, or the disk is full: there is a next time. An action that exits ends its own run and no other's.
            with suppress(StorageError, SystemExit):
                self._run_due()
            self._stopped.wait(self._look_every_s)

    def stop(self) -> None:
        self._stopped.set()
        self.join()
