"""A home with a cheap vault, the program in this process and in processes of its own, and a terminal for it."""

import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keyring
import pytest
from click.testing import CliRunner, Result
from keyring.backend import KeyringBackend
from keyring.backends import fail
from keyring.errors import PasswordDeleteError

from aico.cli import main

PASSPHRASE = "correct horse battery staple"
CHEAP = "[kdf]\nmemory_kib = 64\npasses = 1\nlanes = 1\n"
PROGRAM = [sys.executable, "-c", "from aico.cli import main; main()"]
# Standard input becomes the controlling terminal, so that /dev/tty is there and Ctrl-C reaches the program.
TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)


class FakeKeyring(KeyringBackend):
    """An operating system's keyring, in memory."""

    priority = 5  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.kept.pop((service, username), None) is None:
            raise PasswordDeleteError("not there")


class Terminal:
    """A program at a terminal: what it shows there, and what a person types."""

    def __init__(self, *args: str, program: Sequence[str] = PROGRAM, **streams: Any) -> None:
        self._master, slave = pty.openpty()
        streams = {"stdin": slave, "stdout": slave, "stderr": slave, **streams}
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL, *program, *args], start_new_session=True, **streams
        )
        os.close(slave)
        self.shown = ""

    def wait_for(self, text: str) -> None:
        """Read on until `text` was shown after everything waited for before."""
        seen = self.shown.count(text)
        while self.shown.count(text) == seen:
            assert self._read(), f"the program ended before it showed {text!r}: {self.shown}"

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C, and again as a person would where it fell between two steps of the program and went by."""
        for _ in range(20):
            self.type("\x03")
            try:
                self.process.wait(1)
                return
            except subprocess.TimeoutExpired:
                continue

    def finish(self) -> int:
        """The exit code, once all was read."""
        while self._read():
            pass
        os.close(self._master)
        return self.process.wait()

    def _read(self) -> bool:
        ready, _, _ = select.select([self._master], [], [], 60)
        assert ready, f"the program says nothing for a minute after: {self.shown}"
        try:
            part = os.read(self._master, 4096)
        except OSError:  # how Linux says that the other side is closed
            return False
        self.shown += part.decode(errors="replace")
        return bool(part)


@pytest.fixture(autouse=True)
def _no_keyring(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test reaches the keyring of the person who runs it."""
    before = keyring.get_keyring()
    keyring.set_keyring(fail.Keyring())
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    yield
    keyring.set_keyring(before)


@pytest.fixture
def fake_keyring(_no_keyring: None) -> FakeKeyring:
    made = FakeKeyring()
    keyring.set_keyring(made)
    return made


@pytest.fixture
def passphrase_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "passphrase"
    file.write_text(f"{PASSPHRASE}\n")
    monkeypatch.setenv("AICO_PASSPHRASE_FILE", str(file))
    return file


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where a vault will be made whose key derivation costs a millisecond."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "config.toml").write_text(CHEAP)
    (folder / "config.toml").chmod(0o600)
    monkeypatch.setenv("AICO_HOME", str(folder))
    return folder


@pytest.fixture
def home(empty_home: Path, passphrase_file: Path) -> Path:
    """A folder with an empty vault, unlocked by a passphrase file."""
    assert run("init").exit_code == 0
    return empty_home


@pytest.fixture
def nobody_asks(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Take the passphrase file away: from then on only a keyring or a person unlocks."""
    return lambda: monkeypatch.delenv("AICO_PASSPHRASE_FILE")


def run(*args: str, input: str | bytes | None = None) -> Result:
    """The program in this process, without a terminal."""
    result = CliRunner().invoke(main, list(args), input=input)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def run_json(*args: str, input: str | bytes | None = None, exit_code: int = 0) -> dict[str, Any]:
    """The one object that the program prints with --json."""
    result = run(*args, "--json", input=input)
    assert result.exit_code == exit_code, result.output
    return only_object(result.stdout)


def only_object(output: str) -> dict[str, Any]:
    """The object that stands alone in the output."""
    assert output.endswith("}\n"), output
    assert output.count("\n") == 1
    found = json.loads(output)
    assert isinstance(found, dict)
    return found
