"""Every error is one message or one JSON object, and none repeats what a person typed."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import only_object, run

CANARY = "canary-in-the-cellar"
BAD_LINES = [
    {"text": CANARY, "conversation": "c"},
    {"text": CANARY, "conversation": "c", "at": "2026-05-08T12:00:00"},
    {"text": CANARY, "conversation": "c", "at": CANARY},
    {"text": CANARY, "conversation": "c", "at": "2026-05-08T12:00:00Z", "role": [CANARY]},
    {"text": CANARY, "conversation": f"{CANARY}\n", "at": "2026-05-08T12:00:00Z"},
    {"text": [CANARY], "conversation": "c", "at": "2026-05-08T12:00:00Z"},
]
MISTAKES = [
    [CANARY],
    [f"--{CANARY}"],
    ["record"],
    ["record", CANARY],
    ["record", "I", "moved", CANARY, "--conversation", "c"],
    ["record", CANARY, "--conversation", f"{CANARY}\n"],
    ["record", CANARY, "--conversation", "c", "--role", ""],
    ["record", CANARY, "--conversation", "c", "--at", CANARY],
    ["record", CANARY, "--conversation", "c", f"--{CANARY}"],
    ["record", f"{CANARY}\udcff", "--conversation", "c"],
    ["record", "x", "--conversation", "c", "--source-id", CANARY * 400],
    ["record", "x", "--conversation", "c", "--user", f"{CANARY}\x00"],
    ["remember", CANARY, "--confidence", CANARY],
    ["remember", CANARY, "--confidence", "7"],
    ["remember", CANARY, "--supersedes", CANARY],
    ["remember", CANARY, "--supersedes", "00" * 16],
    ["recall", CANARY, "--kind", CANARY],
    ["recall", CANARY, "--limit", CANARY],
    ["recall", CANARY, "--limit", "0"],
    ["recall", CANARY, "--since", CANARY],
    ["recall", CANARY, "--conversation", f"{CANARY}\x07"],
    ["context", CANARY, "--token-budget", "0"],
    ["recent", CANARY, CANARY],
    ["forget", CANARY, "--yes"],
    ["forget", CANARY, "--about", CANARY, "--yes"],
    ["forget", "--about", CANARY, "--user", CANARY, "--yes"],
    ["forget", "--about", CANARY],
    ["audit", CANARY, "--samples", CANARY],
    ["audit", "x", CANARY],
    ["import", CANARY],
    ["import", "-", "--user", f"{CANARY}\n"],
    ["status", CANARY],
    ["doctor", f"--{CANARY}={CANARY}"],
    ["init", CANARY],
]


@pytest.mark.parametrize(
    "mistake", MISTAKES, ids=lambda mistake: " ".join(mistake)[:40].encode("ascii", "replace").decode()
)
def test_no_error_repeats_what_was_typed(home: Path, mistake: list[str]) -> None:
    run("record", "something", "--conversation", "c")
    good_line = '{"text": "hello", "conversation": "c", "at": "2026-05-08T12:00:00Z"}'
    told = run(*mistake, input=good_line)
    assert told.exit_code not in (0, 130)
    assert told.stdout == ""
    assert told.stderr.startswith("aico: ")
    assert "an error of aico's own" not in told.stderr
    assert CANARY not in told.stderr
    as_json = run(*mistake, "--json", input=good_line)
    assert as_json.exit_code == told.exit_code
    assert set(only_object(as_json.stdout)) == {"error", "message", "hint"}
    assert CANARY not in as_json.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["import", ""],
        ["import", "", "--from", "aico-upstream"],
        ["export", "--output", ""],
        ["logs", "export", ""],
        ["analytics", "export", "--output", ""],
        ["analytics", "rhythm", "--plot", ""],
        ["backup", "create", "--to", ""],
        ["backup", "list", "--to", ""],
        ["backup", "prune", "--forgotten", "--to", ""],
        ["backup", "verify", ""],
        ["restore", ""],
        ["restore", "some.aicobackup", "--to", ""],
        ["models", "install", ""],
        ["models", "rerank", "onnx/"],
        ["keys", "change-passphrase", "--old-passphrase-file", ""],
        ["status", "--home", ""],
        ["--home", "", "init"],
    ],
    ids=" ".join,
)
def test_an_empty_name_is_not_the_current_folder(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert run(*arguments).exit_code == 2
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.parametrize("bad", BAD_LINES, ids=str)
def test_no_bad_line_is_repeated(home: Path, bad: dict[str, object]) -> None:
    for options in ([], ["--skip-bad"], ["--json"], ["--skip-bad", "--json"]):
        told = run("import", "-", *options, input=json.dumps(bad))
        assert told.exit_code == (0 if "--skip-bad" in options else 2)
        assert CANARY not in told.output


def test_a_mistyped_command_or_option_is_met_with_the_nearest() -> None:
    assert "did you mean `aico recall`?" in run("recal", "x").stderr
    assert "did you mean --limit?" in run("recall", "x", "--limt", "3").stderr


def test_json_after_two_dashes_is_a_text(home: Path) -> None:
    refused = run("record", "--conversation", "c", "--", "--json", "too much")
    assert refused.stdout == ""
    assert refused.exit_code == 2


def test_an_unusable_config_is_named_with_its_line(home: Path) -> None:
    (home / "config.toml").write_text("busy_wait_s = 'long'\n")
    told = run("status")
    assert told.exit_code == 2
    assert "config.toml" in told.stderr


def test_a_damaged_vault_file_ends_with_the_code_of_integrity(home: Path) -> None:
    (home / "vault.json").write_text("{")
    told = run("status", "--json")
    assert told.exit_code == 4
    assert only_object(told.stdout)["error"] == "Tampered"
