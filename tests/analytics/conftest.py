"""A vault whose columns are looked at."""

from datetime import UTC, datetime, timedelta

import pytest

from aico.testing import FixedClock, HashEmbedder, temporary_vault

NOON = datetime(2026, 5, 8, 12, 0, tzinfo=UTC)  # a Friday
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def clock():
    return FixedClock(NOON)


@pytest.fixture
def vault(clock):
    with temporary_vault(clock=clock, embedder=HashEmbedder()) as made:
        yield made
