"""The clients' configuration files: our entry is put in, every other byte stays, and no secret is ever written."""

import json
import os
import re
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aico.errors import InvalidInput, StorageError
from aico.mcp.clients import CLIENTS, Entry, planned
from aico.mcp.jsonc import with_member

ENTRY = Entry("aico", ["/usr/bin/python3", "-m", "aico", "mcp", "--user", "mia"])
SETTINGS = """// how I like it
{
    "theme": "dark", // at night
    /* servers */
    "context_servers": {
        "other": { "command": "x", "args": [] }, // keep me
    },
    "url": "https://example.org/a//b", "last": [1, 2,],
}
"""
COMMENT = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/', re.DOTALL)


def plain(text: str) -> object:
    """What an editor reads: without comments and trailing commas."""
    bare = COMMENT.sub(lambda found: found[1] or "", text)
    return json.loads(re.sub(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])', lambda found: found[1] or "", bare))


def set_in(document: dict, path: tuple[str, ...], value: object) -> dict:
    head, *rest = path
    return {**document, head: set_in(document.get(head, {}), tuple(rest), value) if rest else value}


def test_a_file_with_comments_keeps_them_and_every_other_line() -> None:
    after = with_member(SETTINGS, ("context_servers", "aico"), {"command": "a"}, comments=True)
    added = [line for line in after.splitlines() if line not in SETTINGS.splitlines()]
    assert [line.strip() for line in added] == ['"aico": {', '"command": "a"', "},"]
    assert [line for line in SETTINGS.splitlines() if line not in after.splitlines()] == []
    assert plain(after) == set_in(plain(SETTINGS), ("context_servers", "aico"), {"command": "a"})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '{\n  "s": {\n    "a": 1\n  }\n}\n'),
        ("{}", '{\n  "s": {\n    "a": 1\n  }\n}'),
        ("{ }\n", '{\n  "s": {\n    "a": 1\n  }\n}\n'),
        ('{"s": {"a": 0, "b": 2}}', '{"s": {"a": 1, "b": 2}}'),
        ('{\n\t"s": {}\n}\n', '{\n\t"s": {\n\t\t"a": 1\n\t}\n}\n'),
        ('{\r\n  "b": 1\r\n}\r\n', '{\r\n  "b": 1,\r\n  "s": {\r\n    "a": 1\r\n  }\r\n}\r\n'),
    ],
)
def test_the_entry_stands_where_a_person_would_write_it(before: str, after: str) -> None:
    assert with_member(before, ("s", "a"), 1, comments=False) == after


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.sampled_from(["s", "t", "//", '"']) | st.text(max_size=4), VALUES, max_size=4)


@given(document=DOCUMENTS, indent=st.sampled_from([None, 0, 2, "\t"]), value=VALUES)
def test_any_document_becomes_what_it_was_with_the_entry_and_a_second_time_stays(document, indent, value) -> None:
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    path = ("s", "aico")
    if not isinstance(document.get("s", {}), dict):
        with pytest.raises(InvalidInput, match="holds something else"):
            with_member(text, path, value, comments=False)
        return
    after = with_member(text, path, value, comments=False)
    assert json.loads(after) == set_in(document, path, value)
    assert with_member(after, path, value, comments=False) == after


@given(text=st.text(alphabet='{}[]",:/*\n \\atrue1', max_size=30))
def test_what_is_no_json_is_refused_and_what_is_stays_json(text) -> None:
    try:
        after = with_member(text, ("s", "aico"), 1, comments=False)
    except InvalidInput:
        return
    assert json.loads(after)["s"]["aico"] == 1


@pytest.mark.parametrize(
    "text", ["[]", '{"a": 1,}', '{"a": 1} // note', "{'a': 1}", '{"a": 1} {}', '{"a": 01}', "[" * 999]
)
def test_a_client_that_reads_plain_json_gets_no_other(text: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        with_member(text, ("mcpServers", "aico"), 1, comments=False)
    assert "line 1" in str(raised.value)


@pytest.mark.parametrize("client", CLIENTS)
def test_each_client_gets_a_new_file_that_only_its_owner_reads(client: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    change = planned(CLIENTS[client], ENTRY)
    assert change.file.is_relative_to(tmp_path)
    assert not change.file.exists()
    change.write()
    assert stat.S_IMODE(change.file.stat().st_mode) == 0o600
    [servers] = json.loads(change.file.read_text()).values()
    assert [servers["aico"]["command"], *servers["aico"]["args"]] == ENTRY.command
    again = planned(CLIENTS[client], ENTRY)
    assert again.before == again.after


def test_permissions_and_links_are_kept(tmp_path: Path) -> None:
    real, link = tmp_path / "dotfiles.json", tmp_path / "mcp.json"
    real.write_text('{"mcpServers": {"b": {}}}')
    real.chmod(0o640)
    link.symlink_to(real)
    planned(CLIENTS["cursor"], ENTRY, link).write()
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert json.loads(real.read_text())["mcpServers"].keys() == {"b", "aico"}


def test_a_file_that_changed_since_it_was_shown_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    change = planned(CLIENTS["cursor"], ENTRY, file)
    file.write_text("{}")
    with pytest.raises(StorageError, match="changed meanwhile"):
        change.write()
    assert file.read_text() == "{}"


def test_a_crash_before_the_rename_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "mcp.json"
    file.write_text('{"a": 1}')
    change = planned(CLIENTS["cursor"], ENTRY, file)

    def no_room(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(StorageError):
        change.write()
    assert file.read_text() == '{"a": 1}'
    assert list(tmp_path.iterdir()) == [file]


def test_what_is_not_text_or_far_too_long_is_refused(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "mcp.json"
    file.write_bytes(b"\xff\xfe{}")
    with pytest.raises(InvalidInput, match="not UTF-8"):
        planned(CLIENTS["cursor"], ENTRY, file)
    monkeypatch.setattr("aico.mcp.clients.FILE_MAX_BYTES", 3)
    file.write_bytes(b"{}    ")
    with pytest.raises(InvalidInput, match="more than"):
        planned(CLIENTS["cursor"], ENTRY, file)
