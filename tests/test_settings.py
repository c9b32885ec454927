"""`config.toml`: what it may say about the embedding model, and how one line of it is changed."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aico.config_file import write_setting
from aico.errors import InvalidInput, StorageError
from aico.settings import EmbedderSpec, RerankerSpec, Settings, load_settings

WRITTEN = """# mine
users_in_memory = 4  # a small machine

[kdf]
memory_kib = 64  # only a test
"""


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.delenv("AICO_EMBEDDER", raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "config.toml"
    made.write_text(WRITTEN)
    return made


def test_the_default_model_is_used_where_it_is_installed_unless_something_else_is_said(tmp_path, monkeypatch):
    assert load_settings(tmp_path).embedder == "auto"
    (tmp_path / "config.toml").write_text('embedder = "none"')
    assert load_settings(tmp_path).embedder == "none"
    monkeypatch.setenv("AICO_EMBEDDER", "multilingual-e5-small")
    assert load_settings(tmp_path).embedder == "multilingual-e5-small"


def test_a_table_describes_another_model(tmp_path):
    (tmp_path / "config.toml").write_text('[embedder]\nkind = "ollama"\nmodel = "m"\napi_key_env = "KEY"\n')
    assert load_settings(tmp_path).embedder == EmbedderSpec(kind="ollama", model="m", api_key_env="KEY")


def test_no_reranker_is_used_unless_a_table_or_a_caller_describes_one(tmp_path):
    assert load_settings(tmp_path).reranker is None
    (tmp_path / "config.toml").write_text('reranker_depth = 20\n[reranker]\nkind = "onnx"\nmodel = "/models/m"\n')
    assert load_settings(tmp_path).reranker == RerankerSpec(kind="onnx", model="/models/m")
    assert load_settings(tmp_path).reranker_depth == 20
    (tmp_path / "config.toml").write_text('reranker = "none"')
    assert load_settings(tmp_path).reranker is None
    with pytest.raises(InvalidInput):
        Settings(reranker="onnx/m")


@pytest.mark.parametrize(
    "text",
    [
        'embedder = "unheard of"',
        'reranker = "unheard of"',
        '[reranker]\nkind = "telepathy"\nmodel = "m"',
        '[reranker]\nkind = "http"\nmodel = "m"',
        '[reranker]\nkind = "http"\nmodel = "m"\nurl = "http://me:secret@host"',
        '[reranker]\nkind = "http"\nmodel = "m"\nurl = "http://host"\napi_key = "secret"',
        '[reranker]\nkind = "onnx"\nmodel = " "',
        '[reranker]\nkind = "onnx"\nmodel = "m"\nwindow = 3',
        '[reranker]\nkind = "onnx"\nmodel = "m"\nurl = "http://host"',
        "reranker_depth = 0",
        "embedder = 3",
        '[embedder]\nkind = "telepathy"\nmodel = "m"',
        '[embedder]\nkind = "ollama"',
        '[embedder]\nkind = "ollama"\nmodel = "m"\napi_key = "secret"',
        '[embedder]\nkind = "openai"\nmodel = "m"',
        "deep = " + "[" * 5000,
        "deep = " + "{a = " * 5000,
    ],
)
def test_an_entry_that_cannot_be_is_refused_and_names_the_file(tmp_path, text):
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(InvalidInput, match=r"config\.toml"):
        load_settings(tmp_path)


def test_one_setting_changes_and_every_other_line_stays(file):
    write_setting(file.parent, "users_in_memory", 8)
    write_setting(file.parent, "kdf.passes", 2)
    assert file.read_text() == WRITTEN.replace("= 4", "= 8") + "passes = 2\n"
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_table_takes_the_place_of_a_value_and_a_value_that_of_a_table(file):
    write_setting(file.parent, "embedder", {"kind": "ollama", "model": "m"})
    assert load_settings(file.parent).embedder == EmbedderSpec(kind="ollama", model="m")
    write_setting(file.parent, "embedder", "none")
    assert load_settings(file.parent).embedder == "none"
    write_setting(file.parent, "embedder", {"kind": "ollama", "model": "m"})
    write_setting(file.parent, "embedder", None)
    assert load_settings(file.parent).embedder == "auto"
    assert load_settings(file.parent).users_in_memory == 4


def test_taking_away_what_is_not_there_changes_nothing(file):
    for name in ("busy_wait_s", "kdf.lanes", "embedder.model", "users_in_memory.deeper"):
        write_setting(file.parent, name, None)
    assert file.read_text() == WRITTEN


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("no_such_setting", 1),
        ("users_in_memory", 0),
        ("users_in_memory", "many"),
        ("users_in_memory.deeper", 1),
        ("kdf.no_such", 1),
        ("kdf", 3),
        ("embedder", "unheard of"),
        ("", 1),
    ],
)
def test_what_cannot_be_is_refused_and_the_file_is_as_it_was(file, name, value):
    with pytest.raises(InvalidInput):
        write_setting(file.parent, name, value)
    assert file.read_text() == WRITTEN
    assert [path.name for path in file.parent.iterdir()] == ["config.toml"]


def test_a_file_that_cannot_be_used_is_not_touched(file):
    for content in (b"= 3", b"\xff"):
        file.write_bytes(content)
        with pytest.raises(InvalidInput):
            write_setting(file.parent, "users_in_memory", 3)
        assert file.read_bytes() == content


def test_a_folder_that_is_not_there_is_a_typed_error(tmp_path):
    with pytest.raises(StorageError, match="as it was"):
        write_setting(tmp_path / "missing", "users_in_memory", 3)


@given(
    st.lists(
        st.tuples(st.sampled_from(["users_in_memory", "episode_gap_s", "kdf.passes"]), st.none() | st.integers(1, 99)),
        max_size=8,
    )
)
def test_after_any_changes_the_file_says_what_was_last_set(tmp_path_factory, changes):
    folder, expected = tmp_path_factory.mktemp("config"), {}
    (folder / "config.toml").write_text("# a comment of mine\n")
    for name, value in changes:
        write_setting(folder, name, value)
        expected[name] = value
    found = load_settings(folder)
    for name, value in expected.items():
        if value is not None:
            assert (found.kdf.passes if name == "kdf.passes" else getattr(found, name)) == value
    assert "# a comment of mine" in (folder / "config.toml").read_text()
