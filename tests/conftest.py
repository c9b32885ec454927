"""What all tests share: Hypothesis without a stopwatch, because a busy machine is not a bug; and no skips where all is there."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "aico",
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("aico")


@pytest.fixture(autouse=True, scope="session")
def _temporary_folder_of_its_own() -> Iterator[None]:
    """A leak audit looks into the temporary folder too: what other runs left or are writing there is none of this one's."""
    with tempfile.TemporaryDirectory(prefix="tests-of-aico-") as folder, pytest.MonkeyPatch.context() as patch:
        Path(folder).chmod(0o755)  # tests that give up root's rights still reach what is theirs in it
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture(autouse=True, scope="session")
def _nobodys_keyring() -> Iterator[None]:
    """No test, and no process it starts, reaches the keyring of the person who runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
        patch.delenv("AICO_ANCHOR_FILE", raising=False)
        yield


@pytest.fixture(autouse=True)
def _by_words_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test loads the embedding model, here or in a process it starts, unless it asks for it."""
    monkeypatch.setenv("AICO_EMBEDDER", "none")


@pytest.fixture
def cron() -> None:
    """What reads cron expressions is an extra: a test that needs it asks for this."""
    pytest.importorskip("cronsim", reason="cron schedules need the extra aico[tasks]")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """`.ci/run` installs every extra and engine, and sets AICO_NO_SKIPS: a skip there is a failure."""
    report = yield
    if report.skipped and os.environ.get("AICO_NO_SKIPS"):
        report.outcome = "failed"
    return report
