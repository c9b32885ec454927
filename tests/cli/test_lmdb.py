"""The hot tier at the command line."""

from pathlib import Path

import aico
from tests.cli.conftest import PASSPHRASE, run, run_json


def test_the_hot_tier_is_shown_dumped_cleaned_and_emptied(home: Path) -> None:
    run("record", "--conversation", "c", "the heron came by")
    run("recent", "c")
    run("context", "--conversation", "c", "a bird?")
    found = run_json("lmdb", "status")
    assert 0 < found["file_bytes"] <= found["limit_bytes"]
    assert (found["lag"], found["live_sessions"], found["trouble"]) == (0, 0, "")
    tables = {table["name"]: table["entries"] for table in run_json("lmdb", "ls")["tables"]}
    assert tables == {"session_memory": 2, "session_state": 0, "session_contexts": 1}
    [page] = run_json("lmdb", "dump", "session_memory")["entries"]
    assert page["value"] == [{"role": "user", "speaker": None, "text": "the heron came by"}]
    assert "the heron came by" in run("lmdb", "dump", "session_contexts").stdout
    assert "no such table" in run_json("lmdb", "dump", "messages", exit_code=6)["message"]
    assert run_json("lmdb", "cleanup") == {"cleaned": True}
    assert "session_memory" in run("lmdb", "ls").stdout
    assert "0 changes behind" in run("lmdb", "status").stdout
    assert run_json("lmdb", "clear") == {"cleared": True}
    assert run_json("lmdb", "dump", "session_memory")["entries"] == []
    assert "the heron came by" in run("recent", "c").stdout


def test_the_state_of_a_session_is_shown_with_its_name(home: Path) -> None:
    with aico.open(home, passphrase=PASSPHRASE, create=False) as vault:
        vault.memory.set_state("mia", "phone", {"draft": "Dear Otto,"}, ttl_s=3600)
    [kept] = run_json("lmdb", "dump", "session_state")["entries"]
    assert kept["value"] == {"session": "phone", "state": {"draft": "Dear Otto,"}}
    assert "Dear Otto," in run("lmdb", "dump", "session_state").stdout
    tables = {table["name"]: table["entries"] for table in run_json("lmdb", "ls")["tables"]}
    assert tables["session_state"] == 1
