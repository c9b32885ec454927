"""A vault that asks for nothing for some minutes, from the command line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import FakeKeyring, run, run_json


def no_session_in(keyring: FakeKeyring) -> bool:
    """Only the commit anchor is there, a number and no secret."""
    return all("/anchor/" in name and number.isdecimal() for (_, name), number in keyring.kept.items())


def test_unlocked_it_asks_for_nothing_until_it_is_locked(
    home: Path, fake_keyring: FakeKeyring, nobody_asks: Callable[[], None]
) -> None:
    assert run_json("unlock", "--for", "2m") == {"unlocked_for_s": 120}
    nobody_asks()
    assert 110 < run_json("status")["session_left_s"] <= 120
    assert "left unlocked for 2 more minutes" in run("status").stdout
    assert run_json("lock") == {"locked": True, "was_unlocked": True}
    assert run_json("status", exit_code=3)["error"] == "KeyslotMissing"
    assert run_json("lock") == {"locked": True, "was_unlocked": False}
    assert no_session_in(fake_keyring)


def test_a_session_does_not_prolong_itself(
    home: Path, fake_keyring: FakeKeyring, nobody_asks: Callable[[], None]
) -> None:
    """The attack: somebody at the keyboard keeps it open for ever, without the passphrase."""
    run_json("unlock", "--for", "2m")
    nobody_asks()
    assert run_json("unlock", "--for", "12h", exit_code=3)["error"] == "KeyslotMissing"
    assert run_json("status", exit_code=3)["error"] == "KeyslotMissing"


@pytest.mark.parametrize("span", ["", "15", "-1m", "1d", "m", "0x1m", "１m"])
def test_a_span_that_is_none_is_refused(home: Path, span: str) -> None:
    assert run("unlock", "--for", span).exit_code == 2


@pytest.mark.parametrize("span", ["0s", "13h", "999999h"])
def test_a_span_out_of_bounds_is_refused(home: Path, fake_keyring: FakeKeyring, span: str) -> None:
    assert run_json("unlock", "--for", span, exit_code=2)["error"] == "InvalidInput"
    assert no_session_in(fake_keyring)


def test_without_a_keyring_it_stays_locked(home: Path) -> None:
    assert run_json("unlock", exit_code=3)["error"] == "KeyringUnavailable"
    assert not (home / "session").exists()


def test_there_is_nothing_to_lock_without_a_vault(empty_home: Path) -> None:
    assert run_json("lock", exit_code=6)["error"] == "NotFound"


@pytest.mark.parametrize(
    ("span", "said"),
    [("90s", "1 minute and 30 seconds"), ("1s", "1 second"), ("2h", "2 hours"), ("61m", "1 hour and 1 minute")],
)
def test_it_is_said_for_how_long_to_the_second(home: Path, fake_keyring: FakeKeyring, span: str, said: str) -> None:
    assert run("unlock", "--for", span).stdout.startswith(f"Unlocked for {said}. ")
