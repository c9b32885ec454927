"""No room, no permission, no right: a typed error, and a vault that is whole and works again afterwards."""

import io
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import aico
from aico.errors import AicoError, DiskFull
from aico.testing import PASSPHRASE, cheap_settings, temporary_vault
from tests.children import run
from tests.data.libsql.cases import add_rows, count_if_right, files_of, make, sealed

NOBODY = 65534


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[bool]:
    """Whether `folder` is a small disk of its own now; that takes a machine that lets us mount one."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def fill_up(path: str, limit_bytes: int) -> dict:
    """For a child: write until it fails, in every way there is; then whether the connection still works once there is room."""
    import resource

    if limit_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, resource.RLIM_INFINITY))
    connection, errors = sealed(path, page_cache_kib=40), {}
    count = count_if_right(connection)

    def one_by_one() -> None:
        nonlocal count
        while True:
            add_rows(connection, range(count, count + 1))
            count += 1

    def at_once() -> None:
        with connection.transaction():
            add_rows(connection, range(count, count + 5000))

    def shared() -> None:
        connection.write(lambda: add_rows(connection, range(count, count + 5000)))

    def swallowed() -> None:
        with connection.transaction():
            try:
                add_rows(connection, range(count, count + 5000))
            except AicoError:
                pass
            connection.execute("INSERT INTO rows VALUES (-5, 'must not stay')")

    for name, work in {
        "one by one": one_by_one,
        "at once": at_once,
        "shared": shared,
        "swallowed": swallowed,
        "vacuum": lambda: [connection.execute("VACUUM") for _ in range(1)],
        "backup": lambda: connection.backup_to(f"{path}.copy"),
        "script": lambda: connection.execute_script(
            f"INSERT INTO rows SELECT number + {count * 10}, text FROM rows, (SELECT 1 UNION SELECT 2)"
        ),
    }.items():
        try:
            work()
            errors[name] = None
        except AicoError as exc:
            errors[name] = type(exc).__name__
        assert count_if_right(connection) == count, name
    if limit_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    else:
        Path(path).with_name("ballast").unlink()
    assert count_if_right(connection) == count
    add_rows(connection, range(count, count + 20))
    connection.clear_log()
    connection.verify()
    connection.close()
    return {"errors": errors, "rows": count + 20}


def whole_afterwards(path: Path, done) -> None:
    assert done.error is None, done
    print(f"\n{done.value}")
    errors = done.value["errors"]
    for name in ("one by one", "at once", "shared", "swallowed"):
        assert errors[name] in ("DiskFull", "StorageError"), errors
    assert set(errors.values()) <= {None, "DiskFull", "StorageError"}, errors
    with sealed(path) as connection:
        assert count_if_right(connection) == done.value["rows"]
        connection.verify()
    assert [
        entry.name for entry in path.parent.iterdir() if ".new-" in entry.name or entry.name.endswith(".copy-wal")
    ] == []


def test_a_full_disk_loses_nothing_and_writing_goes_on_when_there_is_room(tmp_path):
    with small_disk(tmp_path, "3m") as mounted:
        make(tmp_path / "aico.db", 100)
        (tmp_path / "ballast").write_bytes(bytes(1024 * 1024))
        whole_afterwards(tmp_path / "aico.db", run(fill_up, str(tmp_path / "aico.db"), 0 if mounted else 800_000))


def fill_a_vault(folder: str) -> None:
    """For a child: record until there is no room."""
    with aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings()) as vault:
        vault.memory.record("mia", "I moved to Lisbon.", conversation="c")
        number = 0
        with pytest.raises(DiskFull):
            while number := number + 1:
                vault.memory.record_many(
                    "mia",
                    [aico.Message(f"turn {number} {n} {'x' * 200}", conversation=f"d{number}") for n in range(50)],
                )


def test_on_a_full_disk_a_vault_opens_answers_and_closes_and_what_it_says_was_done_is(tmp_path):
    """Moving the log into the database needs room that is not there; the log keeps everything."""
    with small_disk(tmp_path, "4m") as mounted:
        if not mounted:
            pytest.skip("this machine lets nobody mount a small disk")
        folder, ballast, more = tmp_path / "vault", tmp_path / "ballast", tmp_path / "more"
        ballast.write_bytes(bytes(2 << 20))
        assert run(fill_a_vault, str(folder)).error is None
        more.write_bytes(bytes(shutil.disk_usage(tmp_path).free // 4096 * 4096))
        with aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings()) as vault:
            assert vault.memory.recall("mia", "Lisbon")
            vault.connection.clear_log()
            vault.export(io.BytesIO(), "mia")
        recorded = False
        with aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings()) as vault, suppress(DiskFull):
            vault.memory.record("mia", "My address is Weidenweg 7.", conversation="c")
            recorded = True
        ballast.unlink()
        with aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings()) as vault:
            assert bool(vault.memory.recall("mia", "Weidenweg")) is recorded
            vault.connection.verify()
            assert vault.memory.forget("mia", conversation="d1").log_cleared


def test_files_that_may_not_grow_lose_nothing(tmp_path):
    make(tmp_path / "aico.db", 100)
    whole_afterwards(tmp_path / "aico.db", run(fill_up, str(tmp_path / "aico.db"), 600_000))


def made_without_room(folder: str) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    open_cheaply(folder)


def test_a_vault_that_finds_no_room_is_not_half_made(tmp_path):
    done = run(made_without_room, str(tmp_path / "vault"))
    assert done.error in ("DiskFull", "StorageError", "MigrationFailed"), done
    assert list(tmp_path.iterdir()) == []
    open_cheaply(tmp_path / "vault").close()


# Permissions


def open_cheaply(folder: Path | str) -> aico.Vault:
    return aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings())


@pytest.fixture
def public_folder():
    """A temporary folder that every user of the machine may enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    subprocess.run(["chmod", "-R", "u+rwX", str(folder)], check=False)
    shutil.rmtree(folder)


def become_nobody(folder: str) -> None:
    """An ordinary user from here on, to whom the folder belongs."""
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def as_nobody(folder: str, change: str) -> list[str]:
    """For a child: make a vault as an ordinary user, change its permissions, try to open, record and read."""
    with temporary_vault() as warm:  # everything is loaded while we still may
        warm.memory.record("mia", "a first message", conversation="c1")
        warm.memory.recall("mia", "message")
    become_nobody(folder)
    vault_folder = Path(folder, "vault")
    with open_cheaply(vault_folder) as vault:
        vault.memory.record("mia", "a message to keep", conversation="c1")
    before = files_of(vault_folder)
    changes = {
        "read-only data": lambda: (vault_folder / "data").chmod(0o500),
        "read-only vault": lambda: [
            path.chmod(0o500 if path.is_dir() else 0o400) for path in (vault_folder, *vault_folder.rglob("*"))
        ],
        "read-only files": lambda: [path.chmod(0o400) for path in vault_folder.rglob("*") if path.is_file()],
        "unreadable vault.json": lambda: (vault_folder / "vault.json").chmod(0),
        "unreadable database": lambda: (vault_folder / "data" / "aico.db").chmod(0),
        "unreadable folder": lambda: vault_folder.chmod(0),
        "unreadable parent": lambda: Path(folder).chmod(0),
    }
    changes[change]()
    outcomes = []
    try:
        with open_cheaply(vault_folder) as vault:
            outcomes.append(vault.memory.recent("mia", "c1")[0].text)
            try:
                vault.memory.record("mia", "another", conversation="c1")
                outcomes.append("recorded")
            except AicoError as exc:
                outcomes.append(type(exc).__name__)
    except AicoError as exc:
        outcomes.append(type(exc).__name__)
    Path(folder).chmod(0o755)
    for path in (vault_folder, vault_folder / "data"):
        path.chmod(0o700)
    for path in vault_folder.rglob("*"):
        if path.is_file():
            path.chmod(0o600)
    if "recorded" not in outcomes:
        assert {name: content for name, content in files_of(vault_folder).items() if name in before} == before
    with open_cheaply(vault_folder) as vault:
        assert vault.memory.recent("mia", "c1")[0].text == "a message to keep"
    return outcomes


@pytest.mark.parametrize(
    "change",
    [
        "read-only data",
        "read-only vault",
        "read-only files",
        "unreadable vault.json",
        "unreadable database",
        "unreadable folder",
        "unreadable parent",
    ],
)
def test_without_the_permission_there_is_a_typed_error_and_nothing_changes(public_folder, change):
    done = run(as_nobody, str(public_folder), change)
    assert done.error is None, done
    assert done.value[-1] in ("StorageError", "UnlockError", "KeyslotMissing"), done.value
    assert "recorded" not in done.value


@pytest.mark.parametrize("part", [".", "vault.json", "data", "data/aico.db"])
def test_a_vault_of_another_user_is_refused(tmp_path, part):
    with open_cheaply(tmp_path / "vault") as vault:
        vault.memory.record("mia", "a message to keep", conversation="c1")
    before = files_of(tmp_path / "vault")
    if os.geteuid() == 0:
        os.chown(tmp_path / "vault" / part, 12345, 12345)
    done = run(opened_by_a_stranger, str(tmp_path / "vault"))
    assert done.error == "UnlockError", done
    assert files_of(tmp_path / "vault") == before


def opened_by_a_stranger(folder: str) -> None:
    if os.geteuid():  # we may not give files away, so we become somebody else
        ourselves = os.geteuid()
        os.geteuid = lambda: ourselves + 1
    open_cheaply(folder).close()
