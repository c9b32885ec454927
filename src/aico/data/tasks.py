"""Tasks and their executions: what is to be done and when, who is doing it now, and how it went.

A run holds a lease: one process at a time runs a task, and a process that dies gives it up when the lease ends.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from aico.clock import IdSource, from_us
from aico.data.json_values import JsonObject, checked_json_object, read_json
from aico.data.libsql import LibSQLConnection, Row
from aico.data.limits import checked_limit, checked_name
from aico.data.schedules import parse_schedule
from aico.errors import InvalidInput, MissingExtra, NotFound

LEASE_S = 15 * 60
"""How long a run counts as under way after its last sign of life: longer than our own upkeep takes."""
ATTEMPTS_MAX = 3
_SECOND_US = 1_000_000
_BACKOFF_FIRST_S, _BACKOFF_FACTOR, _BACKOFF_LONGEST_S = 60, 4, 6 * 3600


@dataclass(frozen=True, slots=True)
class Task:
    """One task. `next_run_at` is None when it will not run again; `attempt` is that of the next run."""

    id: str
    name: str
    action: str
    schedule: str
    payload: JsonObject = field(repr=False)
    attempts_max: int
    attempt: int
    is_enabled: bool
    is_running: bool
    next_run_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Execution:
    """One run of a task. `outcome` is done, failed or lost, None while it runs; `error` is the class of what was raised."""

    id: str
    task: str
    attempt: int
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run a task now."""

    task: Task
    task_id: bytes
    execution_id: bytes
    started_us: int


class TaskRepository:
    """Tasks of this device. Any thread and process may use it: claims are transactions."""

    def __init__(self, connection: LibSQLConnection, *, ids: IdSource) -> None:
        self._connection, self._ids = connection, ids

    def add(
        self,
        name: str,
        *,
        action: str,
        schedule: str,
        payload: JsonObject | None = None,
        user_id: bytes | None = None,
        attempts_max: int = ATTEMPTS_MAX,
    ) -> Task:
        """Keep a new task. Raises InvalidInput, also for a name in use or a schedule that never comes due."""
        name, action = checked_name(name, field="name"), checked_name(action, field="action")
        kept, parsed, now = checked_json_object(payload, field="payload"), parse_schedule(schedule), self._ids.now_us()
        checked_limit(attempts_max, field="attempts_max")
        first = parsed.next_after(now)
        if first is None:
            raise InvalidInput("the schedule lies in the past; nothing was written", field="schedule")
        added = self._connection.execute(
            "INSERT INTO tasks (id, user_id, name, action, schedule, payload, attempts_max, is_enabled, next_run_at, "
            "attempt, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, 1, ?) ON CONFLICT (name) DO NOTHING",
            (self._ids.new_id(), user_id, name, action, str(parsed), kept, attempts_max, first, now),
        )
        if not added.rowcount:
            raise InvalidInput("there is a task of this name; nothing was written", hint="remove it first")
        return self.get(name)

    def get(self, name: str) -> Task:
        """One task by name. Raises NotFound."""
        return self._task(self._row(name))

    def list(self) -> Sequence[Task]:
        """All tasks, by name."""
        return [self._task(row) for row in self._connection.fetch_all("SELECT * FROM tasks ORDER BY name")]

    def due(self) -> Sequence[Task]:
        """The tasks that are due and not under way, the longest due first."""
        return [self._task(row) for row in self._due_rows(self._ids.now_us())]

    def set_enabled(self, name: str, *, enabled: bool) -> Task:
        """Switch a task on, from its next due time, or off; a run under way goes on. Raises NotFound."""

        def work() -> Row:
            row = self._row(name)
            following = parse_schedule(row["schedule"]).next_after(self._ids.now_us()) if enabled else None
            self._connection.execute(
                "UPDATE tasks SET is_enabled = ?, next_run_at = ?, attempt = 1 WHERE id = ?",
                (int(enabled), following, row["id"]),
            )
            return self._row(name)

        return self._task(self._connection.write(work))

    def remove(self, name: str) -> None:
        """Delete a task and its history. Raises NotFound."""

        def work() -> None:
            task_id = self._row(name)["id"]
            self._connection.execute("DELETE FROM task_executions WHERE task_id = ?", (task_id,))
            self._connection.execute("DELETE FROM tasks WHERE id = ?", (task_id,))

        self._connection.write(work)

    def history(self, name: str | None = None, *, limit: int = 50) -> Sequence[Execution]:
        """The last runs, of one task or of all, newest first. Raises NotFound or InvalidInput."""
        task_id = None if name is None else self._row(name)["id"]
        of_task = "" if task_id is None else "WHERE e.task_id = ?"
        rows = self._connection.fetch_all(
            f"SELECT e.*, t.name FROM task_executions e JOIN tasks t ON t.id = e.task_id {of_task} "
            "ORDER BY e.started_at DESC, e.row_id DESC LIMIT ?",
            (*([] if task_id is None else [task_id]), checked_limit(limit)),
        )
        return [_execution(row) for row in rows]

    def prune_history(self, *, keep_s: int) -> int:
        """Delete runs that began more than `keep_s` seconds ago; how many there were."""
        before = self._ids.now_us() - checked_limit(keep_s, least=0, field="keep_s") * _SECOND_US
        return self._connection.execute("DELETE FROM task_executions WHERE started_at < ?", (before,)).rowcount

    def heed_the_clock(self) -> None:
        """After the clock was set back, bring what would wait for the old time to its next due time from now.

        A task is never due later than its schedule says, counted from now: later than that is an older clock's.
        """

        def work() -> None:
            now = self._ids.now_us()
            waiting = "SELECT id, schedule, next_run_at FROM tasks WHERE is_enabled AND next_run_at > ?"
            for row in self._connection.fetch_all(waiting, (now,)):
                following = parse_schedule(row["schedule"]).next_after(now) if _can_schedule(row, now) else None
                if following is not None and following < row["next_run_at"]:
                    self._connection.execute("UPDATE tasks SET next_run_at = ? WHERE id = ?", (following, row["id"]))

        self._connection.write(work)

    def claim_due(self, actions: Collection[str], *, besides: Collection[str] = ()) -> Claim | None:
        """Begin the run that is due longest, of those whose action is among `actions`; None if nothing is due.

        `besides` names tasks to leave alone; one whose next time this machine cannot tell is left too. A run that was
        lost on the way counts as an attempt.
        """

        def work() -> Claim | None:
            now = self._ids.now_us()
            for row in self._due_rows(now):
                if row["action"] in actions and row["name"] not in besides and _can_schedule(row, now):
                    survivor = self._give_up_lost_run(row, now)
                    if survivor is not None:
                        return self._begin(survivor, now)
            return None

        return self._connection.write(work)

    def claim(self, name: str) -> Claim:
        """Begin a run now, due or not, enabled or not. Raises NotFound, or InvalidInput while it runs elsewhere."""

        def work() -> Claim:
            row, now = self._row(name), self._ids.now_us()
            if _is_running(row, now):
                raise InvalidInput("the task is running now; nothing was done", hint="`aico tasks history` shows it")
            return self._begin(self._give_up_lost_run(row, now) or self._row(name), now)

        return self._connection.write(work)

    def keep_alive(self, claim: Claim) -> None:
        """A sign of life: the lease begins anew. Raises NotFound when the run was given up as lost."""
        kept = self._connection.execute(
            "UPDATE tasks SET lease_until = ? WHERE id = ? AND execution_id = ?",
            (self._ids.now_us() + LEASE_S * _SECOND_US, claim.task_id, claim.execution_id),
        )
        if not kept.rowcount:
            raise NotFound("this run was given up as lost, or its task was removed", hint="stop it")

    def finish(self, claim: Claim, *, error: str | None) -> Execution:
        """Note how a run ended and when the task runs next: after a failure soon again, as long as attempts are left.

        A run that was given up as lost meanwhile stays so.
        """

        def work() -> Execution:
            now = self._ids.now_us()
            row = self._connection.fetch_one(
                "SELECT * FROM tasks WHERE id = ? AND execution_id = ?", (claim.task_id, claim.execution_id)
            )
            if row is None:
                return _ended(claim, now, "lost", error)
            outcome = "done" if error is None else "failed"
            self._end_execution(claim.execution_id, now, outcome, error)
            self._schedule_next(row, now, failed=error is not None)
            return _ended(claim, now, outcome, error)

        return self._connection.write(work)

    def _begin(self, row: Row, now: int) -> Claim:
        execution_id = self._ids.new_id()
        self._connection.execute(
            "UPDATE tasks SET execution_id = ?, lease_until = ? WHERE id = ?",
            (execution_id, now + LEASE_S * _SECOND_US, row["id"]),
        )
        self._connection.execute(
            "INSERT INTO task_executions (id, task_id, attempt, started_at) VALUES (?, ?, ?, ?)",
            (execution_id, row["id"], row["attempt"], now),
        )
        return Claim(self._task(row), row["id"], execution_id, now)

    def _give_up_lost_run(self, row: Row, now: int) -> Row | None:
        """The task, once the run that its lease belonged to is noted as lost; None if that was the last attempt."""
        if row["execution_id"] is None:
            return row
        self._end_execution(row["execution_id"], now, "lost", None)
        self._schedule_next(row, now, failed=True)
        return None if row["attempt"] >= row["attempts_max"] else self._row(row["name"])

    def _end_execution(self, execution_id: bytes, now: int, outcome: str, error: str | None) -> None:
        self._connection.execute(
            "UPDATE task_executions SET ended_at = ?, outcome = ?, error = ? WHERE id = ?",
            (now, outcome, error, execution_id),
        )

    def _schedule_next(self, row: Row, now: int, *, failed: bool) -> None:
        """A retry comes after a growing pause, but never later than the next due time."""
        following = parse_schedule(row["schedule"]).next_after(now) if row["is_enabled"] else None
        attempt = 1
        if failed and row["is_enabled"] and row["attempt"] < row["attempts_max"]:
            pause_s = min(_BACKOFF_FIRST_S * _BACKOFF_FACTOR ** (row["attempt"] - 1), _BACKOFF_LONGEST_S)
            retry, attempt = now + pause_s * _SECOND_US, row["attempt"] + 1
            following = retry if following is None else min(retry, following)
        self._connection.execute(
            "UPDATE tasks SET execution_id = NULL, lease_until = NULL, next_run_at = ?, attempt = ? WHERE id = ?",
            (following, attempt, row["id"]),
        )

    def _due_rows(self, now: int) -> Sequence[Row]:
        rows = self._connection.fetch_all(
            "SELECT * FROM tasks WHERE is_enabled AND next_run_at <= ? ORDER BY next_run_at", (now,)
        )
        return [row for row in rows if not _is_running(row, now)]

    def _row(self, name: str) -> Row:
        row = self._connection.fetch_one("SELECT * FROM tasks WHERE name = ?", (checked_name(name, field="name"),))
        if row is None:
            raise NotFound("there is no task of this name", hint="`aico tasks ls` shows those there are")
        return row

    def _task(self, row: Row) -> Task:
        return Task(
            id=row["id"].hex(),
            name=row["name"],
            action=row["action"],
            schedule=row["schedule"],
            payload=read_json(row["payload"]),
            attempts_max=row["attempts_max"],
            attempt=row["attempt"],
            is_enabled=bool(row["is_enabled"]),
            is_running=_is_running(row, self._ids.now_us()),
            next_run_at=None if row["next_run_at"] is None else from_us(row["next_run_at"]),
            created_at=from_us(row["created_at"]),
        )


def _is_running(row: Row, now: int) -> bool:
    """Whether somebody holds the lease. One that ends much later than any could begin now was given by an older clock.

    A clock that steps back by less than a lease, as it does where the network corrects it, ends no run.
    """
    until = row["lease_until"]
    return until is not None and now < until <= now + 2 * LEASE_S * _SECOND_US


def _can_schedule(row: Row, now: int) -> bool:
    """Whether this machine can tell when a task is due next: it may lack the package for cron, or a time zone."""
    try:
        parse_schedule(row["schedule"]).next_after(now)
    except (MissingExtra, InvalidInput):
        return False
    return True


def _execution(row: Row) -> Execution:
    return Execution(
        id=row["id"].hex(),
        task=row["name"],
        attempt=row["attempt"],
        started_at=from_us(row["started_at"]),
        ended_at=None if row["ended_at"] is None else from_us(row["ended_at"]),
        outcome=row["outcome"],
        error=row["error"],
    )


def _ended(claim: Claim, now: int, outcome: str, error: str | None) -> Execution:
    return Execution(
        claim.execution_id.hex(),
        claim.task.name,
        claim.task.attempt,
        from_us(claim.started_us),
        from_us(now),
        outcome,
        error,
    )
