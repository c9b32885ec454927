"""Sealed files: as `open` would behave, and never half of one."""

import io
import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aico.errors import FormatTooNew, InvalidInput, NotFound, StorageError, Tampered
from aico.security.encrypted_file import MODES, EncryptedFile, reseal_file
from aico.security.keys import ValueKey
from aico.security.stream import CHUNK_BYTES
from tests.children import run

TEXT = "Liebes Tagebuch, heute war ich am Leuchtturm. 引っ越しました。\n"


class Holder:
    def __init__(self, key: bytes = bytes(range(32))) -> None:
        self.keys = {1: ValueKey(key)}

    def file_keys(self) -> dict[int, ValueKey]:
        return self.keys


KEYS = Holder()


def written(path, text: str, mode: str = "w") -> None:
    with EncryptedFile(path, mode, KEYS) as file:
        file.write(text)


def text_of(path, **options) -> str:
    with EncryptedFile(path, "r", KEYS, **options) as file:
        return file.read()


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@given(pieces=st.lists(st.text(max_size=40), max_size=8), more=st.text(max_size=40))
def test_text_comes_back_and_appending_adds_to_it(tmp_path, pieces, more):
    path = tmp_path / "diary"
    with EncryptedFile(path, "w", KEYS) as file:
        file.writelines(pieces)
    before = "".join(pieces)
    assert text_of(path) == as_opened(before)
    written(path, more, "a")
    assert text_of(path) == as_opened(before + more)  # an end of line may have been written in two halves


def as_opened(text: str) -> str:
    """A text as `open` reads it: every kind of line break is one."""
    return io.StringIO(text, newline=None).read()


def test_how_far_a_text_was_written_is_told_in_bytes(tmp_path):
    with EncryptedFile(tmp_path / "a", "w", KEYS) as file:
        file.write("Grüße")
        assert file.tell() == len("Grüße".encode())
    with EncryptedFile(tmp_path / "a", "a", KEYS) as file:
        file.write("!")
        assert file.tell() == len("Grüße!".encode())


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_bytes_come_back_from_any_place(tmp_path, size):
    plain = random.Random(size).randbytes(size)
    with EncryptedFile(tmp_path / "a", "wb", KEYS) as file:
        file.write(plain[: size // 2])
        file.write(plain[size // 2 :])
        assert file.tell() == size
    chance = random.Random(1)
    with EncryptedFile(tmp_path / "a", "rb", KEYS) as file:
        for _ in range(40):
            at, amount = chance.randrange(size + 2), chance.randrange(CHUNK_BYTES)
            file.seek(at)
            assert file.read(amount) == plain[at : at + amount]
        file.seek(-size, io.SEEK_END)
        assert file.read() == plain
        assert file.verify_encryption()


def test_lines_are_read_as_open_reads_them(tmp_path):
    written(tmp_path / "a", TEXT * 3 + "last")
    with EncryptedFile(tmp_path / "a", "r", KEYS) as file:
        assert file.readline() == TEXT
        assert list(file) == [TEXT, TEXT, "last"]
        file.seek(0)
        assert file.readlines() == [TEXT] * 3 + ["last"]


def test_nothing_is_seen_before_close_and_an_exception_leaves_the_old_content(tmp_path):
    path = tmp_path / "a"
    written(path, "old")
    for mode in ("w", "a"):
        with pytest.raises(ZeroDivisionError), EncryptedFile(path, mode, KEYS) as file:
            file.write("new " * CHUNK_BYTES)
            assert text_of(path) == "old"
            raise ZeroDivisionError
        assert text_of(path) == "old"
        assert names(tmp_path) == ["a"]


def test_appending_to_a_damaged_file_is_refused_and_keeps_it(tmp_path):
    path = tmp_path / "a"
    written(path, TEXT)
    raw = bytearray(path.read_bytes())
    raw[60] ^= 1
    path.write_bytes(raw)
    with pytest.raises(Tampered):
        EncryptedFile(path, "a", KEYS)
    assert path.read_bytes() == raw
    assert names(tmp_path) == ["a"]


def test_a_changed_or_cut_file_gives_no_byte_that_is_not_its_own(tmp_path):
    path, plain = tmp_path / "a", random.Random(3).randbytes(2 * CHUNK_BYTES + 100)
    with EncryptedFile(path, "wb", KEYS) as file:
        file.write(plain)
    raw, chance = path.read_bytes(), random.Random(5)
    cuts = [raw[: chance.randrange(len(raw))] for _ in range(30)]
    cuts += [raw[: 43 + (CHUNK_BYTES + 16) * number] for number in range(3)]
    flips = [raw[:at] + bytes([raw[at] ^ 8]) + raw[at + 1 :] for at in (chance.randrange(len(raw)) for _ in range(60))]
    for bad in [*cuts, *flips, raw + b"x", b""]:
        path.write_bytes(bad)
        with pytest.raises((Tampered, FormatTooNew)), EncryptedFile(path, "rb", KEYS) as file:
            assert file.read(1) == plain[:1]
            file.seek(0)
            file.read()


def test_it_opens_for_its_purpose_and_keys_alone(tmp_path):
    written(tmp_path / "a", TEXT)
    for keys, purpose in ((KEYS, "another"), (Holder(b"x" * 32), "default")):
        with pytest.raises(Tampered):
            EncryptedFile(tmp_path / "a", "r", keys, purpose)


def test_nothing_readable_lies_on_the_disk(tmp_path):
    written(tmp_path / "a", TEXT * 1000)
    raw = (tmp_path / "a").read_bytes()
    assert b"Leuchtturm" not in raw
    assert os.stat(tmp_path / "a").st_mode & 0o077 == 0


def test_wrong_use_is_invalid_input(tmp_path):
    for mode in ("x", "r+", "", "rw", "br"):
        with pytest.raises(InvalidInput):
            EncryptedFile(tmp_path / "a", mode, KEYS)
    for mode in MODES:
        with pytest.raises(InvalidInput):
            EncryptedFile(tmp_path / "a", mode)
    with pytest.raises(NotFound):
        EncryptedFile(tmp_path / "a", "r", KEYS)
    with pytest.raises(StorageError):
        EncryptedFile(tmp_path / "nowhere" / "a", "w", KEYS)
    with pytest.raises(StorageError):
        EncryptedFile(tmp_path, "r", KEYS)
    written(tmp_path / "a", TEXT)
    with EncryptedFile(tmp_path / "a", "r", KEYS) as file, pytest.raises(io.UnsupportedOperation):
        file.write("x")
    assert names(tmp_path) == ["a"]


def test_closing_twice_is_fine_and_no_key_shows(tmp_path):
    file = EncryptedFile(tmp_path / "a", "w", KEYS)
    file.write("x")
    assert "00010203" not in repr(vars(file))
    file.close()
    file.close()
    assert file.closed
    assert file.get_encryption_info()["size_bytes"] > 0


def write_without_room(path: str) -> str:
    import resource

    written(path, "old")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    try:
        with EncryptedFile(path, "w", KEYS) as file:
            file.write("new" * 200_000)
        return "there was room"
    except StorageError as error:
        return f"{type(error).__name__}, then {text_of(path)}"


def test_without_room_the_old_content_stays(tmp_path):
    done = run(write_without_room, str(tmp_path / "a"))
    assert (done.error, done.value) == (None, "DiskFull, then old")
    assert names(tmp_path) == ["a"]


def fork_while_a_file_is_open(path: str, end: str) -> None:
    file = EncryptedFile(path, "w", KEYS)
    for piece in ("before the fork, ", "x" * 200_000):
        child = os.fork()
        if child == 0:
            try:
                file.write("of the child")
                if end == "close":
                    file.close()
                elif end == "error":
                    file.__exit__(ValueError, ValueError(), None)
                else:
                    file.flush()
            except StorageError:
                pass
            finally:
                del file
                os._exit(0)
        os.waitpid(child, 0)
        file.write(piece)
    file.close()
    assert text_of(path) == "before the fork, " + "x" * 200_000


@pytest.mark.parametrize("end", ["close", "error", "flush"])
def test_a_forked_child_neither_ends_nor_writes_its_parents_file(tmp_path, end):
    done = run(fork_while_a_file_is_open, str(tmp_path / "diary"), end)
    assert done.error is None, done
    assert names(tmp_path) == ["diary"]


def test_adding_to_a_file_that_is_not_there_begins_one(tmp_path):
    written(tmp_path / "diary", TEXT, "a")
    assert text_of(tmp_path / "diary") == TEXT


def test_a_file_under_the_newest_key_is_left_as_it_is_by_a_rotation(tmp_path):
    written(tmp_path / "diary", TEXT)
    before = (tmp_path / "diary").read_bytes()
    assert reseal_file(tmp_path / "diary", KEYS.keys, purposes=["default"])
    assert (tmp_path / "diary").read_bytes() == before
    assert reseal_file(tmp_path / "diary", {**KEYS.keys, 2: ValueKey(bytes(32))}, purposes=["another", "default"])
    assert (tmp_path / "diary").read_bytes() != before
    assert not reseal_file(tmp_path / "diary", {3: ValueKey(bytes(32))}, purposes=["default"])


def test_a_folder_in_the_place_of_the_file_keeps_it_from_being_replaced(tmp_path):
    file = EncryptedFile(tmp_path / "diary", "w", KEYS)
    file.write(TEXT)
    (tmp_path / "diary").mkdir()
    with pytest.raises(StorageError, match="as it was"):
        file.close()
    assert [path.name for path in tmp_path.iterdir()] == ["diary"]


def write_beyond(path: str, size: int, most_bytes: int) -> list[str]:
    """For a child that may write files of so many bytes."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))
    try:
        with EncryptedFile(path, "wb", KEYS) as file:
            file.write(os.urandom(size))
    except StorageError as exc:
        return [type(exc).__name__, *sorted(found.name for found in Path(path).parent.iterdir())]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return ["written"]


@pytest.mark.parametrize(("size", "most"), [(10 * CHUNK_BYTES, CHUNK_BYTES + 1000), (1000, 200)])
def test_a_disk_that_fills_up_in_the_middle_leaves_the_old_content_and_nothing_else(tmp_path, size, most):
    written(tmp_path / "diary", TEXT)
    found = run(write_beyond, str(tmp_path / "diary"), size, most).value
    assert found[1:] == ["diary"]
    assert found[0] in ("StorageError", "DiskFull")
    assert text_of(tmp_path / "diary") == TEXT


def test_a_file_that_somebody_writes_while_it_is_sealed_anew_is_left_to_them(tmp_path, monkeypatch):
    path = tmp_path / "diary"
    written(path, TEXT)
    real = os.fsync

    def meanwhile(descriptor):
        monkeypatch.setattr(os, "fsync", real)
        written(path, "written meanwhile")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", meanwhile)
    assert not reseal_file(path, {**KEYS.keys, 2: ValueKey(bytes(32))}, purposes=["default"])
    assert text_of(path) == "written meanwhile"
    assert os.listdir(tmp_path) == ["diary"]
