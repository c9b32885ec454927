"""The repositories' contract holds on both engines: each test of this folder that makes a database runs on either."""

import pytest

from tests.engines import ENGINES, made_on


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Not those of the folders below, which choose their engine themselves."""
    if metafunc.module.__name__.rpartition(".")[0] == __package__:
        metafunc.fixturenames.append("engine")
        metafunc.parametrize("engine", ENGINES, indirect=True)


@pytest.fixture
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The engine that whatever a test makes is made on."""
    return made_on(request.param, monkeypatch)
