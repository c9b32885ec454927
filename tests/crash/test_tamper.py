"""Files of every kind, changed from outside: told, healed, or named in the threat model; never a wrong memory or a crash.

`python -m bench tamper` tries ten thousand changes; here are a hundred of them.
"""

import pytest

from bench.tamper import tamper
from tests.crash.changes import changes
from tests.crash.world import EARLIER, MISSING, OLDER, make_world

pytest.importorskip("duckdb", reason="a file of every kind needs the extra aico[analytics]")


def test_a_changed_file_of_any_kind_is_told_or_healed(tmp_path):
    worlds = make_world(tmp_path / "made")
    found = tamper(worlds, tmp_path / "copy", count=100, seed=3)
    assert found["wrong"] == []
    assert found["tried"] == 100
    refused = {one["file"] for one in found["outcomes"] if one["outcome"] == "refused"}
    assert {"database", "log", "page map", "backup"} <= refused
    sampled = list(changes(worlds, count=3000, seed=1))
    assert len({change.kind for change in sampled if "+" not in change.kind}) == 13
    unnoticed = {change.kind for change in sampled if change.may & {EARLIER, OLDER, MISSING}}
    assert unnoticed == {"log", "vault.json", "sealed file", "backup"}, "the threat model names these"
