"""Asking at the command line."""

from pathlib import Path

from tests.cli.conftest import run, run_json

COUNT = "SELECT role, count(*) AS n FROM messages GROUP BY role"


def test_questions_ids_columns_and_sql_are_answered_and_explained(home: Path) -> None:
    run("record", "--conversation", "c", "I moved to Lisbon in May.")
    found = run_json("query", "where is Lisbon?", "--explain")
    assert found["explanation"]["engine"] == "recall"
    [row] = [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]
    assert row["text"] == "I moved to Lisbon in May."
    assert "I moved to Lisbon" in run("query", row["id"]).stdout
    assert run_json("query", COUNT) == {"columns": ["role", "n"], "rows": [["user", 1]], "cut": False}
    assert run_json("query", "-", input=COUNT)["rows"] == [["user", 1]]
    assert run("query", "--recent", "c", "--explain").stdout.startswith("hot tier: the last turns")
    assert run_json("query", "--role", "user", "--limit", "1")["rows"]
    assert "Nothing was found" in run("query", "--role", "assistant").stderr
    assert "refused" in run_json("query", "SELECT * FROM main.messages", exit_code=2)["message"]
