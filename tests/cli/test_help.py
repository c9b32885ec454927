"""What the program says about itself, and what it loads for that."""

import subprocess
import sys

import click
import pytest

from aico import __version__
from aico.cli import COMMANDS, main
from tests.cli.conftest import run

HEAVY = (
    "numpy",
    "apsw",
    "rich",
    "cryptography",
    "keyring",
    "msgspec",
    "Stemmer",
    "pycld2",
    "mnemonic",
    "aico.vault",
    "aico.settings",
)
LIST_MODULES = (
    "import sys, atexit; atexit.register(lambda: print('\\n'.join(sys.modules))); from aico.cli import main; main()"
)


def loaded_by(*args: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", LIST_MODULES, *args], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines())


def test_help_loads_no_command_and_nothing_heavy() -> None:
    loaded = loaded_by("--help")
    assert "aico.cli" in loaded
    assert not loaded & set(HEAVY)
    assert [name for name in loaded if name.startswith("aico.cli.")] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_loads_no_engine(command: str) -> None:
    loaded = loaded_by(command, "--help")
    assert not loaded & {"numpy", "apsw", "rich", "cryptography", "keyring"}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_of_commands_says_what_each_commands_help_says(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
    assert (command.help or "").partition("\n")[0] == COMMANDS[name][1]


def commands_of(name: str) -> list[click.Command]:
    """The command, or all commands of the group."""
    command = main.get_command(click.Context(main), name)
    assert command is not None
    return list(command.commands.values()) if isinstance(command, click.Group) else [command]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_and_command_has_a_help(name: str) -> None:
    for command in commands_of(name):
        assert command.help
        options = [param for param in command.params if isinstance(param, click.Option) and not param.hidden]
        assert {"--json"} <= {option.opts[0] for option in options}
        assert [option.name for option in options if not option.help] == []


def test_no_option_of_any_command_takes_a_passphrase() -> None:
    for name in COMMANDS:
        for command in commands_of(name):
            assert not any(
                "pass" in option or "phrase" in option
                for param in command.params
                for option in param.opts
                if option.startswith("-")
            )


def test_the_version_is_the_packages() -> None:
    assert run("--version").stdout.strip() == f"aico, version {__version__}"


def test_help_stands_on_standard_output() -> None:
    shown = run("--help")
    assert (shown.exit_code, run().stdout) == (0, shown.stdout)
    assert all(name in shown.stdout for name in COMMANDS)
