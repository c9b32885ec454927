"""Tasks run when they are due, once, in one process, whatever happens to clocks and processes."""

import os
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aico.clock import to_us
from aico.data.tasks import LEASE_S
from aico.errors import InvalidInput, MissingExtra, NotFound
from aico.testing import PASSPHRASE, FixedClock, cheap_settings, temporary_vault
from aico.vault import open_vault
from tests.children import run, started

START = datetime(2026, 5, 8, 12, 0, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def clock():
    return FixedClock(START)


@pytest.fixture
def vault(clock):
    with temporary_vault(clock=clock) as vault:
        yield vault


@pytest.fixture
def runs(vault):
    """What ran, by the task's name; a task whose payload says so fails."""
    done = []

    def note(run):
        done.append(run.task.name)
        if run.task.payload.get("fails"):
            raise ZeroDivisionError("with a diary in its message")

    vault.tasks.register("note", note)
    return done


def ran(executions):
    return [execution.task for execution in executions if execution.task.startswith("my")]


def test_a_task_runs_when_it_is_due_and_not_before(vault, clock, runs):
    vault.tasks.add("my task", action="note", schedule="every 10m", payload={"x": [1]})
    assert ran(vault.tasks.run_due()) == []
    clock.move(10 * MINUTE)
    assert [task.name for task in vault.tasks.due()] == ["my task"]
    assert ran(vault.tasks.run_due()) == ran(vault.tasks.history("my task")) == ["my task"] == runs
    assert ran(vault.tasks.run_due()) == []
    assert vault.tasks.get("my task").next_run_at == START + 20 * MINUTE


@pytest.mark.usefixtures("cron")
def test_missed_runs_are_made_up_for_by_one(vault, clock, runs):
    vault.tasks.add("my hours", action="note", schedule="every 1h")
    vault.tasks.add("my nights", action="note", schedule="cron 0 3 * * * Europe/Lisbon")
    clock.move(30 * DAY)
    assert sorted(ran(vault.tasks.run_due())) == ["my hours", "my nights"]
    assert ran(vault.tasks.run_due()) == []
    assert vault.tasks.get("my nights").next_run_at == datetime(2026, 6, 8, 2, 0, tzinfo=UTC)


def test_a_single_instant_runs_once_and_never_again(vault, clock, runs):
    vault.tasks.add("my day", action="note", schedule="once 2026-05-09T00:00+00:00")
    clock.move(2 * DAY)
    assert ran(vault.tasks.run_due()) == ["my day"]
    clock.move(DAY)
    assert ran(vault.tasks.run_due()) == []
    assert vault.tasks.get("my day").next_run_at is None


def test_a_failure_is_tried_again_after_a_growing_pause_then_waits_for_its_next_time(vault, clock, runs):
    vault.tasks.add("my task", action="note", schedule="every 1d", payload={"fails": True})
    clock.move(DAY)
    due = []
    for _ in range(4):
        [execution] = [one for one in vault.tasks.run_due() if one.task == "my task"]
        due.append(vault.tasks.get("my task").next_run_at - (START + DAY))
        assert (execution.outcome, execution.error) == ("failed", "ZeroDivisionError")
        clock.move(vault.tasks.get("my task").next_run_at - datetime.fromtimestamp(clock.now_us() / 1e6, UTC))
    assert due == [MINUTE, 5 * MINUTE, DAY + 5 * MINUTE, DAY + 6 * MINUTE]
    assert [one.attempt for one in vault.tasks.history("my task")] == [1, 3, 2, 1]
    assert "diary" not in repr(vault.tasks.history())


def test_a_retry_never_comes_later_than_the_next_regular_time(vault, clock, runs):
    vault.tasks.add("my task", action="note", schedule="every 10s", payload={"fails": True})
    clock.move(MINUTE)
    vault.tasks.run_due()
    assert vault.tasks.get("my task").next_run_at == START + MINUTE + timedelta(seconds=10)


def test_a_clock_set_back_does_not_stop_tasks(vault, clock, runs):
    vault.tasks.add("my task", action="note", schedule="every 1h")
    clock.move(365 * DAY)
    assert ran(vault.tasks.run_due()) == ["my task"]
    clock.move(-365 * DAY)
    vault.tasks.run_due()
    assert vault.tasks.get("my task").next_run_at == START + HOUR
    clock.move(HOUR)
    assert ran(vault.tasks.run_due()) == ["my task"]


def test_a_lease_of_an_older_clock_does_not_hold(vault, clock, runs):
    vault.tasks.add("my task", action="note", schedule="every 1h")
    clock.move(365 * DAY)
    vault.tasks._tasks.claim("my task")  # and its process dies
    assert vault.tasks.get("my task").is_running
    clock.move(-365 * DAY + HOUR)
    vault.tasks.run_due()
    clock.move(HOUR)
    assert ran(vault.tasks.run_due()) == ["my task"]


@pytest.mark.parametrize("step", [timedelta(seconds=1), timedelta(seconds=LEASE_S)])
def test_a_clock_that_steps_back_begins_no_run_twice(tmp_path, step):
    clock, done = FixedClock(START), []
    with (
        open_vault(tmp_path / "v", passphrase=PASSPHRASE, settings=cheap_settings(clock=clock)) as one,
        open_vault(tmp_path / "v", passphrase=PASSPHRASE, settings=cheap_settings(clock=clock)) as other,
    ):

        def step_back(run):
            done.append("one")
            clock.move(-step)
            assert ran(other.tasks.run_due()) == []
            with pytest.raises(InvalidInput, match="is running now"):
                other.tasks.run("my task")

        one.tasks.register("note", step_back)
        other.tasks.register("note", lambda run: done.append("other"))
        one.tasks.add("my task", action="note", schedule="every 1h")
        clock.move(2 * HOUR)
        assert ran(one.tasks.run_due()) == ["my task"]
        assert done == ["one"]
        assert [run.outcome for run in one.tasks.history("my task")] == ["done"]


def test_a_lost_run_counts_as_an_attempt_and_its_late_end_changes_nothing(vault, clock, runs):
    vault.tasks.add("my task", action="note", schedule="every 1h", attempts_max=2)
    repository = vault.tasks._tasks
    lost = repository.claim("my task")
    with pytest.raises(InvalidInput, match="running"):
        vault.tasks.run("my task")
    clock.move(timedelta(seconds=LEASE_S) + HOUR)
    assert ran(vault.tasks.run_due()) == ["my task"]
    assert repository.finish(lost, error=None).outcome == "lost"
    with pytest.raises(NotFound):
        repository.keep_alive(lost)
    assert [(one.outcome, one.attempt) for one in vault.tasks.history("my task")] == [("done", 2), ("lost", 1)]


def test_a_task_that_takes_its_process_along_is_not_begun_for_ever(vault, clock, runs):
    vault.tasks.add("my task", action="note", schedule="every 1d", attempts_max=2)
    clock.move(DAY)
    for _ in range(2):
        assert vault.tasks._tasks.claim_due({"note"}) is not None
        clock.move(timedelta(seconds=LEASE_S))
    assert vault.tasks._tasks.claim_due({"note"}) is None
    assert [one.outcome for one in vault.tasks.history("my task")] == ["lost", "lost"]
    clock.move(DAY)
    assert ran(vault.tasks.run_due()) == ["my task"]


def test_a_sign_of_life_keeps_the_lease(vault, clock, runs):
    vault.tasks.add("my task", action="note", schedule="every 1h")
    claim = vault.tasks._tasks.claim("my task")
    for _ in range(5):
        clock.move(timedelta(seconds=LEASE_S - 1))
        vault.tasks._tasks.keep_alive(claim)
    assert vault.tasks._tasks.claim_due({"note"}) is None
    assert vault.tasks._tasks.finish(claim, error=None).outcome == "done"


def test_a_disabled_task_does_not_run_and_begins_anew_when_enabled(vault, clock, runs):
    vault.tasks.add("my task", action="note", schedule="every 1h")
    vault.tasks.disable("my task")
    clock.move(DAY)
    assert ran(vault.tasks.run_due()) == []
    assert vault.tasks.enable("my task").next_run_at == START + DAY + HOUR
    assert vault.tasks.run("my task").outcome == "done"


def test_a_task_whose_action_is_not_here_is_left_to_others(vault, clock, runs):
    vault.tasks.add("my other task", action="elsewhere", schedule="every 1h")
    clock.move(DAY)
    assert ran(vault.tasks.run_due()) == []
    assert "my other task" in {task.name for task in vault.tasks.due()}
    with pytest.raises(InvalidInput, match="action"):
        vault.tasks.run("my other task")


@pytest.mark.usefixtures("cron")
def test_without_its_package_a_cron_task_is_left_to_others_and_the_rest_goes_on(vault, clock, runs, monkeypatch):
    vault.tasks.add("my nights", action="note", schedule="cron 0 3 * * *")
    vault.tasks.add("my hours", action="note", schedule="every 1h")
    clock.move(DAY)
    monkeypatch.setitem(sys.modules, "cronsim", None)
    assert ran(vault.tasks.run_due()) == ["my hours"]
    with pytest.raises(MissingExtra, match="cronsim"):
        vault.tasks.add("my days", action="note", schedule="cron 0 9 * * *")


def test_the_vaults_own_upkeep_is_there_runs_and_cannot_be_removed(vault, clock):
    own = {task.name for task in vault.tasks.list()}
    assert own == {
        "clear-log", "keep-indexes", "keep-logs-short", "prune-change-feed", "prune-task-history", "sweep-hot-tier",
        "sweep-live-sessions", "sweep-sessions",
    }  # fmt: skip
    clock.move(2 * DAY)
    assert {(one.task, one.outcome) for one in vault.tasks.run_due()} == {(name, "done") for name in own}
    with pytest.raises(InvalidInput, match="own"):
        vault.tasks.remove("clear-log")


def test_what_cannot_be_a_task_is_refused(vault, runs):
    vault.tasks.add("my task", action="note", schedule="every 1h")
    for wrong in (
        {"name": "my task"}, {"name": ""}, {"schedule": "now and then"}, {"schedule": "once 2020-01-01T00:00Z"},
        {"payload": []}, {"attempts_max": 0},
    ):  # fmt: skip
        given = {"name": "other", "action": "note", "schedule": "every 1h", **wrong}
        with pytest.raises(InvalidInput):
            vault.tasks.add(given.pop("name"), **given)
    with pytest.raises(NotFound):
        vault.tasks.add("other", action="note", schedule="every 1h", user="nobody")
    with pytest.raises(NotFound):
        vault.tasks.run("nothing of this name")
    vault.tasks.remove("my task")
    with pytest.raises(NotFound):
        vault.tasks.history("my task")


def test_a_persons_task_goes_with_everything_of_theirs(vault, clock, runs):
    vault.memory.record("mia", "hello", conversation="c")
    vault.tasks.add("my dentist", action="note", schedule="every 1h", user="mia", payload={"text": "dentist"})
    clock.move(HOUR)
    vault.tasks.run_due()
    vault.memory.forget("mia", everything=True)
    assert "my dentist" not in {task.name for task in vault.tasks.list()}
    assert vault.connection.fetch_all(
        "SELECT 1 FROM task_executions WHERE task_id NOT IN (SELECT id FROM tasks)"
    ) == []  # fmt: skip


def test_nothing_runs_by_itself_until_it_is_asked_to(clock):
    with temporary_vault(clock=clock) as vault:
        done = []
        vault.tasks.register("note", lambda run: done.append(run.task.name))
        vault.tasks.add("my task", action="note", schedule="every 1h")
        clock.move(HOUR)
        assert done == []
        vault.tasks.start(look_every_s=60)
        with pytest.raises(InvalidInput):
            vault.tasks.start()
        for _ in range(500):
            if done:
                break
            time.sleep(0.01)
    assert done == ["my task"]  # and closing the vault ended the thread


def wait_for(done, count):
    for _ in range(1000):
        if len(done) >= count:
            return
        time.sleep(0.01)
    raise AssertionError(done)


def test_an_action_that_exits_ends_its_run_and_the_thread_goes_on(vault, clock):
    done = []

    def leave(run):
        done.append(run.task.name)
        if run.task.payload.get("leaves"):
            sys.exit(1)

    vault.tasks.register("leave", leave)
    vault.tasks.add("my first", action="leave", schedule="every 1h", payload={"leaves": True}, attempts_max=1)
    vault.tasks.add("my second", action="leave", schedule="every 2h")
    clock.move(3 * HOUR)
    vault.tasks.start(look_every_s=0.01)
    wait_for(done, 2)
    vault.tasks.stop()
    assert done == ["my first", "my second"]
    assert [one.error for one in vault.tasks.history("my first")] == ["SystemExit"]


def test_a_scheduler_that_was_stopped_or_ended_by_itself_starts_again_for_good(vault, clock, runs, monkeypatch):
    vault.tasks.add("my task", action="note", schedule="every 1h")
    with monkeypatch.context() as broken:
        broken.setattr(threading, "excepthook", lambda _: None)
        broken.setattr(vault.tasks, "run_due", lambda: 1 / 0)
        vault.tasks.start(look_every_s=0.01)
        vault.tasks._thread.join()
    for count in range(1, 4):
        vault.tasks.start(look_every_s=0.01)
        for rounds in (1, 2):
            clock.move(HOUR)
            wait_for(runs, 2 * count - 2 + rounds)
        vault.tasks.stop()
        vault.tasks.stop()


class Histories(RuleBasedStateMachine):
    """Any history of adding, waiting and running: what is due is exactly what the schedules say."""

    def __init__(self):
        super().__init__()
        self.clock = FixedClock(START)
        self._opened = temporary_vault(clock=self.clock)
        self.tasks = self._opened.__enter__().tasks
        self.tasks.register("note", lambda run: None)
        self.due_us = {}
        self.every_us = {}

    @rule(name=st.sampled_from("abc"), seconds=st.integers(1, 500))
    def add(self, name, seconds):
        if name not in self.due_us:
            self.tasks.add(name, action="note", schedule=f"every {seconds}s")
            self.every_us[name] = seconds * 10**6
            self.due_us[name] = self.clock.now_us() + self.every_us[name]

    @rule(seconds=st.integers(-300, 900))
    def set_the_clock(self, seconds):
        self.clock.move(timedelta(seconds=seconds))

    @rule()
    def run_due(self):
        now = self.clock.now_us()
        due = {name for name, at in self.due_us.items() if at <= now}
        assert {one.task for one in self.tasks.run_due() if one.task in self.due_us} == due
        for name, at in self.due_us.items():
            self.due_us[name] = now + self.every_us[name] if name in due else min(at, now + self.every_us[name])

    @rule(name=st.sampled_from("abc"))
    def remove(self, name):
        if self.due_us.pop(name, None) is not None:
            self.tasks.remove(name)

    @invariant()
    def each_is_due_when_its_schedule_says(self):
        found = {task.name: to_us(task.next_run_at) for task in self.tasks.list() if task.name in "abc"}
        assert found == self.due_us

    def teardown(self):
        self._opened.__exit__(None, None, None)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)


# Several processes


def _open(folder, ahead_s):
    clock = FixedClock(START, seed=os.getpid())
    clock.move(timedelta(seconds=ahead_s))
    return open_vault(folder, passphrase=PASSPHRASE, settings=cheap_settings(clock=clock))


def run_and_count(folder):
    """Run what is due a while after START; how often this process ran each of twenty tasks."""
    counts = {}

    def count(run):
        counts[run.task.name] = counts.get(run.task.name, 0) + 1
        time.sleep(0.01)

    with _open(folder, 7200) as vault:
        vault.tasks.register("count", count)
        vault.tasks.run_due()
    return counts


def hang_in_a_task(folder):
    with _open(folder, 7200) as vault:

        def hang(_run):
            print("at work", flush=True)
            time.sleep(600)

        vault.tasks.register("count", hang)
        vault.tasks.run_due()


@pytest.fixture
def folder_with_tasks(tmp_path):
    with _open(tmp_path / "vault", 0) as vault:
        for name in vault.tasks.list():
            vault.tasks.disable(name.name)
        for number in range(20):
            vault.tasks.add(f"my {number}", action="count", schedule="every 1h")
    return tmp_path / "vault"


def test_two_processes_share_the_tasks_and_run_none_twice(folder_with_tasks):
    with started(run_and_count, folder_with_tasks) as other:
        done = [run(run_and_count, folder_with_tasks), other.end()]
    assert [one.message for one in done] == ["", ""]
    mine, theirs = (one.value for one in done)
    assert sorted([*mine, *theirs]) == sorted(f"my {number}" for number in range(20))
    assert set(mine.values()) | set(theirs.values()) == {1}


def test_a_killed_runners_task_is_run_by_another_once_its_lease_ended(folder_with_tasks):
    with started(hang_in_a_task, folder_with_tasks) as child:
        assert child.line() == "at work"
        child.kill()
    done = []
    with _open(folder_with_tasks, 7200 + 60) as vault:
        vault.tasks.register("count", lambda run: done.append(run.task.name))
        assert len(vault.tasks.run_due()) == 19
    with _open(folder_with_tasks, 7200 + LEASE_S) as vault:
        vault.tasks.register("count", lambda run: done.append(run.task.name))
        [again] = vault.tasks.run_due()
        assert (again.attempt, again.outcome) == (2, "done")
        assert "lost" in {one.outcome for one in vault.tasks.history(again.task)}
    assert len(set(done)) == len(done) == 20
