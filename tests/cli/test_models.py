"""`aico models`: the choice is written down where the vault reads it, and nothing is loaded for it."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from aico.settings import EmbedderSpec, load_settings
from tests.cli.conftest import CHEAP, run, run_json


@dataclass
class Held:
    model: str
    vectors: int
    pending: int
    chosen: bool
    problem: str | None = None


class Embeddings:
    """What a vault holds of two models."""

    def __init__(self, *, chosen: bool = True) -> None:
        self.held = [Held("multilingual-e5-small/q4", 3, 2, chosen), Held("ollama/old", 5, 0, False)]

    def status(self) -> list[Held]:
        return self.held

    def catch_up(self, on_progress: object) -> None:
        self.held[0] = Held("multilingual-e5-small/q4", 5, 0, True)


@pytest.fixture(autouse=True)
def _as_a_person_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AICO_EMBEDDER")


@pytest.fixture
def embeddings(monkeypatch: pytest.MonkeyPatch) -> Embeddings:
    made = Embeddings()
    monkeypatch.setattr("aico.cli.models._embeddings", lambda vault: made)
    return made


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


def test_the_list_shows_the_choice_and_what_the_vault_holds(home: Path, embeddings: Embeddings) -> None:
    run("models", "use", "multilingual-e5-small")
    found = run_json("models", "ls")
    assert [(one["model"], one["chosen"], one["vectors"], one["pending"]) for one in found["models"]] == [
        ("multilingual-e5-small/q4", True, 3, 2),
        ("ollama/old", False, 5, 0),
    ]
    shown = run("models", "ls").stdout
    assert "✓ multilingual-e5-small/q4" in shown
    assert "2 to be made" in shown


def test_the_list_works_before_there_is_a_vault(empty_home: Path) -> None:
    found = run_json("models", "ls")
    assert found["models"][0]["model"] == "multilingual-e5-small/q4"


def test_reembedding_makes_what_is_missing(home: Path, embeddings: Embeddings) -> None:
    found = run_json("models", "reembed")
    assert found == {"model": "multilingual-e5-small/q4", "vectors": 5, "pending": 0}


def test_reembedding_without_a_model_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aico.cli.models._embeddings", lambda vault: Embeddings(chosen=False))
    assert run_json("models", "reembed", exit_code=2)["error"] == "InvalidInput"


def test_a_file_that_is_no_model_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "file").write_bytes(b"anything")
    assert run_json("models", "install", str(tmp_path / "file"), exit_code=2)["error"] == "InvalidInput"
    assert run_json("models", "install", str(tmp_path / "missing"), exit_code=6)["error"] == "NotFound"
