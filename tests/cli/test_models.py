"""`aico models`: the choice is written down where the vault reads it, and nothing is loaded for it."""

from pathlib import Path

import pytest

from aico.ai.embedding.choice import can_run_default_model
from aico.settings import EmbedderSpec, RerankerSpec, load_settings
from tests.cli.conftest import CHEAP, run, run_json


@pytest.fixture(autouse=True)
def _as_a_person_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AICO_EMBEDDER")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["none"], "none"),
        (["auto"], "auto"),
        (["multilingual-e5-small"], "multilingual-e5-small"),
        (["ollama/paraphrase-multilingual"], EmbedderSpec(kind="ollama", model="paraphrase-multilingual")),
        (
            ["openai/some/model", "--url", "https://host/v1", "--key-env", "KEY"],
            EmbedderSpec(kind="openai", model="some/model", url="https://host/v1", api_key_env="KEY"),
        ),
    ],
)
def test_a_choice_is_written_down_and_the_rest_of_the_file_stays(home: Path, arguments, expected) -> None:
    found = run_json("models", "use", *arguments)
    assert found["setting"] == arguments[0]
    assert load_settings(home).embedder == expected
    assert CHEAP in (home / "config.toml").read_text()


@pytest.mark.parametrize(
    "arguments",
    [["unheard-of"], ["openai/m"], ["ollama/"], ["none", "--url", "http://host"], ["ollama/m", "--key-env", "sk-123"]],
)
def test_a_choice_that_cannot_be_leaves_the_file_as_it_was(home: Path, arguments) -> None:
    before = (home / "config.toml").read_bytes()
    assert run_json("models", "use", *arguments, exit_code=2)["error"] == "InvalidInput"
    assert (home / "config.toml").read_bytes() == before


def test_choosing_needs_a_vault(empty_home: Path) -> None:
    assert run_json("models", "use", "none", exit_code=6)["error"] == "NotFound"


def test_a_person_is_told_what_the_choice_means(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "by their words alone" in run("models", "use", "none").stdout
    assert "ollama/m is chosen" in run("models", "use", "ollama/m").stdout
    monkeypatch.setenv("AICO_EMBEDDER", "none")
    assert "AICO_EMBEDDER" in run("models", "use", "ollama/m").stdout


@pytest.mark.skipif(not can_run_default_model(), reason="the default model is not installed here")
def test_the_list_shows_the_choice_and_what_the_vault_holds_of_it(home: Path) -> None:
    run("models", "use", "multilingual-e5-small")
    for text in ("I moved to Lisbon.", "Soup for dinner."):
        run("record", text, "--conversation", text)
    assert run_json("models", "reembed") == {"model": "multilingual-e5-small/q4", "vectors": 2, "pending": 0}
    [found, *_] = run_json("models", "ls")["models"]
    assert (found["model"], found["chosen"], found["vectors"], found["pending"]) == (
        "multilingual-e5-small/q4", True, 2, 0,
    )  # fmt: skip
    assert "✓ multilingual-e5-small/q4" in run("models", "ls").stdout
    [hit] = run_json("recall", "Wohin bin ich umgezogen?", "--limit", "1")["hits"]
    assert hit["text"] == "I moved to Lisbon."
    assert "meaning" in hit["why"]


def test_the_list_works_before_there_is_a_vault(empty_home: Path) -> None:
    found = run_json("models", "ls")
    assert found["models"][0]["model"] == "multilingual-e5-small/q4"


def test_programs_are_told_that_a_model_behind_an_address_needs_a_yes(home: Path) -> None:
    [used, *_] = run_json("models", "use", "ollama/m")["needs_approval"]
    assert "this machine (ollama)" in used
    [_, reranker] = run_json("models", "rerank", "http/m", "--url", "https://host/v1")["needs_approval"][:2]
    assert "https://host/v1" in reranker


def test_the_doctor_asks_the_model_that_is_chosen(home: Path) -> None:
    run_json("models", "use", "openai/m", "--url", "http://localhost:1/v1")
    run_json("config", "approve", "--yes")
    [found] = [one for one in run_json("doctor", exit_code=4)["findings"] if one["name"] == "embeddings"]
    assert found["ok"] is False
    assert "could not be reached" in found["message"]


def test_reembedding_without_a_model_is_refused(home: Path) -> None:
    run("models", "use", "none")
    assert run_json("models", "reembed", exit_code=2)["error"] == "InvalidInput"


def test_a_file_that_is_no_model_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "file").write_bytes(b"anything")
    assert run_json("models", "install", str(tmp_path / "file"), exit_code=2)["error"] == "InvalidInput"
    assert run_json("models", "install", str(tmp_path / "missing"), exit_code=6)["error"] == "NotFound"


def test_a_reranker_is_chosen_tried_out_and_taken_away_again(home: Path, tmp_path: Path) -> None:
    run_json("models", "rerank", "http/m", "--url", "http://localhost:1/v1", "--key-env", "KEY")
    expected = RerankerSpec(kind="http", model="m", url="http://localhost:1/v1", api_key_env="KEY")
    assert load_settings(home).reranker == expected
    run_json("models", "rerank", f"onnx/{tmp_path}")
    assert load_settings(home).reranker == RerankerSpec(kind="onnx", model=str(tmp_path))
    assert run_json("config", "get", "reranker")["value"] == f"onnx {tmp_path}"
    [tried] = [one for one in run_json("doctor", exit_code=4)["findings"] if one["name"] == "reranker"]
    assert tried["ok"] is False
    run_json("models", "rerank", "none")
    assert load_settings(home).reranker is None
    assert CHEAP in (home / "config.toml").read_text()


@pytest.mark.parametrize(
    "arguments", [["unheard-of"], ["http/m"], ["http/m", "--url", "ftp://host"], ["onnx/f", "--url", "http://host"]]
)
def test_a_reranker_that_cannot_be_leaves_the_file_as_it_was(home: Path, arguments) -> None:
    before = (home / "config.toml").read_bytes()
    assert run_json("models", "rerank", *arguments, exit_code=2)["error"] == "InvalidInput"
    assert (home / "config.toml").read_bytes() == before
