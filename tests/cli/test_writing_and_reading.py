"""What is recorded and remembered is found again."""

import os
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

import aico
from tests.cli.conftest import PROGRAM, run, run_json


@pytest.fixture
def five_hours_behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[timedelta]:
    """A machine whose local time is five hours behind UTC, all year."""
    monkeypatch.setenv("TZ", "EST5")
    time.tzset()
    yield timedelta(hours=-5)
    monkeypatch.undo()
    time.tzset()


def test_what_was_recorded_is_recalled_with_everything_said_about_it(home: Path) -> None:
    made = run_json(
        "record", "I moved to Lisbon in May.", "--conversation", "c1", "--role", "assistant", "--speaker", "Kasimir",
        "--at", "2026-05-08T19:30:00+02:00", "--source-id", "t1",
    )  # fmt: skip
    (hit,) = run_json("recall", "who moved to Lisbon?")["hits"]
    assert hit["id"] == made["id"]
    assert (hit["kind"], hit["text"], hit["role"]) == ("message", "I moved to Lisbon in May.", "assistant")
    assert (hit["speaker"], hit["conversation"], hit["source_id"]) == ("Kasimir", "c1", "t1")
    assert hit["at"] == "2026-05-08T19:30:00+02:00"
    assert 0 < hit["score"] <= 1
    assert "Lisbon" in hit["why"]


def test_record_prints_the_id_alone(home: Path) -> None:
    shown = run("record", "hello there", "--conversation", "c").stdout
    assert bytes.fromhex(shown.strip())
    assert shown == f"{shown.strip()}\n"


def test_the_same_source_id_again_gives_the_same_id(home: Path) -> None:
    first, second = (run_json("record", "hello", "--conversation", "c", "--source-id", "1") for _ in range(2))
    assert first == second


def test_a_text_from_standard_input_is_kept_without_the_last_line_break(home: Path) -> None:
    run_json("record", "-", "--conversation", "c", input="first line\nsecond line \u00e9\U0001f600\n")
    (message,) = run_json("recent", "c")["messages"]
    assert message["text"] == "first line\nsecond line \u00e9\U0001f600"


def test_a_question_may_come_from_standard_input(home: Path) -> None:
    run("record", "I moved to Lisbon.", "--conversation", "c")
    assert run_json("recall", "-", input="Lisbon?\n")["hits"]
    assert "Lisbon" in run_json("context", "-", input="Lisbon?\n")["text"]


def test_standard_input_that_is_not_utf8_is_refused(home: Path) -> None:
    refused = run_json("record", "-", "--conversation", "c", input=b"caf\xe9", exit_code=2)
    assert refused["error"] == "InvalidInput"
    assert run_json("status")["rows"]["messages"] == 0


def test_a_piped_text_is_not_in_the_list_of_processes(home: Path) -> None:
    secret = "the cellar key lies under the third pot"
    command = [*PROGRAM, "record", "-", "--conversation", "c", "--json"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(secret.encode())
        process.stdin.flush()
        command_line = b""
        while b"record" not in command_line:  # empty while the process is becoming the program
            command_line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        process.communicate()
    assert secret.encode() not in command_line
    assert run_json("recall", "cellar key")["hits"][0]["text"] == secret


def test_facts_are_remembered_corrected_and_asked_for_as_of_then(home: Path) -> None:
    old = run_json(
        "remember", "Mia lives in Porto", "--category", "home", "--confidence", "0.9", "--source", "a letter"
    )
    then = datetime.now().astimezone().isoformat()
    new = run_json("remember", "Mia lives in Lisbon", "--supersedes", old["id"], "--valid-from", "2026-05-01")
    now_known = run_json("recall", "where does Mia live?", "--kind", "fact")["hits"]
    assert [hit["id"] for hit in now_known] == [new["id"]]
    then_known = run_json("recall", "where does Mia live?", "--kind", "fact", "--as-of", then)["hits"]
    assert [hit["id"] for hit in then_known] == [old["id"]]
    assert then_known[0]["source_id"] == "a letter"


def test_recall_narrows_by_conversation_kind_time_score_and_limit(home: Path) -> None:
    for day, conversation in ((1, "a"), (2, "a"), (3, "b")):
        run(
            "record",
            f"We walked in Lisbon on day {day}.",
            "--conversation",
            conversation,
            "--at",
            f"2026-05-0{day}T12:00:00Z",
        )
    run("remember", "Mia likes Lisbon")

    def found(*options: str) -> int:
        return len(run_json("recall", "Lisbon", *options)["hits"])

    assert found() == 4
    assert found("--kind", "fact") == 1
    assert found("--kind", "message", "--kind", "fact") == 4
    assert found("--conversation", "a") == 2
    assert found("--kind", "message", "--since", "2026-05-02T12:00:00Z") == 2
    assert found("--kind", "message", "--until", "2026-05-02T12:00:00Z") == 1
    assert found("--limit", "2") == 2
    assert found("--score-min", "1") == 0


def test_a_time_without_a_zone_is_this_machines(home: Path, five_hours_behind: timedelta) -> None:
    run("record", "noon here", "--conversation", "c", "--at", "2026-05-08T12:00")
    (message,) = run_json("recent", "c")["messages"]
    assert message["at"] == "2026-05-08T12:00:00-05:00"


def test_a_date_alone_is_its_local_midnight(home: Path, five_hours_behind: timedelta) -> None:
    run("record", "the evening before", "--conversation", "c", "--at", "2026-05-08T04:59:59Z")
    run("record", "midnight", "--conversation", "c", "--at", "2026-05-08T05:00:00Z")
    hits = run_json("recall", "midnight evening", "--since", "2026-05-08")["hits"]
    assert [hit["text"] for hit in hits] == ["midnight"]


@pytest.mark.parametrize("moment", ["yesterday", "11:45", "2026-13-01", ""])
def test_what_is_not_a_moment_is_refused(home: Path, moment: str) -> None:
    refused = run("record", "x", "--conversation", "c", "--at", moment)
    assert refused.exit_code == 2
    assert "ISO 8601" in refused.stderr
    assert run_json("status")["rows"]["messages"] == 0


@pytest.mark.parametrize("moment", ["0001-01-01T00:00", "9999-12-31T23:59:59", "9999-12-31T23:59:59-23:59"])
def test_moments_at_the_ends_of_the_calendar_are_kept_or_refused(
    home: Path, moment: str, five_hours_behind: timedelta
) -> None:
    recorded = run("record", "x", "--conversation", "c", "--at", moment)
    assert recorded.exit_code in (0, 2)
    assert run("recent", "c", "--user", "me").exit_code == 0


def test_context_is_text_for_people_and_items_for_programs(home: Path) -> None:
    run("record", "I moved to Lisbon.", "--conversation", "c", "--speaker", "Mia")
    run("remember", "Mia has a dog called Direktor")
    told = run_json("context", "dog in Lisbon", "--conversation", "c", "--token-budget", "200")
    assert {item["part"] for item in told["items"]} == {"fact", "recent"}
    assert told["tokens"] <= 200
    assert run("context", "dog in Lisbon", "--conversation", "c").stdout.rstrip("\n") == told["text"]


def test_recent_shows_the_last_messages_oldest_first(home: Path) -> None:
    for number in range(5):
        run("record", f"turn {number}", "--conversation", "c", "--at", f"2026-05-0{number + 1}")
    assert [message["text"] for message in run_json("recent", "c", "--limit", "2")["messages"]] == ["turn 3", "turn 4"]
    shown = run("recent", "c").stdout
    assert shown.index("turn 0") < shown.index("turn 4")


def test_nothing_found_is_said_beside_an_empty_output(home: Path) -> None:
    run("record", "hello", "--conversation", "c")
    for command in (["recall", "zebra"], ["recent", "no such conversation"], ["context", "zebra"]):
        shown = run(*command)
        assert shown.exit_code == 0
        assert shown.stdout == ""
        assert "Nothing" in shown.stderr


def test_people_see_moment_speaker_conversation_score_text_why_and_id(home: Path) -> None:
    made = run_json(
        "record", "I moved to Lisbon.", "--conversation", "c1", "--speaker", "Mia", "--at", "2026-05-08T19:30:00+02:00"
    )
    shown = run("recall", "Lisbon").stdout
    for part in ("8 May 2026, 19:30", "Mia", "c1", "I moved to Lisbon.", "words: Lisbon", made["id"]):
        assert part in shown
    assert all(len(line) <= 100 for line in shown.splitlines())


def test_a_memory_cannot_send_commands_to_the_terminal(home: Path) -> None:
    attack = "walrus \x1b]52;c;ZXZpbA==\x07\x1b[2J [bold]as it is[/bold] \x9b2J"
    run("record", attack, "--conversation", "c", "--speaker", "\x1bM")
    run("remember", attack)
    for command in (
        ["recall", "walrus"],
        ["recent", "c"],
        ["context", "walrus"],
        ["forget", "--about", "walrus", "--preview"],
    ):
        shown = run(*command).stdout
        assert "walrus" in shown
        assert not {"\x1b", "\x07", "\x9b"} & set(shown)
    assert "[bold]as it is[/bold]" in run("recall", "walrus").stdout
    assert run_json("recall", "walrus")["hits"][0]["text"] == attack


def test_a_terminal_of_few_letters_shows_question_marks(home: Path) -> None:
    run("record", "Bootshaus \U0001f600 in L\u00fcbeck", "--conversation", "c")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for options in ([], ["--json"]):
        done = subprocess.run(
            [*PROGRAM, "recall", "Bootshaus", *options], env=environment, capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"Bootshaus" in done.stdout


def test_a_reader_that_leaves_early_is_no_error(home: Path) -> None:
    for number in range(3):
        run("record", f"turn {number}", "--conversation", "c")
    with subprocess.Popen([*PROGRAM, "recent", "c"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_the_first_user_of_a_vault_is_me(home: Path) -> None:
    run("record", "hello", "--conversation", "c")
    assert run_json("status")["users"] == ["me"]


def test_the_only_user_need_not_be_named(home: Path) -> None:
    run("record", "hello from Mia", "--conversation", "c", "--user", "mia")
    run("record", "hello again", "--conversation", "c")
    assert run_json("status")["users"] == ["mia"]
    assert len(run_json("recall", "hello")["hits"]) == 2


def test_reading_from_a_vault_without_users_says_what_to_do(home: Path) -> None:
    refused = run_json("recall", "hello", exit_code=2)
    assert refused["error"] == "InvalidInput"
    assert "--user" in refused["hint"]


def test_with_several_users_one_must_be_named(home: Path) -> None:
    for name in ("mia", "nell"):
        run("record", f"I am {name}", "--conversation", "c", "--user", name)
    for command in (
        ["record", "x", "--conversation", "c"],
        ["remember", "x"],
        ["recall", "am"],
        ["recent", "c"],
        ["import", "-"],
    ):
        refused = run_json(*command, exit_code=2)
        assert "--user" in refused["hint"]
    assert [hit["text"] for hit in run_json("recall", "am", "--user", "nell")["hits"]] == ["I am nell"]


def test_home_may_stand_before_or_after_the_command(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AICO_HOME")
    before, after = run_json("--home", str(home), "status"), run_json("status", "--home", str(home))
    assert before["folder"] == after["folder"] == str(home)


def test_the_library_sees_what_the_program_recorded(home: Path) -> None:
    made = run_json("record", "hello", "--conversation", "c", "--user", "mia")
    with aico.open() as vault:
        assert [moment.id for moment in vault.memory.recent("mia", "c")] == [made["id"]]


def test_a_budget_that_nothing_fits_into_is_named(home: Path) -> None:
    run("record", "The walrus lives in the north.", "--conversation", "c")
    assert run("context", "walrus", "--token-budget", "1").stderr == "Nothing is known yet that fits into 1 token.\n"


@pytest.mark.parametrize(
    "command",
    [
        ["recall", "walrus", "--limit"],
        ["recent", "c", "--limit"],
        ["context", "walrus", "--token-budget"],
        ["query", "walrus", "--limit"],
        ["conversations", "ls", "--limit"],
        ["conversations", "ls", "--offset"],
        ["conversations", "show", "c", "--limit"],
        ["facts", "ls", "--limit"],
        ["facts", "ls", "--offset"],
        ["album", "ls", "--limit"],
        ["feedback", "ls", "--limit"],
        ["logs", "ls", "--limit"],
        ["logs", "ls", "--offset"],
        ["logs", "tail", "--limit"],
        ["logs", "grep", "x", "--limit"],
        ["logs", "audit", "--limit"],
        ["lmdb", "dump", "session_memory", "--limit"],
        ["audit", "--samples"],
        ["backup", "prune", "--keep"],
    ],
    ids=" ".join,
)
def test_a_number_beyond_all_there_is_means_all_there_is(home: Path, command: list[str]) -> None:
    run("record", "The walrus lives in the north.", "--conversation", "c")
    run_json(*command, "9" * 20)
    assert run_json(*command, "-1", exit_code=2)["error"] == "UsageError"
