"""Tasks at the command line."""

from pathlib import Path

from aico.clock import moment_from_text
from tests.cli.conftest import run, run_json

OWN = [
    "clear-log",
    "keep-indexes",
    "keep-logs-short",
    "prune-change-feed",
    "prune-task-history",
    "sweep-hot-tier",
    "sweep-live-sessions",
    "sweep-sessions",
]


def test_the_vaults_own_tasks_are_listed_run_and_remembered(home: Path) -> None:
    assert [task["name"] for task in run_json("tasks", "ls")["tasks"]] == OWN
    assert run_json("tasks", "due")["tasks"] == []
    assert run("tasks", "run", "--due").stderr == "Nothing is due.\n"
    [done] = run_json("tasks", "run", "clear-log")["executions"]
    assert (done["outcome"], done["attempt"], done["error"]) == ("done", 1, None)
    assert "clear-log  done" in run("tasks", "history").stdout
    assert "every 1d  next" in run("tasks", "ls").stdout


def test_a_task_is_added_switched_off_and_removed(home: Path) -> None:
    made = run_json("tasks", "add", "ask", "--action", "ask", "--schedule", "every 2h", "--payload", '{"x": 1}')
    assert (made["schedule"], made["payload"], made["attempts_max"]) == ("every 2h", {"x": 1}, 3)
    assert "switched off" in run("tasks", "disable", "ask").stdout
    assert "next" in run("tasks", "enable", "ask").stdout
    assert run_json("tasks", "run", "ask", exit_code=2)["error"] == "InvalidInput"  # this program has no such action
    run("tasks", "rm", "ask")
    assert run_json("tasks", "rm", "ask", exit_code=6)["error"] == "NotFound"


def test_one_task_is_named_or_all_that_is_due(home: Path) -> None:
    for arguments in ((), ("clear-log", "--due")):
        assert "--due" in run_json("tasks", "run", *arguments, exit_code=2)["hint"]
    refused = run_json("tasks", "add", "x", "--action", "x", "--schedule", "at times", exit_code=2)
    assert "every" in refused["message"]


def test_a_moment_may_go_without_its_zone(home: Path) -> None:
    for name, typed in (
        ("day", "once 2087-01-01"),
        ("hour", "once  2087-01-01T08:00"),
        ("zoned", "once 2087-01-01T08:00Z"),
    ):
        run_json("tasks", "add", name, "--action", "ask", "--schedule", typed)
    found = {task["name"]: task["schedule"] for task in run_json("tasks", "ls")["tasks"]}
    here = moment_from_text("2087-01-01")
    assert found["day"] == f"once {here.isoformat()}"
    assert found["zoned"] == "once 2087-01-01T08:00:00+00:00"
    for typed in ("once", "once soon"):
        refused = run_json("tasks", "add", "x", "--action", "ask", "--schedule", typed, exit_code=2)
        assert "datetime." not in refused["message"] + refused["hint"]
