"""Views at the command line."""

from pathlib import Path

from tests.cli.conftest import run, run_json


def test_the_command_line_lists_rebuilds_and_watches_views(home: Path):
    run("record", "--conversation", "c", "the heron came by")
    assert {view["name"] for view in run_json("views", "ls")["views"]} >= {"recall index", "hot tier"}
    assert "recall index  0 changes behind" in run("views", "ls").stdout
    assert run_json("views", "rebuild", "hot-tier") == {"name": "hot-tier"}
    assert "no view of this name" in run_json("views", "rebuild", "nonsense", exit_code=6)["message"]
    assert run("views", "watch", "--seconds", "0").stdout == ""
    assert "hot tier" in run("status").stdout
    assert run_json("status")["views"]
