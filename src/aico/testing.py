"""For tests of what is built on AICO: a vault that opens in a millisecond, a clock that stands still."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from aico.clock import Clock, to_us
from aico.settings import KdfCost, Settings
from aico.vault import Vault, open_vault

PASSPHRASE = "only for tests"  # noqa: S105


class FixedClock:
    """A clock that stands at `at` until it is moved, and draws the same ids for the same seed."""

    def __init__(self, at: datetime = datetime(2026, 5, 8, 12, 0, tzinfo=UTC), *, seed: int = 0) -> None:
        self._now_us, self._random = to_us(at), Random(seed)  # noqa: S311  # ids in tests, not keys

    def now_us(self) -> int:
        """Where the clock stands, in microseconds since 1970 UTC."""
        return self._now_us

    def random_bytes(self, count: int) -> bytes:
        """The next bytes of the seed's sequence."""
        return self._random.randbytes(count)

    def move(self, by: timedelta) -> None:
        """Set the clock forward, or back with a negative span."""
        self._now_us += by // timedelta(microseconds=1)


def cheap_settings(*, clock: Clock | None = None) -> Settings:
    """Settings whose key derivation costs a millisecond. Never keep anything real in such a vault."""
    settings = Settings(kdf=KdfCost(memory_kib=64, passes=1, lanes=1))
    return settings if clock is None else replace(settings, clock=clock)


@contextmanager
def temporary_vault(*, clock: Clock | None = None) -> Iterator[Vault]:
    """An open vault in a temporary folder, gone when the block ends. Its passphrase is `PASSPHRASE`."""
    with TemporaryDirectory(prefix="aico-test-") as folder:
        settings = cheap_settings(clock=clock)
        with open_vault(Path(folder) / "vault", passphrase=PASSPHRASE, settings=settings) as vault:
            yield vault
